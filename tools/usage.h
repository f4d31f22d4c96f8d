/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who used and waited for what, before and after the trigger. A span that reaches over the
 * trigger is cut there, so that both sides add up to the span, and all groups to the totals
 * that fold and hist give for the same filter.
 */
#ifndef SB_TOOLS_USAGE_H
#define SB_TOOLS_USAGE_H

#include "tools/filter.h"
#include "tools/group.h"

enum usage_value {
	USAGE_USR,	 /* ns that on-CPU samples in user mode stand for */
	USAGE_SYS,	 /* ... in the kernel */
	USAGE_D,	 /* ns off the CPU, by state, without the time spent runnable */
	USAGE_S,
	USAGE_OTHER,	 /* idle kernel threads, stopped, traced, not known */
	USAGE_RUNQ,	 /* ns runnable and waiting for a CPU */
	USAGE_RECLAIM,	 /* ns in reclaim spans */
	USAGE_SCANNED,	 /* pages */
	USAGE_RECLAIMED, /* pages */
	USAGE_LOCK_WAIT, /* ns; sampled waits count for what they stand for */
	USAGE_MMAP_WAIT, /* the part of it that is for mmap_lock */
	USAGE_LOCK_HOLD, /* ns of recorded holds of mmap_lock */
	USAGE_SAMPLES,
	USAGE_VALUES
};

enum usage_side { USAGE_BEFORE, USAGE_AFTER, USAGE_SIDES };

struct usage {
	uint64_t v[USAGE_SIDES][USAGE_VALUES];
	/* at the freeze */
	uint32_t n_d, n_r, n_s, n_other; /* threads; n_r: runnable or running */
	uint64_t longest_d_ns, longest_r_ns; /* how long one of them had been so; r: without running ones */
};

struct usages {
	struct groups groups;
	struct usage *of; /* by group id - 1 */
	uint32_t n, cap;
	struct usage total;
	uint64_t trigger_ns;
	uint64_t span_ns[USAGE_SIDES]; /* what of the window the bundle reaches over */
};

/* The filter is started. 0 or a negative errno; usages_done() either way. */
int usages_count(struct usages *u, struct bundle *b, struct filter *filter, enum group_by by);
void usages_done(struct usages *u);
/* span_ns alone, for a started filter and u->trigger_ns. */
void usages_measure(struct usages *u, const struct bundle *b, const struct filter *f);

#endif
