// SPDX-License-Identifier: BSD-2-Clause
/* Timers of conditions on what is in flight: set for the oldest, set again for the next oldest,
 * not set where nothing is watched. The code is the kernel's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bpf/deadline.bpf.c"

#define MS	  1000000ULL
#define THRESHOLD (1000 * MS)
#define SLACK	  (50 * MS) /* that the test itself may take */

static struct sb_cpu model_cpus[1];
static struct sb_inflight_table model_inflight[2];
static struct sb_deadline model_deadlines[SB_KTRIGGERS];
static unsigned int hits_seen, set_seen;
static uint64_t set_ns;

void *model_lookup(const void *map, uint32_t key)
{
	if (map == &cpus)
		return &model_cpus[0];
	if (map == &inflight)
		return &model_inflight[key];
	return map == &deadlines ? &model_deadlines[key] : NULL;
}

void model_hit(const void *hit)
{
	(void)hit;
	hits_seen++;
}

void model_timer(const void *timer, uint64_t ns)
{
	assert_ptr_equal(timer, &model_deadlines[1].timer);
	set_seen++;
	set_ns = ns;
}

/* Trigger 1 watches reclaim. */
static int arm(void **state)
{
	(void)state;
	memset(model_inflight, 0, sizeof(model_inflight));
	memset(model_deadlines, 0, sizeof(model_deadlines));
	control.trigger[1] = (struct sb_ktrigger){ .type = SB_KTRIG_RECLAIM, .count = 1, .threshold_ns = THRESHOLD };
	control.watch = 1u << SB_KTRIG_RECLAIM;
	control.armed = 1;
	control.armed_generation = control.generation = 0;
	hits_seen = set_seen = 0;
	set_ns = 0;
	return 0;
}

/* Trigger 1 watches threads in D state, `count` of them. */
static void watch_blocked(uint32_t count)
{
	control.trigger[1].type = SB_KTRIG_BLOCKED;
	control.trigger[1].count = count;
	control.watch = 1u << SB_KTRIG_BLOCKED;
}

static void in_flight(uint32_t tid, uint64_t age_ns, uint32_t match)
{
	assert_int_equal(sb_inflight_add(tid, control.trigger[1].type, match), 1);
	for (uint32_t i = 0; i < SB_INFLIGHT; i++) {
		if (model_inflight[0].slot[i].key >> 8 == tid)
			model_inflight[0].slot[i].since_ns = model_now() - age_ns;
	}
}

static void passes(void)
{
	uint32_t key = 1;

	deadline_passed(NULL, &key, &model_deadlines[1]);
}

static void assert_set(uint64_t ns)
{
	assert_int_equal(set_seen, 1);
	assert_true(set_ns <= ns + 1000);
	assert_true(set_ns + SLACK >= ns);
	assert_true(model_deadlines[1].due_ns > model_now());
	set_seen = 0;
}

static void test_first_sets(void **state)
{
	(void)state;
	direct_deadline(NULL);
	assert_set(THRESHOLD);
	memcg_deadline(NULL);
	node_deadline(NULL);
	assert_int_equal(set_seen, 0); /* the first one sees to them */
}

static void test_not_watched(void **state)
{
	(void)state;
	control.watch = 1u << SB_KTRIG_BLOCKED;
	direct_deadline(NULL);
	assert_int_equal(set_seen, 0);
}

static void test_next_oldest(void **state)
{
	(void)state;
	in_flight(10, 200 * MS, 2);
	in_flight(11, 700 * MS, 2);
	in_flight(12, 900 * MS, 1); /* another trigger's */
	passes();
	assert_int_equal(hits_seen, 0);
	assert_set(300 * MS);
}

static void test_fires(void **state)
{
	(void)state;
	in_flight(10, 1001 * MS, 2);
	in_flight(11, 400 * MS, 2);
	passes();
	assert_int_equal(hits_seen, 1);
	assert_int_equal(control.fired_trigger, 1);
	assert_int_equal(control.fired_tid, 10);
	assert_set(600 * MS);
}

static void test_nothing_left(void **state)
{
	(void)state;
	model_deadlines[1].due_ns = 1;
	passes();
	assert_int_equal(hits_seen + set_seen, 0);
	assert_int_equal(model_deadlines[1].due_ns, 0);
	direct_deadline(NULL);
	assert_set(THRESHOLD);
}

/* Begun on another CPU since the look took the time: no age is below 0. */
static void test_begins_meanwhile(void **state)
{
	(void)state;
	in_flight(10, 300 * MS, 2);
	in_flight(11, -(500 * MS), 2);
	passes();
	assert_int_equal(hits_seen, 0);
	assert_set(700 * MS);
}

static void test_long_threshold(void **state)
{
	(void)state;
	control.trigger[1].threshold_ns = 600 * THRESHOLD;
	direct_deadline(NULL);
	assert_set(600 * THRESHOLD);
	in_flight(10, 500 * THRESHOLD, 2);
	passes();
	assert_int_equal(hits_seen, 0);
	assert_set(100 * THRESHOLD);
}

/* Its map was held by nobody for a while, and the timer went with that. */
static void test_lost_timer(void **state)
{
	(void)state;
	model_deadlines[1].due_ns = model_now() - 2 * THRESHOLD;
	direct_deadline(NULL);
	assert_set(THRESHOLD);
}

/* Threads in D state cannot set it: it goes on by itself. */
static void test_blocked_goes_on(void **state)
{
	(void)state;
	watch_blocked(2);
	passes();
	assert_set(THRESHOLD); /* whoever begins now is too old then at the earliest */
	in_flight(10, 600 * MS, 2);
	in_flight(11, 300 * MS, 2);
	in_flight(12, 900 * MS, 1); /* another trigger's */
	passes();
	assert_set(400 * MS);
	control.armed = 0; /* the agent may arm it any time */
	passes();
	assert_set(400 * MS);
	assert_int_equal(hits_seen, 0);
}

static void test_blocked_count(void **state)
{
	(void)state;
	watch_blocked(2);
	in_flight(10, 1001 * MS, 2);
	in_flight(11, 800 * MS, 2);
	passes();
	assert_int_equal(hits_seen, 0);
	assert_set(200 * MS);
	in_flight(12, 1002 * MS, 2);
	passes();
	assert_int_equal(hits_seen, 1);
	assert_int_equal(control.fired_tid, 12);
	assert_int_equal(control.fired_value, 2);
	assert_set(200 * MS);
}

/* Many that grow too old one after the other are looked at together. */
static void test_blocked_crowd(void **state)
{
	(void)state;
	watch_blocked(1);
	control.trigger[1].threshold_ns = 1000;
	passes();
	assert_int_equal(set_seen, 1);
	assert_int_equal(set_ns, LOOK_GAP_NS);
}

/* What an earlier agent's triggers left set is of their thresholds. */
static void test_reset(void **state)
{
	(void)state;
	model_deadlines[1].due_ns = model_now() + 100 * THRESHOLD;
	assert_int_equal(reset_deadlines(NULL), 0);
	assert_int_equal(set_seen, 1);
	assert_int_equal(set_ns, 0); /* a look at once */
	assert_int_equal(model_deadlines[1].due_ns, 0);
	set_seen = 0;
	direct_deadline(NULL);
	assert_set(THRESHOLD);
	control.trigger[1].type = SB_KTRIG_RUNQ;
	assert_int_equal(reset_deadlines(NULL), 0);
	assert_int_equal(set_seen, 0);
}

static void test_not_armed(void **state)
{
	(void)state;
	control.armed = 0;
	in_flight(10, 2 * THRESHOLD, 2);
	passes();
	assert_int_equal(hits_seen + set_seen, 0);
	assert_int_equal(control.generation, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_first_sets, arm),	cmocka_unit_test_setup(test_not_watched, arm),
		cmocka_unit_test_setup(test_next_oldest, arm),	cmocka_unit_test_setup(test_fires, arm),
		cmocka_unit_test_setup(test_nothing_left, arm), cmocka_unit_test_setup(test_lost_timer, arm),
		cmocka_unit_test_setup(test_not_armed, arm),	cmocka_unit_test_setup(test_blocked_goes_on, arm),
		cmocka_unit_test_setup(test_blocked_count, arm), cmocka_unit_test_setup(test_blocked_crowd, arm),
		cmocka_unit_test_setup(test_reset, arm),	cmocka_unit_test_setup(test_begins_meanwhile, arm),
		cmocka_unit_test_setup(test_long_threshold, arm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
