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

/* ---- CPU by CPU -------------------------------------------------------------------------------- */

#define CPUS 65536u

struct cpu_pass {
	struct filter *filter;
	uint32_t *n; /* by CPU, CPUS of them */
	uint32_t first, last;
	struct entry *entry;
	size_t used;
};

static int count_cpu(const struct bundle_event *e, void *ctx)
{
	struct cpu_pass *p = ctx;
	uint32_t cpu = SB_MIN(e->cpu, CPUS - 1);

	p->n[cpu] += p->n[cpu] < UINT32_MAX && filter_event(p->filter, e);
	return 0;
}

static int collect_cpus(const struct bundle_event *e, void *ctx)
{
	struct cpu_pass *p = ctx;

	if (e->cpu < p->first || e->cpu > p->last || !filter_event(p->filter, e))
		return 0;
	if (p->used == TIMELINE_EVENTS)
		return -E2BIG;
	p->entry[p->used] = (struct entry){ *e, (uint32_t)p->used };
	p->used++;
	return 0;
}

static int by_cpu(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->e.cpu != y->e.cpu)
		return x->e.cpu < y->e.cpu ? -1 : 1;
	return in_time(a, b);
}

static int give_cpus(struct bundle *b, struct cpu_pass *p, bundle_event_fn fn, void *ctx)
{
	int r;

	p->used = 0;
	r = bundle_each_event(b, collect_cpus, p);
	if (r)
		return r;
	qsort(p->entry, p->used, sizeof(*p->entry), by_cpu);
	for (size_t i = 0; i < p->used && r == 0; i++)
		r = fn(&p->entry[i].e, ctx);
	return r;
}

/* One CPU with more events than memory takes: window by window. */
static int give_one_cpu(struct bundle *b, struct filter *filter, uint32_t cpu, bundle_event_fn fn, void *ctx)
{
	uint64_t before = filter->cpu;
	int r;

	filter->cpu = cpu;
	r = timeline_each(b, filter, fn, ctx);
	filter->cpu = before;
	return r;
}

int timeline_each_cpu(struct bundle *b, struct filter *filter, bundle_event_fn fn, void *ctx)
{
	_cleanup_free_ uint32_t *n = calloc(CPUS, sizeof(*n));
	_cleanup_free_ struct entry *entry = malloc(TIMELINE_EVENTS * sizeof(*entry));
	struct cpu_pass p = { .filter = filter, .n = n, .entry = entry };
	int r;

	if (!n || !entry)
		return -ENOMEM;
	r = bundle_each_event(b, count_cpu, &p);
	for (uint32_t cpu = 0; cpu < CPUS && r == 0;) {
		uint64_t sum = 0;

		p.first = cpu;
		while (cpu < CPUS && sum + n[cpu] <= TIMELINE_EVENTS)
			sum += n[cpu++];
		p.last = cpu == CPUS ? UINT32_MAX : cpu - 1;
		if (sum)
			r = give_cpus(b, &p, fn, ctx);
		else if (cpu < CPUS)
			r = give_one_cpu(b, filter, cpu++, fn, ctx);
	}
	return r;
}
