// SPDX-License-Identifier: BSD-2-Clause
/* The map against a plain array of pairs, and against keys chosen to meet. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "format/map64.h"

static uint64_t rnd_state;

static uint64_t rnd(void)
{
	rnd_state += 0x9E3779B97F4A7C15ULL;
	return sb_mix64(rnd_state);
}

/* ---- the model --------------------------------------------------------------------- */

#define MODEL_MAX 3000

struct model {
	struct {
		uint64_t key, value;
	} pair[MODEL_MAX];
	size_t n;
};

static uint64_t model_get(const struct model *m, uint64_t key)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->pair[i].key == key)
			return m->pair[i].value;
	}
	return 0;
}

static void model_put(struct model *m, uint64_t key, uint64_t value)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->pair[i].key == key) {
			m->pair[i].value = value;
			return;
		}
	}
	assert_true(m->n < MODEL_MAX);
	m->pair[m->n].key = key;
	m->pair[m->n++].value = value;
}

/* Small and close together, spread, at both ends, equal in their low or their high bits. */
static uint64_t next_key(void)
{
	uint64_t r = rnd();

	switch (r % 5) {
	case 0:
		return 1 + (r >> 8) % 500;
	case 1:
		return UINT64_MAX - (r >> 8) % 500;
	case 2:
		return ((r >> 8) % 500 + 1) << 52;
	case 3:
		return 0xffffffff81000000ULL + 16 * ((r >> 8) % 500);
	default:
		return r | 1;
	}
}

static void compare_all(const struct map64 *m, const struct model *model)
{
	size_t used = 0;

	assert_int_equal(m->n, model->n);
	for (size_t i = 0; i < model->n; i++)
		assert_true(map64_get(m, model->pair[i].key) == model->pair[i].value);
	for (size_t i = 0; i < m->cap; i++) {
		if (!m->slot[i].key)
			continue;
		used++;
		assert_true(model_get(model, m->slot[i].key) == m->slot[i].value);
	}
	assert_int_equal(used, model->n);
}

static void test_model(void **state)
{
	static struct model model;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct map64 m = {};

		rnd_state = seed;
		model.n = 0;
		for (int i = 0; i < 4000 && model.n < MODEL_MAX - 1; i++) {
			uint64_t key = next_key(), value = rnd();

			if (rnd() % 3) {
				assert_int_equal(map64_put(&m, key, value), 0);
				model_put(&model, key, value);
			}
			key = next_key();
			assert_true(map64_get(&m, key) == model_get(&model, key));
		}
		compare_all(&m, &model);
		map64_done(&m);
	}
}

/* ---- growth ------------------------------------------------------------------------ */

static void test_growth(void **state)
{
	struct map64 m = {};
	size_t cap = 0, grown = 0;

	(void)state;
	for (uint64_t i = 1; i <= 300000; i++) {
		assert_int_equal(map64_put(&m, i << 12, i), 0);
		assert_true(m.n == i && m.n * 2 <= m.cap && (m.cap & (m.cap - 1)) == 0);
		if (m.cap == cap)
			continue;
		cap = m.cap;
		grown++;
		for (uint64_t k = 1; k <= i; k++)
			assert_true(map64_get(&m, k << 12) == k);
		assert_true(map64_get(&m, (i + 1) << 12) == 0);
	}
	assert_int_equal(grown, 9); /* 2^12 to 2^20 */
	/* Writing what is there makes nothing larger. */
	for (uint64_t i = 1; i <= 300000; i++)
		assert_int_equal(map64_put(&m, i << 12, i + 7), 0);
	assert_int_equal(m.n, 300000);
	assert_int_equal(m.cap, cap);
	assert_true(map64_get(&m, 300000ULL << 12) == 300007);
	map64_done(&m);
}

static void test_empty_and_done(void **state)
{
	struct map64 m = {};

	(void)state;
	assert_true(map64_get(&m, 1) == 0);
	map64_done(&m);
	assert_int_equal(map64_put(&m, 1, 2), 0);
	map64_done(&m);
	assert_true(!m.slot && m.n == 0 && m.cap == 0);
	assert_true(map64_get(&m, 1) == 0);
	assert_int_equal(map64_put(&m, 3, 4), 0);
	assert_true(map64_get(&m, 1) == 0 && map64_get(&m, 3) == 4);
	map64_done(&m);
}

/* ---- hostile keys ------------------------------------------------------------------ */

/* 0 marks an empty slot: kept, it would answer for keys that were never put. */
static void test_key_zero(void **state)
{
	struct map64 m = {};

	(void)state;
	assert_int_equal(map64_put(&m, 0, 42), -EINVAL);
	assert_int_equal(map64_put(&m, 5, 6), 0);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(map64_put(&m, 0, 42), -EINVAL);
	assert_int_equal(m.n, 1);
	assert_true(map64_get(&m, 0) == 0);
	for (uint64_t key = 1; key < 100000; key++)
		assert_true(map64_get(&m, key) == (key == 5 ? 6 : 0));
	map64_done(&m);
}

static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;

	for (int i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

/* The key that sb_mix64() turns into h. */
static uint64_t unmix(uint64_t h)
{
	h ^= h >> 33;
	h *= inverse(0xc4ceb9fe1a85ec53ULL);
	h ^= h >> 33;
	h *= inverse(0xff51afd7ed558ccdULL);
	return h ^ h >> 33;
}

static size_t longest_run(const struct map64 *m)
{
	size_t longest = 0, run = 0;

	for (size_t i = 0; i < m->cap; i++) {
		run = m->slot[i].key ? run + 1 : 0;
		longest = SB_MAX(longest, run);
	}
	return longest;
}

/* Keys of a bundle are chosen by whoever made it. These all mix to the same low bits: where
 * the place depends on nothing else they make one run, and every look-up walks it. */
static void test_colliding_keys(void **state)
{
	struct map64 m = {};
	const uint64_t n = 50000;

	(void)state;
	assert_true(sb_mix64(unmix(0x123456789abcdefULL)) == 0x123456789abcdefULL);
	for (uint64_t i = 1; i <= n; i++)
		assert_int_equal(map64_put(&m, unmix(i << 24), i), 0);
	for (uint64_t i = 1; i <= n; i++)
		assert_true(map64_get(&m, unmix(i << 24)) == i);
	/* At most half full, spread keys make runs of some dozens. */
	assert_true(longest_run(&m) < 500);
	map64_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_empty_and_done),
		cmocka_unit_test(test_key_zero),
		cmocka_unit_test(test_colliding_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
