// SPDX-License-Identifier: BSD-2-Clause
#include "tools/debug_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "symbols/symbols.h"

struct build_id {
	const uint8_t *id;
	size_t len;
	char hex[65];
};

static int open_with_id(int fd, const struct build_id *want)
{
	uint8_t id[32];

	if (fd >= 0 && (elf_build_id(fd, id, sizeof(id)) != (int)want->len || memcmp(id, want->id, want->len))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* What the servers said; asked for names, for lines, and for each path of the same file. */
struct debug_answer {
	struct debug_answer *next;
	char hex[65], path[4096]; /* "": they have none */
};

static void run_debuginfod_find(const struct build_id *id, int out, int err)
{
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	setenv("LC_ALL", "C", 1);
	unsetenv("DEBUGINFOD_VERBOSE");
	unsetenv("DEBUGINFOD_PROGRESS");
	/* A server that gives nothing for 90 s is left by itself (DEBUGINFOD_TIMEOUT); this is for the whole file. */
	setenv("DEBUGINFOD_MAXTIME", "600", 0);
	execlp("debuginfod-find", "debuginfod-find", "debuginfo", id->hex, NULL);
	_exit(127);
}

/* One line; "" when there is none. */
static void read_line(int fd, char *ret, size_t len)
{
	FILE *f = fdopen(fd, "r");

	if (!f || !fgets(ret, (int)len, f))
		ret[0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	if (f)
		fclose(f);
	else
		close(fd);
}

/* elfutils' own program, which caches what it gets. true: `path` is it, or "" where the servers have none. */
static bool run_query(const struct build_id *id, char *path, size_t len, char *error, size_t error_len)
{
	int out[2], err[2], status = 0;
	pid_t pid;

	snprintf(error, error_len, "cannot run debuginfod-find");
	if (pipe2(out, O_CLOEXEC) < 0)
		return false;
	if (pipe2(err, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return false;
	}
	pid = fork();
	if (pid == 0)
		run_debuginfod_find(id, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	read_line(out[0], path, len);
	read_line(err[0], error, error_len);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || (WIFEXITED(status) && WEXITSTATUS(status) == 127)) {
		snprintf(error, error_len, "cannot run debuginfod-find, of the package debuginfod of elfutils");
		return false;
	}
	return path[0] || strstr(error, "No such file or directory");
}

static const struct debug_answer *ask_servers(struct debug_sources *s, const struct build_id *id)
{
	struct debug_answer *a;
	char error[256];

	for (a = s->answers; a; a = a->next) {
		if (!strcmp(a->hex, id->hex))
			return a;
	}
	a = s->servers_failed ? NULL : calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	if (!run_query(id, a->path, sizeof(a->path), error, sizeof(error))) {
		free(a);
		fprintf(stderr, "error: no answer from the debuginfod servers '%s': %s\n"
			"hint: they are not asked any more; what was found elsewhere is written\n", getenv("DEBUGINFOD_URLS"), error);
		s->servers_failed = true;
		return NULL;
	}
	memcpy(a->hex, id->hex, sizeof(a->hex));
	a->next = s->answers;
	s->answers = a;
	return a;
}

static int open_of_servers(struct debug_sources *s, const struct build_id *id)
{
	const struct debug_answer *a = ask_servers(s, id);

	return a && a->path[0] ? open_with_id(open(a->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), id) : -1;
}

void debug_sources_done(struct debug_sources *s)
{
	struct debug_answer *next;

	for (struct debug_answer *a = s->answers; a; a = next) {
		next = a->next;
		free(a);
	}
	s->answers = NULL;
}

/* ---- where they may lie ---------------------------------------------------------------------- */

struct search {
	const struct build_id *id;
	const char *path;
	debug_take *take;
	void *ctx;
};

static bool try_file(struct search *s, const char *root, const char *at, bool detached)
{
	int fd = open_with_id(file_open_below(root, at), s->id);
	bool taken = fd >= 0 && s->take(s->ctx, fd, detached);

	if (fd >= 0)
		close(fd);
	return taken;
}

/* By the name that the file itself tells, else by the usual one: where the path says, beside the file and below. */
static bool try_link(struct search *s, const char *root)
{
	int fd = open_with_id(file_open_below(root, s->path), s->id);
	const char *slash = strrchr(s->path, '/');
	char name[256] = "", at[4096];
	bool taken;

	if (!slash)
		return false;
	if (fd < 0 || elf_debuglink(fd, name, sizeof(name), NULL) < 0)
		snprintf(name, sizeof(name), "%.200s.debug", slash + 1);
	if (fd >= 0)
		close(fd);
	snprintf(at, sizeof(at), "%.*s/%s", (int)(slash - s->path), s->path, name);
	taken = try_file(s, root, at, true);
	if (!taken) {
		snprintf(at, sizeof(at), "%.*s/.debug/%s", (int)(slash - s->path), s->path, name);
		taken = try_file(s, root, at, true);
	}
	return taken;
}

static bool search_below(struct search *s, const char *root)
{
	const char *hex = s->id->hex;
	char at[128];

	snprintf(at, sizeof(at), "/.build-id/%.2s/%s.debug", hex, hex + 2);
	if (try_file(s, root, at, true) || try_link(s, root))
		return true;
	snprintf(at, sizeof(at), "/.build-id/%.2s/%s", hex, hex + 2);
	return try_file(s, root, at, false) || try_file(s, root, s->path, false);
}

bool debug_find(struct debug_sources *sources, const uint8_t *id, size_t len, const char *path, debug_take *take, void *ctx)
{
	struct build_id build_id = { .id = id, .len = len };
	struct search s = { &build_id, path, take, ctx };
	bool taken;
	int fd;

	if (len < 8 || len > (sizeof(build_id.hex) - 1) / 2)
		return false;
	for (size_t i = 0; i < len; i++)
		snprintf(build_id.hex + 2 * i, 3, "%02x", id[i]);
	/* The file itself may be here. */
	if (search_below(&s, sources->dir) || search_below(&s, "/"))
		return true;
	fd = sources->debuginfod ? open_of_servers(sources, &build_id) : -1;
	taken = fd >= 0 && take(ctx, fd, true);
	if (fd >= 0)
		close(fd);
	return taken;
}
