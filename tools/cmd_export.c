// SPDX-License-Identifier: BSD-2-Clause
/* stallbox export: the bundle in the formats that other programs open. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/export.h"

static const struct opt_command command = {
	"export", "BUNDLE", "Write the bundle in a format that another program opens.",
	{ "stallbox export --format pprof -o x.pb.gz X.stall.pb.zst && go tool pprof -http : x.pb.gz",
	  "stallbox export --format perf-script --kind off-cpu X.stall.pb.zst | stackcollapse-perf.pl" },
};

#define BIT(kind) (1u << (kind))
#define ALL ((1u << BUNDLE_KIND_COUNT) - 1)
#define EVENTS (ALL & ~FILTER_BLOCKED)
#define FOLDED (ALL & ~BIT(BUNDLE_OOM))
#define FORMAT_LIST "folded, pprof, speedscope, firefox, perfetto, perf-script or ndjson"

static const struct export_format formats[] = {
	{ "folded", export_folded, BIT(BUNDLE_ON_CPU), true, true, ESCAPE_FOLDED },
	{ "pprof", export_pprof, FOLDED, false, true, ESCAPE_TERMINAL },
	{ "speedscope", export_speedscope, FOLDED, false, true, ESCAPE_JSON },
	{ "firefox", export_firefox, EVENTS, false, false, ESCAPE_JSON },
	{ "perfetto", export_perfetto, EVENTS, false, false, ESCAPE_TERMINAL },
	{ "perf-script", export_perf_script, BIT(BUNDLE_ON_CPU), true, true, ESCAPE_TERMINAL },
	{ "ndjson", export_ndjson, ALL, false, false, ESCAPE_JSON },
};

static const struct export_format *find_format(const char *name)
{
	for (size_t i = 0; name && i < SB_ARRAY_SIZE(formats); i++) {
		if (!strcmp(name, formats[i].name))
			return &formats[i];
	}
	return NULL;
}

static int export_to(const struct export_format *format, struct bundle *b, struct filter *filter)
{
	struct export x;
	int r;

	export_init(&x, b, filter, stdout);
	x.form = format->form;
	r = format->write(&x);
	if (r == 0 && x.failed)
		r = -ENOMEM;
	export_done(&x);
	if (r < 0)
		fprintf(stderr, "error: cannot write the %s export: %s\n", format->name, strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}

int cmd_export(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	const char *format_text = NULL, *output = NULL;
	const struct export_format *format;
	int first, r;
	const struct opt opts[] = {
		{ "format", "FORMAT", OPT_TEXT, &format_text, FORMAT_LIST },
		{ "output", "FILE", OPT_TEXT, &output, "write here instead of standard output (-o)" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	format = find_format(format_text);
	if (!format)
		return opt_usage(&command, format_text ? "unknown format '%s', expected " FORMAT_LIST :
				 "no --format given%s, expected " FORMAT_LIST, format_text ? format_text : "");
	r = filter_parse(&filter, &command);
	if (r >= 0)
		return r;
	if (!filter.kinds)
		filter.kinds = format->kinds;
	else if (format->one_kind && (filter.kinds & (filter.kinds - 1)))
		return opt_usage(&command, "the %s format holds one kind, not '%s'", format->name, filter.kind_text);
	if (format->weights && !(filter.kinds & FOLDED))
		return opt_usage(&command, "the %s format holds weights, and '%s' has none", format->name, filter.kind_text);
	if (format->weights)
		filter.kinds &= FOLDED;
	r = open_operand(&command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	warn_damage(b);
	r = filter_start(&filter, b);
	if (r < 0) {
		fprintf(stderr, "error: cannot read the bundle: %s\n", strerror(-r));
		return SB_EXIT_FAILURE;
	}
	if (output && strcmp(output, "-") && !freopen(output, "we", stdout)) {
		fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(errno));
		return SB_EXIT_FAILURE;
	}
	return export_to(format, b, &filter);
}
