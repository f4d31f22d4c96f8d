// SPDX-License-Identifier: BSD-2-Clause
/* A directory of bundles that does not answer holds nobody up, and is told apart from one that does. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sys/statvfs.h>

#include "gateway/survey.h"

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER; /* held: it hangs */

int statvfs(const char *path, struct statvfs *ret)
{
	static int (*real)(const char *, struct statvfs *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "statvfs");
	pthread_mutex_lock(&disk);
	pthread_mutex_unlock(&disk);
	return real(path, ret);
}

static void test_hangs(void **state)
{
	static struct config_storage storage = { .directory = "/tmp" };
	static struct captures captures;
	struct survey_result r, later;
	struct survey *s;
	uint64_t now;

	(void)state;
	captures_init(&captures, &storage);
	assert_int_equal(survey_start(&captures, &s), 0);
	do /* as soon as the machine lets the thread look */
		r = survey_get(s);
	while (!r.looked_ns);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.wanted_ns, 0);
	assert_true(survey_answers(&r, r.looked_ns));
	assert_true(survey_answers(&r, r.looked_ns + 3600 * NSEC_PER_SEC)); /* nobody has asked since */
	pthread_mutex_lock(&disk);
	do /* what is known is fresh for 10 s */
		later = survey_get(s);
	while (!later.wanted_ns);
	now = sb_monotonic_ns();
	assert_int_equal(later.looked_ns, r.looked_ns);
	assert_in_range(later.wanted_ns, r.looked_ns + SURVEY_FRESH_NS, now);
	assert_true(survey_answers(&later, later.wanted_ns + SURVEY_HANGS_NS - 1));
	assert_false(survey_answers(&later, later.wanted_ns + SURVEY_HANGS_NS));
	/* Asked again, it hangs since the first time. */
	r = survey_get(s);
	assert_int_equal(r.wanted_ns, later.wanted_ns);
	pthread_mutex_unlock(&disk);
	do
		r = survey_get(s);
	while (r.wanted_ns || r.looked_ns == later.looked_ns);
	assert_true(survey_answers(&r, sb_monotonic_ns()));
}

static void test_never(void **state)
{
	struct survey_result r = {};

	(void)state;
	assert_false(survey_answers(&r, 1));
}

static void test_refusals(void **state)
{
	const struct survey_dir well = { .known = true, .size_bytes = 4096, .free_bytes = 1 };
	struct survey_dir d = {};

	(void)state;
	assert_int_equal(survey_dir_refuses(&d), ENOENT);
	assert_int_equal(survey_dir_refuses(&well), 0);
	d = well, d.read_only = true;
	assert_int_equal(survey_dir_refuses(&d), EROFS);
	d = well, d.free_bytes = 0;
	assert_int_equal(survey_dir_refuses(&d), ENOSPC);
	d = well, d.no_inodes = true;
	assert_int_equal(survey_dir_refuses(&d), ENOSPC);
	/* It tells no size: ramfs, some of FUSE. */
	d = well, d.size_bytes = d.free_bytes = 0;
	assert_int_equal(survey_dir_refuses(&d), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hangs),
		cmocka_unit_test(test_never),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
