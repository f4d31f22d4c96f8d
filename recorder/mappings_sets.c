// SPDX-License-Identifier: BSD-2-Clause
/* Sets of mappings, which processes share until one changes, and the ranges that they are published in. */
#include <errno.h>

#include "recorder/mappings_impl.h"

/* A walk is over in microseconds; a range is not given to others before. */
#define GRACE_NS (100 * NSEC_PER_MSEC)

/* ---- ranges --------------------------------------------------------------------------- */

static void range_free(struct mappings *m, uint32_t first, uint32_t class)
{
	m->link[first / UNIT] = m->free_range[class];
	m->free_range[class] = first;
}

bool mappings_take_range(struct mappings *m, uint32_t class, uint32_t *ret)
{
	uint32_t from = class;

	while (from < CLASSES && m->free_range[from] == NONE)
		from++;
	if (from == CLASSES)
		return false;
	*ret = m->free_range[from];
	m->free_range[from] = m->link[*ret / UNIT];
	while (from > class) {
		from--;
		range_free(m, *ret + (UNIT << from), from);
	}
	return true;
}

static void range_retire(struct mappings *m, uint32_t first, uint32_t class)
{
	if (m->n_limbo == m->max_limbo) {
		size_t max = SB_MAX(m->max_limbo * 2, (size_t)64);
		void *bigger = realloc(m->limbo, max * sizeof(*m->limbo));

		if (!bigger)
			return; /* lost until the agent ends */
		m->limbo = bigger;
		m->max_limbo = max;
	}
	m->limbo[m->n_limbo++] = (struct limbo){ sb_monotonic_ns(), first, class };
}

void mappings_end_limbo(struct mappings *m, uint64_t now)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n_limbo; i++) {
		if (now > m->limbo[i].since_ns + GRACE_NS)
			range_free(m, m->limbo[i].first, m->limbo[i].class);
		else
			m->limbo[kept++] = m->limbo[i];
	}
	m->n_limbo = kept;
}

/* ---- sets ----------------------------------------------------------------------------- */

static void unpublish_set(struct mappings *m, struct set *s)
{
	if (s->first == NONE)
		return;
	m->n_published -= s->n;
	range_retire(m, s->first, s->class);
	s->first = NONE;
}

void mappings_set_put(struct mappings *m, struct set *s)
{
	if (!s || --s->refs)
		return;
	unpublish_set(m, s);
	free(s);
}

/* One of the process's own, with room for `n` mappings. */
static struct set *set_own(struct mappings *m, struct process *p, uint32_t n)
{
	struct set *s = p->set, *own;
	uint32_t cap = UNIT;

	if (s && s->refs == 1 && s->cap >= n) {
		unpublish_set(m, s);
		return s;
	}
	while (cap < n)
		cap *= 2;
	own = malloc(sizeof(*own) + cap * sizeof(*own->vma));
	if (!own)
		return NULL;
	*own = (struct set){ .refs = 1, .cap = cap, .first = NONE };
	if (s) {
		own->n = s->n;
		memcpy(own->vma, s->vma, s->n * sizeof(*s->vma));
		mappings_set_put(m, s);
	}
	p->set = own;
	return own;
}

/* Takes [start, end) out: a mapping in the middle of another one leaves two. */
static uint32_t cut_out(struct mapped_vma *to, const struct mapped_vma *from, uint32_t n, uint64_t start, uint64_t end)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct mapped_vma before = from[i], after = from[i];

		if (before.end <= start || before.start >= end) {
			to[kept++] = before;
			continue;
		}
		before.end = start;
		after.offset += end - after.start;
		after.start = end;
		if (from[i].start < start)
			to[kept++] = before;
		if (from[i].end > end)
			to[kept++] = after;
	}
	return kept;
}

void mappings_mark_dirty(struct mappings *m, struct process *p)
{
	if (p->dirty)
		return;
	p->dirty = true;
	if (m->n_dirty < PROCESSES)
		m->dirty[m->n_dirty] = (uint32_t)(p - m->process);
	m->n_dirty = SB_MIN(m->n_dirty + 1, PROCESSES + 1);
}

/* Where a mapping belongs that none is in the way of; NONE: it overlaps one. */
static uint32_t gap_for(const struct set *s, const struct mapped_vma *v)
{
	uint32_t at = s->n;

	while (at && s->vma[at - 1].start >= v->end)
		at--;
	return at && s->vma[at - 1].end > v->start ? NONE : at;
}

static void put_at(struct set *s, uint32_t at, const struct mapped_vma *v)
{
	memmove(&s->vma[at + 1], &s->vma[at], (s->n - at) * sizeof(*v));
	s->vma[at] = *v;
	s->n++;
}

void mappings_set_add(struct mappings *m, struct process *p, const struct mapped_vma *v)
{
	uint32_t n = p->set ? p->set->n : 0, at;
	struct mapped_vma *list;
	struct set *s;

	if (n + 2 > MAPPINGS_PER_PROCESS) {
		m->evicted++;
		return;
	}
	s = set_own(m, p, n + 2);
	at = s ? gap_for(s, v) : NONE;
	if (at != NONE) {
		put_at(s, at, v);
		mappings_mark_dirty(m, p);
		return;
	}
	list = malloc((n + 2) * sizeof(*list));
	if (!s || !list) {
		free(list);
		m->evicted++;
		return;
	}
	s->n = cut_out(list, s->vma, s->n, v->start, v->end);
	memcpy(s->vma, list, s->n * sizeof(*list));
	free(list);
	put_at(s, gap_for(s, v), v);
	mappings_mark_dirty(m, p);
}
