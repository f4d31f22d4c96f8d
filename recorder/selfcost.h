/* SPDX-License-Identifier: BSD-2-Clause */
/* What the recorder itself costs: CPU of the agent, run time of the BPF programs, memory. */
#ifndef SB_RECORDER_SELFCOST_H
#define SB_RECORDER_SELFCOST_H

#include "format/bundle.h"
#include "recorder/probes.h"

struct selfcost {
	struct bundle_program_cost program[PROBES_MAX_PROGRAMS];
	size_t n;
	/* The kernel's BPF statistics cost 75 ns a run, so they are on only in a short window
	 * now and then; these are the rates of the last whole window. */
	uint64_t window_since_ns, window_until_ns;
	uint64_t window_cnt[PROBES_MAX_PROGRAMS], window_ns[PROBES_MAX_PROGRAMS];
	uint64_t begin_cnt[PROBES_MAX_PROGRAMS], begin_ns[PROBES_MAX_PROGRAMS];
	int stats_fd; /* >= 0: a window is open */
	uint64_t wakeups, bytes_written;
	uint64_t started_ns;
	uint64_t start_cpu_ns; /* spent on loading: not steady state */
};

/* Counting starts here: loading and verifying the programs is behind us. */
void selfcost_init(struct selfcost *c);
/* Opens and closes the measuring window; call when due. Returns the next due time. */
uint64_t selfcost_tick(struct selfcost *c, const struct probes *p, uint64_t now_ns);
/* BPF run time of the last window as parts per million of the whole machine; -1: none yet. */
double selfcost_bpf_ppm(const struct selfcost *c, uint32_t cpus);
/* Fills in everything for a bundle; pointers stay valid until the next call. */
void selfcost_fill(struct selfcost *c, const struct probes *p, struct bundle_cost *ret);

#endif
