// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/name_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "recorder/known.h"
#include "recorder/mappings.h"
#include "symbols/jitmap.h"
#include "symbols/symbols.h"

/* One stuck process must not keep the names of all others away; nor must many, so nobody is asked any more when
 * that much time went by with asking. Who is known already costs no waiting, only CPU time. */
#define MAPS_TIMEOUT_MS 500
#define MAPS_BUDGET_NS (10 * NSEC_PER_SEC)
#define MAPS_PER_PROCESS MAPPINGS_PER_PROCESS /* what is known of one fits */
/* Of the files that may be open, so many are kept so until they are read: their processes may end. Others are opened
 * again then. The rest is left to what else is opened meanwhile. */
#define KEPT_OPEN_OF(limit) ((limit) / 4)
/* Processes that are tried for a file that the first one could not give. */
#define MAPPERS_TRIED 8

static const char *const debug_roots[] = { "/usr/lib/debug", NULL };

struct binary {
	struct process_map map; /* the file, as one process has it */
	uint32_t known;		/* number in f->known; UINT32_MAX: not from there */
	uint32_t id;
	int fd; /* -1: not readable, or not kept open */
	uint32_t pid; /* that has it */
	dev_t dev;    /* of the file that was open */
	ino_t ino;    /* 0: none was */
	struct map64 offsets; /* file offsets in use, + 1: 1 return addresses only, 2 leaves too */
};

struct user_pass {
	struct freeze *f;
	struct binary *binary;
	size_t n, cap;
	rlim_t n_open, max_open; /* of these */
	struct process_map *maps; /* scratch, of one process; and what is written of it */
	struct bundle_mapping *out;
	bool *anonymous;
	bool read_nothing;
	uint64_t n_cut, n_unopened; /* mappings beyond the room, files with frames that cannot be read */
	uint64_t asked_ns; /* spent with asking processes for their mappings */
	bool cut;	   /* not all were asked */
	uint32_t *file;		  /* number of each one's in f->known, or UINT32_MAX */
	struct freeze_frame *frames; /* all, by process */
	const struct freeze_frame *frame; /* those of the process in hand */
	size_t n_frame;
};

/* ---- files ------------------------------------------------------------------------------ */

/* Containers have different files of one path, and an upgrade leaves a deleted one behind. */
static bool same_file(const struct process_map *a, const struct process_map *b)
{
	if (a->build_id_len != b->build_id_len || memcmp(a->build_id, b->build_id, a->build_id_len))
		return false;
	return a->ino == b->ino && a->dev == b->dev && a->deleted == b->deleted && !strcmp(a->path, b->path);
}

/* A process that has ended has no root any more: others may have the same file. */
static int open_of_others(const struct freeze *f, uint32_t file, const struct process_map *m)
{
	uint32_t iter = 0, pid;
	int fd = -1;

	for (unsigned int i = 0; i < MAPPERS_TRIED && fd < 0 && (pid = known_mapper(f->known, file, &iter)); i++)
		fd = process_open_mapped(pid, m);
	return fd;
}

static bool is_vdso(const struct process_map *m)
{
	return !strcmp(m->path, "[vdso]");
}

static int open_vdso(void)
{
	const void *vdso = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	size_t len = 2 * (size_t)sysconf(_SC_PAGESIZE); /* everywhere so far */
	int fd = vdso ? memfd_create("vdso", MFD_CLOEXEC) : -1;

	if (fd >= 0 && write(fd, vdso, len) != (ssize_t)len) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* What a process has mapped and no path leads to; it is asked only as long as anybody is. */
static int open_map_file(struct user_pass *u, uint32_t pid, const struct process_map *m)
{
	uint64_t begin = sb_monotonic_ns();
	int fd;

	if (u->asked_ns > MAPS_BUDGET_NS)
		return -ETIMEDOUT;
	fd = process_open_map_file(pid, m, MAPS_TIMEOUT_MS);
	u->asked_ns += sb_monotonic_ns() - begin;
	return fd;
}

static int open_binary(struct user_pass *u, uint32_t pid, const struct process_map *m, uint32_t known)
{
	int fd;

	if (is_vdso(m))
		return open_vdso();
	if (m->path[0] != '/')
		return -1;
	/* What the process says now needs no proof. */
	fd = known == UINT32_MAX && !m->deleted ? process_open_file(pid, m->path) : process_open_mapped(pid, m);
	if (fd < 0 && known != UINT32_MAX)
		fd = open_of_others(u->f, known, m);
	return fd < 0 ? open_map_file(u, pid, m) : fd;
}

/* Beyond what may be open the file is closed, and must be the same when it is opened again. */
static void keep_open(struct user_pass *u, struct binary *b)
{
	struct stat st;

	if (fstat(b->fd, &st) < 0)
		return;
	b->dev = st.st_dev;
	b->ino = st.st_ino;
	if (u->n_open < u->max_open || is_vdso(&b->map)) {
		u->n_open++;
		return;
	}
	close(b->fd);
	b->fd = -1;
}

static void open_again(struct user_pass *u, struct binary *b)
{
	struct stat st;

	if (b->fd >= 0 || !b->ino)
		return;
	b->fd = open_binary(u, b->pid, &b->map, b->known);
	if (b->fd < 0 || (fstat(b->fd, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino))
		return;
	close(b->fd);
	b->fd = -1;
}

static struct binary *add_binary(struct user_pass *u)
{
	if (u->n == u->cap) {
		size_t cap = u->cap ? u->cap * 2 : 64;
		void *bigger = realloc(u->binary, cap * sizeof(*u->binary));

		if (!bigger)
			return NULL;
		u->binary = bigger;
		u->cap = cap;
	}
	return &u->binary[u->n++];
}

static struct binary *binary_of(struct user_pass *u, uint32_t pid, const struct process_map *m, uint32_t known)
{
	char path[sizeof(m->path) + 16];
	uint8_t build_id[32];
	struct binary *b;
	int len = 0;

	for (size_t i = 0; i < u->n; i++) {
		if (same_file(&u->binary[i].map, m))
			return &u->binary[i];
	}
	b = add_binary(u);
	if (!b)
		return NULL;
	*b = (struct binary){ .map = *m, .known = known, .pid = pid, .fd = -1 };
	if (!u->read_nothing)
		b->fd = open_binary(u, pid, m, known);
	memcpy(build_id, m->build_id, sizeof(m->build_id));
	len = m->build_id_len;
	if (!len && b->fd >= 0)
		len = elf_build_id(b->fd, build_id, sizeof(build_id));
	snprintf(path, sizeof(path), "%s%s", m->path, m->deleted ? " (deleted)" : "");
	b->id = bundle_writer_binary(u->f->w, path, build_id, len > 0 ? (size_t)len : 0, is_vdso(m));
	if (b->fd >= 0)
		keep_open(u, b);
	return b;
}

/* ---- processes -------------------------------------------------------------------------- */

static int by_process(const void *a, const void *b)
{
	const struct freeze_frame *x = a, *y = b;

	return x->process < y->process ? -1 : x->process > y->process;
}

/* A thousand processes with ten thousands of frames: each looks at its own. */
static bool sort_frames(struct user_pass *u)
{
	u->frames = malloc((u->f->n_uframe + 1) * sizeof(*u->frames));
	if (!u->frames)
		return false;
	if (u->f->n_uframe)
		memcpy(u->frames, u->f->uframe, u->f->n_uframe * sizeof(*u->frames));
	qsort(u->frames, u->f->n_uframe, sizeof(*u->frames), by_process);
	return true;
}

/* false: it has none. */
static bool take_frames(struct user_pass *u, uint32_t process)
{
	size_t lo = 0, hi = u->f->n_uframe;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (u->frames[mid].process < process)
			lo = mid + 1;
		else
			hi = mid;
	}
	u->frame = u->frames + lo;
	u->n_frame = 0;
	while (lo + u->n_frame < u->f->n_uframe && u->frame[u->n_frame].process == process)
		u->n_frame++;
	return u->n_frame > 0;
}

static void note_offsets(struct user_pass *u, const struct process_map *m, struct binary *b)
{
	for (size_t i = 0; i < u->n_frame; i++) {
		const struct freeze_frame *fr = &u->frame[i];
		uint64_t key = fr->addr - m->start + m->pgoff + 1;

		if (fr->addr >= m->start && fr->addr - m->start < m->len)
			map64_put(&b->offsets, key, SB_MAX(fr->leaf ? 2u : 1u, map64_get(&b->offsets, key)));
	}
}

/* As of the time of its stacks. */
static int maps_known(struct user_pass *u, const struct freeze_user *user)
{
	const struct known *k = u->f->known;
	struct known_image image;
	uint32_t n;

	if (!k || !known_find(k, user->pid, u->f->newest_ns, user->until_ns, &image))
		return -ENOENT;
	n = SB_MIN(image.n, MAPS_PER_PROCESS);
	u->n_cut += image.n - n;
	for (uint32_t i = 0; i < n; i++) {
		const struct mapped_vma *v = &image.vma[i];
		const struct known_file *f = known_file(k, v->file);
		struct process_map *m = &u->maps[i];
		const char *path = f ? known_path(k, f) : "[anon]";

		*m = (struct process_map){ .start = v->start, .len = v->end - v->start, .pgoff = v->offset };
		u->file[i] = v->file;
		snprintf(m->path, sizeof(m->path), "%s", strlen(path) < sizeof(m->path) ? path : "[path too long]");
		if (!f)
			continue;
		m->dev = f->dev;
		m->ino = f->ino;
		m->build_id_len = f->id_len;
		memcpy(m->build_id, f->id, f->id_len);
	}
	return (int)n;
}

static int ask_for_maps(struct user_pass *u, uint32_t pid)
{
	uint64_t begin = sb_monotonic_ns();
	int n;

	if (u->asked_ns > MAPS_BUDGET_NS) {
		u->cut = true;
		return -ETIMEDOUT;
	}
	n = process_maps_read(pid, MAPS_TIMEOUT_MS, u->maps, MAPS_PER_PROCESS);
	u->asked_ns += sb_monotonic_ns() - begin;
	if (n > (int)MAPS_PER_PROCESS) {
		u->n_cut += (uint64_t)n - MAPS_PER_PROCESS;
		n = (int)MAPS_PER_PROCESS;
	}
	return n;
}

static int maps_of(struct user_pass *u, const struct freeze_user *user, enum bundle_map_state *ret)
{
	int n = maps_known(u, user);

	*ret = BUNDLE_MAPS_KNOWN;
	if (n >= 0)
		return n;
	*ret = BUNDLE_MAPS_EXITED;
	/* Who has that pid now is another one. */
	if (user->until_ns || u->read_nothing)
		return 0;
	n = ask_for_maps(u, user->pid);
	for (int i = 0; i < n; i++)
		u->file[i] = UINT32_MAX;
	if (n >= 0)
		*ret = BUNDLE_MAPS_READ;
	else if (n == -ETIMEDOUT)
		*ret = BUNDLE_MAPS_TIMED_OUT;
	else if (n == -EACCES)
		*ret = BUNDLE_MAPS_DENIED;
	return n;
}

static void fill_process(struct user_pass *u, const struct freeze_user *user, struct bundle_process *p,
			 char comm[SB_COMM + 1])
{
	const struct sb_task *e = &u->f->probes->tasks[user->pid & (SB_TASKS - 1)];
	const char *from = NULL;

	p->exit_ns = user->until_ns;
	if (e->tid == user->pid && (!user->until_ns || e->exec_ns == user->until_ns)) {
		p->ppid = e->ppid;
		p->cgroup = (uint32_t)map64_get(&u->f->cgroups, e->cgroup_id);
		/* It may have become another program since. */
		from = user->until_ns || e->exec_ns > SB_MAX(user->start_ns, u->f->newest_ns) ? e->before_comm : e->comm;
		if (!user->until_ns)
			p->exit_ns = e->exit_ns;
	}
	memset(comm, 0, SB_COMM + 1);
	if (from)
		memcpy(comm, from, SB_COMM);
	if (!comm[0])
		strcpy(comm, "?");
	p->comm = comm;
}

/* ---- code that was made at run time ------------------------------------------------------ */

/* The dump of a compiler that writes one: it maps it executable so that we find it. */
static const char *dump_of(const struct user_pass *u, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = strrchr(u->maps[i].path, '/');
		size_t len = name ? strlen(name) : 0;

		if (len > 10 && !strncmp(name, "/jit-", 5) && !strcmp(name + len - 5, ".dump"))
			return u->maps[i].path;
	}
	return NULL;
}

/* What lies in no file: a compiler at run time may have left a list of its functions. The reader
 * finds the address through the mapping, so its offset becomes the address. */
static void name_jit(struct user_pass *u, const struct freeze_user *user, size_t n)
{
	struct bundle_mapping *out = u->out;
	SB_CLEANUP(symbols_freep) struct symbols *syms = NULL;
	struct bundle_symbol *names;
	size_t n_names = 0;
	uint32_t id;
	char path[256];

	if (user->until_ns || jitmap_load(user->pid, dump_of(u, n), path, sizeof(path), &syms) < 0)
		return;
	names = calloc(u->n_frame, sizeof(*names));
	id = names ? bundle_writer_binary(u->f->w, path, NULL, 0, 2) : 0;
	for (size_t m = 0; id && m < n; m++) {
		for (size_t i = 0; u->anonymous[m] && i < u->n_frame; i++) {
			const struct freeze_frame *fr = &u->frame[i];
			struct symbol s;

			if (fr->addr < out[m].start || fr->addr - out[m].start >= out[m].len ||
			    symbols_find(syms, fr->addr - (fr->leaf ? 0 : 1), &s) < 0)
				continue;
			names[n_names++] = (struct bundle_symbol){ fr->addr, s.start, s.name, "" };
			out[m].binary = id;
			out[m].pgoff = out[m].start;
		}
	}
	if (n_names)
		bundle_writer_symbols(u->f->w, id, "perf-map", names, n_names);
	free(names);
}

static void map_process(struct user_pass *u, const struct freeze_user *user)
{
	char comm[SB_COMM + 1];
	struct bundle_process p = {
		.id = user->process,
		.pid = user->pid,
		.start_ns = user->start_ns,
		.maps = u->out,
	};
	bool any = false;
	int n = maps_of(u, user, &p.map_state);

	fill_process(u, user, &p, comm);
	for (int i = 0; i < n; i++) {
		struct binary *b = binary_of(u, user->pid, &u->maps[i], u->file[i]);

		if (!b)
			break;
		note_offsets(u, &u->maps[i], b);
		u->anonymous[p.n_maps] = u->maps[i].path[0] == '[' && !is_vdso(&u->maps[i]);
		any |= u->anonymous[p.n_maps];
		u->out[p.n_maps++] = (struct bundle_mapping){ u->maps[i].start, u->maps[i].len, u->maps[i].pgoff, b->id };
	}
	if (any && !u->read_nothing)
		name_jit(u, user, p.n_maps);
	if (p.n_maps)
		p.exe = u->maps[0].path;
	if (!u->read_nothing || p.n_maps)
		bundle_writer_process(u->f->w, &p);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static void name_binary(struct user_pass *u, struct binary *b)
{
	SB_CLEANUP(elf_names_freep) struct elf_names *names = NULL;
	struct bundle_symbol *out;
	size_t n = 0;

	if (!b->offsets.n || u->read_nothing || (b->map.path[0] != '/' && !is_vdso(&b->map)))
		return;
	open_again(u, b);
	u->n_unopened += b->fd < 0;
	if (b->fd < 0 || elf_names_open(b->fd, debug_roots, &names) < 0)
		return;
	out = calloc(b->offsets.n, sizeof(*out));
	if (!out)
		return;
	for (size_t i = 0; i < b->offsets.cap; i++) {
		uint64_t off = b->offsets.slot[i].key - 1;
		struct symbol s;

		if (b->offsets.slot[i].key && elf_names_find(names, off, b->offsets.slot[i].value == 1, &s) == 0)
			out[n++] = (struct bundle_symbol){ off, s.start, s.name, "" };
	}
	bundle_writer_symbols(u->f->w, b->id, elf_names_source(names), out, n);
	free(out);
}

/* What stays without a name, and why. */
static void write_losses(const struct user_pass *u)
{
	struct bundle_loss loss[2];
	size_t n = 0;

	if (u->n_unopened)
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_MISSED, BUNDLE_KIND_NONE, -1, u->n_unopened, "files",
						  "files of user stacks that could not be opened for names" };
	if (u->n_cut)
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_TRUNCATED, BUNDLE_KIND_NONE, -1, u->n_cut, "mappings",
						  "executable mappings beyond 4096 of one process" };
	if (n)
		bundle_writer_losses(u->f->w, u->f->probes->control->started_ns, loss, n);
}

static bool map_and_name(struct freeze *f, bool read_nothing)
{
	struct user_pass u = { .f = f, .read_nothing = read_nothing };
	struct rlimit files = { .rlim_cur = 0 };
	bool whole;

	getrlimit(RLIMIT_NOFILE, &files);
	u.max_open = KEPT_OPEN_OF(files.rlim_cur);
	u.maps = calloc(MAPS_PER_PROCESS, sizeof(*u.maps));
	u.file = calloc(MAPS_PER_PROCESS, sizeof(*u.file));
	u.out = calloc(MAPS_PER_PROCESS, sizeof(*u.out));
	u.anonymous = calloc(MAPS_PER_PROCESS, sizeof(*u.anonymous));
	whole = u.maps && u.file && u.out && u.anonymous && sort_frames(&u);
	for (size_t i = 0; whole && i < f->n_user; i++) {
		if (take_frames(&u, f->user[i].process))
			map_process(&u, &f->user[i]);
	}
	whole = whole && !u.cut;
	for (size_t i = 0; i < u.n; i++) {
		name_binary(&u, &u.binary[i]);
		if (u.binary[i].fd >= 0)
			close(u.binary[i].fd);
		map64_done(&u.binary[i].offsets);
	}
	write_losses(&u);
	free(u.binary);
	free(u.out);
	free(u.anonymous);
	free(u.maps);
	free(u.file);
	free(u.frames);
	return whole;
}

bool name_user(struct freeze *f)
{
	return map_and_name(f, false);
}

void map_user(struct freeze *f)
{
	if (f->known)
		map_and_name(f, true);
}
