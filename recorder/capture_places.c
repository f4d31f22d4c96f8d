// SPDX-License-Identifier: BSD-2-Clause
/*
 * The directories of one bundle. Each has a thread that alone touches it; a file system that keeps its thread is
 * given up for the next one.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>

#include "recorder/capture_impl.h"
#include "recorder/retention.h"

/* A file system that has not taken a bundle after this long may never do so: it is frozen, its disk has stopped.
 * Writing took 1.4 s at most with 300 runnable threads a CPU. */
#define STORE_WAIT_MS 5000
/* Names come when all that was recorded is durable: only a disk that is dead is worth doing without it. */
#define NAMES_WAIT_MS 60000
#define THREAD_STACK_BYTES (128u << 10)

static struct storage *storage_of(const struct place *p)
{
	return &p->z->c->work->storage;
}

static struct storage_dir *counts_of(const struct place *p)
{
	return &storage_of(p)->dir[p->which];
}

static const char *dir_of(const struct place *p)
{
	return spool_dir(&p->z->c->spool, p->which);
}

/* ---- the thread: it may hang, and allocates nothing, so that the others are never kept from doing so ---- */

static uint64_t bytes_of(const struct iovec *part, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += part[i].iov_len;
	return sum;
}

/* The first `have` parts are in the file; -ENOENT, -ESTALE: they are not. */
static int write_claimed(struct place *p, const struct iovec *part, size_t have, size_t upto)
{
	uint64_t behind = bytes_of(part, have), need = bytes_of(part, upto) - behind;
	struct storage_claim *claim;
	int r = retention_claim(&p->z->c->spool, p->which, need, p->file, storage_of(p), &claim);

	if (r < 0)
		return r;
	if (have)
		r = spool_append(dir_of(p), p->file, behind, part + have, upto - have);
	else
		r = spool_publish(dir_of(p), p->z->c->gid, p->file, p->have > 0, part, upto);
	retention_settle(counts_of(p), claim, r < 0 ? 0 : need);
	return r;
}

/* Whatever is wrong with the file that has the first parts: all of them again take its place. */
static int write_parts(struct place *p, size_t have, size_t upto)
{
	struct iovec part[CAPTURE_PARTS];
	int r;

	for (size_t i = 0; i < upto; i++)
		part[i] = (struct iovec){ p->z->part[i].data, p->z->part[i].len };
	r = write_claimed(p, part, have, upto);
	return have && (r == -ENOENT || r == -ESTALE) ? write_claimed(p, part, 0, upto) : r;
}

static int remove_parts(const struct place *p)
{
	return spool_remove(dir_of(p), p->file);
}

static void leave_slot(struct place *p)
{
	if (p->stuck_slot)
		storage_set(*p->stuck_slot, 0);
	p->stuck_slot = NULL;
}

static void note_written(const struct place *p, size_t have, size_t upto)
{
	uint64_t all = 0, bytes = 0;

	for (size_t i = 0; i < upto; i++) {
		all += p->z->part[i].len;
		bytes += i < have ? 0 : p->z->part[i].len;
	}
	storage_set(storage_of(p)->last_bytes, all);
	storage_add(p->z->c->work->bytes_written, bytes);
}

/* One piece of work; the lock is held before and afterwards. */
static void do_work(struct place *p)
{
	struct freezer *z = p->z;
	size_t have = p->have, upto = p->wanted;
	int r;

	pthread_mutex_unlock(&z->lock);
	r = upto ? write_parts(p, have, upto) : remove_parts(p);
	pthread_mutex_lock(&z->lock);
	p->result = r;
	if (r < 0 || !upto) {
		p->have = upto ? have : 0;
		return;
	}
	p->have = upto;
	note_written(p, have, upto);
	if (!p->unwanted)
		return;
	pthread_mutex_unlock(&z->lock);
	remove_parts(p);
	pthread_mutex_lock(&z->lock);
	p->have = 0;
}

static void *place_main(void *arg)
{
	struct place *p = arg;
	struct freezer *z = p->z;

	prctl(PR_SET_NAME, p->which == SPOOL_FIRST ? "stallbox-spool" : "stallbox-fallb");
	pthread_mutex_lock(&z->lock);
	for (;;) {
		while (!p->busy)
			pthread_cond_wait(&z->changed, &z->lock);
		do_work(p);
		p->busy = false;
		leave_slot(p);
		pthread_cond_broadcast(&z->changed);
	}
	return NULL;
}

int places_thread(void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	r = -pthread_create(&thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	if (r == 0)
		pthread_detach(thread);
	return r;
}

int places_init(struct freezer *z)
{
	pthread_condattr_t clock;
	int r = 0;

	pthread_mutex_init(&z->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&z->changed, &clock);
	pthread_condattr_destroy(&clock);
	for (int i = 0; r == 0 && i < SPOOL_DIRS; i++) {
		z->place[i] = (struct place){ .z = z, .which = (enum spool_which)i };
		if (*dir_of(&z->place[i]))
			r = places_thread(place_main, &z->place[i]);
	}
	return r;
}

/* ---- those that wait for it ---------------------------------------------------------- */

/* The slots of processes that have ended are free. take: it is ours then. */
static pid_t *free_stuck_slot(const struct place *p, bool take)
{
	for (size_t i = 0; i < STORAGE_STUCK; i++) {
		pid_t *slot = &counts_of(p)->stuck[i], pid = storage_get(*slot);

		if (pid && (kill(pid, 0) == 0 || errno != ESRCH))
			continue;
		if (!take || __atomic_compare_exchange_n(slot, &pid, getpid(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return slot;
	}
	return NULL;
}

/* Until the thread is idle. The lock is held. false: not in time. */
static bool await(struct place *p, uint64_t wait_ms)
{
	uint64_t due = sb_monotonic_ns() + wait_ms * NSEC_PER_MSEC;
	struct timespec ts = { (time_t)(due / NSEC_PER_SEC), (long)(due % NSEC_PER_SEC) };

	while (p->busy && pthread_cond_timedwait(&p->z->changed, &p->z->lock, &ts) == 0)
		;
	return !p->busy;
}

/* The lock is held. */
static int bring_locked(struct place *p, size_t upto)
{
	p->unwanted = false; /* if its thread has not come back yet, what it brings counts after all */
	if (p->busy)
		return -ETIMEDOUT;
	if (p->have == upto)
		return 0;
	if (!p->have) {
		if (!free_stuck_slot(p, false))
			return -EBUSY;
		memcpy(p->file, p->z->order.file, sizeof(p->file));
	}
	p->wanted = upto;
	p->busy = true;
	pthread_cond_broadcast(&p->z->changed);
	if (await(p, upto == CAPTURE_PARTS && p->have ? NAMES_WAIT_MS : STORE_WAIT_MS))
		return p->result;
	p->stuck_slot = free_stuck_slot(p, true);
	return -ETIMEDOUT;
}

static int bring(struct place *p, size_t upto)
{
	struct storage_dir *count = counts_of(p);
	int r;

	if (!*dir_of(p))
		return -ENOENT;
	pthread_mutex_lock(&p->z->lock);
	r = bring_locked(p, upto);
	pthread_mutex_unlock(&p->z->lock);
	storage_set(count->error, r);
	storage_set(count->tried_ns, sb_monotonic_ns());
	if (r == -ETIMEDOUT)
		storage_add(count->timeouts, 1);
	else if (r < 0)
		storage_add(count->failed, 1);
	return r;
}

/* The bundle is in one directory: the others are not to have it. Should one have got it in the meantime, and
 * stand before, that one is kept. */
static struct place *choose(struct freezer *z, struct place *has, size_t upto)
{
	struct place *best = has;

	pthread_mutex_lock(&z->lock);
	for (int i = SPOOL_DIRS - 1; i >= 0; i--) {
		if (!z->place[i].busy && z->place[i].have == upto)
			best = &z->place[i];
	}
	for (int i = 0; i < SPOOL_DIRS; i++) {
		struct place *p = &z->place[i];

		if (p == best)
			continue;
		p->unwanted = true;
		if (!p->busy && p->have) {
			p->wanted = 0;
			p->busy = true;
		}
	}
	pthread_cond_broadcast(&z->changed);
	pthread_mutex_unlock(&z->lock);
	return best;
}

/* Where the first parts are comes before the others: there the rest is only appended. */
struct place *places_store(struct freezer *z, int *ret_error)
{
	size_t upto = z->n_parts;
	bool has[SPOOL_DIRS];
	int error = 0;

	pthread_mutex_lock(&z->lock);
	for (int i = 0; i < SPOOL_DIRS; i++)
		has[i] = z->place[i].have > 0;
	pthread_mutex_unlock(&z->lock);
	for (int begun = 1; begun >= 0; begun--) {
		for (int i = 0; i < SPOOL_DIRS; i++) {
			struct place *p = &z->place[i];
			int r;

			if (has[i] != begun)
				continue;
			r = bring(p, upto);
			if (r == 0)
				return choose(z, p, upto);
			error = error ? error : r;
		}
	}
	*ret_error = error;
	return NULL;
}

void places_settle(struct freezer *z)
{
	pthread_mutex_lock(&z->lock);
	for (int i = 0; i < SPOOL_DIRS; i++) {
		while (z->place[i].busy)
			pthread_cond_wait(&z->changed, &z->lock);
	}
	pthread_mutex_unlock(&z->lock);
}
