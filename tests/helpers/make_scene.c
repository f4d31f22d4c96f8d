// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writes a bundle that tells one known story: make_scene OUT SCENE [key=value]...
 * Every scene is 30 s before and 10 s after the trigger on 4 CPUs at 100 Hz, with a little
 * ordinary life; the story is written on top. scale=PERCENT makes the story weaker or stronger,
 * losses=1 adds losses that could hide something, bare=1 a kernel without locks and series, unnamed=1 cgroups
 * that were gone before they could be named.
 */
#include <stdio.h>

#include "format/writer.h"

#define TRIGGER_NS (1000 * NSEC_PER_SEC)
#define MS NSEC_PER_MSEC
#define KERNEL_TEXT 0xffffffff81000000ULL
#define USER_TEXT 0x400000ULL
#define CPUS 4
#define BEFORE_S 30
#define AFTER_S 10
#define MAX_NAMES 256
#define MAX_SHOT 1200
#define MAX_EVENTS 400000

static struct {
	unsigned long scale, losses, bare, unnamed;
} o = { 100, 0, 0, 0 };

struct scene {
	struct bundle_writer *w;
	const char *names[MAX_NAMES];
	uint32_t n_names;
	struct bundle_shot_thread shot[MAX_SHOT];
	size_t n_shot;
	struct bundle_event *e; /* sorted before they are written */
	size_t n_events;
	uint32_t idle_thread, life, life_user;
	uint32_t busy_until[CPUS + 1]; /* ms from the start: the story has this CPU */
	struct bundle_trigger trigger;
};

static uint64_t at(int64_t ms)
{
	return (uint64_t)((int64_t)TRIGGER_NS + ms * (int64_t)MS);
}

static uint64_t scaled(uint64_t v)
{
	return v * o.scale / 100;
}

static uint32_t name_index(struct scene *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_names; i++) {
		if (!strcmp(s->names[i], name))
			return i;
	}
	s->names[s->n_names] = strdup(name);
	return s->n_names++;
}

/* "leaf;caller;..." */
static uint32_t stack(struct scene *s, uint32_t process, const char *text)
{
	char copy[1024], *save = NULL;
	uint64_t addr[64];
	struct bundle_stack st = { addr, 0, process, process ? BUNDLE_UNWIND_FP : BUNDLE_UNWIND_KERNEL };

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *f = strtok_r(copy, ";", &save); f; f = strtok_r(NULL, ";", &save))
		addr[st.n++] = (process ? USER_TEXT : KERNEL_TEXT) + 0x100ULL * name_index(s, f);
	return bundle_writer_stack(s->w, sb_hash_bytes(text, strlen(text)) ^ process, &st);
}

static uint32_t cgroup_named(struct scene *s, const char *path)
{
	return bundle_writer_cgroup(s->w, sb_hash_bytes(path, strlen(path)), o.unnamed ? "" : path);
}

static uint32_t process(struct scene *s, uint32_t pid, const char *comm, const char *cgroup)
{
	struct bundle_mapping map = { USER_TEXT, 0x100000, 0, 1 };
	struct bundle_process p = { .pid = pid, .ppid = 1, .comm = comm, .maps = &map, .n_maps = 1,
				    .map_state = BUNDLE_MAPS_READ };

	p.cgroup = cgroup_named(s, cgroup);
	return bundle_writer_process(s->w, &p);
}

static uint32_t thread(struct scene *s, uint32_t proc, uint32_t tid, const char *comm, const char *cgroup)
{
	struct bundle_thread t = { tid, proc, comm, cgroup_named(s, cgroup) };

	return bundle_writer_thread(s->w, &t);
}

static struct bundle_event *event(struct scene *s, enum bundle_kind kind, uint32_t cpu, int64_t ms, uint32_t th,
				  uint64_t duration_ms)
{
	struct bundle_event *e = &s->e[s->n_events++];

	if (s->n_events > MAX_EVENTS)
		abort();
	*e = (struct bundle_event){ .kind = kind, .cpu = cpu, .ts_ns = at(ms), .thread = th, .duration_ns = duration_ms * MS };
	return e;
}

/* One sample each 10 ms in [from, to). */
static void samples(struct scene *s, uint32_t cpu, int64_t from, int64_t to, uint32_t th, uint32_t kstack,
		    uint32_t ustack, uint32_t flags, uint32_t syscall)
{
	for (int64_t ms = from; ms < to; ms += 10) {
		struct bundle_event *e = event(s, BUNDLE_ON_CPU, cpu, ms, th, 10);

		e->kstack = kstack;
		e->ustack = ustack;
		e->flags = flags | (kstack ? 0 : BUNDLE_EV_USER);
		e->syscall = syscall;
	}
}

static struct bundle_event *block(struct scene *s, uint32_t cpu, int64_t end_ms, uint64_t ms, uint32_t th, uint32_t state,
				  uint64_t runq_ms, uint32_t kstack)
{
	struct bundle_event *e = event(s, BUNDLE_OFF_CPU, cpu, end_ms, th, ms);

	e->state = state;
	e->flags = state ? 0 : BUNDLE_EV_PREEMPTED;
	e->runq_delay_ns = runq_ms * MS;
	e->kstack = kstack;
	return e;
}

static struct bundle_shot_thread *shot(struct scene *s, uint32_t th, uint32_t state, uint64_t age_ms, uint32_t kstack)
{
	struct bundle_shot_thread *t = &s->shot[s->n_shot++];

	if (s->n_shot > MAX_SHOT)
		abort();
	*t = (struct bundle_shot_thread){ .thread = th, .state = state, .since_ns = TRIGGER_NS - age_ms * MS, .kstack = kstack };
	return t;
}

/* A counter or gauge once a second; rate: per second before and after the trigger. */
static void series(struct scene *s, const char *name, const char *scope, const char *unit, bool counter, int64_t start,
		   int64_t before, int64_t after)
{
	uint64_t ts[BEFORE_S + AFTER_S + 1];
	int64_t v[BEFORE_S + AFTER_S + 1];
	struct bundle_series out = { name, scope, unit, counter, ts, v, BEFORE_S + AFTER_S + 1 };

	if (o.bare)
		return;
	for (int i = 0; i <= BEFORE_S + AFTER_S; i++) {
		ts[i] = at((int64_t)(i - BEFORE_S) * 1000);
		if (counter)
			v[i] = start + (i <= BEFORE_S ? before * i : before * BEFORE_S + after * (i - BEFORE_S));
		else
			v[i] = i < BEFORE_S ? before : after;
	}
	bundle_writer_series(s->w, &out);
}

static void ordinary_series(struct scene *s, int64_t user, int64_t system, int64_t running, int64_t forks)
{
	static const char *const cpu[CPUS] = { "cpu0", "cpu1", "cpu2", "cpu3" };

	for (int c = 0; c < CPUS; c++) {
		series(s, "cpu.user", cpu[c], "ticks", true, 1000, user, user);
		series(s, "cpu.system", cpu[c], "ticks", true, 1000, system, system);
		series(s, "cpu.irq", cpu[c], "ticks", true, 100, 1, 1);
		series(s, "cpu.idle", cpu[c], "ticks", true, 100000, 99 - user - system, 99 - user - system);
	}
	series(s, "stat.processes", "", "forks", true, 5000, forks, forks);
	series(s, "stat.procs_running", "", "threads", false, 0, running, running);
	series(s, "pressure.memory.full", "", "us", true, 0, 0, 0);
}

#include "tests/helpers/scenes.h"

/* ---- what every scene has ------------------------------------------------------------------------ */

static void header(struct scene *s)
{
	struct bundle_clock clock = { TRIGGER_NS, 1790000000000000000LL, TRIGGER_NS };
	uint32_t online[CPUS] = { 0, 1, 2, 3 };
	struct bundle_kv missing = { "waits for locks", "no tracepoint lock:contention_begin" };
	struct bundle_header h = {
		.producer = "make_scene", .hostname = "db-7", .machine_id_hash = "0", .boot_id = "0",
		.kernel_release = "6.1.0", .kernel_version = "#1", .arch = "x86_64", .page_size = 4096,
		.cpus_possible = CPUS, .cpu_online = online, .n_cpu_online = CPUS, .mem_total_bytes = 16ULL << 30,
		.clocks = &clock, .n_clocks = 1, .missing = &missing, .n_missing = o.bare ? 1 : 0,
		.sample_period_ns = 10 * MS, .offcpu_threshold_ns = MS, .ring_bytes = 8 << 20, .trigger = s->trigger,
	};

	bundle_writer_header(s->w, &h);
}

/* A web server that answers a little, on every CPU, and sleeps meanwhile. */
static void ordinary_life(struct scene *s)
{
	uint32_t p = process(s, 800, "nginx", "/system.slice/nginx.service");
	uint32_t t[CPUS], u = stack(s, p, "ngx_http_parse;ngx_worker;main"), k = stack(s, 0, "tcp_sendmsg;ksys_write;do_syscall_64");
	uint32_t sleep = stack(s, 0, "ep_poll;do_epoll_wait;do_syscall_64");

	for (uint32_t c = 0; c < CPUS; c++) {
		t[c] = thread(s, p, 800 + c, "nginx", "/system.slice/nginx.service");
		for (int64_t ms = -BEFORE_S * 1000 + 7 * (int64_t)c; ms < AFTER_S * 1000; ms += 500) {
			samples(s, c, ms, ms + 20, t[c], 0, u, 0, 0);
			samples(s, c, ms + 20, ms + 30, t[c], k, u, 0, 2);
			block(s, c, ms + 499, 460, t[c], 1, 0, sleep);
		}
		shot(s, t[c], 1, 300, sleep);
	}
}

static int in_time(const void *a, const void *b)
{
	const struct bundle_event *x = a, *y = b;

	return x->ts_ns < y->ts_ns ? -1 : x->ts_ns > y->ts_ns;
}

static void symbols(struct scene *s)
{
	struct bundle_symbol sym[MAX_NAMES];

	for (uint32_t i = 0; i < s->n_names; i++)
		sym[i] = (struct bundle_symbol){ KERNEL_TEXT + 0x100u * i, KERNEL_TEXT + 0x100u * i, s->names[i], "" };
	bundle_writer_symbols(s->w, 0, "kallsyms", sym, s->n_names);
	for (uint32_t i = 0; i < s->n_names; i++)
		sym[i] = (struct bundle_symbol){ 0x100u * i, 0x100u * i, s->names[i], "" };
	bundle_writer_symbols(s->w, 1, "symtab", sym, s->n_names);
}

static void finish(struct scene *s)
{
	struct bundle_loss losses[] = {
		{ BUNDLE_LOSS_DROPPED, BUNDLE_RECLAIM, -1, 9000, "records", "over the budget of a CPU" },
		{ BUNDLE_LOSS_EVICTED, BUNDLE_KIND_NONE, -1, 300, "stacks", "overwritten before the freeze" },
	};
	struct bundle_loss normal = { BUNDLE_LOSS_OVERWRITTEN, BUNDLE_OFF_CPU, -1, 12345, "records",
				      "older than the ring reaches back" };
	struct bundle_footer footer = { .closed_ns = at(12000), .symbolized = true, .raw_durable_ns = at(10100),
					.pre_durable_ns = at(30) };

	qsort(s->e, s->n_events, sizeof(*s->e), in_time);
	for (size_t i = 0; i < s->n_events; i++)
		bundle_writer_event(s->w, &s->e[i]);
	bundle_writer_stackshot(s->w, TRIGGER_NS, TRIGGER_NS + MS, s->shot, s->n_shot, s->n_shot, 0);
	bundle_writer_losses(s->w, 1, o.losses ? losses : &normal, o.losses ? 2 : 1);
	bundle_writer_flush(s->w);
	symbols(s);
	bundle_writer_finish(s->w, &footer);
}

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -5;
}

static void arguments(int argc, char **argv)
{
	static const char *const keys[] = { "scale", "losses", "bare", "unnamed" };
	unsigned long *fields[] = { &o.scale, &o.losses, &o.bare, &o.unnamed };

	for (int i = 3; i < argc; i++) {
		for (size_t k = 0; k < SB_ARRAY_SIZE(keys); k++) {
			size_t n = strlen(keys[k]);

			if (!strncmp(argv[i], keys[k], n) && argv[i][n] == '=')
				*fields[k] = strtoul(argv[i] + n + 1, NULL, 10);
		}
	}
}

int main(int argc, char **argv)
{
	static struct scene s;
	const struct scene_entry *found = NULL;
	FILE *f;
	int r;

	for (size_t i = 0; argc > 2 && i < SB_ARRAY_SIZE(scenes); i++) {
		if (!strcmp(argv[2], scenes[i].name))
			found = &scenes[i];
	}
	f = found ? fopen(argv[1], "w") : NULL;
	if (!f) {
		fprintf(stderr, "usage: make_scene OUT SCENE [scale=PERCENT] [losses=1] [bare=1] [unnamed=1]\nscenes:");
		for (size_t i = 0; i < SB_ARRAY_SIZE(scenes); i++)
			fprintf(stderr, " %s", scenes[i].name);
		fprintf(stderr, "\n");
		return 2;
	}
	arguments(argc, argv);
	s.e = calloc(MAX_EVENTS, sizeof(*s.e));
	if (!s.e || bundle_writer_new(to_file, f, 3, &s.w) < 0)
		return 1;
	s.trigger = found->trigger;
	s.trigger.fired_ns = TRIGGER_NS;
	header(&s);
	bundle_writer_binary(s.w, "/usr/bin/program", "12345678901234567890", 20, 0);
	ordinary_life(&s);
	found->tell(&s);
	finish(&s);
	r = bundle_writer_error(s.w);
	bundle_writer_free(s.w);
	return fclose(f) || r ? 1 : 0;
}
