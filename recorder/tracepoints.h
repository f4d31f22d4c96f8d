/* SPDX-License-Identifier: BSD-2-Clause */
/* Which tracepoint each program needs, and what evidence is missing where a kernel lacks it. */
#ifndef SB_RECORDER_TRACEPOINTS_H
#define SB_RECORDER_TRACEPOINTS_H

#include "recorder/probes.h"

struct bpf_object;

/* Belongs to no tracepoint: the agent runs it, where the kernel has timers. */
#define PROGRAM_RESET_DEADLINES "reset_deadlines"

/* Notes in p what evidence this kernel cannot give and, unless obj is NULL, keeps the programs
 * that it would refuse from being loaded. 0, or a negative errno with the reason in err: one that
 * cannot be done without. */
int tracepoints_choose(struct probes *p, struct bpf_object *obj, char *err, size_t len);

#endif
