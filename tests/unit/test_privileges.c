// SPDX-License-Identifier: BSD-2-Clause
/* Capabilities are given up also where the bounding set cannot be changed, and that is told. What each process keeps is
 * bpf/privileges'. */
#include <cap-ng.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recorder/privileges.h"

static unsigned int refused, applied; /* of enum capng_select_t */

int capng_apply(capng_select_t set)
{
	if (set & refused)
		return -1;
	applied |= set;
	return 0;
}

/* All of them: this process is root. */
int capng_have_capability(capng_type_t which, unsigned int capability)
{
	(void)which;
	(void)capability;
	return 1;
}

static int become(unsigned int refuse)
{
	refused = refuse;
	applied = 0;
	return privileges_become(PRIVILEGES_NONE);
}

static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(become(0), 0);
	assert_int_equal(applied, CAPNG_SELECT_CAPS | CAPNG_SELECT_BOUNDS);
	assert_int_equal(become(CAPNG_SELECT_BOUNDS), -EPERM);
	assert_int_equal(applied, CAPNG_SELECT_CAPS);
	assert_int_equal(become(CAPNG_SELECT_CAPS), -EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
