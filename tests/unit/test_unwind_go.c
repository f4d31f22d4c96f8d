// SPDX-License-Identifier: BSD-2-Clause
/*
 * Functions of Go's runtime by its table and by symbols, the names and the stack depths of all: made up here in each layout
 * of the table, cut and spoilt; and in programs of this machine's Go, whose symbols are what nm says.
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "symbols/symbols.h"
#include "tests/unit/scratch.h"
#include "unwind/go.h"
#include "unwind/table.h"

#define TEXT 0x401000u
#define STEP 64u /* bytes of each function that is made up */

/* ---- made up --------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int role; /* -1: not one that is looked for */
} made[] = {
	{ "main.main", -1 },
	{ "runtime.systemstack", GO_OTHER_STACK },
	{ "runtime.systemstack_switch", -1 },
	{ "runtime.asmcgocall", GO_CALLS_C },
	{ "runtime.mcall", GO_ENDS },
	{ "runtime.mcal", -1 },
	{ "runtime.goexit", GO_ENDS },
	{ "runtime.goexit1", -1 },
	{ "aruntime.mcall", -1 },
	{ "runtime.", -1 },
	{ "runtime.sigtramp", GO_ENTRY },
	{ "runtime.cgoSigtramp", GO_JUMPS },
	{ "runtime.sigreturn__sigaction", GO_SIGRETURN },
	{ "", -1 },
};
#define N_MADE SB_ARRAY_SIZE(made)
#define N_FOUND 7

struct bytes {
	uint8_t data[4096];
	size_t len;
};

static void put(struct bytes *b, uint64_t value, size_t size)
{
	assert_true(b->len + size <= sizeof(b->data));
	memcpy(b->data + b->len, &value, size);
	b->len += size;
}

struct made_function {
	const char *name;
	uint8_t flags;
	const struct made_depth *depths; /* up to one of no length; NULL: none are there */
};

struct made_depth {
	int32_t depth;
	uint32_t len;
};

static void put_uleb(struct bytes *b, uint32_t value)
{
	for (; value > 0x7f; value >>= 7)
		put(b, (value & 0x7f) | 0x80, 1);
	put(b, value, 1);
}

/* Where they are among the values; 0 is nowhere. */
static size_t put_depths(struct bytes *values, const struct made_depth *d)
{
	size_t at = values->len;
	int32_t was = -1;

	if (!d)
		return 0;
	do {
		int32_t step = d->depth - was;

		put_uleb(values, (uint32_t)step << 1 ^ (uint32_t)(step >> 31));
		put_uleb(values, d->len);
		was = d->depth;
	} while ((++d)->len);
	put(values, 0, 1);
	return at;
}

static void put_all(struct bytes *b, const struct bytes *more)
{
	for (size_t i = 0; i < more->len; i++)
		put(b, more->data[i], 1);
}

/* As Go's linker lays it out: header, names, values, then the list of functions and what is known of each. */
static struct bytes table_of(uint32_t magic, uint64_t text, const struct made_function *f, size_t n)
{
	size_t word = magic == 0xfffffffa ? 8 : 4, at_known = (2 * n + 1) * word;
	struct bytes b = {}, names = {}, values = {}, list = {}, known = {};
	size_t header = magic == 0xfffffffa ? 64 : 72;

	put(&b, magic, 4);
	put(&b, 1 << 16 | 8u << 24, 4); /* instructions of one byte, pointers of eight */
	put(&b, n, 8);
	put(&b, 1, 8);
	if (word == 4)
		put(&b, text, 8);
	put(&values, 0, 1);
	for (size_t i = 0; i < n; i++) {
		uint64_t start = i * STEP + (word == 8 ? text : 0);

		put(&list, start, word);
		put(&list, at_known + known.len, word);
		put(&known, start, word);
		put(&known, names.len, 4);
		put(&known, 0, 8);
		put(&known, put_depths(&values, f[i].depths), 4);
		for (unsigned int k = 0; k < (magic == 0xfffffff1 ? 5 : 4); k++)
			put(&known, 0, 4);
		put(&known, (uint64_t)f[i].flags << 8, 4); /* behind a number of what kind it is */
		for (const char *c = f[i].name;; c++) {
			put(&names, (uint8_t)*c, 1);
			if (!*c)
				break;
		}
	}
	put(&list, n * STEP + (word == 8 ? text : 0), word);
	put(&b, header, 8);
	for (unsigned int i = 0; i < 3; i++)
		put(&b, header + names.len, 8);
	put(&b, header + names.len + values.len, 8);
	assert_int_equal(b.len, header);
	put_all(&b, &names);
	put_all(&b, &values);
	put_all(&b, &list);
	put_all(&b, &known);
	return b;
}

static struct bytes made_table(uint32_t magic, uint64_t text)
{
	static const struct made_depth depths[] = { { 0, 10 }, { 24, 20 }, { 0, 2 }, { 24, 8 }, {} };
	struct made_function f[N_MADE] = {};

	for (size_t i = 0; i < N_MADE; i++)
		f[i] = (struct made_function){ .name = made[i].name, .depths = depths,
					       .flags = !strcmp(made[i].name, "runtime.goexit") };
	return table_of(magic, text, f, N_MADE);
}

static void expect_made(const struct go_function *found, size_t n)
{
	size_t k = 0;

	assert_int_equal(n, N_FOUND);
	for (size_t i = 0; i < N_MADE; i++) {
		if (made[i].role < 0)
			continue;
		assert_int_equal(found[k].addr, TEXT + i * STEP);
		assert_int_equal(found[k].size, STEP);
		assert_int_equal(found[k++].role, made[i].role);
	}
}

static const uint32_t magics[] = { 0xfffffffa, 0xfffffff0, 0xfffffff1 };

/* As who says where the code is: the table, or text, where the table does not. */
static bool open_table(const uint8_t *data, size_t len, uint64_t text, struct go_table *ret)
{
	if (!go_table_open(data, len, ret))
		return false;
	if (ret->counts_from_text && !ret->text)
		ret->text = text;
	return true;
}

static bool take_made(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max)
{
	size_t *n = ctx;

	assert_true(*n < N_MADE);
	assert_int_equal(addr, TEXT + *n * STEP);
	assert_int_equal(size, STEP);
	assert_true(strnlen(name, max) < max);
	assert_string_equal(name, made[(*n)++].name);
	return *n < N_MADE - 1;
}

static void test_tables(void **state)
{
	struct go_function found[GO_FUNCTIONS];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(magics); i++) {
		for (unsigned int says = 0; says < 2; says++) {
			bool absolute = magics[i] == 0xfffffffa;
			struct bytes b = made_table(magics[i], says || absolute ? TEXT : 0);
			struct go_table t = {};
			size_t n = 0;

			assert_true(open_table(b.data, b.len, TEXT, &t));
			assert_int_equal(t.counts_from_text, !absolute);
			assert_int_equal(go_table_first(&t), absolute ? TEXT : 0);
			expect_made(found, go_functions_by_table(&t, found));
			go_table_each(&t, take_made, &n);
			assert_int_equal(n, N_MADE - 1); /* until it had enough */
		}
	}
}

/* Each byte of its name is there. */
static bool take_any(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max)
{
	(void)ctx;
	(void)addr;
	assert_true(size > 0 && strnlen(name, max) <= max);
	return true;
}

/* "mov rbp, 16(rsp)", wherever it is asked for. */
static bool any_code(void *ctx, uint64_t addr, uint8_t *ret, size_t len)
{
	static const uint8_t code[] = { 0, 0x48, 0x89, 0x6c, 0x24, 16, 0, 0, 0 };

	(void)ctx;
	(void)addr;
	assert_int_equal(len, sizeof(code));
	memcpy(ret, code, len);
	return true;
}

static bool take_any_stretch(void *ctx, const struct go_stretch *s)
{
	(void)ctx;
	assert_true(s->size && s->depth <= GO_DEPTH_MAX && s->depth % 8 == 0 && (s->depth || !s->fp_saved));
	return true;
}

/* Exactly as long as it is claimed to be, for the sanitizers. */
static size_t find_in_copy(const uint8_t *data, size_t len, struct go_function *found)
{
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
	struct go_table t = {};
	size_t n = 0;

	memcpy(copy, data, len);
	if (open_table(copy, len, TEXT, &t)) {
		n = go_functions_by_table(&t, found);
		go_table_each(&t, take_any, NULL);
		go_table_each_stretch(&t, any_code, take_any_stretch, NULL);
	}
	assert_true(n <= GO_FUNCTIONS);
	for (size_t i = 0; i < n; i++)
		assert_true(found[i].size != 0);
	return n;
}

static void test_spoilt_tables(void **state)
{
	struct go_function found[GO_FUNCTIONS];
	struct bytes b;

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(magics); i++) {
		size_t last = 0;

		b = made_table(magics[i], TEXT);
		for (size_t len = 0; len < b.len; len++) {
			size_t n = find_in_copy(b.data, len, found);

			assert_true(n >= last);
			last = n;
		}
		for (size_t at = 0; at < b.len; at++) {
			uint8_t was = b.data[at];

			for (unsigned int value = 0; value < 256; value += 51) {
				b.data[at] = (uint8_t)value;
				find_in_copy(b.data, b.len, found);
			}
			b.data[at] = was;
		}
	}
	b = made_table(0xfffffffb, TEXT); /* before Go 1.16 */
	assert_int_equal(find_in_copy(b.data, b.len, found), 0);
	b = made_table(0xfffffff1, TEXT);
	b.data[7] = 4; /* 32 bits */
	assert_int_equal(find_in_copy(b.data, b.len, found), 0);
	/* More functions than there are bytes: those that are there, and it ends. */
	b = made_table(0xfffffff1, TEXT);
	memset(b.data + 8, 0xff, 8);
	assert_int_equal(find_in_copy(b.data, b.len, found), N_FOUND);
}

/* All have the same name: no more than there is room for. */
static void test_many(void **state)
{
	struct go_function found[GO_FUNCTIONS];
	Elf64_Sym symbols[100] = {};
	static const char names[] = "\0runtime.mcall.abi0";

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(symbols); i++)
		symbols[i] = (Elf64_Sym){ .st_name = 1, .st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC),
					  .st_value = TEXT + i, .st_size = i };
	assert_int_equal(go_functions_by_symbols((const uint8_t *)symbols, sizeof(symbols), (const uint8_t *)names,
						 sizeof(names), found), GO_FUNCTIONS);
	assert_int_equal(found[0].addr, TEXT + 1); /* the first one is empty */
	assert_int_equal(found[0].role, GO_ENDS);
	/* A name that goes on behind the end is none. */
	assert_int_equal(go_functions_by_symbols((const uint8_t *)symbols, sizeof(symbols), (const uint8_t *)names,
						 sizeof(names) - 1, found), 0);
	for (size_t i = 0; i < SB_ARRAY_SIZE(symbols); i++)
		symbols[i].st_info = ELF64_ST_INFO(STB_LOCAL, STT_OBJECT);
	assert_int_equal(go_functions_by_symbols((const uint8_t *)symbols, sizeof(symbols), (const uint8_t *)names,
						 sizeof(names), found), 0);
}

/* ---- stack depths ------------------------------------------------------------------------- */

#define PUSH 0x55
#define MOV_8(slot) 0x48, 0x89, 0x6c, 0x24, slot
#define MOV_32(slot) 0x48, 0x89, 0xac, 0x24, (slot)&0xff, (slot) >> 8 & 0xff, (slot) >> 16, 0

static const struct {
	const char *name;
	uint8_t flags;
	uint8_t code[9]; /* from one byte before the end of the first stretch on */
	struct made_depth depths[6];
	const char *expected; /* offset+size:depth, s: the frame pointer is saved */
} made_frames[] = {
	{ "runtime.goexit", 1, {}, { { 0, 10 } }, "" },
	{ "frameless", 4, {}, { { 0, 10 } }, "0+64:0 " },
	{ "push", 0, { PUSH }, { { 0, 10 }, { 8, 7 }, { 40, 20 }, { 8, 1 }, { 0, 1 } },
	  "0+10:0 10+7:8s 17+20:40s 37+1:8s 38+26:0 " },
	{ "mov", 0, { 0, MOV_8(16) }, { { 0, 10 }, { 24, 20 }, { 0, 1 }, { 24, 5 } }, "0+10:0 10+5:24 15+15:24s 30+1:0 31+33:24s " },
	{ "large", 0, { 0, MOV_32(248) }, { { 0, 10 }, { 256, 20 }, { 0, 1 } }, "0+10:0 10+8:256 18+12:256s 30+34:0 " },
	{ "small", 0, { 0, 0x48, 0x89, 0x2c, 0x24 }, { { 0, 10 }, { 8, 20 } }, "0+10:0 10+4:8 14+50:8s " },
	{ "largest", 0, { 0, MOV_32(GO_DEPTH_MAX - 8) }, { { 0, 10 }, { GO_DEPTH_MAX, 20 } }, "0+10:0 10+8:524280 18+46:524280s " },
	{ "too large", 0, { 0, MOV_32(GO_DEPTH_MAX) }, { { 0, 10 }, { GO_DEPTH_MAX + 8, 20 } }, "" },
	{ "another slot", 0, { 0, MOV_8(8) }, { { 0, 10 }, { 24, 20 } }, "" },
	{ "another slot, large", 0, { 0, MOV_32(240) }, { { 0, 10 }, { 256, 20 } }, "" },
	{ "another register", 0, { 0, 0x48, 0x89, 0x5c, 0x24, 16 }, { { 0, 10 }, { 24, 20 } }, "" },
	{ "pushes another one", 0, { 0x53 }, { { 0, 10 }, { 8, 20 } }, "" },
	{ "sets rsp", 6, { PUSH }, { { 0, 10 }, { 8, 20 } }, "" },
	{ "sets rsp, frameless", 2, {}, { { 0, 10 } }, "" },
	{ "odd", 0, { PUSH }, { { 0, 10 }, { 8, 20 }, { 12, 1 } }, "" },
	{ "negative", 0, { PUSH }, { { 0, 10 }, { 8, 20 }, { -8, 1 } }, "" },
	{ "behind its end", 0, { PUSH }, { { 0, 10 }, { 8, STEP - 9 } }, "" },
	{ "to its end", 0, { PUSH }, { { 0, 10 }, { 8, STEP - 10 } }, "0+10:0 10+54:8s " },
	{ "begins with a frame", 0, { PUSH }, { { 8, 10 }, { 16, 20 } }, "" },
	{ "cut", 0, { 0, MOV_8(16) }, { { 0, 10 }, { 24, 5 }, { 0, 1 } }, "" },
	{ "not cut", 0, { 0, MOV_8(16) }, { { 0, 10 }, { 24, 6 }, { 0, 1 } }, "0+10:0 10+5:24 15+1:24s 16+48:0 " },
	{ "gogo", 0, {}, { { 0, 10 } }, NULL }, /* where no flag says it, its name does */
};
#define N_FRAMES SB_ARRAY_SIZE(made_frames)

static bool frame_code(void *ctx, uint64_t addr, uint8_t *ret, size_t len)
{
	size_t i = (addr - TEXT) / STEP;

	(void)ctx;
	assert_true(i < N_FRAMES && len == sizeof(made_frames[i].code));
	assert_int_equal(addr - TEXT - i * STEP, 9);
	memcpy(ret, made_frames[i].code, len);
	return true;
}

struct stretches {
	char text[N_FRAMES][256];
	unsigned int most; /* 0: no end */
};

static bool take_stretch(void *ctx, const struct go_stretch *s)
{
	struct stretches *all = ctx;
	size_t i = (s->addr - TEXT) / STEP, n;

	assert_true(i < N_FRAMES);
	n = strlen(all->text[i]);
	snprintf(all->text[i] + n, sizeof(all->text[i]) - n, "%u+%u:%u%s ", (unsigned int)(s->addr - TEXT - i * STEP),
		 (unsigned int)s->size, s->depth, s->fp_saved ? "s" : "");
	return --all->most != 0;
}

static void test_stretches(void **state)
{
	struct made_function f[N_FRAMES];

	(void)state;
	for (size_t i = 0; i < N_FRAMES; i++)
		f[i] = (struct made_function){ made_frames[i].name, made_frames[i].flags, made_frames[i].depths };
	for (size_t m = 0; m < SB_ARRAY_SIZE(magics); m++) {
		for (unsigned int flags = 0; flags < 2; flags++) {
			struct stretches all = {}, few = { .most = 3 };
			struct bytes b;
			struct go_table t;

			/* Without the flag of goexit they are not where they are expected, as up to Go 1.16. */
			f[0].flags = (uint8_t)flags;
			b = table_of(magics[m], TEXT, f, N_FRAMES);
			assert_true(go_table_open(b.data, b.len, &t));
			go_table_each_stretch(&t, frame_code, take_stretch, &all);
			for (size_t i = 0; i < N_FRAMES; i++) {
				bool frameless = !made_frames[i].depths[1].len && i;
				const char *expected = made_frames[i].expected;

				if (!expected)
					expected = flags ? "0+64:0 " : "";
				else if (!flags)
					expected = frameless ? "0+64:0 " : "";
				assert_string_equal(all.text[i], expected);
			}
			if (!flags)
				continue;
			go_table_each_stretch(&t, frame_code, take_stretch, &few);
			assert_string_equal(few.text[1], "0+64:0 ");
			assert_string_equal(few.text[2], "0+10:0 10+7:8s ");
			assert_string_equal(few.text[3], "");
		}
	}
}

/* ---- C on the thread's stack ----------------------------------------------------------------- */

#define TAKES_SP 0x48, 0x89, 0xe2
#define KEEPS_G(slot) 0x48, 0x89, 0x7c, 0x24, slot
#define DISTANCE 0x48, 0x8b, 0x7f, 0x08, 0x48, 0x29, 0xd7
#define KEEPS(slot) 0x48, 0x89, 0x7c, 0x24, slot
#define NO_G(slot) 0x48, 0xc7, 0x44, 0x24, slot, 0, 0, 0, 0
#define KEEPS_SP(slot) 0x48, 0x89, 0x54, 0x24, slot
#define CALLS 0xff, 0xd0
#define BACK 0x48, 0x89, 0xf4, 0xc3

static size_t switched(const uint8_t *code, size_t len, struct go_switched *ret)
{
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);

	memcpy(copy, code, len);
	return go_switched_find(copy, len, ret);
}
#define SWITCHED(ret, ...) switched((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), ret)

static void test_switched(void **state)
{
	static const uint8_t whole[] = { 0x90,	     TAKES_SP, KEEPS_G(48), DISTANCE,	 KEEPS(40), CALLS, BACK,
					 NO_G(48), KEEPS_SP(40), CALLS,	  BACK };
	struct go_switched s[GO_SWITCHED];

	(void)state;
	assert_int_equal(switched(whole, sizeof(whole), s), 2);
	assert_int_equal(s[0].from, 21);
	assert_int_equal(s[0].to, 23);
	assert_int_equal(s[0].offset, 40);
	assert_int_equal(s[1].from, 41);
	assert_int_equal(s[1].to, 43);
	assert_int_equal(s[1].offset, 40);
	for (size_t len = 0; len < sizeof(whole); len++) {
		size_t n = switched(whole, len, s);

		/* The way back has to be there, of the first one and of the second one. */
		assert_int_equal(n, len < 26 ? 0 : len < 34 ? 1 : len < 46 ? n : 2);
	}
	/* Other slots, and the shorter form of the first one. */
	assert_int_equal(SWITCHED(s, TAKES_SP, KEEPS_G(8), DISTANCE, 0x48, 0x89, 0x3c, 0x24, CALLS, BACK), 1);
	assert_int_equal(s[0].offset, 0);
	assert_int_equal(s[0].from, 19);
	assert_int_equal(SWITCHED(s, TAKES_SP, NO_G(8), 0x48, 0x89, 0x14, 0x24, CALLS, BACK), 1);
	assert_int_equal(s[0].offset, 0);
	/* The words do not lie side by side; another register; the stack pointer was not taken; a frame of its own. */
	assert_int_equal(SWITCHED(s, TAKES_SP, KEEPS_G(56), DISTANCE, KEEPS(40), CALLS, BACK), 0);
	assert_int_equal(SWITCHED(s, TAKES_SP, KEEPS_G(48), DISTANCE, KEEPS_SP(40), CALLS, BACK), 0);
	assert_int_equal(SWITCHED(s, KEEPS_G(48), DISTANCE, KEEPS(40), CALLS, BACK), 0);
	assert_int_equal(SWITCHED(s, 0x55, TAKES_SP, KEEPS_G(48), DISTANCE, KEEPS(40), CALLS, BACK), 0);
	assert_int_equal(SWITCHED(s, TAKES_SP, KEEPS_G(0x88), DISTANCE, KEEPS(0x80), CALLS, BACK), 0);
}

/* ---- real programs ---------------------------------------------------------------------- */

/* The rules at the first and the last byte of each function of that name that nm knows. */
static unsigned int expect_rules(const char *file, const struct unwind_image *image, const struct unwind_rows *rows,
				 const char *name, uint8_t cfa, uint8_t ra)
{
	unsigned long long addr, size;
	unsigned int n = 0;
	FILE *f;

	assert_int_equal(sh("nm -S %s | awk '$4 == \"%s\" || $4 == \"%s.abi0\" {print $1, $2}' >range", file, name, name), 0);
	f = fopen(at("range"), "r");
	for (; fscanf(f, "%llx %llx", &addr, &size) == 2; n++) {
		const uint64_t ends[] = { addr, addr + size - 1 };

		for (size_t i = 0; i < SB_ARRAY_SIZE(ends); i++) {
			struct sb_unwind_rule rule;
			uint64_t offset;

			assert_int_equal(unwind_image_offset(image, ends[i], &offset), 0);
			rule = unwind_rows_find(rows, offset);
			assert_int_equal(rule.cfa, cfa);
			assert_int_equal(rule.where >> 4, ra);
		}
	}
	fclose(f);
	return n;
}

/* Behind what asmcgocall() calls on the other stack. */
static void expect_switched(const char *symbols, const struct unwind_image *image, const struct unwind_rows *rows)
{
	unsigned long long addr;
	unsigned int n = 0;
	FILE *f;

	assert_int_equal(sh("objdump -d --no-show-raw-insn %s | awk '/^[0-9a-f]+ </ {in_it = /<runtime[.]asmcgocall([.]abi0)?>:$/} "
			    "in_it && /call +[*]%%rax/ {print $1}' | tr -d : >switched", symbols), 0);
	f = fopen(at("switched"), "r");
	for (; fscanf(f, "%llx", &addr) == 1; n++) {
		struct sb_unwind_rule rule;
		uint64_t offset;

		assert_int_equal(unwind_image_offset(image, addr, &offset), 0);
		rule = unwind_rows_find(rows, offset + 1);
		assert_int_equal(rule.cfa, SB_CFA_GO_SWITCHED);
		assert_int_equal(rule.where, SB_AT_CFA << 4);
		assert_int_equal(rule.post + rule.ra_off, 0);
	}
	fclose(f);
	assert_int_equal(n, 2);
}

static void expect_file(const char *file, const char *symbols)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	_cleanup_close_ int fd = open_at(file);
	struct unwind_image image = {};
	struct cfi_counts counts = {};
	struct unwind_rows rows = {};

	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_int_equal(unwind_rows_build(&image, &limits, &counts, &rows), 0);
	assert_true(expect_rules(symbols, &image, &rows, "runtime.systemstack", SB_CFA_OTHER_STACK, SB_AT_SAME));
	assert_true(expect_rules(symbols, &image, &rows, "runtime.asmcgocall", SB_CFA_OTHER_STACK, SB_AT_SAME));
	assert_true(expect_rules(symbols, &image, &rows, "runtime.mcall", SB_CFA_UNSUPPORTED, SB_AT_END));
	assert_true(expect_rules(symbols, &image, &rows, "runtime.mstart", SB_CFA_UNSUPPORTED, SB_AT_END));
	assert_true(expect_rules(symbols, &image, &rows, "runtime.goexit", SB_CFA_UNSUPPORTED, SB_AT_END));
	assert_true(expect_rules(symbols, &image, &rows, "runtime.cgoSigtramp", SB_CFA_SP, SB_AT_CFA));
	assert_true(expect_rules(symbols, &image, &rows, "runtime.nanotime1", SB_CFA_NONE, SB_AT_SAME)); /* sets rsp */
	expect_switched(symbols, &image, &rows);
	unwind_rows_done(&rows);
	unwind_image_done(&image);
}

/* Each function that nm knows has its name, in a file without these symbols. */
static void expect_names(const char *file, const char *symbols)
{
	SB_CLEANUP(elf_names_freep) struct elf_names *names = NULL;
	_cleanup_close_ int fd = open_at(file);
	struct unwind_image image = {};
	unsigned long long addr, size;
	unsigned int n = 0;
	char name[4096];
	FILE *f;

	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_int_equal(elf_names_open(fd, NULL, &names), 0);
	assert_string_equal(elf_names_source(names), "gopclntab");
	/* C has none in Go's table; go.buildid is no function. */
	assert_int_equal(sh("nm -S %s | awk '$3 ~ /[tT]/ && $4 ~ /^(main|runtime|sync|os|internal.*)[.]/ {sub(/[.]abi0$/, \"\", $4); "
			    "print $1, $2, $4}' >functions", symbols), 0);
	f = fopen(at("functions"), "r");
	for (; fscanf(f, "%llx %llx %4095s", &addr, &size, name) == 3; n++) {
		const uint64_t ends[] = { addr, addr + size - 1 };

		for (size_t i = 0; i < SB_ARRAY_SIZE(ends); i++) {
			struct symbol s = {};
			uint64_t offset, begin;

			assert_int_equal(unwind_image_offset(&image, ends[i], &offset), 0);
			assert_int_equal(unwind_image_offset(&image, addr, &begin), 0);
			assert_int_equal(elf_names_find(names, offset, false, &s), 0);
			assert_string_equal(s.name, name);
			assert_int_equal(s.start, begin);
		}
	}
	fclose(f);
	unwind_image_done(&image);
	print_message("%s: %u functions\n", file, n);
	assert_true(n > 500);
}

/* ---- as Go 1.26 lays it out: no address in the header, the module's data in a section ---- */

struct file {
	uint8_t *bytes;
	size_t len;
};

static struct file read_whole(const char *name)
{
	struct file f = { .len = (size_t)size_of(at(name)) };
	FILE *in = fopen(at(name), "r");

	f.bytes = malloc(f.len);
	assert_non_null(in);
	assert_int_equal(fread(f.bytes, 1, f.len, in), f.len);
	fclose(in);
	return f;
}

/* NULL: it has none. */
static const Elf64_Shdr *section_of(const struct file *f, const char *name)
{
	const Elf64_Ehdr *eh = (const void *)f->bytes;
	const Elf64_Shdr *sh = (const void *)(f->bytes + eh->e_shoff);

	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		if (!strcmp((const char *)f->bytes + sh[eh->e_shstrndx].sh_offset + sh[i].sh_name, name))
			return &sh[i];
	}
	return NULL;
}

static uint64_t address_of(const char *symbols, const char *name)
{
	unsigned long long addr;
	FILE *f;

	assert_int_equal(sh("nm %s | awk '$3 == \"%s\" {print $1}' >address", symbols, name), 0);
	f = fopen(at("address"), "r");
	assert_int_equal(fscanf(f, "%llx", &addr), 1);
	fclose(f);
	return addr;
}

static uint8_t *bytes_at(const struct file *f, uint64_t addr, size_t len)
{
	const Elf64_Ehdr *eh = (const void *)f->bytes;
	const Elf64_Shdr *sh = (const void *)(f->bytes + eh->e_shoff);

	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		if (sh[i].sh_type == SHT_PROGBITS && addr >= sh[i].sh_addr && addr - sh[i].sh_addr + len <= sh[i].sh_size)
			return f->bytes + sh[i].sh_offset + (addr - sh[i].sh_addr);
	}
	fail_msg("no section has 0x%llx", (unsigned long long)addr);
	return NULL;
}

/* Nothing says any more in the header where the code is; relocated: but the dynamic linker writes it there, which the C
 * linker of LLVM leaves to it and that of GNU does not. */
static void clear_header(const char *name, const char *symbols, bool relocated)
{
	uint64_t addr = address_of(symbols, "runtime.pclntab");
	struct file f = read_whole(name);
	const Elf64_Shdr *rela = section_of(&f, ".rela.dyn");
	Elf64_Rela *r = rela ? (void *)(f.bytes + rela->sh_offset) : NULL;

	memset(bytes_at(&f, addr + GO_HEADER_TEXT, 8), 0, 8);
	for (size_t i = 0; r && !relocated && i < rela->sh_size / sizeof(*r); i++) {
		if (r[i].r_offset == addr + GO_HEADER_TEXT)
			r[i].r_info = 0;
	}
	write_file(name, f.bytes, f.len);
	free(f.bytes);
}

#define ALL_TRUE -1
#define RELOCATED -2

/* The module's data, which Debian's Go has among others, in a section of their own. wrong: which of its words is no longer
 * true, or ALL_TRUE, or RELOCATED: what is an address is left to the dynamic linker. */
static void add_module(const char *name, const char *symbols, int wrong)
{
	uint64_t addr = address_of(symbols, "runtime.firstmoduledata"), words[64];
	struct file f = read_whole(name);

	memcpy(words, bytes_at(&f, addr, sizeof(words)), sizeof(words));
	if (wrong == RELOCATED)
		words[0] = words[20] = words[22] = 0;
	else if (wrong != ALL_TRUE)
		words[wrong] += 16;
	write_file("module", words, sizeof(words));
	free(f.bytes);
	assert_int_equal(sh("objcopy --add-section .go.module=module --change-section-address .go.module=0x%llx %s",
			    (unsigned long long)addr, name), 0);
}

/*
 * A function that objdump says does not touch the stack pointer has one rule from its first to its last byte; one that
 * subtracts from it has another one behind that, and a third one behind the instruction that saves the frame pointer.
 */
static void expect_depths(const char *file, const char *symbols)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	_cleanup_close_ int fd = open_at(file);
	unsigned int n[3] = {}, none = 0, touches;
	struct unwind_image image = {};
	struct cfi_counts counts = {};
	struct unwind_rows rows = {};
	unsigned long long addr, end, saves, saved, depth;
	FILE *f;

	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_int_equal(unwind_rows_build(&image, &limits, &counts, &rows), 0);
	assert_int_equal(sh("objdump -d -j .text --no-show-raw-insn %s | awk '/^[0-9a-f]+ <.*>:$/ {tell(); at = $1; name = $0; touches = depth = saves = saved = 0} "
			    "/^ +[0-9a-f]+:/ {end = $1; sub(\":\", \"\", end); if (saves && !saved) saved = end} "
			    "depth && !saves && /\tmov +%%rbp,.*[(]%%rsp[)]$/ {saves = end} "
			    "/\t(push|pop|leave|enter)|\t(mov|lea|add|sub|adc|and|xchg)[a-z]* .*,%%[re]sp$/ {touches++} "
			    "touches == 1 && !depth && /\tsub +[$]0x[0-9a-f]+,%%rsp$/ {depth = $0; sub(/.*[$]0x/, \"\", depth); sub(/,.*/, \"\", depth)} END {tell()} "
			    /* These have a role. */
			    "function tell() {if (at && name !~ /<runtime[.](systemstack|asmcgocall|mcall|morestack|goexit|mstart|rt0_go|cgoSigtramp|"
			    "sigtramp|sigreturn|sigreturn__sigaction)([.]abi0)?>/) print touches ? saved ? 2 : 1 : 0, at, end, saves, saved, depth}' >depths", symbols), 0);
	f = fopen(at("depths"), "r");
	while (fscanf(f, "%u %llx %llx %llx %llx %llx", &touches, &addr, &end, &saves, &saved, &depth) == 6) {
		const uint64_t ask[] = { addr, touches ? saves : end, saved };
		struct sb_unwind_rule rule[3];

		for (size_t i = 0; i < SB_ARRAY_SIZE(ask); i++) {
			uint64_t offset = 0;

			if (ask[i])
				assert_int_equal(unwind_image_offset(&image, ask[i], &offset), 0);
			rule[i] = unwind_rows_find(&rows, offset);
		}
		n[touches]++;
		none += rule[0].cfa == SB_CFA_NONE;
		if (touches && rule[0].cfa == SB_CFA_NONE)
			continue;
		if (rule[0].cfa != SB_CFA_SP || rule[0].cfa_off != 8 || rule[0].where != SB_AT_CFA << 4 ||
		    (!touches && memcmp(&rule[0], &rule[1], sizeof(rule[0]))) ||
		    (touches == 2 && (rule[1].cfa_off != (int32_t)depth + 8 || rule[1].where != SB_AT_CFA << 4 ||
				      rule[2].cfa_off != (int32_t)depth + 8 || rule[2].where != (SB_AT_CFA | SB_AT_CFA << 4) ||
				      rule[2].fp_off != -16 || rule[2].ra_off != -8)))
			fail_msg("%s: 0x%llx, of kind %u: rules %u+%d/%x, %u+%d/%x, %u+%d/%x", file, addr, touches, rule[0].cfa, rule[0].cfa_off,
				 rule[0].where, rule[1].cfa, rule[1].cfa_off, rule[1].where, rule[2].cfa, rule[2].cfa_off, rule[2].where);
	}
	fclose(f);
	print_message("%s: %u functions without a frame, %u with one of up to Go 1.20, %u with another one; %u without rules\n", file, n[0], n[2], n[1],
		      none);
	assert_true(n[0] > 100 && n[1] + n[2] > 500 && none < 20);
	unwind_rows_done(&rows);
	unwind_image_done(&image);
}

#define GO "export GOCACHE=$PWD/cache GO111MODULE=off; go build "

static void need_go(void)
{
	if (sh("command -v go >&2")) {
		print_message("no go command (Debian package golang-go)\n");
		skip();
	}
	write_text("prog.go", "package main\nfunc main() { println(1) }\n");
}

/* As Go's linker makes it, stripped, without the table, and moved by the dynamic linker. */
static void test_real(void **state)
{
	(void)state;
	need_go();
	assert_int_equal(sh("export CGO_ENABLED=0; " GO "-o plain prog.go && "
			    "strip -o stripped plain && objcopy --rename-section .gopclntab=.none plain symbols"), 0);
	expect_file("plain", "plain");
	expect_file("stripped", "plain");
	expect_names("stripped", "plain");
	expect_depths("stripped", "plain");
	expect_file("symbols", "plain");
	assert_int_equal(sh("export CGO_ENABLED=0; " GO "-buildmode=pie -o pie prog.go && strip -o pie-stripped pie"), 0);
	expect_file("pie", "pie");
	expect_file("pie-stripped", "pie");
	expect_names("pie-stripped", "pie");
	expect_depths("pie-stripped", "pie");
	/* By Go's own linker. */
	assert_int_equal(sh("export CGO_ENABLED=0; " GO "-ldflags '-s -w' -o small prog.go"), 0);
	expect_file("small", "plain");
	expect_names("small", "plain");
}

/* The C linker puts code of its own before Go's, and leaves the address in the header to the dynamic linker. */
static void test_linked_by_c(void **state)
{
	(void)state;
	need_go();
	assert_int_equal(sh(GO "-ldflags=-linkmode=external -o c prog.go && strip -o c-stripped c"), 0);
	expect_file("c-stripped", "c");
	expect_names("c-stripped", "c");
	assert_int_equal(sh(GO "-ldflags=-linkmode=external -buildmode=pie -o c-pie prog.go && strip -o c-pie-stripped c-pie"), 0);
	expect_file("c-pie-stripped", "c-pie");
	expect_names("c-pie-stripped", "c-pie");
	clear_header("c-pie-stripped", "c-pie", true);
	expect_file("c-pie-stripped", "c-pie");
	expect_names("c-pie-stripped", "c-pie");
}

/* Neither marks by names nor names: better than wrong ones. What a signal handler returns to is found by its code. */
static void expect_nothing(const char *file)
{
	SB_CLEANUP(elf_names_freep) struct elf_names *names = NULL;
	_cleanup_close_ int fd = open_at(file);
	struct unwind_image image = {};

	assert_int_equal(unwind_image_read(fd, &image), 0);
	for (size_t i = 0; i < image.n_marks; i++)
		assert_int_equal(image.marks[i].how, UNWIND_MARK_SIGRETURN);
	unwind_image_done(&image);
	if (elf_names_open(fd, NULL, &names) == 0)
		assert_true(strcmp(elf_names_source(names), "gopclntab") != 0);
}

static void test_without_text(void **state)
{
	static const struct {
		const char *name, *flags;
		int module;
	} programs[] = { { "none", "", ALL_TRUE }, { "none-c", "-ldflags=-linkmode=external", ALL_TRUE },
			 { "none-pie", "-buildmode=pie", ALL_TRUE },
			 { "none-c-pie", "-ldflags=-linkmode=external -buildmode=pie", ALL_TRUE },
			 { "none-moved", "-ldflags=-linkmode=external -buildmode=pie", RELOCATED } };

	(void)state;
	need_go();
	for (size_t i = 0; i < SB_ARRAY_SIZE(programs); i++) {
		char stripped[64];

		snprintf(stripped, sizeof(stripped), "%s-stripped", programs[i].name);
		assert_int_equal(sh(GO "%s -o %s prog.go && strip -o %s %s", programs[i].flags, programs[i].name, stripped,
				    programs[i].name), 0);
		clear_header(stripped, programs[i].name, false);
		expect_nothing(stripped);
		add_module(stripped, programs[i].name, programs[i].module);
		expect_file(stripped, programs[i].name);
		expect_names(stripped, programs[i].name);
	}
	/* Module's data that are another table's, or contradict it. */
	for (unsigned int i = 0; i < 3; i++) {
		static const int words[] = { 0, 20, 22 };

		assert_int_equal(sh("strip -o wrong none"), 0);
		clear_header("wrong", "none", false);
		add_module("wrong", "none", words[i]);
		expect_nothing("wrong");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_spoilt_tables),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_stretches),
		cmocka_unit_test(test_switched),
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_linked_by_c),
		cmocka_unit_test(test_without_text),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
