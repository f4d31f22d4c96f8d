// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/selfcost.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "recorder/privileges.h"

#define FIRST_WINDOW_AFTER_NS (1 * NSEC_PER_SEC)
#define RSS_EVERY_NS (10 * NSEC_PER_SEC)

static uint64_t own_cpu_ns(void)
{
	return sb_now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t selfcost_cpu_ns(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (pid <= 0 || clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* What a process has in memory, and how much of it files and others have too, in bytes. statm takes no
 * lock of the address space. pid 0: our own. */
static bool read_statm(pid_t pid, uint64_t *ret_rss, uint64_t *ret_shared)
{
	char buf[128] = "", path[40] = "/proc/self/statm";
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	_cleanup_close_ int fd = -1;
	unsigned long size, rss, shared;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0 || sscanf(buf, "%lu %lu %lu", &size, &rss, &shared) != 3)
		return false;
	*ret_rss = rss * page;
	*ret_shared = shared * page;
	return true;
}

/* Resident memory without the maps of the ring, which are mapped here and counted on their own. */
static uint64_t rss_of(pid_t pid, const struct probes *p)
{
	uint64_t bytes, shared;

	if (!read_statm(pid, &bytes, &shared))
		return 0;
	return bytes > p->mapped_bytes ? bytes - p->mapped_bytes : bytes;
}

/* Of another process, without pages of files: those are the same program's, and counted here. */
static uint64_t private_of(pid_t pid)
{
	uint64_t bytes, shared;

	return pid > 0 && read_statm(pid, &bytes, &shared) && bytes > shared ? bytes - shared : 0;
}

void selfcost_init(struct selfcost *c)
{
	memset(c, 0, sizeof(*c));
	c->stats_fd = -1;
	c->started_ns = sb_monotonic_ns();
	c->start_cpu_ns = own_cpu_ns();
	c->cpu_ns = c->start_cpu_ns;
}

/* ---- what drives the programs ------------------------------------------------------- */

enum selfcost_driver selfcost_driver_of(const char *program)
{
	static const struct {
		const char *name;
		enum selfcost_driver driver;
	} driven[] = {
		{ "sched_switch", DRIVEN_BY_SWITCHES },
		{ "sched_waking", DRIVEN_BY_SWITCHES },
		{ "contention_begi", DRIVEN_BY_SWITCHES }, /* the kernel keeps 15 characters */
		{ "contention_end", DRIVEN_BY_SWITCHES },
		{ "lock_deadline", DRIVEN_BY_SWITCHES },
		{ "sample", DRIVEN_BY_TICKS },
		{ "tick_sample", DRIVEN_BY_TICKS },
		{ "direct_begin", DRIVEN_BY_SPANS },
		{ "direct_end", DRIVEN_BY_SPANS },
		{ "direct_deadline", DRIVEN_BY_SPANS },
		{ "memcg_begin", DRIVEN_BY_SPANS },
		{ "memcg_end", DRIVEN_BY_SPANS },
		{ "memcg_deadline", DRIVEN_BY_SPANS },
		{ "node_begin", DRIVEN_BY_SPANS },
		{ "node_end", DRIVEN_BY_SPANS },
		{ "node_deadline", DRIVEN_BY_SPANS },
		{ "shrink_inactive", DRIVEN_BY_SPANS },
		{ "lru_isolate", DRIVEN_BY_SPANS },
		{ "slab_start", DRIVEN_BY_SPANS },
		{ "slab_end", DRIVEN_BY_SPANS },
		{ "compaction_begi", DRIVEN_BY_SPANS },
		{ "compaction_end", DRIVEN_BY_SPANS },
		{ "process_fork", DRIVEN_BY_FORKS },
		{ "process_exec", DRIVEN_BY_FORKS },
		{ "process_exit", DRIVEN_BY_FORKS },
	};

	for (size_t i = 0; i < SB_ARRAY_SIZE(driven); i++) {
		if (!strcmp(driven[i].name, program))
			return driven[i].driver;
	}
	return DRIVEN_BY_TIME;
}

double selfcost_estimate(const struct selfcost_rates *r, const struct selfcost_counts *now, bool *ret_sure)
{
	double ns = 0;

	*ret_sure = r->measured;
	for (int d = 0; d < SELFCOST_DRIVERS; d++) {
		bool known = r->counts.known[d] && now->known[d];

		if (known && r->counts.n[d] > 0) {
			ns += r->ns[d] / r->counts.n[d] * now->n[d];
			continue;
		}
		/* It was idle when measured, or is not counted: as much in the same time as then. */
		ns += r->ns[d] / r->counts.n[DRIVEN_BY_TIME] * now->n[DRIVEN_BY_TIME];
		if (!known || now->n[d] > 0)
			*ret_sure = false;
	}
	return ns;
}

/* Counts since the last tick. The series' readings are up to a second old: their rate is used. */
static struct selfcost_counts take_counts(struct selfcost *c, const struct selfcost_sources *s, uint64_t now_ns)
{
	const struct probes *p = s->probes;
	struct selfcost_counts counts = {};
	struct series_counters host = {};
	uint64_t ticks = 0, spans = 0;
	double span = (double)(now_ns - c->tick_ns);

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		ticks += p->cpus[cpu].ticks;
		spans += p->cpus[cpu].recorded[SB_RECLAIM] + p->cpus[cpu].lost[SB_LOST_SHORT_SPANS];
	}
	counts.n[DRIVEN_BY_TIME] = span;
	counts.n[DRIVEN_BY_TICKS] = (double)(ticks - c->ticks);
	counts.n[DRIVEN_BY_SPANS] = (double)(spans - c->spans);
	counts.known[DRIVEN_BY_TIME] = counts.known[DRIVEN_BY_TICKS] = counts.known[DRIVEN_BY_SPANS] = true;
	c->ticks = ticks;
	c->spans = spans;
	if (series_counters(s->series, &host) && host.ts_ns > c->host.ts_ns) {
		double age = (double)(host.ts_ns - c->host.ts_ns);

		c->switches_s = c->host.ts_ns ? (double)(host.switches - c->host.switches) / age * 1e9 : -1;
		c->forks_s = c->host.ts_ns ? (double)(host.forks - c->host.forks) / age * 1e9 : -1;
		c->host = host;
	}
	if (now_ns - c->host.ts_ns < 3 * SERIES_PERIOD_NS && c->switches_s >= 0) {
		counts.n[DRIVEN_BY_SWITCHES] = c->switches_s * span / 1e9;
		counts.n[DRIVEN_BY_FORKS] = c->forks_s * span / 1e9;
		counts.known[DRIVEN_BY_SWITCHES] = counts.known[DRIVEN_BY_FORKS] = true;
	}
	return counts;
}

/* ---- the measuring window ------------------------------------------------------------ */

static void read_programs(struct selfcost *c, const struct probes *p)
{
	c->n = p->n_programs;
	for (size_t i = 0; i < c->n; i++) {
		struct bpf_prog_info info = {};
		uint32_t len = sizeof(info);

		if (bpf_obj_get_info_by_fd(p->program[i].fd, &info, &len) < 0)
			continue;
		c->program[i] = (struct bundle_program_cost){
			.name = p->program[i].name,
			.run_cnt = info.run_cnt,
			.run_time_ns = info.run_time_ns,
			.recursion_misses = info.recursion_misses,
		};
	}
}

static void open_window(struct selfcost *c, const struct probes *p, uint64_t now_ns)
{
	privileges_raise();
	c->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	c->stats_error = c->stats_fd < 0 ? -errno : 0;
	privileges_lower();
	if (c->stats_fd < 0)
		return;
	read_programs(c, p);
	for (size_t i = 0; i < c->n; i++) {
		c->begin_cnt[i] = c->program[i].run_cnt;
		c->begin_ns[i] = c->program[i].run_time_ns;
	}
	c->begin_ns_at = now_ns;
}

static void close_window(struct selfcost *c, const struct probes *p, const struct selfcost_counts *counts,
			 uint64_t now_ns)
{
	double span_s = (double)(now_ns - c->begin_ns_at) / 1e9;

	read_programs(c, p);
	close(c->stats_fd);
	c->stats_fd = -1;
	c->window_since_ns = c->begin_ns_at;
	c->window_until_ns = now_ns;
	c->rates = (struct selfcost_rates){ .counts = *counts, .measured = true };
	for (size_t i = 0; i < c->n; i++) {
		c->window_cnt[i] = c->program[i].run_cnt - c->begin_cnt[i];
		c->window_ns[i] = c->program[i].run_time_ns - c->begin_ns[i];
		c->rates.ns[selfcost_driver_of(c->program[i].name)] += (double)c->window_ns[i];
		c->window_runs_s[i] = (int64_t)((double)c->window_cnt[i] / span_s);
		c->window_ns_s[i] = (int64_t)((double)c->window_ns[i] / span_s);
	}
	c->windows++;
}

static double window_ns(const struct selfcost *c)
{
	double ns = 0;

	for (int d = 0; d < SELFCOST_DRIVERS; d++)
		ns += c->rates.ns[d];
	return ns;
}

/* Half of the budget is used, or it was. */
static bool near_budget(const struct selfcost *c, const struct selfcost_sources *s)
{
	double budget_ns = 0.5e-6 * s->budget_ppm * (double)c->span_ns * s->cpus;

	return s->limit_step || (c->span_ns && (double)c->span_cost_ns > budget_ns);
}

static bool window_due(const struct selfcost *c, const struct selfcost_sources *s, bool sure, uint64_t now_ns)
{
	uint64_t age = now_ns - c->window_until_ns;
	bool near = !sure || near_budget(c, s);

	if (c->stats_error || now_ns < c->started_ns + FIRST_WINDOW_AFTER_NS)
		return false;
	return !c->windows || c->want_window || age >= (near ? SELFCOST_NEAR_NS : SELFCOST_EVERY_NS);
}

void selfcost_remeasure(struct selfcost *c)
{
	c->want_window = true;
}

/* ---- taking stock -------------------------------------------------------------------- */

static void take_rss(struct selfcost *c, const struct selfcost_sources *s, uint64_t now_ns)
{
	if (now_ns < c->rss_due_ns)
		return;
	c->rss_bytes = rss_of(0, s->probes);
	c->worker_rss_bytes = private_of(series_pid(s->series)) + private_of(s->unwinder);
	if (s->work)
		c->worker_rss_bytes += __atomic_load_n(&s->work->shared_bytes, __ATOMIC_RELAXED);
	if (s->pool)
		c->worker_rss_bytes += private_of(s->pool->starter.pid);
	for (unsigned int i = 0; s->pool && i < POOL_SLOTS; i++) {
		if (s->pool->slot[i].use)
			c->worker_rss_bytes += private_of(s->pool->slot[i].p.pid);
	}
	c->rss_due_ns = now_ns + RSS_EVERY_NS;
}

/* Processes of captures add what they used to s->work when they begin to store, and when they end. */
uint64_t selfcost_worker_ns(struct selfcost *c, const struct selfcost_sources *s)
{
	uint64_t ns = c->freezer_ns + (s->work ? __atomic_load_n(&s->work->cpu_ns, __ATOMIC_RELAXED) : 0);

	ns += s->unwinder > 0 ? selfcost_cpu_ns(s->unwinder) : 0;
	if (s->pool)
		ns += selfcost_cpu_ns(s->pool->starter.pid);
	for (unsigned int i = 0; s->pool && i < POOL_SLOTS; i++) {
		const struct pool_slot *slot = &s->pool->slot[i];

		if (slot->use == POOL_WAITING || slot->use == POOL_CAPTURING)
			ns += selfcost_cpu_ns(slot->p.pid);
	}
	c->worker_ns = SB_MAX(c->worker_ns, ns);
	return c->worker_ns;
}

static void publish(struct selfcost *c, const struct selfcost_sources *s)
{
	struct series_own own = {
		.bpf_us = (int64_t)(c->bpf_ns / NSEC_PER_USEC),
		.bpf_measured = c->span_measured,
		.agent_us = (int64_t)((c->cpu_ns - c->start_cpu_ns) / NSEC_PER_USEC),
		.worker_us = (int64_t)(selfcost_worker_ns(c, s) / NSEC_PER_USEC),
		.agent_rss_kib = (int64_t)(c->rss_bytes >> 10),
		.worker_rss_kib = (int64_t)(c->worker_rss_bytes >> 10),
		.maps_kib = (int64_t)(probes_memory(s->probes) >> 10),
		.wakeups = (int64_t)c->wakeups,
		.written = s->work ? (int64_t)__atomic_load_n(&s->work->bytes_written, __ATOMIC_RELAXED) : 0,
		.limit_step = s->limit_step,
		.windows = c->windows,
	};

	series_own(s->series, &own, c->window_runs_s, c->window_ns_s, c->n);
}

/* What it did in the span that ends now. */
static bool take_span(struct selfcost *c, const struct selfcost_sources *s, uint64_t now_ns)
{
	struct selfcost_counts counts = take_counts(c, s, now_ns);
	uint64_t cpu = own_cpu_ns(), reader = c->host.reader_cpu_ns - c->reader_ns;
	bool sure = true;
	double bpf = 0;

	c->reader_ns = c->host.reader_cpu_ns;
	c->span_measured = c->stats_fd >= 0;
	if (c->span_measured) {
		close_window(c, s->probes, &counts, now_ns);
		c->want_window = false;
		bpf = window_ns(c);
	} else if (c->rates.measured) {
		bpf = selfcost_estimate(&c->rates, &counts, &sure);
	}
	c->bpf_ns += (uint64_t)bpf;
	c->span_ns = c->rates.measured ? now_ns - c->tick_ns : 0;
	c->span_cost_ns = (uint64_t)bpf + (cpu - c->cpu_ns) + reader;
	c->cpu_ns = cpu;
	return sure;
}

uint64_t selfcost_tick(struct selfcost *c, const struct selfcost_sources *s, uint64_t now_ns)
{
	bool sure = true, waits = !c->windows && !c->stats_error;
	uint64_t period_ns;

	if (c->tick_ns)
		sure = take_span(c, s, now_ns);
	else
		take_counts(c, s, now_ns);
	c->tick_ns = now_ns;
	take_rss(c, s, now_ns);
	if (c->stats_fd < 0 && window_due(c, s, sure, now_ns))
		open_window(c, s->probes, now_ns);
	publish(c, s);
	/* A window is a second long; far from the budget, and with no window open, seldom is enough. */
	period_ns = waits || c->stats_fd >= 0 || near_budget(c, s) ? SELFCOST_TICK_NS : SELFCOST_IDLE_TICK_NS;
	return (now_ns / period_ns + 1) * period_ns;
}

double selfcost_bpf_ppm(const struct selfcost *c, uint32_t cpus)
{
	uint64_t span = c->window_until_ns - c->window_since_ns;

	return span ? 1e6 * window_ns(c) / ((double)span * cpus) : -1;
}

void selfcost_fill(struct selfcost *c, const struct selfcost_sources *s, struct bundle_cost *ret)
{
	read_programs(c, s->probes);
	for (size_t i = 0; i < c->n; i++) {
		/* Counts and times of the same window, so that their ratio is the cost per run. */
		c->program[i].run_cnt = c->window_cnt[i];
		c->program[i].run_time_ns = c->window_ns[i];
	}
	*ret = (struct bundle_cost){
		.since_ns = c->window_since_ns,
		.until_ns = c->window_until_ns,
		.program = c->program,
		.n_programs = c->n,
		.agent_cpu_ns = own_cpu_ns() - c->start_cpu_ns,
		.agent_rss_bytes = c->rss_bytes ? c->rss_bytes : rss_of(0, s->probes),
		.map_bytes = probes_memory(s->probes),
		.wakeups = c->wakeups + series_samples(s->series),
		.bytes_written = s->work ? __atomic_load_n(&s->work->bytes_written, __ATOMIC_RELAXED) : 0,
		.worker_cpu_ns = selfcost_worker_ns(c, s) + c->host.reader_cpu_ns,
		.worker_rss_bytes = c->worker_rss_bytes,
		.bpf_time_ns = c->bpf_ns,
		.period_ns = sb_monotonic_ns() - c->started_ns,
		.windows = (uint32_t)c->windows,
		.budget_ppm = s->budget_ppm,
		.limit_step = s->limit_step,
		.limit_changes = (uint32_t)s->probes->control->limit_changes,
	};
}
