// SPDX-License-Identifier: BSD-2-Clause
/* The mark of a bundle that was delivered: for the bytes that were, and no others. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "format/uploaded.h"
#include "tests/unit/scratch.h"

static int dir = -1;

static struct stat write_bundle(const char *name, const char *text)
{
	_cleanup_close_ int fd = openat(dir, name, O_CREAT | O_WRONLY | O_APPEND, 0640);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fstat(fd, &st), 0);
	return st;
}

static void test_mark(void **state)
{
	struct stat a = write_bundle("a.stall.pb.zst", "whole"), b = write_bundle("b.stall.pb.zst", "whole");

	(void)state;
	assert_false(uploaded_is(dir, "a.stall.pb.zst", &a)); /* no marks at all */
	assert_int_equal(uploaded_mark(dir, "a.stall.pb.zst", &a), 0);
	assert_true(uploaded_is(dir, "a.stall.pb.zst", &a));
	assert_false(uploaded_is(dir, "b.stall.pb.zst", &b));
	assert_int_equal(uploaded_mark(dir, "a.stall.pb.zst", &a), 0);
	assert_true(uploaded_is(dir, "a.stall.pb.zst", &a));
	uploaded_forget(dir, "a.stall.pb.zst");
	assert_false(uploaded_is(dir, "a.stall.pb.zst", &a));
	uploaded_forget(dir, "a.stall.pb.zst");
}

/* What was appended is not delivered, nor is another file of the same name and size. */
static void test_changed(void **state)
{
	struct stat st = write_bundle("c.stall.pb.zst", "first part"), other;
	struct timespec t[2] = { { 1, 0 }, { 1, 1 } };

	(void)state;
	assert_int_equal(uploaded_mark(dir, "c.stall.pb.zst", &st), 0);
	other = st;
	other.st_mtim.tv_nsec ^= 1;
	assert_false(uploaded_is(dir, "c.stall.pb.zst", &other));
	other = write_bundle("c.stall.pb.zst", ", second part");
	assert_int_equal(utimensat(dir, "c.stall.pb.zst", t, 0), 0);
	assert_false(uploaded_is(dir, "c.stall.pb.zst", &other));
	assert_int_equal(uploaded_mark(dir, "c.stall.pb.zst", &other), 0);
	assert_true(uploaded_is(dir, "c.stall.pb.zst", &other));
	assert_false(uploaded_is(dir, "c.stall.pb.zst", &st));
}

/* Whoever may write marks reaches nothing but marks. */
static void test_hostile(void **state)
{
	struct stat st = write_bundle("d.stall.pb.zst", "whole");
	char cut[] = "5";

	(void)state;
	assert_int_equal(symlinkat("../d.stall.pb.zst", dir, UPLOADED_DIR "/d.stall.pb.zst"), 0);
	assert_false(uploaded_is(dir, "d.stall.pb.zst", &st));
	assert_int_equal(uploaded_mark(dir, "d.stall.pb.zst", &st), 0); /* in its place, not through it */
	assert_true(uploaded_is(dir, "d.stall.pb.zst", &st));
	assert_int_equal(write_bundle("d.stall.pb.zst", "").st_size, 5);
	write_bundle(UPLOADED_DIR "/e.stall.pb.zst", cut);
	assert_false(uploaded_is(dir, "e.stall.pb.zst", &st));
	assert_int_equal(mkfifoat(dir, UPLOADED_DIR "/f.stall.pb.zst", 0600), 0);
	assert_false(uploaded_is(dir, "f.stall.pb.zst", &st)); /* and does not wait for a writer */
}

static int open_top(void **state)
{
	if (set_up(state) < 0)
		return -1;
	dir = open(top, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	return dir >= 0 ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, open_top, tear_down);
}
