// SPDX-License-Identifier: BSD-2-Clause
/* A model of the kernel side writes records as bpf/ring.bpf.h does; the reader must give back
 * exactly the newest whole ones, in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "recorder/ring.h"

#define RING (1u << 20)

struct model {
	uint8_t *ring;
	struct sb_bank bank;
	uint32_t seq;
	uint64_t state;
};

static uint64_t rnd(struct model *m)
{
	m->state += 0x9E3779B97F4A7C15ULL;
	return sb_mix64(m->state);
}

static struct sb_rec *put(struct model *m, uint8_t flags)
{
	uint8_t nk = (uint8_t)(rnd(m) % (SB_KFRAMES + 1)), nu = (uint8_t)(rnd(m) % (SB_UFRAMES + 1));
	uint8_t np = (uint8_t)(1 + rnd(m) % SB_PAYLOAD_WORDS);
	uint16_t len = (uint16_t)(sizeof(struct sb_rec) + 8u * ((unsigned int)np + nk + nu));
	uint64_t pos = m->bank.head, end = pos + len;
	struct sb_rec *r = (void *)(m->ring + (pos & (RING - 1)));

	m->bank.head = end;
	if (pos >> SB_SEG_SHIFT != end >> SB_SEG_SHIFT)
		m->bank.seg_first[(end >> SB_SEG_SHIFT) & ((RING >> SB_SEG_SHIFT) - 1)] = end;
	memset(r, (int)(rnd(m) & 0xff), len); /* frames: anything */
	*r = (struct sb_rec){ .len = len, .kind = SB_OFF_CPU, .flags = flags, .pos = (uint32_t)(pos >> 3),
			      .ts_ns = 1000 + m->seq, .seq = m->seq, .nk = nk, .nu = nu, .np = np };
	m->seq++;
	return r;
}

struct seen {
	uint32_t first, next;
	uint64_t n;
	bool ordered;
};

static int check(const struct sb_rec *r, void *ctx)
{
	struct seen *s = ctx;

	if (!s->n)
		s->first = s->next = r->seq;
	s->ordered &= r->seq >= s->next;
	s->next = r->seq + 1;
	s->n++;
	return 0;
}

static struct seen read_all(struct model *m, struct ring_stats *st)
{
	struct seen s = { .ordered = true };

	memset(st, 0, sizeof(*st));
	assert_int_equal(ring_each(m->ring, RING, &m->bank, check, &s, st), 0);
	return s;
}

static struct model new_model(uint64_t seed)
{
	struct model m = { .ring = calloc(1, RING + SB_RING_SLACK), .state = seed };

	assert_non_null(m.ring);
	return m;
}

static void test_empty(void **state)
{
	struct model m = new_model(1);
	struct ring_stats st;

	(void)state;
	assert_int_equal(read_all(&m, &st).n, 0);
	assert_int_equal(st.torn, 0);
	free(m.ring);
}

static void test_laps(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct model m = new_model(seed);
		struct ring_stats st;
		struct seen s;

		for (int batch = 0; batch < 25; batch++) {
			unsigned int n = (unsigned int)(rnd(&m) % 900);

			for (unsigned int i = 0; i < n; i++)
				put(&m, 0);
			s = read_all(&m, &st);
			assert_true(s.ordered);
			assert_int_equal(st.torn, 0);
			assert_int_equal(st.busy, 0);
			if (!m.seq)
				continue;
			/* The newest is there and none is missing in between. */
			assert_int_equal(s.next, m.seq);
			assert_int_equal(s.n, m.seq - s.first);
			/* At most the segment being overwritten and one record are given up. */
			if (m.bank.head > RING)
				assert_true(st.bytes > RING - 2 * SB_SEG_BYTES - 2048);
			else
				assert_int_equal(s.first, 0);
		}
		free(m.ring);
	}
}

static void test_busy(void **state)
{
	struct model m = new_model(7);
	struct ring_stats st;

	(void)state;
	for (int i = 0; i < 100; i++)
		put(&m, i == 40 ? SB_REC_BUSY : 0);
	assert_int_equal(read_all(&m, &st).n, 99);
	assert_int_equal(st.busy, 1);
	assert_int_equal(st.torn, 0);
	free(m.ring);
}

/* Whatever one record is overwritten with: the reader stays inside and goes on at the next
 * segment. */
static void test_corrupt(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct model m = new_model(seed);
		struct ring_stats st;
		struct sb_rec *victim = NULL;
		struct seen s;

		for (int i = 0; i < 400; i++) {
			struct sb_rec *r = put(&m, 0);

			if (i == 100)
				victim = r;
		}
		victim->pos ^= 1u << (seed % 32);
		if (seed % 3 == 0)
			victim->len = (uint16_t)rnd(&m);
		s = read_all(&m, &st);
		assert_int_equal(st.torn, 1);
		assert_true(st.lost_bytes > 0 && st.lost_bytes <= SB_SEG_BYTES + 2048);
		assert_int_equal(s.next, m.seq);
		free(m.ring);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_laps),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_corrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
