/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the recorder itself costs: run time of the BPF programs, CPU and memory of its processes.
 *
 * The kernel's BPF statistics cost some 75 ns a run, so they are on for one second in SELFCOST_EVERY_NS;
 * one in SELFCOST_NEAR_NS while the cost is above half the budget, a limit is in force, or it cannot
 * be told otherwise. In between the cost is what was counted (context switches, sampler interrupts,
 * reclaim spans, forks) times what each of those cost when last measured.
 */
#ifndef SB_RECORDER_SELFCOST_H
#define SB_RECORDER_SELFCOST_H

#include "format/bundle.h"
#include "recorder/pool.h"
#include "recorder/probes.h"
#include "recorder/series.h"

#define SELFCOST_TICK_NS NSEC_PER_SEC
#define SELFCOST_IDLE_TICK_NS (2 * NSEC_PER_SEC) /* below half the budget */
#define SELFCOST_EVERY_NS (60 * NSEC_PER_SEC)
#define SELFCOST_NEAR_NS (5 * NSEC_PER_SEC)

/* What makes programs run, as far as it is counted anyway. */
enum selfcost_driver {
	DRIVEN_BY_TIME, /* by nothing counted: as much as when last measured */
	DRIVEN_BY_SWITCHES,
	DRIVEN_BY_TICKS,
	DRIVEN_BY_SPANS,
	DRIVEN_BY_FORKS,
	SELFCOST_DRIVERS
};

/* How often each driver happened in some span of time; not `known`: its counter is not there. */
struct selfcost_counts {
	double n[SELFCOST_DRIVERS];
	bool known[SELFCOST_DRIVERS];
};

/* Of the last window. */
struct selfcost_rates {
	double ns[SELFCOST_DRIVERS];	/* run time of the programs */
	struct selfcost_counts counts;
	bool measured;
};

struct selfcost {
	struct bundle_program_cost program[PROBES_MAX_PROGRAMS];
	size_t n;
	int64_t window_runs_s[PROBES_MAX_PROGRAMS], window_ns_s[PROBES_MAX_PROGRAMS];
	uint64_t windows; /* measured so far */
	uint64_t window_since_ns, window_until_ns;
	uint64_t window_cnt[PROBES_MAX_PROGRAMS], window_ns[PROBES_MAX_PROGRAMS];
	uint64_t begin_ns_at;
	uint64_t begin_cnt[PROBES_MAX_PROGRAMS], begin_ns[PROBES_MAX_PROGRAMS];
	int stats_fd; /* >= 0: a window is open */
	int stats_error; /* why none can be opened */
	struct selfcost_rates rates;
	/* Counters at the last tick. */
	uint64_t tick_ns, ticks, spans, cpu_ns, reader_ns;
	struct series_counters host;
	double switches_s, forks_s; /* of the last two readings of the series */
	bool want_window;
	/* Sums since the agent records. */
	uint64_t bpf_ns, wakeups, started_ns;
	uint64_t start_cpu_ns; /* spent on loading: not steady state */
	uint64_t rss_bytes, worker_rss_bytes, rss_due_ns;
	uint64_t freezer_ns;   /* of captures' processes that were killed */
	uint64_t worker_ns;    /* of all of them, as far as it was told: it never goes back */
	/* The last tick. */
	uint64_t span_ns, span_cost_ns; /* programs, agent and series reader; 0 span: not known */
	bool span_measured;
};

/* Where the rest is to be had; all but probes may be NULL. */
struct selfcost_sources {
	const struct probes *probes;
	struct series *series;
	const struct capture_work *work;
	const struct pool *pool;
	pid_t unwinder; /* 0: none */
	uint32_t cpus, budget_ppm, limit_step;
};

/* Counting starts here: loading and verifying the programs is behind us. */
void selfcost_init(struct selfcost *c);
/* Takes stock; opens and closes the measuring window. Call when due. Returns the next due time, a
 * whole second. */
uint64_t selfcost_tick(struct selfcost *c, const struct selfcost_sources *s, uint64_t now_ns);
/* What was measured no longer holds: programs do more or less than before. */
void selfcost_remeasure(struct selfcost *c);
/* BPF run time of the last window as parts per million of the whole machine; -1: none yet. */
double selfcost_bpf_ppm(const struct selfcost *c, uint32_t cpus);
/* Fills in everything for a bundle; pointers stay valid until the next call. */
void selfcost_fill(struct selfcost *c, const struct selfcost_sources *s, struct bundle_cost *ret);

/* CPU time of a process, without /proc; 0: no such process. */
uint64_t selfcost_cpu_ns(pid_t pid);
/* CPU time in ns of all processes but the agent and the reader, as far as it is known: it never goes back. */
uint64_t selfcost_worker_ns(struct selfcost *c, const struct selfcost_sources *s);

/* The driver of a program, by its name. */
enum selfcost_driver selfcost_driver_of(const char *program);
/* Run time of all programs for these counts, from the rates of the last window; in *ret_sure whether
 * each driver that counts was measured at work. */
double selfcost_estimate(const struct selfcost_rates *r, const struct selfcost_counts *now, bool *ret_sure);

#endif
