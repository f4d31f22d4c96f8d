// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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
#include "recorder/limit.h"

/* A program that was inside a record when the generation flipped is done long before. */
#define SETTLE_NS (20 * NSEC_PER_MSEC)
#define ZSTD_LEVEL 3
#define STORE_WAIT_MS 10000
#define MAX_NAMING    2 /* processes at a time that look up names */
#define MAX_STORING   8 /* that are watched; more at a time go unwatched */
/* Touched at start, so that the first stackshot finds its pages there. */
#define PREFAULT_BYTES (512u << 10)

struct membuf {
	char *data;
	size_t len, cap;
};

struct freezer {
	const struct capture_config *c;
	int fd;
	struct freeze f;
	struct membuf out;
	struct capture_order order; /* the FREEZE one */
	bool open;		    /* a capture whose post part is to come */
	size_t pre_len;
	struct storing {
		pid_t pid; /* 0: free */
		int fd;	   /* of the process */
		uint32_t id;
		bool names;
		bool first; /* of the part before the trigger: the second one makes up for it */
		char file[SPOOL_NAME_MAX];
	} storing[MAX_STORING];
	int pre_done_fd; /* the first storing process says how it went; -1 none */
	uint64_t pre_durable_ns;
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

static void report(const struct freezer *z, enum capture_report_type type, uint64_t value, int error)
{
	struct capture_report r = {
		.type = type,
		.id = z->order.id,
		.error = error,
		.ns = sb_monotonic_ns(),
		.value = value,
		.events = z->f.w ? bundle_writer_events(z->f.w) : 0,
	};

	/* Nobody listening any more: the bundle is written all the same. */
	(void)!send(z->fd, &r, sizeof(r), MSG_NOSIGNAL);
}

static void report_path(const struct freezer *z, enum capture_report_type type, const char *dir,
			uint64_t bytes, uint32_t deleted)
{
	struct capture_report r = {
		.type = type,
		.id = z->order.id,
		.ns = sb_monotonic_ns(),
		.value = bytes,
		.deleted = deleted,
		.events = bundle_writer_events(z->f.w),
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

/* Writes everything encoded so far, in the spool or else its fallback. Returns the
 * directory used, or NULL. */
static const char *publish(const struct freezer *z, int *ret_error)
{
	const struct spool *s = &z->c->spool;

	*ret_error = spool_publish(s->dir, z->order.file, z->out.data, z->out.len);
	if (*ret_error == 0)
		return s->dir;
	if (s->fallback[0] && spool_publish(s->fallback, z->order.file, z->out.data, z->out.len) == 0)
		return s->fallback;
	return NULL;
}

/* What the first storing process tells the second one. */
struct pre_result {
	uint32_t where; /* 0: nowhere, 1: the spool, 2: its fallback */
	uint64_t durable_ns;
};

/* Called by a storing process when it is done. */
static void count_work(const struct freezer *z, uint64_t bytes)
{
	uint64_t ns = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID);
	struct rusage ru;

	if (!z->c->work)
		return;
	if (getrusage(RUSAGE_CHILDREN, &ru) == 0) /* helpers that looked up names */
		ns += (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NSEC_PER_SEC +
		      (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * NSEC_PER_USEC;
	__atomic_fetch_add(&z->c->work->cpu_ns, ns, __ATOMIC_RELAXED);
	__atomic_fetch_add(&z->c->work->bytes_written, bytes, __ATOMIC_RELAXED);
}

static void store_pre(const struct freezer *z, int done_fd)
{
	int error;
	const char *dir = publish(z, &error);
	struct pre_result done = { .where = !dir ? 0 : dir == z->c->spool.dir ? 1 : 2,
				   .durable_ns = sb_monotonic_ns() };

	count_work(z, dir ? z->out.len : 0);
	if (dir)
		report_path(z, CAPTURE_PRE_DURABLE, dir, z->out.len, 0);
	else
		report(z, CAPTURE_FAILED, 0, error);
	(void)!write(done_fd, &done, sizeof(done));
}

/* Which directory holds the first part: waits for its storing process, but not for ever. */
static const char *pre_directory(struct freezer *z)
{
	struct pollfd pfd = { .fd = z->pre_done_fd, .events = POLLIN };
	struct pre_result done = {};

	if (z->pre_done_fd < 0 || poll(&pfd, 1, STORE_WAIT_MS) <= 0 ||
	    read(z->pre_done_fd, &done, sizeof(done)) != sizeof(done) || !done.where)
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
	       spool_append(dir, z->order.file, raw_len, z->out.data + raw_len,
			    z->out.len - raw_len) == 0;
}

/* Storing processes that have ended. Each says at its end how it went, or it was killed. */
static void reap(struct freezer *z)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned int i = 0; i < MAX_STORING; i++) {
			struct storing *s = &z->storing[i];
			struct capture_report r = { .type = CAPTURE_FAILED, .id = s->id, .error = -EOWNERDEAD,
						    .ns = sb_monotonic_ns() };

			if (s->pid != pid)
				continue;
			snprintf(r.path, sizeof(r.path), "%s", s->file);
			if (!WIFEXITED(status) && !s->first)
				(void)!send(z->fd, &r, sizeof(r), MSG_NOSIGNAL);
			if (s->fd >= 0)
				close(s->fd);
			s->pid = 0;
		}
	}
}

/* Storing processes that are still at it. The names of a bundle take time that an overloaded host
 * does not have: more than MAX_NAMING at once would only pile up memory, so the next bundles go
 * without. */
static bool may_name(struct freezer *z)
{
	unsigned int n = 0;

	reap(z);
	for (unsigned int i = 0; i < MAX_STORING; i++)
		n += z->storing[i].pid && z->storing[i].names;
	return n < MAX_NAMING;
}

static void note_storing(struct freezer *z, pid_t pid, bool names, bool first)
{
	for (unsigned int i = 0; i < MAX_STORING; i++) {
		struct storing *s = &z->storing[i];

		if (s->pid)
			continue;
		*s = (struct storing){ .pid = pid, .id = z->order.id, .names = names,
				       .first = first, .fd = (int)syscall(SYS_pidfd_open, pid, 0) };
		snprintf(s->file, sizeof(s->file), "%s", z->order.file);
		return;
	}
}

static void store_rest(struct freezer *z, bool names)
{
	const char *dir = pre_directory(z);
	int error = 0, deleted;
	uint64_t raw_ns, before = z->pre_len;
	bool whole;

	if (!dir || spool_append(dir, z->order.file, z->pre_len, z->out.data + z->pre_len,
				 z->out.len - z->pre_len) < 0) {
		dir = publish(z, &error); /* whole, elsewhere if need be */
		before = 0;
	}
	if (!dir) {
		report(z, CAPTURE_FAILED, 0, error);
		count_work(z, 0);
		return;
	}
	raw_ns = sb_monotonic_ns();
	deleted = spool_vacuum(&z->c->spool, z->order.file);
	report_path(z, CAPTURE_RAW_DURABLE, dir, z->out.len, (uint32_t)deleted);
	become_ordinary();
	whole = append_names(z, dir, raw_ns, names);
	count_work(z, z->out.len - before);
	if (whole)
		report_path(z, CAPTURE_COMPLETE, dir, z->out.len, 0);
	else
		report(z, CAPTURE_FAILED, z->out.len, -EIO);
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

static void begin_capture(struct freezer *z, const struct capture_order *o)
{
	int done[2] = { -1, -1 };
	pid_t pid;
	int r;

	z->order = *o;
	z->open = true;
	z->out.len = 0;
	z->pre_durable_ns = 0;
	r = freeze_take_stackshot(&z->f);
	report(z, CAPTURE_SHOT, z->f.shot_len, r);
	sleep_until(o->sealed_ns + SETTLE_NS);
	r = bundle_writer_new(membuf_write, &z->out, ZSTD_LEVEL, &z->f.w);
	if (r < 0) {
		report(z, CAPTURE_FAILED, 0, r);
		return;
	}
	write_header(z);
	write_marks(z, o);
	freeze_write_bank(&z->f, o->bank);
	write_sealed(z);
	freeze_write_stackshot(&z->f);
	r = bundle_writer_flush(z->f.w);
	report(z, CAPTURE_BANK_READ, z->out.len, r);
	z->pre_len = z->out.len;
	if (r < 0 || pipe2(done, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, "stallbox-store");
		store_pre(z, done[1]);
		_exit(0);
	}
	if (pid > 0)
		note_storing(z, pid, false, true);
	close(done[1]);
	z->pre_done_fd = done[0];
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

static void end_capture(struct freezer *z)
{
	bool names = may_name(z);
	pid_t pid;

	if (!names) {
		struct bundle_mark m = { sb_monotonic_ns(), "no-names",
					 "names of earlier bundles were still being looked up" };

		bundle_writer_marks(z->f.w, &m, 1);
	}
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, "stallbox-store");
		store_rest(z, names);
		_exit(0);
	}
	if (pid > 0)
		note_storing(z, pid, names, false);
	if (z->pre_done_fd >= 0)
		close(z->pre_done_fd);
	z->pre_done_fd = -1;
	bundle_writer_free(z->f.w);
	freeze_done(&z->f);
	freeze_init(&z->f, z->c->probes);
	z->open = false;
}

static void post_capture(struct freezer *z, const struct capture_order *o)
{
	int r;

	sleep_until(o->sealed_ns + SETTLE_NS);
	freeze_write_bank(&z->f, o->bank);
	if (z->c->series)
		series_write(z->c->series, z->f.w);
	freeze_write_losses(&z->f, o->recorded, missed_runs(o));
	write_marks(z, o);
	write_limits(z);
	write_cost(z, o);
	r = bundle_writer_flush(z->f.w);
	report(z, CAPTURE_BANK_READ, z->out.len, r);
	end_capture(z);
}

/* The agent is gone: what is encoded becomes a whole bundle without its post window. */
static void orphaned(struct freezer *z)
{
	struct bundle_mark m = { sb_monotonic_ns(), "agent-gap",
				 "the agent ended during this capture; the post-trigger window is cut" };
	uint64_t recorded[SB_KIND_SLOTS];

	if (!z->open || !z->f.w)
		return;
	probes_recorded(z->f.probes, recorded);
	bundle_writer_marks(z->f.w, &m, 1);
	if (z->c->series)
		series_write(z->c->series, z->f.w);
	freeze_write_losses(&z->f, recorded, 0);
	write_limits(z);
	bundle_writer_flush(z->f.w);
	end_capture(z);
}

/* Until there is one, or a storing process has ended. */
static void wait_for_order(const struct freezer *z)
{
	struct pollfd pfd[1 + MAX_STORING] = { { .fd = z->fd, .events = POLLIN } };

	for (unsigned int i = 0; i < MAX_STORING; i++)
		pfd[1 + i] = (struct pollfd){ .fd = z->storing[i].pid ? z->storing[i].fd : -1, .events = POLLIN };
	poll(pfd, SB_ARRAY_SIZE(pfd), -1);
}

static int freezer_main(const struct capture_config *c, int fd)
{
	struct freezer z = { .c = c, .fd = fd, .pre_done_fd = -1 };
	struct capture_order o;
	ssize_t n;

	prctl(PR_SET_NAME, "stallbox-freeze");
	signal(SIGINT, SIG_IGN); /* a terminal's ^C goes to the agent, which ends us in order */
	signal(SIGTERM, SIG_IGN);
	mlockall(MCL_CURRENT);
	if (freeze_init(&z.f, c->probes) < 0)
		return 1;
	for (size_t i = 0; i < PREFAULT_BYTES; i += 4096)
		z.f.shot[i] = 1;
	for (;;) {
		wait_for_order(&z);
		reap(&z);
		n = recv(fd, &o, sizeof(o), MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n != sizeof(o))
			break;
		if (o.type == CAPTURE_FREEZE && !z.open)
			begin_capture(&z, &o);
		else if (o.type == CAPTURE_POST && z.open && z.f.w)
			post_capture(&z, &o);
	}
	orphaned(&z);
	return 0;
}

int capture_start(const struct capture_config *c, struct capture_process *ret)
{
	int pair[2], size = 256 << 10;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (pid == 0) {
		sigset_t none;

		close(pair[0]);
		probes_forget_links(c->probes);
		if (*c->control_fd >= 0)
			close(*c->control_fd);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		_exit(freezer_main(c, pair[1]));
	}
	close(pair[1]);
	*ret = (struct capture_process){ .fd = pair[0], .pid = pid };
	return 0;
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
