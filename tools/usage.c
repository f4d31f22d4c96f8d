// SPDX-License-Identifier: BSD-2-Clause
#include "tools/usage.h"

#include <errno.h>

#include "tools/fold.h"

struct pass {
	struct usages *u;
	struct filter *filter;
};

static struct usage *usage_of(struct usages *u, uint32_t thread, uint32_t cpu)
{
	uint32_t id = group_of(&u->groups, thread, cpu);

	if (!id)
		return NULL;
	if (id > u->cap) {
		uint32_t cap = SB_MAX(id * 2, 64u);
		struct usage *bigger = realloc(u->of, cap * sizeof(*bigger));

		if (!bigger)
			return NULL;
		memset(bigger + u->cap, 0, (cap - u->cap) * sizeof(*bigger));
		u->of = bigger;
		u->cap = cap;
	}
	u->n = SB_MAX(u->n, id);
	return &u->of[id - 1];
}

/* Never wraps around: a made-up duration must not look small. */
static void add(uint64_t *sum, uint64_t v)
{
	*sum = v > UINT64_MAX - *sum ? UINT64_MAX : *sum + v;
}

static void add_value(struct usages *u, struct usage *g, enum usage_side side, enum usage_value k, uint64_t v)
{
	add(&g->v[side][k], v);
	add(&u->total.v[side][k], v);
}

static uint64_t times(uint64_t v, uint64_t weight)
{
	return __builtin_mul_overflow(v, weight, &v) ? UINT64_MAX : v;
}

/* A span of ns that ended at end_ns, cut at the trigger; each ns of it counts `weight` times. */
static void add_span(struct usages *u, struct usage *g, enum usage_value k, uint64_t end_ns, uint64_t ns, uint64_t weight)
{
	uint64_t after = times(span_after(end_ns, ns, u->trigger_ns), weight), all = times(ns, weight);

	add_value(u, g, USAGE_BEFORE, k, all - after);
	add_value(u, g, USAGE_AFTER, k, after);
}

static void add_block(struct usages *u, struct usage *g, const struct bundle_event *e)
{
	char state = event_state(e);
	uint64_t runq = state == 'R' ? e->duration_ns : SB_MIN(e->runq_delay_ns, e->duration_ns);
	uint64_t woken = runq < e->ts_ns ? e->ts_ns - runq : 0;

	add_span(u, g, USAGE_RUNQ, e->ts_ns, runq, 1);
	add_span(u, g, state == 'D' ? USAGE_D : state == 'S' ? USAGE_S : USAGE_OTHER, woken, e->duration_ns - runq, 1);
}

static int take(const struct bundle_event *e, void *ctx)
{
	struct pass *p = ctx;
	struct usages *u = p->u;
	enum usage_side side = e->ts_ns > u->trigger_ns ? USAGE_AFTER : USAGE_BEFORE;
	uint64_t weight = e->weight > 1 ? e->weight : 1;
	struct usage *g;

	if (!filter_event(p->filter, e))
		return 0;
	g = usage_of(u, e->thread, e->cpu);
	if (!g)
		return -ENOMEM;
	switch (e->kind) {
	case BUNDLE_ON_CPU:
		add_span(u, g, e->flags & BUNDLE_EV_USER ? USAGE_USR : USAGE_SYS, e->ts_ns, e->duration_ns, 1);
		add_value(u, g, side, USAGE_SAMPLES, weight);
		break;
	case BUNDLE_OFF_CPU:
		add_block(u, g, e);
		break;
	case BUNDLE_RECLAIM:
		add_span(u, g, USAGE_RECLAIM, e->ts_ns, e->duration_ns, weight);
		add_value(u, g, side, USAGE_SCANNED, times(e->nr_scanned, weight));
		add_value(u, g, side, USAGE_RECLAIMED, times(e->nr_reclaimed, weight));
		break;
	case BUNDLE_LOCK_WAIT:
		add_span(u, g, USAGE_LOCK_WAIT, e->ts_ns, e->duration_ns, weight);
		if (e->detail & BUNDLE_LOCK_MMAP)
			add_span(u, g, USAGE_MMAP_WAIT, e->ts_ns, e->duration_ns, weight);
		break;
	case BUNDLE_LOCK_HOLD:
		add_span(u, g, USAGE_LOCK_HOLD, e->ts_ns, e->duration_ns, 1);
		break;
	default:
		break;
	}
	return 0;
}

static void at_freeze(struct usage *g, const struct bundle_shot_thread *t, uint64_t now)
{
	uint64_t age = t->since_ns && t->since_ns < now ? now - t->since_ns : 0;

	switch (shot_state(t)) {
	case 'D':
		g->n_d++;
		g->longest_d_ns = SB_MAX(g->longest_d_ns, age);
		break;
	case 'R':
		g->n_r++;
		if (!(t->flags & BUNDLE_SHOT_RUNNING))
			g->longest_r_ns = SB_MAX(g->longest_r_ns, age);
		break;
	case 'S':
		g->n_s++;
		break;
	default:
		g->n_other++;
	}
}

static int take_shot(struct usages *u, struct bundle *b, struct filter *filter)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(b, &t, &begin, &end, &seen, &truncated);

	for (size_t i = 0; i < n; i++) {
		struct usage *g;

		if (!filter_shot(filter, &t[i]))
			continue;
		g = usage_of(u, t[i].thread, t[i].cpu);
		if (!g)
			return -ENOMEM;
		at_freeze(g, &t[i], begin);
		at_freeze(&u->total, &t[i], begin);
	}
	return 0;
}

/* How much of the window lies within what the bundle reaches over. */
void usages_measure(struct usages *u, const struct bundle *b, const struct filter *f)
{
	uint64_t first = bundle_first_ns(b), last = bundle_last_ns(b), t = u->trigger_ns;

	if (f->since.set)
		first = SB_MAX(first, t + (uint64_t)f->since.ns);
	if (f->until.set)
		last = SB_MIN(last, t + (uint64_t)f->until.ns);
	u->span_ns[USAGE_BEFORE] = first < SB_MIN(last, t) ? SB_MIN(last, t) - first : 0;
	u->span_ns[USAGE_AFTER] = last > SB_MAX(first, t) ? last - SB_MAX(first, t) : 0;
}

int usages_count(struct usages *u, struct bundle *b, struct filter *filter, enum group_by by)
{
	struct pass p = { u, filter };
	int r;

	*u = (struct usages){ .trigger_ns = filter->trigger_ns };
	r = groups_init(&u->groups, b, by);
	if (r < 0)
		return r;
	usages_measure(u, b, filter);
	r = bundle_each_event(b, take, &p);
	return r < 0 ? r : take_shot(u, b, filter);
}

void usages_done(struct usages *u)
{
	groups_done(&u->groups);
	free(u->of);
	u->of = NULL;
	u->n = u->cap = 0;
}
