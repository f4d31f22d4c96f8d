/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When the recorder costs too much: decides from what it cost which step of enum sb_limit_step
 * (bpf/ring.h) is in force. Knows neither clock nor kernel; whoever calls carries the step out.
 *
 * One step further when the cost of the last LIMIT_WINDOW_NS is above the budget, then a whole
 * new window is waited for. One step back when it was below half the budget, window after
 * window, for LIMIT_HOLD_NS; when that proves too early, twice as long the next time.
 */
#ifndef SB_RECORDER_LIMIT_H
#define SB_RECORDER_LIMIT_H

#include "bpf/ring.h"
#include "format/base.h"

#define LIMIT_WINDOW_NS (10 * NSEC_PER_SEC)
#define LIMIT_HOLD_NS (10 * NSEC_PER_SEC)
#define LIMIT_HOLD_MAX_NS (640 * NSEC_PER_SEC)
/* A step forth so soon after a step back says that it was too early. */
#define LIMIT_RELAPSE_NS (120 * NSEC_PER_SEC)
/* Without any step for so long the waiting time is the short one again. */
#define LIMIT_FORGET_NS (1200 * NSEC_PER_SEC)
#define LIMIT_SAMPLES 32

struct limit {
	uint32_t budget_ppm; /* of all CPUs together */
	uint32_t step;	     /* enum sb_limit_step */
	uint32_t cost_ppm;   /* of the last window; meaningful when `whole` */
	bool whole;	     /* a whole window has been seen since the last step */
	uint64_t hold_ns, calm_ns, back_ns, quiet_ns;
	struct {
		uint64_t span_ns, cost_ns;
	} sample[LIMIT_SAMPLES]; /* of the window, oldest first */
	size_t n;
};

void limit_init(struct limit *l, uint32_t budget_ppm);
/* In `span_ns` that ended now, `cost_ns` of CPU time were used, on a host of `cpus`. Returns +1 or -1
 * when l->step has just changed, else 0. */
int limit_judge(struct limit *l, uint64_t span_ns, uint64_t cost_ns, uint32_t cpus);
/* "user stacks at switch-out" ...: what a step leaves out; "nothing" for SB_LIMIT_NONE. */
const char *limit_step_name(uint32_t step);
/* One line about a change. */
void limit_note_text(const struct sb_limit_note *n, char *ret, size_t len);

#endif
