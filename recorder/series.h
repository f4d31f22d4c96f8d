/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the host was doing: one reading a second of /proc/stat, pressure, vmstat, meminfo,
 * load, and of the cgroups that use the most, kept for SERIES_KEEP seconds in memory that
 * is shared with the freezer. Read by a process of its own, because a read of a counter can
 * itself stall; nothing that sums over a tree (memory.stat) is ever read. A file that once took
 * longer than SERIES_SLOW_NS is left alone for a while, and that is a value of its own.
 */
#ifndef SB_RECORDER_SERIES_H
#define SB_RECORDER_SERIES_H

#include "format/writer.h"

#define SERIES_KEEP 660 /* samples: eleven minutes */
#define SERIES_PERIOD_NS NSEC_PER_SEC
#define SERIES_SLOW_NS (50 * NSEC_PER_MSEC)
#define SERIES_CGROUPS 16

struct series;

/* Allocates the shared memory (bytes fixed from here on) and forks the reader. 0 or a
 * negative errno. cgroup_root: where cgroups are told apart, v1: also the roots of cpu and
 * cpuacct below /sys/fs/cgroup. */
int series_start(uint32_t cpus, bool cgroup_v1, struct series **ret);
/* Ends the reader. */
void series_stop(struct series *s);
/* Writes every series whose values reach into the bundle. */
int series_write(const struct series *s, struct bundle_writer *w);

#endif
