// SPDX-License-Identifier: BSD-2-Clause
#include "tools/places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "format/ask_agent.h"
#include "tools/client.h"
#include "tools/settings.h"

#define ASK_MS 1000 /* what the configuration says is as good where the agent is in no hurry */

static void add(struct places *p, const char *dir)
{
	if (dir[0])
		p->dir[p->n++] = dir;
}

void places_of(struct places *ret, const char *dir, const char *socket)
{
	static const char *const keys[PLACES_MAX] = { "directory", "fallback" };
	_cleanup_free_ char *answer = NULL;

	ret->n = 0;
	if (dir) {
		ret->dir[ret->n++] = dir;
		return;
	}
	if (client_ask_if_there(socket, "directories", ASK_MS, &answer) == SB_EXIT_OK) {
		for (size_t i = 0; i < PLACES_MAX; i++) {
			ask_agent_value(answer, keys[i], ret->text[i], sizeof(ret->text[i]));
			add(ret, ret->text[i]);
		}
	}
	if (!ret->n) {
		add(ret, settings()->storage.directory);
		add(ret, settings()->storage.fallback);
	}
}

/* A bundle that is one: no link, nothing else that has the name. */
static int open_in(const char *dir, const char *name, int *ret_dirfd, int *ret_fd)
{
	_cleanup_close_ int dfd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (dfd < 0)
		return -errno;
	fd = openat(dfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOTSUP;
	*ret_dirfd = TAKE_FD(dfd);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int places_open(const struct places *p, const char *name, int *ret_dirfd, int *ret_fd)
{
	int first = -ENOENT;

	if (!bundle_is_file_name(name))
		return -EINVAL;
	for (size_t i = 0; i < p->n; i++) {
		int r = open_in(p->dir[i], name, ret_dirfd, ret_fd);

		if (r == 0)
			return (int)i;
		if (first == -ENOENT)
			first = r;
	}
	return first;
}

int places_find(const struct places *p, const char *name)
{
	_cleanup_close_ int dfd = -1;
	_cleanup_close_ int fd = -1;

	return places_open(p, name, &dfd, &fd);
}
