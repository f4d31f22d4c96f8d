// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "recorder/enrich.h"
#include "recorder/freeze.h"
#include "recorder/kernel_names.h"
#include "recorder/limit.h"

/* A program that was inside a record when the generation flipped is done long before. */
#define SETTLE_NS (20 * NSEC_PER_MSEC)
#define ZSTD_LEVEL 3
/* A spool that has not taken a bundle after this long may never do so: its file system is frozen, its disk
 * has stopped. Writing took 1.4 s at most with 300 runnable threads a CPU. */
#define STORE_WAIT_MS 5000
/* Touched at start, so that the first stackshot finds its pages there. */
#define PREFAULT_BYTES (512u << 10)
/* Address space that malloc gets before it is needed: growing the heap takes a lock that this process
 * shares with those it was forked beside, one of which may wait for a CPU with the lock held. */
#define HEAP_BYTES (64 << 20)
#define STORER_STACK_BYTES (128u << 10)

/* Of the kernel; NULL: not to be had. The processes of captures have them of the one that started them. */
static struct symbols *kernel_symbols;

struct membuf {
	char *data;
	size_t len, cap;
};

/* What the thread does that alone touches the spool. */
enum spool_work { SPOOL_IDLE, SPOOL_PRE, SPOOL_REST, SPOOL_WHOLE };

struct spooler {
	pthread_mutex_t lock; /* never held while writing */
	pthread_cond_t changed;
	enum spool_work wanted;
	struct membuf whole; /* for SPOOL_WHOLE */
	bool done;
	int result;
	bool given_up; /* the bundle is in the fallback: what comes to the spool after all is removed */
	pid_t *stuck_slot;
};

struct freezer {
	const struct capture_config *c;
	int fd;
	struct freeze f;
	struct membuf pre, out; /* before the trigger; what follows */
	struct capture_order order; /* the FREEZE one */
	uint64_t pre_events;
	struct spooler spooler;
	/* The thread that stores the first part while this one goes on: a byte starts it, a result ends it. */
	int store_pre[2], pre_done[2];
	uint64_t pre_durable_ns;
	uint64_t counted_ns; /* of CPU time */
};

static int membuf_write(void *ctx, const void *buf, size_t len)
{
	struct membuf *m = ctx;

	if (m->len + len > m->cap) {
		size_t cap = SB_MAX(m->cap * 2, m->len + len + (1u << 20));
		char *bigger = realloc(m->data, cap);

		if (!bigger)
			return -ENOMEM;
		m->data = bigger;
		m->cap = cap;
	}
	memcpy(m->data + m->len, buf, len);
	m->len += len;
	return 0;
}

static uint64_t events_of(const struct freezer *z)
{
	return z->f.w ? bundle_writer_events(z->f.w) : 0;
}

static void report(const struct freezer *z, enum capture_report_type type, uint64_t value, int error,
		   uint64_t events)
{
	struct capture_report r = {
		.type = type,
		.id = z->order.id,
		.error = error,
		.ns = sb_monotonic_ns(),
		.value = value,
		.events = events,
	};

	/* Nobody listening any more: the bundle is written all the same. */
	(void)!send(z->fd, &r, sizeof(r), MSG_NOSIGNAL);
}

static void report_path(const struct freezer *z, enum capture_report_type type, const char *dir,
			uint64_t bytes, uint32_t deleted, uint64_t events)
{
	struct capture_report r = {
		.type = type,
		.id = z->order.id,
		.ns = sb_monotonic_ns(),
		.value = bytes,
		.deleted = deleted,
		.events = events,
	};

	snprintf(r.path, sizeof(r.path), "%s/%s", dir, z->order.file);
	(void)!send(z->fd, &r, sizeof(r), MSG_NOSIGNAL);
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NSEC_PER_SEC),
			       .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* ---- header ---------------------------------------------------------------------- */

static size_t read_line(const char *path, char *ret, size_t len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, ret, len - 1);

	ret[n > 0 ? n : 0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	return strlen(ret);
}

/* "0-3,8" as numbers. */
static size_t online_cpus(uint32_t *ret, size_t max)
{
	char text[256], *p = text;
	size_t n = 0;

	read_line("/sys/devices/system/cpu/online", text, sizeof(text));
	while (*p) {
		unsigned long from = strtoul(p, &p, 10), to = from;

		if (*p == '-')
			to = strtoul(p + 1, &p, 10);
		for (; from <= to && n < max; from++)
			ret[n++] = (uint32_t)from;
		if (*p != ',')
			break;
		p++;
	}
	return n;
}

/* The GNU build-id note of the running kernel. */
static size_t kernel_build_id(uint8_t *ret, size_t len)
{
	uint8_t buf[4096];
	_cleanup_close_ int fd = open("/sys/kernel/notes", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf));
	size_t off = 0;

	while (n > 0 && off + 12 <= (size_t)n) {
		uint32_t h[3];
		size_t name, desc;

		memcpy(h, buf + off, sizeof(h));
		name = (h[0] + 3u) & ~3u;
		desc = (h[1] + 3u) & ~3u;
		if (h[0] > (size_t)n || h[1] > (size_t)n || off + 12 + name + desc > (size_t)n)
			break;
		if (h[2] == 3 && h[0] == 4 && !memcmp(buf + off + 12, "GNU", 4) && h[1] <= len) {
			memcpy(ret, buf + off + 12 + name, h[1]);
			return h[1];
		}
		off += 12 + name + desc;
	}
	return 0;
}

static struct bundle_clock clock_point(void)
{
	return (struct bundle_clock){
		.monotonic_ns = (int64_t)sb_now_ns(CLOCK_MONOTONIC),
		.realtime_ns = (int64_t)sb_now_ns(CLOCK_REALTIME),
		.boottime_ns = (int64_t)sb_now_ns(CLOCK_BOOTTIME),
	};
}

static int write_header(struct freezer *z)
{
	const struct probes *p = z->c->probes;
	const struct capture_cause *k = &z->order.cause;
	struct utsname un;
	struct sysinfo si;
	char boot_id[64], machine_id[64], hash[32];
	uint32_t online[PROBES_MAX_CPUS];
	struct bundle_clock clock = clock_point();
	struct bundle_header h = {
		.producer = "stallbox " SB_VERSION,
		.boot_id = boot_id,
		.machine_id_hash = hash,
		.page_size = (uint32_t)sysconf(_SC_PAGESIZE),
		.cpus_possible = p->cfg.cpus,
		.cpu_online = online,
		.clocks = &clock,
		.n_clocks = 1,
		.config = z->c->config,
		.n_config = z->c->n_config,
		.missing = p->missing,
		.n_missing = p->n_missing,
		.sample_period_ns = p->cfg.sample_period_ns,
		.offcpu_threshold_ns = p->cfg.offcpu_threshold_ns,
		.ring_bytes = p->cfg.ring_bytes,
		.trigger = { k->name, k->kind, k->spec, k->unit, k->detail, k->fired_ns, k->value,
			     k->threshold, k->target_tid },
	};

	uname(&un);
	sysinfo(&si);
	h.hostname = un.nodename;
	h.kernel_release = un.release;
	h.kernel_version = un.version;
	h.arch = un.machine;
	h.mem_total_bytes = (uint64_t)si.totalram * si.mem_unit;
	h.n_cpu_online = online_cpus(online, SB_ARRAY_SIZE(online));
	h.kernel_build_id_len = kernel_build_id(h.kernel_build_id, sizeof(h.kernel_build_id));
	read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	/* The raw machine-id is confidential (machine-id(5)); a hash still tells hosts apart. */
	read_line("/etc/machine-id", machine_id, sizeof(machine_id));
	snprintf(hash, sizeof(hash), "%016llx",
		 (unsigned long long)sb_hash_bytes(machine_id, strlen(machine_id)));
	if (getrandom(h.capture_id, sizeof(h.capture_id), GRND_NONBLOCK) < 0)
		memcpy(h.capture_id, &clock, sizeof(h.capture_id));
	return bundle_writer_header(z->f.w, &h);
}

/* ---- storing --------------------------------------------------------------------- */

static void become_ordinary(void)
{
	struct sched_param sp = {};

	sched_setscheduler(0, SCHED_OTHER, &sp);
	setpriority(PRIO_PROCESS, 0, 10);
}

/* The slots of those that have ended are free. */
static pid_t *free_stuck_slot(const struct freezer *z)
{
	for (size_t i = 0; z->c->work && i < CAPTURE_STUCK; i++) {
		pid_t *slot = &z->c->work->stuck[i];
		pid_t pid = __atomic_load_n(slot, __ATOMIC_RELAXED);

		if (!pid || (kill(pid, 0) < 0 && errno == ESRCH))
			return slot;
	}
	return NULL;
}

static int work_in_spool(const struct freezer *z, enum spool_work what)
{
	const char *dir = z->c->spool.dir, *file = z->order.file;

	switch (what) {
	case SPOOL_PRE:
		if (z->c->work && !free_stuck_slot(z))
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
		p->stuck_slot = free_stuck_slot(z);
		if (p->stuck_slot)
			__atomic_store_n(p->stuck_slot, getpid(), __ATOMIC_RELAXED);
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

/* CPU time since the last call. */
static void count_work(struct freezer *z, uint64_t bytes)
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
		report_path(z, CAPTURE_PRE_DURABLE, dir, z->pre.len, 0, z->pre_events);
	} else {
		report(z, CAPTURE_FAILED, 0, error, 0);
	}
	(void)!write(z->pre_done[1], &done, sizeof(done));
	return NULL;
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

static void store_rest(struct freezer *z, bool names)
{
	uint64_t raw_ns, bytes;
	const char *dir;
	int error = 0, deleted;
	bool whole;

	dir = store_second(z, &bytes, &error);
	if (!dir) {
		report(z, CAPTURE_FAILED, 0, error, 0);
		count_work(z, 0);
		return;
	}
	raw_ns = sb_monotonic_ns();
	deleted = make_room(z);
	report_path(z, CAPTURE_RAW_DURABLE, dir, z->pre.len + z->out.len, (uint32_t)deleted, events_of(z));
	become_ordinary();
	whole = append_names(z, dir, raw_ns, names);
	count_work(z, bytes);
	if (whole)
		report_path(z, CAPTURE_COMPLETE, dir, z->pre.len + z->out.len, 0, events_of(z));
	else
		report(z, CAPTURE_FAILED, z->out.len, -EIO, 0);
}

/* A copy that the spool gets after all is removed before this process ends. */
static void await_spooler(struct freezer *z)
{
	if (!z->spooler.given_up)
		return;
	shutdown(z->fd, SHUT_RDWR); /* nobody waits for us */
	spooler_wait(&z->spooler, -1);
}

/* ---- the freezer ------------------------------------------------------------------ */

static void write_marks(struct freezer *z, const struct capture_order *o)
{
	struct bundle_mark marks[CAPTURE_MARKS];
	size_t n = SB_MIN(o->n_marks, (uint32_t)CAPTURE_MARKS);

	for (size_t i = 0; i < n; i++)
		marks[i] = (struct bundle_mark){ o->mark[i].ts_ns, o->mark[i].kind, o->mark[i].text };
	if (n)
		bundle_writer_marks(z->f.w, marks, n);
}

/* The last changes of the limit, whichever agent made them. */
static void write_limits(struct freezer *z)
{
	const struct sb_control *c = z->c->probes->control;
	uint64_t n = __atomic_load_n(&c->limit_changes, __ATOMIC_ACQUIRE);
	struct bundle_mark marks[SB_LIMIT_NOTES];
	char text[SB_LIMIT_NOTES][256];
	size_t k = 0;

	for (uint64_t i = n > SB_LIMIT_NOTES ? n - SB_LIMIT_NOTES : 0; i < n; i++, k++) {
		const struct sb_limit_note *note = &c->limit_note[i % SB_LIMIT_NOTES];
		int len = 0;

		if (!k && i)
			len = snprintf(text[0], sizeof(text[0]), "(%llu earlier changes are not kept) ",
				       (unsigned long long)i);
		limit_note_text(note, text[k] + len, sizeof(text[k]) - (size_t)len);
		marks[k] = (struct bundle_mark){ note->ts_ns, "limit", text[k] };
	}
	if (k)
		bundle_writer_marks(z->f.w, marks, k);
}

static void write_sealed(struct freezer *z)
{
	struct bundle_mark mark = { z->f.newest_ns, "sealed", "newest record of the sealed bank" };

	if (mark.ts_ns)
		bundle_writer_marks(z->f.w, &mark, 1);
}

static void name_kernel(struct freezer *z)
{
	if (kernel_symbols)
		kernel_names_write(&z->f, kernel_symbols, KERNEL_NAMES_OWN_TEXT);
}

static int begin_capture(struct freezer *z)
{
	const struct capture_order *o = &z->order;
	int r;

	prctl(PR_SET_NAME, "stallbox-freeze");
	r = freeze_take_stackshot(&z->f);
	report(z, CAPTURE_SHOT, z->f.shot_len, r, 0);
	sleep_until(o->sealed_ns + SETTLE_NS);
	r = bundle_writer_new(membuf_write, &z->out, ZSTD_LEVEL, &z->f.w);
	if (r < 0)
		return r;
	write_header(z);
	write_marks(z, o);
	freeze_write_bank(&z->f, o->bank);
	write_sealed(z);
	freeze_write_stackshot(&z->f);
	name_kernel(z);
	r = bundle_writer_flush(z->f.w);
	report(z, CAPTURE_BANK_READ, z->out.len, r, events_of(z));
	if (r < 0)
		return 0;
	/* Not touched again: the thread reads it. */
	z->pre = z->out;
	z->out = (struct membuf){};
	z->pre_events = events_of(z);
	(void)!write(z->store_pre[1], "", 1);
	return 0;
}

static void write_cost(struct freezer *z, const struct capture_order *o)
{
	struct bundle_cost cost = o->cost;
	struct bundle_program_cost program[PROBES_MAX_PROGRAMS];

	cost.n_programs = SB_MIN(cost.n_programs, (size_t)PROBES_MAX_PROGRAMS);
	for (size_t i = 0; i < cost.n_programs; i++) {
		program[i] = o->program[i];
		program[i].name = o->program_name[i];
	}
	cost.program = program;
	bundle_writer_cost(z->f.w, &cost);
}

/* Runs that the kernel left out because the program was already running on that CPU. */
static uint64_t missed_runs(const struct capture_order *o)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < SB_MIN(o->cost.n_programs, (size_t)PROBES_MAX_PROGRAMS); i++)
		sum += o->program[i].recursion_misses;
	return sum;
}

static void end_capture(struct freezer *z, bool names)
{
	if (!names) {
		struct bundle_mark m = { sb_monotonic_ns(), "no-names",
					 "names of earlier bundles were still being looked up; the kernel's own are here" };

		bundle_writer_marks(z->f.w, &m, 1);
		bundle_writer_flush(z->f.w);
	}
	count_work(z, 0);
	report(z, CAPTURE_BANK_READ, z->pre.len + z->out.len, bundle_writer_error(z->f.w), events_of(z));
	prctl(PR_SET_NAME, "stallbox-store");
	store_rest(z, names);
}

static void post_capture(struct freezer *z, const struct capture_order *o)
{
	sleep_until(o->sealed_ns + SETTLE_NS);
	freeze_write_bank(&z->f, o->bank);
	name_kernel(z);
	if (z->c->series)
		series_write(z->c->series, z->f.w);
	freeze_write_losses(&z->f, o->recorded, missed_runs(o));
	write_marks(z, o);
	write_limits(z);
	write_cost(z, o);
	bundle_writer_flush(z->f.w);
	end_capture(z, !o->no_names);
}

/* The agent is gone: what is encoded becomes a whole bundle without its post window. */
static void orphaned(struct freezer *z)
{
	struct bundle_mark m = { sb_monotonic_ns(), "agent-gap",
				 "the agent ended during this capture; the post-trigger window is cut" };
	uint64_t recorded[SB_KIND_SLOTS];

	probes_recorded(z->f.probes, recorded);
	bundle_writer_marks(z->f.w, &m, 1);
	if (z->c->series)
		series_write(z->c->series, z->f.w);
	freeze_write_losses(&z->f, recorded, 0);
	write_limits(z);
	bundle_writer_flush(z->f.w);
	end_capture(z, true);
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

/* Everything that would otherwise be asked of the kernel in the middle of a freeze. */
static int get_ready(struct freezer *z)
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
	if (r == 0)
		r = start_thread(storer_main, z);
	if (r < 0)
		return r;
	mlockall(MCL_CURRENT);
	r = freeze_init(&z->f, z->c->probes);
	if (r < 0)
		return r;
	for (size_t i = 0; i < PREFAULT_BYTES; i += 4096)
		z->f.shot[i] = 1;
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	free(malloc(HEAP_BYTES));
	return 0;
}

/* 1: an order, 0: none will come. */
static int next_order(const struct freezer *z, struct capture_order *ret)
{
	ssize_t n;

	do
		n = recv(z->fd, ret, sizeof(*ret), 0);
	while (n < 0 && errno == EINTR);
	return n == sizeof(*ret);
}

static int freezer_main(const struct capture_config *c, int fd)
{
	static struct freezer z;
	struct capture_order o;

	z.c = c;
	z.fd = fd;
	prctl(PR_SET_NAME, "stallbox-ready");
	signal(SIGINT, SIG_IGN); /* a terminal's ^C goes to the agent, which ends us in order */
	signal(SIGTERM, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error as any other */
	signal(SIGCHLD, SIG_DFL);
	if (get_ready(&z) < 0)
		return 1;
	do {
		if (!next_order(&z, &z.order))
			return 0;
	} while (z.order.type != CAPTURE_FREEZE);
	if (begin_capture(&z) < 0)
		return 1;
	do {
		if (!next_order(&z, &o)) {
			orphaned(&z);
			await_spooler(&z);
			return 0;
		}
	} while (o.type != CAPTURE_POST);
	post_capture(&z, &o);
	await_spooler(&z);
	return 0;
}

/* ---- starting --------------------------------------------------------------------- */

static void load_kernel_symbols(struct capture_work *work)
{
	uint64_t text_start;
	ssize_t bytes;

	if (symbols_load_kallsyms("/proc/kallsyms", &kernel_symbols, &text_start) < 0)
		return;
	bytes = symbols_share(kernel_symbols);
	malloc_trim(0);
	if (work)
		__atomic_store_n(&work->shared_bytes, SB_MAX(bytes, 0), __ATOMIC_RELAXED);
}

/* A child at the other end of a socket. Its pid, 0 in the child, or a negative errno. */
static pid_t fork_with_socket(int *ret_fd)
{
	int pair[2], size = 256 << 10, r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	pid = fork();
	r = -errno;
	if (pid < 0)
		close(pair[0]);
	close(pair[pid != 0]);
	*ret_fd = pair[pid == 0];
	return pid < 0 ? r : pid;
}

/* not_for_it: a descriptor that only this process may have; -1: none. */
static int fork_freezer(const struct capture_config *c, int not_for_it, struct capture_process *ret)
{
	int fd;
	pid_t pid = fork_with_socket(&fd);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		if (not_for_it >= 0)
			close(not_for_it);
		_exit(freezer_main(c, fd));
	}
	*ret = (struct capture_process){ .fd = fd, .pid = pid };
	return 0;
}

int capture_start(const struct capture_config *c, struct capture_process *ret)
{
	if (!kernel_symbols)
		load_kernel_symbols(c->work);
	return fork_freezer(c, -1, ret);
}

/* A process whose descriptor goes to whoever asked; one message, the pid in it. */
static int hand_over(int fd, const struct capture_process *p)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec iov = { (void *)&p->pid, sizeof(p->pid) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control.space) };

	control.h = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.h), &p->fd, sizeof(int));
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int starter_main(const struct capture_config *c, int fd)
{
	char byte;

	prctl(PR_SET_NAME, "stallbox-start");
	load_kernel_symbols(c->work);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* none of them is waited for */
	while (recv(fd, &byte, 1, 0) == 1) {
		struct capture_process p;
		int r;

		/* Out of processes or memory: that passes. */
		while (fork_freezer(c, fd, &p) < 0)
			sleep_until(sb_monotonic_ns() + NSEC_PER_SEC);
		r = hand_over(fd, &p);
		close(p.fd);
		if (r < 0)
			return 1;
	}
	return 0;
}

int capture_starter(const struct capture_config *c, const int *not_for_it, size_t n, struct capture_process *ret)
{
	int fd;
	pid_t pid = fork_with_socket(&fd);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		sigset_t none;

		probes_forget_links(c->probes);
		for (size_t i = 0; i < n; i++)
			close(not_for_it[i]);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		_exit(starter_main(c, fd));
	}
	*ret = (struct capture_process){ .fd = fd, .pid = pid };
	return 0;
}

int capture_ask(const struct capture_process *starter)
{
	return send(starter->fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int capture_accept(const struct capture_process *starter, struct capture_process *ret)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	pid_t pid;
	struct iovec iov = { &pid, sizeof(pid) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control.space) };
	ssize_t n = recvmsg(starter->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != sizeof(pid) || m.msg_controllen < sizeof(control.h) || control.h.cmsg_type != SCM_RIGHTS)
		return -EPIPE;
	ret->pid = pid;
	memcpy(&ret->fd, CMSG_DATA(&control.h), sizeof(int));
	return 1;
}

void capture_stop(struct capture_process *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	if (p->pid > 0)
		waitpid(p->pid, NULL, 0);
	p->pid = 0;
}

int capture_send(const struct capture_process *p, const struct capture_order *o)
{
	return send(p->fd, o, sizeof(*o), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int capture_receive(const struct capture_process *p, struct capture_report *ret)
{
	ssize_t n = recv(p->fd, ret, sizeof(*ret), MSG_DONTWAIT);

	if (n == sizeof(*ret))
		return 1;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return -EPIPE;
}
