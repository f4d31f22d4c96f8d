// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/retention.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "format/uploaded.h"
#include "recorder/dirwalk.h"

/* Candidates of one look at a directory: a thousand bundles too many take thirty looks. */
#define BATCH 32

struct file {
	char name[NAME_MAX + 1];
	int which;
	struct timespec mtime;
	uint64_t bytes, blocks; /* blocks: what they take on the disk, in bytes */
	int64_t uploaded_s; /* CLOCK_REALTIME; -1: it is not, or nobody asks */
};

struct survey {
	uint64_t bytes[SPOOL_DIRS], bundles[SPOOL_DIRS];
	struct file newest, oldest[BATCH]; /* that may go, the oldest first */
	size_t n;
	bool waiting; /* some were left out for their upload */
};

struct rules {
	const struct spool_limits *limits;
	int fd[SPOOL_DIRS]; /* -1: that directory is left alone */
	const char *keep;
	bool due_only; /* those of the next two, whatever the others */
	/* 0: no such limit */
	int64_t older_than_s, uploaded_before_s;
	uint64_t max_bytes;
	uint64_t lack[SPOOL_DIRS]; /* bytes that are to become free */
};

/* Counted by us: some file systems (btrfs, XFS) say only later what has become free. */
struct tally {
	unsigned int deleted;
	uint64_t freed[SPOOL_DIRS];
};

static bool older(const struct file *a, const struct file *b)
{
	if (a->mtime.tv_sec != b->mtime.tv_sec)
		return a->mtime.tv_sec < b->mtime.tv_sec;
	if (a->mtime.tv_nsec != b->mtime.tv_nsec)
		return a->mtime.tv_nsec < b->mtime.tv_nsec;
	return strcmp(a->name, b->name) < 0; /* of one tick of the clock */
}

/* STORAGE_REASONS: none; a file goes whatever else there is. */
static enum storage_reason due(const struct rules *r, const struct file *f)
{
	if (f->mtime.tv_sec < r->older_than_s)
		return STORAGE_MAX_AGE;
	if (f->uploaded_s >= 0 && f->uploaded_s < r->uploaded_before_s)
		return STORAGE_UPLOADED;
	return STORAGE_REASONS;
}

static void note_candidate(struct survey *s, const struct rules *r, struct file *f, const struct stat *st)
{
	size_t i = s->n;

	if (i == BATCH && !older(f, &s->oldest[BATCH - 1]))
		return;
	if (!strcmp(f->name, r->keep))
		return;
	f->uploaded_s = r->limits->wait_upload || r->uploaded_before_s ? uploaded_at(r->fd[f->which], f->name, st) : -1;
	if (r->limits->wait_upload && f->uploaded_s < 0) {
		s->waiting = true;
		return;
	}
	if (r->due_only && due(r, f) == STORAGE_REASONS)
		return;
	i = i == BATCH ? BATCH - 1 : s->n++;
	for (; i && older(f, &s->oldest[i - 1]); i--)
		s->oldest[i] = s->oldest[i - 1];
	s->oldest[i] = *f;
}

static void survey(const struct rules *r, struct survey *s)
{
	memset(s, 0, sizeof(*s));
	for (int d = 0; d < SPOOL_DIRS; d++) {
		struct dirwalk w = { .fd = r->fd[d] };
		const char *name;

		while (r->fd[d] >= 0 && (name = dirwalk_next(&w))) {
			struct file f = { .which = d };
			struct stat st;

			if (!bundle_is_file_name(name) || fstatat(r->fd[d], name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			    !S_ISREG(st.st_mode))
				continue;
			memccpy(f.name, name, '\0', sizeof(f.name));
			f.mtime = st.st_mtim;
			f.bytes = (uint64_t)st.st_size;
			f.blocks = SB_MAX(f.bytes, (uint64_t)st.st_blocks * 512);
			s->bytes[d] += f.bytes;
			s->bundles[d]++;
			if (!s->newest.name[0] || !older(&f, &s->newest))
				s->newest = f;
			note_candidate(s, r, &f, &st);
		}
	}
}

/* What an unprivileged process could write; the whole file system at least in part. 0: not known. */
static uint64_t free_bytes(int fd, uint64_t *ret_size)
{
	struct statvfs v;

	if (fd < 0 || fstatvfs(fd, &v) < 0) {
		*ret_size = 0;
		return 0;
	}
	*ret_size = (uint64_t)v.f_blocks * v.f_frsize;
	return (uint64_t)v.f_bavail * v.f_frsize;
}

/* Of KeepFree beside `need` bytes; on a small file system, such as that of /run, half of it is kept free. */
static uint64_t lack_of(const struct spool_limits *l, int fd, uint64_t need)
{
	uint64_t size, free = free_bytes(fd, &size), keep = SB_MIN(storage_get(l->keep_free_bytes), size / 2);

	return keep && free < keep + need ? keep + need - free : 0;
}

/* STORAGE_REASONS: none. */
static enum storage_reason why(const struct rules *r, const struct survey *s, const struct tally *t, const struct file *f)
{
	if (r->due_only)
		return due(r, f);
	if (r->max_bytes && s->bytes[SPOOL_FIRST] + s->bytes[SPOOL_FALLBACK] > r->max_bytes)
		return STORAGE_MAX_USE;
	return t->freed[f->which] < r->lack[f->which] ? STORAGE_KEEP_FREE : STORAGE_REASONS;
}

static bool same(const struct file *a, const struct file *b)
{
	return a->which == b->which && !strcmp(a->name, b->name);
}

/* Deletes by the rules; *ret is what is left. */
static struct tally apply(const struct rules *r, struct survey *ret, struct storage *st)
{
	struct tally t = {};
	unsigned int before;

	do {
		before = t.deleted;
		survey(r, ret);
		for (size_t i = 0; i < ret->n; i++) {
			const struct file *f = &ret->oldest[i];
			enum storage_reason reason = why(r, ret, &t, f);

			if (reason == STORAGE_REASONS || same(f, &ret->newest))
				continue;
			if (unlinkat(r->fd[f->which], f->name, 0) < 0)
				continue;
			uploaded_forget(r->fd[f->which], f->name);
			ret->bytes[f->which] -= f->bytes;
			ret->bundles[f->which]--;
			storage_add(st->deleted[reason], 1);
			storage_add(st->deleted_bytes, f->bytes);
			t.freed[f->which] += f->blocks;
			t.deleted++;
		}
	} while (t.deleted > before && ret->n == BATCH);
	return t;
}

static uint64_t or_one(uint64_t v)
{
	return v ? v : 1; /* 0 is no limit */
}

int retention_room(const struct spool *s, enum spool_which which, uint64_t need, const char *keep, struct storage *st)
{
	_cleanup_close_ int fd = spool_open_dir(spool_dir(s, which));
	struct rules r = { .limits = &st->limits, .fd = { -1, -1 }, .keep = keep };
	uint64_t max = storage_get(st->limits.max_use_bytes);
	uint64_t other = storage_get(st->dir[!which].used_bytes), own = storage_get(st->dir[which].used_bytes);
	struct survey left;
	struct tally t;

	if (fd < 0)
		return -errno;
	r.fd[which] = fd;
	r.lack[which] = lack_of(&st->limits, fd, need);
	if ((!max || own + other + need <= max) && !r.lack[which])
		return 0;
	if (max)
		r.max_bytes = or_one(max > other + need ? max - other - need : 0);
	t = apply(&r, &left, st);
	storage_set(st->dir[which].used_bytes, left.bytes[which]);
	if (t.freed[which] < r.lack[which])
		return -ENOSPC;
	return max && left.waiting && left.bytes[which] - left.newest.bytes > r.max_bytes ? -EDQUOT : 0;
}

static void note_use(struct storage *st, const struct survey *s, enum spool_which which, int fd)
{
	uint64_t size;

	storage_set(st->dir[which].used_bytes, s->bytes[which]);
	storage_set(st->dir[which].bundles, s->bundles[which]);
	storage_set(st->dir[which].free_bytes, free_bytes(fd, &size));
}

/* What goes in any case goes first: it may be all that the limits ask for. */
static unsigned int delete_due(const int fd[SPOOL_DIRS], struct storage *st)
{
	uint64_t age = storage_get(st->limits.max_age_ns), uploaded = storage_get(st->limits.delete_after_ns);
	int64_t now_s = (int64_t)(sb_realtime_ms() / 1000);
	struct rules r = { .limits = &st->limits, .fd = { fd[SPOOL_FIRST], fd[SPOOL_FALLBACK] }, .keep = "", .due_only = true };
	struct survey left;

	if (age)
		r.older_than_s = now_s - (int64_t)(age / NSEC_PER_SEC);
	if (uploaded)
		r.uploaded_before_s = now_s - (int64_t)(uploaded / NSEC_PER_SEC);
	return age || uploaded ? apply(&r, &left, st).deleted : 0;
}

/* By a link, or on the command line: each bundle would count twice. */
static bool one_directory(int a, int b)
{
	struct stat st, other;

	return fstat(a, &st) == 0 && fstat(b, &other) == 0 && st.st_dev == other.st_dev && st.st_ino == other.st_ino;
}

unsigned int retention_enforce(const struct spool *s, uint64_t reserve, struct storage *st)
{
	_cleanup_close_ int first = spool_open_dir(s->dir), fallback = spool_open_dir(s->fallback);
	uint64_t max = storage_get(st->limits.max_use_bytes);
	struct rules r = { .limits = &st->limits, .fd = { first, fallback }, .keep = "" };
	struct survey left;
	struct file newest;
	unsigned int deleted;

	if (one_directory(first, fallback))
		r.fd[SPOOL_FALLBACK] = -1;
	deleted = delete_due(r.fd, st);
	if (max)
		r.max_bytes = or_one(max > reserve ? max - reserve : 0);
	deleted += apply(&r, &left, st).deleted;
	newest = left.newest;
	for (int d = 0; d < SPOOL_DIRS; d++) {
		struct rules one = { .limits = &st->limits, .fd = { -1, -1 }, .keep = newest.name };

		one.fd[d] = r.fd[d];
		one.lack[d] = lack_of(&st->limits, r.fd[d], 0);
		deleted += apply(&one, &left, st).deleted;
		note_use(st, &left, d, r.fd[d]);
	}
	return deleted;
}
