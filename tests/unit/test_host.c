// SPDX-License-Identifier: BSD-2-Clause
/* What has begun between two readings of the host's counters, at the bounds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "triggers/host.h"

#define ALL (HOST_STALLS(HOST_MEMORY) | HOST_STALLS(HOST_CPU) | HOST_STALLS(HOST_IO) | HOST_SYSTEM)

static struct host_reading reading(uint64_t ns, uint64_t system, uint64_t total)
{
	return (struct host_reading){ .ns = ns, .cpu = { system, total }, .stalled_us = { 500, 600, 700 }, .known = ALL };
}

static void test_stalls(void **state)
{
	struct host_reading a = reading(0, 1000, 9000), b = reading(NSEC_PER_SEC, 1000, 9400);

	(void)state;
	assert_int_equal(host_begun(&a, &b), 0);
	for (int i = 0; i < HOST_RESOURCES; i++) {
		struct host_reading c = b;

		c.stalled_us[i] += 9999; /* of a second: just below 1/100 */
		assert_int_equal(host_begun(&a, &c), 0);
		c.stalled_us[i]++;
		assert_int_equal(host_begun(&a, &c), HOST_STALLS(i));
		c.ns += NSEC_PER_SEC;
		assert_int_equal(host_begun(&a, &c), 0);
	}
}

static void test_system(void **state)
{
	struct host_reading a = reading(0, 1000, 9000), b = reading(NSEC_PER_SEC, 1039, 9400);

	(void)state;
	assert_int_equal(host_begun(&a, &b), 0);
	b.cpu.system++; /* 40 ticks of 400 */
	assert_int_equal(host_begun(&a, &b), HOST_SYSTEM);
	b.cpu.total = 8999; /* it went backwards */
	assert_int_equal(host_begun(&a, &b), 0);
}

/* What was not read twice says nothing. */
static void test_unknown(void **state)
{
	struct host_reading a = reading(0, 0, 9000), b = reading(NSEC_PER_SEC, 400, 9400);

	(void)state;
	b.stalled_us[HOST_IO] += 1000000;
	assert_int_equal(host_begun(&a, &b), HOST_SYSTEM | HOST_STALLS(HOST_IO));
	a.known &= ~HOST_SYSTEM;
	assert_int_equal(host_begun(&a, &b), HOST_STALLS(HOST_IO));
	b.known &= ~HOST_STALLS(HOST_IO);
	assert_int_equal(host_begun(&a, &b), 0);
}

static void test_parse(void **state)
{
	struct cpu_times t = { 1, 2 };

	(void)state;
	assert_int_equal(host_parse_stat("cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 1 1 1 1 1 1 1\n", &t), 0);
	assert_int_equal(t.system, 30 + 60 + 70);
	assert_int_equal(t.total, 360);
	assert_int_equal(host_parse_stat("cpu  10 20 30 40\n", &t), -ENODATA);
	assert_int_equal(host_parse_stat("intr 10 20 30 40 50 60 70 80\n", &t), -ENODATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stalls),
		cmocka_unit_test(test_system),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
