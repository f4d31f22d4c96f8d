/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the host was doing: one reading a second of /proc/stat, pressure, vmstat, meminfo,
 * load, and of the cgroups that use the most, kept for SERIES_KEEP seconds in memory that
 * is shared with the freezer. Read by a process of its own, because a read of a counter can
 * itself stall; nothing that sums over a tree (memory.stat) is ever read. A file that once took
 * longer than SERIES_SLOW_NS is left alone for a while, and that is a value of its own.
 *
 * CPU time and pressure of the host come first, before anything that may block: the agent, which looks at a quiet
 * host less often, is told at once when one of them has begun (triggers/host.h).
 */
#ifndef SB_RECORDER_SERIES_H
#define SB_RECORDER_SERIES_H

#include "format/writer.h"
#include "triggers/host.h"

#define SERIES_KEEP 660 /* samples: eleven minutes */
#define SERIES_PERIOD_NS NSEC_PER_SEC
#define SERIES_SLOW_NS (50 * NSEC_PER_MSEC)
#define SERIES_CGROUPS 16

struct series;

/* The recorder's own cost, as the agent tells it; the reader adds it to its next reading. Times,
 * wakeups and bytes are sums since the agent records. */
struct series_own {
	int64_t bpf_us, bpf_measured, agent_us, worker_us;
	int64_t agent_rss_kib, worker_rss_kib, maps_kib;
	int64_t wakeups, written, limit_step;
	uint64_t windows; /* measuring windows so far: programs have a value when it has changed */
	uint64_t told;	  /* times so far, counted by series_own(): a reading has these values when it has changed */
};

/* Of the newest reading. */
struct series_counters {
	uint64_t ts_ns;
	uint64_t switches, forks; /* since boot */
	uint64_t reader_cpu_ns;	  /* of the reader itself, since it began */
};

/* Allocates the shared memory (bytes fixed from here on) and forks the reader. 0 or a
 * negative errno. proc: "/proc". v1: the roots of memory, cpu and cpuacct below /sys/fs/cgroup are used.
 * program: names of the programs whose cost series_own() will tell, copied. */
int series_start(const char *proc, uint32_t cpus, bool cgroup_v1, const char *const *program, size_t n_programs,
		 struct series **ret);
/* A NULL series has no readings and takes none. */
void series_own(struct series *s, const struct series_own *own, const int64_t *program_runs_s,
		const int64_t *program_ns_s, size_t n_programs);
/* False: there is none yet. */
bool series_counters(const struct series *s, struct series_counters *ret);
/* An eventfd: readable when something has begun that was wanted; -1 without series. */
int series_begun_fd(const struct series *s);
/* Bits of triggers/host.h: say when one of these begins; 0: nothing. */
void series_want(struct series *s, uint32_t bits);
/* Bits: what has been watched up to now; 0 when the reader is late. */
uint32_t series_watched(const struct series *s, uint64_t now_ns);
/* As of struct trigger_env, cpu_before(); of: the series. */
bool series_cpu_before(const void *of, uint64_t until_ns, struct cpu_times *ret, uint64_t *ret_ns);
/* Readings so far: as many wakeups. */
uint64_t series_samples(const struct series *s);
pid_t series_pid(const struct series *s);
/* Ends the reader. */
void series_stop(struct series *s);
/* Writes every series whose values reach into the bundle. */
int series_write(const struct series *s, struct bundle_writer *w);

#endif
