// SPDX-License-Identifier: BSD-2-Clause
#include "tools/timeline.h"

#include <errno.h>

#define BUCKETS 4096u

struct entry {
	struct bundle_event e;
	uint32_t seq;
};

struct timeline {
	struct bundle *b;
	struct filter *filter;
	bundle_event_fn fn;
	void *ctx;
	uint64_t first_ns;
	struct entry *entry;
	size_t n;
};

/* One look at the events from `low` on and not after `high`. */
struct window {
	struct timeline *t;
	uint64_t low, high, step;
	uint32_t *bucket;
};

/* bundle_first_ns() does not count time stamps of 0. */
static uint64_t when(const struct window *w, const struct bundle_event *e)
{
	return SB_MAX(e->ts_ns, w->t->first_ns);
}

static bool inside(const struct window *w, const struct bundle_event *e)
{
	return when(w, e) >= w->low && when(w, e) <= w->high && filter_event(w->t->filter, e);
}

static int count(const struct bundle_event *e, void *ctx)
{
	struct window *w = ctx;
	uint32_t *n;

	if (!inside(w, e))
		return 0;
	n = &w->bucket[(when(w, e) - w->low) / w->step];
	*n += *n < UINT32_MAX;
	return 0;
}

static int collect(const struct bundle_event *e, void *ctx)
{
	struct window *w = ctx;
	struct timeline *t = w->t;

	if (!inside(w, e))
		return 0;
	if (t->n == TIMELINE_EVENTS)
		return -E2BIG; /* the file changed under us */
	t->entry[t->n] = (struct entry){ *e, (uint32_t)t->n };
	t->n++;
	return 0;
}

/* Too many events of one nanosecond to sort: as they stand in the file. */
static int pass_on(const struct bundle_event *e, void *ctx)
{
	struct window *w = ctx;

	return inside(w, e) ? w->t->fn(e, w->t->ctx) : 0;
}

static int in_time(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->e.ts_ns != y->e.ts_ns)
		return x->e.ts_ns < y->e.ts_ns ? -1 : 1;
	if (x->e.cpu != y->e.cpu)
		return x->e.cpu < y->e.cpu ? -1 : 1;
	if (x->e.kind != y->e.kind)
		return x->e.kind < y->e.kind ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int give(struct timeline *t, uint64_t low, uint64_t high)
{
	struct window w = { .t = t, .low = low, .high = high };
	int r;

	t->n = 0;
	r = bundle_each_event(t->b, collect, &w);
	if (r)
		return r;
	qsort(t->entry, t->n, sizeof(*t->entry), in_time);
	for (size_t i = 0; i < t->n && r == 0; i++)
		r = t->fn(&t->entry[i].e, t->ctx);
	return r;
}

/* Cuts [low, high] into windows of few enough events; a bucket of too many is cut anew. Every
 * level divides time by BUCKETS, so the depth is at most 6. */
static int walk(struct timeline *t, uint64_t low, uint64_t high)
{
	uint64_t step = (high - low) / BUCKETS + 1, begin = low;
	_cleanup_free_ uint32_t *bucket = calloc(BUCKETS, sizeof(*bucket));
	struct window w = { .t = t, .low = low, .high = high, .step = step, .bucket = bucket };
	uint64_t sum = 0;
	int r;

	if (!bucket)
		return -ENOMEM;
	r = bundle_each_event(t->b, count, &w);
	for (uint32_t i = 0; i < BUCKETS && r == 0; i++) {
		uint64_t first, last;

		/* i * step stays below high - low + BUCKETS, but not always below 2^64. */
		if (__builtin_add_overflow(low, i * step, &first) || first > high)
			break;
		if (!bucket[i])
			continue;
		if (sum && sum + bucket[i] > TIMELINE_EVENTS) {
			r = give(t, begin, first - 1);
			sum = 0;
		}
		if (r)
			break;
		if (!sum)
			begin = first;
		last = high - first < step ? high : first + step - 1;
		if (bucket[i] <= TIMELINE_EVENTS) {
			sum += bucket[i];
		} else if (step == 1) {
			struct window one = { .t = t, .low = first, .high = first };

			r = bundle_each_event(t->b, pass_on, &one);
		} else {
			r = walk(t, first, last);
		}
	}
	return r || !sum ? r : give(t, begin, high);
}

int timeline_each(struct bundle *b, struct filter *filter, bundle_event_fn fn, void *ctx)
{
	struct timeline t = { .b = b, .filter = filter, .fn = fn, .ctx = ctx };
	int r;

	t.first_ns = bundle_first_ns(b);
	t.entry = malloc(TIMELINE_EVENTS * sizeof(*t.entry));
	r = t.entry ? walk(&t, t.first_ns, bundle_last_ns(b)) : -ENOMEM;
	free(t.entry);
	return r;
}
