// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/retention.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
	uint64_t written[SPOOL_DIRS]; /* storage_dir.written_bytes when it began */
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

/* ---- claims ------------------------------------------------------------------------- */

/* Whoever claims is seen by all that look at claims later: of two that do both at a time one at least sees the other. */
#define claim_set(field, v)	__atomic_store_n(&(field), (v), __ATOMIC_SEQ_CST)
#define claim_get(field)	__atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define claim_take(field, was)	__atomic_compare_exchange_n(&(field), (was), getpid(), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

void retention_settle(struct storage_dir *d, struct storage_claim *claim, uint64_t written)
{
	/* In this order: in between they count twice, not never. */
	__atomic_fetch_add(&d->written_bytes, written, __ATOMIC_SEQ_CST);
	claim_set(claim->bytes, 0);
	claim_set(claim->pid, 0);
}

/* Of those whose process has died: nobody knows how far it came. */
static void end_dead_claims(struct storage_dir *d)
{
	for (size_t i = 0; i < STORAGE_CLAIMS; i++) {
		struct storage_claim *c = &d->claim[i];
		pid_t pid = claim_get(c->pid);

		if (pid && kill(pid, 0) < 0 && errno == ESRCH && claim_take(c->pid, &pid))
			retention_settle(d, c, claim_get(c->bytes));
	}
}

/* NULL: none is free. */
static struct storage_claim *begin_claim(struct storage_dir *d, uint64_t need)
{
	end_dead_claims(d);
	for (size_t i = 0; i < STORAGE_CLAIMS; i++) {
		pid_t nobody = 0;

		if (!claim_take(d->claim[i].pid, &nobody))
			continue;
		claim_set(d->claim[i].bytes, need);
		return &d->claim[i];
	}
	return NULL;
}

static uint64_t claimed(const struct storage_dir *d)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < STORAGE_CLAIMS; i++)
		sum += claim_get(d->claim[i].bytes);
	return sum;
}

uint64_t retention_used(const struct storage_dir *d)
{
	/* In this order: a look that ends in between may have seen what was written meanwhile, and takes it off. */
	uint64_t seen = claim_get(d->seen_bytes);

	return seen + claim_get(d->written_bytes);
}

/* By bundles and by claims, which become bundles: they are looked at first. */
static uint64_t taken(const struct storage_dir *d)
{
	uint64_t claims = claimed(d);

	return claims + retention_used(d);
}

/* ---- what is there ------------------------------------------------------------------ */

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

static void survey(const struct rules *r, const struct storage *counts, struct survey *s)
{
	memset(s, 0, sizeof(*s));
	for (int d = 0; d < SPOOL_DIRS; d++) {
		struct dirwalk w = { .fd = r->fd[d] };
		const char *name;

		s->written[d] = claim_get(counts->dir[d].written_bytes);
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
	bool fewer;

	do {
		fewer = false;
		survey(r, st, ret);
		for (size_t i = 0; i < ret->n; i++) {
			const struct file *f = &ret->oldest[i];
			enum storage_reason reason = why(r, ret, &t, f);
			bool gone;

			if (reason == STORAGE_REASONS || same(f, &ret->newest))
				continue;
			gone = unlinkat(r->fd[f->which], f->name, 0) == 0;
			if (!gone && errno != ENOENT)
				continue;
			/* Deleted by somebody else since we looked, it is no reason to delete another one. */
			ret->bytes[f->which] -= f->bytes;
			ret->bundles[f->which]--;
			t.freed[f->which] += f->blocks;
			fewer = true;
			if (!gone)
				continue;
			uploaded_forget(r->fd[f->which], f->name);
			storage_add(st->deleted[reason], 1);
			storage_add(st->deleted_bytes, f->bytes);
			t.deleted++;
		}
	} while (fewer && ret->n == BATCH);
	return t;
}

static uint64_t or_one(uint64_t v)
{
	return v ? v : 1; /* 0 is no limit */
}

static void note_seen(struct storage *st, const struct survey *s, enum spool_which which)
{
	claim_set(st->dir[which].seen_bytes, s->bytes[which] - s->written[which]);
}

/* For what is claimed of the directory already, `need` bytes of it by us. */
static int make_room(int fd, enum spool_which which, uint64_t need, const char *keep, struct storage *st)
{
	struct rules r = { .limits = &st->limits, .fd = { -1, -1 }, .keep = keep };
	const struct storage_dir *dir = &st->dir[which], *beside = &st->dir[!which];
	uint64_t claims = claimed(dir), other = taken(beside), max = storage_get(st->limits.max_use_bytes);
	struct survey left;
	struct tally t;

	r.fd[which] = fd;
	r.lack[which] = lack_of(&st->limits, fd, claims);
	if ((!max || claims + retention_used(dir) + other <= max) && !r.lack[which])
		return 0;
	if (max)
		r.max_bytes = or_one(max > other + claims ? max - other - claims : 0);
	t = apply(&r, &left, st);
	note_seen(st, &left, which);
	/* What others have claimed may be on the disk already: it is no reason to refuse. */
	if (t.freed[which] + claims - need < r.lack[which])
		return -ENOSPC;
	return max && left.waiting && left.bytes[which] - left.newest.bytes > r.max_bytes ? -EDQUOT : 0;
}

int retention_claim(const struct spool *s, enum spool_which which, uint64_t need, const char *keep, struct storage *st,
		    struct storage_claim **ret_claim)
{
	_cleanup_close_ int fd = spool_open_dir(spool_dir(s, which));
	struct storage_claim *claim;
	int r;

	if (fd < 0)
		return -errno;
	claim = begin_claim(&st->dir[which], need);
	if (!claim)
		return -EBUSY;
	r = make_room(fd, which, need, keep, st);
	if (r < 0)
		retention_settle(&st->dir[which], claim, 0);
	else
		*ret_claim = claim;
	return r;
}

static void note_use(struct storage *st, const struct survey *s, enum spool_which which, int fd)
{
	uint64_t size;

	note_seen(st, s, which);
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
	for (int d = 0; d < SPOOL_DIRS; d++) {
		end_dead_claims(&st->dir[d]);
		reserve += claimed(&st->dir[d]);
	}
	deleted = delete_due(r.fd, st);
	if (max)
		r.max_bytes = or_one(max > reserve ? max - reserve : 0);
	deleted += apply(&r, &left, st).deleted;
	newest = left.newest;
	for (int d = 0; d < SPOOL_DIRS; d++) {
		struct rules one = { .limits = &st->limits, .fd = { -1, -1 }, .keep = newest.name };

		one.fd[d] = r.fd[d];
		one.lack[d] = lack_of(&st->limits, r.fd[d], claimed(&st->dir[d]));
		deleted += apply(&one, &left, st).deleted;
		note_use(st, &left, d, r.fd[d]);
	}
	return deleted;
}
