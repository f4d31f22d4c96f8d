// SPDX-License-Identifier: BSD-2-Clause
/* The cache of unwind tables: what it keeps is what was put in, what goes is the oldest, and whoever
 * holds a reference to what has gone can tell. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "symbols/symbols.h"
#include "unwind/cache.h"

#define N_SLOTS 1000u
#define N_TABLES 16u

static uint64_t slots[N_SLOTS];
static struct sb_unwind_table tables[N_TABLES];
static const struct unwind_arena arena = { .slots = slots, .n_slots = N_SLOTS, .tables = tables, .n_tables = N_TABLES };

static struct unwind_key key_of(uint64_t n)
{
	struct unwind_key key;
	uint64_t id[2] = { n, ~n };

	assert_true(unwind_key_build_id(id, sizeof(id), &key));
	return key;
}

/* A table of n slots whose words tell which one it is. */
static struct unwind_rows rows_of(uint64_t *words, uint64_t id, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		words[i] = id << 32 | i;
	return (struct unwind_rows){ .slots = words, .base = id * 4096, .n_rules = 1, .n_rows = n - 2 };
}

static int put(struct unwind_cache *c, uint64_t id, uint32_t n, struct unwind_ref *ret)
{
	uint64_t words[N_SLOTS + 8];
	struct unwind_rows rows = rows_of(words, id, n);
	struct unwind_key key = key_of(id);

	return unwind_cache_put(c, &key, &rows, ret);
}

static bool there(struct unwind_cache *c, uint64_t id)
{
	struct unwind_key key = key_of(id);
	struct unwind_ref ref;

	return unwind_cache_find(c, &key, &ref) == 0;
}

static void expect_content(struct unwind_ref ref, uint64_t id, uint32_t n)
{
	const struct sb_unwind_table *t = &tables[ref.table];

	assert_int_equal(t->generation, ref.generation);
	assert_int_equal(t->generation & 1, 0);
	assert_int_equal(t->base, id * 4096);
	assert_int_equal(t->rows, t->rules + 2);
	assert_int_equal(t->n_rules, 1);
	assert_int_equal(t->n_rows, n - 2);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(slots[t->rules + i], id << 32 | i);
}

static uint32_t committed_to;
static bool no_memory;

static int commit(void *ctx, uint32_t first, uint32_t n)
{
	(void)ctx;
	if (no_memory)
		return -ENOMEM;
	committed_to = SB_MAX(committed_to, first + n);
	return 0;
}

/* Memory is asked for before it is written to, and no more than the tables take; where there is none, what is
 * there stays. */
static void test_memory_as_needed(void **state)
{
	struct unwind_arena growing = arena;
	struct unwind_cache *c;
	struct unwind_ref ref[3], none;

	(void)state;
	growing.commit = commit;
	committed_to = 0;
	assert_int_equal(unwind_cache_new(&growing, &c), 0);
	assert_int_equal(committed_to, 0);
	assert_int_equal(put(c, 1, 100, &ref[0]), 0);
	assert_int_equal(put(c, 2, 50, &ref[1]), 0);
	assert_int_equal(committed_to, 150);
	no_memory = true;
	assert_int_equal(put(c, 3, 60, &none), -ENOMEM);
	no_memory = false;
	assert_false(there(c, 3));
	assert_int_equal(unwind_cache_stats(c).refused, 1);
	assert_int_equal(unwind_cache_stats(c).bytes, 150 * 8);
	expect_content(ref[0], 1, 100);
	expect_content(ref[1], 2, 50);
	assert_int_equal(put(c, 3, 60, &ref[2]), 0);
	expect_content(ref[2], 3, 60);
	assert_int_equal(committed_to, 210);
	unwind_cache_free(c);
}

static void test_oldest_goes(void **state)
{
	struct unwind_cache *c;
	struct unwind_ref ref[4], again;
	struct unwind_key key = key_of(1);

	(void)state;
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(put(c, i, 300, &ref[i]), 0);
	for (uint64_t i = 0; i < 3; i++)
		expect_content(ref[i], i, 300);
	assert_int_equal(unwind_cache_stats(c).bytes, 900 * 8);
	assert_int_equal(unwind_cache_stats(c).max_bytes, 1000 * 8);
	/* 0 is asked for; a walker uses 2; 1 is the oldest then. */
	assert_true(there(c, 0));
	tables[ref[2].table].used = 1;
	unwind_cache_tick(c);
	assert_int_equal(tables[ref[2].table].used, 0);
	assert_int_equal(put(c, 3, 200, &ref[3]), 0);
	expect_content(ref[3], 3, 200);
	assert_int_equal(unwind_cache_find(c, &key, &again), -ENOENT);
	/* Its reference is known to be stale, whoever has its place. */
	assert_int_not_equal(tables[ref[1].table].generation, ref[1].generation);
	expect_content(ref[0], 0, 300);
	expect_content(ref[2], 2, 300);
	assert_int_equal(unwind_cache_stats(c).evicted, 1);
	assert_int_equal(unwind_cache_stats(c).tables, 3);
	/* It comes back, and 0 goes: of the others it was used first. */
	assert_int_equal(put(c, 1, 300, &ref[1]), 0);
	expect_content(ref[1], 1, 300);
	assert_false(there(c, 0));
	assert_int_equal(unwind_cache_stats(c).evicted, 2);
	unwind_cache_free(c);
}

static void test_too_large(void **state)
{
	struct unwind_cache *c;
	struct unwind_ref ref, big;

	(void)state;
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	assert_int_equal(put(c, 1, 100, &ref), 0);
	assert_int_equal(put(c, 2, N_SLOTS + 1, &big), -ENOSPC);
	assert_int_equal(unwind_cache_stats(c).refused, 1);
	expect_content(ref, 1, 100);
	assert_int_equal(put(c, 2, N_SLOTS, &big), 0);
	expect_content(big, 2, N_SLOTS);
	assert_false(there(c, 1));
	unwind_cache_free(c);
}

/* A file without rows is remembered, so that it is not read again; it takes no room. */
static void test_without_rows(void **state)
{
	const struct unwind_rows none = {};
	struct unwind_cache *c;
	struct unwind_ref ref;

	(void)state;
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	for (uint64_t i = 0; i < 3 * N_TABLES; i++) {
		struct unwind_key key = key_of(i);

		assert_int_equal(unwind_cache_put(c, &key, &none, &ref), 0);
		assert_int_equal(ref.table, SB_UNWIND_NO_TABLE);
		assert_true(there(c, i));
	}
	assert_int_equal(unwind_cache_stats(c).files, N_TABLES);
	assert_int_equal(unwind_cache_stats(c).tables, 0);
	assert_int_equal(unwind_cache_stats(c).bytes, 0);
	assert_int_equal(unwind_cache_stats(c).evicted, 0);
	assert_true(there(c, 3 * N_TABLES - 1));
	assert_false(there(c, 0));
	unwind_cache_free(c);
}

/* Two files say that they are the same one, and are not: each has its own rows, and copies of each share them. */
static void test_build_id_of_another(void **state)
{
	struct unwind_cache *c;
	struct unwind_key claimed = key_of(1), first = key_of(2), second = key_of(3), copy = key_of(4);
	uint64_t words[N_SLOTS + 8], other_words[N_SLOTS + 8];
	struct unwind_rows rows = rows_of(words, 1, 100), other = rows_of(other_words, 7, 100), none = {};
	struct unwind_ref ref, shared, its_own, again, bare;

	(void)state;
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	assert_int_equal(unwind_cache_share(c, &claimed, &first, &rows, &ref), 0);
	assert_int_equal(unwind_cache_share(c, &claimed, &copy, &rows, &shared), 0);
	assert_memory_equal(&ref, &shared, sizeof(ref));
	assert_int_equal(unwind_cache_share(c, &claimed, &second, &other, &its_own), 0);
	expect_content(its_own, 7, 100);
	expect_content(ref, 1, 100);
	assert_int_equal(unwind_cache_share(c, &claimed, &second, &other, &again), 0);
	assert_memory_equal(&its_own, &again, sizeof(again));
	assert_int_equal(unwind_cache_stats(c).tables, 2);
	/* One word differs. */
	other_words[99]++;
	assert_int_equal(unwind_cache_share(c, &claimed, &second, &other, &again), 0);
	assert_int_equal(slots[tables[again.table].rules + 99], other_words[99]);
	assert_int_equal(unwind_cache_stats(c).tables, 2);
	expect_content(ref, 1, 100);
	assert_int_equal(unwind_cache_share(c, &claimed, &copy, &none, &bare), 0);
	assert_int_equal(bare.table, SB_UNWIND_NO_TABLE);
	assert_true(there(c, 1));
	unwind_cache_free(c);
}

/* A new process takes over the arena: references of before are stale. */
static void test_next_process(void **state)
{
	struct unwind_cache *c;
	struct unwind_ref ref, next;

	(void)state;
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	assert_int_equal(put(c, 1, 100, &ref), 0);
	unwind_cache_free(c);
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	assert_int_not_equal(tables[ref.table].generation, ref.generation);
	assert_int_equal(tables[ref.table].n_rows, 0);
	assert_int_equal(put(c, 2, 100, &next), 0);
	expect_content(next, 2, 100);
	assert_true(next.table != ref.table || next.generation != ref.generation);
	unwind_cache_free(c);
}

/* Puts, replaces and finds at random: a model of what is there says the same, always. */
static void test_model(void **state)
{
	struct {
		uint32_t n;
		struct unwind_ref ref;
	} model[64] = {};
	struct unwind_cache *c;
	uint64_t seed = 7, hits = 0;

	(void)state;
	assert_int_equal(unwind_cache_new(&arena, &c), 0);
	for (unsigned int round = 0; round < 20000; round++) {
		uint64_t id = (seed = sb_mix64(seed + round)) % 64, used = 0;
		uint32_t n = 4 + (uint32_t)(seed >> 20) % (seed >> 60 ? 80 : 900), known = 0;

		if (seed >> 40 & 1) {
			assert_int_equal(put(c, id, n, &model[id].ref), 0);
			model[id].n = n;
			expect_content(model[id].ref, id, n);
		}
		for (uint64_t i = 0; i < 64; i++) {
			struct unwind_ref ref = model[i].ref;

			if (!model[i].n)
				continue;
			if (tables[ref.table].generation != ref.generation) { /* gone */
				assert_false(there(c, i));
				model[i].n = 0;
				continue;
			}
			expect_content(ref, i, model[i].n);
			used += model[i].n;
			known++;
		}
		assert_int_equal(unwind_cache_stats(c).bytes, used * 8);
		assert_int_equal(unwind_cache_stats(c).tables, known);
		assert_true(used <= N_SLOTS && known <= N_TABLES);
		hits += there(c, id);
	}
	assert_true(hits > 1000);
	assert_true(unwind_cache_stats(c).evicted > 1000);
	unwind_cache_free(c);
}

static void test_keys(void **state)
{
	const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	struct unwind_key by_id, by_file, other, got;
	struct cfi_counts counts = {};
	struct unwind_rows rows = {};
	struct unwind_image image;
	struct stat st;
	int fd;

	(void)state;
	/* Ids that are too short, or too long to be told apart. */
	assert_false(unwind_key_build_id("1234567", 7, &by_id));
	assert_false(unwind_key_build_id(slots, 33, &by_id));
	assert_true(unwind_key_build_id("12345678", 8, &by_id));
	/* As a process has it mapped: opened the way the recorder opens files. */
	fd = process_open_file((uint32_t)getpid(), "/bin/bash");
	assert_true(fd >= 0);
	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_true(unwind_key_build_id(image.build_id, image.build_id_len, &by_id));
	unwind_image_done(&image);
	assert_int_equal(unwind_file_load(fd, &by_id, &limits, &counts, &got, NULL, &rows), 0);
	assert_true(rows.n_rows > 1000);
	assert_int_equal(got.len, by_id.len);
	assert_true(got.build_id);
	assert_memory_equal(got.id, by_id.id, by_id.len);
	unwind_rows_done(&rows);
	/* The file that was mapped has been replaced by another one. */
	assert_true(unwind_key_build_id("another build-id", 16, &other));
	assert_int_equal(unwind_file_load(fd, &other, &limits, &counts, &got, NULL, &rows), -ESTALE);
	/* What the mapping knew of the file says nothing of its build-id. */
	assert_int_equal(fstat(fd, &st), 0);
	unwind_key_file(&st, &by_file);
	assert_int_equal(unwind_file_load(fd, &by_file, &limits, &counts, &got, NULL, &rows), 0);
	unwind_rows_done(&rows);
	st.st_mtim.tv_nsec ^= 1;
	unwind_key_file(&st, &other);
	assert_memory_not_equal(other.id, by_file.id, by_file.len);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_as_needed),
		cmocka_unit_test(test_oldest_goes),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_without_rows),
		cmocka_unit_test(test_build_id_of_another),
		cmocka_unit_test(test_next_process),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
