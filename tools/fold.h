/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Folding: events become weights of (group, thread name, user stack, kernel stack). It works on ids
 * alone; names are looked up afterwards, once per distinct frame.
 */
#ifndef SB_TOOLS_FOLD_H
#define SB_TOOLS_FOLD_H

#include "tools/filter.h"
#include "tools/group.h"
#include "tools/names.h"

enum fold_kind {
	FOLD_ON_CPU,
	FOLD_OFF_CPU,
	FOLD_RECLAIM,
	FOLD_BLOCKED,
	FOLD_LOCK_WAIT,
	FOLD_WAKEUP,
	FOLD_LOCK_HOLD,
	FOLD_SYSCALL,
	FOLD_SOFTIRQ,
	FOLD_BLOCK_IO,
	FOLD_SLAB,
	FOLD_HARDIRQ,
	FOLD_KINDS
};

enum fold_weight {
	FOLD_DEFAULT, /* samples or threads where there is no duration, else microseconds */
	FOLD_COUNT,   /* events */
	FOLD_US,
	FOLD_NS, /* exact: parts add up to the whole in every view */
};

/* A span that reaches over the trigger is cut there, as stallbox top does; its count goes to the
 * side on which it ended. */
enum fold_side { FOLD_BOTH, FOLD_BEFORE, FOLD_AFTER };

struct fold_options {
	enum fold_kind kind;
	enum fold_weight weight;
	enum group_by by; /* the outermost frame; comm: the thread's name alone */
	enum fold_side side;
	bool lines; /* source lines in the names of frames, where they are known */
};

struct fold_row {
	uint32_t group; /* names id; 0: none beside comm */
	uint32_t comm; /* names id; 0: none beside the group */
	uint32_t kstack, ustack;
	uint32_t lost; /* BUNDLE_EV_KSTACK_LOST, BUNDLE_EV_USTACK_LOST */
	uint64_t weight, count;
	uint64_t ns; /* what the events lasted, or the samples stand for, whatever they weigh */
};

struct fold {
	const struct bundle *b;
	struct filter *filter;
	enum fold_kind kind;
	enum fold_weight weight; /* not FOLD_DEFAULT */
	enum group_by by;
	enum fold_side side;
	struct names names;
	struct groups groups, comms;
	uint32_t *group_name, *comm_name; /* names ids by group id */
	uint32_t group_cap, comm_cap;
	struct map64 rows_by_key;
	struct fold_row *row;
	size_t n, cap;
	uint64_t total, events; /* sum of the weights; records that came in */
};

/* "on-cpu" ... to a kind. -EINVAL. */
int fold_parse_kind(const char *s, enum fold_kind *ret);
/* filter_parse(), and the one kind that it names; on-CPU where it names none. -1, or the exit code. */
int fold_filter_kind(struct filter *f, const struct opt_command *cmd, enum fold_kind *ret);
const char *fold_kind_name(enum fold_kind kind);
/* "duration", "count", "us" or "ns"; -EINVAL. */
int fold_parse_weight(const char *s, enum fold_weight *ret);
/* Of the weights: "samples", "events", "threads", "microseconds", "nanoseconds". */
const char *fold_unit(const struct fold *f);
/* Nanoseconds per unit of weight; 0: the weights are counts. */
uint64_t fold_unit_ns(const struct fold *f);

/* 0 or negative errno; fold_done() either way. */
int fold_bundle_as(struct fold *f, struct bundle *b, struct filter *filter, const struct fold_options *o);
/* The same by thread name. by_count: off-CPU and reclaim count events instead of microseconds. */
int fold_bundle(struct fold *f, struct bundle *b, struct filter *filter, enum fold_kind kind,
		bool by_count);
void fold_done(struct fold *f);
/* Frames of a row, root first: group, thread name, user frames, kernel frames. Where a stack was cut or
 * has been overwritten, a frame of class FRAME_MARK says so. Returns how many. */
uint32_t fold_frames(struct fold *f, const struct fold_row *r, uint32_t *ret_ids, uint32_t max);
#define FOLD_MAX_FRAMES (4 * BUNDLE_STACK_MAX_FRAMES + 6) /* inlined ones among them */
/* Names every frame and makes one row of rows that read alike. 0 or -ENOMEM. */
int fold_merge(struct fold *f);
/* Heaviest first. */
void fold_sort(struct fold *f);
/* Collapsed stacks, a line for each row; after fold_merge(). 0 or -ENOMEM. */
int fold_print(struct fold *f, FILE *out);
/* What a duration weighs; a sampled wait counts for all that it stands for, as far as 64 bits go. A
 * sample's is that of all anyway. */
uint64_t event_total_ns(const struct bundle_event *e);
uint64_t fold_microseconds(const struct bundle_event *e);
/* Of a span of ns that ended at end_ns: the part after a moment. */
uint64_t span_after(uint64_t end_ns, uint64_t ns, uint64_t moment_ns);

#endif
