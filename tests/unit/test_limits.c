// SPDX-License-Identifier: BSD-2-Clause
/* What keeps a trigger back, on a made-up clock; what is counted, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "triggers/limits.h"

#define S NSEC_PER_SEC
#define HOUR (3600 * S)
#define START (1000000 * S)

static struct trigger_history h;

static struct trigger_limits start(struct trigger_limits l)
{
	assert_int_equal(limits_init(&l, &h), 0);
	return l;
}

static void fired(uint64_t at)
{
	limits_note(&h, TRIGGER_FIRED, 1, at);
}

static void test_none(void **state)
{
	struct trigger_limits l = start((struct trigger_limits){});

	(void)state;
	for (int i = 0; i < 5000; i++) {
		assert_int_equal(limits_judge(&l, &h, START), TRIGGER_FIRED);
		fired(START);
	}
	assert_int_equal(h.count[TRIGGER_FIRED], 5000);
	limits_done(&h);
}

static void test_cooldown(void **state)
{
	struct trigger_limits l = start((struct trigger_limits){ .cooldown_ns = 10 * S });

	(void)state;
	fired(START);
	assert_int_equal(limits_judge(&l, &h, START + 10 * S - 1), TRIGGER_OWN_COOLDOWN);
	assert_int_equal(limits_until(&l, &h, START + 1), START + 10 * S);
	assert_int_equal(limits_judge(&l, &h, START + 10 * S), TRIGGER_FIRED);
	assert_int_equal(limits_until(&l, &h, START + 10 * S), 0);
	/* What was held back does not begin it anew. */
	limits_note(&h, TRIGGER_OWN_COOLDOWN, 1, START + 9 * S);
	assert_int_equal(limits_judge(&l, &h, START + 10 * S), TRIGGER_FIRED);
	limits_done(&h);
}

/* Any hour, not the clock's: 7 causes in 70 minutes, three an hour. */
static void test_max_per_hour(void **state)
{
	static const enum trigger_outcome want[] = { TRIGGER_FIRED, TRIGGER_FIRED, TRIGGER_FIRED, TRIGGER_OVER_HOUR,
						     TRIGGER_OVER_HOUR, TRIGGER_OVER_HOUR, TRIGGER_FIRED, TRIGGER_FIRED };
	struct trigger_limits l = start((struct trigger_limits){ .max_per_hour = 3 });

	(void)state;
	for (uint64_t i = 0; i < SB_ARRAY_SIZE(want); i++) {
		uint64_t at = START + i * 600 * S;
		enum trigger_outcome o = limits_judge(&l, &h, at);

		assert_int_equal(o, want[i]);
		limits_note(&h, o, 1, at);
	}
	assert_int_equal(h.count[TRIGGER_OVER_HOUR], 3);
	limits_done(&h);
}

/* The limit that ends last is the one that is told. */
static void test_binding(void **state)
{
	struct trigger_limits l = start((struct trigger_limits){ .cooldown_ns = 60 * S, .max_per_hour = 2, .max_per_day = 3 });

	(void)state;
	fired(START);
	assert_int_equal(limits_judge(&l, &h, START + S), TRIGGER_OWN_COOLDOWN);
	fired(START + 100 * S);
	assert_int_equal(limits_judge(&l, &h, START + 101 * S), TRIGGER_OVER_HOUR);
	assert_int_equal(limits_until(&l, &h, START + 101 * S), START + HOUR);
	fired(START + 4000 * S);
	assert_int_equal(limits_judge(&l, &h, START + 4001 * S), TRIGGER_OVER_DAY);
	assert_int_equal(limits_judge(&l, &h, START + 24 * HOUR - 1), TRIGGER_OVER_DAY);
	assert_int_equal(limits_judge(&l, &h, START + 24 * HOUR), TRIGGER_FIRED);
	limits_done(&h);
}

/* A dry run goes by the same limits, and by the time that a bundle would have taken. */
static void test_dry_run(void **state)
{
	struct trigger_limits l = start((struct trigger_limits){ .max_per_hour = 2, .dry_run = true });

	(void)state;
	assert_int_equal(limits_judge(&l, &h, START), TRIGGER_DRY_RUN);
	limits_note(&h, TRIGGER_DRY_RUN, 1, START);
	h.busy_until_ns = START + 15 * S;
	assert_int_equal(limits_judge(&l, &h, START + 14 * S), TRIGGER_IN_COOLDOWN);
	assert_int_equal(limits_judge(&l, &h, START + 15 * S), TRIGGER_DRY_RUN);
	limits_note(&h, TRIGGER_DRY_RUN, 1, START + 15 * S);
	assert_int_equal(limits_judge(&l, &h, START + 60 * S), TRIGGER_OVER_HOUR);
	limits_done(&h);
}

static void test_day(void **state)
{
	(void)state;
	start((struct trigger_limits){});
	assert_int_equal(limits_day(&h, TRIGGER_FIRED, START), 0);
	for (uint64_t i = 0; i < 100; i++)
		limits_note(&h, TRIGGER_MERGED, 2, START + i * HOUR);
	/* 24 hours and up to half an hour more: the last 25 of the 100. */
	assert_in_range(limits_day(&h, TRIGGER_MERGED, START + 99 * HOUR), 48, 50);
	assert_in_range(limits_day(&h, TRIGGER_MERGED, START + 111 * HOUR), 24, 26);
	assert_int_equal(limits_day(&h, TRIGGER_MERGED, START + 124 * HOUR), 0);
	assert_int_equal(limits_day(&h, TRIGGER_MERGED, START + 9999 * HOUR), 0);
	assert_int_equal(limits_day(&h, TRIGGER_FIRED, START + 99 * HOUR), 0);
	assert_int_equal(h.count[TRIGGER_MERGED], 200);
	/* After a pause of weeks there is only what is new. */
	limits_note(&h, TRIGGER_MERGED, 3, START + 5000 * HOUR);
	assert_int_equal(limits_day(&h, TRIGGER_MERGED, START + 5000 * HOUR), 3);
	limits_done(&h);
}

static void test_tell(void **state)
{
	char text[80];

	(void)state;
	start((struct trigger_limits){});
	assert_int_equal(limits_tell(&h, text, sizeof(text)), 0);
	fired(START);
	limits_note(&h, TRIGGER_MERGED, 1, START + 1); /* is in the bundle itself */
	assert_int_equal(limits_tell(&h, text, sizeof(text)), 0);
	limits_note(&h, TRIGGER_OVER_HOUR, 3, START + 5);
	limits_note(&h, TRIGGER_IN_COOLDOWN, 1, START + 4);
	assert_int_equal(limits_tell(&h, text, sizeof(text)), START + 5);
	assert_string_equal(text, "1 cooldown, 3 max-per-hour");
	assert_int_equal(limits_tell(&h, text, sizeof(text)), 0);
	limits_done(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),	cmocka_unit_test(test_cooldown), cmocka_unit_test(test_max_per_hour),
		cmocka_unit_test(test_binding), cmocka_unit_test(test_dry_run),	 cmocka_unit_test(test_day),
		cmocka_unit_test(test_tell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
