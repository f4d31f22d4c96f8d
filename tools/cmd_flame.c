// SPDX-License-Identifier: BSD-2-Clause
/* stallbox flame: an interactive flame graph as one SVG file. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/flame.h"

static const struct opt_command command = {
	"flame", "BUNDLE", "Write a flame graph: one SVG file to search and zoom in any browser.",
	{ "stallbox flame -o x.svg X.stall.pb.zst",
	  "stallbox flame --kind off-cpu --state DR --since -10s --until 0 X.stall.pb.zst > x.svg" },
};

static const char *const kind_titles[FOLD_KINDS] = {
	"on-CPU samples", "off-CPU time", "reclaim time", "blocked and waiting threads at the freeze",
	"time waiting for locks", "waits in D state by who ended them", "time holding mmap_lock",
	"long system calls", "softirq time", "slow block requests", "slow shrinkers", "hard interrupts"
};

struct request {
	struct fold_options fold;
	bool inverted, reverse;
};

/* "5,542 samples, 56.0 s" would need a locale: plain numbers. */
static void in_all(const struct fold *f, char *ret, size_t len)
{
	uint64_t ns = 0;

	for (size_t i = 0; i < f->n; i++)
		ns += f->row[i].ns;
	if (fold_unit_ns(f))
		snprintf(ret, len, "%llu events, %.3f s in all", (unsigned long long)f->events,
			 (double)f->total * (double)fold_unit_ns(f) / 1e9);
	else if (f->kind == FOLD_ON_CPU)
		snprintf(ret, len, "%llu samples, %.3f s of CPU time", (unsigned long long)f->total, (double)ns / 1e9);
	else
		snprintf(ret, len, "%llu %s", (unsigned long long)f->total, fold_unit(f));
}

static int write_svg(struct bundle *b, struct fold *f, const struct request *q, FILE *out)
{
	const struct bundle_header *h = bundle_header(b);
	char title[700], subtitle[600], losses[600] = "losses: ", only[400], sum[100];
	struct flame_options o = { .text = { title, subtitle, losses }, .unit = fold_unit(f), .inverted = q->inverted };
	struct tree t;
	int r = tree_init(&t);

	filter_describe(f->filter, only, sizeof(only));
	snprintf(title, sizeof(title), "%s: %s%s%s", h ? h->hostname : "unknown host", kind_titles[f->kind],
		 q->reverse ? ", callers of each function" : "", q->fold.weight == FOLD_COUNT && f->kind != FOLD_ON_CPU ? ", by number" : "");
	in_all(f, sum, sizeof(sum));
	snprintf(subtitle, sizeof(subtitle), "trigger %s%s%s; %s%s%s", h ? h->trigger.name : "unknown",
		 h && h->trigger.detail[0] ? ": " : "", h ? h->trigger.detail : "", sum, *only ? "; only " : "", only);
	losses_line(b, losses + 8, sizeof(losses) - 8);
	if (r == 0)
		r = tree_add(&t, f, 0, 1, q->reverse);
	if (r == 0)
		r = tree_sort(&t);
	if (r == 0)
		r = flame_write_tree(&t, &o, out);
	tree_done(&t);
	return r;
}

static int make(struct bundle *b, struct filter *filter, const struct request *q, FILE *out)
{
	struct fold f;
	int r = fold_bundle_as(&f, b, filter, &q->fold);

	if (r == 0) {
		fold_sort(&f);
		r = write_svg(b, &f, q, out);
	}
	if (r == 0 && fflush(out))
		r = -errno;
	if (r == 0 && !f.n)
		fprintf(stderr, "warning: no %s event matches; the picture is empty\n", fold_kind_name(f.kind));
	fold_done(&f);
	return r;
}

int cmd_flame(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	const char *output = NULL, *weight = NULL, *by = NULL;
	struct request q = { .fold.weight = FOLD_NS };
	FILE *out = stdout;
	int first, r;
	const struct opt opts[] = {
		{ "output", "FILE", OPT_TEXT, &output, "write here instead of standard output (-o)" },
		{ "lines", NULL, OPT_FLAG, &q.fold.lines, "source lines in the names of frames, where symbolize found them" },
		{ "inverted", NULL, OPT_FLAG, &q.inverted, "the root on top, stacks grow downwards" },
		{ "reverse", NULL, OPT_FLAG, &q.reverse, "merge from the leaf: who calls a function" },
		{ "weight", "WHAT", OPT_TEXT, &weight, "duration (default where there is one) or count" },
		{ "by", "WHAT", OPT_TEXT, &by, "outermost frame: " GROUP_LIST " (default comm)" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (weight && fold_parse_weight(weight, &q.fold.weight) < 0)
		return opt_usage(&command, "unknown weight '%s', expected duration, us, ns or count", weight);
	if (by && group_parse(by, &q.fold.by) < 0)
		return opt_usage(&command, "--by '%s': expected " GROUP_LIST, by);
	r = fold_filter_kind(&filter, &command, &q.fold.kind);
	if (r >= 0)
		return r;
	/* Samples are counted unless somebody asks for the time that they stand for. */
	if (q.fold.kind == FOLD_ON_CPU && !weight)
		q.fold.weight = FOLD_COUNT;
	else if (q.fold.weight == FOLD_DEFAULT)
		q.fold.weight = FOLD_NS;
	r = filter_open(&filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	if (output && strcmp(output, "-")) {
		out = fopen(output, "we");
		if (!out) {
			fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(errno));
			return SB_EXIT_FAILURE;
		}
	}
	r = make(b, &filter, &q, out);
	if (out != stdout && fclose(out) && r == 0)
		r = -errno;
	if (r < 0)
		fprintf(stderr, "error: cannot write the flame graph: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
