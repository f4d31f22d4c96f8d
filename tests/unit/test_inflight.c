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
		cmocka_unit_test(test_another_agents),
		cmocka_unit_test(test_below),
		cmocka_unit_test(test_reached),
		cmocka_unit_test(test_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
