// SPDX-License-Identifier: BSD-2-Clause
/* What the sampler makes of one system call that keeps the CPU, of another CPU that samples at the same time, and of
 * samples that are left out above the CPU budget. The code is the kernel's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bpf/sample.bpf.c"

#define MS	  1000000ULL
#define PERIOD	  (10 * MS)
#define THRESHOLD (100 * MS)
#define BEGIN	  (1000 * MS)
#define CALL	  (1ULL << 48 | 7)
#define ID	  41

static struct sb_cpu model_cpus;
static struct sb_task_detail model_detail;
static uint64_t fired_value;

void *model_lookup(const void *map, uint32_t key)
{
	return map == &cpus ? (void *)&model_cpus : map == &task_detail ? (void *)&model_detail : NULL;
}

void model_hit(const void *hit)
{
	fired_value = ((const struct sb_hit *)hit)->value;
}

static int begin(void **state)
{
	struct sb_config *c = (struct sb_config *)(uintptr_t)&cfg;

	(void)state;
	c->cpus = 1;
	c->sample_period_ns = PERIOD;
	c->syscall_threshold_ns = UINT64_MAX; /* no record of it */
	memset(&model_cpus, 0, sizeof(model_cpus));
	memset(&model_detail, 0, sizeof(model_detail));
	memset(control.trigger, 0, sizeof(control.trigger));
	control.trigger[0] = (struct sb_ktrigger){ .type = SB_KTRIG_SYSCALL, .count = 1, .threshold_ns = THRESHOLD };
	control.watch = 1u << SB_KTRIG_SYSCALL;
	control.armed = 1;
	control.limit_step = SB_LIMIT_NONE;
	fired_value = 0;
	return 0;
}

static void sampled(uint64_t after_ns)
{
	follow_call(&model_cpus, ID, CALL, BEGIN + after_ns);
}

static void test_call_fires(void **state)
{
	(void)state;
	for (uint64_t ns = 0; ns < THRESHOLD; ns += PERIOD)
		sampled(ns);
	assert_int_equal(fired_value, 0);
	sampled(THRESHOLD);
	assert_int_equal(fired_value, THRESHOLD);
	/* Once. */
	control.armed = 1;
	fired_value = 0;
	sampled(THRESHOLD + PERIOD);
	assert_int_equal(fired_value, 0);
}

/* Interrupts were off: the threshold lies well within the gap. */
static void test_late_sample(void **state)
{
	(void)state;
	sampled(0);
	sampled(7 * THRESHOLD);
	assert_int_equal(fired_value, 7 * THRESHOLD);
}

static void test_another_call(void **state)
{
	(void)state;
	sampled(0);
	follow_call(&model_cpus, ID, CALL + 1, BEGIN + THRESHOLD);
	follow_call(&model_cpus, ID, CALL + 1, BEGIN + 2 * THRESHOLD - 1);
	assert_int_equal(fired_value, 0);
}

/* One that has to keep quiet does not keep the others quiet; what comes after the one that seals is counted. */
static void test_several_cross(void **state)
{
	(void)state;
	control.trigger[0].quiet_until_ns = UINT64_MAX;
	control.trigger[2] = control.trigger[5] = control.trigger[7] = control.trigger[0];
	control.trigger[2].threshold_ns = 8 * THRESHOLD;
	control.trigger[5].quiet_until_ns = control.trigger[7].quiet_until_ns = 0;
	sampled(0);
	sampled(7 * THRESHOLD);
	assert_int_equal(fired_value, 7 * THRESHOLD);
	assert_int_equal(control.fired_trigger, 5);
	assert_int_equal(control.trigger[0].unsealed, 1);
	assert_int_equal(control.trigger[2].unsealed, 0);
	assert_int_equal(control.trigger[5].unsealed, 0);
	assert_int_equal(control.trigger[7].unsealed, 1);
}

/* Another CPU does the same at the same time, and its clock is a little later. */
static void test_another_cpu(void **state)
{
	struct bpf_perf_event_data idle = {};
	uint64_t later = model_now() + 3600 * 1000 * MS;

	(void)state;
	/* The same event, counted there. */
	control.armed = 0;
	control.trigger[0].told = 1;
	control.trigger[0].met_ns = later;
	sampled(0);
	sampled(THRESHOLD);
	assert_int_equal(control.trigger[0].unsealed, 0);
	/* The look at what is in flight, and the window that has just been judged. */
	control.last_scan_ns = later;
	sample(&idle);
	assert_true(control.last_scan_ns == later);
	control.trigger[1] = (struct sb_ktrigger){ .type = SB_KTRIG_SYSTEM, .percent = 50, .threshold_ns = 1000 * MS, .held = 1 };
	control.watch |= 1u << SB_KTRIG_SYSTEM;
	control.window_ns = later;
	scan_all(model_now());
	assert_true(control.window_ns == later);
	assert_int_equal(control.trigger[1].held, 1);
}

/* One in four is taken, and stands for the time of four, late ones included. */
static void test_thin(void **state)
{
	(void)state;
	assert_int_equal(thin(&model_cpus, PERIOD), PERIOD);
	control.limit_step = SB_LIMIT_SAMPLES;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(thin(&model_cpus, PERIOD), 0);
		assert_int_equal(thin(&model_cpus, 0), 0); /* after an idle time */
		assert_int_equal(thin(&model_cpus, 5 * PERIOD), 0);
		assert_int_equal(thin(&model_cpus, PERIOD), 8 * PERIOD);
	}
	assert_int_equal(model_cpus.lost[SB_LOST_LIMIT_SAMPLE], 9);
	/* The limit ends: the next sample has what is left. */
	assert_int_equal(thin(&model_cpus, PERIOD), 0);
	control.limit_step = SB_LIMIT_NONE;
	assert_int_equal(thin(&model_cpus, PERIOD), 2 * PERIOD);
	assert_int_equal(thin(&model_cpus, 3 * PERIOD), PERIOD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_call_fires, begin),	  cmocka_unit_test_setup(test_late_sample, begin),
		cmocka_unit_test_setup(test_another_call, begin), cmocka_unit_test_setup(test_thin, begin),
		cmocka_unit_test_setup(test_several_cross, begin), cmocka_unit_test_setup(test_another_cpu, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
