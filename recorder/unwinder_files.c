// SPDX-License-Identifier: BSD-2-Clause
/* Files that are mapped: read by others, their tables kept. */
#include <errno.h>
#include <sys/auxv.h>

#include "recorder/unwinder_impl.h"
#include "symbols/symbols.h"

/* A file that could not be read, or was evicted and is missed, is tried again so often. */
#define RETRY_NS (5 * NSEC_PER_SEC)

struct load_job {
	uint32_t file, pid;
	struct unwind_key key;
	struct process_map map;
};

struct load_result {
	uint32_t file;
	int error;
	struct unwind_key key, own;
	struct unwind_rows rows;
};

/* For the first thread, which may be waiting for anything to happen. */
void unwinder_say_found(const struct keeper *k)
{
	(void)!write(k->found, &(uint64_t){ 1 }, sizeof(uint64_t));
}

static int load(const struct load_job *j, struct load_result *ret)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	_cleanup_close_ int fd = process_open_mapped(j->pid, &j->map);
	struct cfi_counts counts = {};

	if (fd < 0)
		fd = process_open_map_file(j->pid, &j->map, SCAN_TIMEOUT_MS);
	if (fd < 0)
		return fd;
	return unwind_file_load(fd, j->key.len ? &j->key : NULL, &limits, &counts, &ret->key, &ret->own, &ret->rows);
}

void *unwinder_take_job(void *ctx)
{
	struct keeper *k = ctx;

	return unwinder_queue_take(&k->to_load, true);
}

void unwinder_do_job(void *ctx, void *job)
{
	struct load_result *result = calloc(1, sizeof(*result));
	struct keeper *k = ctx;
	struct load_job *j = job;

	if (result) {
		result->file = j->file;
		result->error = load(j, result);
		if (!unwinder_queue_put(&k->loaded, result)) {
			unwind_rows_done(&result->rows);
			free(result);
		}
	}
	unwinder_say_found(k);
	free(j);
}

/* A file that somebody has mapped now: known already, or to be read. */
void unwinder_want_file(struct keeper *k, uint32_t file, uint32_t pid, uint64_t start, uint64_t len, uint64_t now)
{
	struct mapped_file *f = mappings_file_at(k->mappings, file);
	struct load_job *j;

	if (!f || f->path[0] != '/' || f->state == MAPPED_LOADING || f->state == MAPPED_READY ||
	    (f->tried_ns && now < f->tried_ns + RETRY_NS))
		return;
	/* Also where the build-id is known: it is a claim, and another file may have made it. */
	j = strlen(f->path) < sizeof(j->map.path) ? calloc(1, sizeof(*j)) : NULL;
	f->tried_ns = now;
	if (!j) {
		k->stats->unreadable++;
		f->state = MAPPED_FAILED;
		return;
	}
	j->file = file;
	j->pid = pid;
	/* A key that we found in the file ourselves is as good. */
	j->key = f->key;
	if (f->key.build_id) {
		j->map.build_id_len = SB_MIN(f->key.len, (uint8_t)sizeof(j->map.build_id));
		memcpy(j->map.build_id, f->key.id, j->map.build_id_len);
	}
	j->map.ino = f->ino;
	j->map.start = start;
	j->map.len = len;
	strcpy(j->map.path, f->path);
	f->state = MAPPED_LOADING;
	if (!unwinder_queue_put(&k->to_load, j)) {
		f->state = MAPPED_NEW;
		free(j);
	}
}

void unwinder_take_loaded(struct keeper *k)
{
	struct load_result *r;

	while ((r = unwinder_queue_take(&k->loaded, false))) {
		struct mapped_file *f = mappings_file_at(k->mappings, r->file);
		struct unwind_ref ref;

		if (r->error == 0 && r->key.build_id)
			f->found = r->key;
		if (r->error == 0)
			r->error = unwind_cache_share(k->cache, &r->key, &r->own, &r->rows, &ref);
		else if (f->key.build_id) /* gone or not to be read: the claim has to do */
			r->error = unwind_cache_find(k->cache, &f->key, &ref);
		if (r->error == 0) {
			mappings_file_ready(k->mappings, r->file, &ref);
		} else {
			f->state = MAPPED_FAILED;
			k->stats->unreadable++;
		}
		unwind_rows_done(&r->rows);
		free(r);
	}
}

void unwinder_load_vdso(struct keeper *k)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	const void *vdso = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	struct unwind_key key = { .len = 4, .id = "vdso" };
	struct unwind_image image = {};
	struct unwind_rows rows = {};
	struct cfi_counts counts = {};
	struct unwind_ref ref;

	k->vdso = mappings_file(k->mappings, NULL, 0, 0, 0, "[vdso]");
	/* Two pages everywhere so far; what is mapped there is readable. */
	if (!vdso || unwind_image_read_memory(vdso, 2 * (size_t)sysconf(_SC_PAGESIZE), &image) < 0)
		return;
	if (unwind_rows_build(&image, &limits, &counts, &rows) == 0 &&
	    unwind_cache_put(k->cache, &key, &rows, &ref) == 0)
		mappings_file_ready(k->mappings, k->vdso, &ref);
	unwind_rows_done(&rows);
	unwind_image_done(&image);
}

/* What was evicted and is walked through again. */
void unwinder_take_wanted(struct keeper *k, uint64_t now)
{
	for (uint32_t i = 0; i < SB_UNWIND_WANTED; i++) {
		uint32_t pid = __atomic_load_n(&k->wanted[i].tgid, __ATOMIC_ACQUIRE);
		const struct mapped_vma *v;
		struct mapped_file *f;

		if (!pid)
			continue;
		v = mappings_find(k->mappings, pid, k->wanted[i].ip);
		f = v ? mappings_file_at(k->mappings, v->file) : NULL;
		if (f && f->state == MAPPED_READY && f->path[0] == '/') {
			f->state = MAPPED_NEW;
			unwinder_want_file(k, v->file, pid, v->start, v->end - v->start, now);
			/* Too early: what walkers hold stays stale, and they ask again. */
			if (f->state == MAPPED_NEW)
				f->state = MAPPED_READY;
		}
		__atomic_store_n(&k->wanted[i].tgid, 0, __ATOMIC_RELEASE);
	}
}
