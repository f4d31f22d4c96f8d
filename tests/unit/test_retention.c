// SPDX-License-Identifier: BSD-2-Clause
/* Which bundles stay: by size, free space and age the oldest go, never the newest, never one that waits for its
 * upload; and what is no bundle goes to quarantine. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "format/uploaded.h"
#include "recorder/keeper.h"
#include "recorder/options.h"
#include "recorder/quarantine.h"
#include "recorder/retention.h"
#include "tests/unit/scratch.h"

/* Takes the place of libc's: what is named so was changed an hour ago, which no call can set. */
#define LEFT_LONG_AGO ".tmp-1"
static void (*during_look)(const char *name); /* has been looked at */
int fstatat(int dirfd, const char *name, struct stat *st, int flags)
{
	int r = (int)syscall(SYS_newfstatat, dirfd, name, st, flags);

	if (r == 0 && during_look)
		during_look(name);
	if (r == 0 && !strcmp(name, LEFT_LONG_AGO))
		st->st_ctim.tv_sec -= 3600;
	return r;
}

/* Of bundles, where a test counts them for all its processes. Before it is deleted: whoever finds it gone finds it counted. */
static uint64_t *all_bytes;
int unlinkat(int dirfd, const char *name, int flags)
{
	struct stat st;
	bool counts = all_bytes && bundle_is_file_name(name) && fstatat(dirfd, name, &st, 0) == 0;
	int r;

	if (counts)
		__atomic_fetch_sub(all_bytes, (uint64_t)st.st_size, __ATOMIC_SEQ_CST);
	r = (int)syscall(SYS_unlinkat, dirfd, name, flags);
	if (counts && r < 0)
		__atomic_fetch_add(all_bytes, (uint64_t)st.st_size, __ATOMIC_SEQ_CST);
	return r;
}

/* A bundle of `len` bytes, last written at `sec`, `nsec`. */
static void make_sized(const char *path, size_t len, time_t sec, long nsec)
{
	struct timespec t[2] = { { sec, nsec }, { sec, nsec } };

	make_file(path, len);
	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void make_bundle(const char *path, time_t sec, long nsec)
{
	make_sized(path, 100, sec, nsec);
}

static struct spool two_dirs(const char *name)
{
	struct spool s = {};
	char other[64];

	snprintf(other, sizeof(other), "%s-fallback", name);
	snprintf(s.dir, sizeof(s.dir), "%s", new_dir(name));
	snprintf(s.fallback, sizeof(s.fallback), "%s", new_dir(other));
	return s;
}

static unsigned int enforce(const struct spool *s, struct storage *st, uint64_t max_use_bytes)
{
	st->limits.max_use_bytes = max_use_bytes;
	return retention_enforce(s, 0, st);
}

/* What a writer is told that then writes nothing. */
static int room(const struct spool *s, enum spool_which which, uint64_t need, const char *keep, struct storage *st)
{
	struct storage_claim *claim;
	int r = retention_claim(s, which, need, keep, st, &claim);

	if (r == 0)
		retention_settle(&st->dir[which], claim, 0);
	return r;
}

static void test_max_use(void **state)
{
	struct spool s = two_dirs("cap");
	struct storage st = {};

	(void)state;
	make_bundle(at("cap/c.stall.pb.zst"), 300, 0);
	make_bundle(at("cap/a.stall.pb.zst"), 100, 0);
	make_bundle(at("cap-fallback/b.stall.pb.zst"), 200, 0);
	make_bundle(at("cap/d.stall.pb.zst"), 400, 0);
	make_file(at("cap/notes.txt"), 1000000); /* not ours: not counted, not deleted */
	assert_int_equal(enforce(&s, &st, 0), 0); /* no limit */
	assert_int_equal(st.dir[SPOOL_FIRST].bundles, 3);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 300);
	assert_int_equal(retention_used(&st.dir[SPOOL_FALLBACK]), 100);
	assert_int_equal(enforce(&s, &st, 400), 0);
	assert_int_equal(enforce(&s, &st, 399), 1);
	assert_false(exists(at("cap/a.stall.pb.zst")));
	assert_int_equal(enforce(&s, &st, 250), 1); /* both directories count together */
	assert_false(exists(at("cap-fallback/b.stall.pb.zst")));
	/* The newest stays, however small the limit. */
	make_bundle(at("cap-fallback/e.stall.pb.zst"), 500, 0);
	assert_int_equal(enforce(&s, &st, 1), 2);
	assert_true(exists(at("cap-fallback/e.stall.pb.zst")));
	assert_int_equal(enforce(&s, &st, 1), 0);
	assert_int_equal(count_files(s.dir), 1); /* the notes */
	assert_int_equal(st.deleted[STORAGE_MAX_USE], 4);
	assert_int_equal(st.deleted_bytes, 400);
	assert_int_equal(st.dir[SPOOL_FIRST].bundles, 0);
	assert_int_equal(st.dir[SPOOL_FALLBACK].bundles, 1);
}

/* The fallback is the first directory under another name: each bundle is one. */
static void test_one_directory(void **state)
{
	struct spool s = { .fallback = "" };
	struct storage st = {};

	(void)state;
	snprintf(s.dir, sizeof(s.dir), "%s", new_dir("one"));
	snprintf(s.fallback, sizeof(s.fallback), "%s", at("other-name"));
	assert_int_equal(symlink(s.dir, s.fallback), 0);
	make_bundle(at("one/a.stall.pb.zst"), 100, 0);
	make_bundle(at("one/b.stall.pb.zst"), 200, 0);
	assert_int_equal(enforce(&s, &st, 200), 0);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]) + retention_used(&st.dir[SPOOL_FALLBACK]), 200);
	assert_int_equal(enforce(&s, &st, 199), 1);
	assert_true(exists(at("one/b.stall.pb.zst")));
}

/* More than one look at the directories, and the reserve for the next one. */
static void test_max_use_of_many(void **state)
{
	struct spool s = two_dirs("many");
	struct storage st = { .limits.max_use_bytes = 1000 };
	char name[64];

	(void)state;
	for (int i = 0; i < 211; i++) {
		snprintf(name, sizeof(name), "many%s/%d.stall.pb.zst", i % 3 ? "" : "-fallback", i);
		make_bundle(at(name), 1000, (i * 7 % 211) * 1000); /* in another order than the names */
	}
	assert_int_equal(retention_enforce(&s, 100, &st), 202);
	assert_int_equal(count_files(s.dir) + count_files(s.fallback), 9);
	for (int i = 0; i < 211; i++) {
		snprintf(name, sizeof(name), "many%s/%d.stall.pb.zst", i % 3 ? "" : "-fallback", i);
		assert_int_equal(exists(at(name)), i * 7 % 211 >= 202);
	}
}

/* What only looks like a bundle takes no room and is in nobody's way. */
static void test_odd_things(void **state)
{
	struct spool s = two_dirs("odd");
	struct storage st = {};

	(void)state;
	make_file(at("big"), 1000);
	assert_int_equal(symlink(at("big"), at("odd/l.stall.pb.zst")), 0);
	assert_int_equal(mkdir(at("odd/d.stall.pb.zst"), 0755), 0);
	make_bundle(at("odd/a.stall.pb.zst"), 100, 0);
	make_bundle(at("odd/b.stall.pb.zst"), 200, 0);
	assert_int_equal(enforce(&s, &st, 250), 0);
	make_bundle(at("odd/c.stall.pb.zst"), 300, 0);
	assert_int_equal(enforce(&s, &st, 250), 1);
	assert_false(exists(at("odd/a.stall.pb.zst")));
	assert_true(exists(at("big")));
	snprintf(s.dir, sizeof(s.dir), "%s", at("nowhere"));
	assert_int_equal(enforce(&s, &st, 250), 0);
}

static void test_max_age(void **state)
{
	struct spool s = two_dirs("age");
	struct storage st = { .limits.max_age_ns = 1000 * NSEC_PER_SEC };
	time_t now = time(NULL);

	(void)state;
	make_bundle(at("age/young.stall.pb.zst"), now - 900, 0);
	make_bundle(at("age/old.stall.pb.zst"), now - 1100, 0);
	make_bundle(at("age-fallback/older.stall.pb.zst"), now - 5000, 0);
	assert_int_equal(retention_enforce(&s, 0, &st), 2);
	assert_true(exists(at("age/young.stall.pb.zst")));
	assert_int_equal(st.deleted[STORAGE_MAX_AGE], 2);
	/* However old, the newest stays. */
	make_bundle(at("age/young.stall.pb.zst"), now - 5000, 0);
	assert_int_equal(retention_enforce(&s, 0, &st), 0);
}

static void mark(const char *dir, const char *name)
{
	_cleanup_close_ int fd = open(dir, O_DIRECTORY | O_RDONLY);
	struct stat st;

	assert_int_equal(fstatat(fd, name, &st, 0), 0);
	assert_int_equal(uploaded_mark(fd, name, &st), 0);
}

/* Until they are uploaded bundles stay, and there is no room for another one. */
static void test_uploads(void **state)
{
	struct spool s = two_dirs("up");
	struct storage st = { .limits = { .max_use_bytes = 250, .max_age_ns = NSEC_PER_SEC, .wait_upload = true } };

	(void)state;
	make_bundle(at("up/a.stall.pb.zst"), 100, 0);
	make_bundle(at("up/b.stall.pb.zst"), 200, 0);
	make_bundle(at("up/c.stall.pb.zst"), 300, 0);
	assert_int_equal(retention_enforce(&s, 0, &st), 0);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 300);
	assert_int_equal(room(&s, SPOOL_FIRST, 100, "", &st), -EDQUOT);
	assert_int_equal(st.dir[SPOOL_FIRST].claim[0].bytes, 0); /* what is refused is not claimed */
	assert_int_equal(room(&s, SPOOL_FALLBACK, 100, "", &st), 0); /* it cannot help there */
	mark(s.dir, "b.stall.pb.zst");
	assert_int_equal(room(&s, SPOOL_FIRST, 50, "", &st), 0); /* a and c: no more than c beyond the limit */
	assert_false(exists(at("up/b.stall.pb.zst")));
	assert_false(exists(at("up/" UPLOADED_DIR "/b.stall.pb.zst"))); /* its mark goes with it */
	mark(s.dir, "a.stall.pb.zst");
	make_bundle(at("up/a.stall.pb.zst"), 150, 0); /* changed since: not uploaded any more */
	assert_int_equal(retention_enforce(&s, 0, &st), 0);
	mark(s.dir, "a.stall.pb.zst");
	assert_int_equal(retention_enforce(&s, 0, &st), 1);
	assert_int_equal(st.deleted[STORAGE_MAX_USE] + st.deleted[STORAGE_MAX_AGE], 2);
	/* One that is larger than the limit is no reason to refuse the next. */
	st.limits.max_use_bytes = 10;
	assert_int_equal(room(&s, SPOOL_FIRST, 100, "", &st), 0);
	assert_true(exists(at("up/c.stall.pb.zst")));
}

/* A while after it was uploaded a bundle goes; the newest stays. */
static void test_delete_after(void **state)
{
	struct spool s = two_dirs("after");
	struct storage st = { .limits.delete_after_ns = 1000 * NSEC_PER_SEC };
	struct timespec long_ago[2] = { { time(NULL) - 2000, 0 }, { time(NULL) - 2000, 0 } };

	(void)state;
	make_bundle(at("after/a.stall.pb.zst"), 100, 0);
	make_bundle(at("after/b.stall.pb.zst"), 200, 0);
	make_bundle(at("after/c.stall.pb.zst"), 300, 0);
	mark(s.dir, "a.stall.pb.zst");
	mark(s.dir, "c.stall.pb.zst");
	assert_int_equal(retention_enforce(&s, 0, &st), 0); /* just now */
	assert_int_equal(utimensat(AT_FDCWD, at("after/" UPLOADED_DIR "/a.stall.pb.zst"), long_ago, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, at("after/" UPLOADED_DIR "/c.stall.pb.zst"), long_ago, 0), 0);
	assert_int_equal(retention_enforce(&s, 0, &st), 1);
	assert_false(exists(at("after/a.stall.pb.zst")));
	assert_true(exists(at("after/b.stall.pb.zst")));
	assert_true(exists(at("after/c.stall.pb.zst")));
	assert_int_equal(st.deleted[STORAGE_UPLOADED], 1);
}

/* Those that are due go first, wherever they are among the others: behind more that were uploaded just now than one
 * look at a directory takes, and before older ones that MaxUse would ask for. */
static void test_delete_after_of_many(void **state)
{
	struct spool s = two_dirs("backlog");
	struct storage st = { .limits = { .delete_after_ns = 1000 * NSEC_PER_SEC, .max_use_bytes = 7000 } };
	struct timespec long_ago[2] = { { time(NULL) - 2000, 0 }, { time(NULL) - 2000, 0 } };
	char name[64], path[512];

	(void)state;
	for (int i = 0; i < 75; i++) {
		snprintf(name, sizeof(name), "%02d.stall.pb.zst", i);
		snprintf(path, sizeof(path), "%s/%s", s.dir, name);
		make_bundle(path, 1000 + i, 0);
		mark(s.dir, name);
		snprintf(path, sizeof(path), "%s/" UPLOADED_DIR "/%s", s.dir, name);
		if (i >= 66)
			assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
	}
	assert_int_equal(retention_enforce(&s, 0, &st), 8); /* the newest stays */
	assert_int_equal(st.deleted[STORAGE_UPLOADED], 8);
	assert_true(exists(at("backlog/00.stall.pb.zst")));
	assert_true(exists(at("backlog/74.stall.pb.zst")));
}

static void test_room(void **state)
{
	struct spool s = two_dirs("room");
	struct storage st = { .limits.max_use_bytes = 500 };

	(void)state;
	make_bundle(at("room/a.stall.pb.zst"), 100, 0);
	make_bundle(at("room/b.stall.pb.zst"), 200, 0);
	make_bundle(at("room/c.stall.pb.zst"), 300, 0);
	make_bundle(at("room-fallback/d.stall.pb.zst"), 50, 0);
	retention_enforce(&s, 0, &st);
	assert_int_equal(room(&s, SPOOL_FIRST, 100, "", &st), 0);
	assert_int_equal(count_files(s.dir), 3);
	assert_int_equal(room(&s, SPOOL_FIRST, 101, "a.stall.pb.zst", &st), 0); /* not what is being written */
	assert_true(exists(at("room/a.stall.pb.zst")));
	assert_false(exists(at("room/b.stall.pb.zst")));
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 200);
	/* Only its own directory is looked at; the newest stays in each. */
	assert_int_equal(room(&s, SPOOL_FALLBACK, 400, "", &st), 0);
	assert_true(exists(at("room-fallback/d.stall.pb.zst")));
	assert_int_equal(count_files(s.dir), 2);
	snprintf(s.dir, sizeof(s.dir), "%s", at("nowhere"));
	assert_int_equal(room(&s, SPOOL_FIRST, 1, "", &st), -ENOENT);
}

/* Those that write at the same time see each other's claims. */
static void test_claims(void **state)
{
	struct spool s = two_dirs("claims");
	struct storage st = { .limits.max_use_bytes = 1000 };
	struct storage_claim *claim[4];
	char name[64];

	(void)state;
	for (int i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "claims/%d.stall.pb.zst", i);
		make_bundle(at(name), 100 + i, 0);
	}
	make_bundle(at("claims-fallback/f.stall.pb.zst"), 50, 0);
	retention_enforce(&s, 0, &st);
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 150, "", &st, &claim[0]), 0); /* 800 are there */
	assert_int_equal(count_files(s.dir), 7);
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 150, "", &st, &claim[1]), 0); /* 1,100 */
	assert_int_equal(count_files(s.dir), 6);
	assert_false(exists(at("claims/0.stall.pb.zst")));
	assert_int_equal(retention_claim(&s, SPOOL_FALLBACK, 100, "", &st, &claim[2]), 0); /* 1,100: nothing there may go */
	assert_true(exists(at("claims-fallback/f.stall.pb.zst")));
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 1, "", &st, &claim[3]), 0); /* and counts here: 1,101 */
	assert_int_equal(count_files(s.dir), 4);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 400); /* claims are no bundles */
	/* One that failed takes nothing any more. */
	retention_settle(&st.dir[SPOOL_FIRST], claim[0], 0);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 400);
	/* One that is written is a bundle, of the size that it came to. */
	make_sized(at("claims/new.stall.pb.zst"), 140, 200, 0);
	retention_settle(&st.dir[SPOOL_FIRST], claim[1], 140);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 540);
	retention_settle(&st.dir[SPOOL_FALLBACK], claim[2], 0);
	retention_settle(&st.dir[SPOOL_FIRST], claim[3], 0);
	assert_int_equal(room(&s, SPOOL_FIRST, 360, "", &st), 0); /* 100 + 540 + 360 */
	assert_int_equal(count_files(s.dir), 5);
	assert_int_equal(room(&s, SPOOL_FIRST, 361, "", &st), 0);
	assert_int_equal(count_files(s.dir), 4);
	snprintf(s.dir, sizeof(s.dir), "%s", at("nowhere"));
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 900, "", &st, &claim[0]), -ENOENT);
	assert_int_equal(st.dir[SPOOL_FIRST].claim[0].bytes, 0);
}

/* A look at the directory while others write: it forgets neither what is claimed nor what was written meanwhile. */
static void test_claims_and_looks(void **state)
{
	struct spool s = two_dirs("looks");
	struct storage st = { .limits.max_use_bytes = 1000 };
	struct storage_claim *a, *b;

	(void)state;
	for (int i = 0; i < 5; i++) {
		char name[64];

		snprintf(name, sizeof(name), "looks/%d.stall.pb.zst", i);
		make_bundle(at(name), 100 + i, 0);
	}
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 300, "", &st, &a), 0);
	assert_int_equal(retention_enforce(&s, 200, &st), 0); /* 500 + 300 + 200 */
	assert_int_equal(retention_enforce(&s, 201, &st), 1);
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 300, "", &st, &b), 0); /* 400 + 300 + 300 */
	assert_int_equal(count_files(s.dir), 4);
	make_sized(at("looks/a.stall.pb.zst"), 300, 200, 0);
	retention_settle(&st.dir[SPOOL_FIRST], a, 300);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 700);
	retention_enforce(&s, 0, &st);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 700);
	/* It is there already, and its writer has not said so: it counts twice until the next look, never less than once. */
	make_sized(at("looks/b.stall.pb.zst"), 300, 300, 0);
	st.limits.max_use_bytes = 0;
	retention_enforce(&s, 0, &st);
	retention_settle(&st.dir[SPOOL_FIRST], b, 300);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 1300);
	retention_enforce(&s, 0, &st);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 1000);
}

static struct storage *looked_at;
static struct storage_claim *under_way;
static void settle_meanwhile(const char *name)
{
	(void)name;
	during_look = NULL;
	retention_settle(&looked_at->dir[SPOOL_FIRST], under_way, 300);
}

static void delete_meanwhile(const char *name)
{
	if (strcmp(name, "b.stall.pb.zst"))
		return;
	during_look = NULL;
	assert_int_equal(unlink(at("during/b.stall.pb.zst")), 0);
}

/* In the middle of a look others end to write, and delete. */
static void test_during_a_look(void **state)
{
	struct spool s = two_dirs("during");
	struct storage st = { .limits.max_use_bytes = 1150 };

	(void)state;
	make_bundle(at("during/a.stall.pb.zst"), 100, 0);
	make_bundle(at("during/b.stall.pb.zst"), 200, 0);
	make_bundle(at("during/c.stall.pb.zst"), 300, 0);
	make_bundle(at("during/d.stall.pb.zst"), 400, 0);
	retention_enforce(&s, 0, &st);
	assert_int_equal(retention_claim(&s, SPOOL_FIRST, 300, "", &st, &under_way), 0);
	looked_at = &st;
	during_look = settle_meanwhile;
	assert_int_equal(room(&s, SPOOL_FIRST, 500, "", &st), 0); /* 400 + 300 + 500: somebody has to look */
	assert_null(during_look);
	assert_int_equal(count_files(s.dir), 3);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 300 + 300);
	/* What somebody else has deleted is room: no other one has to go for it. */
	st.limits.max_use_bytes = 250;
	during_look = delete_meanwhile;
	assert_int_equal(retention_enforce(&s, 0, &st), 0);
	assert_null(during_look);
	assert_true(exists(at("during/c.stall.pb.zst")));
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 200);
	assert_int_equal(st.deleted[STORAGE_MAX_USE], 1);
}

/* A process that is killed while it writes: what it claimed is taken until somebody has looked. */
static void test_claim_of_the_dead(void **state)
{
	struct spool s = two_dirs("dead");
	struct storage *st = mmap(NULL, sizeof(*st), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct storage_claim *claim;
	pid_t pid;

	(void)state;
	assert_true(st != MAP_FAILED);
	st->limits.max_use_bytes = 1000;
	make_bundle(at("dead/a.stall.pb.zst"), 100, 0);
	make_bundle(at("dead/b.stall.pb.zst"), 200, 0);
	retention_enforce(&s, 0, st);
	pid = fork();
	if (pid == 0)
		_exit(-retention_claim(&s, SPOOL_FIRST, 700, "", st, &claim));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(room(&s, SPOOL_FIRST, 100, "", st), 0); /* 200 + 700 + 100 */
	assert_int_equal(count_files(s.dir), 2);
	assert_int_equal(retention_used(&st->dir[SPOOL_FIRST]), 900);
	assert_int_equal(retention_enforce(&s, 0, st), 0);
	assert_int_equal(retention_used(&st->dir[SPOOL_FIRST]), 200);
	/* Those that live: no more of them than have a place to say so. */
	for (int i = 0; i < STORAGE_CLAIMS; i++)
		assert_int_equal(retention_claim(&s, SPOOL_FIRST, 1, "", st, &claim), 0);
	assert_int_equal(room(&s, SPOOL_FIRST, 1, "", st), -EBUSY);
	retention_settle(&st->dir[SPOOL_FIRST], claim, 0);
	assert_int_equal(room(&s, SPOOL_FIRST, 1, "", st), 0);
	munmap(st, sizeof(*st));
}

#define WRITERS 8
#define ROUNDS	40
#define FIRST	(8u << 10)
#define SECOND	(4u << 10)

/* Writes and appends, as captures do. -EDQUOT: now there is more than the limit. */
static int write_bundle(const struct spool *s, struct storage *st, char name[BUNDLE_FILE_MAX])
{
	char data[FIRST] = {};
	struct iovec part[2] = { { data, FIRST }, { data, SECOND } };
	int r = 0;

	for (size_t half = 0; r == 0 && half < 2; half++) {
		size_t len = part[half].iov_len;
		struct storage_claim *claim;

		r = retention_claim(s, SPOOL_FIRST, len, name, st, &claim);
		if (r < 0)
			return r;
		if (__atomic_add_fetch(all_bytes, len, __ATOMIC_SEQ_CST) > st->limits.max_use_bytes)
			return -EDQUOT;
		if (half)
			r = spool_append(s->dir, name, FIRST, part + 1, 1);
		else
			r = spool_publish(s->dir, (gid_t)-1, name, false, part, 1);
		retention_settle(&st->dir[SPOOL_FIRST], claim, r < 0 ? 0 : len);
	}
	return r;
}

/*
 * Processes that write at the same time, and one that looks all the time: there is never more than the limit. Two
 * thirds of it are of earlier rounds, so that none of those under way is the oldest.
 */
static void test_claims_of_many(void **state)
{
	struct spool s = two_dirs("crowd");
	struct {
		struct storage st;
		uint64_t all_bytes;
	} *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct storage *st = &shared->st;

	(void)state;
	assert_true(shared != MAP_FAILED);
	all_bytes = &shared->all_bytes;
	st->limits.max_use_bytes = 3 * WRITERS * (FIRST + SECOND);
	for (int round = 0; round < ROUNDS; round++) {
		int status, running = WRITERS;

		for (int w = 0; w < WRITERS; w++) {
			char name[BUNDLE_FILE_MAX];

			snprintf(name, sizeof(name), "%02d-%d.stall.pb.zst", round, w);
			if (fork() == 0)
				_exit(-write_bundle(&s, st, name));
		}
		while (running) {
			retention_enforce(&s, 0, st);
			if (waitpid(-1, &status, WNOHANG) > 0) {
				assert_int_equal(status, 0);
				running--;
			}
		}
	}
	all_bytes = NULL;
	retention_enforce(&s, 0, st);
	assert_int_equal(retention_used(&st->dir[SPOOL_FIRST]), shared->all_bytes);
	assert_in_range(shared->all_bytes, st->limits.max_use_bytes / 3, st->limits.max_use_bytes);
	munmap(shared, sizeof(*shared));
}

#define DISK (1u << 20)

static void test_keep_free(void **state)
{
	struct spool s = {};
	struct storage st = { .limits.keep_free_bytes = DISK / 4 };
	char data[DISK / 8], name[BUNDLE_FILE_MAX];
	struct iovec part = { data, sizeof(data) };
	struct statvfs v;

	(void)state;
	if (!mount_small("small", DISK)) {
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	memset(data, 'x', sizeof(data));
	snprintf(s.dir, sizeof(s.dir), "%s", at("small"));
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "%d.stall.pb.zst", i);
		assert_int_equal(room(&s, SPOOL_FIRST, sizeof(data), name, &st), 0);
		assert_int_equal(spool_publish(s.dir, (gid_t)-1, name, false, &part, 1), 0);
	}
	assert_int_equal(count_files(s.dir), 6);
	assert_int_equal(room(&s, SPOOL_FIRST, sizeof(data), "", &st), 0);
	assert_int_equal(count_files(s.dir), 5);
	assert_false(exists(at("small/0.stall.pb.zst")));
	assert_int_equal(st.deleted[STORAGE_KEEP_FREE], 1);
	/* Somebody else fills the disk: all that may go goes, and there is no room. */
	make_file(at("small/other"), 0);
	assert_int_equal(statvfs(s.dir, &v), 0);
	{
		_cleanup_close_ int fd = open(at("small/other"), O_WRONLY);

		assert_int_equal(posix_fallocate(fd, 0, (off_t)(v.f_bavail * v.f_frsize)), 0);
	}
	assert_int_equal(retention_enforce(&s, 0, &st), 2); /* until a quarter is free */
	assert_int_equal(room(&s, SPOOL_FIRST, sizeof(data) * 3, "", &st), -ENOSPC);
	assert_true(exists(at("small/5.stall.pb.zst")));
	assert_int_equal(count_files(s.dir), 2);
	/* Never more than half of a file system is kept free. */
	st.limits.keep_free_bytes = 1ULL << 40;
	assert_int_equal(unlink(at("small/other")), 0);
	assert_int_equal(room(&s, SPOOL_FIRST, sizeof(data), "", &st), 0);
	assert_int_equal(umount(at("small")), 0);
}

/* What is deleted becomes free later, as on btrfs and XFS: here, when nobody has it open any more. */
static void test_keep_free_later(void **state)
{
	struct spool s = {};
	struct storage st = { .limits.keep_free_bytes = DISK / 4 };
	char data[DISK / 8], name[BUNDLE_FILE_MAX], path[512];
	struct iovec part = { data, sizeof(data) };
	int fd[6];

	(void)state;
	if (!mount_small("lazy", DISK)) {
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	memset(data, 'x', sizeof(data));
	snprintf(s.dir, sizeof(s.dir), "%s", at("lazy"));
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "%d.stall.pb.zst", i);
		assert_int_equal(spool_publish(s.dir, (gid_t)-1, name, false, &part, 1), 0);
		snprintf(path, sizeof(path), "%s/%s", s.dir, name);
		fd[i] = open(path, O_RDONLY);
		assert_true(fd[i] >= 0);
	}
	assert_int_equal(room(&s, SPOOL_FIRST, sizeof(data), "", &st), 0);
	assert_int_equal(count_files(s.dir), 5);
	assert_int_equal(st.deleted[STORAGE_KEEP_FREE], 1);
	st.limits.keep_free_bytes = DISK * 3 / 8;
	assert_int_equal(retention_enforce(&s, 0, &st), 1);
	assert_int_equal(count_files(s.dir), 4);
	for (int i = 0; i < 6; i++)
		close(fd[i]);
	assert_int_equal(umount(at("lazy")), 0);
}

/* ---- what is no bundle --------------------------------------------------------------- */

#define GOLDEN "tests/golden/stories/reclaim.stall.pb.zst"

static void copy_golden(const char *to, size_t len)
{
	_cleanup_free_ char *data = malloc(len);
	_cleanup_close_ int in = open(GOLDEN, O_RDONLY), out = open(to, O_CREAT | O_WRONLY, 0640);

	assert_true(in >= 0 && out >= 0);
	assert_int_equal(read(in, data, len), len);
	assert_int_equal(write(out, data, len), len);
}

static void test_quarantine(void **state)
{
	struct spool s = two_dirs("sick");
	struct storage st = {};

	(void)state;
	copy_golden(at("sick/whole.stall.pb.zst"), (size_t)size_of(GOLDEN));
	copy_golden(at("sick/cut.stall.pb.zst"), (size_t)size_of(GOLDEN) / 2); /* has something to tell */
	copy_golden(at("sick/stump.stall.pb.zst"), 20);
	make_file(at("sick/empty.stall.pb.zst"), 0);
	make_file(at("sick/zeros.stall.pb.zst"), 5000);
	make_file(at("sick/notes.txt"), 10);
	quarantine_check(&s, SPOOL_FIRST, &st);
	assert_int_equal(st.quarantined, 3);
	assert_int_equal(count_files(at("sick/" QUARANTINE_DIR)), 3);
	assert_int_equal(count_files(s.dir), 4);
	assert_true(exists(at("sick/whole.stall.pb.zst")));
	assert_true(exists(at("sick/cut.stall.pb.zst")));
	/* Nobody looks at the others again. */
	st.dir[SPOOL_FIRST].checked_s += 3600;
	make_file(at("sick/later.stall.pb.zst"), 0);
	quarantine_check(&s, SPOOL_FIRST, &st);
	assert_int_equal(st.quarantined, 3);
	quarantine_check(&s, SPOOL_FALLBACK, &st);
	assert_int_equal(st.quarantined, 3);
}

/* A file that kills whoever reads it is not read again and again. */
static void test_suspect(void **state)
{
	struct spool s = two_dirs("deadly");
	struct storage st = { .dir[SPOOL_FIRST].suspect = "a.stall.pb.zst" };

	(void)state;
	copy_golden(at("deadly/a.stall.pb.zst"), (size_t)size_of(GOLDEN));
	copy_golden(at("deadly/b.stall.pb.zst"), (size_t)size_of(GOLDEN));
	quarantine_check(&s, SPOOL_FIRST, &st);
	assert_true(exists(at("deadly/" QUARANTINE_DIR "/a.stall.pb.zst")));
	assert_true(exists(at("deadly/b.stall.pb.zst")));
	assert_string_equal(st.dir[SPOOL_FIRST].suspect, "");
}

static void test_quarantine_is_bounded(void **state)
{
	struct spool s = two_dirs("full-ward");
	struct storage st = {};
	char name[64];

	(void)state;
	for (int i = 0; i < QUARANTINE_FILES + 5; i++) {
		snprintf(name, sizeof(name), "full-ward/%d.stall.pb.zst", i);
		make_file(at(name), 7);
	}
	quarantine_check(&s, SPOOL_FIRST, &st);
	assert_int_equal(st.quarantined, QUARANTINE_FILES + 5);
	assert_int_equal(st.quarantine_deleted, 5);
	assert_int_equal(count_files(at("full-ward/" QUARANTINE_DIR)), QUARANTINE_FILES);
	make_file(at("full-ward/large.stall.pb.zst"), QUARANTINE_BYTES + 1);
	st.dir[SPOOL_FIRST].checked_s = 0;
	quarantine_check(&s, SPOOL_FIRST, &st);
	assert_int_equal(count_files(at("full-ward/" QUARANTINE_DIR)), 1);
}

/* ---- the keeper ---------------------------------------------------------------------- */

static void test_keeper(void **state)
{
	struct spool s = two_dirs("kept");
	struct storage st = { .limits = { .max_use_bytes = 1000, .mark_uploads = true, .wait_upload = true }, .last_bytes = 100 };
	char name[64];

	(void)state;
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "kept/%d.stall.pb.zst", i);
		make_bundle(at(name), 100 + i, 0);
	}
	keeper_run(&s, (gid_t)-1, &st); /* nothing is uploaded; none is a bundle */
	assert_int_equal(st.deleted[STORAGE_MAX_USE], 0);
	assert_int_equal(st.quarantined, 10);
	assert_int_equal(mode_of(at("kept/" UPLOADED_DIR)), 0770);
	for (int i = 0; i < 10; i++) {
		char from[512], to[512];

		snprintf(from, sizeof(from), "%s/" QUARANTINE_DIR "/%d.stall.pb.zst", s.dir, i);
		snprintf(to, sizeof(to), "%s/%d.stall.pb.zst", s.dir, i);
		assert_int_equal(rename(from, to), 0);
		snprintf(name, sizeof(name), "%d.stall.pb.zst", i);
		mark(s.dir, name);
	}
	st.dir[SPOOL_FIRST].checked_s += 3600;
	make_file(at("kept/" UPLOADED_DIR "/gone.stall.pb.zst"), 4);
	make_file(at("kept/" UPLOADED_DIR "/" LEFT_LONG_AGO), 4);
	make_file(at("kept/" UPLOADED_DIR "/.tmp-2"), 4); /* an uploader's that is at it */
	keeper_run(&s, (gid_t)-1, &st);
	/* Room for two more of the size of the last one. */
	assert_int_equal(st.deleted[STORAGE_MAX_USE], 2);
	assert_int_equal(retention_used(&st.dir[SPOOL_FIRST]), 800);
	assert_int_equal(count_files(at("kept/" UPLOADED_DIR)), 8 + 1);
	assert_true(exists(at("kept/" UPLOADED_DIR "/.tmp-2")));
	assert_int_equal(st.swept, 1);
	assert_true(st.kept_ns > 0);
}

/* What a configuration with these keys makes of the directory of marks: who uploads may not make it. */
static void keep_with(const char *name, const char *endpoint, const char *pyroscope, bool marks, bool waits)
{
	static struct options o;
	struct storage st = {};
	char marked[64];

	o.config = (struct config){};
	config_defaults(&o.config);
	snprintf(o.config.storage.directory, sizeof(o.config.storage.directory), "%s", new_dir(name));
	o.config.storage.fallback[0] = '\0';
	snprintf(o.config.upload.endpoint, sizeof(o.config.upload.endpoint), "%s", endpoint);
	snprintf(o.config.upload.pyroscope_url, sizeof(o.config.upload.pyroscope_url), "%s", pyroscope);
	snprintf(marked, sizeof(marked), "%s/" UPLOADED_DIR, name);
	options_adopt(&o, &o.config);
	st.limits = o.spool.limits;
	keeper_run(&o.spool, (gid_t)-1, &st);
	if (marks)
		assert_int_equal(mode_of(at(marked)), 0770);
	else
		assert_false(exists(at(marked)));
	assert_int_equal(st.limits.wait_upload, waits);
}

static void test_marks_of_a_configuration(void **state)
{
	(void)state;
	keep_with("none", "", "", false, false);
	keep_with("store", "https://s3.example.com", "", true, true);
	keep_with("profiles", "", "http://127.0.0.1:4040", true, false);
	keep_with("both", "https://s3.example.com", "http://127.0.0.1:4040", true, true);
}

static void test_halves(void **state)
{
	struct spool s = two_dirs("half");
	struct storage st = { .dir = { { .checked_s = UINT32_MAX }, { .checked_s = UINT32_MAX } } }, again = st;

	(void)state;
	make_sized(at("half/a.stall.pb.zst"), 50, 100, 0);
	make_sized(at("half-fallback/a.stall.pb.zst"), 100, 100, 0);
	make_sized(at("half/b.stall.pb.zst"), 100, 100, 0);
	make_sized(at("half-fallback/b.stall.pb.zst"), 100, 100, 0);
	make_sized(at("half-fallback/c.stall.pb.zst"), 100, 100, 0);
	make_sized(at("half/d.stall.pb.zst"), 100, 100, 0);
	make_sized(at("half-fallback/d.stall.pb.zst"), 50, 100, 0);
	keeper_run(&s, (gid_t)-1, &st);
	assert_false(exists(at("half/a.stall.pb.zst")));
	assert_false(exists(at("half-fallback/d.stall.pb.zst")));
	/* One of these may not be on its disk yet, and its writer is about to remove it. */
	assert_true(exists(at("half/b.stall.pb.zst")));
	assert_true(exists(at("half-fallback/b.stall.pb.zst")));
	assert_int_equal(count_files(s.dir), 2);
	assert_int_equal(count_files(s.fallback), 3);
	/* One directory under two names is no pair. */
	snprintf(s.fallback, sizeof(s.fallback), "%s/.", s.dir);
	keeper_run(&s, (gid_t)-1, &again);
	assert_true(exists(at("half/b.stall.pb.zst")));
}

/* Files of two file systems may have the same number. */
static void test_halves_of_two_disks(void **state)
{
	struct spool s = {};
	struct storage st = { .dir = { { .checked_s = UINT32_MAX }, { .checked_s = UINT32_MAX } } };
	struct stat a, b;

	(void)state;
	if (!mount_small("disk-a", DISK) || !mount_small("disk-b", DISK)) {
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	snprintf(s.dir, sizeof(s.dir), "%s", at("disk-a"));
	snprintf(s.fallback, sizeof(s.fallback), "%s", at("disk-b"));
	make_sized(at("disk-a/a.stall.pb.zst"), 50, 100, 0);
	make_sized(at("disk-b/a.stall.pb.zst"), 100, 100, 0);
	assert_int_equal(stat(at("disk-a/a.stall.pb.zst"), &a) | stat(at("disk-b/a.stall.pb.zst"), &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	keeper_run(&s, (gid_t)-1, &st);
	assert_false(exists(at("disk-a/a.stall.pb.zst")));
	assert_true(exists(at("disk-b/a.stall.pb.zst")));
	assert_int_equal(umount(at("disk-a")) | umount(at("disk-b")), 0);
}

static void test_prepare(void **state)
{
	struct spool s = {};
	struct storage st = {};
	uint64_t newest;

	(void)state;
	make_file(at("file"), 1);
	snprintf(s.dir, sizeof(s.dir), "%s", at("file/captures"));
	assert_int_equal(keeper_prepare(&s, &st, UINT64_MAX, &newest), -ENOTDIR);
	snprintf(s.fallback, sizeof(s.fallback), "%s", at("other/captures"));
	assert_int_equal(keeper_prepare(&s, &st, UINT64_MAX, &newest), 0);
	assert_int_equal(st.dir[SPOOL_FIRST].error, -ENOTDIR);
	assert_int_equal(st.dir[SPOOL_FALLBACK].error, 0);
	assert_int_equal(newest, 0);
	make_file(at("other/captures/h-20261120T233350Z-a.stall.pb.zst"), 1);
	assert_int_equal(keeper_prepare(&s, &st, UINT64_MAX, &newest), 0);
	assert_int_equal(newest, 1795217630000);
	snprintf(s.fallback, sizeof(s.fallback), "%s", at("file/other"));
	assert_int_equal(keeper_prepare(&s, &st, UINT64_MAX, &newest), -ENOTDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_use),
		cmocka_unit_test(test_one_directory),
		cmocka_unit_test(test_max_use_of_many),
		cmocka_unit_test(test_odd_things),
		cmocka_unit_test(test_max_age),
		cmocka_unit_test(test_delete_after),
		cmocka_unit_test(test_delete_after_of_many),
		cmocka_unit_test(test_uploads),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_claims_and_looks),
		cmocka_unit_test(test_during_a_look),
		cmocka_unit_test(test_claim_of_the_dead),
		cmocka_unit_test(test_claims_of_many),
		cmocka_unit_test(test_keep_free),
		cmocka_unit_test(test_keep_free_later),
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_suspect),
		cmocka_unit_test(test_quarantine_is_bounded),
		cmocka_unit_test(test_keeper),
		cmocka_unit_test(test_marks_of_a_configuration),
		cmocka_unit_test(test_halves),
		cmocka_unit_test(test_halves_of_two_disks),
		cmocka_unit_test(test_prepare),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
