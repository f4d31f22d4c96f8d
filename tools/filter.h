/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which events a view is about; the same options in every subcommand. Names are compared once
 * per thread or stack, when the filter starts or meets them first; an event then costs a few
 * comparisons of numbers.
 *
 *	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
 *	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
 *	const struct opt opts[] = { ..., FILTER_OPTIONS(filter), {} };
 *	...
 *	r = filter_open(&filter, &command, argc, argv, first, &b);
 *	if (r >= 0)
 *		return r;
 *	... filter_event(&filter, e) ...
 */
#ifndef SB_TOOLS_FILTER_H
#define SB_TOOLS_FILTER_H

#include "format/reader.h"
#include "tools/options.h"

/* What the thread was doing at the moment of the sample, or when the block or span began. */
enum filter_while { WHILE_ANY, WHILE_MMAP_LOCK_HELD, WHILE_RECLAIM, WHILE_SOFTIRQ };

struct filter_span {
	uint64_t begin_ns, end_ns;
	uint32_t thread;
};

struct filter {
	/* as given */
	struct opt_offset since, until;
	uint64_t pid, tid, cpu;	 /* NO_NUMBER: any */
	const char *comm, *cgroup; /* NULL: any */
	const char *state;	   /* letters as ps(1) has them; off-CPU events and blocked threads; NULL: any */
	const char *kind_text, *while_text;
	/* by filter_parse() */
	unsigned int kinds; /* bit per enum bundle_kind, FILTER_BLOCKED for the stackshot; 0: all */
	enum filter_while during;
	/* by filter_start() */
	const struct bundle *b;
	uint64_t trigger_ns;
	bool by_thread;
	uint8_t *thread_ok;	  /* by thread id, when by_thread */
	uint8_t *stack_softirq;	  /* by stack id: 0 not looked at, 1 no, 2 yes */
	struct filter_span *span; /* by thread, then begin */
	size_t n_spans, cap_spans;
};
#define NO_NUMBER UINT64_MAX
#define FILTER_BLOCKED (1u << BUNDLE_KIND_NONE)
#define FILTER_INIT { .pid = NO_NUMBER, .tid = NO_NUMBER, .cpu = NO_NUMBER }

/* The options; to be pasted into a subcommand's table. */
#define FILTER_OPTIONS(f)                                                                         \
	{ "kind", "KIND", OPT_TEXT, &(f).kind_text, "on-cpu, off-cpu, reclaim, blocked, lock-wait ... (see stallbox(1))" }, \
	FILTER_OPTIONS_NO_KIND(f)
/* For views that choose the kinds themselves. */
#define FILTER_OPTIONS_NO_KIND(f)                                                                 \
	{ "since", "TIME", OPT_OFFSET, &(f).since, "from this time on, relative to the trigger" }, \
	{ "until", "TIME", OPT_OFFSET, &(f).until, "up to this time, such as 0 or 5s" },          \
	{ "pid", "N", OPT_NUMBER, &(f).pid, "only this process" },                                \
	{ "tid", "N", OPT_NUMBER, &(f).tid, "only this thread" },                                 \
	{ "comm", "NAME", OPT_TEXT, &(f).comm, "only threads of this name; a glob such as 'kworker*'" }, \
	{ "cgroup", "PATH", OPT_TEXT, &(f).cgroup, "only this cgroup and below" },                \
	{ "cpu", "N", OPT_NUMBER, &(f).cpu, "only this CPU" },                                    \
	{ "state", "LETTERS", OPT_TEXT, &(f).state, "only off-CPU blocks in these states: DSRTtI?" }, \
	{ "while", "WHAT", OPT_TEXT, &(f).while_text, "only while the thread: mmap-lock-held, reclaim, softirq" }

/* Checks the words. -1 to go on, or the exit code of a usage error (printed). */
int filter_parse(struct filter *f, const struct opt_command *cmd);
/* Makes ready for a bundle, which must outlive the filter. 0, -ENOMEM or what reading gave. */
int filter_start(struct filter *f, struct bundle *b);
void filter_done(struct filter *f);
/* filter_parse(), open_operand(), warn_damage() and filter_start(). -1 to go on, or the exit code. */
int filter_open(struct filter *f, const struct opt_command *cmd, int argc, char **argv, int first,
		struct bundle **ret);

/* Needs no text and allocates nothing. */
bool filter_event(struct filter *f, const struct bundle_event *e);
/* A thread of the stackshot: thread, state, CPU, --while; the times do not count. */
bool filter_shot(struct filter *f, const struct bundle_shot_thread *t);
bool filter_thread(const struct filter *f, uint32_t thread);
bool filter_time(const struct filter *f, uint64_t ts_ns);
/* The stack of an interrupt on its way out, or of ksoftirqd at work. */
bool filter_in_softirq(struct filter *f, uint32_t kstack);

/* "from -10s to 0s, comm db*": what the filter leaves, for people; "" when it leaves everything. */
void filter_describe(const struct filter *f, char *ret, size_t len);

/* State of the thread during an off-CPU event, as ps(1) has it: R waiting for a CPU, D, S, I
 * (idle kernel thread), T, t; ? not known. */
char event_state(const struct bundle_event *e);
/* The same of a thread in the stackshot; one that ran is R as well. */
char shot_state(const struct bundle_shot_thread *t);

#endif
