// SPDX-License-Identifier: BSD-2-Clause
#include "tools/names.h"

#include "tools/demangle.h"

#include <stdio.h>

void names_init(struct names *n, const struct bundle *b)
{
	memset(n, 0, sizeof(*n));
	n->b = b;
}

void names_done(struct names *n)
{
	for (uint32_t i = 0; i < n->n; i++)
		free(n->list[i].text);
	free(n->list);
	map64_done(&n->frame);
	map64_done(&n->by_name);
}

uint32_t names_text(struct names *n, const char *text, enum frame_class class)
{
	uint64_t key = (sb_hash_bytes(text, strlen(text)) ^ sb_mix64((uint64_t)class + 1)) | 1;
	uint32_t id = (uint32_t)map64_get(&n->by_name, key);

	if (id)
		return id;
	if (n->n == n->cap) {
		uint32_t cap = n->cap ? n->cap * 2 : 1024;
		void *bigger = realloc(n->list, cap * sizeof(*n->list));

		if (!bigger)
			return 0;
		n->list = bigger;
		n->cap = cap;
	}
	n->list[n->n].text = strdup(text);
	n->list[n->n].class = class;
	if (!n->list[n->n].text || map64_put(&n->by_name, key, n->n + 1) < 0)
		return 0;
	return ++n->n;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

/* Code made at run time: perf maps, jit dumps, memory without a file, BPF programs. */
static bool is_jit(uint32_t process, const char *name, const char *module)
{
	const char *file = module ? base_name(module) : "";
	size_t n = strlen(file);

	if (!process)
		return name && !strncmp(name, "bpf_prog_", 9);
	return (!strncmp(file, "perf-", 5) && n > 4 && !strcmp(file + n - 4, ".map")) ||
	       !strncmp(file, "jit-", 4) || !strncmp(file, "jitted-", 7) || !strcmp(file, "[jit]") ||
	       !strncmp(file, "[anon", 5) || (module && !strncmp(module, "//anon", 6));
}

/* With its source line, where that is asked for. */
static uint32_t names_at(struct names *n, const char *name, const struct bundle_line *line, enum frame_class class)
{
	char *readable = demangle(name), *text = NULL;
	uint32_t id;

	if (n->lines && line && line->file[0] &&
	    asprintf(&text, "%s %s:%u", readable ? readable : name, base_name(line->file), line->line) < 0)
		text = NULL;
	id = names_text(n, text ? text : readable ? readable : name, class);
	free(text);
	free(readable);
	return id;
}

static uint32_t look_up(struct names *n, uint32_t process, uint64_t addr)
{
	const struct bundle_line *line;
	const char *module, *name;
	size_t n_lines = n->lines ? bundle_lines(n->b, process, addr, &line) : 0;
	uint64_t offset;
	char text[512];
	bool jit;

	name = bundle_symbolize(n->b, process, addr, &module, &offset);
	jit = is_jit(process, name, module);
	if (name)
		return names_at(n, name, n_lines ? &line[n_lines - 1] : NULL,
				jit ? FRAME_JIT : process ? FRAME_USER : FRAME_KERNEL);
	if (module && *module)
		snprintf(text, sizeof(text), "%s+0x%llx", base_name(module),
			 (unsigned long long)offset);
	else if (process)
		strcpy(text, "[unknown]");
	else
		snprintf(text, sizeof(text), "0x%llx", (unsigned long long)addr);
	return names_text(n, text, jit ? FRAME_JIT : !process ? FRAME_KERNEL : module && *module ? FRAME_USER :
				   FRAME_UNKNOWN);
}

uint32_t names_frame(struct names *n, uint32_t process, uint64_t addr)
{
	uint64_t key = sb_mix64(addr + ((uint64_t)process << 40) * 0x9E3779B97F4A7C15ULL) | 1;
	uint32_t id = (uint32_t)map64_get(&n->frame, key);

	if (id)
		return id;
	id = look_up(n, process, addr);
	map64_put(&n->frame, key, id);
	return id;
}

uint32_t names_frames(struct names *n, uint32_t process, uint64_t addr, uint32_t *ret, uint32_t max)
{
	const struct bundle_line *line;
	size_t have = bundle_lines(n->b, process, addr, &line), first = 0;
	uint32_t k = 0;

	if (!max)
		return 0;
	max = SB_MIN(max, NAMES_INLINED);
	if (have > max)
		first = have - max;
	for (size_t i = first; i + 1 < have; i++)
		ret[k++] = names_at(n, line[i].name, &line[i], FRAME_USER);
	ret[k++] = names_frame(n, process, addr);
	return k;
}

bool names_is_own(const char *name)
{
	return !strncmp(name, "bpf_prog_", 9) || !strncmp(name, "bpf_trace_run", 13) ||
	       !strncmp(name, "__bpf_trace_", 12) || !strncmp(name, "__traceiter_", 12) ||
	       !strncmp(name, "bpf_trampoline_", 15);
}

uint32_t names_leaf_first(struct names *n, uint32_t stack, uint32_t *ret, uint32_t max)
{
	const struct bundle_stack *s = bundle_stack(n->b, stack);
	uint32_t k = 0;

	for (uint32_t i = 0; i < s->n && k < max; i++) {
		/* Every address has its function. */
		uint32_t left = s->n - i - 1, room = max - k > left ? max - k - left : 1;

		k += names_frames(n, s->process, s->addr[i], &ret[k], room);
		if (k == 1 && !s->process && names_is_own(names_get(n, ret[0])))
			k = 0;
	}
	return k;
}
