// SPDX-License-Identifier: BSD-2-Clause
/* Which names are bundles', and the time in them: one answer for the agent, the gateway, the uploader and the tools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/file_name.h"

static void test_names(void **state)
{
	static const char *const good[] = { "a.stall.pb.zst", "db-17-20261120T233350Z-reclaim-age_042.stall.pb.zst",
					    "0_A-z.stall.pb.zst", "a..b.stall.pb.zst", "_none_-20261120T233350Z-t.stall.pb.zst" };
	static const char *const bad[] = { "", ".stall.pb.zst", "..", "a.stall.pb", "a.stall.pb.zst ", "a/b.stall.pb.zst",
					   ".a.stall.pb.zst", "-a.stall.pb.zst", "a%00.stall.pb.zst", "a%2fb.stall.pb.zst",
					   "a\n.stall.pb.zst", "\xc3\xa4.stall.pb.zst", "a\\b.stall.pb.zst", "../a.stall.pb.zst",
					   "a.STALL.PB.ZST", "a.stall.pb.zst.txt", "a:b.stall.pb.zst", "a b.stall.pb.zst" };
	char longest[BUNDLE_FILE_MAX + 2];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(good); i++)
		assert_true(bundle_is_file_name(good[i]));
	for (size_t i = 0; i < SB_ARRAY_SIZE(bad); i++)
		assert_false(bundle_is_file_name(bad[i]));
	memset(longest, 'a', sizeof(longest));
	strcpy(longest + BUNDLE_FILE_MAX - 1 - strlen(BUNDLE_SUFFIX), BUNDLE_SUFFIX);
	assert_int_equal(strlen(longest), BUNDLE_FILE_MAX - 1);
	assert_true(bundle_is_file_name(longest));
	memset(longest, 'a', sizeof(longest));
	strcpy(longest + BUNDLE_FILE_MAX - strlen(BUNDLE_SUFFIX), BUNDLE_SUFFIX);
	assert_false(bundle_is_file_name(longest));
}

/* What is left alone and counted. */
static void test_looks_like(void **state)
{
	(void)state;
	assert_true(bundle_looks_like_file("a b\n.stall.pb.zst"));
	assert_true(bundle_looks_like_file("-a.stall.pb.zst"));
	assert_false(bundle_looks_like_file(".tmp-1-x.stall.pb.zst"));
	assert_false(bundle_looks_like_file(".stall.pb.zst"));
	assert_false(bundle_looks_like_file("x.stall.pb.zst.part"));
	assert_false(bundle_looks_like_file(""));
}

static void expect_stamp(const char *name, size_t want)
{
	const char *got = bundle_file_stamp(name);

	assert_ptr_equal(got, want ? name + want : NULL);
}

static void test_stamp(void **state)
{
	(void)state;
	expect_stamp("a-20261120T233350Z-t.stall.pb.zst", 2);
	expect_stamp("a-20261120T233350.042Z-t.stall.pb.zst", 2);
	expect_stamp("db-17-20200101.example-20261120T233350Z-t_042.stall.pb.zst", 23);
	expect_stamp("a-20261120T233350Z-t-20300101T000000Z-.stall.pb.zst", 2);
	expect_stamp("a-20261120T233350Z.stall.pb.zst", 0);
	expect_stamp("a-20261120T233350.42Z-t.stall.pb.zst", 0);
	expect_stamp("a-20261120t233350Z-t.stall.pb.zst", 0);
	expect_stamp("a-2026112", 0);
	expect_stamp("-", 0);
	expect_stamp("", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_looks_like),
		cmocka_unit_test(test_stamp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
