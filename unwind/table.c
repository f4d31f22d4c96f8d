// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>

#include "unwind/table.h"

/* Rules of one file; the most that one of 2,800 files of Debian has is 885. A hostile file can make
 * rules that share a hash: MAX_PROBES is what each one of these may cost. */
#define MAX_RULES 16384u
#define HASH_SLOTS (4 * MAX_RULES)
#define MAX_PROBES 64u
/* Functions are aligned to 16: less between them is padding, which nobody executes. */
#define MAX_PADDING 16u

enum {
	RULE_NONE = 0, /* no function */
	RULE_UNSUPPORTED = 1,
	RULE_FIRST = 2,
};

struct builder {
	const struct unwind_limits *limits;
	struct cfi_counts *counts;
	struct sb_unwind_rule *rules;
	uint32_t n_rules, cap_rules;
	uint16_t *hash; /* index plus one */
	struct sb_unwind_row *rows;
	size_t n_rows, cap_rows;
	uint64_t base;
	uint64_t delta;	   /* of the segment: address plus delta is the offset from the base */
	uint64_t last_end; /* offset from the base; nothing before it is free */
	struct sb_unwind_rule last_rule;
	uint32_t last_rule_idx;
};

static void builder_done(struct builder *b)
{
	free(b->rules);
	free(b->hash);
	free(b->rows);
}

static int append_rule(struct builder *b, const struct sb_unwind_rule *rule)
{
	if (b->n_rules == b->cap_rules) {
		uint32_t more = b->n_rules ? 2 * b->n_rules : 128;
		void *p = realloc(b->rules, more * sizeof(*b->rules));

		if (!p)
			return -ENOMEM;
		b->rules = p;
		b->cap_rules = more;
	}
	b->rules[b->n_rules++] = *rule;
	return 0;
}

static int builder_init(struct builder *b)
{
	static const struct sb_unwind_rule fixed[RULE_FIRST] = {
		[RULE_NONE] = { .cfa = SB_CFA_NONE },
		[RULE_UNSUPPORTED] = { .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_LOST << 4 },
	};

	b->hash = calloc(HASH_SLOTS, sizeof(*b->hash));
	if (!b->hash)
		return -ENOMEM;
	for (unsigned int i = 0; i < RULE_FIRST; i++) {
		int r = append_rule(b, &fixed[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t hash_rule(const struct sb_unwind_rule *rule)
{
	uint64_t half[2];

	memcpy(half, rule, sizeof(half));
	return sb_mix64(half[0] ^ sb_mix64(half[1]));
}

/* A rule that finds no place becomes one that cannot be followed. */
static int intern_rule(struct builder *b, const struct sb_unwind_rule *rule, uint32_t *ret)
{
	uint64_t h = hash_rule(rule);
	int r;

	for (unsigned int i = 0; i < MAX_PROBES; i++) {
		uint16_t *slot = &b->hash[(h + i) % HASH_SLOTS];

		if (*slot && !memcmp(&b->rules[*slot - 1], rule, sizeof(*rule))) {
			*ret = *slot - 1;
			return 0;
		}
		if (*slot)
			continue;
		if (b->n_rules == MAX_RULES)
			break;
		*ret = b->n_rules;
		r = append_rule(b, rule);
		if (r == 0)
			*slot = (uint16_t)b->n_rules;
		return r;
	}
	b->counts->unsupported++;
	*ret = RULE_UNSUPPORTED;
	return 0;
}

/* pc: at most UINT32_MAX, as every function's end that was taken. */
static int append_row(struct builder *b, uint64_t pc, uint32_t rule)
{
	if (b->n_rows && b->rows[b->n_rows - 1].rule == rule)
		return 0;
	/* One row stays free, for the end. */
	if (b->n_rows + 1 >= b->limits->max_rows)
		return -E2BIG;
	if (b->n_rows + 1 >= b->cap_rows) {
		size_t more = b->cap_rows ? 2 * b->cap_rows : 1024;
		void *p = realloc(b->rows, more * sizeof(*b->rows));

		if (!p)
			return -ENOMEM;
		b->rows = p;
		b->cap_rows = more;
	}
	b->rows[b->n_rows++] = (struct sb_unwind_row){ .pc = (uint32_t)pc, .rule = rule };
	return 0;
}

static int take_row(void *ctx, uint64_t addr, const struct sb_unwind_rule *rule)
{
	struct builder *b = ctx;

	if (!b->last_rule_idx || memcmp(rule, &b->last_rule, sizeof(*rule))) {
		int r = intern_rule(b, rule, &b->last_rule_idx);

		if (r < 0)
			return r;
		b->last_rule = *rule;
	}
	return append_row(b, addr + b->delta, b->last_rule_idx);
}

/* What lies before start belongs to nobody, unless it is padding. */
static int close_gap(struct builder *b, uint64_t start)
{
	if (!b->n_rows)
		return 0;
	if (start - b->last_end < MAX_PADDING && !((start + b->base) & (MAX_PADDING - 1)))
		return 0;
	return start == b->last_end ? 0 : append_row(b, b->last_end, RULE_NONE);
}

/* Takes back what a bad FDE left. Returns 0 where the next one may be better. */
static int undo(struct builder *b, size_t n_rows, int why)
{
	b->n_rows = n_rows;
	if (why == -EBADMSG)
		return 0;
	if (why != -E2BIG)
		return why;
	b->counts->bad[CFI_BAD_LIMIT]++;
	return 0;
}

static int add_function(struct builder *b, struct cfi *cfi, size_t i)
{
	size_t n_rows = b->n_rows;
	uint64_t start, end;
	int r;

	cfi_function(cfi, i, &start, &end);
	start += b->delta;
	end += b->delta;
	if (start < b->last_end || end > UINT32_MAX) {
		b->counts->bad[start < b->last_end ? CFI_BAD_OVERLAP : CFI_BAD_RANGE]++;
		return 0;
	}
	r = close_gap(b, start);
	if (r == 0)
		r = cfi_run(cfi, i, take_row, b, b->counts);
	if (r < 0)
		return undo(b, n_rows, r);
	b->last_end = end;
	return 0;
}

static int add_mark(struct builder *b, enum cfi_machine machine, const struct unwind_mark *m)
{
	const struct sb_unwind_rule mark_rule = unwind_mark_rule(machine, m);
	uint64_t start = m->offset - b->base, end = start + m->size;
	size_t n_rows = b->n_rows;
	uint32_t rule;
	int r;

	if (!m->size || start < b->last_end || end > UINT32_MAX)
		return 0;
	r = close_gap(b, start);
	if (r == 0)
		r = intern_rule(b, &mark_rule, &rule);
	if (r == 0)
		r = append_row(b, start, rule);
	if (r < 0)
		return undo(b, n_rows, r);
	b->last_end = end;
	return 0;
}

/* First function that starts at or behind an address. */
static size_t first_from(const struct cfi *cfi, uint64_t addr)
{
	size_t lo = 0, hi = cfi_functions(cfi);
	uint64_t start, end;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		cfi_function(cfi, mid, &start, &end);
		if (start < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Marks of the segment that begin before an offset and were not added yet. */
static int add_marks(struct builder *b, const struct unwind_image *image,
		     const struct unwind_segment *s, uint64_t before, size_t *next)
{
	int r = 0;

	for (; r == 0 && *next < image->n_marks && image->marks[*next].offset < before; ++*next) {
		if (image->marks[*next].offset >= s->offset)
			r = add_mark(b, image->machine, &image->marks[*next]);
	}
	return r;
}

static int add_segment(struct builder *b, struct cfi *cfi, const struct unwind_image *image,
		       const struct unwind_segment *s, size_t *placed)
{
	uint64_t start, end;
	size_t mark = 0;
	int r = 0;

	b->delta = s->offset - s->addr - b->base;
	for (size_t i = cfi ? first_from(cfi, s->addr) : 0; cfi && r == 0 && i < cfi_functions(cfi);
	     i++) {
		cfi_function(cfi, i, &start, &end);
		if (start - s->addr >= s->size)
			break;
		if (end - s->addr > s->size)
			continue;
		r = add_marks(b, image, s, start + b->delta + b->base, &mark);
		if (r == 0)
			r = add_function(b, cfi, i);
		++*placed;
	}
	return r == 0 ? add_marks(b, image, s, s->offset + s->size, &mark) : r;
}

static int finish(struct builder *b, struct unwind_rows *ret)
{
	size_t rule_slots = (size_t)b->n_rules * SB_UNWIND_RULE_SLOTS;
	uint64_t *slots;

	if (!b->n_rows) {
		*ret = (struct unwind_rows){};
		return 0;
	}
	/* The end always has room. */
	if (b->rows[b->n_rows - 1].rule != RULE_NONE)
		b->rows[b->n_rows++] =
			(struct sb_unwind_row){ .pc = (uint32_t)b->last_end, .rule = RULE_NONE };
	slots = malloc((rule_slots + b->n_rows) * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memcpy(slots, b->rules, rule_slots * sizeof(*slots));
	memcpy(slots + rule_slots, b->rows, b->n_rows * sizeof(*slots));
	*ret = (struct unwind_rows){ .slots = slots,
				     .base = b->base,
				     .n_rules = b->n_rules,
				     .n_rows = (uint32_t)b->n_rows };
	return 0;
}

static int open_cfi(const struct unwind_image *image, const struct unwind_limits *limits,
		    struct cfi_counts *counts, struct cfi **ret)
{
	struct cfi_section section = {
		.data = image->eh_frame,
		.len = image->eh_frame_len,
		.addr = image->eh_frame_addr,
		.machine = image->machine,
		.to_its_end = image->eh_frame_to_its_end,
	};

	return image->eh_frame ? cfi_open(&section, &limits->cfi, counts, ret) : 0;
}

int unwind_rows_build(const struct unwind_image *image, const struct unwind_limits *limits,
		      struct cfi_counts *counts, struct unwind_rows *ret)
{
	SB_CLEANUP(builder_done) struct builder b = { .limits = limits, .counts = counts };
	SB_CLEANUP(cfi_freep) struct cfi *cfi = NULL;
	size_t placed = 0;
	int r = builder_init(&b);

	if (r == 0)
		r = open_cfi(image, limits, counts, &cfi);
	b.base = image->n_code ? image->code[0].offset : 0;
	for (size_t i = 0; r == 0 && i < image->n_code; i++)
		r = add_segment(&b, cfi, image, &image->code[i], &placed);
	if (r < 0)
		return r;
	if (cfi && placed < cfi_functions(cfi))
		counts->bad[CFI_BAD_RANGE] += cfi_functions(cfi) - placed;
	return finish(&b, ret);
}

void unwind_rows_done(struct unwind_rows *rows)
{
	free(rows->slots);
	memset(rows, 0, sizeof(*rows));
}

struct sb_unwind_rule unwind_rows_find(const struct unwind_rows *rows, uint64_t offset)
{
	const struct sb_unwind_rule *rules = (const struct sb_unwind_rule *)rows->slots;
	const struct sb_unwind_row *row =
		(const struct sb_unwind_row *)(rows->slots +
					       (size_t)rows->n_rules * SB_UNWIND_RULE_SLOTS);
	size_t lo = 0, hi = rows->n_rows;

	if (offset < rows->base || offset - rows->base > UINT32_MAX)
		return (struct sb_unwind_rule){};
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (row[mid].pc <= offset - rows->base)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? rules[row[lo - 1].rule] : (struct sb_unwind_rule){};
}

/* ---- functions ------------------------------------------------------------------------ */

struct unwind_functions {
	size_t n;
	struct {
		uint64_t start, end;
	} f[];
};

static int by_start(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int unwind_functions_build(const struct unwind_image *image, const struct unwind_limits *limits,
			   struct unwind_functions **ret)
{
	SB_CLEANUP(cfi_freep) struct cfi *cfi = NULL;
	struct unwind_functions *fn;
	struct cfi_counts counts = {};
	int r = open_cfi(image, limits, &counts, &cfi);
	size_t n;

	if (r < 0)
		return r;
	n = cfi ? cfi_functions(cfi) : 0;
	fn = malloc(sizeof(*fn) + n * sizeof(fn->f[0]));
	if (!fn)
		return -ENOMEM;
	fn->n = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t start, end, offset;

		cfi_function(cfi, i, &start, &end);
		if (unwind_image_offset(image, start, &offset) < 0)
			continue;
		fn->f[fn->n].start = offset;
		fn->f[fn->n++].end =
			end - start > UINT64_MAX - offset ? UINT64_MAX : offset + (end - start);
	}
	qsort(fn->f, fn->n, sizeof(fn->f[0]), by_start);
	*ret = fn;
	return 0;
}

int unwind_functions_find(const struct unwind_functions *fn, uint64_t offset, uint64_t *ret)
{
	size_t lo = 0, hi = fn->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (fn->f[mid].start <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || offset >= fn->f[lo - 1].end)
		return -ENOENT;
	*ret = fn->f[lo - 1].start;
	return 0;
}

void unwind_functions_free(struct unwind_functions *fn)
{
	free(fn);
}
