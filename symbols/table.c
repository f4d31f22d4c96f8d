// SPDX-License-Identifier: BSD-2-Clause
/* The symbol table: starts in one array for the search, the rest beside it, one name arena. */
#include "symbols/table.h"

#include <errno.h>
#include <sys/mman.h>

#define NO_PARENT UINT32_MAX

/* Functions nest two or three deep (cold parts, assembler labels); a file that claims more
 * must not turn a look-up into a walk over millions of entries. */
#define MAX_NESTING 64

/* A name arena is addressed by 32 bits and belongs to one file. */
#define NAMES_MAX_BYTES (256u << 20)

struct symbol_info {
	uint32_t len;
	uint32_t name;
	uint32_t module;
	uint32_t parent; /* the nearest symbol before this one that ends after it */
};

struct symbols {
	uint64_t *starts;
	struct symbol_info *infos;
	size_t cnt;
	char *names;
	size_t names_len;
	void *shared; /* all of the above, or NULL: each by itself */
	size_t shared_len;
};

void symbol_builder_done(struct symbol_builder *b)
{
	free(b->entries);
	free(b->names);
	*b = (struct symbol_builder){ 0 };
}

int symbol_builder_add(struct symbol_builder *b, const struct symbol_entry *e)
{
	if (b->cnt >= SYMBOLS_MAX_ENTRIES)
		return -E2BIG;
	if (b->cnt == b->cap) {
		size_t cap = b->cap ? b->cap + b->cap / 2 : 1024;
		struct symbol_entry *p = reallocarray(b->entries, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		b->entries = p;
		b->cap = cap;
	}
	b->entries[b->cnt++] = *e;
	return 0;
}

int symbol_builder_name(struct symbol_builder *b, const char *name, size_t len, uint32_t *ret)
{
	if (len >= NAMES_MAX_BYTES - b->names_len)
		return -E2BIG;
	if (b->names_len + len + 1 > b->names_cap) {
		size_t cap = SB_MAX(b->names_cap + b->names_cap / 2, b->names_len + len + 4096);
		char *p = realloc(b->names, cap);

		if (!p)
			return -ENOMEM;
		b->names = p;
		b->names_cap = cap;
	}
	memcpy(b->names + b->names_len, name, len);
	b->names[b->names_len + len] = '\0';
	*ret = (uint32_t)b->names_len;
	b->names_len += len + 1;
	return 0;
}

uint8_t symbol_rank_underscores(const char *name)
{
	uint8_t n = 0;

	while (n < 3 && name[n] == '_')
		n++;
	return 3 - n;
}

static int compare_start(const void *a, const void *b)
{
	const struct symbol_entry *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static void sort_entries(struct symbol_builder *b)
{
	for (size_t i = 1; i < b->cnt; i++) {
		if (b->entries[i - 1].start > b->entries[i].start) {
			qsort(b->entries, b->cnt, sizeof(b->entries[0]), compare_start);
			return;
		}
	}
}

/* The rank, then the shorter name, then the alphabet: the same answer in every order. */
static bool better_name(const char *names, const struct symbol_entry *a,
			const struct symbol_entry *b)
{
	const char *x = names + a->name, *y = names + b->name;
	size_t nx, ny;

	if ((a->flags ^ b->flags) & SYMBOL_EDGE)
		return b->flags & SYMBOL_EDGE;
	if (a->rank != b->rank || (a->flags & SYMBOL_EDGE))
		return a->rank > b->rank;
	nx = strlen(x);
	ny = strlen(y);
	if (nx != ny)
		return nx < ny;
	return strcmp(x, y) < 0;
}

/* Folds the symbols at one address, [from, to), into one: best name, largest known size. An edge
 * has no size and takes none away. */
static struct symbol_entry merge_group(const struct symbol_builder *b, size_t from, size_t to)
{
	struct symbol_entry best = b->entries[from];
	bool sized = false, stop = false;
	uint32_t len = 0;

	for (size_t i = from; i < to; i++) {
		const struct symbol_entry *e = &b->entries[i];
		bool e_sized = !(e->flags & SYMBOL_OPEN);

		stop |= (e->flags & SYMBOL_STOP) != 0;
		if (e->flags & SYMBOL_EDGE)
			continue;
		if (better_name(b->names, e, &best))
			best = *e;
		if (e_sized > sized || (e_sized == sized && e->len > len))
			len = e->len;
		sized |= e_sized;
	}
	best.len = len;
	best.flags = (best.flags & SYMBOL_EDGE) | (sized ? 0 : SYMBOL_OPEN) |
		     (stop ? SYMBOL_EDGE : 0);
	return best;
}

static void close_open(struct symbol_entry *e, uint64_t next_start)
{
	if ((e->flags & SYMBOL_OPEN) && next_start - e->start < e->len)
		e->len = (uint32_t)(next_start - e->start);
}

/* One symbol per address, open ends closed, edges gone; in place. */
static void squeeze(struct symbol_builder *b)
{
	size_t out = 0;

	for (size_t i = 0; i < b->cnt;) {
		size_t next = i + 1;
		struct symbol_entry e;

		while (next < b->cnt && b->entries[next].start == b->entries[i].start)
			next++;
		e = merge_group(b, i, next);
		if (next < b->cnt)
			close_open(&e, b->entries[next].start);
		if (!(e.flags & SYMBOL_EDGE) && e.len > 0)
			b->entries[out++] = e;
		i = next;
	}
	b->cnt = out;
}

static uint64_t info_end(const struct symbols *s, uint32_t i)
{
	return s->starts[i] + s->infos[i].len;
}

/* Every step drops an entry that no later one needs: linear, although it nests. */
static uint32_t find_parent(const struct symbols *s, uint32_t i)
{
	uint32_t p = i ? i - 1 : NO_PARENT;

	while (p != NO_PARENT && info_end(s, p) <= info_end(s, i))
		p = s->infos[p].parent;
	return p;
}

static void fill(struct symbols *s, const struct symbol_builder *b)
{
	for (uint32_t i = 0; i < b->cnt; i++) {
		const struct symbol_entry *e = &b->entries[i];
		/* The last address of the address space stays unnamed: ends fit in 64 bits. */
		uint64_t room = UINT64_MAX - e->start;

		s->starts[i] = e->start;
		s->infos[i] = (struct symbol_info){
			.len = (uint32_t)SB_MIN(e->len, room),
			.name = e->name,
			.module = e->module,
		};
		s->infos[i].parent = find_parent(s, i);
	}
	s->cnt = b->cnt;
}

/* Gives back what growing by halves left over. */
static void shrink_names(struct symbols *s, const struct symbol_builder *b)
{
	char *p;

	if (b->names_cap <= b->names_len)
		return;
	p = realloc(s->names, b->names_len);
	if (p)
		s->names = p;
}

int symbol_builder_finish(struct symbol_builder *b, struct symbols **ret)
{
	SB_CLEANUP(symbols_freep) struct symbols *s = NULL;

	sort_entries(b);
	squeeze(b);
	if (b->cnt == 0)
		return -ENODATA;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->starts = reallocarray(NULL, b->cnt, sizeof(s->starts[0]));
	s->infos = reallocarray(NULL, b->cnt, sizeof(s->infos[0]));
	if (!s->starts || !s->infos)
		return -ENOMEM;
	fill(s, b);
	s->names = TAKE_PTR(b->names);
	s->names_len = b->names_len;
	shrink_names(s, b);
	*ret = TAKE_PTR(s);
	return 0;
}

/* The last symbol that starts at or before addr, or cnt. */
static size_t find_start(const struct symbols *s, uint64_t addr)
{
	const uint64_t *base = s->starts;
	size_t n = s->cnt;

	if (n == 0 || addr < base[0])
		return s->cnt;
	while (n > 1) {
		size_t half = n / 2;

		/* Written so that it compiles to a conditional move: the branch is a coin toss. */
		base = base[half] <= addr ? base + half : base;
		n -= half;
	}
	return (size_t)(base - s->starts);
}

int symbols_find(const struct symbols *s, uint64_t addr, struct symbol *ret)
{
	size_t i = find_start(s, addr);

	if (i == s->cnt)
		return -ENOENT;
	for (int depth = 0; depth < MAX_NESTING && i != NO_PARENT; depth++) {
		const struct symbol_info *info = &s->infos[i];

		if (addr - s->starts[i] < info->len) {
			ret->name = s->names + info->name;
			ret->module = info->module ? s->names + info->module : "";
			ret->start = s->starts[i];
			return 0;
		}
		i = info->parent;
	}
	return -ENOENT;
}

static void free_arrays(struct symbols *s)
{
	if (s->shared) {
		munmap(s->shared, s->shared_len);
		return;
	}
	free(s->starts);
	free(s->infos);
	free(s->names);
}

ssize_t symbols_share(struct symbols *s)
{
	size_t starts = s->cnt * sizeof(s->starts[0]), infos = s->cnt * sizeof(s->infos[0]);
	size_t len = starts + infos + s->names_len;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	memcpy(p, s->starts, starts);
	memcpy(p + starts, s->infos, infos);
	memcpy(p + starts + infos, s->names, s->names_len);
	mprotect(p, len, PROT_READ);
	free_arrays(s);
	s->shared = p;
	s->shared_len = len;
	s->starts = (uint64_t *)p;
	s->infos = (struct symbol_info *)(p + starts);
	s->names = p + starts + infos;
	return (ssize_t)len;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	free_arrays(s);
	free(s);
}
