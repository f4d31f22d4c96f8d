/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether the agent does what it is there for, told to the service manager's watchdog. It is fed by an event that
 * goes the whole way: a timer of the loop writes it when nothing is wrong, the kernel hands it to epoll, and only
 * the dispatch of it feeds. A loop that turns without timers or without events starves.
 */
#ifndef SB_RECORDER_WATCHDOG_H
#define SB_RECORDER_WATCHDOG_H

#include "recorder/probes.h"

struct watchdog {
	uint64_t feed_ns; /* this often, 0: nobody watches */
	uint64_t due_ns;
	int fd; /* for the loop to wait on; -1: none */
	bool said; /* that it starves */
};

/* 0, or a negative errno: the agent runs on without. */
int watchdog_init(struct watchdog *w, uint64_t now_ns);
/* From a timer, every second or two: overdue_ns is how late the latest of the loop's timers is. */
void watchdog_check(struct watchdog *w, struct probes *p, uint64_t overdue_ns, uint64_t now_ns);
/* The event has come. */
void watchdog_feed(struct watchdog *w);
void watchdog_done(struct watchdog *w);

/* Does the kernel's sampler tick? Where idle CPUs are not interrupted nothing ticks on an idle host: then a
 * few milliseconds of work are done, which it cannot miss. */
bool watchdog_sampler_ticks(const struct probes *p, uint64_t now_ns);

#endif
