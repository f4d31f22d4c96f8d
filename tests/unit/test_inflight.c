// SPDX-License-Identifier: BSD-2-Clause
/* The scan for waits in flight, as the kernel runs it, on two CPUs at once: what one of
 * them counts must not reach the other. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bpf/sample.bpf.c"

#define CPUS   2
#define WAITS  4
#define ROUNDS 20000

static struct sb_cpu model_cpus[CPUS];
static struct sb_inflight_table model_inflight[2];
static atomic_uint hits_seen;

void *model_lookup(const void *map, uint32_t key)
{
	if (map == &cpus)
		return &model_cpus[key];
	if (map == &inflight)
		return &model_inflight[key];
	return NULL;
}

void model_hit(const void *hit)
{
	(void)hit;
	hits_seen++;
}

static void arm(uint32_t count)
{
	control.trigger[0] = (struct sb_ktrigger){ .type = SB_KTRIG_BLOCKED, .count = count, .threshold_ns = 1 };
	control.armed_generation = control.generation = 0;
	control.armed = 1;
	hits_seen = 0;
	memset(model_inflight, 0, sizeof(model_inflight));
	for (uint32_t tid = 100; tid < 100 + WAITS; tid++)
		assert_int_equal(sb_inflight_add(tid, SB_INFLIGHT_BLOCKED, 1), 1);
}

static void *scanner(void *arg)
{
	model_cpu = (uint32_t)(uintptr_t)arg;
	for (int i = 0; i < ROUNDS; i++)
		sb_scan_inflight(0, SB_SCAN_SAMPLER);
	return NULL;
}

static void scan_on_all_cpus(void)
{
	pthread_t thread[CPUS];

	for (uintptr_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, scanner, (void *)i), 0);
	for (int i = 0; i < CPUS; i++)
		pthread_join(thread[i], NULL);
}

static void test_below(void **state)
{
	(void)state;
	arm(WAITS + 1);
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 0);
	assert_int_equal(control.armed, 1);
}

static void test_reached(void **state)
{
	(void)state;
	arm(WAITS);
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 1);
	assert_int_equal(control.fired_value, WAITS);
	assert_int_equal(control.generation, 1);
}

static void test_ended(void **state)
{
	(void)state;
	arm(WAITS);
	assert_int_equal(sb_inflight_del(101, SB_INFLIGHT_BLOCKED), 1);
	assert_int_equal(sb_inflight_del(101, SB_INFLIGHT_BLOCKED), 0);
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 0);
}

/* One at a time: met, ended, met, ... Each beginning is counted once, however often it is looked at. */
static void test_unsealed(void **state)
{
	(void)state;
	arm(WAITS);
	control.trigger[0].quiet_until_ns = UINT64_MAX;
	for (int i = 0; i < 5; i++) {
		scan_on_all_cpus();
		assert_int_equal(sb_inflight_del(101, SB_INFLIGHT_BLOCKED), 1);
		scan_on_all_cpus();
		assert_int_equal(sb_inflight_add(101, SB_INFLIGHT_BLOCKED, 1), 1);
	}
	assert_int_equal(hits_seen, 0);
	assert_int_equal(control.armed, 1);
	assert_int_equal(control.trigger[0].unsealed, 5);
	assert_int_equal(control.trigger[0].value, WAITS - 1);
	/* That was the last look; what it was when it was met is kept apart, and who it was. */
	assert_int_equal(control.trigger[0].unsealed_value, WAITS);
	assert_int_equal(control.trigger[0].unsealed_tid, 100);
	/* It may again: what goes on seals, though it has been counted. */
	scan_on_all_cpus();
	assert_int_equal(control.trigger[0].unsealed, 6);
	control.trigger[0].quiet_until_ns = 0;
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 1);
	assert_int_equal(control.trigger[0].unsealed, 6);
}

/* While another bundle is being made it is counted, too; with hysteresis it does not come twice before it was calm. */
static void test_calm(void **state)
{
	(void)state;
	arm(WAITS);
	control.trigger[0].calm = WAITS - 1;
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 1);
	control.armed = 1;
	sb_inflight_del(101, SB_INFLIGHT_BLOCKED);
	scan_on_all_cpus();
	sb_inflight_add(101, SB_INFLIGHT_BLOCKED, 1);
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 1);
	sb_inflight_del(101, SB_INFLIGHT_BLOCKED);
	sb_inflight_del(102, SB_INFLIGHT_BLOCKED);
	scan_on_all_cpus();
	sb_inflight_add(101, SB_INFLIGHT_BLOCKED, 1);
	sb_inflight_add(102, SB_INFLIGHT_BLOCKED, 1);
	control.armed = 0;
	scan_on_all_cpus();
	assert_int_equal(control.trigger[0].unsealed, 1);
	control.armed = 1;
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 1);
}

static void test_held_for(void **state)
{
	(void)state;
	arm(WAITS);
	control.trigger[0].held_ns = 3600000000000ULL;
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 0);
	assert_true(control.trigger[0].met_ns > 0);
	control.trigger[0].held_ns = 1;
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 1);
	arm(WAITS);
	control.trigger[0].held_ns = 3600000000000ULL;
	scan_on_all_cpus();
	sb_inflight_del(101, SB_INFLIGHT_BLOCKED);
	scan_on_all_cpus();
	assert_int_equal(control.trigger[0].met_ns, 0);
}

/* Another CPU scans at the same time: its clock is a little later, or it has just seen the condition end. */
static void test_held_for_by_another(void **state)
{
	(void)state;
	arm(WAITS);
	control.trigger[0].held_ns = 3600000000000ULL;
	control.trigger[0].met_ns = model_now() + 1000000000;
	sb_scan_inflight(0, SB_SCAN_SAMPLER);
	assert_int_equal(hits_seen, 0);
}

/* What is left of an earlier agent: a bit of a trigger that is no more, or is of another type now. */
static void test_another_agents(void **state)
{
	(void)state;
	arm(1);
	control.trigger[0] = (struct sb_ktrigger){};
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 0);
	control.trigger[0] = (struct sb_ktrigger){ .type = SB_KTRIG_RECLAIM, .count = 1, .threshold_ns = 1 };
	scan_on_all_cpus();
	assert_int_equal(hits_seen, 0);
	assert_int_equal(control.armed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_another_agents), cmocka_unit_test(test_unsealed),
		cmocka_unit_test(test_calm), cmocka_unit_test(test_held_for),
		cmocka_unit_test(test_held_for_by_another),
		cmocka_unit_test(test_below),
		cmocka_unit_test(test_reached),
		cmocka_unit_test(test_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
