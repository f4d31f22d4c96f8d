// SPDX-License-Identifier: BSD-2-Clause
/* What counters-json tells of a recorder whose counts are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

#include "recorder/status.h"
#include "recorder/text.h"

#define CPUS 3

static struct sb_cpu cpus[CPUS];
static struct agent_view view;

static json_t *ask(size_t room)
{
	static char answer[65536];
	struct probes p = { .cpus = cpus };
	struct text t = { answer, 0, room, false };

	p.cfg.cpus = CPUS;
	p.cfg.ring_bytes = 1 << 20;
	counters_json(&view, &p, &t);
	assert_int_equal(strncmp(answer, "ok\n", 3), 0);
	return t.cut ? NULL : json_loads(answer + 3, 0, NULL);
}

static long long at(const json_t *object, const char *cpu)
{
	json_t *v = json_object_get(object, cpu);

	return v ? json_integer_value(v) : -1;
}

static const json_t *lost(const json_t *root, const char *what)
{
	const json_t *all = json_object_get(root, "lost");
	size_t i;
	json_t *one;

	json_array_foreach(all, i, one) {
		if (!strcmp(json_string_value(json_object_get(one, "what")), what))
			return one;
	}
	return NULL;
}

static void test_counts(void **state)
{
	const json_t *recorded, *one;
	json_t *root;

	(void)state;
	memset(cpus, 0, sizeof(cpus));
	cpus[1].recorded[SB_ON_CPU] = 101;
	cpus[2].recorded[SB_SLAB] = 7;
	cpus[2].lost[SB_LOST_TASK_EVICTED] = 13;
	/* Both banks, as far as they went beyond what they hold. */
	cpus[0].bank[0].head = (1 << 20) + 17;
	cpus[0].bank[1].head = (3 << 20) + 2;
	cpus[1].bank[0].head = 1 << 20;
	root = ask(65536);
	assert_non_null(root);
	recorded = json_object_get(root, "recorded");
	assert_int_equal(at(json_object_get(recorded, "on-cpu"), "1"), 101);
	assert_int_equal(at(json_object_get(recorded, "on-cpu"), "0"), 0);
	assert_int_equal(at(json_object_get(recorded, "slab"), "2"), 7);
	assert_int_equal(at(json_object_get(recorded, "slab"), "0"), -1);
	one = lost(root, "tasks_evicted");
	assert_string_equal(json_string_value(json_object_get(one, "cause")), "evicted");
	assert_string_equal(json_string_value(json_object_get(one, "kind")), "any");
	assert_int_equal(at(json_object_get(one, "cpus"), "2"), 13);
	assert_int_equal(at(json_object_get(one, "cpus"), "1"), -1);
	assert_string_equal(json_string_value(json_object_get(lost(root, "short_blocks_over_budget"), "kind")), "off-cpu");
	assert_int_equal(at(json_object_get(root, "overwritten_bytes"), "0"), 17 + 2 + (2 << 20));
	assert_int_equal(at(json_object_get(root, "overwritten_bytes"), "1"), 0);
	json_decref(root);
	assert_null(ask(500)); /* what is cut is known to be */
}

static void test_latency(void **state)
{
	json_t *root, *h, *count;
	long long want[] = { 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };

	(void)state;
	counters_observe(&view.seal_latency, 0);
	counters_observe(&view.seal_latency, NSEC_PER_MSEC); /* a bound is inside */
	counters_observe(&view.seal_latency, NSEC_PER_MSEC + 1);
	counters_observe(&view.seal_latency, 3600 * NSEC_PER_SEC);
	root = ask(65536);
	h = json_object_get(root, "seal_latency");
	count = json_object_get(h, "count");
	assert_int_equal(json_array_size(count), SB_ARRAY_SIZE(want));
	assert_int_equal(json_array_size(json_object_get(h, "le_s")), SB_ARRAY_SIZE(want) - 1);
	for (size_t i = 0; i < SB_ARRAY_SIZE(want); i++)
		assert_int_equal(json_integer_value(json_array_get(count, i)), want[i]);
	assert_float_equal(json_number_value(json_object_get(h, "sum_s")), 3600.002, 0.0001);
	json_decref(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_latency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
