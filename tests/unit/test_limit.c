// SPDX-License-Identifier: BSD-2-Clause
/* What the recorder leaves out as its cost rises and falls: one step a window, in order, never
 * below the budget, and back with hysteresis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recorder/limit.h"

#define CPUS   4
#define BUDGET 10000u /* 1 % */
#define SECOND NSEC_PER_SEC

/* A second at so many ppm of the machine. */
static int second(struct limit *l, uint64_t ppm)
{
	return limit_judge(l, SECOND, ppm * CPUS * SECOND / 1000000, CPUS);
}

/* Seconds at that cost until something changes; 0: nothing does within `max`. */
static unsigned int until_change(struct limit *l, uint64_t ppm, int *ret, unsigned int max)
{
	for (unsigned int i = 1; i <= max; i++) {
		*ret = second(l, ppm);
		if (*ret)
			return i;
	}
	return 0;
}

static void test_never_below(void **state)
{
	struct limit l;
	int change = 0;

	(void)state;
	limit_init(&l, BUDGET);
	assert_int_equal(until_change(&l, BUDGET, &change, 5000), 0);
	assert_int_equal(l.step, SB_LIMIT_NONE);
	assert_int_equal(l.cost_ppm, BUDGET);
}

static void test_burst_below_average(void **state)
{
	struct limit l;

	(void)state;
	limit_init(&l, BUDGET);
	/* Four seconds in ten far above, the average just at the budget. */
	for (int i = 0; i < 600; i++)
		assert_int_equal(second(&l, i % 10 < 4 ? BUDGET * 5 / 2 : 0), 0);
}

static void test_steps_in_order(void **state)
{
	struct limit l;
	int change = 0;

	(void)state;
	limit_init(&l, BUDGET);
	for (uint32_t step = 1; step < SB_LIMIT_STEPS; step++) {
		/* A whole window before each. */
		assert_int_equal(until_change(&l, BUDGET + 1000, &change, 100), 10);
		assert_int_equal(change, 1);
		assert_int_equal(l.step, step);
		assert_int_equal(l.cost_ppm, BUDGET + 1000);
	}
	assert_int_equal(until_change(&l, 50 * BUDGET, &change, 1000), 0);
	assert_int_equal(l.step, SB_LIMIT_PROGRAMS);
}

static void test_back_with_hysteresis(void **state)
{
	struct limit l;
	int change = 0;

	(void)state;
	limit_init(&l, BUDGET);
	for (int i = 0; i < 4; i++)
		until_change(&l, 2 * BUDGET, &change, 100);
	assert_int_equal(l.step, 4);
	/* Between half and whole: it stays. */
	assert_int_equal(until_change(&l, BUDGET / 2, &change, 3000), 0);
	assert_int_equal(until_change(&l, BUDGET, &change, 3000), 0);
	for (uint32_t step = 4; step-- > 0;) {
		unsigned int s = until_change(&l, BUDGET / 2 - 100, &change, 100);

		assert_int_equal(change, -1);
		assert_int_equal(l.step, step);
		assert_true(s >= 19 && s <= 30);
	}
	assert_int_equal(until_change(&l, 0, &change, 1000), 0);
}

/* What is cheap only because it is left out is not tried again every half a minute. */
static void test_relapse_waits_longer(void **state)
{
	struct limit l;
	uint64_t expect = LIMIT_HOLD_NS;
	int change = 0;

	(void)state;
	limit_init(&l, BUDGET);
	for (int round = 0; round < 12; round++) {
		assert_true(until_change(&l, 2 * BUDGET, &change, 100) > 0);
		assert_int_equal(change, 1);
		assert_int_equal(l.hold_ns, expect);
		assert_true(until_change(&l, 100, &change, 1000) >= expect / SECOND);
		assert_int_equal(change, -1);
		expect = SB_MIN(2 * expect, LIMIT_HOLD_MAX_NS);
	}
	assert_int_equal(expect, LIMIT_HOLD_MAX_NS);
	/* Long without a step: the storm is over. */
	assert_int_equal(until_change(&l, 100, &change, LIMIT_FORGET_NS / SECOND + 1), 0);
	assert_int_equal(l.hold_ns, LIMIT_HOLD_NS);
}

static void test_pause(void **state)
{
	struct limit l;
	int change = 0;

	(void)state;
	limit_init(&l, BUDGET);
	for (int i = 0; i < 9; i++)
		assert_int_equal(second(&l, 2 * BUDGET), 0);
	/* A suspend: what was before does not count any more. */
	assert_int_equal(limit_judge(&l, 3600 * SECOND, 3600 * SECOND, CPUS), 0);
	assert_false(l.whole);
	assert_int_equal(until_change(&l, 2 * BUDGET, &change, 100), 10);
}

/* An agent that gets no CPU looks seldom: longer spans, the same verdict. */
static void test_uneven_spans(void **state)
{
	struct limit l;
	uint64_t span[] = { 3 * SECOND, SECOND / 2, 4 * SECOND, 2 * SECOND + SECOND / 2 };
	int change = 0;

	(void)state;
	limit_init(&l, BUDGET);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(change, 0);
		change = limit_judge(&l, span[i], span[i] / 1000000 * CPUS * (BUDGET + 100), CPUS);
	}
	assert_int_equal(change, 1);
	assert_in_range(l.cost_ppm, BUDGET + 90, BUDGET + 100);
}

static void test_texts(void **state)
{
	struct sb_limit_note n = { .from = 0, .to = 1, .cost_ppm = 15000, .budget_ppm = BUDGET };
	char text[256];

	(void)state;
	limit_note_text(&n, text, sizeof(text));
	assert_string_equal(text, "step 1: own cost 1.5 % of the machine, above the budget of 1 %; left out from here: "
				  "user stacks at switch-out");
	n = (struct sb_limit_note){ .from = 2, .to = 1, .cost_ppm = 4000, .budget_ppm = BUDGET };
	limit_note_text(&n, text, sizeof(text));
	assert_string_equal(text, "step 1: own cost 0.4 %, below half the budget of 1 %; recorded again: short off-CPU "
				  "blocks (threshold ten times as long)");
	assert_string_equal(limit_step_name(99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_below),	  cmocka_unit_test(test_burst_below_average),
		cmocka_unit_test(test_steps_in_order),	  cmocka_unit_test(test_back_with_hysteresis),
		cmocka_unit_test(test_relapse_waits_longer), cmocka_unit_test(test_pause),
		cmocka_unit_test(test_uneven_spans),	  cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
