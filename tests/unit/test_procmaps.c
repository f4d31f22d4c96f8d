// SPDX-License-Identifier: BSD-2-Clause
/* Lines of /proc/PID/maps, from texts and from real mappings of files with odd names. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "symbols/symbols.h"
#include "tests/unit/scratch.h"


/* ---- texts ------------------------------------------------------------------------- */

static size_t parse(const char *text, struct process_map *ret, size_t max)
{
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	size_t n = 0;

	assert_non_null(f);
	while (n < max && process_maps_next(f, &ret[n]))
		n++;
	fclose(f);
	return n;
}

static void test_lines(void **state)
{
	static const char text[] =
		"00400000-00401000 r--p 00000000 fe:00 1234                      /usr/bin/x\n"
		"00401000-00403000 r-xp 00001000 fe:00 1234                      /usr/bin/x\n"
		"7f0000000000-7f0000002000 r-xp 00002000 103:02 18446744073709551615 /a b/c  d \n"
		"7f0000010000-7f0000011000 rwxp 00000000 00:00 0 \n"
		"7f0000012000-7f0000013000 r-xp 00000000 00:00 0\n"
		"7f0000020000-7f0000021000 r-xs 00010000 00:01 5                 /memfd:jit (deleted)\n"
		"7f0000030000-7f0000031000 r-xp 00000000 fe:00 7 /old/lib.so (deleted)\n"
		"7f0000032000-7f0000033000 r-xp 00000000 fe:00 7 /a (deleted) (deleted)\n"
		"7f0000034000-7f0000035000 r-xp 00000000 fe:00 7 /x(deleted)\n"
		"7ffd1e5f7000-7ffd1e5f9000 r-xp 00000000 00:00 0                 [vdso]\n"
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0         [vsyscall]\n"
		"7f0000040000-7f0000041000 r-xp 00000000 fe:00 8 /new\\012line\n"
		"7f0000042000-7f0000043000 r-xp 00000000 fe:00 9 /not\\101octal\\\\\n";
	static const struct {
		uint64_t start, len, pgoff, ino;
		uint32_t dev_major, dev_minor;
		const char *path;
		bool deleted;
	} want[] = {
		{ 0x401000, 0x2000, 0x1000, 1234, 0xfe, 0, "/usr/bin/x", false },
		{ 0x7f0000000000, 0x2000, 0x2000, UINT64_MAX, 0x103, 2, "/a b/c  d ", false },
		{ 0x7f0000010000, 0x1000, 0, 0, 0, 0, "[anon]", false },
		{ 0x7f0000012000, 0x1000, 0, 0, 0, 0, "[anon]", false },
		{ 0x7f0000020000, 0x1000, 0x10000, 5, 0, 1, "/memfd:jit", true },
		{ 0x7f0000030000, 0x1000, 0, 7, 0xfe, 0, "/old/lib.so", true },
		{ 0x7f0000032000, 0x1000, 0, 7, 0xfe, 0, "/a (deleted)", true },
		{ 0x7f0000034000, 0x1000, 0, 7, 0xfe, 0, "/x(deleted)", false },
		{ 0x7ffd1e5f7000, 0x2000, 0, 0, 0, 0, "[vdso]", false },
		{ 0xffffffffff600000, 0x1000, 0, 0, 0, 0, "[vsyscall]", false },
		{ 0x7f0000040000, 0x1000, 0, 8, 0xfe, 0, "/new\nline", false },
		/* The kernel writes a newline as \012 and nothing else in octal. */
		{ 0x7f0000042000, 0x1000, 0, 9, 0xfe, 0, "/not\\101octal\\\\", false },
	};
	struct process_map m[32];

	(void)state;
	assert_int_equal(parse(text, m, SB_ARRAY_SIZE(m)), SB_ARRAY_SIZE(want));
	for (size_t i = 0; i < SB_ARRAY_SIZE(want); i++) {
		assert_true(m[i].start == want[i].start && m[i].len == want[i].len && m[i].pgoff == want[i].pgoff);
		assert_string_equal(m[i].path, want[i].path);
		assert_int_equal(m[i].deleted, want[i].deleted);
		assert_true(m[i].ino == want[i].ino);
		assert_true(m[i].dev == ((uint64_t)want[i].dev_major << 32 | want[i].dev_minor));
	}
}

static void test_no_lines(void **state)
{
	static const char *const texts[] = {
		"\n", "x\n", "00400000\n", "00400000-00401000\n", "00400000-00401000 r-xp\n",
		"00401000-00400000 r-xp 0 0:0 0 /backwards\n", "00400000-00400000 r-xp 0 0:0 0 /empty\n",
		"00400000-00401000 rw-p 0 0:0 0 /data\n", "00400000-00401000 r- 0 0:0 0 /short\n",
		"-1-2 r-xp 0 0:0 0 /x\n", "zz-zz r-xp 0 0:0 0 /x\n", "00400000-00401000 r-xp zz 0:0 0 /x\n",
	};
	struct process_map m[2];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(texts); i++) {
		if (parse(texts[i], m, 2))
			fail_msg("'%s' gave a mapping of %s", texts[i], m[0].path);
	}
}

/* Whoever can name a file can make a line of any length: what is beyond the limit is not the
 * beginning of another one, and a path that does not fit is not another path. */
static void test_long_lines(void **state)
{
	static char text[40000];
	struct process_map m[4];

	(void)state;
	for (size_t len = 100; len < 20000; len = len * 5 / 4) {
		size_t at = (size_t)sprintf(text, "00400000-00401000 r-xp 00000000 fe:00 1 /");

		while (at < len)
			at += (size_t)sprintf(text + at, "00500000-00501000 r-xp 00000000 fe:00 1 /forged ");
		strcpy(text + at, "\n00600000-00601000 r-xp 00000000 fe:00 1 /after\n");
		assert_int_equal(parse(text, m, 4), 2);
		assert_true(m[0].start == 0x400000);
		if (at - 40 >= sizeof(m[0].path))
			assert_string_equal(m[0].path, "[path too long]");
		assert_true(m[1].start == 0x600000);
		assert_string_equal(m[1].path, "/after");
	}
}

/* ---- real mappings ------------------------------------------------------------------ */

static const struct process_map *find_map(const struct process_map *m, int n, const void *addr)
{
	for (int i = 0; i < n; i++) {
		if (m[i].start == (uint64_t)(uintptr_t)addr)
			return &m[i];
	}
	return NULL;
}

static void test_odd_files(void **state)
{
	static const char *const names[] = {
		"plain", "with space", " leading", "trailing ", "new\nline", "back\\slash", "oct\\101al", "tab\there",
		"x (deleted)", "esc\033[2J", "\xff\xfe", "\"quotes'", "a\\012b",
	};
	static struct process_map m[1024];
	void *at[SB_ARRAY_SIZE(names)];
	char path[SB_ARRAY_SIZE(names)][300];
	struct stat st;
	int n;

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		int fd;

		snprintf(path[i], sizeof(path[i]), "%s/%s", top, names[i]);
		fd = open(path[i], O_CREAT | O_RDWR, 0755);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, 8192), 0);
		at[i] = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 4096);
		close(fd);
		if (at[i] == MAP_FAILED) {
			print_message("files in %s cannot be mapped executable\n", top);
			skip();
		}
	}
	n = process_maps_read((uint32_t)getpid(), 5000, m, SB_ARRAY_SIZE(m));
	assert_true(n > (int)SB_ARRAY_SIZE(names));
	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		const struct process_map *found = find_map(m, n, at[i]);

		assert_non_null(found);
		assert_true(found->len == 4096 && found->pgoff == 4096);
		assert_int_equal(stat(path[i], &st), 0);
		assert_true(found->ino == st.st_ino);
		/* Two are written as something else is: "x (deleted)" as a deleted "x". */
		if (!strcmp(names[i], "x (deleted)")) {
			assert_true(found->deleted);
			continue;
		}
		if (!strcmp(names[i], "a\\012b"))
			continue;
		assert_false(found->deleted);
		assert_string_equal(found->path, path[i]);
	}
	/* Deleted and replaced: the name is another file's now. */
	assert_int_equal(unlink(path[0]), 0);
	n = process_maps_read((uint32_t)getpid(), 5000, m, SB_ARRAY_SIZE(m));
	assert_true(find_map(m, n, at[0])->deleted);
	assert_string_equal(find_map(m, n, at[0])->path, path[0]);
	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++)
		munmap(at[i], 4096);
}

/* A library that an upgrade has deleted: no path leads to it. */
static void test_deleted(void **state)
{
	static struct process_map m[1024];
	uint32_t self = (uint32_t)getpid();
	struct process_map other;
	struct stat st, opened;
	char path[300];
	void *at;
	int fd, n;

	(void)state;
	snprintf(path, sizeof(path), "%s/library", top);
	fd = open(path, O_CREAT | O_RDWR, 0755);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(fstat(fd, &st), 0);
	at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	close(fd);
	assert_true(at != MAP_FAILED);
	assert_int_equal(unlink(path), 0);
	n = process_maps_read(self, 5000, m, SB_ARRAY_SIZE(m));
	other = *find_map(m, n, at);
	assert_true(process_open_mapped(self, &other) < 0);
	fd = process_open_map_file(self, &other, 5000);
	if (fd == -ENOENT && geteuid()) {
		print_message("no right to open what others have mapped\n");
		munmap(at, 4096);
		skip();
	}
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &opened), 0);
	assert_true(opened.st_ino == st.st_ino && opened.st_dev == st.st_dev);
	close(fd);
	/* Another file, or nothing, by now. */
	other.ino++;
	assert_int_equal(process_open_map_file(self, &other, 5000), -ESTALE);
	munmap(at, 4096);
	other.ino--;
	assert_int_equal(process_open_map_file(self, &other, 5000), -ENOENT);
}

static void test_read(void **state)
{
	static struct process_map m[1024];
	int n = process_maps_read((uint32_t)getpid(), 5000, m, SB_ARRAY_SIZE(m)), status;
	bool own = false, vdso = false;
	pid_t child;

	(void)state;
	assert_true(n >= 3);
	for (int i = 0; i < n; i++) {
		uint64_t here = (uint64_t)(uintptr_t)test_read;

		own |= here >= m[i].start && here - m[i].start < m[i].len && strstr(m[i].path, "test_procmaps");
		vdso |= !strcmp(m[i].path, "[vdso]");
	}
	assert_true(own && vdso);
	/* No more than there is room for, but how many there are. */
	m[2].len = 0;
	assert_int_equal(process_maps_read((uint32_t)getpid(), 5000, m, 2), n);
	assert_true(m[1].len && !m[2].len);
	assert_int_equal(process_maps_read((uint32_t)getpid(), 5000, m, (size_t)n), n);
	assert_int_equal(process_maps_read((uint32_t)getpid(), 5000, m, 0), n);
	/* One that is gone. */
	child = fork();
	if (child == 0)
		_exit(0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(process_maps_read((uint32_t)child, 5000, m, SB_ARRAY_SIZE(m)), -ESRCH);
}

static bool hold_pipes;
static pid_t holder;

/* As another thread would at that moment: a child that has everything open, and stands. */
static void fork_another(void)
{
	if (!hold_pipes)
		return;
	hold_pipes = false;
	holder = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (holder == 0) {
		syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		for (;;)
			syscall(SYS_pause);
	}
}

static void end_another(void)
{
	assert_true(holder > 0);
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	holder = 0;
}

static void test_forked_meanwhile(void **state)
{
	static struct process_map m[1024];
	struct process_map nothing = { .start = 4096, .len = 4096 };
	uint32_t self = (uint32_t)getpid();

	(void)state;
	assert_int_equal(pthread_atfork(NULL, fork_another, NULL), 0);
	hold_pipes = true;
	assert_true(process_maps_read(self, 5000, m, SB_ARRAY_SIZE(m)) >= 3);
	end_another();
	hold_pipes = true;
	assert_true(process_maps_read(self, 5000, m, 1) >= 3);
	end_another();
	hold_pipes = true;
	assert_int_equal(process_open_map_file(self, &nothing, 5000), -ENOENT);
	end_another();
}

static void test_open_file(void **state)
{
	char path[300], fifo[300], link[300];
	uint32_t self = (uint32_t)getpid();
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/regular", top);
	snprintf(fifo, sizeof(fifo), "%s/fifo", top);
	snprintf(link, sizeof(link), "%s/link", top);
	close(open(path, O_CREAT | O_RDWR, 0644));
	assert_int_equal(mkfifo(fifo, 0644), 0);
	assert_int_equal(symlink(path, link), 0);
	fd = process_open_file(self, path);
	assert_true(fd >= 0);
	close(fd);
	fd = process_open_file(self, link);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(process_open_file(self, fifo), -ENOEXEC); /* and does not wait */
	assert_int_equal(process_open_file(self, "/dev/null"), -ENOEXEC);
	assert_int_equal(process_open_file(self, top), -ENOEXEC);
	assert_int_equal(process_open_file(self, "relative"), -EINVAL);
	assert_int_equal(process_open_file(self, "[vdso]"), -EINVAL);
	assert_int_equal(process_open_file(self, "/nonexistent/file"), -ENOENT);
	/* A link of /proc leads out of the root: not followed. */
	assert_int_equal(process_open_file(self, "/proc/self/exe"), -ELOOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_no_lines),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_odd_files),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_forked_meanwhile),
		cmocka_unit_test(test_open_file),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
