// SPDX-License-Identifier: BSD-2-Clause
/* The process of one capture: what it does from the trigger until all is encoded. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "recorder/capture_impl.h"
#include "recorder/kernel_names.h"
#include "recorder/limit.h"
#include "recorder/privileges.h"

/* A program that was inside a record when the generation flipped is done long before. */
#define SETTLE_NS (20 * NSEC_PER_MSEC)
#define ZSTD_LEVEL 3
/* Touched at start, so that the first stackshot finds its pages there. */
#define PREFAULT_BYTES (512u << 10)
/* Address space that malloc gets before it is needed: growing the heap takes a lock that this process
 * shares with those it was forked beside, one of which may wait for a CPU with the lock held. */
#define HEAP_BYTES (64 << 20)

int membuf_write(void *ctx, const void *buf, size_t len)
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

uint64_t capture_events(const struct freezer *z)
{
	return z->f.w ? bundle_writer_events(z->f.w) : 0;
}

void capture_report(const struct freezer *z, enum capture_report_type type, uint64_t value, int error,
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

void capture_report_path(const struct freezer *z, enum capture_report_type type, const struct place *p, uint64_t events)
{
	struct capture_report r = {
		.type = type,
		.id = z->order.id,
		.ns = sb_monotonic_ns(),
		.value = capture_bytes(z),
		.events = events,
	};

	snprintf(r.path, sizeof(r.path), "%s/%s", spool_dir(&z->c->spool, p->which), p->file);
	(void)!send(z->fd, &r, sizeof(r), MSG_NOSIGNAL);
}

void capture_seal_part(struct freezer *z)
{
	z->part[z->n_parts++] = z->out;
	z->out = (struct membuf){};
}

uint64_t capture_bytes(const struct freezer *z)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < z->n_parts; i++)
		sum += z->part[i].len;
	return sum;
}

void become_ordinary(void)
{
	struct sched_param sp = {};

	sched_setscheduler(0, SCHED_OTHER, &sp);
	setpriority(PRIO_PROCESS, 0, 10);
}

void sleep_until(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NSEC_PER_SEC),
			       .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

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
	if (z->c->kernel)
		kernel_names_write(&z->f, z->c->kernel, KERNEL_NAMES_OWN_TEXT);
}

static int begin_capture(struct freezer *z)
{
	const struct capture_order *o = &z->order;
	int r;

	prctl(PR_SET_NAME, "stallbox-freeze");
	r = freeze_take_stackshot(&z->f);
	capture_report(z, CAPTURE_SHOT, z->f.shot_len, r, 0);
	sleep_until(o->sealed_ns + SETTLE_NS);
	r = bundle_writer_new(membuf_write, &z->out, ZSTD_LEVEL, &z->f.w);
	if (r < 0)
		return r;
	capture_write_header(z);
	write_marks(z, o);
	freeze_write_bank(&z->f, o->bank);
	write_sealed(z);
	freeze_write_stackshot(&z->f);
	name_kernel(z);
	r = bundle_writer_flush(z->f.w);
	capture_report(z, CAPTURE_BANK_READ, z->out.len, r, capture_events(z));
	if (r < 0)
		return 0;
	capture_seal_part(z);
	z->pre_events = capture_events(z);
	store_first(z);
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
	count_work(z);
	capture_report(z, CAPTURE_BANK_READ, capture_bytes(z) + z->out.len, bundle_writer_error(z->f.w), capture_events(z));
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
	freeze_write_losses(&z->f, o->recorded, missed_runs(o), z->c->unwinder);
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
	freeze_write_losses(&z->f, recorded, 0, z->c->unwinder);
	write_limits(z);
	bundle_writer_flush(z->f.w);
	end_capture(z, true);
}

/* Everything that would otherwise be asked of the kernel in the middle of a freeze. */
static int get_ready(struct freezer *z)
{
	int r = store_init(z);

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

/* A reload after the fork counts for this capture, too. */
static void take_settings(struct freezer *z)
{
	const struct capture_settings *s = &z->c->work->settings[z->order.settings];

	z->n_listed = s->n_listed;
	for (size_t i = 0; i < s->n_listed; i++)
		z->listed[i] = (struct bundle_kv){ s->key[i], s->value[i] };
}

int capture_main(const struct capture_config *c, int fd)
{
	static struct freezer z;
	struct capture_order o;

	z.c = c;
	z.fd = fd;
	privileges_become(PRIVILEGES_CAPTURES);
	prctl(PR_SET_NAME, "stallbox-ready");
	signal(SIGINT, SIG_IGN); /* a terminal's ^C goes to the agent, which ends us in order */
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* so is a terminal that hangs up */
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error as any other */
	signal(SIGCHLD, SIG_DFL);
	if (get_ready(&z) < 0)
		return 1;
	do {
		if (!next_order(&z, &z.order))
			return 0;
	} while (z.order.type != CAPTURE_FREEZE);
	take_settings(&z);
	if (begin_capture(&z) < 0)
		return 1;
	do {
		if (!next_order(&z, &o)) {
			orphaned(&z);
			store_done(&z);
			return 0;
		}
	} while (o.type != CAPTURE_POST);
	post_capture(&z, &o);
	store_done(&z);
	return 0;
}
