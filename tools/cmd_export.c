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

#define ALL ((1u << FOLD_KINDS) - 1)
#define SPANS (1u << FOLD_OFF_CPU | 1u << FOLD_RECLAIM | 1u << FOLD_LOCK_WAIT | 1u << FOLD_LOCK_HOLD)
#define FORMAT_LIST "folded, pprof, speedscope, firefox, perfetto, perf-script or ndjson"

static const struct export_format formats[] = {
	{ "folded", export_folded, 1u << FOLD_ON_CPU, true, ESCAPE_FOLDED },
	{ "pprof", export_pprof, ALL, false, ESCAPE_TERMINAL },
	{ "speedscope", export_speedscope, ALL, false, ESCAPE_JSON },
	{ "firefox", export_firefox, 1u << FOLD_ON_CPU | SPANS, false, ESCAPE_JSON },
	{ "perfetto", export_perfetto, 1u << FOLD_ON_CPU | SPANS, false, ESCAPE_TERMINAL },
	{ "perf-script", export_perf_script, 1u << FOLD_ON_CPU, true, ESCAPE_TERMINAL },
	{ "ndjson", export_ndjson, ALL, false, ESCAPE_JSON },
};

static const struct export_format *find_format(const char *name)
{
	for (size_t i = 0; name && i < SB_ARRAY_SIZE(formats); i++) {
		if (!strcmp(name, formats[i].name))
			return &formats[i];
	}
	return NULL;
}

/* "off-cpu,reclaim" to bits; *ret_bad: the word that is no kind. */
static unsigned int parse_kinds(char *words, const char **ret_bad)
{
	unsigned int kinds = 0;
	enum fold_kind kind;

	*ret_bad = NULL;
	for (char *word = strtok(words, ","); word; word = strtok(NULL, ",")) {
		if (fold_parse_kind(word, &kind) < 0) {
			*ret_bad = word;
			return 0;
		}
		kinds |= 1u << kind;
	}
	return kinds;
}

static int export_to(const struct export_format *format, unsigned int kinds, struct bundle *b,
		     struct filter *filter)
{
	struct export x;
	int r;

	export_init(&x, b, filter, stdout);
	x.form = format->form;
	x.kinds = kinds ? kinds : format->kinds;
	x.every = !kinds;
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
	struct filter filter = FILTER_INIT;
	const char *format_text = NULL, *kind_text = NULL, *output = NULL, *bad = NULL;
	const struct export_format *format;
	unsigned int kinds = 0;
	char words[256];
	int first, r;
	const struct opt opts[] = {
		{ "format", "FORMAT", OPT_TEXT, &format_text, FORMAT_LIST },
		{ "kind", "KIND", OPT_TEXT, &kind_text, "only these kinds, such as off-cpu or on-cpu,reclaim" },
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
	if (kind_text) {
		snprintf(words, sizeof(words), "%s", kind_text);
		kinds = parse_kinds(words, &bad);
		if (!kinds)
			return opt_usage(&command, "unknown kind '%s', expected " FOLD_KIND_LIST, bad ? bad : "");
		if (format->one_kind && (kinds & (kinds - 1)))
			return opt_usage(&command, "the %s format holds one kind, not '%s'", format->name,
					 kind_text);
	}
	r = open_operand(&command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	warn_damage(b);
	filter_start(&filter, b);
	if (output && strcmp(output, "-") && !freopen(output, "we", stdout)) {
		fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(errno));
		return SB_EXIT_FAILURE;
	}
	return export_to(format, kinds, b, &filter);
}
