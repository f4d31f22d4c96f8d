// SPDX-License-Identifier: BSD-2-Clause
/* The configuration read again by another process: its answer is there as long as it waits to be applied. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "recorder/reload.h"
#include "tests/unit/scratch.h"

static struct options options;
static struct reload reload = { .fd = -1 };

static void read_it(void)
{
	int r;

	assert_int_equal(reload_start(&reload, &options), 0);
	while ((r = reload_poll(&reload, 0)) == -EAGAIN)
		usleep(1000);
	assert_int_equal(r, 0);
	assert_true(reload.read);
	while (!reload_reap(&reload))
		usleep(1000);
}

static void test_read(void **state)
{
	(void)state;
	read_it();
	assert_int_equal(reload.answer->errors.n, 0);
	assert_int_equal(reload.answer->config.recorder.post_ns, 7 * NSEC_PER_SEC);
	reload_forget_answer(&reload);
	assert_false(reload.read);
	assert_null(reload.answer);
}

/* The next one begins before the last one was applied, and fails: nothing waits to be applied. */
static void test_next_fails(void **state)
{
	struct rlimit before, none;

	(void)state;
	read_it();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(reload_start(&reload, &options), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_null(reload.answer);
	assert_false(reload.read);
}

static int set_up_file(void **state)
{
	FILE *f;

	if (set_up(state) < 0)
		return -1;
	snprintf(options.config_file, sizeof(options.config_file), "%s", at("stallbox.conf"));
	options.config_required = true;
	f = fopen(options.config_file, "we");
	return f && fputs("[Recorder]\nPost=7s\n", f) >= 0 && fclose(f) == 0 ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_next_fails),
	};

	return cmocka_run_group_tests(tests, set_up_file, tear_down);
}
