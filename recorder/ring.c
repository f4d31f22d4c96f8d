// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/ring.h"

#define MAX_RECORD (sizeof(struct sb_rec) + 8 * (SB_PAYLOAD_WORDS + SB_KFRAMES + SB_UFRAMES))

static bool record_fits(const struct sb_rec *r, uint64_t pos, uint64_t end)
{
	return r->pos == (uint32_t)(pos >> 3) && r->len >= sizeof(*r) && r->len <= MAX_RECORD &&
	       r->len <= end - pos && r->kind > SB_KIND_NONE && r->kind < SB_KIND_COUNT &&
	       r->np <= SB_PAYLOAD_WORDS && r->nk <= SB_KFRAMES && r->nu <= SB_UFRAMES &&
	       r->len == sizeof(*r) + 8u * ((unsigned int)r->np + r->nk + r->nu);
}

/* Where the first record of the segment starts; UINT64_MAX where nobody noted it. */
static uint64_t segment_first(const struct sb_bank *bank, uint64_t segment, uint64_t n_segments)
{
	uint64_t first = segment ? bank->seg_first[segment & (n_segments - 1)] : 0;

	return first >> SB_SEG_SHIFT == segment ? first : UINT64_MAX;
}

int ring_each(const void *ring, uint64_t ring_bytes, const struct sb_bank *bank,
	      ring_record_fn fn, void *ctx, struct ring_stats *stats)
{
	uint64_t head = bank->head, n = ring_bytes >> SB_SEG_SHIFT, last = head >> SB_SEG_SHIFT;
	uint64_t segment = last + 1 > n ? last + 1 - n : 0;
	uint64_t pos = UINT64_MAX;

	for (; segment <= last; segment++) {
		uint64_t limit = SB_MIN(head, (segment + 1) << SB_SEG_SHIFT);

		if (pos == UINT64_MAX)
			pos = segment_first(bank, segment, n);
		if (pos == UINT64_MAX) {
			stats->torn++;
			stats->lost_bytes += limit - (segment << SB_SEG_SHIFT);
			continue;
		}
		while (pos < limit) {
			const struct sb_rec *r =
				(const void *)((const char *)ring + (pos & (ring_bytes - 1)));
			int ret;

			if ((r->flags & SB_REC_BUSY) && r->pos == (uint32_t)(pos >> 3) &&
			    r->len >= sizeof(*r) && r->len <= MAX_RECORD && r->len <= head - pos) {
				stats->busy++;
				pos += r->len;
				continue;
			}
			if (!record_fits(r, pos, head)) {
				stats->torn++;
				stats->lost_bytes += limit - pos;
				pos = UINT64_MAX;
				break;
			}
			stats->records++;
			stats->bytes += r->len;
			stats->by_kind[r->kind & (SB_KIND_SLOTS - 1)]++;
			if (!stats->first_ns || r->ts_ns < stats->first_ns)
				stats->first_ns = r->ts_ns;
			if (r->ts_ns > stats->last_ns)
				stats->last_ns = r->ts_ns;
			ret = fn ? fn(r, ctx) : 0;
			if (ret)
				return ret;
			pos += r->len;
		}
	}
	return 0;
}
