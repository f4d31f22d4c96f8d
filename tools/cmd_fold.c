// SPDX-License-Identifier: BSD-2-Clause
/* stallbox fold: collapsed stacks, one line per distinct stack. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/fold.h"

static const struct opt_command command = {
	"fold", "BUNDLE", "Print collapsed stacks: NAME;FRAME;...;LEAF WEIGHT.",
	{ "stallbox fold --kind off-cpu X.stall.pb.zst | flamegraph.pl > x.svg",
	  "stallbox fold --since -10s --until 0 --comm postgres X.stall.pb.zst" },
};

int cmd_fold(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	const char *weight = NULL, *by = NULL;
	struct fold_options o = {};
	struct fold f;
	int first, r;
	const struct opt opts[] = {
		{ "weight", "WHAT", OPT_TEXT, &weight, "duration (us, the default where there is one), ns, or count" },
		{ "by", "WHAT", OPT_TEXT, &by, "outermost frame: " GROUP_LIST " (default comm)" },
		{ "lines", NULL, OPT_FLAG, &o.lines, "source lines in the names of frames, where symbolize found them" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (weight && fold_parse_weight(weight, &o.weight) < 0)
		return opt_usage(&command, "unknown weight '%s', expected duration, us, ns or count", weight);
	if (by && group_parse(by, &o.by) < 0)
		return opt_usage(&command, "--by '%s': expected " GROUP_LIST, by);
	r = fold_filter_kind(&filter, &command, &o.kind);
	if (r >= 0)
		return r;
	r = filter_open(&filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	r = fold_bundle_as(&f, b, &filter, &o);
	if (r == 0)
		r = fold_merge(&f);
	if (r == 0) {
		fold_sort(&f);
		r = fold_print(&f, stdout);
	}
	if (r == 0 && !f.n)
		fprintf(stderr, "warning: no %s event matches\n", fold_kind_name(f.kind));
	fold_done(&f);
	if (r < 0)
		fprintf(stderr, "error: cannot fold: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
