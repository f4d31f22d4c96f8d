// SPDX-License-Identifier: BSD-2-Clause
/* What is asked of an open bundle: its tables by id, its counts, names of addresses. */
#include "format/reader_impl.h"

uint64_t reader_symbol_key(uint32_t binary, uint64_t addr)
{
	return sb_mix64(addr + 0x9E3779B97F4A7C15ULL * ((uint64_t)binary + 1)) | 1;
}

const struct bundle_header *bundle_header(const struct bundle *b)
{
	return b->have_header ? &b->header : NULL;
}

const struct bundle_footer *bundle_footer(const struct bundle *b)
{
	return b->have_footer ? &b->footer : NULL;
}

const struct bundle_damage *bundle_damage(const struct bundle *b)
{
	return &b->damage;
}

uint32_t bundle_n_threads(const struct bundle *b)
{
	return b->n_threads;
}

uint32_t bundle_n_processes(const struct bundle *b)
{
	return b->n_processes;
}

uint32_t bundle_n_stacks(const struct bundle *b)
{
	return b->n_stacks;
}

uint32_t bundle_n_cgroups(const struct bundle *b)
{
	return b->n_cgroups;
}

uint32_t bundle_n_binaries(const struct bundle *b)
{
	return b->n_binaries;
}

const struct bundle_thread *bundle_thread(const struct bundle *b, uint32_t id)
{
	static const struct bundle_thread none = { .comm = "" };

	return id && id <= b->n_threads && b->threads[id - 1].comm ? &b->threads[id - 1] : &none;
}

const struct bundle_process *bundle_process(const struct bundle *b, uint32_t id)
{
	static const struct bundle_process none = { .comm = "", .exe = "", .cmdline = "" };

	return id && id <= b->n_processes && b->processes[id - 1].comm ? &b->processes[id - 1] : &none;
}

const struct bundle_stack *bundle_stack(const struct bundle *b, uint32_t id)
{
	/* Same fields in another order: handed out by value through one slot per caller. */
	static _Thread_local struct bundle_stack slot[4];
	static _Thread_local unsigned int next;
	struct bundle_stack *s = &slot[next++ & 3];

	*s = (struct bundle_stack){};
	if (id && id <= b->n_stacks) {
		const struct stack_entry *e = &b->stacks[id - 1];

		*s = (struct bundle_stack){ e->addr, e->n, e->process, e->unwind };
	}
	return s;
}

const char *bundle_cgroup_path(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_cgroups ? bundle_string(b, b->cgroups[id - 1].path) : "";
}

uint64_t bundle_cgroup_kernel_id(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_cgroups ? b->cgroups[id - 1].kernel_id : 0;
}

const char *bundle_binary_path(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_binaries && b->binaries[id - 1].path ? b->binaries[id - 1].path : "";
}

size_t bundle_binary_build_id(const struct bundle *b, uint32_t id, const uint8_t **ret)
{
	if (!id || id > b->n_binaries)
		return 0;
	*ret = b->binaries[id - 1].build_id;
	return b->binaries[id - 1].build_id_len;
}

bool bundle_locate(const struct bundle *b, uint32_t process, uint64_t addr, uint32_t *ret_binary, uint64_t *ret_offset)
{
	const struct bundle_process *p = bundle_process(b, process);

	for (size_t i = 0; i < p->n_maps; i++) {
		const struct bundle_mapping *m = &p->maps[i];

		if (addr < m->start || addr - m->start >= m->len || !m->binary)
			continue;
		*ret_binary = m->binary;
		*ret_offset = addr - m->start + m->pgoff;
		return true;
	}
	return false;
}

uint32_t bundle_next_chunk(const struct bundle *b)
{
	return b->next_seq;
}

uint32_t bundle_n_strings(const struct bundle *b)
{
	return b->n_strings;
}

const char *bundle_symbolize(const struct bundle *b, uint32_t process, uint64_t addr,
			     const char **ret_module, uint64_t *ret_offset)
{
	const struct bundle_symbol *s;
	uint32_t binary = 0;

	*ret_module = NULL;
	*ret_offset = addr;
	if (process) {
		if (!bundle_locate(b, process, addr, &binary, ret_offset))
			return NULL;
		*ret_module = bundle_binary_path(b, binary);
	}
	s = (const void *)(uintptr_t)map64_get(&b->symbols, reader_symbol_key(binary, *ret_offset));
	if (!s || s->addr != *ret_offset)
		return NULL;
	if (!process && s->module[0])
		*ret_module = s->module;
	/* Only where its function begins is known. */
	if (!s->name[0]) {
		*ret_offset = s->sym_start;
		return NULL;
	}
	*ret_offset -= s->sym_start;
	return s->name;
}

size_t bundle_lines(const struct bundle *b, uint32_t process, uint64_t addr, const struct bundle_line **ret)
{
	const struct line_entry *e;
	uint32_t binary;
	uint64_t offset;

	if (!b->lines.n || !process || !bundle_locate(b, process, addr, &binary, &offset))
		return 0;
	e = (const void *)(uintptr_t)map64_get(&b->lines, reader_symbol_key(binary, offset));
	if (!e || e->addr != offset || e->binary != binary)
		return 0;
	*ret = e->line;
	return e->n;
}

const char *bundle_string(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_strings && b->strings[id - 1] ? b->strings[id - 1] : "";
}

uint64_t bundle_losses_since_ns(const struct bundle *b)
{
	return b->losses_since_ns;
}

size_t bundle_losses(const struct bundle *b, const struct bundle_loss **ret)
{
	*ret = b->losses;
	return b->n_losses;
}

size_t bundle_marks(const struct bundle *b, const struct bundle_mark **ret)
{
	*ret = b->marks;
	return b->n_marks;
}

size_t bundle_series(const struct bundle *b, const struct bundle_series **ret)
{
	*ret = b->series;
	return b->n_series;
}

const struct bundle_cost *bundle_cost(const struct bundle *b)
{
	return b->have_cost ? &b->cost : NULL;
}

size_t bundle_stackshot(const struct bundle *b, const struct bundle_shot_thread **ret,
			uint64_t *ret_begin_ns, uint64_t *ret_end_ns, uint64_t *ret_seen,
			uint64_t *ret_truncated)
{
	*ret = b->shot;
	*ret_begin_ns = b->shot_begin_ns;
	*ret_end_ns = b->shot_end_ns;
	*ret_seen = b->shot_seen;
	*ret_truncated = b->shot_truncated;
	return b->n_shot;
}

uint64_t bundle_n_events(const struct bundle *b, enum bundle_kind kind)
{
	return (unsigned int)kind < BUNDLE_KIND_COUNT ? b->n_events[kind] : 0;
}

uint64_t bundle_first_ns(const struct bundle *b)
{
	return b->first_ns;
}

uint64_t bundle_last_ns(const struct bundle *b)
{
	return b->last_ns;
}
