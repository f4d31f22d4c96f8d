// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/enrich.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "recorder/kernel_names.h"
#include "recorder/name_user.h"
#include "symbols/symbols.h"

#define CGROUP_DEPTH 16

/* ---- kernel ------------------------------------------------------------------- */

/* Of modules and BPF programs: they are looked up late, and as they are now. */
static bool name_kernel(struct freeze *f)
{
	SB_CLEANUP(symbols_freep) struct symbols *syms = NULL;
	uint64_t text_start;

	if (symbols_load_kallsyms("/proc/kallsyms", &syms, &text_start) < 0)
		return false;
	/* Where the kernel was put: with it and the build-id addresses can be looked up anywhere. */
	if (text_start)
		bundle_writer_symbols(f->w, 0, "kallsyms",
				      &(struct bundle_symbol){ text_start, text_start, "_text", "" }, 1);
	kernel_names_write(f, syms, KERNEL_NAMES_ALL);
	return true;
}

/* ---- cgroups -------------------------------------------------------------------- */

static void walk_cgroups(struct freeze *f, const char *root, char *path, size_t len, int depth)
{
	DIR *d = opendir(path);
	struct dirent *e;
	struct stat st;

	if (!d)
		return;
	if (fstat(dirfd(d), &st) == 0 && map64_get(&f->cgroups, st.st_ino))
		bundle_writer_cgroup(f->w, st.st_ino, path[strlen(root)] ? path + strlen(root) : "/");
	while (depth < CGROUP_DEPTH && (e = readdir(d))) {
		int n;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		n = snprintf(path + len, 4096 - len, "/%s", e->d_name);
		if (n > 0 && (size_t)n < 4096 - len)
			walk_cgroups(f, root, path, len + (size_t)n, depth + 1);
		path[len] = '\0';
	}
	closedir(d);
}

static void name_cgroups(struct freeze *f)
{
	/* Kernel ids are inode numbers of the hierarchy that the task table took them from. */
	const char *root = f->probes->cfg.cgroup_v1_memory ? "/sys/fs/cgroup/memory" :
							     "/sys/fs/cgroup";
	char path[4096];

	snprintf(path, sizeof(path), "%s", root);
	walk_cgroups(f, root, path, strlen(path), 0);
}

bool enrich(struct freeze *f)
{
	bool kernel, user;

	/* Before all that takes long where CPUs are short: cgroups go with the services that stalled, the rest stays. */
	name_cgroups(f);
	kernel = name_kernel(f);
	user = name_user(f);
	bundle_writer_flush(f->w);
	return kernel && user;
}
