// SPDX-License-Identifier: BSD-2-Clause
/* stallbox symbolize: names for what has none, from symbols by build-id; on any machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/add_names.h"
#include "tools/commands.h"
#include "tools/files.h"

static const struct opt_command command = {
	"symbolize", "BUNDLE", "Add names to a bundle, found by build-id: in its place, or to a copy.",
	{ "stallbox symbolize --debug-dir /srv/debug X.stall.pb.zst",
	  "stallbox symbolize --debuginfod -o named.stall.pb.zst X.stall.pb.zst" },
};

/* ---- writing --------------------------------------------------------------------------- */

/* from: what comes before the names; -1: what is there. As it was, or empty, when it fails. Where it goes may be no
 * regular file, which has no end to go back to and no disk. */
static int put_names(int fd, int from, const void *names, size_t len)
{
	off_t end = from < 0 ? lseek(fd, 0, SEEK_END) : 0;
	uint64_t copied;
	struct stat st;
	bool regular;
	int r;

	if (end < 0 || fstat(fd, &st) < 0)
		return -errno;
	regular = S_ISREG(st.st_mode);
	r = from < 0 ? 0 : files_copy(from, fd, &copied);
	if (r == 0)
		r = files_write(fd, names, len);
	if (r == 0 && regular && fsync(fd) < 0)
		r = -errno;
	if (r < 0 && regular)
		(void)!ftruncate(fd, end);
	return r;
}

static int append_to(const char *path, const void *names, size_t len)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : put_names(fd, -1, names, len);
}

static int write_copy(const char *path, const char *output, const void *names, size_t len)
{
	_cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int fd = from < 0 ? -1 : open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int r = fd < 0 ? -errno : put_names(fd, from, names, len);

	if (fd >= 0 && r < 0)
		files_drop(output);
	return r;
}

/* Looked for first, which may take long, and written then, in one go: who is tired of waiting keeps a whole bundle. */
static int complete(struct bundle *b, const char *path, const char *output, const struct names_from *from,
		    struct names_added *ret)
{
	bool in_place = !output || files_same(output, path);
	char *names = NULL;
	size_t len = 0;
	FILE *memory = open_memstream(&names, &len);
	int r = memory ? add_names(b, from, memory, ret) : -ENOMEM;

	if (memory && fclose(memory) && r == 0)
		r = -ENOMEM;
	if (r == 0)
		r = in_place ? append_to(path, names, len) : write_copy(path, output, names, len);
	free(names);
	if (r < 0 && r != -ECANCELED)
		fprintf(stderr, "error: cannot write names to '%s': %s\n", in_place ? path : output, strerror(-r));
	return r;
}

/* ---- the command ----------------------------------------------------------------------- */

static bool is_whole(const struct bundle *b, const char *path)
{
	const struct bundle_damage *d = bundle_damage(b);

	if (!d->bad_frames && !d->skipped_bytes && !d->truncated)
		return true;
	fprintf(stderr, "error: '%s' at offset %llu: %s\nhint: 'stallbox recover' makes a bundle of what is whole\n",
		path, (unsigned long long)d->first_offset, d->first_what[0] ? d->first_what : "ends in the middle of a frame");
	return false;
}

/* Where symbols are looked for: what was said by mistake finds nothing, and silently so. */
static int check_sources(struct debug_sources *s, const char *kallsyms)
{
	const char *urls = getenv("DEBUGINFOD_URLS");
	struct stat st;

	if (s->dir && (stat(s->dir, &st) < 0 || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR)))) {
		fprintf(stderr, "error: cannot look for symbols in --debug-dir '%s': %s\n", s->dir, strerror(errno));
		return SB_EXIT_NOT_FOUND;
	}
	if (kallsyms && access(kallsyms, R_OK) < 0) {
		fprintf(stderr, "error: cannot read --kallsyms '%s': %s\n", kallsyms, strerror(errno));
		return errno == ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
	}
	if (!s->dir)
		s->dir = "/usr/lib/debug";
	if (s->debuginfod && (!urls || !urls[strspn(urls, " ")])) {
		fprintf(stderr, "error: --debuginfod: DEBUGINFOD_URLS names no server\n"
			"hint: export DEBUGINFOD_URLS=https://debuginfod.debian.net\n");
		return SB_EXIT_USAGE;
	}
	return SB_EXIT_OK;
}

static int say(const struct names_added *a, const struct debug_sources *s)
{
	fprintf(stderr, "%zu of %zu functions without a name have one now, from %zu files\n", a->named, a->wanted, a->files);
	if (a->lines)
		fprintf(stderr, "%zu addresses have their source line now, and %zu inlined functions\n", a->lines, a->inlined);
	if (s->servers_failed)
		return SB_EXIT_FAILURE;
	return a->wanted && !a->written ? SB_EXIT_NOT_FOUND : SB_EXIT_OK;
}

int cmd_symbolize(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(debug_sources_done) struct debug_sources sources = {};
	struct names_from from = { .sources = &sources };
	struct names_added added;
	char found[OPERAND_PATH_MAX];
	const char *output = NULL, *path;
	int first, r;
	const struct opt opts[] = {
		{ "debug-dir", "DIR", OPT_TEXT, &sources.dir,
		  "symbols below DIR, in .build-id/ or as on that host [/usr/lib/debug]" },
		{ "debuginfod", NULL, OPT_FLAG, &sources.debuginfod, "ask the servers of DEBUGINFOD_URLS too" },
		{ "names-only", NULL, OPT_FLAG, &from.names_only, "no inlined functions and source lines" },
		{ "kallsyms", "FILE", OPT_TEXT, &from.kallsyms, "that host's /proc/kallsyms, of the same boot" },
		{ "output", "FILE", OPT_TEXT, &output, "write a copy instead of adding to BUNDLE (-o)" },
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first + 1 != argc)
		return opt_usage(&command, "expected one bundle");
	if (!strcmp(argv[first], "-"))
		return opt_usage(&command, "names are added to a file, not to standard input");
	r = check_sources(&sources, from.kallsyms);
	if (r != SB_EXIT_OK)
		return r;
	path = operand_path(argv[first], found);
	r = open_bundle(path, &b);
	if (r >= 0)
		return r;
	if (!is_whole(b, path))
		return SB_EXIT_FAILURE;
	r = complete(b, path, output, &from, &added);
	return r < 0 ? SB_EXIT_FAILURE : say(&added, &sources);
}
