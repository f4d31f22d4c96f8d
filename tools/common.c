// SPDX-License-Identifier: BSD-2-Clause
/* What several subcommands need: opening, damage, losses, offsets. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/places.h"

const char *operand_path(const char *operand, char ret[OPERAND_PATH_MAX])
{
	struct places p;
	int i;

	if (!bundle_is_file_name(operand) || access(operand, F_OK) == 0 || errno != ENOENT)
		return operand;
	places_of(&p, NULL, NULL);
	i = places_find(&p, operand);
	if (i < 0)
		return operand;
	snprintf(ret, OPERAND_PATH_MAX, "%s/%s", p.dir[i], operand);
	return ret;
}

int open_bundle(const char *path, struct bundle **ret)
{
	struct bundle_error err = {};
	int r = bundle_open(path, ret, &err);

	if (r == 0)
		return -1;
	fprintf(stderr, "error: cannot read '%s'", path);
	if (r == -EBADMSG)
		fprintf(stderr, " at offset %llu", (unsigned long long)err.offset);
	fprintf(stderr, ": %s\n", err.what[0] ? err.what : strerror(-r));
	if (err.hint[0])
		fprintf(stderr, "hint: %s\n", err.hint);
	return r == -ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
}

int open_operand(const struct opt_command *cmd, int argc, char **argv, int first,
		 struct bundle **ret)
{
	char found[OPERAND_PATH_MAX];

	if (first + 1 != argc)
		return opt_usage(cmd, first < argc ? "more than one bundle: '%s'" : "no bundle named%s",
				 first < argc ? argv[first + 1] : "");
	return open_bundle(operand_path(argv[first], found), ret);
}

void warn_damage(const struct bundle *b)
{
	const struct bundle_damage *d = bundle_damage(b);

	if (d->bad_frames || d->skipped_bytes || d->missing_chunks || d->bad_references)
		fprintf(stderr, "warning: damaged bundle: %llu bad frames, %llu bytes skipped, %llu chunks "
			"missing, %llu bad references; first at offset %llu: %s\n",
			(unsigned long long)d->bad_frames, (unsigned long long)d->skipped_bytes,
			(unsigned long long)d->missing_chunks, (unsigned long long)d->bad_references,
			(unsigned long long)d->first_offset, d->first_what);
	else if (!d->complete)
		fprintf(stderr, "warning: the bundle has no footer: it is still being written, or its "
			"writer was stopped; names may be missing\n");
}

/* Losses of one cause and unit are one in a line; `info` tells them apart. */
static bool seen_before(const struct bundle_loss *l, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (l[k].cause == l[i].cause && !strcmp(l[k].unit, l[i].unit))
			return true;
	}
	return false;
}

void losses_line(const struct bundle *b, char *ret, size_t len)
{
	const struct bundle_loss *l;
	size_t n = bundle_losses(b, &l), at = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < n && at < len; i++) {
		uint64_t count = 0;
		int k;

		if (seen_before(l, i))
			continue;
		for (size_t j = i; j < n; j++) {
			if (l[j].cause == l[i].cause && !strcmp(l[j].unit, l[i].unit))
				count += SB_MIN(l[j].count, UINT64_MAX - count);
		}
		k = snprintf(ret + at, len - at, "%s%llu %s %s", at ? ", " : "", (unsigned long long)count, l[i].unit,
			     bundle_loss_name(l[i].cause));
		at += k > 0 ? (size_t)k : 0;
	}
	if (!n)
		snprintf(ret, len, "no losses");
}

const char *offset_text(int64_t ns, char ret[32])
{
	snprintf(ret, 32, "%+.6fs", (double)ns / 1e9);
	return ret;
}
