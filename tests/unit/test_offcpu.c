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
static _Alignas(8) uint8_t model_ring[RING + SB_RING_SLACK];

void *model_lookup(const void *map, uint32_t key)
{
	return map == &cpus	    ? (void *)&model_cpus :
	       map == &seen	    ? (void *)&model_seen :
	       map == &task_state   ? (void *)&model_state :
	       map == &tasks	    ? (void *)&model_task :
	       map == &ustacks	    ? (void *)&model_ustack :
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
	control.offcpu_threshold_ns = MS;
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
	struct ring_stats st = {};

	sched_switch(NULL, false, &idle, &next);
	ring_each(model_ring, RING, &model_cpus.bank[0], keep, ret, &st);
	return st.records;
}

/* The thread leaves that CPU, onto which it came at that time. */
static void leaves(uint64_t now, uint64_t arrived)
{
	struct rq rq = { .clock = now };
	struct cfs_rq cfs_rq = { .rq = &rq };
	struct task_struct idle = { .se = { .cfs_rq = &cfs_rq } }, prev = {
		.pid = TID, .tgid = TID, .flags = PF_KTHREAD, .sched_info = { .last_arrival = arrived },
	};

	sched_switch(NULL, false, &prev, &idle);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_block, empty),
		cmocka_unit_test_setup(test_left_in_the_future, empty),
		cmocka_unit_test_setup(test_arrived_in_the_future, empty),
		cmocka_unit_test_setup(test_queued_in_the_future, empty),
		cmocka_unit_test_setup(test_end_unseen, empty),
	};

	return cmocka_run_group_tests_name("offcpu", tests, NULL, NULL);
}
