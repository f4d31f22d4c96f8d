// SPDX-License-Identifier: BSD-2-Clause
#include "tools/flame.h"

#include <errno.h>

#include "tools/escape.h"

static const char css[] =
#include "tools/flame.css.inc"
;
static const char js[] =
#include "tools/flame.js.inc"
;

#define WIDTH 1200
#define LEFT 10
#define ROW 17
#define TOP 74
#define BOTTOM 30
#define CHAR_WIDTH 7.25 /* of the 12 px monospace font */
#define MIN_PIXELS 0.1

struct node {
	uint32_t name, parent, child, sibling, depth; /* indexes; 0: the root, or none */
	uint64_t weight, x;
};

struct tree {
	struct node *node;
	uint32_t n, cap, depth;
	struct map64 child; /* (parent, name) -> node */
	uint32_t hidden;    /* thinner than MIN_PIXELS */
};

static uint32_t add_node(struct tree *t, uint32_t parent, uint32_t name)
{
	uint64_t key = sb_mix64((uint64_t)parent << 32 | name) | 1;
	uint32_t id = (uint32_t)map64_get(&t->child, key);
	struct node *p;

	if (id)
		return id;
	if (t->n == t->cap) {
		uint32_t cap = t->cap * 2;
		void *bigger = realloc(t->node, cap * sizeof(*t->node));

		if (!bigger)
			return 0;
		t->node = bigger;
		t->cap = cap;
	}
	if (map64_put(&t->child, key, t->n) < 0)
		return 0;
	p = &t->node[parent];
	t->node[t->n] = (struct node){ .name = name, .parent = parent, .sibling = p->child,
				       .depth = p->depth + 1 };
	p->child = t->n;
	if (p->depth + 1 > t->depth)
		t->depth = p->depth + 1;
	return t->n++;
}

static int build(struct tree *t, struct fold *f)
{
	uint32_t ids[FOLD_MAX_FRAMES];

	t->cap = 4096;
	t->node = calloc(t->cap, sizeof(*t->node));
	if (!t->node)
		return -ENOMEM;
	t->n = 1;
	for (size_t i = 0; i < f->n; i++) {
		uint32_t n = fold_frames(f, &f->row[i], ids, FOLD_MAX_FRAMES), at = 0;

		t->node[0].weight += f->row[i].weight;
		for (uint32_t k = 0; k < n; k++) {
			at = add_node(t, at, ids[k]);
			if (!at)
				return -ENOMEM;
			t->node[at].weight += f->row[i].weight;
		}
	}
	return 0;
}

/* ---- layout: children by name, so that two graphs can be compared by eye -------------------- */

struct sort_item {
	const char *name;
	uint32_t node;
};

static int by_name(const void *a, const void *b)
{
	const struct sort_item *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : (x->node < y->node ? -1 : x->node > y->node);
}

static int place_children(struct tree *t, const struct names *names, uint32_t parent,
			  struct sort_item *items)
{
	uint64_t x = t->node[parent].x;
	size_t n = 0;

	for (uint32_t c = t->node[parent].child; c; c = t->node[c].sibling)
		items[n++] = (struct sort_item){ names_get(names, t->node[c].name), c };
	qsort(items, n, sizeof(*items), by_name);
	for (size_t i = 0; i < n; i++) {
		t->node[items[i].node].x = x;
		x += t->node[items[i].node].weight;
	}
	return 0;
}

static int layout(struct tree *t, const struct names *names)
{
	struct sort_item *items = calloc(t->n, sizeof(*items));

	if (!items)
		return -ENOMEM;
	/* Parents have smaller indexes than their children. */
	for (uint32_t i = 0; i < t->n; i++)
		place_children(t, names, i, items);
	free(items);
	return 0;
}

/* ---- SVG ------------------------------------------------------------------------------------- */

/* Warm for user code, blue-green for the kernel, grey for what has no name; the shade comes
 * from the name, so that a function keeps its colour. */
static void put_colour(FILE *out, const char *name, enum frame_class class)
{
	unsigned int h = (unsigned int)sb_hash_bytes(name, strlen(name)) & 0xff;

	switch (class) {
	case FRAME_KERNEL:
		fprintf(out, "hsl(%u,%u%%,%u%%)", 178 + h % 26, 46 + h % 14, 66 + h % 11);
		break;
	case FRAME_USER:
		fprintf(out, "hsl(%u,%u%%,%u%%)", 18 + h % 28, 82 + h % 12, 64 + h % 10);
		break;
	case FRAME_COMM:
		fprintf(out, "hsl(%u,%u%%,%u%%)", 88 + h % 26, 38 + h % 12, 70 + h % 8);
		break;
	default:
		fprintf(out, "hsl(0,0%%,%u%%)", 78 + h % 8);
	}
}

static void put_weight(FILE *out, const struct fold *f, uint64_t weight)
{
	if (strcmp(fold_unit(f), "microseconds"))
		fprintf(out, "%llu %s", (unsigned long long)weight, fold_unit(f));
	else if (weight >= 1000000)
		fprintf(out, "%.3f s", (double)weight / 1e6);
	else
		fprintf(out, "%.3f ms", (double)weight / 1e3);
}

static void put_frame(FILE *out, const struct tree *t, const struct fold *f, const struct node *n,
		      double scale)
{
	const char *name = n->depth ? names_get(&f->names, n->name) : "all";
	double x = LEFT + (double)n->x * scale, w = (double)n->weight * scale;
	int y = TOP + (int)(t->depth - n->depth) * ROW;
	int chars = (int)((w - 6) / CHAR_WIDTH);
	char cut[512];

	fprintf(out, "<g class=\"f\" tabindex=\"0\" data-x=\"%llu\" data-w=\"%llu\" data-d=\"%u\"><title>",
		(unsigned long long)n->x, (unsigned long long)n->weight, n->depth);
	escape_put(out, ESCAPE_XML, name);
	fputs(" (", out);
	put_weight(out, f, n->weight);
	fprintf(out, ", %.2f %%)</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" rx=\"1.5\" "
		"fill=\"", f->total ? 100.0 * (double)n->weight / (double)f->total : 0.0, x, y, w, ROW - 1);
	if (n->depth)
		put_colour(out, name, names_class(&f->names, n->name));
	else
		fputs("#e4e4de", out);
	fprintf(out, "\"/><text x=\"%.2f\" y=\"%d\">", x + 3, y + 12);
	if (chars >= 3) {
		size_t len = strlen(name);

		if (len <= (size_t)chars) {
			escape_put(out, ESCAPE_XML, name);
		} else {
			snprintf(cut, sizeof(cut), "%.*s", SB_MIN(chars - 1, 500), name);
			escape_put(out, ESCAPE_XML, cut);
			fputs("&#8230;", out);
		}
	}
	fputs("</text></g>\n", out);
}

static void put_head(FILE *out, const struct tree *t, const struct fold *f,
		     const struct flame_text *text)
{
	int height = TOP + (int)(t->depth + 1) * ROW + BOTTOM;

	fprintf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg class=\"flame\" xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\" data-total=\"%llu\" data-unit=\"%s\" data-left=\"%d\" "
		"data-width=\"%d\">\n<style>%s</style>\n", WIDTH, height, WIDTH, height,
		(unsigned long long)f->total, fold_unit(f), LEFT, WIDTH - 2 * LEFT, css);
	fprintf(out, "<text class=\"title\" x=\"%d\" y=\"24\">", LEFT);
	escape_put(out, ESCAPE_XML, text->title);
	fprintf(out, "</text>\n<text class=\"sub\" x=\"%d\" y=\"43\">", LEFT);
	escape_put(out, ESCAPE_XML, text->subtitle);
	fprintf(out, "</text>\n<text class=\"sub\" x=\"%d\" y=\"60\">", LEFT);
	escape_put(out, ESCAPE_XML, text->losses);
	if (t->hidden)
		fprintf(out, "; %u frames too thin to draw", t->hidden);
	fprintf(out, "</text>\n<text class=\"button\" id=\"reset\" tabindex=\"0\" x=\"%d\" y=\"24\" "
		"text-anchor=\"end\" style=\"display:none\">reset zoom</text>\n"
		"<text class=\"button\" id=\"search\" tabindex=\"0\" x=\"%d\" y=\"24\" text-anchor=\"end\">"
		"search</text>\n<text class=\"sub\" id=\"matched\" x=\"%d\" y=\"60\" text-anchor=\"end\">"
		"</text>\n<text id=\"details\" x=\"%d\" y=\"%d\"></text>\n", WIDTH - LEFT - 100, WIDTH - LEFT,
		WIDTH - LEFT, LEFT, height - 10);
}

int flame_write(struct fold *f, const struct flame_text *text, FILE *out)
{
	struct tree t = {};
	double scale;
	int r = build(&t, f);

	if (r == 0)
		r = layout(&t, &f->names);
	if (r == 0) {
		scale = f->total ? (double)(WIDTH - 2 * LEFT) / (double)f->total : 0;
		t.depth = 0; /* of what can be seen */
		for (uint32_t i = 0; i < t.n; i++) {
			if ((double)t.node[i].weight * scale < MIN_PIXELS)
				t.hidden++;
			else
				t.depth = SB_MAX(t.depth, t.node[i].depth);
		}
		put_head(out, &t, f, text);
		for (uint32_t i = 0; i < t.n; i++) {
			if ((double)t.node[i].weight * scale >= MIN_PIXELS)
				put_frame(out, &t, f, &t.node[i], scale);
		}
		fprintf(out, "<script><![CDATA[\n%s]]></script>\n</svg>\n", js);
	}
	free(t.node);
	map64_done(&t.child);
	return r;
}
