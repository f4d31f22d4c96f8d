/* SPDX-License-Identifier: BSD-2-Clause */
/* When to try again: 1 s after the first failure, twice as long after each further one, up to a limit; half of it
 * by chance, so that 10,000 hosts do not come back in one second. */
#ifndef SB_UPLOAD_BACKOFF_H
#define SB_UPLOAD_BACKOFF_H

#include "format/base.h"

struct backoff {
	uint32_t tries;	 /* failures in a row */
	uint64_t due_ns; /* CLOCK_MONOTONIC; 0: at once */
};

/* max_ns: the longest wait, unless at_least_ns (what a server asks for) is longer. chance: any number, all of it matters. */
void backoff_failed(struct backoff *b, uint64_t now_ns, uint64_t max_ns, uint64_t at_least_ns, uint64_t chance);

#endif
