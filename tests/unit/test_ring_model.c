// SPDX-License-Identifier: BSD-2-Clause
/* The ring's writer itself (bpf/ring.bpf.h) and its reader, under random interleavings: at every
 * step of a record an interrupt may write further records on the same CPU, other CPUs write
 * theirs, the banks are flipped, and somebody reads. A shadow knows what must come back.
 *
 *   RING_MODEL_SEED=N   repeats a run; the seed is printed
 *   RING_MODEL_STEPS=N  default 20,000,000 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "bpf/compat.bpf.h"

static void step(void);
static uint64_t model_clock;
static bool split; /* as on 5.10: an addition is two instructions */

/* Every access that another context may see, or may see missing, is a step. */
#undef SB_FETCH_ADD
#define SB_FETCH_ADD(p, n)                                          \
	({                                                          \
		step();                                             \
		__u64 _before = *(p);                               \
		if (split) {                                        \
			step();                                     \
			*(p) = _before + (n);                       \
		} else {                                            \
			_before = __sync_fetch_and_add((p), (n));   \
		}                                                   \
		step();                                             \
		_before;                                            \
	})
#undef SB_COUNT
#define SB_COUNT(p)                               \
	do {                                      \
		step();                           \
		(void)__sync_fetch_and_add((p), 1); \
		step();                           \
	} while (0)
#undef barrier
#define barrier()                                   \
	do {                                        \
		__asm__ volatile("" ::: "memory"); \
		step();                             \
	} while (0)
#undef bpf_ktime_get_ns
#define bpf_ktime_get_ns() (step(), ++model_clock)

#include "bpf/ring.bpf.h"
#include "recorder/ring.h"

#define CPUS	 2
#define RING	 (1u << 20)
#define SEGMENTS (RING >> SB_SEG_SHIFT)
#define STACKS	 3000
#define PROGRAMS 4 /* one does not interrupt itself: the kernel keeps it out */
#define DEPTH	 4
/* How many records an interrupt may number before the one that it interrupted. */
#define INVERSION 64

/* What was asked to be written, by its number. All of a run: a bank keeps a record for as long as the
 * other one is in use. */
static struct truth {
	uint64_t id, content;
} *truth;
static uint64_t truths;

static struct model_cpu {
	struct sb_cpu c;
	struct sb_seen seen;
	uint8_t *ring[SB_BANKS];
	struct sb_scratch scratch[PROGRAMS];
	bool active[PROGRAMS];
	unsigned int depth;
	uint64_t in_flight_stack[2 * PROGRAMS]; /* hashes that records in flight may carry */
	uint64_t made[SB_KIND_SLOTS];
} cpu_of[CPUS];

static uint64_t rnd_state, steps, flips, reads, nested, records_made;
static uint64_t stack_frames[STACKS][SB_KFRAMES];
static uint8_t stack_len[STACKS];
static bool reading;

static uint64_t rnd(void)
{
	rnd_state += 0x9E3779B97F4A7C15ULL;
	return sb_mix64(rnd_state);
}

void *model_lookup(const void *map, uint32_t key)
{
	if (map == &cpus)
		return &cpu_of[key].c;
	if (map == &seen)
		return &cpu_of[key].seen;
	if (map == &rings)
		return cpu_of[key % CPUS].ring[key / CPUS];
	return NULL;
}

/* ---- the writer -------------------------------------------------------------------- */

static void take_stack(__u64 *to, uint32_t *n)
{
	/* A few are hot, most are rare: both are interned. */
	uint64_t which = rnd() % 4 ? rnd() % 40 : rnd() % STACKS;

	*n = rnd() % 8 ? stack_len[which] : 0;
	memcpy(to, stack_frames[which], 8u * *n);
}

static uint64_t content(uint64_t h, uint32_t tid, uint8_t kind, uint8_t flags, const void *words,
			uint32_t np, uint64_t kstack, uint64_t ustack)
{
	const uint64_t *payload = words;

	h = sb_hash_step(h ^ kstack, ustack ^ ((uint64_t)tid << 32 | (uint64_t)kind << 16 | flags));
	for (uint32_t i = 0; i < np; i++)
		h = sb_hash_step(h, payload[i]);
	return h;
}

/* One program run; the first payload word is the number of its record. */
static void run_program(uint32_t cpu)
{
	struct model_cpu *m = &cpu_of[cpu];
	uint32_t before = model_cpu, program = rnd() % PROGRAMS;
	struct sb_scratch *s = &m->scratch[program];
	uint64_t id, kstack, ustack;

	if (m->active[program] || m->depth >= DEPTH)
		return;
	model_cpu = cpu;
	m->active[program] = true;
	nested += m->depth++ > 0;
	id = ++records_made;
	s->kind = (uint8_t)(1 + rnd() % (SB_KIND_COUNT - 1));
	s->flags = (uint8_t)(rnd() & 0x7f);
	s->tid = (uint32_t)id;
	s->tgid = 7;
	s->np = 1 + rnd() % SB_PAYLOAD_WORDS;
	s->payload[0] = id;
	for (uint32_t i = 1; i < s->np; i++)
		s->payload[i] = rnd();
	take_stack(s->k, &s->nk);
	take_stack(s->u, &s->nu);
	s->uinfo = (uint8_t)program;
	kstack = s->nk ? sb_hash_stack(s->k, s->nk, SB_HASH_KERNEL, SB_KFRAMES) : 0;
	ustack = s->nu ? sb_hash_stack(s->u, s->nu, SB_HASH_USER(7), SB_UFRAMES) : 0;
	m->in_flight_stack[2 * program] = kstack;
	m->in_flight_stack[2 * program + 1] = ustack;
	assert_true(id < truths);
	truth[id] = (struct truth){
		id, content(id, s->tid, s->kind, s->flags, s->payload, s->np, kstack, ustack)
	};
	m->made[s->kind & (SB_KIND_SLOTS - 1)]++;
	sb_emit(s);
	m->in_flight_stack[2 * program] = m->in_flight_stack[2 * program + 1] = 0;
	m->depth--;
	m->active[program] = false;
	model_cpu = before;
}

/* ---- the reader -------------------------------------------------------------------- */

struct pass {
	struct model_cpu *m;
	const uint8_t *ring;
	uint64_t head, next, n, oldest;
	uint32_t last_seq;
};

static uint64_t inline_hash[1u << 16];

static void note_hash(uint64_t h)
{
	inline_hash[h >> 48] = h;
}

static uint64_t position(const struct pass *p, const struct sb_rec *r)
{
	uint64_t offset = (uint64_t)((const uint8_t *)r - p->ring), lap = p->head / RING;
	uint64_t pos = lap * RING + offset;

	return pos >= p->head ? pos - RING : pos;
}

static uint64_t hash_frames(uint64_t h, const uint64_t *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		h = sb_hash_step(h, f[i]);
	return h;
}

static int check_whole(const struct sb_rec *r, void *ctx)
{
	struct pass *p = ctx;
	uint64_t pos = position(p, r);
	const struct truth *t;

	assert_int_equal(r->pos, (uint32_t)(pos >> 3));
	assert_false(r->flags & SB_REC_BUSY);
	/* In order, nothing twice. */
	assert_true(pos >= p->next);
	p->next = pos + r->len;
	assert_true(*ring_payload(r) < truths);
	t = &truth[*ring_payload(r)];
	assert_int_equal(t->id, *ring_payload(r));
	assert_int_equal(t->content, content(t->id, r->tid, r->kind, r->flags, ring_payload(r), r->np,
					     r->kstack, r->ustack));
	/* The numbers go up, but an interrupt may take its own before the record that it interrupted. */
	assert_true(!p->n || (int32_t)(r->seq - p->last_seq) > -INVERSION);
	p->last_seq = r->seq;
	if (r->nk) {
		assert_int_equal(hash_frames(SB_HASH_KERNEL, ring_kframes(r), r->nk), r->kstack);
		note_hash(r->kstack);
	}
	if (r->nu) {
		assert_int_equal(hash_frames(SB_HASH_USER(r->tgid), ring_uframes(r), r->nu), r->ustack);
		note_hash(r->ustack);
	}
	if (!p->n)
		p->oldest = pos;
	p->n++;
	return 0;
}

static int find_inline(const struct sb_rec *r, void *ctx)
{
	uint64_t h = *(uint64_t *)ctx;

	return (r->nk && r->kstack == h) || (r->nu && r->ustack == h);
}

static bool hash_known(uint64_t h, const struct pass *p, const struct sb_bank *b)
{
	struct ring_stats ignored = {};

	if (inline_hash[h >> 48] == h)
		return true;
	for (unsigned int i = 0; i < SB_ARRAY_SIZE(p->m->in_flight_stack); i++) {
		if (p->m->in_flight_stack[i] == h)
			return true;
	}
	return ring_each(p->ring, RING, b, find_inline, &h, &ignored) == 1;
}

struct resolve {
	struct pass *p;
	const struct sb_bank *b;
};

static int check_stacks(const struct sb_rec *r, void *ctx)
{
	const struct resolve *v = ctx;
	uint64_t pos = position(v->p, r), oldest = v->p->oldest >> SB_SEG_SHIFT;

	/* The oldest records may name what was overwritten with the segments before them. */
	if (oldest && (pos >> SB_SEG_SHIFT) <= oldest + cfg.keep_segments)
		return 0;
	if (r->kstack && !r->nk)
		assert_true(hash_known(r->kstack, v->p, v->b));
	if (r->ustack && !r->nu)
		assert_true(hash_known(r->ustack, v->p, v->b));
	return 0;
}

static void read_bank(uint32_t cpu, uint32_t bank)
{
	struct model_cpu *m = &cpu_of[cpu];
	const struct sb_bank *b = &m->c.bank[bank];
	struct pass p = { .m = m, .ring = m->ring[bank], .head = b->head };
	struct resolve v = { &p, b };
	struct ring_stats st = {}, again = {};

	reading = true;
	reads++;
	memset(inline_hash, 0, sizeof(inline_hash));
	assert_int_equal(ring_each(m->ring[bank], RING, b, check_whole, &p, &st), 0);
	assert_int_equal(st.records, p.n);
	assert_true(st.busy <= m->depth);
	if (!m->depth) {
		/* Nothing is being written: not one byte may be missing. Without atomics a record that
		 * went over a border and was taken back has begun to overwrite the oldest segment. */
		assert_true(st.torn <= (split && b->head > RING - SB_SEG_BYTES));
		assert_int_equal(st.busy, 0);
		assert_int_equal(p.n ? p.next : 0, b->head);
		assert_true(b->head < RING || st.bytes >= RING - (split ? 3 : 2) * SB_SEG_BYTES - 2048);
		assert_true(b->head >= RING - SB_SEG_BYTES || st.bytes == b->head);
	} else {
		/* At most the segment of each record that has no header yet, and the next one if it
		 * has still to note where that begins. */
		assert_true(st.torn <= 2 * m->depth);
		assert_true(st.lost_bytes <= m->depth * 2 * (SB_SEG_BYTES + 2048ULL));
	}
	if (!split)
		assert_int_equal(ring_each(m->ring[bank], RING, b, check_stacks, &v, &again), 0);
	reading = false;
}

/* Both banks together: each number once, and none missing that is younger than the oldest that
 * each bank has kept. */
struct numbers {
	uint32_t *seq, first;
	size_t n;
};

static int note_number(const struct sb_rec *r, void *ctx)
{
	struct numbers *v = ctx;

	v->first = SB_MIN(v->first, r->seq);
	v->seq[v->n++] = r->seq;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void check_numbers(uint32_t cpu)
{
	struct model_cpu *m = &cpu_of[cpu];
	struct numbers v = { .seq = calloc(SB_BANKS * RING / sizeof(struct sb_rec) + 1, sizeof(*v.seq)) };
	struct ring_stats st = {};
	uint64_t recorded = 0;
	uint32_t from = 0;

	assert_non_null(v.seq);
	for (unsigned int b = 0; b < SB_BANKS; b++) {
		v.first = UINT32_MAX;
		assert_int_equal(ring_each(m->ring[b], RING, &m->c.bank[b], note_number, &v, &st), 0);
		if (m->c.bank[b].head > RING - SB_SEG_BYTES) /* something is overwritten */
			from = SB_MAX(from, v.first + INVERSION);
	}
	qsort(v.seq, v.n, sizeof(*v.seq), by_number);
	for (size_t i = 0; i < v.n; i++) {
		assert_true(i == 0 || v.seq[i] > v.seq[i - 1]);
		if (v.seq[i] > from)
			assert_int_equal(v.seq[i], i ? v.seq[i - 1] + 1 : 0);
	}
	assert_int_equal(v.n ? v.seq[v.n - 1] + 1 : 0, (uint32_t)m->c.seq);
	for (unsigned int k = 0; k < SB_KIND_SLOTS; k++) {
		assert_int_equal(m->c.recorded[k], m->made[k]);
		recorded += m->c.recorded[k];
	}
	/* Recorded is what has a number: nothing else took one, nothing went without. */
	assert_int_equal(recorded, m->c.seq);
	free(v.seq);
}

/* ---- interleavings ------------------------------------------------------------------- */

static void flip(void)
{
	control.generation++;
	flips++;
}

static void step(void)
{
	uint64_t dice;

	if (reading)
		return;
	steps++;
	dice = rnd();
	if ((dice & 15) == 0)
		run_program(model_cpu); /* an interrupt */
	else if ((dice & 15) == 1)
		run_program((model_cpu + 1) % CPUS);
	else if ((dice & 0x1ffff) == 2)
		flip();
	else if ((dice & 0x7ff) == 3 && !split) /* where atomics are missing the freeze waits for the writers */
		/* Mostly where somebody is writing. */
		read_bank(dice >> 48 & 3 ? model_cpu : (uint32_t)(dice >> 32) % CPUS, (uint32_t)(dice >> 40) & 1);
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void set_up(void)
{
	struct sb_config *c = (struct sb_config *)(uintptr_t)&cfg;

	c->ring_bytes = RING;
	c->cpus = CPUS;
	c->keep_segments = 8;
	for (unsigned int i = 0; i < STACKS; i++) {
		stack_len[i] = (uint8_t)(1 + rnd() % SB_KFRAMES);
		for (unsigned int k = 0; k < SB_KFRAMES; k++)
			stack_frames[i][k] = rnd();
	}
	for (unsigned int i = 0; i < CPUS; i++) {
		for (unsigned int b = 0; b < SB_BANKS; b++) {
			free(cpu_of[i].ring[b]);
			cpu_of[i].ring[b] = NULL;
		}
		memset(&cpu_of[i], 0, sizeof(cpu_of[i]));
		for (unsigned int b = 0; b < SB_BANKS; b++) {
			cpu_of[i].ring[b] = calloc(1, RING + SB_RING_SLACK);
			assert_non_null(cpu_of[i].ring[b]);
		}
	}
	control.generation = 0;
}

static void interleave(uint64_t max_steps)
{
	uint64_t seed = from_env("RING_MODEL_SEED", (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid());
	struct timespec a, b;
	double seconds;

	rnd_state = seed;
	printf("# RING_MODEL_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	set_up();
	truths = max_steps / 4; /* a record takes more steps */
	truth = calloc(truths, sizeof(*truth));
	assert_non_null(truth);
	steps = flips = reads = nested = records_made = 0;
	clock_gettime(CLOCK_MONOTONIC, &a);
	while (steps < max_steps) {
		flip();
		for (unsigned int n = (unsigned int)(rnd() % (split ? 2000 : 20000)); n; n--)
			run_program(n % CPUS);
		for (unsigned int i = 0; i < CPUS; i++) {
			read_bank(i, 0);
			read_bank(i, 1);
			if (!split)
				check_numbers(i);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("# %llu steps, %llu records (%llu inside another), %llu flips, %llu reads in %.1f s\n",
	       (unsigned long long)steps, (unsigned long long)records_made, (unsigned long long)nested,
	       (unsigned long long)flips, (unsigned long long)reads, seconds);
	free(truth);
	/* The interleavings that matter did happen. */
	assert_true(nested > records_made / 50);
	assert_true(flips > 10 && reads > 60);
}

static void test_interleavings(void **state)
{
	(void)state;
	split = false;
	interleave(from_env("RING_MODEL_STEPS", 20000000));
}

/* Without atomics an interrupt may be given the place of the record that it interrupts, which then
 * overwrites it, and with it perhaps the frames of a stack: the freeze counts those. What is read must
 * be whole and true all the same. */
static void test_without_atomics(void **state)
{
	(void)state;
	split = true;
	interleave(from_env("RING_MODEL_STEPS", 20000000) / 4);
	split = false;
}

/* Stacks that agree in half of their hash are two stacks: the second must not be taken for the
 * first, whose frames are no help to it. */
static void test_half_equal_hashes(void **state)
{
	static struct sb_seen known;
	uint64_t hash = 0x123456789abcdef0ULL;

	(void)state;
	set_up();
	for (unsigned int bit = 0; bit < 64; bit++) {
		memset(&known, 0, sizeof(known));
		assert_true(sb_must_inline(&known, hash, 1));
		assert_false(sb_must_inline(&known, hash, 1));
		if (bit < 20)
			continue; /* these tell nobody apart: 44 bits do */
		assert_true(sb_must_inline(&known, hash ^ 1ULL << bit, 1));
	}
}

/* A stack is written again once its frames may be overwritten. */
static void test_inline_window(void **state)
{
	static struct sb_seen known;

	(void)state;
	set_up();
	memset(&known, 0, sizeof(known));
	assert_true(sb_must_inline(&known, 42, 100));
	assert_false(sb_must_inline(&known, 42, 100 + cfg.keep_segments - 1));
	assert_true(sb_must_inline(&known, 42, 100 + cfg.keep_segments));
	/* of another generation */
	assert_true(sb_must_inline(&known, 42, 100 + cfg.keep_segments + (1u << 24)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_half_equal_hashes),
		cmocka_unit_test(test_inline_window),
		cmocka_unit_test(test_interleavings),
		cmocka_unit_test(test_without_atomics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
