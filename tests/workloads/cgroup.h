/* SPDX-License-Identifier: BSD-2-Clause */
/* A memory cgroup of the workload's own: v1 or v2, whichever holds the memory controller. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct wl_cgroup {
	char parent[128], path[192];
	bool v1;
};

static inline int wl_put(const char *dir, const char *file, const char *text)
{
	char path[320];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* Creates it with a limit and moves the calling process in. 0 or a negative errno. */
static inline int wl_cgroup_enter(struct wl_cgroup *c, const char *name, unsigned long long limit)
{
	char text[64];
	int r;

	c->v1 = access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0 ||
		access("/sys/fs/cgroup/memory/cgroup.procs", F_OK) == 0;
	strcpy(c->parent, c->v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup");
	if (!c->v1)
		wl_put(c->parent, "cgroup.subtree_control", "+memory");
	snprintf(c->path, sizeof(c->path), "%s/%s.%d", c->parent, name, getpid());
	if (mkdir(c->path, 0755) < 0)
		return -errno;
	snprintf(text, sizeof(text), "%llu", limit);
	r = wl_put(c->path, c->v1 ? "memory.limit_in_bytes" : "memory.max", text);
	snprintf(text, sizeof(text), "%d", getpid());
	if (r == 0)
		r = wl_put(c->path, "cgroup.procs", text);
	if (r < 0)
		rmdir(c->path);
	return r;
}

/* Moves back and removes it; the last threads may still be leaving, so it tries for a while. */
static inline void wl_cgroup_leave(const struct wl_cgroup *c)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", getpid());
	wl_put(c->parent, "cgroup.procs", text);
	for (int i = 0; i < 500 && rmdir(c->path) < 0 && errno == EBUSY; i++)
		usleep(10000);
}
