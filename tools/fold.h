/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Folding: events become weights of (thread name, user stack, kernel stack). It works on ids
 * alone; names are looked up afterwards, once per distinct frame.
 */
#ifndef SB_TOOLS_FOLD_H
#define SB_TOOLS_FOLD_H

#include "tools/filter.h"
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
	FOLD_KINDS
};

struct fold_row {
	uint32_t comm; /* names id */
	uint32_t kstack, ustack;
	uint64_t weight, count;
};

struct fold {
	const struct bundle *b;
	struct filter *filter;
	enum fold_kind kind;
	bool by_count;
	struct names names;
	struct map64 rows_by_key;
	struct map64 comm_by_thread;
	struct fold_row *row;
	size_t n, cap;
	uint64_t total, events;
	bool failed; /* no memory */
};

/* "on-cpu" ... to a kind. -EINVAL. */
int fold_parse_kind(const char *s, enum fold_kind *ret);
/* filter_parse(), and the one kind that it names; on-CPU where it names none. -1, or the exit code. */
int fold_filter_kind(struct filter *f, const struct opt_command *cmd, enum fold_kind *ret);
const char *fold_kind_name(enum fold_kind kind);
/* Of the weights: "samples", "microseconds", "threads". */
const char *fold_unit(const struct fold *f);

/* Of an event; a sampled wait counts for all that it stands for, as far as 64 bits go. */
uint64_t fold_microseconds(const struct bundle_event *e);
/* by_count: off-CPU and reclaim count events instead of microseconds. 0 or negative errno. */
int fold_bundle(struct fold *f, struct bundle *b, struct filter *filter, enum fold_kind kind,
		bool by_count);
void fold_done(struct fold *f);
/* Frames of a row, root first: thread name, user frames, kernel frames. Returns how many. */
uint32_t fold_frames(struct fold *f, const struct fold_row *r, uint32_t *ret_ids, uint32_t max);
#define FOLD_MAX_FRAMES (2 * BUNDLE_STACK_MAX_FRAMES + 2)
/* A frame of the recorder itself, at the leaf of kernel stacks; fold_frames() leaves it out. */
bool fold_is_own_frame(const char *name);
/* Names every frame and makes one row of rows that read alike. 0 or -ENOMEM. */
int fold_merge(struct fold *f);
/* Heaviest first. */
void fold_sort(struct fold *f);
/* Collapsed stacks, a line for each row; after fold_merge(). 0 or -ENOMEM. */
int fold_print(struct fold *f, FILE *out);

#endif
