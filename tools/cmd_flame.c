// SPDX-License-Identifier: BSD-2-Clause
/* stallbox flame: an interactive flame graph as one SVG file. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/flame.h"

static const struct opt_command command = {
	"flame", "BUNDLE", "Write a flame graph: one SVG file to search and zoom in any browser.",
	{ "stallbox flame -o x.svg X.stall.pb.zst",
	  "stallbox flame --kind off-cpu --since -10s --until 0 X.stall.pb.zst > x.svg" },
};

static const char *const kind_titles[FOLD_KINDS] = {
	"on-CPU samples", "off-CPU time", "reclaim time", "blocked and waiting threads at the freeze",
	"time waiting for locks", "waits in D state by who ended them", "time holding mmap_lock",
	"long system calls", "softirq time", "slow block requests", "slow shrinkers"
};

static int write_svg(struct bundle *b, struct fold *f, FILE *out)
{
	const struct bundle_header *h = bundle_header(b);
	char title[300], subtitle[300], losses[600] = "losses: ";
	struct flame_text text = { title, subtitle, losses };

	snprintf(title, sizeof(title), "%s: %s", h ? h->hostname : "unknown host",
		 kind_titles[f->kind]);
	snprintf(subtitle, sizeof(subtitle), "trigger %s%s%s; %llu events, %.3f %s in all",
		 h ? h->trigger.name : "unknown", h && h->trigger.detail[0] ? ": " : "",
		 h ? h->trigger.detail : "", (unsigned long long)f->events,
		 !strcmp(fold_unit(f), "microseconds") ? (double)f->total / 1e6 : (double)f->total,
		 !strcmp(fold_unit(f), "microseconds") ? "s" : fold_unit(f));
	losses_line(b, losses + 8, sizeof(losses) - 8);
	return flame_write(f, &text, out);
}

int cmd_flame(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	const char *output = NULL;
	enum fold_kind kind;
	struct fold f;
	FILE *out = stdout;
	int first, r;
	const struct opt opts[] = {
		{ "output", "FILE", OPT_TEXT, &output, "write here instead of standard output (-o)" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = fold_filter_kind(&filter, &command, &kind);
	if (r >= 0)
		return r;
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
	r = fold_bundle(&f, b, &filter, kind, false);
	if (r == 0) {
		fold_sort(&f);
		r = write_svg(b, &f, out);
	}
	if (r == 0 && fflush(out))
		r = -errno;
	if (out != stdout)
		fclose(out);
	if (r < 0)
		fprintf(stderr, "error: cannot write the flame graph: %s\n", strerror(-r));
	else if (!f.n)
		fprintf(stderr, "warning: no %s event matches; the picture is empty\n", fold_kind_name(kind));
	fold_done(&f);
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
