// SPDX-License-Identifier: BSD-2-Clause
/* The symbol table against a search through all entries. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "symbols/table.h"
#include "tests/unit/symbol_at.h"

static uint64_t rnd_state;

static uint64_t rnd(void)
{
	rnd_state += 0x9E3779B97F4A7C15ULL;
	return sb_mix64(rnd_state);
}

static void add(struct symbol_builder *b, uint64_t start, uint32_t len, const char *name, uint8_t rank,
		uint8_t flags)
{
	struct symbol_entry e = { .start = start, .len = len, .rank = rank, .flags = flags };

	assert_int_equal(symbol_builder_name(b, name, strlen(name), &e.name), 0);
	assert_int_equal(symbol_builder_add(b, &e), 0);
}

static struct symbols *finish(struct symbol_builder *b)
{
	struct symbols *s = NULL;

	assert_int_equal(symbol_builder_finish(b, &s), 0);
	symbol_builder_done(b);
	return s;
}

/* ---- by example --------------------------------------------------------------------- */

static void test_sizes(void **state)
{
	struct symbol_builder b = {};
	struct symbols *s;

	(void)state;
	add(&b, 0x3000, 0x10, "c", 3, 0);
	add(&b, 0x1000, 0x10, "a", 3, 0); /* not sorted */
	add(&b, 0x2000, 0x10, "b", 3, 0);
	s = finish(&b);
	expect_at(s, 0, NULL);
	expect_at(s, 0xfff, NULL);
	expect_at(s, 0x1000, "a");
	expect_at(s, 0x100f, "a");
	expect_at(s, 0x1010, NULL);
	expect_at(s, 0x1fff, NULL);
	expect_at(s, 0x2000, "b");
	expect_at(s, 0x300f, "c");
	expect_at(s, 0x3010, NULL);
	expect_at(s, UINT64_MAX, NULL);
	symbols_free(s);
}

static void test_open(void **state)
{
	struct symbol_builder b = {};
	struct symbols *s;

	(void)state;
	add(&b, 0x1000, 0x800, "a", 3, SYMBOL_OPEN);
	add(&b, 0x1100, 0x800, "b", 3, SYMBOL_OPEN);
	add(&b, 0x3000, 0x800, "c", 3, SYMBOL_OPEN);
	add(&b, 0x3040, 0, "data", 3, SYMBOL_EDGE);
	add(&b, 0x4000, 0x800, "d", 3, SYMBOL_OPEN);
	add(&b, 0x4000, 0, "data", 3, SYMBOL_EDGE); /* where a function starts, too */
	add(&b, 0x4080, 0x800, "hidden", 3, SYMBOL_OPEN);
	add(&b, 0x4080, 0, "", 0, SYMBOL_EDGE | SYMBOL_STOP);
	s = finish(&b);
	expect_at(s, 0x10ff, "a");
	expect_at(s, 0x1100, "b");
	expect_at(s, 0x18ff, "b");
	expect_at(s, 0x1900, NULL); /* longer than it may be */
	expect_at(s, 0x303f, "c");
	expect_at(s, 0x3040, NULL);
	expect_at(s, 0x4000, "d");
	expect_at(s, 0x407f, "d");
	expect_at(s, 0x4080, NULL);
	symbols_free(s);
}

static void test_one_name_per_address(void **state)
{
	struct symbol_builder b = {};
	struct symbols *s;

	(void)state;
	add(&b, 0x1000, 0x10, "zz", 3, 0);
	add(&b, 0x1000, 0x20, "longer", 3, 0);
	add(&b, 0x1000, 0x18, "aa", 3, 0);
	add(&b, 0x2000, 0, "sized", 3, SYMBOL_OPEN);
	add(&b, 0x2000, 0x10, "s", 1, 0);
	s = finish(&b);
	expect_at(s, 0x1000, "aa"); /* the shorter, then the first of the alphabet */
	expect_at(s, 0x101f, "aa"); /* the largest size */
	expect_at(s, 0x1020, NULL);
	expect_at(s, 0x200f, "sized"); /* the rank; the known size */
	expect_at(s, 0x2010, NULL);
	symbols_free(s);
}

static void test_ends_of_the_address_space(void **state)
{
	struct symbol_builder b = {};
	struct symbols *s;

	(void)state;
	add(&b, 0, 0x10, "first", 3, 0);
	add(&b, UINT64_MAX - 0x10, UINT32_MAX, "last", 3, 0);
	s = finish(&b);
	expect_at(s, 0, "first");
	expect_at(s, 0x10, NULL);
	expect_at(s, UINT64_MAX - 0x11, NULL);
	expect_at(s, UINT64_MAX - 0x10, "last");
	expect_at(s, UINT64_MAX - 1, "last");
	symbols_free(s);
}

static void test_nothing(void **state)
{
	struct symbol_builder b = {};
	struct symbols *s = NULL;

	(void)state;
	assert_int_equal(symbol_builder_finish(&b, &s), -ENODATA);
	add(&b, 0x1000, 0, "", 0, SYMBOL_EDGE);
	add(&b, 0x2000, 0, "empty", 3, 0);
	assert_int_equal(symbol_builder_finish(&b, &s), -ENODATA);
	assert_null(s);
	symbol_builder_done(&b);
	symbols_free(NULL);
}

static void test_limits(void **state)
{
	struct symbol_builder b = {};
	struct symbol_entry e = { .len = 1 };
	char *name = malloc(64 << 20);
	uint32_t at = 77;

	(void)state;
	for (uint32_t i = 0; i < SYMBOLS_MAX_ENTRIES; i++) {
		e.start = i;
		if (symbol_builder_add(&b, &e) < 0)
			fail_msg("entry %u was refused", i);
	}
	assert_int_equal(symbol_builder_add(&b, &e), -E2BIG);
	assert_int_equal(b.cnt, SYMBOLS_MAX_ENTRIES);
	memset(name, 'x', 64 << 20);
	for (int i = 0; i < 3; i++)
		assert_int_equal(symbol_builder_name(&b, name, 64 << 20, &at), 0);
	at = 77;
	assert_int_equal(symbol_builder_name(&b, name, 64 << 20, &at), -E2BIG);
	assert_int_equal(at, 77);
	free(name);
	symbol_builder_done(&b);
}

/* A file that nests its symbols without end costs a look-up no more than the limit. */
static void test_nesting(void **state)
{
	struct symbol_builder b = {};
	struct symbols *s;

	(void)state;
	for (uint32_t i = 0; i < 200; i++)
		add(&b, i, 2000 - 2 * i, i == 0 ? "outer" : i == 190 ? "near" : "inner", 3, 0);
	s = finish(&b);
	expect_at(s, 199, "inner");
	expect_at(s, 2000 - 2 * 190 + 190 - 1, "near"); /* 9 levels up */
	expect_at(s, 1999, NULL);			    /* 199 levels up: given up */
	symbols_free(s);
}

/* ---- the model ---------------------------------------------------------------------- */

struct made {
	uint64_t start;
	uint32_t len;
	uint8_t rank, flags;
	char name[16];
};

static bool better(const struct made *a, const struct made *b)
{
	if (a->rank != b->rank)
		return a->rank > b->rank;
	if (strlen(a->name) != strlen(b->name))
		return strlen(a->name) < strlen(b->name);
	return strcmp(a->name, b->name) < 0;
}

/* The best name at `start` and, in *ret_end, where it ends; NULL when it has none. */
static const struct made *at_start(const struct made *m, size_t n, uint64_t start, uint64_t *ret_end)
{
	const struct made *best = NULL;
	uint64_t next = UINT64_MAX, len = 0;
	bool sized = false, stop = false;

	for (size_t i = 0; i < n; i++) {
		if (m[i].start > start)
			next = SB_MIN(next, m[i].start);
		if (m[i].start != start)
			continue;
		stop |= (m[i].flags & SYMBOL_STOP) != 0;
		if (m[i].flags & SYMBOL_EDGE)
			continue;
		if (!best || better(&m[i], best))
			best = &m[i];
		if (!(m[i].flags & SYMBOL_OPEN))
			len = SB_MAX(sized ? len : 0, m[i].len);
		else if (!sized)
			len = SB_MAX(len, m[i].len);
		sized |= !(m[i].flags & SYMBOL_OPEN);
	}
	if (!best || stop)
		return NULL;
	*ret_end = start + len;
	if (!sized)
		*ret_end = SB_MIN(*ret_end, next);
	return best;
}

/* The nearest start before addr whose symbol reaches over it. */
static const char *model_find(const struct made *m, size_t n, uint64_t addr)
{
	for (uint64_t start = addr + 1; start-- > 0;) {
		uint64_t symbol_end;
		const struct made *best = at_start(m, n, start, &symbol_end);

		if (best && addr < symbol_end)
			return best->name;
	}
	return NULL;
}

#define SPAN 300

static void test_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct symbol_builder b = {};
		struct symbols *s = NULL;
		struct made m[24];
		size_t n;

		rnd_state = seed;
		n = 1 + rnd() % SB_ARRAY_SIZE(m);
		for (size_t i = 0; i < n; i++) {
			uint64_t kind = rnd() % 10;

			m[i] = (struct made){ .start = rnd() % (SPAN - 60), .len = (uint32_t)(rnd() % 50),
					      .rank = (uint8_t)(rnd() % 3) };
			m[i].flags = kind < 6 ? 0 : kind < 8 ? SYMBOL_OPEN : kind == 8 ? SYMBOL_EDGE :
				     SYMBOL_EDGE | SYMBOL_STOP;
			if (kind >= 8)
				m[i].len = 0;
			snprintf(m[i].name, sizeof(m[i].name), "%.*s%zu", (int)(rnd() % 3), "ff", i);
			add(&b, m[i].start, m[i].len, m[i].name, m[i].rank, m[i].flags);
		}
		if (symbol_builder_finish(&b, &s) < 0) {
			for (uint64_t addr = 0; addr < SPAN; addr++)
				assert_null(model_find(m, n, addr));
		} else {
			for (uint64_t addr = 0; addr < SPAN; addr++)
				expect_at(s, addr, model_find(m, n, addr));
		}
		symbol_builder_done(&b);
		symbols_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_one_name_per_address),
		cmocka_unit_test(test_ends_of_the_address_space),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
