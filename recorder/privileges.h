/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which capabilities each process of the recorder keeps; stallboxd(8), CAPABILITIES, says what each of them is
 * for. What a process was not given it does without: nothing here fails for want of a capability.
 */
#ifndef SB_RECORDER_PRIVILEGES_H
#define SB_RECORDER_PRIVILEGES_H

#include <sys/types.h>

enum privileges_role {
	PRIVILEGES_SETUP,    /* the agent until it records */
	PRIVILEGES_LOOP,     /* from then on: the rest is kept for privileges_raise() and for new processes */
	PRIVILEGES_SIDEBAND, /* who is about to ask the kernel for news of all processes */
	PRIVILEGES_CAPTURES, /* the starter, the processes of captures, and who keeps tables for user stacks */
	PRIVILEGES_NAMES,    /* a process of a capture that is stored and looks up names */
	PRIVILEGES_NONE,     /* readers of counters and configuration, the keeper, health checks and their commands */
};

/* Of the calling thread: all others are given up for good, those that PRIVILEGES_LOOP keeps back aside.
 * 0, or a negative errno: it has kept more, if only in the bounding set. */
int privileges_become(enum privileges_role role);

/* As a further group of the process, so that what it owns can be of that group. Before the roles: they take away
 * what this takes. */
void privileges_join(gid_t group);

/* For one call at a time, in the agent's loop: CAP_SYS_ADMIN, for sampling events where
 * kernel.perf_event_paranoid is 3 and for the run time statistics of BPF. */
void privileges_raise(void);
void privileges_lower(void);

#endif
