// SPDX-License-Identifier: BSD-2-Clause
/*
 * From memory to the disk, in two parts. Until the raw bundle is durable one thread alone, the spooler, touches
 * the spool; a file system that keeps it is given up for the fallback.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "recorder/capture_impl.h"
#include "recorder/enrich.h"

/* A spool that has not taken a bundle after this long may never do so: its file system is frozen, its disk
 * has stopped. Writing took 1.4 s at most with 300 runnable threads a CPU. */
#define STORE_WAIT_MS 5000
#define STORER_STACK_BYTES (128u << 10)

static void become_ordinary(void)
{
	struct sched_param sp = {};

	sched_setscheduler(0, SCHED_OTHER, &sp);
	setpriority(PRIO_PROCESS, 0, 10);
}

/* The slots of those that have ended are free. take: it is ours then. */
static pid_t *free_stuck_slot(const struct freezer *z, bool take)
{
	for (size_t i = 0; z->c->work && i < CAPTURE_STUCK; i++) {
		pid_t *slot = &z->c->work->stuck[i];
		pid_t pid = __atomic_load_n(slot, __ATOMIC_RELAXED);

		if (pid && (kill(pid, 0) == 0 || errno != ESRCH))
			continue;
		if (!take || __atomic_compare_exchange_n(slot, &pid, getpid(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return slot;
	}
	return NULL;
}

static int work_in_spool(const struct freezer *z, enum spool_work what)
{
	const char *dir = z->c->spool.dir, *file = z->order.file;

	switch (what) {
	case SPOOL_PRE:
		if (z->c->work && !free_stuck_slot(z, false))
			return -EBUSY;
		return spool_publish(dir, file, z->pre.data, z->pre.len);
	case SPOOL_REST:
		return spool_append(dir, file, z->pre.len, z->out.data, z->out.len);
	case SPOOL_WHOLE:
		return spool_publish(dir, file, z->spooler.whole.data, z->spooler.whole.len);
	case SPOOL_IDLE:
		break;
	}
	return 0;
}

/* May hang on a stalled disk. It allocates nothing: the other threads are never kept from doing so. */
static void *spooler_main(void *arg)
{
	struct freezer *z = arg;
	struct spooler *p = &z->spooler;
	bool late = false;

	prctl(PR_SET_NAME, "stallbox-spool");
	pthread_mutex_lock(&p->lock);
	while (!late) {
		enum spool_work what;
		int r;

		while (!p->wanted)
			pthread_cond_wait(&p->changed, &p->lock);
		what = p->wanted;
		p->wanted = SPOOL_IDLE;
		pthread_mutex_unlock(&p->lock);
		r = work_in_spool(z, what);
		pthread_mutex_lock(&p->lock);
		late = p->given_up;
		if (late) {
			pthread_mutex_unlock(&p->lock);
			spool_remove(z->c->spool.dir, z->order.file);
			if (p->stuck_slot)
				__atomic_store_n(p->stuck_slot, 0, __ATOMIC_RELAXED);
			pthread_mutex_lock(&p->lock);
		}
		p->result = r;
		p->done = true;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* The result of the work under way; -ETIMEDOUT: none yet. timeout_ms < 0: however long it takes. */
static int spooler_wait(struct spooler *p, int timeout_ms)
{
	uint64_t due = sb_monotonic_ns() + (uint64_t)SB_MAX(timeout_ms, 0) * NSEC_PER_MSEC;
	struct timespec ts = { (time_t)(due / NSEC_PER_SEC), (long)(due % NSEC_PER_SEC) };
	int r = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->done && r == 0)
		r = timeout_ms < 0 ? pthread_cond_wait(&p->changed, &p->lock) :
				     pthread_cond_timedwait(&p->changed, &p->lock, &ts);
	r = p->done ? p->result : -ETIMEDOUT;
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* -ETIMEDOUT: it has not come back, now or before. */
static int spooler_do(struct spooler *p, enum spool_work what)
{
	if (p->given_up)
		return -ETIMEDOUT;
	pthread_mutex_lock(&p->lock);
	p->wanted = what;
	p->done = false;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return spooler_wait(p, STORE_WAIT_MS);
}

/* The fallback has it. false: so has the spool, in the meantime. */
static bool spooler_give_up(struct freezer *z)
{
	struct spooler *p = &z->spooler;
	bool in_time;

	pthread_mutex_lock(&p->lock);
	in_time = p->done && p->result == 0 && !p->given_up;
	if (!p->done && !p->given_up) {
		p->given_up = true;
		p->stuck_slot = free_stuck_slot(z, true);
	}
	pthread_mutex_unlock(&p->lock);
	return !in_time;
}

/* All of it in the fallback, after the spool's *error, or in the spool after all. Returns the directory, or NULL. */
static const char *store_elsewhere(struct freezer *z, const struct membuf *all, int *error)
{
	const struct spool *s = &z->c->spool;
	bool late = *error == -ETIMEDOUT;

	if (!s->fallback[0] || spool_publish(s->fallback, z->order.file, all->data, all->len) < 0) {
		if (!late || z->spooler.given_up)
			return NULL;
		*error = spooler_wait(&z->spooler, -1);
		return *error == 0 ? s->dir : NULL;
	}
	if (late && !spooler_give_up(z)) {
		spool_remove(s->fallback, z->order.file);
		return s->dir;
	}
	return s->fallback;
}

static const char *store(struct freezer *z, enum spool_work what, const struct membuf *all, int *ret_error)
{
	*ret_error = spooler_do(&z->spooler, what);
	return *ret_error == 0 ? z->c->spool.dir : store_elsewhere(z, all, ret_error);
}

/* What the thread that stored the first part says. */
struct pre_result {
	uint32_t where; /* 0: nowhere, 1: the spool, 2: its fallback */
	uint64_t durable_ns;
};

void count_work(struct freezer *z, uint64_t bytes)
{
	uint64_t ns = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID);
	struct rusage ru;

	if (!z->c->work)
		return;
	if (getrusage(RUSAGE_CHILDREN, &ru) == 0) /* helpers that looked up names */
		ns += (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NSEC_PER_SEC +
		      (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * NSEC_PER_USEC;
	__atomic_fetch_add(&z->c->work->cpu_ns, ns - z->counted_ns, __ATOMIC_RELAXED);
	__atomic_fetch_add(&z->c->work->bytes_written, bytes, __ATOMIC_RELAXED);
	z->counted_ns = ns;
}

/* The thread that stores the first part while the main one goes on. It allocates nothing. */
static void *storer_main(void *arg)
{
	struct freezer *z = arg;
	struct pre_result done;
	const char *dir;
	int error;
	char byte;

	prctl(PR_SET_NAME, "stallbox-store");
	if (read(z->store_pre[0], &byte, 1) != 1)
		return NULL;
	dir = store(z, SPOOL_PRE, &z->pre, &error);
	done = (struct pre_result){ .where = !dir ? 0 : dir == z->c->spool.dir ? 1 : 2,
				    .durable_ns = sb_monotonic_ns() };
	if (dir) {
		if (z->c->work)
			__atomic_fetch_add(&z->c->work->bytes_written, z->pre.len, __ATOMIC_RELAXED);
		capture_report_path(z, CAPTURE_PRE_DURABLE, dir, z->pre.len, 0, z->pre_events);
	} else {
		capture_report(z, CAPTURE_FAILED, 0, error, 0);
	}
	(void)!write(z->pre_done[1], &done, sizeof(done));
	return NULL;
}

static int start_thread(void *(*fn)(void *), struct freezer *z)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STORER_STACK_BYTES);
	r = -pthread_create(&thread, &attr, fn, z);
	pthread_attr_destroy(&attr);
	if (r == 0)
		pthread_detach(thread);
	return r;
}

int store_init(struct freezer *z)
{
	pthread_condattr_t clock;
	int r;

	if (pipe2(z->store_pre, O_CLOEXEC) < 0 || pipe2(z->pre_done, O_CLOEXEC) < 0)
		return -errno;
	pthread_mutex_init(&z->spooler.lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&z->spooler.changed, &clock);
	pthread_condattr_destroy(&clock);
	r = start_thread(spooler_main, z);
	return r < 0 ? r : start_thread(storer_main, z);
}

void store_first(struct freezer *z)
{
	(void)!write(z->store_pre[1], "", 1);
}

/* Which directory holds the first part, once its thread knows. */
static const char *pre_directory(struct freezer *z)
{
	struct pre_result done = {};

	if (!z->pre.len || read(z->pre_done[0], &done, sizeof(done)) != sizeof(done) || !done.where)
		return NULL;
	z->pre_durable_ns = done.durable_ns;
	return done.where == 1 ? z->c->spool.dir : z->c->spool.fallback;
}

static bool append_names(struct freezer *z, const char *dir, uint64_t raw_durable_ns, bool names)
{
	struct bundle_footer footer = { .raw_durable_ns = raw_durable_ns,
					.pre_durable_ns = z->pre_durable_ns };
	size_t raw_len = z->out.len;

	footer.symbolized = names && enrich(&z->f);
	footer.closed_ns = sb_monotonic_ns();
	bundle_writer_finish(z->f.w, &footer);
	return bundle_writer_error(z->f.w) == 0 &&
	       spool_append(dir, z->order.file, z->pre.len + raw_len, z->out.data + raw_len,
			    z->out.len - raw_len) == 0;
}

/* The cap, of what can be looked at without waiting for a disk. */
static int make_room(const struct freezer *z)
{
	struct spool s = z->c->spool;

	if (z->spooler.given_up)
		s.dir[0] = '\0';
	return spool_vacuum(&s, z->order.file);
}

/* The second part behind the first, or both elsewhere. Returns the directory and what was written. */
static const char *store_second(struct freezer *z, uint64_t *ret_bytes, int *ret_error)
{
	struct membuf *all = &z->spooler.whole;
	const char *first = pre_directory(z);
	bool late = false;

	*ret_bytes = z->out.len;
	if (first == z->c->spool.fallback &&
	    spool_append(first, z->order.file, z->pre.len, z->out.data, z->out.len) == 0)
		return first;
	if (first == z->c->spool.dir) {
		*ret_error = spooler_do(&z->spooler, SPOOL_REST);
		if (*ret_error == 0)
			return first;
		late = *ret_error == -ETIMEDOUT;
	}
	*ret_bytes += z->pre.len;
	*ret_error = membuf_write(all, z->pre.data, z->pre.len);
	if (*ret_error == 0)
		*ret_error = membuf_write(all, z->out.data, z->out.len);
	if (*ret_error < 0)
		return NULL;
	if (!late)
		return store(z, SPOOL_WHOLE, all, ret_error);
	*ret_error = -ETIMEDOUT;
	return store_elsewhere(z, all, ret_error);
}

void store_rest(struct freezer *z, bool names)
{
	uint64_t raw_ns, bytes;
	const char *dir;
	int error = 0, deleted;
	bool whole;

	dir = store_second(z, &bytes, &error);
	if (!dir) {
		capture_report(z, CAPTURE_FAILED, 0, error, 0);
		count_work(z, 0);
		return;
	}
	raw_ns = sb_monotonic_ns();
	deleted = make_room(z);
	capture_report_path(z, CAPTURE_RAW_DURABLE, dir, z->pre.len + z->out.len, (uint32_t)deleted, capture_events(z));
	become_ordinary();
	whole = append_names(z, dir, raw_ns, names);
	count_work(z, bytes);
	if (whole)
		capture_report_path(z, CAPTURE_COMPLETE, dir, z->pre.len + z->out.len, 0, capture_events(z));
	else
		capture_report(z, CAPTURE_FAILED, z->out.len, -EIO, 0);
}

void store_done(struct freezer *z)
{
	if (!z->spooler.given_up)
		return;
	shutdown(z->fd, SHUT_RDWR); /* nobody waits for us */
	spooler_wait(&z->spooler, -1);
}
