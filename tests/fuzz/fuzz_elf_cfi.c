// SPDX-License-Identifier: BSD-2-Clause
/*
 * Anything at all as an ELF file, or as a bare .eh_frame: rows are built, looked up and walked with.
 * A bare one begins with a byte: bit 0 arm64, bit 1 the section's end is known. Behind 0x80 stands a table of
 * Go's functions, whose bytes are the code, too; behind 0x81 symbols in the first half and their names in the other.
 */
#include "tests/fuzz/target.h"
#include "unwind/cache.h"
#include "unwind/go.h"

static struct {
	struct sb_unwind_map map;
	struct sb_unwind_table table;
	const uint64_t *slots;
	size_t n_slots;
	const uint8_t *stack;
	size_t stack_len;
} world;

#define STACK 0x10000u

static const struct sb_unwind_map *sb_unwind_map_at(__u32 index)
{
	return index ? NULL : &world.map;
}

static struct sb_unwind_table *sb_unwind_table_at(__u32 index)
{
	return index ? NULL : &world.table;
}

static bool sb_unwind_slot_at(__u32 index, __u64 *ret)
{
	if (index >= world.n_slots)
		return false;
	*ret = world.slots[index];
	return true;
}

static bool sb_unwind_read(__u64 *ret, __u64 address)
{
	if (address - STACK >= world.stack_len || world.stack_len - (address - STACK) < sizeof(*ret))
		return false;
	memcpy(ret, world.stack + (address - STACK), sizeof(*ret));
	return true;
}

static bool sb_unwind_register(__u64 *ret, __u8 number)
{
	*ret = STACK + 8u * number;
	return true;
}

#include "unwind/walk.h"

/* What every walker relies on. */
static void check_rows(const struct unwind_rows *rows)
{
	const uint64_t *slot = rows->slots + (size_t)rows->n_rules * SB_UNWIND_RULE_SLOTS;

	for (uint32_t i = 0; i < rows->n_rows; i++) {
		must(slot[i] >> 32 < rows->n_rules, "a row has a rule");
		must(!i || (uint32_t)slot[i] > (uint32_t)slot[i - 1], "rows ascend");
	}
	must(!rows->n_rows || slot[rows->n_rows - 1] >> 32 == 0, "the last row is an end");
}

static void walk(const struct unwind_rows *rows, uint32_t pc)
{
	struct sb_unwind_walk w = { .ip = rows->base + pc, .sp = STACK, .fp = STACK + 64, .ip_mask = (1ULL << 48) - 1 };
	__u64 frames[32];

	sb_unwind_begin(&w, 0, 1);
	sb_unwind_walk(&w, frames, 32);
	must(w.end > SB_UNWIND_GOES_ON && w.end < SB_UNWIND_END_COUNT && w.n >= 1 && w.n <= 32, "a walk ends");
}

static void use_rows(const struct unwind_rows *rows, const uint8_t *data, size_t size)
{
	const uint64_t *slot;

	if (!rows->n_rows)
		return;
	slot = rows->slots + (size_t)rows->n_rules * SB_UNWIND_RULE_SLOTS;
	check_rows(rows);
	world.map = (struct sb_unwind_map){ .end = UINT64_MAX, .generation = 2 };
	world.table = (struct sb_unwind_table){ .base = rows->base, .n_rules = rows->n_rules,
						.rows = rows->n_rules * SB_UNWIND_RULE_SLOTS, .n_rows = rows->n_rows,
						.generation = 2 };
	world.slots = rows->slots;
	world.n_slots = unwind_rows_slots(rows);
	world.stack = data;
	world.stack_len = size;
	for (uint32_t i = 0; i < rows->n_rows && i < 64; i++)
		walk(rows, (uint32_t)slot[i]);
}

static bool take_name(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max)
{
	(void)addr;
	must(size && strnlen(name, max) <= max, "a function has code");
	return --*(unsigned int *)ctx;
}

/* The table's bytes stand for the code, too. */
struct code {
	const uint8_t *bytes;
	size_t len;
	unsigned int most; /* stretches that are taken */
};

static bool read_code(void *ctx, uint64_t addr, uint8_t *ret, size_t len)
{
	const struct code *c = ctx;

	if (len > c->len)
		return false;
	memcpy(ret, c->bytes + addr % (c->len - len + 1), len);
	return true;
}

static bool take_stretch(void *ctx, const struct go_stretch *s)
{
	struct code *c = ctx;

	must(s->size && s->depth % 8 == 0 && s->depth <= GO_DEPTH_MAX && (s->depth || !s->fp_saved), "a stretch of code has a depth");
	return --c->most;
}

static void find_switched(const uint8_t *bytes, size_t len)
{
	struct go_switched s[GO_SWITCHED];
	size_t n = go_switched_find(bytes, len, s);

	must(n <= GO_SWITCHED, "stretches have a limit");
	for (size_t i = 0; i < n; i++)
		must(s[i].from <= s[i].to && s[i].to <= len && (!i || s[i - 1].to <= s[i].from), "stretches ascend");
}

static size_t find_by_table(const uint8_t *bytes, size_t len, struct go_function *found)
{
	struct code code = { .bytes = bytes, .len = len, .most = 1000 };
	unsigned int most = 1000;
	struct go_table t;

	find_switched(bytes, len);
	if (!go_table_open(bytes, len, &t))
		return 0;
	go_table_each(&t, take_name, &most);
	go_table_each_stretch(&t, read_code, take_stretch, &code);
	return go_functions_by_table(&t, found);
}

/* A copy, so that a sanitizer sees who reads behind its end. */
static void find_go(const uint8_t *data, size_t size, bool by_symbols)
{
	struct go_function found[GO_FUNCTIONS];
	size_t half = by_symbols ? size / 2 : size, n;
	uint8_t *bytes = malloc(half + 1), *names = malloc(size - half + 1);

	must(bytes && names, "memory for a copy");
	memcpy(bytes, data, half);
	memcpy(names, data + half, size - half);
	n = by_symbols ? go_functions_by_symbols(bytes, half, names, size - half, found)
		       : find_by_table(bytes, half, found);
	must(n <= GO_FUNCTIONS, "functions have a limit");
	for (size_t i = 0; i < n; i++)
		must(found[i].size && found[i].role <= GO_SIGRETURN, "a function has code and a role");
	free(bytes);
	free(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct unwind_limits limits = {
		.cfi = { .max_instructions = 100000, .max_cies = 100, .max_fdes = 1000 }, .max_rows = 2000 };
	struct unwind_functions *functions = NULL;
	struct unwind_image image = {};
	struct cfi_counts counts = {};
	struct unwind_rows rows = {};
	uint64_t start;

	if (size && (data[0] & 0xfe) == 0x80) {
		find_go(data + 1, size - 1, data[0] & 1);
		return 0;
	}
	if (size > 4 && !memcmp(data, "\177ELF", 4)) {
		if (unwind_image_read_memory(data, size, &image) < 0)
			return 0;
	} else if (size > 1) {
		image.machine = data[0] & 1 ? CFI_AARCH64 : CFI_X86_64;
		image.eh_frame_to_its_end = data[0] & 2;
		image.eh_frame = malloc(size - 1);
		image.eh_frame_len = size - 1;
		image.eh_frame_addr = 0x2000;
		memcpy(image.eh_frame, data + 1, size - 1);
		image.n_code = 1;
		image.code[0] = (struct unwind_segment){ .addr = 0, .offset = 0, .size = UINT64_MAX };
	}
	if (unwind_rows_build(&image, &limits, &counts, &rows) == 0)
		use_rows(&rows, data, size);
	must(rows.n_rows <= limits.max_rows, "rows have a limit");
	must(counts.instructions <= limits.cfi.max_instructions + counts.fdes + counts.cies, "instructions have a limit");
	if (unwind_functions_build(&image, &limits, &functions) == 0) {
		for (size_t i = 0; i + 8 <= size && i < 512; i += 8) {
			uint64_t at;

			memcpy(&at, data + i, sizeof(at));
			must(unwind_functions_find(functions, at, &start) < 0 || start <= at, "a function begins before");
		}
	}
	unwind_functions_free(functions);
	unwind_rows_done(&rows);
	unwind_image_done(&image);
	return 0;
}
