// SPDX-License-Identifier: BSD-2-Clause
/* stallbox verify and stallbox recover: is a bundle whole, and what can be had of one that is not. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/files.h"

static const struct opt_command verify_command = {
	"verify", "BUNDLE...", "Check every frame, chunk and reference. Exit status 1: damaged.",
	{ "stallbox verify X.stall.pb.zst", "stallbox verify /var/lib/stallbox/captures/*.zst" },
};
static const struct opt_command recover_command = {
	"recover", "BUNDLE", "Copy every whole frame of a damaged bundle.",
	{ "stallbox recover broken.stall.pb.zst -o whole.stall.pb.zst",
	  "stallbox recover - < broken.stall.pb.zst > whole.stall.pb.zst" },
};

static void print_error(const char *path, int r, const struct bundle_error *err)
{
	fprintf(stderr, "error: '%s'", path);
	if (r == -EBADMSG)
		fprintf(stderr, " at offset %llu", (unsigned long long)err->offset);
	fprintf(stderr, ": %s\n", err->what[0] ? err->what : strerror(-r));
	if (err->hint[0])
		fprintf(stderr, "hint: %s\n", err->hint);
}

static int verify_one(const char *path, bool json)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	struct bundle_error err = {};
	const struct bundle_damage *d;
	const struct bundle_footer *f;
	char found[OPERAND_PATH_MAX];
	uint64_t events = 0;
	bool whole;
	int r = bundle_open(operand_path(path, found), &b, &err);

	if (r < 0) {
		print_error(path, r, &err);
		return r == -ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
	}
	d = bundle_damage(b);
	f = bundle_footer(b);
	for (int k = BUNDLE_ON_CPU; k < BUNDLE_KIND_COUNT; k++)
		events += bundle_n_events(b, (enum bundle_kind)k);
	whole = !d->bad_frames && !d->skipped_bytes && !d->missing_chunks && !d->bad_references && f &&
		f->events == events && bundle_header(b);
	if (json) {
		printf("{\"file\":\"");
		escape_put(stdout, ESCAPE_JSON, path);
		printf("\",\"whole\":%s,\"frames\":%llu,\"bad_frames\":%llu,"
		       "\"skipped_bytes\":%llu,\"missing_chunks\":%llu,\"bad_references\":%llu,"
		       "\"footer\":%s,\"events\":%llu}\n", whole ? "true" : "false",
		       (unsigned long long)d->frames, (unsigned long long)d->bad_frames,
		       (unsigned long long)d->skipped_bytes, (unsigned long long)d->missing_chunks,
		       (unsigned long long)d->bad_references, f ? "true" : "false",
		       (unsigned long long)events);
	} else
		printf("%s: %s, %llu frames, %llu events\n", path, whole ? "whole" : "DAMAGED",
		       (unsigned long long)d->frames, (unsigned long long)events);
	if (whole || json)
		return whole ? SB_EXIT_OK : SB_EXIT_FAILURE;
	if (!bundle_header(b))
		printf("  the header is missing\n");
	if (d->bad_frames || d->skipped_bytes)
		printf("  %llu bad frames, %llu bytes skipped; first at offset %llu: %s\n",
		       (unsigned long long)d->bad_frames, (unsigned long long)d->skipped_bytes,
		       (unsigned long long)d->first_offset, d->first_what);
	if (d->missing_chunks)
		printf("  %llu chunks missing\n", (unsigned long long)d->missing_chunks);
	if (d->bad_references)
		printf("  %llu references that point nowhere\n", (unsigned long long)d->bad_references);
	if (!f)
		printf("  no footer: the file was cut, or is still being written\n");
	else if (f->events != events)
		printf("  the footer counts %llu events\n", (unsigned long long)f->events);
	return SB_EXIT_FAILURE;
}

int cmd_verify(int argc, char **argv)
{
	bool json = false;
	int first, r, worst = SB_EXIT_OK;
	const struct opt opts[] = {
		{ "json", NULL, OPT_FLAG, &json, "one JSON object per bundle" },
		{}
	};

	r = opt_parse(&verify_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first == argc)
		return opt_usage(&verify_command, "no bundle named");
	for (int i = first; i < argc; i++) {
		r = verify_one(argv[i], json);
		worst = SB_MAX(worst, r);
	}
	return worst;
}

int cmd_recover(int argc, char **argv)
{
	const char *output = NULL;
	char found[OPERAND_PATH_MAX];
	const char *path;
	struct bundle_damage d = {};
	struct bundle_error err = {};
	FILE *out = stdout;
	int first, r;
	const struct opt opts[] = {
		{ "output", "FILE", OPT_TEXT, &output, "write here instead of standard output (-o)" },
		{}
	};

	r = opt_parse(&recover_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first + 1 != argc)
		return opt_usage(&recover_command, "expected one bundle");
	if (!output && isatty(STDOUT_FILENO))
		return opt_usage(&recover_command, "a bundle is binary and standard output is a terminal; "
				 "name a file with -o");
	path = operand_path(argv[first], found);
	if (output && files_same(output, path))
		return opt_usage(&recover_command, "'%s' is the bundle itself, expected another file", output);
	if (output && strcmp(output, "-")) {
		out = fopen(output, "we");
		if (!out) {
			fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(errno));
			return SB_EXIT_FAILURE;
		}
	}
	r = bundle_recover(path, out, &d, &err);
	if (out != stdout && fclose(out) && r == 0)
		r = -errno;
	if (r < 0) {
		print_error(argv[first], r, &err);
		if (output && out != stdout)
			files_drop(output);
		return r == -ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
	}
	fprintf(stderr, "%llu whole frames recovered, %llu bad frames and %llu bytes left out\n",
		(unsigned long long)d.frames, (unsigned long long)d.bad_frames,
		(unsigned long long)d.skipped_bytes);
	return SB_EXIT_OK;
}
