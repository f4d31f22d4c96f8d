// SPDX-License-Identifier: BSD-2-Clause
/* Memory of the tables for walks over user stacks, and whether there can be such walks. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "recorder/kernel_features.h"
#include "recorder/probes_impl.h"
#include "unwind/layout.h"

#define DEFAULT_UNWIND_BYTES (32ULL << 20) /* 2 M rows take 17 MiB, those of all files of a busy host */
#define MIN_UNWIND_BYTES (1ULL << 20)
#define MAX_RAM_PERCENT 2
#define PIECE_BYTES ((size_t)SB_UNWIND_PIECE_SLOTS * sizeof(uint64_t))
#define MISSING "user stacks by .eh_frame"

static const struct {
	const char *name;
	uint32_t entries, size;
} unwind_maps[PROBES_UNWIND_MAPS_COUNT] = {
	[PROBES_UNWIND_SLOTS] = { "unwind_slots", SB_UNWIND_PIECES, sizeof(void *) },
	[PROBES_UNWIND_TABLES] = { "unwind_tables", SB_UNWIND_TABLES, sizeof(struct sb_unwind_table) },
	[PROBES_UNWIND_MAPS] = { "unwind_maps", SB_UNWIND_MAPPINGS, sizeof(struct sb_unwind_map) },
	[PROBES_UNWIND_PROCS] = { "unwind_procs", SB_UNWIND_PROCESSES, sizeof(struct sb_unwind_process) },
	[PROBES_UNWIND_WANTED] = { "unwind_wanted", SB_UNWIND_WANTED, sizeof(struct sb_unwind_wanted) },
};

static uint32_t choose_slots(uint64_t want)
{
	struct sysinfo si;
	uint64_t bytes = want ? want : DEFAULT_UNWIND_BYTES;

	if (sysinfo(&si) == 0 && !want)
		bytes = SB_MAX(SB_MIN(bytes, (uint64_t)si.totalram * si.mem_unit / 100 * MAX_RAM_PERCENT), MIN_UNWIND_BYTES);
	return (uint32_t)SB_MIN(bytes / sizeof(uint64_t), (uint64_t)SB_UNWIND_SLOTS_MAX);
}

/* NULL: there can be walks by tables. */
static const char *why_not(void)
{
#ifndef SB_EH_FRAME
	return "built with EH_FRAME=no; instead: frame pointers";
#else
	return kernel_has_task_regs() ? NULL : "this kernel has no bpf_task_pt_regs (5.15); instead: frame pointers";
#endif
}

void unwind_choose(const struct probes_options *o, struct sb_config *cfg)
{
	cfg->user_unwind = o->user_unwind;
	if (o->user_unwind == SB_USER_UNWIND_EH_FRAME && why_not())
		cfg->user_unwind = SB_USER_UNWIND_FP;
	if (cfg->user_unwind == SB_USER_UNWIND_EH_FRAME)
		cfg->unwind_slots = choose_slots(o->unwind_bytes);
}

void unwind_note_missing(struct probes *p, const struct probes_options *o)
{
	if (o->user_unwind == SB_USER_UNWIND_EH_FRAME && p->cfg.user_unwind != SB_USER_UNWIND_EH_FRAME)
		probes_add_missing(p, MISSING, why_not());
}

static size_t bytes_of(size_t i)
{
	return probes_page_up((size_t)unwind_maps[i].entries * unwind_maps[i].size);
}

size_t unwind_bytes(const struct sb_config *cfg)
{
	size_t n = 0;

	for (size_t i = 0; i < PROBES_UNWIND_MAPS_COUNT && cfg->user_unwind == SB_USER_UNWIND_EH_FRAME; i++)
		n += bytes_of(i);
	return n;
}

static int new_piece(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);

	return bpf_map_create(BPF_MAP_TYPE_ARRAY, "unwind_piece", sizeof(uint32_t), sizeof(uint64_t), SB_UNWIND_PIECE_SLOTS,
			      &opts);
}

int unwind_set_size(struct bpf_map *m, const struct sb_config *cfg, int *model_fd)
{
	/* Whatever may come into it has to be like the model, which it is not given itself. */
	if (!strcmp(bpf_map__name(m), "unwind_slots") && *model_fd < 0) {
		*model_fd = new_piece();
		if (*model_fd < 0 || bpf_map__set_inner_map_fd(m, *model_fd) < 0)
			return -errno;
	}
	for (size_t i = 0; i < PROBES_UNWIND_MAPS_COUNT && cfg->user_unwind == SB_USER_UNWIND_EH_FRAME; i++) {
		if (!strcmp(bpf_map__name(m), unwind_maps[i].name))
			return bpf_map__set_max_entries(m, unwind_maps[i].entries);
	}
	return 0;
}

void *probes_reserve_unwind(const struct probes *p)
{
	int fd = p->unwind_fd[PROBES_UNWIND_SLOTS];
	void *at;

	if (fd < 0)
		return NULL;
	/* Of an agent that has ended; nothing refers to what is in them any more. */
	for (uint32_t i = 0; i < SB_UNWIND_PIECES; i++)
		(void)bpf_map_delete_elem(fd, &i);
	at = mmap(NULL, SB_UNWIND_PIECES * PIECE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

int probes_grow_unwind(const struct probes *p, void *slots, uint32_t i)
{
	_cleanup_close_ int fd = new_piece();
	void *at = (uint8_t *)slots + i * PIECE_BYTES;

	if (fd < 0)
		return -errno;
	if (mmap(at, PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    bpf_map_update_elem(p->unwind_fd[PROBES_UNWIND_SLOTS], &i, &fd, BPF_ANY) < 0)
		return -errno;
	return 0;
}

void *probes_map_unwind(const struct probes *p, enum probes_unwind_map which)
{
	if (p->unwind_fd[which] < 0)
		return NULL;
	return probes_map(p->unwind_fd[which], bytes_of(which), PROT_READ | PROT_WRITE);
}

int unwind_keep(struct probes *p, const struct bpf_object *obj)
{
	int r = 0;

	if (p->cfg.user_unwind != SB_USER_UNWIND_EH_FRAME)
		return 0;
	for (size_t i = 0; i < PROBES_UNWIND_MAPS_COUNT && r == 0; i++) {
		if (obj) {
			p->unwind_fd[i] = dup(bpf_object__find_map_fd_by_name(obj, unwind_maps[i].name));
			r = p->unwind_fd[i] < 0 ? -ENOENT : pins_put(p, unwind_maps[i].name, p->unwind_fd[i]);
		} else {
			p->unwind_fd[i] = pins_get(p, unwind_maps[i].name);
			r = p->unwind_fd[i] < 0 ? -ENOENT : 0;
		}
	}
	return r;
}

void unwind_close(struct probes *p)
{
	for (size_t i = 0; i < PROBES_UNWIND_MAPS_COUNT; i++) {
		if (p->unwind_fd[i] >= 0)
			close(p->unwind_fd[i]);
		p->unwind_fd[i] = -1;
	}
}
