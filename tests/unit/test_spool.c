// SPDX-License-Identifier: BSD-2-Clause
/* The directory of bundles: a name is there with all of its bytes or not at all, a full disk
 * leaves nothing half done. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "recorder/spool.h"
#include "tests/unit/scratch.h"

#define NO_GROUP ((gid_t)-1)

static int publish(const char *dir, const char *name, const char *text)
{
	struct iovec part = { (void *)text, strlen(text) };
	char as[BUNDLE_FILE_MAX];
	int r;

	snprintf(as, sizeof(as), "%s", name);
	r = spool_publish(dir, NO_GROUP, as, true, &part, 1);
	assert_string_equal(as, name);
	return r;
}

static int append(const char *dir, const char *name, uint64_t expect_len, const void *data, size_t len)
{
	struct iovec part = { (void *)data, len };

	return spool_append(dir, name, expect_len, &part, 1);
}

/* ---- names ------------------------------------------------------------------------- */

static void test_name(void **state)
{
	char name[BUNDLE_FILE_MAX], host[300], trigger[300];

	(void)state;
	spool_name(name, "db-7.example", 1795217630042, 1795217629999, "reclaim-age");
	assert_string_equal(name, "db-7.example-20261120T233350Z-reclaim-age.stall.pb.zst");
	spool_name(name, "db-7.example", 1795217630999, 1795217630042, "reclaim-age"); /* in the same second */
	assert_string_equal(name, "db-7.example-20261120T233350Z-reclaim-age_999.stall.pb.zst");
	spool_name(name, "../../etc", 0, 1000, "a/b c\n$(x)\xff");
	assert_string_equal(name, "host-19700101T000000Z-a_b_c___x__.stall.pb.zst");
	spool_name(name, "-rf", 0, 1000, "_");
	assert_string_equal(name, "host-19700101T000000Z-_.stall.pb.zst");
	assert_true(bundle_is_file_name(name));
	spool_name(name, "", 0, 1000, "");
	assert_string_equal(name, "host-19700101T000000Z-.stall.pb.zst");
	memset(host, 'h', sizeof(host) - 1);
	memset(trigger, 't', sizeof(trigger) - 1);
	host[sizeof(host) - 1] = trigger[sizeof(trigger) - 1] = '\0';
	spool_name(name, host, 1795217630999, 1795217630000, trigger);
	assert_true(bundle_is_file_name(name));
	assert_non_null(strstr(name, "h-20261120T233350Z-ttt"));
	assert_non_null(strstr(name, "t_999" BUNDLE_SUFFIX));
	assert_string_equal(name + strlen(name) - strlen(BUNDLE_SUFFIX), BUNDLE_SUFFIX);
}

/* A bundle in the second of the last one says so in its name: the next agent must know the last one's time. */
static void test_newest(void **state)
{
	const char *dir = new_dir("newest");
	const uint64_t last = 1795217630007;
	char name[BUNDLE_FILE_MAX];

	(void)state;
	assert_int_equal(spool_newest(dir, last), 0);
	assert_int_equal(spool_newest(at("nowhere"), last), 0);
	spool_name(name, "db-7-20200101.example", last - 5, last - 6, "a");
	assert_int_equal(publish(dir, name, "x"), 0);
	assert_int_equal(spool_newest(dir, last), last - 5);
	spool_name(name, "db-7-20200101.example", last, last - 5, "a-20300101T000000Z-");
	assert_int_equal(publish(dir, name, "x"), 0);
	assert_int_equal(spool_newest(dir, last), last);
	/* A clock that was set back is believed. */
	assert_int_equal(spool_newest(dir, last - 1), last - 5);
	spool_name(name, "db-7", last + 60000, 0, "a"); /* alone in its second: without the milliseconds */
	assert_int_equal(publish(dir, name, "x"), 0);
	assert_int_equal(spool_newest(dir, UINT64_MAX), (last + 60000) / 1000 * 1000);
}

/* ---- preparing --------------------------------------------------------------------- */

static void test_prepare_creates(void **state)
{
	static const char *const dirs[] = { "deep/er/captures", "slash/captures/", "slashes//captures//" };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(dirs); i++) {
		assert_int_equal(spool_prepare(at(dirs[i]), NO_GROUP), 0);
		assert_int_equal(mode_of(at(dirs[i])), 0750);
		assert_int_equal(count_files(at(dirs[i])), 0);
		assert_int_equal(spool_prepare(at(dirs[i]), NO_GROUP), 0);
	}
	assert_int_equal(mode_of(at("deep/er")), 0755);
	make_file(at("file"), 1);
	assert_int_equal(spool_prepare(at("file/captures"), NO_GROUP), -ENOTDIR);
	assert_int_equal(size_of(at("file")), 1);
}

/* Whoever may read bundles is of the group, whatever the process may do later. */
static void test_group(void **state)
{
	struct iovec part = { "x", 1 };
	char name[BUNDLE_FILE_MAX] = "a" BUNDLE_SUFFIX;
	struct spool s = { .group = "nogroup" }, none = { .group = "no such group" };
	gid_t gid = spool_gid(&s);
	struct stat st;

	(void)state;
	assert_int_equal(spool_gid(&none), NO_GROUP);
	assert_int_not_equal(gid, NO_GROUP);
	if (geteuid() != 0) {
		print_message("only root may give files to a group\n");
		skip();
	}
	assert_int_equal(spool_prepare(at("group/captures"), gid), 0);
	assert_int_equal(mode_of(at("group/captures")), 02750);
	assert_int_equal(spool_publish(at("group/captures"), NO_GROUP, name, false, &part, 1), 0); /* the directory's */
	assert_int_equal(stat(at("group/captures/a" BUNDLE_SUFFIX), &st), 0);
	assert_int_equal(st.st_gid, gid);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(spool_publish(new_dir("group-given"), gid, name, false, &part, 1), 0);
	assert_int_equal(stat(at("group-given/a" BUNDLE_SUFFIX), &st), 0);
	assert_int_equal(st.st_gid, gid);
	assert_int_equal(st.st_mode & 07777, 0640);
}

static void test_sweep(void **state)
{
	const char *dir = new_dir("swept");

	(void)state;
	make_file(at("swept/.tmp-1234-x.stall.pb.zst"), 10);
	make_file(at("swept/.tmp-check-1234"), 0);
	make_file(at("swept/bundle.stall.pb.zst"), 10);
	make_file(at("swept/.hidden"), 10);
	assert_int_equal(spool_sweep(dir, 3600), 0); /* too young */
	assert_int_equal(spool_sweep(dir, 0), 2);
	assert_int_equal(count_files(dir), 2);
	assert_true(exists(at("swept/bundle.stall.pb.zst")));
	assert_true(exists(at("swept/.hidden")));
	make_file(at("swept/.tmp-1234-y.stall.pb.zst"), 10);
	assert_int_equal(spool_prepare(dir, NO_GROUP), 0);
	assert_int_equal(count_files(dir), 2);
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
static pid_t stopped_writer(const char *dir, const char *name, char *data)
{
	struct iovec part = { data, LARGE };
	char as[BUNDLE_FILE_MAX];

	snprintf(as, sizeof(as), "%s", name);
	for (int attempt = 0; attempt < 20; attempt++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0)
			_exit(spool_publish(dir, NO_GROUP, as, true, &part, 1) == 0 ? 0 : 1);
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
	const char *dir = new_dir("busy");
	char *data = malloc(LARGE);
	pid_t child;
	int status;

	(void)state;
	assert_non_null(data);
	memset(data, 'x', LARGE);
	child = stopped_writer(dir, "a.stall.pb.zst", data);
	assert_int_equal(spool_prepare(dir, NO_GROUP), 0);
	kill(child, SIGCONT);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(size_of(at("busy/a.stall.pb.zst")), LARGE);
	/* Killed, it leaves something that goes. */
	child = stopped_writer(dir, "b.stall.pb.zst", data);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(has_temporary(dir));
	assert_int_equal(spool_prepare(dir, NO_GROUP), 0);
	assert_false(has_temporary(dir));
	free(data);
}

#define RACES 500

/* An agent starts while a storing process is between making its file and locking it. */
static void test_sweep_and_publish(void **state)
{
	const char *dir = new_dir("raced");
	struct iovec part = { "x", 1 };
	unsigned int failed = 0;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	while (child == 0)
		spool_sweep(dir, 0);
	for (int i = 0; i < RACES; i++) {
		char name[BUNDLE_FILE_MAX];

		snprintf(name, sizeof(name), "%d", i);
		failed += spool_publish(dir, NO_GROUP, name, true, &part, 1) < 0;
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(failed, 0);
	assert_int_equal(count_files(dir), RACES);
}

/* ---- publishing -------------------------------------------------------------------- */

static void test_publish(void **state)
{
	const char *dir = new_dir("publish");
	struct iovec parts[3] = { { "fir", 3 }, { "", 0 }, { "st", 2 } };
	char name[BUNDLE_FILE_MAX] = "a", got[16] = "";
	int fd;

	(void)state;
	assert_int_equal(spool_publish(dir, NO_GROUP, name, false, parts, 3), 0);
	assert_string_equal(name, "a");
	assert_int_equal(mode_of(at("publish/a")), 0640);
	fd = open(at("publish/a"), O_RDONLY);
	/* One that is meant to takes its place; who has the old one open keeps it. */
	assert_int_equal(publish(dir, "a", "2nd"), 0);
	assert_int_equal(read(fd, got, sizeof(got)), 5);
	assert_memory_equal(got, "first", 5);
	close(fd);
	assert_int_equal(size_of(at("publish/a")), 3);
	assert_int_equal(publish(dir, "empty", ""), 0);
	assert_int_equal(size_of(at("publish/empty")), 0);
	assert_int_equal(count_files(dir), 2);
	assert_int_equal(publish(at("nowhere"), "a", "x"), -ENOENT);
	assert_int_equal(publish(at("publish/a"), "a", "x"), -ENOTDIR);
	/* A directory of that name cannot be replaced: nothing else is left behind. */
	assert_int_equal(mkdir(at("publish/d"), 0755), 0);
	assert_int_equal(publish(dir, "d", "x"), -EISDIR);
	assert_int_equal(count_files(dir), 3);
}

/* The clock was set back to a second that has a bundle: both stay. */
static void test_publish_beside(void **state)
{
	const char *dir = new_dir("beside");
	char name[4][BUNDLE_FILE_MAX] = { "n" BUNDLE_SUFFIX, "n" BUNDLE_SUFFIX, "n" BUNDLE_SUFFIX, "no-bundle" };
	struct iovec part = { "x", 1 };

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(spool_publish(dir, NO_GROUP, name[i], false, &part, 1), 0);
	assert_string_equal(name[0], "n" BUNDLE_SUFFIX);
	assert_string_equal(name[1], "n_2" BUNDLE_SUFFIX);
	assert_string_equal(name[2], "n_3" BUNDLE_SUFFIX);
	assert_int_equal(spool_publish(dir, NO_GROUP, name[3], false, &part, 1), 0);
	assert_string_equal(name[3], "no-bundle_2");
	assert_int_equal(count_files(dir), 5);
}

#define BLOCK 300000

/* Whoever looks sees one of the two whole contents, whenever that is. */
static void test_publish_is_atomic(void **state)
{
	const char *dir = new_dir("atomic");
	char *data = malloc(BLOCK), *got = malloc(BLOCK + 1), name[BUNDLE_FILE_MAX] = "x";
	struct iovec part = { data, BLOCK };
	unsigned int seen[2] = {};
	pid_t child;
	int status;

	(void)state;
	memset(data, 'a', BLOCK);
	assert_int_equal(spool_publish(dir, NO_GROUP, name, false, &part, 1), 0);
	child = fork();
	assert_true(child >= 0);
	for (int i = 0; child == 0 && i < 200; i++) {
		memset(data, i % 2 ? 'a' : 'b', BLOCK);
		if (spool_publish(dir, NO_GROUP, name, true, &part, 1) < 0)
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
	struct iovec parts[2] = { { "-of", 3 }, { "-it", 3 } };
	char got[32] = "";
	int fd;

	(void)state;
	assert_int_equal(append(dir, "a", 0, "x", 1), -ENOENT);
	assert_int_equal(publish(dir, "a", "head"), 0);
	assert_int_equal(append(dir, "a", 4, "-tail", 5), 0);
	assert_int_equal(spool_append(dir, "a", 9, parts, 2), 0);
	/* Not the file that was published: it stays as it is. */
	assert_int_equal(append(dir, "a", 4, "again", 5), -ESTALE);
	assert_int_equal(append(dir, "a", 10, "again", 5), -ESTALE);
	fd = open(at("append/a"), O_RDONLY);
	assert_int_equal(read(fd, got, sizeof(got)), 15);
	close(fd);
	assert_string_equal(got, "head-tail-of-it");
	assert_int_equal(symlink("a", at("append/link")), 0);
	assert_int_equal(append(dir, "link", 15, "x", 1), -ELOOP);
}

static void test_remove(void **state)
{
	const char *dir = new_dir("remove");

	(void)state;
	assert_int_equal(publish(dir, "a", "x"), 0);
	assert_int_equal(spool_remove(dir, "a"), 0);
	assert_int_equal(spool_remove(dir, "a"), 0);
	assert_int_equal(spool_remove(at("nowhere"), "a"), 0);
	assert_int_equal(count_files(dir), 0);
}

/* ---- a full disk ------------------------------------------------------------------- */

#define DISK (256u << 10)

static int publish_bytes(const char *dir, char *data, size_t len)
{
	char name[BUNDLE_FILE_MAX] = "a";
	struct iovec part = { data, len };

	return spool_publish(dir, NO_GROUP, name, true, &part, 1);
}

static void test_full_disk(void **state)
{
	char *data = calloc(1, 2 * DISK);
	const char *dir = at("full");

	(void)state;
	if (!mount_small("full", DISK)) {
		free(data);
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	assert_int_equal(publish_bytes(dir, data, 2 * DISK), -ENOSPC);
	assert_int_equal(count_files(dir), 0);
	assert_int_equal(publish_bytes(dir, data, DISK / 2), 0);
	/* It cannot be replaced, it cannot grow: it stays as it was. */
	assert_int_equal(publish_bytes(dir, data, DISK), -ENOSPC);
	assert_int_equal(size_of(at("full/a")), DISK / 2);
	assert_int_equal(append(dir, "a", DISK / 2, data, DISK), -ENOSPC);
	assert_int_equal(size_of(at("full/a")), DISK / 2);
	assert_int_equal(count_files(dir), 1);
	/* The space that a failed append took is there again. */
	assert_int_equal(append(dir, "a", DISK / 2, data, DISK / 4), 0);
	free(data);
	assert_int_equal(umount(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_newest),
		cmocka_unit_test(test_prepare_creates),
		cmocka_unit_test(test_group),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_prepare_spares_a_writer),
		cmocka_unit_test(test_sweep_and_publish),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_publish_beside),
		cmocka_unit_test(test_publish_is_atomic),
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_full_disk),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
