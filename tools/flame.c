// SPDX-License-Identifier: BSD-2-Clause
#include "tools/flame.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "tools/escape.h"

static const char css[] =
#include "tools/flame.css.inc"
;
static const char js[] =
#include "tools/flame.js.inc"
;

/* Pixels; the script has them from data-* attributes or knows them as well. */
#define WIDTH 1200
#define LEFT 10
#define ROW 16
#define TOP 98
#define BOTTOM 44
#define CHAR_WIDTH 7.25 /* of the 12 px monospace font */
#define MIN_PIXELS 0.6	/* thinner frames side by side are drawn as one */
#define DEPTH_PIXELS 1.5 /* a row is drawn if it holds a frame of this width */
#define SHADES 8
/* A file of more frames is no pleasure: the thinnest stay out, and are counted. */
#define NODES_MAX 250000u
#define THINNEST 1e-5 /* of the whole */

struct picture {
	const struct tree *t;
	const struct flame_options *o;
	FILE *out;
	double *x; /* of every node, in units of weight */
	double total, scale;
	uint32_t depth, left_out, thin; /* depth: of the deepest frame that can be seen */
	double most; /* when comparing: the largest difference of one frame */
};

static double width_of(const struct picture *p, const struct tree_node *n)
{
	if (!p->o->compare || p->o->width == FLAME_WIDTH_FIRST)
		return (double)n->weight[0];
	if (p->o->width == FLAME_WIDTH_SECOND)
		return (double)n->weight[1];
	return (double)n->weight[0] + (double)n->weight[1];
}

static bool kept(const struct picture *p, const struct tree_node *n)
{
	double w = width_of(p, n);

	return w > 0 && (p->t->n <= NODES_MAX || w >= p->total * THINNEST);
}

/* Nodes with nothing on them or too thin go with all that stands on them. */
static uint32_t next_kept(const struct picture *p, uint32_t i)
{
	uint32_t k = tree_next(p->t, i, false);

	while (k && !kept(p, &p->t->node[k]))
		k = tree_next(p->t, k, true);
	return k;
}

/* ---- colours: warm for user code, blue-green for the kernel; the shade comes from the name, so that
 * a function keeps its colour ----------------------------------------------------------------------- */

static char class_letter(enum frame_class class)
{
	static const char letters[] = { 'k', 'u', 'n', 'c', 'j', 'm' };

	return letters[class];
}

static unsigned int shade(const char *name)
{
	return (unsigned int)(sb_hash_bytes(name, strlen(name)) >> 8) % SHADES;
}

/* -8 (all gone) to 8: red and blue, deeper for what matters more. */
static int heat(const struct picture *p, const struct tree_node *n)
{
	double d = (double)n->weight[0] - (double)n->weight[1];

	return p->most > 0 ? (int)lround(copysign(sqrt(fabs(d) / p->most) * 8, d)) : 0;
}

static const char *colour(const struct picture *p, uint32_t i, char ret[8])
{
	const struct tree_node *n = &p->t->node[i];
	int h;

	if (p->o->compare) {
		h = heat(p, n);
		snprintf(ret, 8, "%c%d", h < 0 ? 'b' : 'r', abs(h));
	} else if (!i) {
		strcpy(ret, "all");
	} else {
		snprintf(ret, 8, "%c%u", class_letter(names_class(&p->t->names, n->name)),
			 shade(names_get(&p->t->names, n->name)));
	}
	return ret;
}

static void put_style(FILE *out)
{
	static const struct {
		char letter;
		unsigned int hue, hue_step, sat, light, light_step;
	} c[] = { { 'k', 186, 3, 42, 66, 2 }, { 'u', 20, 3, 84, 66, 1 }, { 'n', 40, 0, 4, 76, 1 }, { 'c', 250, 2, 26, 82, 1 },
		  { 'j', 92, 4, 46, 64, 1 }, { 'm', 0, 0, 0, 100, 0 } };

	for (size_t i = 0; i < SB_ARRAY_SIZE(c); i++) {
		for (unsigned int k = 0; k < SHADES; k++)
			fprintf(out, ".%c%u{fill:hsl(%u,%u%%,%u%%)}", c[i].letter, k, c[i].hue + k * c[i].hue_step, c[i].sat,
				c[i].light + k * c[i].light_step);
	}
	for (unsigned int k = 0; k <= 8; k++)
		fprintf(out, ".r%u{fill:hsl(8,%u%%,%u%%)}.b%u{fill:hsl(214,%u%%,%u%%)}", k, k ? 86 : 6, 93 - k * 4, k, k ? 74 : 6,
			93 - k * 4);
	fputs(css, out);
}

/* ---- amounts ----------------------------------------------------------------------------------------- */

static bool is_time(const struct picture *p)
{
	return !strcmp(p->o->unit, "nanoseconds") || !strcmp(p->o->unit, "microseconds");
}

static void put_duration(char *ret, size_t len, double ns)
{
	snprintf(ret, len, ns >= 1e9 ? "%.3f s" : ns >= 1e6 ? "%.3f ms" : "%.0f us",
		 ns >= 1e9 ? ns / 1e9 : ns >= 1e6 ? ns / 1e6 : ns / 1e3);
}

/* "12.3 s in 45 events", "123 samples (1.2 s)", "3 threads" */
static void put_amount(const struct picture *p, const struct tree_node *n, int side, char *ret, size_t len)
{
	char d[32];

	if (is_time(p)) {
		put_duration(d, sizeof(d), (double)n->weight[side] * (*p->o->unit == 'm' ? 1e3 : 1));
		snprintf(ret, len, "%s in %" PRIu64 " events", d, n->count[side]);
	} else if (!strcmp(p->o->unit, "samples")) {
		put_duration(d, sizeof(d), (double)n->ns[side]);
		snprintf(ret, len, "%" PRIu64 " samples, %s", n->weight[side], d);
	} else {
		snprintf(ret, len, "%" PRIu64 " %s", n->weight[side], p->o->unit);
	}
}

static const char *name_of(const struct picture *p, uint32_t i)
{
	return i ? names_get(&p->t->names, p->t->node[i].name) : "all";
}

static void put_title(const struct picture *p, uint32_t i)
{
	const struct tree_node *n = &p->t->node[i], *root = &p->t->node[0];
	char amount[96];

	escape_put(p->out, ESCAPE_XML, name_of(p, i));
	for (int s = 0; s <= p->o->compare; s++) {
		put_amount(p, n, s, amount, sizeof(amount));
		fputs(s ? "; " : ": ", p->out);
		if (p->o->compare) {
			escape_put(p->out, ESCAPE_XML, p->o->side[s]);
			putc(' ', p->out);
		}
		fprintf(p->out, "%s, %.2f %%", amount,
			root->weight[s] ? 100.0 * (double)n->weight[s] / (double)root->weight[s] : 0.0);
	}
}

/* ---- frames -------------------------------------------------------------------------------------------- */

static int row_y(const struct picture *p, uint32_t depth)
{
	return TOP + (int)(p->o->inverted ? depth : p->depth - depth) * ROW;
}

/* As much of a name as fits, cut between characters. */
static void put_label(const struct picture *p, const char *name, double w)
{
	int chars = (int)((w - 6) / CHAR_WIDTH);
	char cut[256];
	size_t n;

	if (chars < 3)
		return;
	if (strlen(name) <= (size_t)chars) {
		escape_put(p->out, ESCAPE_XML, name);
		return;
	}
	n = (size_t)SB_MIN(chars - 1, 250);
	while (n && ((unsigned char)name[n] & 0xc0) == 0x80)
		n--;
	snprintf(cut, sizeof(cut), "%.*s", (int)n, name);
	escape_put(p->out, ESCAPE_XML, cut);
	fputs("&#8230;", p->out);
}

static void put_frame(const struct picture *p, uint32_t i)
{
	const struct tree_node *n = &p->t->node[i];
	double x = LEFT + p->x[i] * p->scale, w = width_of(p, n) * p->scale;
	int y = row_y(p, n->depth);
	char class[8];

	fputs("<g class=\"f\"><title>", p->out);
	put_title(p, i);
	fprintf(p->out, "</title><rect class=\"%s\" x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\"/>", colour(p, i, class),
		x, y, w, ROW - 1);
	if (w >= 3 * CHAR_WIDTH + 6) {
		fprintf(p->out, "<text x=\"%.2f\" y=\"%.1f\">", x + 3, y + 11.5);
		put_label(p, name_of(p, i), w);
		fputs("</text>", p->out);
	}
	fputs("</g>\n", p->out);
}

/* Thin frames of one row that touch. */
struct run {
	double x0, x1;
	uint32_t n, first;
};

static void flush_run(const struct picture *p, struct run *r, uint32_t depth)
{
	char class[8];

	if (r->n && r->x1 - r->x0 >= 0.2)
		fprintf(p->out, "<rect class=\"thin %s\" x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\"/>\n",
			colour(p, r->first, class), r->x0, row_y(p, depth), r->x1 - r->x0, ROW - 1);
	r->n = 0;
}

static int put_frames(const struct picture *p)
{
	_cleanup_free_ struct run *run = calloc(p->depth + 1u, sizeof(*run));

	if (!run)
		return -ENOMEM;
	fputs("<g id=\"frames\">\n", p->out);
	put_frame(p, 0);
	for (uint32_t i = next_kept(p, 0); i; i = next_kept(p, i)) {
		const struct tree_node *n = &p->t->node[i];
		double x = LEFT + p->x[i] * p->scale, w = width_of(p, n) * p->scale;
		struct run *r = n->depth <= p->depth ? &run[n->depth] : NULL;

		if (!r) /* nothing but thin ones in this row: they are there for the script */
			continue;
		if (w >= MIN_PIXELS) {
			flush_run(p, r, n->depth);
			put_frame(p, i);
			continue;
		}
		if (r->n && x - r->x1 > MIN_PIXELS)
			flush_run(p, r, n->depth);
		if (!r->n)
			*r = (struct run){ .x0 = x, .first = i };
		r->n++;
		r->x1 = x + w;
	}
	for (uint32_t d = 0; d <= p->depth; d++)
		flush_run(p, &run[d], d);
	fputs("</g>\n", p->out);
	return 0;
}

/* ---- the script's data: names, their classes, and the nodes in depth-first order --------------------- */

static void put_nodes(const struct picture *p, const uint32_t *number)
{
	uint32_t i = 0;

	fputs("],\nT=[", p->out);
	do {
		const struct tree_node *n = &p->t->node[i];

		fprintf(p->out, "%s%u,%u,%" PRIu64 ",%" PRIu64, i ? "," : "", n->depth, i ? number[n->name - 1] : 0,
			n->weight[0], is_time(p) ? n->count[0] : n->ns[0] / 1000);
		if (p->o->compare)
			fprintf(p->out, ",%" PRIu64 ",%" PRIu64, n->weight[1], is_time(p) ? n->count[1] : n->ns[1] / 1000);
		i = next_kept(p, i);
	} while (i);
	fputs("];\n", p->out);
}

static int put_data(const struct picture *p)
{
	const struct names *names = &p->t->names;
	_cleanup_free_ uint32_t *number = calloc(names->n + 1u, sizeof(*number));
	uint32_t n = 0, i;

	if (!number)
		return -ENOMEM;
	fputs("var N=[\"all\"", p->out);
	for (i = next_kept(p, 0); i; i = next_kept(p, i)) {
		uint32_t name = p->t->node[i].name;

		if (!name || number[name - 1])
			continue;
		number[name - 1] = ++n;
		fputs(",\"", p->out);
		escape_put(p->out, ESCAPE_SCRIPT, names_get(names, name));
		putc('"', p->out);
	}
	fputs("],\nK=[\"all\"", p->out);
	n = 0;
	for (i = next_kept(p, 0); i; i = next_kept(p, i)) {
		uint32_t name = p->t->node[i].name;

		if (!name || number[name - 1] != n + 1)
			continue;
		n++;
		fprintf(p->out, ",\"%c%u\"", class_letter(names_class(names, name)), shade(names_get(names, name)));
	}
	put_nodes(p, number);
	return 0;
}

/* ---- around them --------------------------------------------------------------------------------------- */

#define LINE_CHARS 175

static void put_line(FILE *out, const char *class, int y, const char *text)
{
	char cut[LINE_CHARS + 8];
	size_t n = strlen(text);

	fprintf(out, "<text class=\"%s\" x=\"%d\" y=\"%d\">", class, LEFT, y);
	if (n > LINE_CHARS) {
		for (n = LINE_CHARS; n && ((unsigned char)text[n] & 0xc0) == 0x80;)
			n--;
		snprintf(cut, sizeof(cut), "%.*s", (int)n, text);
		escape_put(out, ESCAPE_XML, cut);
		fputs("&#8230;<title>", out);
		escape_put(out, ESCAPE_XML, text);
		fputs("</title>", out);
	} else {
		escape_put(out, ESCAPE_XML, text);
	}
	fputs("</text>\n", out);
}

static void put_legend(const struct picture *p, int y)
{
	static const struct {
		const char *class, *text;
	} kinds[] = { { "k2", "kernel" }, { "u4", "user" }, { "j2", "JIT" }, { "n3", "no symbol" }, { "c2", "thread, process" },
		      { "m0", "frames missing" } };
	const char *grew[] = { "more: ", "less: " };
	int x = LEFT;

	if (p->o->compare) {
		for (int i = 0; i < 2; i++) {
			for (int k = 2; k <= 8; k += 3, x += 14)
				fprintf(p->out, "<rect class=\"%c%d\" x=\"%d\" y=\"%d\" width=\"14\" height=\"11\"/>", i ? 'b' : 'r', k, x,
					y - 10);
			fprintf(p->out, "<text class=\"sub\" x=\"%d\" y=\"%d\">%s", x + 5, y, grew[i]);
			escape_put(p->out, ESCAPE_XML, p->o->side[0]);
			fputs("</text>\n", p->out);
			x += 110;
		}
		return;
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(kinds); i++) {
		fprintf(p->out, "<rect class=\"%s swatch\" x=\"%d\" y=\"%d\" width=\"14\" height=\"11\"/><text class=\"sub\" "
			"x=\"%d\" y=\"%d\">%s</text>\n", kinds[i].class, x, y - 10, x + 19, y, kinds[i].text);
		x += 40 + 7 * (int)strlen(kinds[i].text);
	}
}

static void put_head(const struct picture *p)
{
	int height = TOP + (int)(p->depth + 1) * ROW + BOTTOM;
	char losses[800];

	fprintf(p->out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg class=\"flame\" xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
		"data-unit=\"%s\" data-rows=\"%u\" data-inverted=\"%d\" data-compare=\"%d\" data-widths=\"%d\"", WIDTH, height,
		WIDTH, height, p->o->unit, p->depth + 1, p->o->inverted, p->o->compare, p->o->width);
	for (int s = 0; s <= p->o->compare && p->o->compare; s++) {
		fprintf(p->out, " data-side%d=\"", s);
		escape_put(p->out, ESCAPE_XML, p->o->side[s]);
		putc('"', p->out);
	}
	fputs(">\n<style>", p->out);
	put_style(p->out);
	fprintf(p->out, "</style>\n<rect class=\"paper\" width=\"100%%\" height=\"100%%\"/>\n");
	put_line(p->out, "title", 26, p->o->text.title);
	put_line(p->out, "sub", 46, p->o->text.subtitle);
	snprintf(losses, sizeof(losses), "%s", p->o->text.losses);
	if (p->thin)
		snprintf(losses + strlen(losses), sizeof(losses) - strlen(losses), "; %u frames too thin to be seen here", p->thin);
	if (p->left_out)
		snprintf(losses + strlen(losses), sizeof(losses) - strlen(losses), "; %u of less than %g %% of all left out",
			 p->left_out, THINNEST * 100);
	put_line(p->out, "sub", 63, losses);
	fprintf(p->out, "<text id=\"details\" x=\"%d\" y=\"86\"></text>\n<g id=\"controls\" display=\"none\">"
		"<text class=\"button\" id=\"reset\" tabindex=\"0\" role=\"button\" x=\"%d\" y=\"26\" text-anchor=\"end\" "
		"display=\"none\">reset zoom</text><text class=\"button\" id=\"search\" tabindex=\"0\" role=\"button\" x=\"%d\" "
		"y=\"26\" text-anchor=\"end\">search</text></g><text class=\"sub\" id=\"matched\" x=\"%d\" y=\"86\" "
		"text-anchor=\"end\"></text>\n", LEFT, WIDTH - LEFT - 70, WIDTH - LEFT, WIDTH - LEFT);
	fputs("<g id=\"foot\">\n", p->out);
	put_legend(p, height - 16);
	fprintf(p->out, "<text class=\"sub\" id=\"hint\" display=\"none\" x=\"%d\" y=\"%d\" text-anchor=\"end\">click or Enter: "
		"zoom &#183; Esc: back &#183; / : search &#183; arrows: walk</text>\n</g>\n", WIDTH - LEFT, height - 16);
}

static int lay_out(struct picture *p)
{
	const struct tree *t = p->t;
	uint32_t shown = 1;

	p->x = calloc(t->n, sizeof(*p->x));
	if (!p->x)
		return -ENOMEM;
	p->total = width_of(p, &t->node[0]);
	p->scale = p->total > 0 ? (WIDTH - 2 * LEFT) / p->total : 0;
	for (uint32_t i = 0; i < t->n; i++) { /* parents before children */
		double x = p->x[i];

		for (uint32_t c = t->node[i].child; c; c = t->node[c].sibling) {
			p->x[c] = x;
			x += width_of(p, &t->node[c]);
		}
		p->most = fmax(p->most, fabs((double)t->node[i].weight[0] - (double)t->node[i].weight[1]));
	}
	for (uint32_t i = next_kept(p, 0); i; i = next_kept(p, i), shown++) {
		double w = width_of(p, &t->node[i]) * p->scale;

		if (w >= DEPTH_PIXELS)
			p->depth = SB_MAX(p->depth, t->node[i].depth);
		p->thin += w < MIN_PIXELS;
	}
	for (uint32_t i = 1; i < t->n; i++)
		p->left_out += width_of(p, &t->node[i]) > 0;
	p->left_out -= shown - 1;
	return 0;
}

int flame_write_tree(const struct tree *t, const struct flame_options *o, FILE *out)
{
	struct picture p = { .t = t, .o = o, .out = out };
	int r = lay_out(&p);

	if (r == 0) {
		put_head(&p);
		r = put_frames(&p);
	}
	if (r == 0) {
		fputs("<script><![CDATA[\n(function () {\n", out);
		r = put_data(&p);
		fprintf(out, "%s})();\n]]></script>\n</svg>\n", js);
	}
	free(p.x);
	return r;
}

int flame_write(struct fold *f, const struct flame_text *text, FILE *out)
{
	struct flame_options o = { .text = *text, .unit = fold_unit(f) };
	struct tree t;
	int r = tree_init(&t);

	if (r == 0)
		r = tree_add(&t, f, 0, 1, false);
	if (r == 0)
		r = tree_sort(&t);
	if (r == 0)
		r = flame_write_tree(&t, &o, out);
	tree_done(&t);
	return r;
}
