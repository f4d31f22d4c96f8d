// SPDX-License-Identifier: BSD-2-Clause
/* Records as the kernel side leaves them in a bank become the events, stacks and losses of the bundle. What a
 * test on a kernel cannot cause at will: a sample that came late, a torn stack, every cause of loss at once. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "format/reader.h"
#include "recorder/freeze.h"
#include "tests/unit/one_file.h"
#include "unwind/layout.h"

#define RING (1u << 20)
#define PERIOD_NS 10101000ULL /* bundles keep whole microseconds */
#define CPUS 2

struct host {
	struct probes p;
	struct freeze f;
	FILE *out;
	uint32_t seq;
};

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -EIO;
}

static void begin(struct host *h)
{
	struct bundle_header header = { .producer = "test", .hostname = "host",
					.trigger = { "t", "manual", "manual", "", "", NSEC_PER_SEC, 0, 0, 0 } };

	*h = (struct host){ .p.cfg = { .cpus = CPUS, .ring_bytes = RING, .sample_period_ns = PERIOD_NS } };
	h->p.ring_stride = RING + SB_RING_SLACK;
	h->p.rings = calloc(CPUS * SB_BANKS, h->p.ring_stride);
	h->p.cpus = calloc(CPUS, sizeof(*h->p.cpus));
	h->p.tasks = calloc(SB_TASKS, sizeof(*h->p.tasks));
	h->p.control = calloc(1, sizeof(*h->p.control));
	assert_true(h->p.rings && h->p.cpus && h->p.tasks && h->p.control);
	assert_int_equal(freeze_init(&h->f, &h->p), 0);
	h->out = fopen(path, "w");
	assert_non_null(h->out);
	assert_int_equal(bundle_writer_new(to_file, h->out, 1, &h->f.w), 0);
	bundle_writer_header(h->f.w, &header);
}

static struct bundle *end(struct host *h)
{
	struct bundle_footer footer = { .symbolized = true };
	struct bundle *b = NULL;

	assert_int_equal(bundle_writer_finish(h->f.w, &footer), 0);
	bundle_writer_free(h->f.w);
	assert_int_equal(fclose(h->out), 0);
	freeze_done(&h->f);
	free((void *)(uintptr_t)h->p.rings);
	free(h->p.cpus);
	free((void *)(uintptr_t)h->p.tasks);
	free(h->p.control);
	assert_int_equal(bundle_open(path, &b, NULL), 0);
	assert_true(bundle_damage(b)->complete);
	return b;
}

/* A record of bank 0; the frames, if any, stand in it. */
static struct sb_rec *put(struct host *h, uint32_t cpu, enum sb_kind kind, uint8_t flags, const void *payload,
			  uint8_t words, const uint64_t *frames, uint8_t nk)
{
	struct sb_bank *bank = &h->p.cpus[cpu].bank[0];
	uint64_t *at = (void *)(uintptr_t)(probes_ring(&h->p, 0, cpu) + bank->head);
	struct sb_rec *r = (void *)at;

	*r = (struct sb_rec){ .len = (uint16_t)(sizeof(*r) + 8u * ((unsigned int)words + nk)), .kind = kind,
			      .flags = flags, .pos = (uint32_t)(bank->head >> 3), .ts_ns = NSEC_PER_SEC + h->seq,
			      .tid = 7, .tgid = 7, .seq = h->seq, .nk = nk, .np = words };
	at += sizeof(*r) / 8;
	memcpy(at, payload, 8u * words);
	if (nk)
		memcpy(at + words, frames, 8u * nk);
	bank->head += r->len;
	h->seq++;
	return r;
}

static uint64_t hash_from(uint64_t hash, const uint64_t *frames, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		hash = sb_hash_step(hash, frames[i]);
	return hash;
}

static uint64_t hash_of(const uint64_t *frames, uint32_t n)
{
	return hash_from(SB_HASH_KERNEL, frames, n);
}

struct got {
	struct bundle_event e[8];
	size_t n;
};

static int take(const struct bundle_event *e, void *ctx)
{
	struct got *g = ctx;

	assert_true(g->n < SB_ARRAY_SIZE(g->e));
	g->e[g->n++] = *e;
	return 0;
}

static void test_late(void **state)
{
	struct sb_on_cpu in_time = { .gap_ns = PERIOD_NS + 1000 }, late = { .gap_ns = 7 * PERIOD_NS + 5000 };
	struct got g = {};
	struct bundle *b;
	struct host h;

	(void)state;
	begin(&h);
	put(&h, 0, SB_ON_CPU, 0, &in_time, 1, NULL, 0);
	put(&h, 0, SB_ON_CPU, SB_REC_LATE, &late, 1, NULL, 0);
	put(&h, 0, SB_ON_CPU, SB_REC_LATE | SB_REC_USER, &late, 1, NULL, 0);
	put(&h, 0, SB_ON_CPU, SB_REC_THINNED, &late, 1, NULL, 0);
	assert_int_equal(freeze_write_bank(&h.f, 0), 0);
	b = end(&h);
	assert_int_equal(bundle_each_event(b, take, &g), 0);
	assert_int_equal(g.n, 4);
	/* A sample stands for the period, a late one for the whole time since the one before. */
	assert_int_equal(g.e[0].duration_ns, PERIOD_NS);
	assert_int_equal(g.e[1].duration_ns, late.gap_ns);
	assert_int_equal(g.e[2].duration_ns, late.gap_ns);
	assert_int_equal(g.e[0].flags, 0);
	assert_int_equal(g.e[1].flags, BUNDLE_EV_LATE);
	assert_int_equal(g.e[2].flags, BUNDLE_EV_LATE | BUNDLE_EV_USER);
	/* One of those taken above the CPU budget also for the others, as many as there is time for. */
	assert_int_equal(g.e[0].weight | g.e[1].weight | g.e[2].weight, 0);
	assert_int_equal(g.e[3].duration_ns, late.gap_ns);
	assert_int_equal(g.e[3].weight, 7);
	assert_int_equal(g.e[3].flags, 0);
	bundle_close(b);
}

/* Frames that are not what the hash says belong to nobody; records that name them say that they lost theirs. */
static void test_torn_stack(void **state)
{
	uint64_t whole[] = { 0xffffffff81000100, 0xffffffff81000200 }, torn[] = { 0xffffffff81000300, 0xffffffff81000400 };
	struct sb_off_cpu off = { .duration_ns = 5 * NSEC_PER_MSEC };
	const struct bundle_loss *loss;
	uint64_t recorded[SB_KIND_SLOTS] = {};
	struct got g = {};
	struct bundle *b;
	struct host h;

	(void)state;
	begin(&h);
	put(&h, 0, SB_OFF_CPU, 0, &off, 2, whole, 2)->kstack = hash_of(whole, 2);
	put(&h, 0, SB_OFF_CPU, 0, &off, 2, torn, 2)->kstack = hash_of(torn, 2) + 8;
	put(&h, 0, SB_OFF_CPU, 0, &off, 2, NULL, 0)->kstack = hash_of(whole, 2);
	assert_int_equal(freeze_write_bank(&h.f, 0), 0);
	assert_int_equal(freeze_write_losses(&h.f, recorded, 0, NULL), 0);
	b = end(&h);
	assert_int_equal(bundle_each_event(b, take, &g), 0);
	assert_int_equal(g.n, 3);
	assert_true(g.e[0].kstack && g.e[0].kstack == g.e[2].kstack);
	assert_int_equal(bundle_stack(b, g.e[0].kstack)->n, 2);
	assert_int_equal(bundle_stack(b, g.e[0].kstack)->addr[1], whole[1]);
	assert_int_equal(g.e[1].kstack, 0);
	assert_int_equal(g.e[1].flags, BUNDLE_EV_KSTACK_LOST);
	assert_int_equal(bundle_losses(b, &loss), 1);
	assert_int_equal(loss[0].cause, BUNDLE_LOSS_EVICTED);
	assert_int_equal(loss[0].count, 1);
	bundle_close(b);
}

static void end_at(struct sb_rec *r, const uint64_t *frames, uint8_t end)
{
	r->ustack = hash_from(SB_HASH_USER(r->tgid), frames, 2);
	r->uinfo = SB_UINFO(SB_BY_EH_FRAME, end);
}

/* A walk that had no table yet may find what a later one finds, and has another end: each record keeps its own. */
static void test_same_frames_end_otherwise(void **state)
{
	uint64_t frames[] = { 0x455765, 0x457b2f };
	struct sb_off_cpu off = { .duration_ns = 5 * NSEC_PER_MSEC };
	struct got g = {};
	struct sb_rec *r;
	struct bundle *b;
	struct host h;

	(void)state;
	begin(&h);
	r = put(&h, 0, SB_OFF_CPU, 0, &off, 2, frames, 2);
	r->nk = 0;
	r->nu = 2;
	end_at(r, frames, SB_UNWIND_NO_ROWS);
	end_at(put(&h, 0, SB_OFF_CPU, 0, &off, 2, NULL, 0), frames, SB_UNWIND_COMPLETE);
	end_at(put(&h, 0, SB_OFF_CPU, 0, &off, 2, NULL, 0), frames, SB_UNWIND_NO_ROWS);
	assert_int_equal(freeze_write_bank(&h.f, 0), 0);
	/* In the other bank the frames stand no more: better with another end than without frames. */
	r = put(&h, 1, SB_OFF_CPU, 0, &off, 2, NULL, 0);
	end_at(r, frames, SB_UNWIND_STALE);
	h.p.cpus[0].bank[0].head = 0;
	assert_int_equal(freeze_write_bank(&h.f, 0), 0);
	b = end(&h);
	assert_int_equal(bundle_each_event(b, take, &g), 0);
	assert_int_equal(g.n, 4);
	assert_true(g.e[0].ustack && g.e[1].ustack);
	assert_int_equal(bundle_stack(b, g.e[0].ustack)->unwind, BUNDLE_UNWIND_EH_FRAME | BUNDLE_END_NO_ROWS << 4);
	assert_int_equal(bundle_stack(b, g.e[1].ustack)->unwind, BUNDLE_UNWIND_EH_FRAME | BUNDLE_END_COMPLETE << 4);
	assert_int_equal(bundle_stack(b, g.e[1].ustack)->n, 2);
	assert_int_equal(bundle_stack(b, g.e[1].ustack)->addr[1], frames[1]);
	assert_int_equal(g.e[2].ustack, g.e[0].ustack);
	assert_int_equal(g.e[3].ustack, g.e[0].ustack);
	bundle_close(b);
}

static uint64_t count_of(const struct bundle *b, enum bundle_loss_cause cause, enum bundle_kind kind, const char *what)
{
	const struct bundle_loss *l;
	size_t n = bundle_losses(b, &l);
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		if (l[i].cause == cause && l[i].kind == kind && strstr(l[i].what, what))
			sum += l[i].count;
	}
	return sum;
}

/* Every counter of every CPU is told, once, under its own cause. */
static void test_losses(void **state)
{
	struct sb_on_cpu on = { .gap_ns = PERIOD_NS };
	uint64_t recorded[SB_KIND_SLOTS] = { [SB_ON_CPU] = 100, [SB_SLAB] = 9 }, sum = 0, all = 0;
	const struct bundle_loss *l;
	struct bundle *b;
	struct host h;
	size_t n;

	(void)state;
	begin(&h);
	put(&h, 0, SB_ON_CPU, 0, &on, 1, NULL, 0);
	put(&h, 1, SB_ON_CPU, 0, &on, 1, NULL, 0);
	put(&h, 1, SB_ON_CPU, SB_REC_BUSY, &on, 1, NULL, 0);
	for (int i = 0; i <= SB_LOST_LIMIT_SAMPLE; i++) {
		h.p.cpus[0].lost[i] = 1ULL << i;
		h.p.cpus[1].lost[i] = 1ULL << (i + 16);
		sum += (1ULL << i) + (1ULL << (i + 16));
	}
	assert_int_equal(freeze_write_bank(&h.f, 0), 0);
	h.f.shot_truncated = 3;
	assert_int_equal(freeze_write_losses(&h.f, recorded, 77, NULL), 0);
	b = end(&h);
	assert_int_equal(count_of(b, BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, "beyond the budget"), 0x10001);
	assert_int_equal(count_of(b, BUNDLE_LOSS_DROPPED, BUNDLE_KIND_NONE, "beyond the budget"), 0x10001ULL << SB_LOST_BUDGET);
	assert_int_equal(count_of(b, BUNDLE_LOSS_DROPPED, BUNDLE_RECLAIM, "short reclaim spans"), 0x10001ULL << SB_LOST_SHORT_SPANS);
	assert_int_equal(count_of(b, BUNDLE_LOSS_LIMITED, BUNDLE_OFF_CPU, "user stacks"), 0x10001ULL << SB_LOST_LIMIT_USTACK);
	assert_int_equal(count_of(b, BUNDLE_LOSS_LIMITED, BUNDLE_OFF_CPU, "blocks"), 0x10001ULL << SB_LOST_LIMIT_SHORT);
	assert_int_equal(count_of(b, BUNDLE_LOSS_LIMITED, BUNDLE_ON_CPU, "samples"), 0x10001ULL << SB_LOST_LIMIT_SAMPLE);
	assert_int_equal(count_of(b, BUNDLE_LOSS_OVERWRITTEN, BUNDLE_ON_CPU, ""), 98);
	assert_int_equal(count_of(b, BUNDLE_LOSS_OVERWRITTEN, BUNDLE_SLAB, ""), 9);
	assert_int_equal(count_of(b, BUNDLE_LOSS_TORN, BUNDLE_KIND_NONE, "being written"), 1);
	assert_int_equal(count_of(b, BUNDLE_LOSS_TRUNCATED, BUNDLE_KIND_NONE, "stackshot"), 3);
	assert_int_equal(count_of(b, BUNDLE_LOSS_MISSED, BUNDLE_KIND_NONE, ""), 77);
	n = bundle_losses(b, &l);
	for (size_t i = 0; i < n; i++)
		all += l[i].count;
	assert_int_equal(all, sum + 98 + 9 + 1 + 3 + 77);
	bundle_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_torn_stack),
		cmocka_unit_test(test_same_frames_end_otherwise),
		cmocka_unit_test(test_losses),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
