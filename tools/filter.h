/* SPDX-License-Identifier: BSD-2-Clause */
/* Which events a view is about; the same options in every subcommand. */
#ifndef SB_TOOLS_FILTER_H
#define SB_TOOLS_FILTER_H

#include "format/reader.h"
#include "tools/options.h"

struct filter {
	struct opt_offset since, until;
	uint64_t pid, tid, cpu;	 /* NO_NUMBER: any */
	const char *comm, *cgroup; /* NULL: any */
	const char *state;	   /* letters as ps(1) has them; off-CPU events only; NULL: any */
	uint64_t trigger_ns;	 /* filter_start() */
};
#define NO_NUMBER UINT64_MAX
#define FILTER_INIT { .pid = NO_NUMBER, .tid = NO_NUMBER, .cpu = NO_NUMBER }

/* The options; to be pasted into a subcommand's table. */
#define FILTER_OPTIONS(f)                                                                         \
	{ "since", "TIME", OPT_OFFSET, &(f).since, "from this time on, relative to the trigger" }, \
	{ "until", "TIME", OPT_OFFSET, &(f).until, "up to this time, such as 0 or 5s" },          \
	{ "pid", "N", OPT_NUMBER, &(f).pid, "only this process" },                                \
	{ "tid", "N", OPT_NUMBER, &(f).tid, "only this thread" },                                 \
	{ "comm", "NAME", OPT_TEXT, &(f).comm, "only threads of this name" },                     \
	{ "cgroup", "PATH", OPT_TEXT, &(f).cgroup, "only this cgroup and below" },                \
	{ "cpu", "N", OPT_NUMBER, &(f).cpu, "only this CPU" },                                    \
	{ "state", "LETTERS", OPT_TEXT, &(f).state, "only off-CPU blocks in these states: DSRTI?" }

/* State of the thread during an off-CPU event, as ps(1) has it: R waiting for a CPU, D, S, I
 * (idle kernel thread), T, t; ? not known. */
char event_state(const struct bundle_event *e);

void filter_start(struct filter *f, const struct bundle *b);
bool filter_event(const struct filter *f, const struct bundle *b, const struct bundle_event *e);
bool filter_thread(const struct filter *f, const struct bundle *b, uint32_t thread);

#endif
