// SPDX-License-Identifier: BSD-2-Clause
/* symbols/naming.c and symbols/jitmap.c: the same functions found in every way in which names come,
 * where nm says that they are. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/log.h"
#include "symbols/jitmap.h"
#include "symbols/symbols.h"
#include "tools/demangle.h"

static char top[] = "/tmp/stallbox-test-naming.XXXXXX";
static const char *const function[] = { "hidden_one", "public_two", "hidden_three" };
static uint64_t start[3];
static uint64_t size[3];

static int sh(const char *command)
{
	char all[1024];

	snprintf(all, sizeof(all), "cd %s && %s", top, command);
	return system(all);
}

static int open_in_top(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int set_up(void **state)
{
	char path[256], line[256];
	FILE *f;

	(void)state;
	if (!mkdtemp(top))
		return -1;
	snprintf(path, sizeof(path), "%s/x.c", top);
	f = fopen(path, "w");
	fputs("#define F __attribute__((noinline, noclone))\nstatic volatile int v;\n"
	      "static F int hidden_one(int x) { return v + x; }\nF int public_two(int x) { return hidden_one(x) + 1; }\n"
	      "static F int hidden_three(int x) { return public_two(x) + v; }\nint last(int x) { return hidden_three(x) * 2; }\n", f);
	fclose(f);
	if (sh("cc -O1 -g -shared -fPIC -Wl,--build-id -o x.so x.c && strip -o stripped x.so && objcopy --only-keep-debug x.so x.debug && "
	       "strip --strip-debug -o mini x.so && xz -k mini && objcopy --add-section .gnu_debugdata=mini.xz stripped with_mini && "
	       "nm -S x.so >names && mkdir -p debug/.build-id"))
		return -1;
	if (sh("id=$(readelf -nW x.so | sed -n 's/.*Build ID: *//p') && d=debug/.build-id/$(echo $id | cut -c1-2) && mkdir -p $d && "
	       "cp x.debug $d/$(echo $id | cut -c3-).debug"))
		return -1;
	snprintf(path, sizeof(path), "%s/names", top);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long long addr, len;
		char name[64];

		for (int i = 0; sscanf(line, "%llx %llx %*c %63s", &addr, &len, name) == 3 && i < 3; i++) {
			if (!strcmp(name, function[i])) {
				start[i] = addr; /* gcc puts code where its address says */
				size[i] = len;
			}
		}
	}
	if (f)
		fclose(f);
	return start[0] && start[1] && start[2] ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return sh("rm -rf x* stripped mini* with_mini names debug && cd / && rmdir $OLDPWD");
}

/* named: bit i: function i has its name; else its start alone. */
static void expect(const struct elf_names *n, const char *source, unsigned int named, bool starts)
{
	assert_string_equal(elf_names_source(n), source);
	for (int i = 0; i < 3; i++) {
		/* The first byte, one within, and the return address of a call that ends the function. */
		const struct {
			uint64_t at;
			bool caller;
		} where[] = { { start[i], false }, { start[i] + 2, false }, { start[i] + size[i], true } };

		for (size_t w = 0; w < SB_ARRAY_SIZE(where); w++) {
			struct symbol s = {};
			int r = elf_names_find(n, where[w].at, where[w].caller, &s);

			if (!(named & 1u << i) && !starts) {
				assert_true(r < 0);
				continue;
			}
			assert_int_equal(r, 0);
			assert_int_equal(s.start, start[i]);
			assert_string_equal(s.name, named & 1u << i ? function[i] : "");
		}
	}
}

static void expect_file(const char *name, const char *const *roots, const char *source, unsigned int named)
{
	SB_CLEANUP(elf_names_freep) struct elf_names *n = NULL;
	_cleanup_close_ int fd = open_in_top(name);
	bool starts = false;

#ifdef SB_EH_FRAME
	starts = true;
#endif
	assert_int_equal(elf_names_open(fd, roots, &n), 0);
	expect(n, source, named, starts);
}

static void test_sources(void **state)
{
	char debug[300];
	const char *const roots[] = { debug, NULL }, *const nowhere[] = { "/nonexistent", NULL };

	(void)state;
	snprintf(debug, sizeof(debug), "%s/debug", top);
	expect_file("x.so", NULL, "symtab", 7);
	expect_file("stripped", NULL, "dynsym", 2);
	expect_file("stripped", nowhere, "dynsym", 2);
	expect_file("stripped", roots, "symtab", 7);
	expect_file("with_mini", NULL, "debugdata", 7);
}

static void test_detached(void **state)
{
	SB_CLEANUP(elf_names_freep) struct elf_names *n = NULL;
	_cleanup_close_ int fd = open_in_top("x.debug");

	(void)state;
	assert_int_equal(elf_names_open_detached(fd, start[0] & ~4095ULL, &n), 0);
	expect(n, "symtab", 7, false);
}

static void test_jit(void **state)
{
	static const char text[] = "1000 20 Lfoo;bar baz\nnonsense\n0x1020 0x10 once\n0x1020 0x10 the_second_version\n1030 0 empty\n2000 10\n";
	struct symbols *s = NULL;
	struct symbol found;
	FILE *f = fmemopen((void *)(uintptr_t)text, sizeof(text) - 1, "r");

	(void)state;
	assert_int_equal(jitmap_read(f, NULL, &s), 0);
	fclose(f);
	assert_int_equal(symbols_find(s, 0x101f, &found), 0);
	assert_string_equal(found.name, "Lfoo;bar baz");
	assert_int_equal(symbols_find(s, 0x1020, &found), 0);
	assert_string_equal(found.name, "the_second_version"); /* the last one, though longer */
	assert_true(symbols_find(s, 0x1030, &found) < 0);
	assert_true(symbols_find(s, 0x2000, &found) < 0);
	symbols_free(s);
}

/* Processes end without deleting their map, and pids come again. What is left out is told: the clock may have been set. */
static void test_jit_stale(void **state)
{
	const struct timespec ago[2] = { { time(NULL) - 10, 0 }, { time(NULL) - 10, 0 } };
	uint32_t pid = 0;
	pid_t child = fork();
	struct symbols *s = NULL;
	char path[64], got[256], line[256];
	FILE *f, *said;
	int saved;

	(void)state;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* also where a check of the parent fails */
		pause();
		_exit(0);
	}
	pid = (uint32_t)child;
	snprintf(path, sizeof(path), "/tmp/perf-%u.map", pid);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs("1000 20 jitted\n", f);
	fclose(f);
	assert_int_equal(jitmap_load(pid, NULL, got, sizeof(got), &s), 0);
	assert_string_equal(got, path);
	symbols_free(s);
	assert_int_equal(utimensat(AT_FDCWD, path, ago, 0), 0);
	said = tmpfile();
	saved = dup(STDERR_FILENO);
	assert_non_null(said);
	log_set_level(LOG_LEVEL_DEBUG);
	dup2(fileno(said), STDERR_FILENO);
	assert_int_equal(jitmap_load(pid, NULL, got, sizeof(got), &s), -ENODATA);
	dup2(saved, STDERR_FILENO);
	log_set_level(LOG_LEVEL_INFO);
	close(saved);
	rewind(said);
	assert_non_null(fgets(line, sizeof(line), said));
	assert_non_null(strstr(line, path));
	fclose(said);
	unlink(path);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void expect_readable(const char *mangled, const char *want)
{
	char *s = demangle(mangled);

	if (!s != !want || (want && strcmp(s, want)))
		fail_msg("%s: %s, expected %s", mangled, s ? s : "none", want ? want : "none");
	free(s);
}

static void test_demangle(void **state)
{
	char bomb[2048] = "_Z1f";
	size_t n = strlen(bomb);

	(void)state;
	expect_readable("_ZN4shop8checkoutEi", "shop::checkout");
	expect_readable("_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back");
	expect_readable("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt");
	expect_readable("_RNvC3foo3bar", "foo::bar");
	expect_readable("main", NULL);
	expect_readable("_Zebra", NULL);
	expect_readable("_", NULL);
	expect_readable("", NULL);
	/* Templates of templates, each twice the one before: 2^60 letters. */
	strcpy(bomb, "_Z1fI1AI1xS0_E");
	for (n = strlen(bomb); n + 40 < sizeof(bomb) && n < 1000; n = strlen(bomb))
		snprintf(bomb + n, sizeof(bomb) - n, "1AIS%c_S%c_E", 'A' + (int)(n / 12 % 26), 'A' + (int)(n / 12 % 26));
	strcat(bomb, "Evv");
	free(demangle(bomb)); /* comes back, whatever it is */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_detached),
		cmocka_unit_test(test_jit),
		cmocka_unit_test(test_jit_stale),
		cmocka_unit_test(test_demangle),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
