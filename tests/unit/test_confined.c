// SPDX-License-Identifier: BSD-2-Clause
/* What a confined command can do, and cannot: a shell and perl stand for a parser that was taken over. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "format/confined.h"
#include "tests/unit/scratch.h"

static const char *inside, *outside;
static char said[4096];

static int run_with(const char *program, const char *script, const volatile sig_atomic_t *stop, uint64_t limit_s)
{
	char *const argv[] = { (char *)program, (char *)(strstr(program, "perl") ? "-e" : "-c"), (char *)script, NULL };
	_cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
	struct confined c = { .program = program, .argv = argv, .dir = inside, .out = out, .err = out, .memory_bytes = 256u << 20,
			      .output_bytes = 1000, .cpu_s = 20, .limit_s = limit_s, .stop = stop };
	int r = confined_run(&c);
	ssize_t n = pread(out, said, sizeof(said) - 1, 0);

	said[n > 0 ? n : 0] = '\0';
	return r;
}

static int run(const char *program, const char *script)
{
	return run_with(program, script, NULL, 60);
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[600];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_runs(void **state)
{
	(void)state;
	assert_int_equal(run("sh", "cat bundle; echo >&2 and errors; exit 3"), W_EXITCODE(3, 0));
	assert_string_equal(said, "a bundle\nand errors\n");
	assert_int_equal(run("/bin/sh", "read x; echo $?"), 0);
	assert_string_equal(said, "1\n"); /* there is no input */
	assert_int_equal(run("no-such-program", ""), W_EXITCODE(127, 0));
	assert_int_equal(run("/no/such/program", ""), W_EXITCODE(127, 0));
}

/* What stands open in us is not handed on, whoever forgot to say so. */
static void test_descriptors(void **state)
{
	char script[64];
	int fd = open("/dev/zero", O_RDONLY);

	(void)state;
	assert_true(fd > 2);
	snprintf(script, sizeof(script), "exec <&%d", fd);
	assert_int_not_equal(run("sh", script), 0);
	close(fd);
}

static void test_limits(void **state)
{
	static volatile sig_atomic_t stop = 1;

	(void)state;
	assert_int_equal(run_with("sh", "while :; do :; done", NULL, 1), -ETIME);
	assert_int_equal(run_with("sh", "while :; do :; done", &stop, 3600), -ETIME);
	assert_true(WIFSIGNALED(run("perl", "print 'x' x 100000"))); /* SIGXFSZ */
	assert_int_equal(strlen(said), 1000);
	assert_int_not_equal(run("perl", "$x = 'x' x 500000000; exit 0"), 0);
	assert_int_equal(run("perl", "print getpriority(0, 0)"), 0);
	assert_int_equal(atoi(said), SB_MIN(19, getpriority(PRIO_PROCESS, 0) + 10));
}

/* Each of them works where nothing is confined. */
static void test_calls(void **state)
{
	static const char *const scripts[] = {
		"socket(S, 1, 1, 0) and exit(3); exit($! == 1 ? 0 : 2)",
		"socket(S, 2, 1, 0) and exit(3); exit($! == 1 ? 0 : 2)",
		"kill(0, getppid()) and exit(3); exit($! == 1 ? 0 : 2)",
		"setpriority(0, getppid(), 19) and exit(3); exit($! == 1 ? 0 : 2)",
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(scripts); i++) {
		assert_int_equal(run("perl", scripts[i]), 0);
		assert_string_equal(said, "");
	}
	/* Its own limits it may set. */
	assert_int_equal(run("sh", "ulimit -n 10 && ulimit -n"), 0);
	assert_string_equal(said, "10\n");
}

static void test_files(void **state)
{
	char script[700];

	(void)state;
	if (!confined_has_landlock())
		skip();
	snprintf(script, sizeof(script), "cat %s/secret", outside);
	assert_int_not_equal(run("sh", script), 0);
	assert_null(strstr(said, "s3cret"));
	assert_non_null(strstr(said, "Permission denied"));
	assert_int_not_equal(run("sh", "cat ../outside/secret"), 0);
	assert_int_not_equal(run("sh", "cat link"), 0);
	assert_null(strstr(said, "s3cret"));
	assert_int_not_equal(run("sh", "cat /proc/$PPID/environ"), 0);
	assert_string_not_equal(said, "");
	assert_int_not_equal(run("sh", "echo x >new"), 0);
	assert_int_not_equal(run("sh", "echo x >bundle"), 0);
	assert_int_not_equal(run("sh", "rm bundle"), 0);
	assert_int_equal(run("sh", "cat bundle"), 0);
	assert_string_equal(said, "a bundle\n");
}

static int begin(void **state)
{
	if (set_up(state))
		return -1;
	inside = new_dir("inside");
	outside = new_dir("outside");
	put(inside, "bundle", "a bundle\n");
	put(outside, "secret", "s3cret\n");
	return symlink("../outside/secret", at("inside/link"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),  cmocka_unit_test(test_descriptors), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_calls), cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, begin, tear_down);
}
