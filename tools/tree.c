// SPDX-License-Identifier: BSD-2-Clause
#include "tools/tree.h"

#include <errno.h>
#include <math.h>

int tree_init(struct tree *t)
{
	*t = (struct tree){ .n = 1, .cap = 4096 };
	names_init(&t->names, NULL);
	t->node = calloc(t->cap, sizeof(*t->node));
	return t->node ? 0 : -ENOMEM;
}

void tree_done(struct tree *t)
{
	free(t->node);
	map64_done(&t->child);
	names_done(&t->names);
	*t = (struct tree){};
}

static uint32_t child_of(struct tree *t, uint32_t parent, uint32_t name)
{
	uint64_t key = sb_mix64((uint64_t)parent << 32 | name) | 1;
	uint32_t id = (uint32_t)map64_get(&t->child, key);
	struct tree_node *p;

	if (id)
		return id;
	if (t->n == t->cap) {
		void *bigger = realloc(t->node, (size_t)t->cap * 2 * sizeof(*t->node));

		if (!bigger)
			return 0;
		t->node = bigger;
		t->cap *= 2;
	}
	if (map64_put(&t->child, key, t->n) < 0)
		return 0;
	p = &t->node[parent];
	t->node[t->n] = (struct tree_node){ .name = name, .parent = parent, .sibling = p->child, .depth = p->depth + 1 };
	p->child = t->n;
	t->depth = SB_MAX(t->depth, p->depth + 1);
	return t->n++;
}

static void add_to(struct tree_node *n, int side, uint64_t weight, uint64_t count, uint64_t ns)
{
	n->weight[side] += weight;
	n->count[side] += count;
	n->ns[side] += ns;
}

/* Cut so that the sum of all fits: made-up durations must not make a child wider than its parent. */
static uint64_t scaled(uint64_t v, double scale, uint64_t sum)
{
	double d = (double)v * scale;

	if (scale != 1)
		v = d < 9e18 ? (uint64_t)llround(d) : UINT64_MAX;
	return SB_MIN(v, UINT64_MAX / 2 - sum);
}

/* The tree's name for a name of the fold; each is looked up once. */
static uint32_t translate(struct tree *t, const struct fold *f, uint32_t *known, uint32_t id)
{
	if (!id)
		return names_text(&t->names, "?", FRAME_UNKNOWN);
	if (!known[id - 1])
		known[id - 1] = names_text(&t->names, names_get(&f->names, id), names_class(&f->names, id));
	return known[id - 1];
}

int tree_add(struct tree *t, struct fold *f, int side, double scale, bool reverse)
{
	uint32_t ids[FOLD_MAX_FRAMES], n_known = 0;
	_cleanup_free_ uint32_t *known = NULL;

	for (size_t i = 0; i < f->n; i++) {
		const struct fold_row *row = &f->row[i];
		uint32_t n = fold_frames(f, row, ids, FOLD_MAX_FRAMES), at = 0;
		uint64_t weight = scaled(row->weight, scale, t->node[0].weight[side]);
		uint64_t count = scaled(row->count, scale, t->node[0].count[side]), ns = scaled(row->ns, scale, t->node[0].ns[side]);

		if (f->names.n > n_known) { /* fold_frames() names frames as it meets them */
			uint32_t cap = SB_MAX(f->names.n, n_known * 2);
			uint32_t *bigger = realloc(known, cap * sizeof(*bigger));

			if (!bigger)
				return -ENOMEM;
			memset(bigger + n_known, 0, (cap - n_known) * sizeof(*bigger));
			known = bigger;
			n_known = cap;
		}
		add_to(&t->node[0], side, weight, count, ns);
		for (uint32_t k = 0; k < n; k++) {
			uint32_t name = translate(t, f, known, ids[reverse ? n - 1 - k : k]);

			at = name ? child_of(t, at, name) : 0;
			if (!at)
				return -ENOMEM;
			add_to(&t->node[at], side, weight, count, ns);
		}
	}
	return 0;
}

/* ---- order ---------------------------------------------------------------------------------------- */

static const struct names *sort_names; /* for qsort(); one thread */

static int by_text(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int r = strcmp(names_get(sort_names, x), names_get(sort_names, y));

	return r ? r : (x < y ? -1 : x > y);
}

struct item {
	uint32_t rank, node;
};

static int by_rank(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

int tree_sort(struct tree *t)
{
	_cleanup_free_ uint32_t *order = calloc(t->names.n + 1u, sizeof(*order));
	_cleanup_free_ uint32_t *rank = calloc(t->names.n + 1u, sizeof(*rank));
	_cleanup_free_ struct item *item = calloc(t->n, sizeof(*item));

	if (!order || !rank || !item)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->names.n; i++)
		order[i] = i + 1;
	sort_names = &t->names;
	qsort(order, t->names.n, sizeof(*order), by_text);
	for (uint32_t i = 0; i < t->names.n; i++)
		rank[order[i]] = i;
	for (uint32_t p = 0; p < t->n; p++) {
		size_t n = 0;

		for (uint32_t c = t->node[p].child; c; c = t->node[c].sibling)
			item[n++] = (struct item){ rank[t->node[c].name], c };
		if (n < 2)
			continue;
		qsort(item, n, sizeof(*item), by_rank);
		t->node[p].child = item[0].node;
		for (size_t i = 0; i < n; i++)
			t->node[item[i].node].sibling = i + 1 < n ? item[i + 1].node : 0;
	}
	return 0;
}

uint32_t tree_next(const struct tree *t, uint32_t i, bool skip)
{
	if (!skip && t->node[i].child)
		return t->node[i].child;
	while (i && !t->node[i].sibling)
		i = t->node[i].parent;
	return i ? t->node[i].sibling : 0;
}
