// SPDX-License-Identifier: BSD-2-Clause
/* The directory of bundles: a name is there with all of its bytes or not at all, a full disk
 * leaves nothing half done, the cap takes the oldest. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "recorder/spool.h"

static char top[] = "/tmp/stallbox-test-spool.XXXXXX";

static const char *at(const char *name)
{
	static char path[8][512];
	static int turn;
	char *p = path[turn++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s", top, name);
	return p;
}

static void make_file(const char *path, size_t len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0640);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

static unsigned int mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* Everything in a directory, dots aside. */
static int count_files(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* Makes it; the path stays valid, at()'s is soon another one. */
static const char *new_dir(const char *name)
{
	static char path[32][512];
	static size_t n;

	assert_true(n < SB_ARRAY_SIZE(path));
	strcpy(path[n], at(name));
	assert_int_equal(mkdir(path[n], 0755), 0);
	return path[n++];
}

/* ---- names ------------------------------------------------------------------------- */

static void test_name(void **state)
{
	char name[SPOOL_NAME_MAX], host[300], trigger[300];

	(void)state;
	spool_name(name, "db-7.example", 1795217630042, "reclaim-age");
	assert_string_equal(name, "db-7.example-20261120T233350.042Z-reclaim-age.stall.pb.zst");
	spool_name(name, "../../etc", 0, "a/b c\n$(x)\xff");
	assert_string_equal(name, "host-19700101T000000.000Z-a_b_c___x__.stall.pb.zst");
	spool_name(name, "", 0, "");
	assert_string_equal(name, "host-19700101T000000.000Z-.stall.pb.zst");
	memset(host, 'h', sizeof(host) - 1);
	memset(trigger, 't', sizeof(trigger) - 1);
	host[sizeof(host) - 1] = trigger[sizeof(trigger) - 1] = '\0';
	spool_name(name, host, 1795217630999, trigger);
	assert_true(strlen(name) < SPOOL_NAME_MAX);
	assert_non_null(strstr(name, "h-20261120T233350.999Z-ttt"));
	assert_string_equal(name + strlen(name) - strlen(SPOOL_SUFFIX), SPOOL_SUFFIX);
}

/* ---- preparing --------------------------------------------------------------------- */

static void test_prepare_creates(void **state)
{
	static const char *const dirs[] = { "deep/er/captures", "slash/captures/", "slashes//captures//" };
	struct spool s = {};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(dirs); i++) {
		snprintf(s.dir, sizeof(s.dir), "%s", at(dirs[i]));
		assert_int_equal(spool_prepare(&s), 0);
		assert_int_equal(mode_of(s.dir), 0750);
		assert_int_equal(count_files(s.dir), 0);
		assert_int_equal(spool_prepare(&s), 0);
	}
	assert_int_equal(mode_of(at("deep/er")), 0755);
}

static void test_prepare_falls_back(void **state)
{
	struct spool s = {};

	(void)state;
	make_file(at("file"), 1);
	snprintf(s.dir, sizeof(s.dir), "%s", at("file/captures"));
	assert_int_equal(spool_prepare(&s), -ENOTDIR);
	snprintf(s.fallback, sizeof(s.fallback), "%s", at("other"));
	assert_int_equal(spool_prepare(&s), 0);
	assert_true(exists(at("other")));
	snprintf(s.fallback, sizeof(s.fallback), "%s", at("file/other"));
	assert_int_equal(spool_prepare(&s), -ENOTDIR);
	assert_int_equal(size_of(at("file")), 1);
}

static void test_prepare_sweeps(void **state)
{
	struct spool s = {};

	(void)state;
	snprintf(s.dir, sizeof(s.dir), "%s", new_dir("swept"));
	snprintf(s.fallback, sizeof(s.fallback), "%s", new_dir("swept-too"));
	make_file(at("swept/.tmp-1234-x.stall.pb.zst"), 10);
	make_file(at("swept/.tmp-check-1234"), 0);
	make_file(at("swept/bundle.stall.pb.zst"), 10);
	make_file(at("swept/.hidden"), 10);
	make_file(at("swept-too/.tmp-1234-y.stall.pb.zst"), 10);
	assert_int_equal(spool_prepare(&s), 0);
	assert_int_equal(count_files(s.dir), 2);
	assert_true(exists(at("swept/bundle.stall.pb.zst")));
	assert_true(exists(at("swept/.hidden")));
	assert_int_equal(count_files(s.fallback), 0);
}

#define LARGE (64u << 20)

static bool has_temporary(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	while (d && (e = readdir(d)))
		found |= !strncmp(e->d_name, ".tmp-", 5);
	closedir(d);
	return found;
}

/* A child in the middle of spool_publish(). */
static pid_t stopped_writer(const char *dir, const char *name, const char *data)
{
	for (int attempt = 0; attempt < 20; attempt++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0)
			_exit(spool_publish(dir, name, data, LARGE) == 0 ? 0 : 1);
		while (!has_temporary(dir) && waitpid(child, &status, WNOHANG) == 0)
			;
		kill(child, SIGSTOP);
		if (waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) &&
		    has_temporary(dir))
			return child;
		kill(child, SIGKILL); /* it was done already */
		waitpid(child, &status, 0);
	}
	fail_msg("no writer was met while it wrote");
	return -1;
}

/* An agent that starts while the storing process of the one before still writes. */
static void test_prepare_spares_a_writer(void **state)
{
	char *data = malloc(LARGE);
	struct spool s = {};
	pid_t child;
	int status;

	(void)state;
	assert_non_null(data);
	memset(data, 'x', LARGE);
	snprintf(s.dir, sizeof(s.dir), "%s", new_dir("busy"));
	child = stopped_writer(s.dir, "a.stall.pb.zst", data);
	assert_int_equal(spool_prepare(&s), 0);
	kill(child, SIGCONT);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(size_of(at("busy/a.stall.pb.zst")), LARGE);
	/* Killed, it leaves something that goes. */
	child = stopped_writer(s.dir, "b.stall.pb.zst", data);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(has_temporary(s.dir));
	assert_int_equal(spool_prepare(&s), 0);
	assert_false(has_temporary(s.dir));
	free(data);
}

/* ---- publishing -------------------------------------------------------------------- */

static void test_publish(void **state)
{
	const char *dir = new_dir("publish");
	char got[16] = "";
	int fd;

	(void)state;
	assert_int_equal(spool_publish(dir, "a", "first", 5), 0);
	assert_int_equal(mode_of(at("publish/a")), 0640);
	fd = open(at("publish/a"), O_RDONLY);
	/* A second one of that name takes its place; who has the old one open keeps it. */
	assert_int_equal(spool_publish(dir, "a", "2nd", 3), 0);
	assert_int_equal(read(fd, got, sizeof(got)), 5);
	assert_memory_equal(got, "first", 5);
	close(fd);
	assert_int_equal(size_of(at("publish/a")), 3);
	assert_int_equal(spool_publish(dir, "empty", "", 0), 0);
	assert_int_equal(size_of(at("publish/empty")), 0);
	assert_int_equal(count_files(dir), 2);
	assert_int_equal(spool_publish(at("nowhere"), "a", "x", 1), -ENOENT);
	assert_int_equal(spool_publish(at("publish/a"), "a", "x", 1), -ENOTDIR);
	/* A directory of that name cannot be replaced: nothing else is left behind. */
	assert_int_equal(mkdir(at("publish/d"), 0755), 0);
	assert_int_equal(spool_publish(dir, "d", "x", 1), -EISDIR);
	assert_int_equal(count_files(dir), 3);
}

#define BLOCK 300000

/* Whoever looks sees one of the two whole contents, whenever that is. */
static void test_publish_is_atomic(void **state)
{
	const char *dir = new_dir("atomic");
	char *data = malloc(BLOCK), *got = malloc(BLOCK + 1);
	unsigned int seen[2] = {};
	pid_t child;
	int status;

	(void)state;
	memset(data, 'a', BLOCK);
	assert_int_equal(spool_publish(dir, "x", data, BLOCK), 0);
	child = fork();
	assert_true(child >= 0);
	for (int i = 0; child == 0 && i < 200; i++) {
		memset(data, i % 2 ? 'a' : 'b', BLOCK);
		if (spool_publish(dir, "x", data, BLOCK) < 0)
			_exit(1);
	}
	if (child == 0)
		_exit(0);
	while (waitpid(child, &status, WNOHANG) == 0) {
		int fd = open(at("atomic/x"), O_RDONLY);

		assert_true(fd >= 0);
		assert_int_equal(read(fd, got, BLOCK + 1), BLOCK);
		close(fd);
		assert_true(got[0] == 'a' || got[0] == 'b');
		memset(data, got[0], BLOCK);
		assert_memory_equal(got, data, BLOCK);
		seen[got[0] - 'a']++;
	}
	assert_int_equal(status, 0);
	assert_true(seen[0] && seen[1]);
	assert_int_equal(count_files(dir), 1);
	free(data);
	free(got);
}

static void test_append(void **state)
{
	const char *dir = new_dir("append");
	char got[32] = "";
	int fd;

	(void)state;
	assert_int_equal(spool_append(dir, "a", 0, "x", 1), -ENOENT);
	assert_int_equal(spool_publish(dir, "a", "head", 4), 0);
	assert_int_equal(spool_append(dir, "a", 4, "-tail", 5), 0);
	/* Not the file that was published: it stays as it is. */
	assert_int_equal(spool_append(dir, "a", 4, "again", 5), -ESTALE);
	assert_int_equal(spool_append(dir, "a", 10, "again", 5), -ESTALE);
	fd = open(at("append/a"), O_RDONLY);
	assert_int_equal(read(fd, got, sizeof(got)), 9);
	close(fd);
	assert_string_equal(got, "head-tail");
	assert_int_equal(symlink("a", at("append/link")), 0);
	assert_int_equal(spool_append(dir, "link", 9, "x", 1), -ELOOP);
}

/* ---- a full disk ------------------------------------------------------------------- */

#define DISK (256u << 10)

/* A file system of DISK bytes at top/full, in a mount namespace of this process. */
static bool mount_small(void)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%u", DISK);
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", new_dir("full"), "tmpfs", 0, options) == 0;
}

static void test_full_disk(void **state)
{
	char *data = calloc(1, 2 * DISK);
	const char *dir = at("full");

	(void)state;
	if (!mount_small()) {
		free(data);
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	assert_int_equal(spool_publish(dir, "a", data, 2 * DISK), -ENOSPC);
	assert_int_equal(count_files(dir), 0);
	assert_int_equal(spool_publish(dir, "a", data, DISK / 2), 0);
	/* It cannot be replaced, it cannot grow: it stays as it was. */
	assert_int_equal(spool_publish(dir, "a", data, DISK), -ENOSPC);
	assert_int_equal(size_of(at("full/a")), DISK / 2);
	assert_int_equal(spool_append(dir, "a", DISK / 2, data, DISK), -ENOSPC);
	assert_int_equal(size_of(at("full/a")), DISK / 2);
	assert_int_equal(count_files(dir), 1);
	/* The space that a failed append took is there again. */
	assert_int_equal(spool_append(dir, "a", DISK / 2, data, DISK / 4), 0);
	free(data);
	assert_int_equal(umount(dir), 0);
}

/* ---- the cap ----------------------------------------------------------------------- */

/* A bundle of 100 bytes, last written at `sec`, `nsec`. */
static void make_bundle(const char *path, time_t sec, long nsec)
{
	struct timespec t[2] = { { sec, nsec }, { sec, nsec } };

	make_file(path, 100);
	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static struct spool cap_spool(const char *name, uint64_t max_use_bytes)
{
	struct spool s = { .max_use_bytes = max_use_bytes };
	char other[64];

	snprintf(other, sizeof(other), "%s-fallback", name);
	snprintf(s.dir, sizeof(s.dir), "%s", new_dir(name));
	snprintf(s.fallback, sizeof(s.fallback), "%s", new_dir(other));
	return s;
}

static void test_cap(void **state)
{
	struct spool s = cap_spool("cap", 0);

	(void)state;
	make_bundle(at("cap/c.stall.pb.zst"), 300, 0);
	make_bundle(at("cap/a.stall.pb.zst"), 100, 0);
	make_bundle(at("cap-fallback/b.stall.pb.zst"), 200, 0);
	make_bundle(at("cap/d.stall.pb.zst"), 400, 0);
	make_file(at("cap/notes.txt"), 1000000); /* not ours: not counted, not deleted */
	assert_int_equal(spool_vacuum(&s, ""), 0); /* no cap */
	s.max_use_bytes = 400;
	assert_int_equal(spool_vacuum(&s, ""), 0);
	s.max_use_bytes = 399;
	assert_int_equal(spool_vacuum(&s, ""), 1);
	assert_false(exists(at("cap/a.stall.pb.zst")));
	s.max_use_bytes = 250; /* both directories count together */
	assert_int_equal(spool_vacuum(&s, ""), 1);
	assert_false(exists(at("cap-fallback/b.stall.pb.zst")));
	/* The newest stays, and the one to keep, however small the cap. */
	make_bundle(at("cap/e.stall.pb.zst"), 500, 0);
	s.max_use_bytes = 1;
	assert_int_equal(spool_vacuum(&s, "c.stall.pb.zst"), 1);
	assert_true(exists(at("cap/c.stall.pb.zst")));
	assert_true(exists(at("cap/e.stall.pb.zst")));
	assert_int_equal(spool_vacuum(&s, ""), 1);
	assert_int_equal(spool_vacuum(&s, ""), 0);
	assert_int_equal(count_files(s.dir), 2); /* the newest and the notes */
}

static void test_cap_within_a_second(void **state)
{
	struct spool s = cap_spool("second", 250);

	(void)state;
	make_bundle(at("second/y.stall.pb.zst"), 100, 2000);
	make_bundle(at("second/x.stall.pb.zst"), 100, 1000);
	make_bundle(at("second/z.stall.pb.zst"), 100, 3000);
	assert_int_equal(spool_vacuum(&s, ""), 1);
	assert_false(exists(at("second/x.stall.pb.zst")));
}

/* What only looks like a bundle takes no room and is in nobody's way. */
static void test_cap_of_odd_things(void **state)
{
	struct spool s = cap_spool("odd", 250);

	(void)state;
	make_file(at("big"), 1000);
	assert_int_equal(symlink(at("big"), at("odd/l.stall.pb.zst")), 0);
	assert_int_equal(mkdir(at("odd/d.stall.pb.zst"), 0755), 0);
	make_bundle(at("odd/a.stall.pb.zst"), 100, 0);
	make_bundle(at("odd/b.stall.pb.zst"), 200, 0);
	assert_int_equal(spool_vacuum(&s, ""), 0);
	make_bundle(at("odd/c.stall.pb.zst"), 300, 0);
	assert_int_equal(spool_vacuum(&s, ""), 1);
	assert_false(exists(at("odd/a.stall.pb.zst")));
	assert_true(exists(at("big")));
	snprintf(s.dir, sizeof(s.dir), "%s", at("nowhere"));
	assert_int_equal(spool_vacuum(&s, ""), 0);
}

static int set_up(void **state)
{
	(void)state;
	umask(022);
	return mkdtemp(top) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_prepare_creates),
		cmocka_unit_test(test_prepare_falls_back),
		cmocka_unit_test(test_prepare_sweeps),
		cmocka_unit_test(test_prepare_spares_a_writer),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_publish_is_atomic),
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_cap_within_a_second),
		cmocka_unit_test(test_cap_of_odd_things),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
