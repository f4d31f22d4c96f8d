// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/enrich.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "recorder/kernel_names.h"
#include "symbols/symbols.h"

/* One stuck process must not keep the names of all others away. */
#define MAPS_TIMEOUT_MS 500
#define MAPS_BUDGET_NS (10 * NSEC_PER_SEC)
#define MAPS_PER_PROCESS 1024
#define CGROUP_DEPTH 16
#define DEBUG_ROOT "/usr/lib/debug"

/* ---- kernel ------------------------------------------------------------------- */

/* Of modules and BPF programs: they are looked up late, and as they are now. */
static bool name_kernel(struct freeze *f)
{
	SB_CLEANUP(symbols_freep) struct symbols *syms = NULL;
	uint64_t text_start;

	if (symbols_load_kallsyms("/proc/kallsyms", &syms, &text_start) < 0)
		return false;
	kernel_names_write(f, syms, KERNEL_NAMES_ALL);
	return true;
}

/* ---- user ---------------------------------------------------------------------- */

struct binary {
	char path[256];
	uint64_t dev, ino;
	bool deleted;
	uint32_t id;
	int fd; /* of the first process that maps it; -1: not readable */
	struct map64 offsets; /* file offsets in use, + 1 */
};

struct user_pass {
	struct freeze *f;
	struct binary *binary;
	size_t n, cap;
	struct process_map *maps; /* scratch */
};

/* Containers have different files of one path, and an upgrade leaves a deleted one behind. */
static bool same_file(const struct binary *b, const struct process_map *m)
{
	return b->ino == m->ino && b->dev == m->dev && b->deleted == m->deleted && !strcmp(b->path, m->path);
}

static struct binary *binary_of(struct user_pass *u, uint32_t pid, const struct process_map *m)
{
	char path[sizeof(m->path) + 16];
	uint8_t build_id[32];
	struct binary *b;
	int len = 0;

	for (size_t i = 0; i < u->n; i++) {
		if (same_file(&u->binary[i], m))
			return &u->binary[i];
	}
	if (u->n == u->cap) {
		size_t cap = u->cap ? u->cap * 2 : 64;
		void *bigger = realloc(u->binary, cap * sizeof(*u->binary));

		if (!bigger)
			return NULL;
		u->binary = bigger;
		u->cap = cap;
	}
	b = &u->binary[u->n++];
	*b = (struct binary){ .dev = m->dev, .ino = m->ino, .deleted = m->deleted, .fd = -1 };
	memcpy(b->path, m->path, sizeof(b->path));
	/* What a deleted one's path leads to now is another file. */
	if (m->path[0] == '/' && !m->deleted)
		b->fd = process_open_file(pid, m->path);
	if (b->fd >= 0)
		len = elf_build_id(b->fd, build_id, sizeof(build_id));
	snprintf(path, sizeof(path), "%s%s", m->path, m->deleted ? " (deleted)" : "");
	b->id = bundle_writer_binary(u->f->w, path, build_id, len > 0 ? (size_t)len : 0,
				     !strcmp(m->path, "[vdso]") ? 1 : 0);
	return b;
}

static bool process_has_frames(const struct freeze *f, uint32_t process)
{
	for (size_t i = 0; i < f->n_uframe; i++) {
		if (f->uframe[i].process == process)
			return true;
	}
	return false;
}

static void note_offsets(struct user_pass *u, uint32_t process, const struct process_map *m,
			 struct binary *b)
{
	for (size_t i = 0; i < u->f->n_uframe; i++) {
		const struct freeze_frame *fr = &u->f->uframe[i];

		if (fr->process == process && fr->addr >= m->start && fr->addr - m->start < m->len)
			map64_put(&b->offsets, fr->addr - m->start + m->pgoff + 1, 1);
	}
}

static const char *comm_of(const struct freeze *f, uint32_t pid, char ret[SB_COMM + 1])
{
	const struct sb_task *e = &f->probes->tasks[pid & (SB_TASKS - 1)];

	ret[0] = '\0';
	if (e->tid == pid) {
		memcpy(ret, e->comm, SB_COMM);
		ret[SB_COMM] = '\0';
	}
	return ret;
}

static void map_process(struct user_pass *u, const struct freeze_user *user)
{
	struct bundle_mapping out[MAPS_PER_PROCESS];
	char comm[SB_COMM + 1];
	struct bundle_process p = {
		.id = user->process,
		.pid = user->pid,
		.start_ns = user->start_ns,
		.comm = comm_of(u->f, user->pid, comm),
		.map_state = BUNDLE_MAPS_READ,
		.maps = out,
	};
	const struct sb_task *e = &u->f->probes->tasks[user->pid & (SB_TASKS - 1)];
	int n = process_maps_read(user->pid, MAPS_TIMEOUT_MS, u->maps, MAPS_PER_PROCESS);

	if (n < 0)
		p.map_state = n == -ETIMEDOUT ? BUNDLE_MAPS_TIMED_OUT :
			      n == -EACCES    ? BUNDLE_MAPS_DENIED : BUNDLE_MAPS_EXITED;
	if (e->tid == user->pid) {
		p.ppid = e->ppid;
		p.exit_ns = e->exit_ns;
		p.cgroup = (uint32_t)map64_get(&u->f->cgroups, e->cgroup_id);
	}
	for (int i = 0; i < n; i++) {
		struct binary *b = binary_of(u, user->pid, &u->maps[i]);

		if (!b)
			break;
		note_offsets(u, user->process, &u->maps[i], b);
		out[p.n_maps++] = (struct bundle_mapping){ u->maps[i].start, u->maps[i].len,
							   u->maps[i].pgoff, b->id };
	}
	if (p.n_maps)
		p.exe = u->maps[0].path;
	bundle_writer_process(u->f->w, &p);
}

static void name_binary(struct user_pass *u, struct binary *b)
{
	SB_CLEANUP(symbols_freep) struct symbols *syms = NULL;
	struct bundle_symbol *out;
	const char *source = "";
	size_t n = 0;

	if (!b->offsets.n || b->fd < 0 ||
	    symbols_load_elf(b->fd, DEBUG_ROOT, &syms, &source) < 0)
		return;
	out = calloc(b->offsets.n, sizeof(*out));
	if (!out)
		return;
	for (size_t i = 0; i < b->offsets.cap; i++) {
		uint64_t off = b->offsets.slot[i].key - 1;
		struct symbol s;

		if (b->offsets.slot[i].key && symbols_find(syms, off, &s) == 0)
			out[n++] = (struct bundle_symbol){ off, s.start, s.name, "" };
	}
	bundle_writer_symbols(u->f->w, b->id, source, out, n);
	free(out);
}

static bool name_user(struct freeze *f)
{
	struct user_pass u = { .f = f };
	uint64_t deadline = sb_monotonic_ns() + MAPS_BUDGET_NS;
	bool whole = true;

	u.maps = calloc(MAPS_PER_PROCESS, sizeof(*u.maps));
	if (!u.maps)
		return false;
	for (size_t i = 0; i < f->n_user; i++) {
		if (!process_has_frames(f, f->user[i].process))
			continue;
		if (sb_monotonic_ns() > deadline) {
			whole = false;
			break;
		}
		map_process(&u, &f->user[i]);
	}
	for (size_t i = 0; i < u.n; i++) {
		name_binary(&u, &u.binary[i]);
		if (u.binary[i].fd >= 0)
			close(u.binary[i].fd);
		map64_done(&u.binary[i].offsets);
	}
	free(u.binary);
	free(u.maps);
	return whole;
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
	bool kernel = name_kernel(f), user;

	name_cgroups(f);
	user = name_user(f);
	bundle_writer_flush(f->w);
	return kernel && user;
}
