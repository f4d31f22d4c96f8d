// SPDX-License-Identifier: BSD-2-Clause
/* What the sampler makes of one system call that keeps the CPU, of another CPU that samples at the same time, and of
 * samples that are left out above the CPU budget. The code is the kernel's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bpf/sample.bpf.c"

#define MS	  1000000ULL
#define PERIOD	  (10 * MS)
#define THRESHOLD (100 * MS)
#define BEGIN	  (1000 * MS)
#define CALL	  (1ULL << 48 | 7)
#define ID	  41

/* The kernel's own words about softirqs, of one CPU. Its run queue is at 0 in the model. */
static __u16 softirqs_raised;
static __u32 softirqs_handled[SB_SOFTIRQS];

static struct sb_cpu model_cpus;
static struct sb_task_detail model_detail;
static uint64_t fired_value;

void *model_lookup(const void *map, uint32_t key)
{
	return map == &cpus ? (void *)&model_cpus : map == &task_detail ? (void *)&model_detail : NULL;
}

/* The stack of an interrupt: frames of its own, and then those of what it interrupted, whose innermost is where it stood. */
static struct {
	uint64_t frame[2 * SB_KFRAMES];
	uint32_t all;
	int fails; /* so many calls from now on */
	uint32_t calls;
} interrupt;

long model_stack(void *buf, uint32_t bytes, uint64_t flags)
{
	uint32_t skip = flags & BPF_F_SKIP_FIELD_MASK, n = interrupt.all > skip ? interrupt.all - skip : 0;

	interrupt.calls++;
	if (interrupt.fails && interrupt.fails--)
		return -14;
	n = n < bytes / 8 ? n : bytes / 8;
	memcpy(buf, interrupt.frame + skip, n * 8);
	return n ? (long)n * 8 : -14;
}

void model_hit(const void *hit)
{
	fired_value = ((const struct sb_hit *)hit)->value;
}

static int begin(void **state)
{
	struct sb_config *c = (struct sb_config *)(uintptr_t)&cfg;

	(void)state;
	c->cpus = 1;
	c->sample_period_ns = PERIOD;
	c->tick_ns = 0;
	c->syscall_threshold_ns = UINT64_MAX; /* no record of it */
	memset(&model_cpus, 0, sizeof(model_cpus));
	memset(&model_detail, 0, sizeof(model_detail));
	memset(control.trigger, 0, sizeof(control.trigger));
	control.trigger[0] = (struct sb_ktrigger){ .type = SB_KTRIG_SYSCALL, .count = 1, .threshold_ns = THRESHOLD };
	control.watch = 1u << SB_KTRIG_SYSCALL;
	control.armed = 1;
	control.limit_step = SB_LIMIT_NONE;
	fired_value = 0;
	return 0;
}

static void sampled(uint64_t after_ns)
{
	follow_call(&model_cpus, ID, CALL, BEGIN + after_ns);
}

static void test_call_fires(void **state)
{
	(void)state;
	for (uint64_t ns = 0; ns < THRESHOLD; ns += PERIOD)
		sampled(ns);
	assert_int_equal(fired_value, 0);
	sampled(THRESHOLD);
	assert_int_equal(fired_value, THRESHOLD);
	/* Once. */
	control.armed = 1;
	fired_value = 0;
	sampled(THRESHOLD + PERIOD);
	assert_int_equal(fired_value, 0);
}

/* Interrupts were off: the threshold lies well within the gap. */
static void test_late_sample(void **state)
{
	(void)state;
	sampled(0);
	sampled(7 * THRESHOLD);
	assert_int_equal(fired_value, 7 * THRESHOLD);
}

static void test_another_call(void **state)
{
	(void)state;
	sampled(0);
	follow_call(&model_cpus, ID, CALL + 1, BEGIN + THRESHOLD);
	follow_call(&model_cpus, ID, CALL + 1, BEGIN + 2 * THRESHOLD - 1);
	assert_int_equal(fired_value, 0);
}

/* One that has to keep quiet does not keep the others quiet; what comes after the one that seals is counted. */
static void test_several_cross(void **state)
{
	(void)state;
	control.trigger[0].quiet_until_ns = UINT64_MAX;
	control.trigger[2] = control.trigger[5] = control.trigger[7] = control.trigger[0];
	control.trigger[2].threshold_ns = 8 * THRESHOLD;
	control.trigger[5].quiet_until_ns = control.trigger[7].quiet_until_ns = 0;
	sampled(0);
	sampled(7 * THRESHOLD);
	assert_int_equal(fired_value, 7 * THRESHOLD);
	assert_int_equal(control.fired_trigger, 5);
	assert_int_equal(control.trigger[0].unsealed, 1);
	assert_int_equal(control.trigger[2].unsealed, 0);
	assert_int_equal(control.trigger[5].unsealed, 0);
	assert_int_equal(control.trigger[7].unsealed, 1);
}

/* Another CPU does the same at the same time, and its clock is a little later. */
static void test_another_cpu(void **state)
{
	struct bpf_perf_event_data idle = {};
	uint64_t later = model_now() + 3600 * 1000 * MS;

	(void)state;
	/* The same event, counted there. */
	control.armed = 0;
	control.trigger[0].told = 1;
	control.trigger[0].met_ns = later;
	sampled(0);
	sampled(THRESHOLD);
	assert_int_equal(control.trigger[0].unsealed, 0);
	/* The look at what is in flight, and the window that has just been judged. */
	control.last_scan_ns = later;
	sample(&idle);
	assert_true(control.last_scan_ns == later);
	control.trigger[1] = (struct sb_ktrigger){ .type = SB_KTRIG_SYSTEM, .percent = 50, .threshold_ns = 1000 * MS, .held = 1 };
	control.watch |= 1u << SB_KTRIG_SYSTEM;
	control.window_ns = later;
	scan_all(model_now());
	assert_true(control.window_ns == later);
	assert_int_equal(control.trigger[1].held, 1);
}

/* ---- softirqs held up by one call ------------------------------------------------------------------------- */

#define RAISED (1u << 3)

static void looks(uint64_t after_ns, uint64_t call)
{
	follow_softirqs(&model_cpus, ID, call, BEGIN + after_ns);
}

static void watch_softirqs(void)
{
	control.trigger[0] = (struct sb_ktrigger){ .type = SB_KTRIG_SOFTIRQ_HELD, .count = 1, .threshold_ns = THRESHOLD };
	control.watch = 1u << SB_KTRIG_SOFTIRQ_HELD;
	control.raised_from_rq = (intptr_t)&softirqs_raised;
	control.handled_from_rq = (intptr_t)softirqs_handled;
	softirqs_raised = RAISED;
	memset(softirqs_handled, 0, sizeof(softirqs_handled));
}

static void test_softirq_held(void **state)
{
	(void)state;
	watch_softirqs();
	for (uint64_t ns = 0; ns < THRESHOLD; ns += PERIOD)
		looks(ns, CALL);
	assert_int_equal(fired_value, 0);
	looks(THRESHOLD, CALL);
	assert_int_equal(fired_value, THRESHOLD);
	/* Once. */
	control.armed = 1;
	fired_value = 0;
	looks(THRESHOLD + PERIOD, CALL);
	assert_int_equal(fired_value, 0);
}

/* What makes the wait another one: it was handled and raised again, the call is another one or over, nothing is raised, in
 * between another vector was. */
static void test_softirq_not_held(void **state)
{
	(void)state;
	for (int how = 0; how < 5; how++) {
		watch_softirqs();
		model_cpus.held_since_ns = 0;
		for (uint64_t ns = 0; ns < 2 * THRESHOLD; ns += PERIOD) {
			bool now = ns == THRESHOLD / 2 || ns == THRESHOLD + THRESHOLD / 2;

			softirqs_handled[3] += how == 0 && now;
			softirqs_raised = how == 3 && now ? 0 : how == 4 && now ? RAISED << 1 : RAISED;
			looks(ns, how == 1 && now ? CALL + 1 : how == 2 && now ? 0 : CALL);
		}
		assert_int_equal(fired_value, 0);
	}
}

/* Of two that are raised one is handled, the other waits on. */
static void test_softirq_one_of_two(void **state)
{
	(void)state;
	watch_softirqs();
	softirqs_raised = RAISED | 1u << 1;
	for (uint64_t ns = 0; ns <= THRESHOLD; ns += PERIOD) {
		softirqs_handled[1]++;
		looks(ns, CALL);
	}
	assert_int_equal(fired_value, THRESHOLD);
}

/* The vCPU stood still in a timer interrupt: two samples, however far apart, say nothing; the third does. */
static void test_softirq_two_looks(void **state)
{
	(void)state;
	watch_softirqs();
	looks(0, CALL);
	looks(7 * THRESHOLD, CALL);
	assert_int_equal(fired_value, 0);
	looks(7 * THRESHOLD + PERIOD, CALL);
	assert_int_equal(fired_value, 7 * THRESHOLD + PERIOD);
}

static void test_softirq_unwatched(void **state)
{
	(void)state;
	watch_softirqs();
	control.watch = 0;
	looks(0, CALL);
	assert_int_equal(model_cpus.held_since_ns, 0);
}

/* One in four is taken, and stands for the time of four, late ones included. */
static void test_thin(void **state)
{
	(void)state;
	assert_int_equal(thin(&model_cpus, PERIOD), PERIOD);
	control.limit_step = SB_LIMIT_SAMPLES;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(thin(&model_cpus, PERIOD), 0);
		assert_int_equal(thin(&model_cpus, 0), 0); /* after an idle time */
		assert_int_equal(thin(&model_cpus, 5 * PERIOD), 0);
		assert_int_equal(thin(&model_cpus, PERIOD), 8 * PERIOD);
	}
	assert_int_equal(model_cpus.lost[SB_LOST_LIMIT_SAMPLE], 9);
	/* The limit ends: the next sample has what is left. */
	assert_int_equal(thin(&model_cpus, PERIOD), 0);
	control.limit_step = SB_LIMIT_NONE;
	assert_int_equal(thin(&model_cpus, PERIOD), 2 * PERIOD);
	assert_int_equal(thin(&model_cpus, 3 * PERIOD), PERIOD);
}

/* ---- ticks as the sampler's clock ------------------------------------------------------------------------ */

#define TICK	 (4 * MS)
#define OF_99_HZ 10101010ULL
#define PHASE	 (OF_99_HZ * 5 / 8)

static uint64_t chance;

static void sample_at_ticks(void)
{
	struct sb_config *c = (struct sb_config *)(uintptr_t)&cfg;

	c->tick_ns = TICK;
	c->sample_period_ns = OF_99_HZ;
	chance = 1;
}

/* Below n; the same in each run. */
static uint64_t any(uint64_t n)
{
	chance = chance * 6364136223846793005ULL + 1442695040888963407ULL;
	return (chance >> 20) % n;
}

/* A tick is up to a tenth of a millisecond late. */
static bool ticks(uint64_t n)
{
	return tick_samples(&model_cpus, n * TICK, n * TICK + any(MS / 10), PHASE);
}

static void test_ticks_rate(void **state)
{
	uint64_t samples = 0, last = 0;

	(void)state;
	sample_at_ticks();
	for (uint64_t n = 1; n <= 100 * 1000 * MS / TICK; n++) {
		if (!ticks(n))
			continue;
		assert_true(!last || n - last == 2 || n - last == 3);
		last = n;
		samples++;
	}
	assert_in_range(samples, 9899, 9901);
}

/* Busy 5 ms in 50 at any time, idle and without ticks in between: as many samples as its share of the time. */
static void test_ticks_short_work(void **state)
{
	uint64_t samples = 0, busy_ns = 0;

	(void)state;
	sample_at_ticks();
	for (uint64_t i = 1; i <= 40000; i++) {
		uint64_t begin = i * 50 * MS + any(40 * MS), end = begin + 5 * MS;

		model_cpus.was_idle = 1;
		for (uint64_t n = begin / TICK + 1; n * TICK < end; n++) {
			if (!ticks(n))
				continue;
			model_cpus.was_idle = 0; /* look() */
			samples++;
		}
		busy_ns += end - begin;
	}
	assert_in_range(samples * OF_99_HZ, busy_ns / 100 * 97, busy_ns / 100 * 103);
}

/* Behind the first tick's length of a period: not after idleness, unless something has kept the tick off, else at any time; one in a
 * period. */
static void test_ticks_late(void **state)
{
	uint64_t middle = OF_99_HZ * 1000 + TICK * 3 / 2;

	(void)state;
	sample_at_ticks();
	model_cpus.was_idle = 1;
	assert_false(tick_samples(&model_cpus, middle, middle + 1, 0));
	assert_true(tick_samples(&model_cpus, middle - TICK / 2, middle + TICK / 2, 0));
	model_cpus.tick_period = 0;
	assert_false(tick_samples(&model_cpus, middle - TICK / 2, middle + TICK / 2 - 1, 0));
	model_cpus.was_idle = 0;
	assert_true(tick_samples(&model_cpus, middle, middle + 1, 0));
	assert_false(tick_samples(&model_cpus, middle, middle + 2, 0));
}

/* A CPU that is never idle, with ticks up to two lengths late: a sample for each period that had one, which stand for all of the
 * time. */
static void test_ticks_irregular(void **state)
{
	uint64_t samples = 0, periods = 0, last = 0, begin = 0, end = 0, stood_ns = 0;

	(void)state;
	sample_at_ticks();
	for (uint64_t n = 1; n <= 10000; n += 1 + any(3)) {
		uint64_t now = n * TICK + any(TICK);

		if (tick_samples(&model_cpus, n * TICK, now, 0)) {
			uint64_t gap = gap_before(&model_cpus, now), stands_ns = is_late(gap) ? gap : OF_99_HZ;

			stand(&model_cpus, gap, stands_ns, now);
			begin = samples++ ? begin : now;
			stood_ns += samples == 1 ? 0 : stands_ns;
			end = now;
		}
		periods += now / OF_99_HZ != last;
		last = now / OF_99_HZ;
	}
	assert_int_equal(samples, periods);
	assert_in_range(stood_ns, end - begin - OF_99_HZ * 3 / 2, end - begin + OF_99_HZ);
}

#define OWN_FRAME(i) (0xffffffff81000000ULL + (i))
#define FRAME(i)     (0xffffffff82000000ULL + (i))

/* Is what was taken all of what it interrupted, as far as there is room? */
static bool taken(struct sb_scratch *s, uint32_t own, uint32_t interrupted)
{
	uint32_t want = interrupted < SB_KFRAMES ? interrupted : SB_KFRAMES;

	interrupt.all = own + interrupted;
	for (uint32_t i = 0; i < interrupt.all; i++)
		interrupt.frame[i] = i < own ? OWN_FRAME(i) : FRAME(i - own);
	interrupt.calls = 0;
	take_interrupted_kstack(NULL, s, &model_cpus, FRAME(0));
	for (uint32_t i = 0; i < s->nk; i++) {
		if (s->k[i] != FRAME(i))
			return false;
	}
	return s->nk == want;
}

/* An interrupt's own frames are left out, however many there are, up to a number; it costs one call where they are as many as
 * the last time. */
static void test_interrupted_stack(void **state)
{
	static struct sb_scratch s;

	(void)state;
	for (uint32_t i = 0; i < 10000; i++) {
		uint32_t own = 1 + (uint32_t)any(INTERRUPT_FRAMES - 1), frames = 1 + (uint32_t)any(SB_KFRAMES + 20);
		bool as_before = own == model_cpus.tick_frames;

		assert_true(taken(&s, own, frames));
		assert_int_equal(interrupt.calls, as_before ? 1 : i ? 3 : 2);
		assert_true(taken(&s, own, frames));
		assert_int_equal(interrupt.calls, 1);
	}
	assert_int_equal(model_cpus.lost[SB_LOST_KSTACK_ERR], 0);
}

/* Where what it interrupted is not among the frames, where there are more of its own than are looked at, and where the kernel
 * gives none: one frame, and that is counted. */
static void test_interrupted_stack_not_found(void **state)
{
	static struct sb_scratch s;

	(void)state;
	assert_true(taken(&s, 5, 9));
	assert_false(taken(&s, INTERRUPT_FRAMES, 9));
	assert_int_equal(s.nk, 1);
	assert_int_equal(s.k[0], FRAME(0));
	assert_int_equal(model_cpus.lost[SB_LOST_KSTACK_ERR], 1);
	assert_true(taken(&s, 5, 9));
	for (int fails = 1; fails <= 2; fails++) {
		interrupt.fails = fails;
		if (fails == 1) {
			assert_true(taken(&s, 5, 9)); /* the second call found it */
		} else {
			assert_false(taken(&s, 5, 9));
			assert_int_equal(s.nk, 1);
			assert_int_equal(s.k[0], FRAME(0));
		}
	}
	assert_int_equal(model_cpus.lost[SB_LOST_KSTACK_ERR], 2);
	/* What the last one left in the buffer is no frame of this one. */
	assert_true(taken(&s, 3, 9));
	interrupt.all = 2;
	interrupt.frame[0] = interrupt.frame[1] = OWN_FRAME(0);
	model_cpus.tick_frames = 0;
	s.k[2] = FRAME(0);
	take_interrupted_kstack(NULL, &s, &model_cpus, FRAME(0));
	assert_int_equal(s.nk, 1);
	assert_int_equal(model_cpus.lost[SB_LOST_KSTACK_ERR], 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_call_fires, begin),	  cmocka_unit_test_setup(test_late_sample, begin),
		cmocka_unit_test_setup(test_another_call, begin), cmocka_unit_test_setup(test_thin, begin),
		cmocka_unit_test_setup(test_several_cross, begin), cmocka_unit_test_setup(test_another_cpu, begin),
		cmocka_unit_test_setup(test_softirq_held, begin), cmocka_unit_test_setup(test_softirq_not_held, begin),
		cmocka_unit_test_setup(test_softirq_one_of_two, begin), cmocka_unit_test_setup(test_softirq_two_looks, begin),
		cmocka_unit_test_setup(test_softirq_unwatched, begin), cmocka_unit_test_setup(test_ticks_rate, begin),
		cmocka_unit_test_setup(test_ticks_short_work, begin), cmocka_unit_test_setup(test_ticks_late, begin),
		cmocka_unit_test_setup(test_ticks_irregular, begin), cmocka_unit_test_setup(test_interrupted_stack, begin),
		cmocka_unit_test_setup(test_interrupted_stack_not_found, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
