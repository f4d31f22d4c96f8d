// SPDX-License-Identifier: BSD-2-Clause
/* What the programs cost between two measurements: counts times what each cost when measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recorder/selfcost.h"

/* Measured for a second: 10,000 switches of 200 ns, 400 ticks of 5 us, no spans, 10 forks of
 * 1 us, and 3 ms of programs that nothing counted drives. */
static struct selfcost_rates measured(void)
{
	return (struct selfcost_rates){
		.ns = { 3e6, 2e6, 2e6, 0, 1e4 },
		.counts = { { 1e9, 10000, 400, 0, 10 }, { true, true, true, true, true } },
		.measured = true,
	};
}

static void test_same_again(void **state)
{
	struct selfcost_rates r = measured();
	bool sure = false;

	(void)state;
	assert_true(selfcost_estimate(&r, &r.counts, &sure) == 7.01e6);
	assert_true(sure);
}

static void test_each_driver(void **state)
{
	struct selfcost_rates r = measured();
	struct selfcost_counts now = r.counts;
	bool sure = false;

	(void)state;
	now.n[DRIVEN_BY_SWITCHES] = 100000; /* ten times as many */
	assert_true(selfcost_estimate(&r, &now, &sure) == 7.01e6 + 9 * 2e6);
	assert_true(sure);
	now = r.counts;
	now.n[DRIVEN_BY_TIME] = 2e9;
	assert_true(selfcost_estimate(&r, &now, &sure) == 7.01e6 + 3e6);
	now = r.counts;
	now.n[DRIVEN_BY_TICKS] = now.n[DRIVEN_BY_FORKS] = 0;
	assert_true(selfcost_estimate(&r, &now, &sure) == 5e6);
	assert_true(sure);
}

/* Nobody knows what it costs: that has to be measured. */
static void test_not_sure(void **state)
{
	struct selfcost_rates r = measured(), none = {};
	struct selfcost_counts now = r.counts;
	bool sure = true;

	(void)state;
	now.n[DRIVEN_BY_SPANS] = 1; /* none ran when measured */
	selfcost_estimate(&r, &now, &sure);
	assert_false(sure);
	now = r.counts;
	now.known[DRIVEN_BY_SWITCHES] = false; /* the reader is gone: as many as then */
	assert_true(selfcost_estimate(&r, &now, &sure) == 7.01e6);
	assert_false(sure);
	none.counts.n[DRIVEN_BY_TIME] = 1;
	selfcost_estimate(&none, &now, &sure);
	assert_false(sure);
}

static void test_drivers(void **state)
{
	(void)state;
	assert_int_equal(selfcost_driver_of("sched_switch"), DRIVEN_BY_SWITCHES);
	assert_int_equal(selfcost_driver_of("sample"), DRIVEN_BY_TICKS);
	/* As the kernel gives it, cut to 15 characters. */
	assert_int_equal(selfcost_driver_of("contention_begi"), DRIVEN_BY_SWITCHES);
	assert_int_equal(selfcost_driver_of("memcg_end"), DRIVEN_BY_SPANS);
	assert_int_equal(selfcost_driver_of("process_exec"), DRIVEN_BY_FORKS);
	assert_int_equal(selfcost_driver_of("syscall_enter"), DRIVEN_BY_TIME);
	assert_int_equal(selfcost_driver_of(""), DRIVEN_BY_TIME);
}

/* What a process used is known as long as it lives; a sum that went back would be told as a great
 * cost in no time. */
static void test_worker_never_back(void **state)
{
	struct capture_work work = { .cpu_ns = 700 };
	struct pool pool = { .starter.pid = getpid() };
	struct selfcost_sources s = { .work = &work, .pool = &pool };
	struct selfcost c = { .freezer_ns = 300 };
	uint64_t with;

	(void)state;
	with = selfcost_worker_ns(&c, &s);
	assert_true(with > 1000);
	pool.starter.pid = 0;
	assert_int_equal(selfcost_worker_ns(&c, &s), with);
	work.cpu_ns = with;
	assert_int_equal(selfcost_worker_ns(&c, &s), with + 300);
}

/* Far from the budget, with no window open, every other second is enough. */
static void test_ticks(void **state)
{
	const uint64_t second = sb_monotonic_ns() / (2 * NSEC_PER_SEC) * 2 * NSEC_PER_SEC;
	struct probes p = {};
	struct selfcost_sources s = { .probes = &p, .cpus = 4, .budget_ppm = 10000 };
	struct selfcost c;

	(void)state;
	selfcost_init(&c);
	c.started_ns = second; /* too early for a window */
	assert_int_equal(selfcost_tick(&c, &s, second + 1), second + NSEC_PER_SEC);
	c.windows = 1;
	c.window_until_ns = second;
	assert_int_equal(selfcost_tick(&c, &s, second + 2), second + 2 * NSEC_PER_SEC);
	assert_int_equal(selfcost_tick(&c, &s, second + 3), second + 2 * NSEC_PER_SEC);
	s.limit_step = 1;
	assert_int_equal(selfcost_tick(&c, &s, second + 4), second + NSEC_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_again),
		cmocka_unit_test(test_each_driver),
		cmocka_unit_test(test_not_sure),
		cmocka_unit_test(test_drivers),
		cmocka_unit_test(test_worker_never_back),
		cmocka_unit_test(test_ticks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
