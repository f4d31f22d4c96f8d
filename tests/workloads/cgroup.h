/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A memory cgroup of one's own, under version 1 or 2, whichever the host has.
 *
 * A parent process creates it and stays outside, a child enters it, the parent removes it: so it
 * goes away however the child ends.
 */
#pragma once

#include "tests/workloads/workload.h"

#include <dirent.h>
#include <fcntl.h>
#include <mntent.h>
#include <sys/stat.h>

struct wl_cgroup {
	char path[PATH_MAX]; /* empty: there is none */
	bool v2;
};

WL_UNUSED static int cgroup_write(const struct wl_cgroup *cg, const char *file, const char *value)
{
	char path[PATH_MAX + 64];
	ssize_t n;
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", cg->path, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, value, strlen(value));
	r = n < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* The number after key in a file of the cgroup ("" for a file that is one number), 0 if none. */
WL_UNUSED static uint64_t cgroup_read(const struct wl_cgroup *cg, const char *file, const char *key)
{
	char path[PATH_MAX + 64], line[256];
	size_t len = strlen(key);
	uint64_t value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", cg->path, file);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!len || (!strncmp(line, key, len) && line[len] == ' ')) {
			value = strtoull(line + len, NULL, 10);
			break;
		}
	fclose(f);
	return value;
}

/* How often the limit was met: each time, the kernel reclaims at least once. */
WL_UNUSED static uint64_t cgroup_limit_hits(const struct wl_cgroup *cg)
{
	return cg->v2 ? cgroup_read(cg, "memory.events", "max")
		      : cgroup_read(cg, "memory.failcnt", "");
}

WL_UNUSED static uint64_t cgroup_oom_kills(const struct wl_cgroup *cg)
{
	return cgroup_read(cg, cg->v2 ? "memory.events" : "memory.oom_control", "oom_kill");
}

/* The top of the memory hierarchy that this process can see. */
WL_UNUSED static int cgroup_find_root(struct wl_cgroup *cg)
{
	struct mntent *m;
	FILE *f = setmntent("/proc/self/mounts", "re");

	if (!f)
		return -errno;
	cg->path[0] = 0;
	while (!cg->path[0] && (m = getmntent(f))) {
		char path[PATH_MAX + 64], controllers[512] = "";
		FILE *c;

		if (!strcmp(m->mnt_type, "cgroup") && hasmntopt(m, "memory")) {
			cg->v2 = false;
			snprintf(cg->path, sizeof(cg->path), "%s", m->mnt_dir);
			continue;
		}
		if (strcmp(m->mnt_type, "cgroup2"))
			continue;
		snprintf(path, sizeof(path), "%s/cgroup.controllers", m->mnt_dir);
		c = fopen(path, "re");
		if (!c)
			continue;
		if (fgets(controllers, sizeof(controllers), c) && strstr(controllers, "memory")) {
			cg->v2 = true;
			snprintf(cg->path, sizeof(cg->path), "%s", m->mnt_dir);
		}
		fclose(c);
	}
	endmntent(f);
	return cg->path[0] ? 0 : -ENOENT;
}

/* What a run that was ended by kill -9 left behind; a cgroup in use refuses to go. */
WL_UNUSED static void cgroup_sweep(const struct wl_cgroup *root, const char *name)
{
	char path[PATH_MAX + NAME_MAX + 2];
	size_t len = strlen(name);
	struct dirent *e;
	DIR *d = opendir(root->path);

	if (!d)
		return;
	while ((e = readdir(d))) {
		if (strncmp(e->d_name, name, len) || e->d_name[len] != '.')
			continue;
		if (kill((pid_t)atoi(e->d_name + len + 1), 0) && errno == ESRCH) {
			snprintf(path, sizeof(path), "%s/%s", root->path, e->d_name);
			rmdir(path);
		}
	}
	closedir(d);
}

/* Creates NAME.PID with the limit; says on stderr what is wrong and exits when it cannot. */
WL_UNUSED static void cgroup_create(struct wl_cgroup *cg, const char *name, uint64_t limit_bytes)
{
	char number[32];
	size_t len;
	int r;

	r = cgroup_find_root(cg);
	if (r) {
		fprintf(stderr,
			"%s: no cgroup hierarchy with the memory controller is mounted\n"
			"hint: mount -t cgroup2 none /sys/fs/cgroup, or boot with "
			"cgroup_enable=memory\n",
			program_invocation_short_name);
		exit(1);
	}
	cgroup_sweep(cg, name);
	if (cg->v2) {
		r = cgroup_write(cg, "cgroup.subtree_control", "+memory");
		if (r) {
			errno = -r;
			die("cannot enable the memory controller below %s", cg->path);
		}
	}
	len = strlen(cg->path);
	snprintf(cg->path + len, sizeof(cg->path) - len, "/%s.%d", name, getpid());
	if (mkdir(cg->path, 0755)) {
		int err = errno;

		fprintf(stderr, "%s: cannot create cgroup %s: %s\n", program_invocation_short_name,
			cg->path, strerror(err));
		if (err == EACCES || err == EPERM || err == EROFS)
			fprintf(stderr, "hint: run as root, outside of a container\n");
		exit(1);
	}
	snprintf(number, sizeof(number), "%llu", (unsigned long long)limit_bytes);
	r = cgroup_write(cg, cg->v2 ? "memory.max" : "memory.limit_in_bytes", number);
	if (r) {
		rmdir(cg->path);
		errno = -r;
		die("cannot set the limit of %s to %s bytes", cg->path, number);
	}
	/* Swap would be a way out of the limit. Kernels without swap accounting lack the files. */
	if (cg->v2)
		(void)cgroup_write(cg, "memory.swap.max", "0");
	else
		(void)cgroup_write(cg, "memory.swappiness", "0");
}

/* Moves the calling process in, and makes it the first to go should memory ever run out. */
WL_UNUSED static int cgroup_enter(const struct wl_cgroup *cg)
{
	FILE *f = fopen("/proc/self/oom_score_adj", "we");

	if (f) {
		fputs("1000", f);
		fclose(f);
	}
	return cgroup_write(cg, "cgroup.procs", "0");
}

/* After the last process has gone. Its memory is uncharged shortly after: try for ten seconds. */
WL_UNUSED static int cgroup_remove(struct wl_cgroup *cg)
{
	for (int i = 0; i < 1000; i++) {
		if (!cg->path[0] || !rmdir(cg->path) || errno == ENOENT) {
			cg->path[0] = 0;
			return 0;
		}
		if (errno != EBUSY)
			break;
		sleep_ms(10);
	}
	return -errno;
}
