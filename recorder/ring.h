/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads one CPU's side of one bank. Trusts no byte of it: a record counts only if its
 * position, size and kind fit; where one does not, the reader goes on at the next segment.
 */
#ifndef SB_RECORDER_RING_H
#define SB_RECORDER_RING_H

#include "bpf/events.h"
#include "bpf/ring.h"
#include "format/base.h"

struct ring_stats {
	uint64_t records, bytes;
	uint64_t by_kind[SB_KIND_SLOTS];
	uint64_t torn;	  /* places where a record did not fit: the rest of a segment is gone */
	uint64_t busy;	  /* records that were being written */
	uint64_t lost_bytes; /* skipped because of torn */
	uint64_t first_ns, last_ns;
};

typedef int (*ring_record_fn)(const struct sb_rec *r, void *ctx);

/* Calls fn for every whole record, oldest first. ring: ring_bytes + SB_RING_SLACK bytes.
 * Adds to *stats. A non-zero return of fn stops and is returned. */
int ring_each(const void *ring, uint64_t ring_bytes, const struct sb_bank *bank,
	      ring_record_fn fn, void *ctx, struct ring_stats *stats);

static inline const uint64_t *ring_payload(const struct sb_rec *r)
{
	return (const uint64_t *)(r + 1);
}
static inline const uint64_t *ring_kframes(const struct sb_rec *r)
{
	return ring_payload(r) + r->np;
}
static inline const uint64_t *ring_uframes(const struct sb_rec *r)
{
	return ring_kframes(r) + r->nk;
}

#endif
