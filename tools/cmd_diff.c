// SPDX-License-Identifier: BSD-2-Clause
/* stallbox diff: what changed at the trigger, or between two bundles: a differential flame graph, or
 * collapsed stacks with two columns. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/flame.h"
#include "tools/usage.h"

static const struct opt_command command = {
	"diff", "BUNDLE [BUNDLE]",
	"Compare the time after the trigger with the time before it, or the second bundle with the\n"
	"first: a flame graph, red where there was more afterwards, blue where there was less.",
	{ "stallbox diff -o x.svg X.stall.pb.zst",
	  "stallbox diff --kind off-cpu --state DR --folded good.stall.pb.zst bad.stall.pb.zst" },
};

#define NEW 0 /* sides of the tree */
#define OLD 1

struct side {
	struct bundle *b;
	struct filter filter;
	struct fold fold;
	uint64_t span_ns;
};

struct diff {
	struct fold_options options;
	struct flame_options flame;
	bool two, folded, reverse, raw;
	struct side side[2];
	double scale; /* of the old side */
};

/* How long the side is: what of the filter's window the bundle reaches over. */
static uint64_t window_ns(const struct diff *d, int s)
{
	const struct filter *f = &d->side[s].filter;
	struct usages u = { .trigger_ns = f->trigger_ns };

	usages_measure(&u, d->side[s].b, f);
	return d->two ? u.span_ns[USAGE_BEFORE] + u.span_ns[USAGE_AFTER] : u.span_ns[s == NEW ? USAGE_AFTER : USAGE_BEFORE];
}

static int fold_side(struct diff *d, int s)
{
	struct fold_options o = d->options;
	struct side *side = &d->side[s];

	if (!d->two)
		o.side = s == NEW ? FOLD_AFTER : FOLD_BEFORE;
	side->span_ns = window_ns(d, s);
	return fold_bundle_as(&side->fold, side->b, &side->filter, &o);
}

/* ---- --folded -------------------------------------------------------------------------------------- */

/* Stacks that end at a node: what is not passed on to its children. */
static uint64_t own(const struct tree *t, uint32_t i, int side)
{
	uint64_t sum = t->node[i].weight[side];

	for (uint32_t c = t->node[i].child; c; c = t->node[c].sibling)
		sum -= t->node[c].weight[side];
	return sum;
}

static void put_path(const struct tree *t, uint32_t i)
{
	if (t->node[i].parent) {
		put_path(t, t->node[i].parent);
		putchar(';');
	}
	escape_put(stdout, ESCAPE_FOLDED, names_get(&t->names, t->node[i].name));
	if (names_class(&t->names, t->node[i].name) == FRAME_KERNEL)
		fputs("_[k]", stdout);
}

/* As difffolded.pl writes it: the stack, the old and the new weight. */
static void put_folded(const struct tree *t)
{
	for (uint32_t i = tree_next(t, 0, false); i; i = tree_next(t, i, false)) {
		uint64_t a = own(t, i, OLD), b = own(t, i, NEW);

		if (!a && !b)
			continue;
		put_path(t, i);
		printf(" %llu %llu\n", (unsigned long long)a, (unsigned long long)b);
	}
}

/* ---- the picture ----------------------------------------------------------------------------------- */

static void put_total(const struct diff *d, int s, char *ret, size_t len)
{
	const struct fold *f = &d->side[s].fold;

	if (fold_unit_ns(f))
		snprintf(ret, len, "%.3f s in %.1f s", (double)f->total * (double)fold_unit_ns(f) / 1e9,
			 (double)d->side[s].span_ns / 1e9);
	else
		snprintf(ret, len, "%llu %s in %.1f s", (unsigned long long)f->total, fold_unit(f),
			 (double)d->side[s].span_ns / 1e9);
}

static int put_svg(struct diff *d, const struct tree *t, FILE *out)
{
	const struct bundle_header *h = bundle_header(d->side[NEW].b), *g = bundle_header(d->side[OLD].b);
	char title[300], subtitle[700], losses[600] = "losses: ", only[300], sum[2][80], old[80];

	filter_describe(&d->side[NEW].filter, only, sizeof(only));
	snprintf(title, sizeof(title), "%s: %s, %s", h ? h->hostname : "unknown host", fold_kind_name(d->options.kind),
		 d->two ? "second bundle against first" : "after the trigger against before");
	for (int s = 0; s < 2; s++)
		put_total(d, s, sum[s], sizeof(sum[s]));
	if (d->two)
		snprintf(subtitle, sizeof(subtitle), "second (trigger %s): %s; first (trigger %s): %s", h ? h->trigger.name : "unknown",
			 sum[NEW], g ? g->trigger.name : "unknown", sum[OLD]);
	else
		snprintf(subtitle, sizeof(subtitle), "after trigger %s: %s; before: %s", h ? h->trigger.name : "unknown", sum[NEW],
			 sum[OLD]);
	if (*only)
		snprintf(subtitle + strlen(subtitle), sizeof(subtitle) - strlen(subtitle), "; only %s", only);
	losses_line(d->side[NEW].b, losses + 8, sizeof(losses) - 8);
	snprintf(old, sizeof(old), d->two ? "first" : "before");
	if (d->scale != 1)
		snprintf(old + strlen(old), sizeof(old) - strlen(old), " (per %.1f s)", (double)d->side[NEW].span_ns / 1e9);
	d->flame.text = (struct flame_text){ title, subtitle, losses };
	d->flame.unit = fold_unit(&d->side[NEW].fold);
	d->flame.compare = true;
	d->flame.side[NEW] = d->two ? "second" : "after";
	d->flame.side[OLD] = old;
	return flame_write_tree(t, &d->flame, out);
}

static int compare(struct diff *d, FILE *out)
{
	struct tree t;
	int r = tree_init(&t);

	for (int s = 0; s < 2 && r == 0; s++)
		r = fold_side(d, s);
	d->scale = d->raw || d->folded || d->options.kind == FOLD_BLOCKED || !d->side[OLD].span_ns || !d->side[NEW].span_ns ? 1 :
		   (double)d->side[NEW].span_ns / (double)d->side[OLD].span_ns;
	for (int s = 0; s < 2 && r == 0; s++)
		r = tree_add(&t, &d->side[s].fold, s, s == OLD ? d->scale : 1, d->reverse);
	if (r == 0)
		r = tree_sort(&t);
	if (r == 0 && d->folded)
		put_folded(&t);
	else if (r == 0)
		r = put_svg(d, &t, out);
	for (int s = 0; s < 2 && r == 0; s++) {
		if (!d->side[s].fold.n)
			fprintf(stderr, "warning: no %s event %s\n", fold_kind_name(d->options.kind),
				s == OLD ? "on the side before" : "on the side after");
	}
	tree_done(&t);
	return r;
}

/* ---- the command ------------------------------------------------------------------------------------- */

static void diff_done(struct diff *d)
{
	for (int s = 0; s < 2; s++) {
		fold_done(&d->side[s].fold);
		filter_done(&d->side[s].filter);
	}
	if (d->side[OLD].b != d->side[NEW].b)
		bundle_close(d->side[OLD].b);
	bundle_close(d->side[NEW].b);
}

/* One bundle is both sides. -1 to go on, or the exit code. */
static int open_sides(struct diff *d, const struct filter *filter, int argc, char **argv, int first)
{
	int r;

	d->two = argc - first == 2;
	d->side[OLD].filter = d->side[NEW].filter = *filter;
	if (argc - first > 2)
		return opt_usage(&command, "more than two bundles: '%s'", argv[first + 2]);
	r = filter_open(&d->side[OLD].filter, &command, SB_MIN(argc, first + 1), argv, first, &d->side[OLD].b);
	if (r >= 0)
		return r;
	if (d->two)
		return filter_open(&d->side[NEW].filter, &command, argc, argv, first + 1, &d->side[NEW].b);
	d->side[NEW].b = d->side[OLD].b;
	return filter_start(&d->side[NEW].filter, d->side[NEW].b) < 0 ? SB_EXIT_FAILURE : -1;
}

static int parse_width(const char *s, enum flame_width *ret)
{
	static const char *const words[] = { "both", "after", "before" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(words); i++) {
		if (!strcmp(s, words[i])) {
			*ret = (enum flame_width)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int write_output(struct diff *d, const char *output)
{
	FILE *out = stdout;
	int r;

	if (output && strcmp(output, "-")) {
		out = fopen(output, "we");
		if (!out) {
			fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(errno));
			return SB_EXIT_FAILURE;
		}
	}
	r = compare(d, out);
	if (out != stdout && fclose(out) && r == 0)
		r = -errno;
	if (r < 0)
		fprintf(stderr, "error: cannot compare: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}

int cmd_diff(int argc, char **argv)
{
	SB_CLEANUP(diff_done) struct diff d = { .options.weight = FOLD_DEFAULT };
	struct filter filter = FILTER_INIT;
	const char *output = NULL, *by = NULL, *width = NULL, *weight = NULL;
	int first, r;
	const struct opt opts[] = {
		{ "output", "FILE", OPT_TEXT, &output, "write the picture here instead of standard output (-o)" },
		{ "folded", NULL, OPT_FLAG, &d.folded, "collapsed stacks with two columns, before and after" },
		{ "width", "WHAT", OPT_TEXT, &width, "of frames: both sides together (default), after or before" },
		{ "raw", NULL, OPT_FLAG, &d.raw, "do not bring the sides to the same length of time" },
		{ "inverted", NULL, OPT_FLAG, &d.flame.inverted, "the root on top" },
		{ "reverse", NULL, OPT_FLAG, &d.reverse, "merge from the leaf" },
		{ "weight", "WHAT", OPT_TEXT, &weight, "duration (default where there is one), ns or count" },
		{ "by", "WHAT", OPT_TEXT, &by, "outermost frame: " GROUP_LIST " (default comm)" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (width && parse_width(width, &d.flame.width) < 0)
		return opt_usage(&command, "--width '%s': expected both, after or before", width);
	if (weight && fold_parse_weight(weight, &d.options.weight) < 0)
		return opt_usage(&command, "unknown weight '%s', expected duration, us, ns or count", weight);
	if (by && group_parse(by, &d.options.by) < 0)
		return opt_usage(&command, "--by '%s': expected " GROUP_LIST, by);
	r = fold_filter_kind(&filter, &command, &d.options.kind);
	if (r >= 0)
		return r;
	if (d.options.kind == FOLD_BLOCKED && argc - first == 1)
		return opt_usage(&command, "blocked threads are of one moment: name two bundles%s", "");
	if (!d.folded && d.options.kind != FOLD_ON_CPU && d.options.weight == FOLD_DEFAULT)
		d.options.weight = FOLD_NS;
	r = open_sides(&d, &filter, argc, argv, first);
	return r >= 0 ? r : write_output(&d, output);
}
