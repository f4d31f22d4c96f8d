// SPDX-License-Identifier: BSD-2-Clause
/* What the program at a context switch makes of the run queues' clocks. They are per CPU, and one may
 * be behind the one that a thread was last seen by. The code is the kernel's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bpf/offcpu.bpf.c"
#include "recorder/ring.h"

#define MS 1000000ULL
#define RING (1u << 20)
#define NOW (1000 * MS)
#define TID 41

static struct sb_cpu model_cpus;
static struct sb_seen model_seen;
static struct sb_task_state model_state;
static struct sb_task model_task;
static struct sb_ustack model_ustack;
static struct sb_scratch model_scratch[SB_SCRATCH_COUNT];
static struct sb_kstack model_kstack[SB_KSTACKS];
static struct sb_kstack_words model_words;
static _Alignas(8) uint8_t model_ring[RING + SB_RING_SLACK];

void *model_lookup(const void *map, uint32_t key)
{
	return map == &cpus	    ? (void *)&model_cpus :
	       map == &seen	    ? (void *)&model_seen :
	       map == &task_state   ? (void *)&model_state :
	       map == &tasks	    ? (void *)&model_task :
	       map == &ustacks	    ? (void *)&model_ustack :
	       map == &kstacks	    ? (void *)&model_kstack[key] :
	       map == &kstack_words ? (void *)&model_words :
	       map == &scratch	    ? (void *)&model_scratch[key] :
	       map == &rings	    ? (void *)model_ring : NULL;
}

static int empty(void **state)
{
	struct sb_config *c = (struct sb_config *)(uintptr_t)&cfg;

	(void)state;
	memset(&model_cpus, 0, sizeof(model_cpus));
	memset(&model_state, 0, sizeof(model_state));
	memset(model_ring, 0, sizeof(model_ring));
	c->ring_bytes = RING;
	c->cpus = 1;
	c->offcpu_threshold_ns = MS;
	c->short_budget = 100;
	c->ust_period_ns = MS / 2;
	c->long_period_ns = MS / 2;
	control.offcpu_threshold_ns = MS;
	memset(&control.trigger, 0, sizeof(control.trigger));
	control.watch = 0;
	control.armed = 0;
	return 0;
}

static int keep(const struct sb_rec *r, void *ctx)
{
	memcpy(ctx, ring_payload(r), sizeof(struct sb_off_cpu));
	return 0;
}

/* The thread comes onto a CPU whose clock says NOW. Returns how many records there are. */
static uint64_t comes(uint64_t arrived, uint64_t queued, struct sb_off_cpu *ret)
{
	struct rq rq = { .clock = NOW };
	struct cfs_rq cfs_rq = { .rq = &rq };
	struct task_struct idle = {}, next = {
		.pid = TID, .tgid = TID, .flags = PF_KTHREAD, .se = { .cfs_rq = &cfs_rq },
		.sched_info = { .last_arrival = arrived, .last_queued = queued },
	};
	unsigned long long arguments[] = { false, (uintptr_t)&idle, (uintptr_t)&next };
	struct ring_stats st = {};

	sched_switch(arguments, false, &idle, &next);
	ring_each(model_ring, RING, &model_cpus.bank[0], keep, ret, &st);
	return st.records;
}

/* A kernel thread of that state leaves that CPU, onto which it came at that time. */
static void leaves_as(uint32_t task_state_bits, uint64_t now, uint64_t arrived)
{
	struct rq rq = { .clock = now };
	struct cfs_rq cfs_rq = { .rq = &rq };
	struct task_struct idle = { .se = { .cfs_rq = &cfs_rq } }, prev = {
		.pid = TID, .tgid = TID, .flags = PF_KTHREAD, .__state = task_state_bits,
		.sched_info = { .last_arrival = arrived },
	};

	sched_switch(NULL, false, &prev, &idle);
}

static void leaves(uint64_t now, uint64_t arrived)
{
	leaves_as(0, now, arrived);
}

static void left_at(uint64_t ns)
{
	model_state.tid = TID;
	model_state.off_ns = ns;
	model_state.state = TASK_INTERRUPTIBLE;
}

static void test_block(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	left_at(NOW - 5 * MS);
	assert_int_equal(comes(NOW - 6 * MS, NOW - 2 * MS, &off), 1);
	assert_int_equal(off.duration_ns, 5 * MS);
	assert_int_equal(off.runq_us, 2000);
	assert_int_equal(off.state, TASK_INTERRUPTIBLE);
}

/* It left a CPU whose clock is ahead of this one's. */
static void test_left_in_the_future(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	left_at(NOW + 857616);
	assert_int_equal(comes(NOW - 6 * MS, NOW, &off), 0);
}

static void test_arrived_in_the_future(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	assert_int_equal(comes(NOW + 857616, NOW, &off), 0);
}

/* Queued on such a CPU: the block is true, the wait for a CPU is none that can be told. */
static void test_queued_in_the_future(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	left_at(NOW - 5 * MS);
	assert_int_equal(comes(NOW - 6 * MS, NOW + 1000, &off), 1);
	assert_int_equal(off.duration_ns, 5 * MS);
	assert_int_equal(off.runq_us, 0);
}

/* Where the kernel leaves the program out as the thread comes, its next departure tells. */
static void test_end_unseen(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	left_at(NOW - 20 * MS);
	leaves(NOW - 5 * MS, NOW - 10 * MS);
	assert_int_equal(model_cpus.lost[SB_LOST_END_UNSEEN], 1);
	assert_int_equal(comes(NOW - 10 * MS, NOW, &off), 1);
	assert_int_equal(off.duration_ns, 5 * MS);
	leaves(NOW + MS, NOW);
	leaves(NOW + 3 * MS, NOW + MS + MS - 1);
	assert_int_equal(model_cpus.lost[SB_LOST_END_UNSEEN], 1);
}

/* No thread has been away since another one of its tid ended. */
static void test_tid_again(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	leaves_as(TASK_INTERRUPTIBLE, NOW - 30 * MS, NOW - 31 * MS);
	leaves_as(TASK_DEAD, NOW - 20 * MS, NOW - 21 * MS);
	assert_int_equal(model_cpus.lost[SB_LOST_END_UNSEEN], 1); /* of the one that ended */
	assert_int_equal(comes(0, NOW, &off), 0);
	leaves(NOW + MS, NOW);
	assert_int_equal(model_cpus.lost[SB_LOST_END_UNSEEN], 1);
	/* What ends needs no place, least of all another one's. */
	model_state = (struct sb_task_state){ .tid = TID + SB_TASKS, .off_ns = NOW };
	leaves_as(TASK_DEAD, NOW + 2 * MS, NOW + MS);
	assert_int_equal(model_state.tid, TID + SB_TASKS);
	assert_true(model_state.off_ns == NOW);
}

/* A thread of this state and past leaves the CPU at `now`. Was its user stack saved? */
static bool saved(uint64_t now, uint32_t state, uint64_t left_before, uint8_t long_blocks)
{
	struct rq rq = { .clock = now };
	struct cfs_rq cfs_rq = { .rq = &rq };
	struct task_struct idle = { .se = { .cfs_rq = &cfs_rq } }, prev = {
		.pid = TID, .tgid = TID, .__state = state, .sched_info = { .last_arrival = now - 1000 },
	};
	uint64_t before = model_cpus.ust_captured;

	model_state = (struct sb_task_state){ .tid = TID, .off_ns = left_before, .long_blocks = long_blocks };
	sched_switch(NULL, false, &prev, &idle);
	return model_cpus.ust_captured > before;
}

static uint32_t saved_of(uint32_t n, uint64_t from, uint64_t step, uint32_t state, uint64_t ago, uint8_t long_blocks)
{
	uint32_t got = 0;

	for (uint32_t i = 0; i < n; i++)
		got += saved(from + i * step, state, ago ? from + i * step - ago : 0, long_blocks);
	return got;
}

/* After a quiet time a CPU has saved up for each kind. */
static void test_user_stacks_at_once(void **state)
{
	(void)state;
	assert_int_equal(saved_of(3000, 1000 * MS, 1, TASK_INTERRUPTIBLE, 0, 0), 512);
	assert_int_equal(saved_of(3000, 1000 * MS, 1, TASK_INTERRUPTIBLE, 50000, 0), 32);
	assert_int_equal(saved_of(3000, 1000 * MS, 1, TASK_INTERRUPTIBLE, 50000, 4), 1024);
	assert_int_equal(saved_of(3000, 1000 * MS, 1, TASK_UNINTERRUPTIBLE, 0, 0), 1024);
	assert_int_equal(saved_of(20, 1001 * MS, 1, TASK_UNINTERRUPTIBLE, 0, 4), 8);
	assert_int_equal(saved_of(20, 1001 * MS, 1, TASK_INTERRUPTIBLE, 0, 0), 4);
	/* The same again seconds later; a credit does not grow beyond that. */
	assert_int_equal(saved_of(3000, 9000 * MS, 1, TASK_UNINTERRUPTIBLE, 0, 0), 1024);
	/* What ends has none. */
	assert_int_equal(saved_of(3000, 17000 * MS, 1, TASK_DEAD, 0, 0), 0);
}

/* How many in the second after its credit of that kind is used up. The first one may be short of a nanosecond. */
static uint32_t in_a_second(uint64_t from, uint32_t state, uint64_t ago, uint8_t long_blocks)
{
	saved_of(3000, from, 1, state, ago, long_blocks);
	return saved_of(100000, from + 3000, 10000, state, ago, long_blocks);
}

static void test_user_stacks_in_the_long_run(void **state)
{
	(void)state;
	assert_in_range(in_a_second(1000 * MS, TASK_UNINTERRUPTIBLE, 0, 0), 7999, 8000);
	assert_in_range(in_a_second(3000 * MS, TASK_INTERRUPTIBLE, 50000, 4), 7999, 8000);
	assert_in_range(in_a_second(5000 * MS, TASK_INTERRUPTIBLE, 2 * MS, 0), 3999, 4000);
	assert_in_range(in_a_second(7000 * MS, TASK_INTERRUPTIBLE, 50000, 0), 249, 250);
}

/* How many of 3000 blocks that end at NOW are recorded. saved: with the user stack. */
static uint32_t recorded(uint64_t duration, uint32_t state, bool saved)
{
	uint64_t before = model_cpus.recorded[SB_OFF_CPU];
	struct sb_off_cpu off;

	for (uint32_t i = 0; i < 3000; i++) {
		left_at(NOW - duration);
		model_state.state = state;
		model_state.saved = saved;
		comes(NOW - duration - MS, NOW, &off);
	}
	return (uint32_t)(model_cpus.recorded[SB_OFF_CPU] - before);
}

/* Of blocks of 10 to 100 ms as many as a CPU has saved up for, but for those that say the most. */
static void test_blocks_over_budget(void **state)
{
	const uint64_t least = 10 * MS, most = 100 * MS - 1;

	(void)state;
	model_cpus.long_refilled_ns = NOW;
	assert_int_equal(recorded(least, TASK_INTERRUPTIBLE, false), 0);
	assert_int_equal(model_cpus.lost[SB_LOST_LONG], 3000);
	assert_int_equal(recorded(most + 1, TASK_INTERRUPTIBLE, false), 3000);
	assert_int_equal(recorded(least, TASK_UNINTERRUPTIBLE, false), 3000);
	assert_int_equal(recorded(least, TASK_UNINTERRUPTIBLE | TASK_NOLOAD, false), 0);
	assert_int_equal(recorded(least, TASK_INTERRUPTIBLE, true), 3000);
	assert_int_equal(recorded(most, 0, false), 0);
	assert_int_equal(model_cpus.lost[SB_LOST_LONG], 9000);
	/* 20 ms later, and after a quiet time. */
	model_cpus.long_refilled_ns = NOW - 20 * MS;
	assert_int_equal(recorded(most, TASK_INTERRUPTIBLE, false), 40);
	model_cpus.long_refilled_ns = 0;
	assert_int_equal(recorded(least, TASK_INTERRUPTIBLE, false), 1024);
	assert_int_equal(model_cpus.lost[SB_LOST_LONG], 9000 + 2960 + 1976);
	/* Shorter ones have their own. */
	assert_int_equal(recorded(least - 1, TASK_INTERRUPTIBLE, false), 100);
	assert_int_equal(model_cpus.lost[SB_LOST_THROTTLED], 2900);
	assert_int_equal(model_cpus.lost[SB_LOST_LONG], 9000 + 2960 + 1976);
}

/* What is not recorded is a wait for a CPU all the same. */
static void test_condition_over_budget(void **state)
{
	struct sb_off_cpu off;

	(void)state;
	control.trigger[0] = (struct sb_ktrigger){ .type = SB_KTRIG_RUNQ, .threshold_ns = 15 * MS };
	control.watch = 1u << SB_KTRIG_RUNQ;
	control.armed = 1;
	model_cpus.long_refilled_ns = NOW;
	left_at(NOW - 20 * MS);
	assert_int_equal(comes(NOW - 30 * MS, NOW - 14 * MS, &off), 0);
	assert_int_equal(control.armed, 1);
	left_at(NOW - 20 * MS);
	assert_int_equal(comes(NOW - 30 * MS, NOW - 15 * MS, &off), 0);
	assert_int_equal(control.armed, 0);
	assert_int_equal(control.fired_value, 15 * MS);
	assert_int_equal(model_cpus.lost[SB_LOST_LONG], 2);
}

/* A thread whose long block was over the budget is as likely to have another one. */
static void test_long_before_over_budget(void **state)
{
	struct rq rq = { .clock = NOW };
	struct cfs_rq cfs_rq = { .rq = &rq };
	struct task_struct idle = {}, next = {
		.pid = TID, .tgid = TID, .se = { .cfs_rq = &cfs_rq },
		.sched_info = { .last_arrival = NOW - 30 * MS, .last_queued = NOW },
	};

	(void)state;
	model_cpus.long_refilled_ns = NOW;
	left_at(NOW - 20 * MS);
	sched_switch(NULL, false, &idle, &next);
	assert_int_equal(model_cpus.lost[SB_LOST_LONG], 1);
	assert_int_equal(model_state.long_blocks, REMEMBER_LONG);
	assert_true(saved(NOW + MS, TASK_INTERRUPTIBLE, 0, 0));
	assert_int_equal(model_state.saved, 1);
	model_cpus.ust_credit_ns[UST_ANY] = 0;
	assert_false(saved(NOW + MS, TASK_INTERRUPTIBLE, 0, 0));
	assert_int_equal(model_state.saved, 0);
}

#define FIRST 0xffffffff81000010
#define SECOND 0xffffffff82000020
#define ENTRY 0xffffffff83000030

/* A kernel stack: three frames, and what else lies on it. Ends with the stack's own area. */
static uint64_t *a_stack(uint64_t *area, uint32_t words)
{
	static const uint64_t frames[] = { FIRST, SECOND, ENTRY };
	uint64_t *sp = area + SB_KSTACK_ALIGN / 8 - words;

	memset(area, 0, SB_KSTACK_ALIGN);
	sp[6] = frames[0];
	sp[20] = frames[1];
	sp[21] = 0x1234;
	sp[words - 22] = frames[2];
	memcpy(model_scratch[SB_SCRATCH_SWITCH].k, frames, sizeof(frames));
	return sp;
}

/* The same, while none is kept. */
static uint64_t *the_first_stack(uint64_t *area, uint32_t words)
{
	memset(model_kstack, 0, sizeof(model_kstack));
	return a_stack(area, words);
}

static int kstack_keep(const uint64_t *sp, uint32_t n)
{
	return sb_kstack_keep(5, (uintptr_t)sp, ENTRY, n);
}

static int kstack_again(const uint64_t *sp)
{
	return sb_kstack_again(5, (uintptr_t)sp, ENTRY);
}

static void test_kernel_stack_found_again(void **state)
{
	uint64_t *area = aligned_alloc(SB_KSTACK_ALIGN, SB_KSTACK_ALIGN), *sp;
	__u64 *k = model_scratch[SB_SCRATCH_SWITCH].k;

	(void)state;
	assert_non_null(area);
	sp = the_first_stack(area, 100);
	assert_int_equal(kstack_again(sp), 0);
	assert_int_equal(kstack_keep(sp, 3), 1);
	memset(k, 0, 3 * sizeof(*k));
	sp[21] = 0x4321; /* no address of it */
	assert_int_equal(kstack_again(sp), 3);
	assert_int_equal(k[0], FIRST);
	assert_int_equal(k[1], SECOND);
	assert_int_equal(k[2], ENTRY);
	assert_int_equal(sb_kstack_again(6, (uintptr_t)sp, ENTRY), 0);
	assert_int_equal(sb_kstack_again(5, (uintptr_t)sp, ENTRY + 1), 0);
	sp[20]++;
	assert_int_equal(kstack_again(sp), 0);
	sp[20]--;
	assert_int_equal(kstack_again(sp), 3);
	/* The kernel moves each system call's stack by another distance; the entry stays where it is. */
	sp = a_stack(area, 164);
	assert_int_equal(kstack_again(sp), 3);
	/* Too near to the end for what was kept. */
	assert_int_equal(kstack_again(area + SB_KSTACK_ALIGN / 8 - 20), 0);
	free(area);
}

/* What is left from earlier calls has to be the same, until a walk shows that it need not be. */
static void test_kernel_stack_with_leftovers(void **state)
{
	static const struct { uint32_t word; uint64_t is; } other[] = {
		{ 3, FIRST }, { 19, FIRST }, { 10, SECOND }, { 30, SECOND }, { 70, SECOND },
	};
	uint64_t *area = aligned_alloc(SB_KSTACK_ALIGN, SB_KSTACK_ALIGN), *sp;

	(void)state;
	assert_non_null(area);
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		sp = the_first_stack(area, 100);
		sp[other[i].word] = other[i].is;
		assert_int_equal(kstack_keep(sp, 3), 1);
		assert_int_equal(kstack_again(sp), 3);
		sp = a_stack(area, 100);
		assert_int_equal(kstack_again(sp), 0);
		assert_int_equal(kstack_keep(sp, 3), 1);
		assert_int_equal(kstack_again(sp), 3);
		sp[other[i].word] = other[i].is;
		assert_int_equal(kstack_again(sp), 3);
		/* What the walk reads is asked for all the same. */
		sp[6] = 0;
		assert_int_equal(kstack_again(sp), 0);
		sp[6] = FIRST;
		sp[20] = 0;
		assert_int_equal(kstack_again(sp), 0);
	}
	/* The same addresses at other distances: neither is the other, and none is left to go by. */
	sp = the_first_stack(area, 100);
	assert_int_equal(kstack_keep(sp, 3), 1);
	sp[22] = SECOND;
	sp[20] = 0;
	assert_int_equal(kstack_keep(sp, 3), 1);
	assert_int_equal(kstack_again(sp), 0);
	sp = a_stack(area, 100);
	assert_int_equal(kstack_again(sp), 0);
	free(area);
}

static void test_kernel_stack_not_kept(void **state)
{
	static const struct { uint32_t word; uint64_t is; } other[] = { { 6, 0 }, { 20, 0 }, { 6, SECOND }, { 20, FIRST } };
	uint64_t *area = aligned_alloc(SB_KSTACK_ALIGN, SB_KSTACK_ALIGN), *sp;

	(void)state;
	assert_non_null(area);
	/* What is not there was told by a tracer. */
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		sp = the_first_stack(area, 100);
		sp[other[i].word] = other[i].is;
		kstack_keep(sp, 3);
		assert_int_equal(kstack_again(sp), 0);
	}
	sp = the_first_stack(area, 100);
	assert_int_equal(sb_kstack_keep(5, (uintptr_t)sp, ENTRY + 1, 3), 0);
	assert_int_equal(kstack_keep(sp, 1), 0);
	assert_int_equal(kstack_keep(sp, SB_KFRAMES), 0);
	/* Left over more often than there is room for. */
	sp = a_stack(area, 200);
	for (uint32_t i = 0; i < SB_KPLACES - 1; i++)
		sp[i * 2 + 24] = FIRST;
	kstack_keep(sp, 3);
	assert_int_equal(kstack_again(sp), 0);
	/* All of it is looked at, or none. */
	sp = the_first_stack(area, SB_KSTACK_WORDS);
	assert_int_equal(kstack_keep(sp, 3), 1);
	assert_int_equal(kstack_again(sp), 3);
	sp = the_first_stack(area, SB_KSTACK_WORDS + 1);
	assert_int_equal(kstack_keep(sp, 3), 0);
	free(area);
}

/* Who is never met again is not replaced at each block: to keep a stack costs as much as a walk. */
static void test_kernel_stack_seldom_kept(void **state)
{
	uint64_t *area = aligned_alloc(SB_KSTACK_ALIGN, SB_KSTACK_ALIGN), *sp;
	uint32_t kept = 0;

	(void)state;
	assert_non_null(area);
	memset(model_kstack, 0, sizeof(model_kstack));
	for (uint64_t i = 0; i < 1000; i++) {
		sp = a_stack(area, 100);
		sp[6] = model_scratch[SB_SCRATCH_SWITCH].k[0] = FIRST + 16 * i;
		kept += kstack_keep(sp, 3);
	}
	assert_in_range(kept, 1000 / 32, 1000 / 32 + 6);
	sp = a_stack(area, 100);
	for (uint32_t i = 0; i < 32 && !kstack_keep(sp, 3); i++)
		;
	/* Once one is met the next one is kept at once. */
	assert_int_equal(kstack_again(sp), 3);
	sp[6] = model_scratch[SB_SCRATCH_SWITCH].k[0] = FIRST + 16;
	for (uint32_t i = 0; i < 32 && !kstack_keep(sp, 3); i++)
		;
	sp[6] = model_scratch[SB_SCRATCH_SWITCH].k[0] = FIRST + 32;
	assert_int_equal(kstack_keep(sp, 3), 1);
	free(area);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_block, empty),
		cmocka_unit_test_setup(test_left_in_the_future, empty),
		cmocka_unit_test_setup(test_arrived_in_the_future, empty),
		cmocka_unit_test_setup(test_queued_in_the_future, empty),
		cmocka_unit_test_setup(test_end_unseen, empty),
		cmocka_unit_test_setup(test_tid_again, empty),
		cmocka_unit_test_setup(test_user_stacks_at_once, empty),
		cmocka_unit_test_setup(test_user_stacks_in_the_long_run, empty),
		cmocka_unit_test_setup(test_blocks_over_budget, empty),
		cmocka_unit_test_setup(test_condition_over_budget, empty),
		cmocka_unit_test_setup(test_long_before_over_budget, empty),
		cmocka_unit_test_setup(test_kernel_stack_found_again, empty),
		cmocka_unit_test_setup(test_kernel_stack_with_leftovers, empty),
		cmocka_unit_test_setup(test_kernel_stack_not_kept, empty),
		cmocka_unit_test_setup(test_kernel_stack_seldom_kept, empty),
	};

	return cmocka_run_group_tests_name("offcpu", tests, NULL, NULL);
}
