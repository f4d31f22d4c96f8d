/* SPDX-License-Identifier: BSD-2-Clause */
/* What an event says, in words and as JSON members. */
#ifndef SB_TOOLS_DESCRIBE_H
#define SB_TOOLS_DESCRIBE_H

#include "format/reader.h"

/* " 12.3 ms memcg reclaimed 5 ..." on standard output: what follows who and when. */
void describe_text(const struct bundle *b, const struct bundle_event *e);
/* ",\"state\":\"D\",..." likewise. */
void describe_json(const struct bundle *b, const struct bundle_event *e);

/* "mmap_lock", "rwsem", "mutex", ... and "read", "write" or "" of lock flags. */
const char *lock_class(uint32_t flags);
const char *lock_mode(uint32_t flags);
const char *reclaim_name(uint32_t kind);
const char *softirq_name(uint32_t vector);

#endif
