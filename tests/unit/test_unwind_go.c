// SPDX-License-Identifier: BSD-2-Clause
/*
 * Functions of Go's runtime by its table and by symbols: made up here in each layout of the table, cut
 * and spoilt; and in the Go programs of this machine, whose symbols are what nm says.
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

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
	{ "runtime.asmcgocall", GO_OTHER_STACK },
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

/* As Go's linker lays it out: header, names, then the list of functions and what is known of each. */
static struct bytes made_table(uint32_t magic, uint64_t text)
{
	size_t word = magic == 0xfffffffa ? 8 : 4, at_names = 0, at_known = (2 * N_MADE + 1) * word;
	struct bytes b = {}, names = {}, list = {}, known = {};
	size_t header = magic == 0xfffffffa ? 64 : 72;

	put(&b, magic, 4);
	put(&b, 1 << 16 | 8u << 24, 4); /* instructions of one byte, pointers of eight */
	put(&b, N_MADE, 8);
	put(&b, 1, 8);
	if (word == 4)
		put(&b, text, 8);
	for (size_t i = 0; i < N_MADE; i++) {
		uint64_t start = i * STEP + (word == 8 ? text : 0);

		put(&list, start, word);
		put(&list, at_known + known.len, word);
		put(&known, start, word);
		put(&known, at_names, 4);
		put(&known, 0, 8);
		for (const char *c = made[i].name;; c++) {
			put(&names, (uint8_t)*c, 1);
			at_names++;
			if (!*c)
				break;
		}
	}
	put(&list, N_MADE * STEP + (word == 8 ? text : 0), word);
	put(&b, header, 8);
	for (unsigned int i = 0; i < 4; i++)
		put(&b, header + names.len, 8);
	assert_int_equal(b.len, header);
	for (size_t i = 0; i < names.len; i++)
		put(&b, names.data[i], 1);
	for (size_t i = 0; i < list.len; i++)
		put(&b, list.data[i], 1);
	for (size_t i = 0; i < known.len; i++)
		put(&b, known.data[i], 1);
	return b;
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

static void test_tables(void **state)
{
	struct go_function found[GO_FUNCTIONS];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(magics); i++) {
		struct bytes b = made_table(magics[i], TEXT);

		expect_made(found, go_functions_by_table(b.data, b.len, found));
	}
}

/* Exactly as long as it is claimed to be, for the sanitizers. */
static size_t find_in_copy(const uint8_t *data, size_t len, struct go_function *found)
{
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
	size_t n;

	memcpy(copy, data, len);
	n = go_functions_by_table(copy, len, found);
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
	/* Relocated by the dynamic linker: the file does not say where the code is. */
	b = made_table(0xfffffff0, 0);
	assert_int_equal(find_in_copy(b.data, b.len, found), 0);
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
	assert_true(expect_rules(symbols, &image, &rows, "runtime.schedule", SB_CFA_NONE, SB_AT_SAME));
	unwind_rows_done(&rows);
	unwind_image_done(&image);
}

/* As Go's linker makes it, stripped, without the table, and moved by the dynamic linker. */
static void test_real(void **state)
{
	static const char source[] = "package main\nfunc main() { println(1) }\n";

	(void)state;
	if (sh("command -v go >&2")) {
		print_message("no go command (Debian package golang-go)\n");
		skip();
	}
	write_text("prog.go", source);
	assert_int_equal(sh("export GOCACHE=$PWD/cache CGO_ENABLED=0 GO111MODULE=off; go build -o plain prog.go && "
			    "strip -o stripped plain && objcopy --rename-section .gopclntab=.none plain symbols"), 0);
	expect_file("plain", "plain");
	expect_file("stripped", "plain");
	expect_file("symbols", "plain");
	assert_int_equal(sh("export GOCACHE=$PWD/cache CGO_ENABLED=0 GO111MODULE=off; go build -buildmode=pie -o pie prog.go && "
			    "strip -o pie-stripped pie"), 0);
	expect_file("pie", "pie");
	expect_file("pie-stripped", "pie");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_spoilt_tables),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_real),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
