/* SPDX-License-Identifier: BSD-2-Clause */
/* What the recorder counts, in full: by kind, cause and CPU, for programs that draw curves of it. */
#ifndef SB_RECORDER_COUNTERS_H
#define SB_RECORDER_COUNTERS_H

#include "format/base.h"

struct agent_view;
struct probes;
struct text;

/* A histogram of times from a trigger's condition on. */
#define COUNTERS_BUCKETS 14

struct counters_latency {
	uint64_t count[COUNTERS_BUCKETS + 1]; /* the last one: longer than all bounds */
	uint64_t sum_ns;
};

void counters_observe(struct counters_latency *l, uint64_t ns);
/* Answers the control socket: the first line is "ok". Counts that are zero are left out, but for the kinds of
 * record that every host makes. */
void counters_json(const struct agent_view *v, const struct probes *p, struct text *t);

#endif
