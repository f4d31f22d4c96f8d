/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What has begun on the host, by counters that somebody reads every second anyway: a trigger that needs one of these
 * things to begin before its condition can be met says so (struct trigger, `quiet`), and is looked at every
 * TRIGGER_QUIET_NS as long as they are watched, and at once when one has begun.
 */
#ifndef SB_TRIGGERS_HOST_H
#define SB_TRIGGERS_HOST_H

#include "format/base.h"

#define TRIGGER_QUIET_NS (2 * NSEC_PER_SEC)
/* Of the time between two readings: tasks stalled for 1/100, kernel time of 10 % of all CPUs. */
#define HOST_STALL_SHARE 100
#define HOST_SYSTEM_PERCENT 10

enum host_resource { HOST_MEMORY, HOST_CPU, HOST_IO, HOST_RESOURCES };
/* The order of psi's resources, then %system: bits. */
#define HOST_STALLS(resource) (1u << (resource))
#define HOST_SYSTEM (1u << HOST_RESOURCES)

struct cpu_times {
	uint64_t system, total; /* the same unit */
};

struct host_reading {
	uint64_t ns; /* CLOCK_MONOTONIC */
	struct cpu_times cpu;
	uint64_t stalled_us[HOST_RESOURCES]; /* some */
	uint32_t known;   /* bits: of what there is a value */
	uint32_t watched; /* and was one in the reading before: its begin has not been missed */
};

/* First line of /proc/stat. 0 or -ENODATA. */
int host_parse_stat(const char *text, struct cpu_times *ret);
/* Kernel time between the two as a share of all; 0 where a counter went backwards. */
double host_system_percent(const struct cpu_times *prev, const struct cpu_times *cur);
/* Bits: what has begun between the two readings. */
uint32_t host_begun(const struct host_reading *prev, const struct host_reading *cur);

#endif
