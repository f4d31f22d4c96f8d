// SPDX-License-Identifier: BSD-2-Clause
/* stallbox get and stallbox delete: bundles by their names, where stallboxd keeps them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/client.h"
#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/files.h"
#include "tools/places.h"

static const struct opt_command get_command = {
	"get", "NAME", "Copy a bundle, by the name that list gives.",
	{ "stallbox get X.stall.pb.zst", "stallbox get -o - X.stall.pb.zst | ssh desk 'cat > x.zst'" },
};
static const struct opt_command delete_command = {
	"delete", "NAME...", "Delete bundles, by the names that list gives.",
	{ "stallbox delete X.stall.pb.zst", "stallbox delete --json X.stall.pb.zst Y.stall.pb.zst" },
};

struct where {
	const char *dir, *socket;
	bool json;
};

static int cannot(const char *what, const char *name, int r)
{
	fprintf(stderr, "error: cannot %s '", what);
	escape_put(stderr, ESCAPE_TERMINAL, name);
	fprintf(stderr, "': %s\n", r == -ENOENT ? "there is no such bundle" :
		r == -ENOTSUP || r == -ELOOP ? "it is no regular file, so no bundle" :
		r == -EINVAL ? "that is no name of a bundle, expected one that 'stallbox list' gives, without a path" :
		strerror(-r));
	if (r == -EACCES)
		fprintf(stderr, "hint: bundles are for root and the group stallbox; to delete them needs root\n");
	return r == -ENOENT ? SB_EXIT_NOT_FOUND : r == -EINVAL ? SB_EXIT_USAGE : SB_EXIT_FAILURE;
}

/* To a file of its own, which is whole or not there. */
static int copy_to_file(int from, const char *output, uint64_t *ret_bytes)
{
	_cleanup_close_ int to = open(output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (to < 0)
		return -errno;
	r = files_copy(from, to, ret_bytes);
	if (r == 0 && fsync(to) < 0 && errno != EINVAL)
		r = -errno;
	if (r < 0)
		unlink(output);
	return r;
}

static void print_field(const char *before, const char *text)
{
	printf("%s\"", before);
	escape_put(stdout, ESCAPE_JSON, text);
	putchar('"');
}

static int get(const struct where *w, const char *name, const char *output)
{
	_cleanup_close_ int dfd = -1;
	_cleanup_close_ int fd = -1;
	struct places places;
	uint64_t bytes = 0;
	int r;

	places_of(&places, w->dir, w->socket);
	r = places_open(&places, name, &dfd, &fd);
	if (r < 0)
		return cannot("read", name, r);
	if (!strcmp(output, "-")) {
		if (isatty(STDOUT_FILENO)) {
			fprintf(stderr, "error: a bundle is no text for a terminal\nhint: redirect it, or use -o FILE\n");
			return SB_EXIT_USAGE;
		}
		r = files_copy(fd, STDOUT_FILENO, &bytes);
		return r < 0 ? cannot("copy", name, r) : SB_EXIT_OK;
	}
	r = copy_to_file(fd, output, &bytes);
	if (r < 0) {
		fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(-r));
		if (r == -EEXIST)
			fprintf(stderr, "hint: remove it, or choose another with -o\n");
		return SB_EXIT_FAILURE;
	}
	if (w->json) {
		print_field("{\"file\":", name);
		print_field(",\"output\":", output);
		printf(",\"bytes\":%llu}\n", (unsigned long long)bytes);
	} else {
		printf("%s\n", output);
	}
	return SB_EXIT_OK;
}

int cmd_get(int argc, char **argv)
{
	struct where w = {};
	const char *output = NULL;
	int first, r;
	const struct opt opts[] = {
		{ "output", "FILE", OPT_TEXT, &output, "default: its name, in this directory; - standard output (-o)" },
		{ "dir", "DIR", OPT_TEXT, &w.dir, "where it is (default: where the agent keeps bundles)" },
		{ "json", NULL, OPT_FLAG, &w.json, "one JSON object" },
		CLIENT_SOCKET_OPT(&w.socket),
		{}
	};

	r = opt_parse(&get_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first + 1 != argc)
		return opt_usage(&get_command, first < argc ? "more than one bundle: '%s'" : "no bundle named%s",
				 first < argc ? argv[first + 1] : "");
	if (!bundle_is_file_name(argv[first]))
		return cannot("read", argv[first], -EINVAL);
	return get(&w, argv[first], output ? output : argv[first]);
}

/* The agent says no while it is being written, and knows that it is gone. */
static int delete_one(const struct places *p, const struct where *w, const char *name)
{
	_cleanup_free_ char *answer = NULL;
	_cleanup_close_ int dfd = -1;
	_cleanup_close_ int fd = -1;
	char request[BUNDLE_FILE_MAX + 16];
	int r = places_open(p, name, &dfd, &fd);

	if (r < 0)
		return cannot("delete", name, r);
	if (!w->dir) {
		snprintf(request, sizeof(request), "delete %s", name);
		r = client_ask_if_there(w->socket, request, CLIENT_ANSWER_MS, &answer);
		if (r != SB_EXIT_OK && r != SB_EXIT_NOT_FOUND)
			return r;
	}
	if (unlinkat(dfd, name, 0) < 0 || fsync(dfd) < 0)
		return cannot("delete", name, -errno);
	if (w->json) {
		print_field("{\"deleted\":", name);
		printf("}\n");
	} else {
		printf("deleted %s\n", name);
	}
	return SB_EXIT_OK;
}

int cmd_delete(int argc, char **argv)
{
	struct where w = {};
	int first, r, worst = SB_EXIT_OK;
	struct places p;
	const struct opt opts[] = {
		{ "dir", "DIR", OPT_TEXT, &w.dir, "where they are (default: where the agent keeps bundles)" },
		{ "json", NULL, OPT_FLAG, &w.json, "one JSON object per bundle" },
		CLIENT_SOCKET_OPT(&w.socket),
		{}
	};

	r = opt_parse(&delete_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first == argc)
		return opt_usage(&delete_command, "no bundle named");
	places_of(&p, w.dir, w.socket);
	/* All names before any file: a mistyped one deletes nothing. */
	for (int i = first; i < argc; i++) {
		r = places_find(&p, argv[i]);
		r = r < 0 ? cannot("delete", argv[i], r) : SB_EXIT_OK;
		worst = SB_MAX(worst, r);
	}
	if (worst != SB_EXIT_OK)
		return worst;
	for (int i = first; i < argc; i++) {
		r = delete_one(&p, &w, argv[i]);
		worst = SB_MAX(worst, r);
	}
	return worst;
}
