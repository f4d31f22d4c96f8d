// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Off-CPU: every block of at least cfg.offcpu_threshold_ns, recorded when the thread
 * runs again, with the kernel stack it slept in and the user stack it had.
 *
 * Threshold first: the run-queue clock and sched_info are already in the cache at a
 * switch, so the common case reads four fields, touches no map and takes no clock.
 * The user stack is saved when its owner leaves the CPU, if that is likely to become a
 * long block: bpf/ustack.bpf.h.
 */
#include "bpf/ring.bpf.h"
#include "bpf/ustack.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SHORT_BLOCK_NS 10000000ULL
#define LONG_BLOCK_NS 100000000ULL
/* A thread whose block was long is worth a user stack for its next blocks. */
#define REMEMBER_LONG 4

/* Who leaves the CPU, each with a credit of its own: in a storm of one kind there is something left for the others.
 * UST_SHORT: it came back within less than the threshold the last time, and so it will again. */
enum { UST_SHORT, UST_ANY, UST_LONG_BEFORE, UST_BLOCKED };

/* A CPU earns its time, saves up `most` of it, and pays `price` for one. now: the run queue's clock. False: too much. */
static __always_inline bool pay(__u64 *credit, __u64 *refilled, __u64 now, __u64 price, __u64 most)
{
	__u64 earned = now - *refilled, has = *credit;

	*refilled = now;
	has = earned < most - has ? has + earned : most;
	*credit = has < price ? has : has - price;
	return has >= price;
}

/*
 * A user stack takes microseconds, a switch a tenth of one. So a CPU earns some of each kind in cfg.ust_period_ns and saves
 * up: hosts that switch seldom get all of them, and a stall finds a credit of hundreds.
 */
static __always_inline bool pay_ustack(struct sb_cpu *c, __u64 now, __u32 who)
{
	__u64 period = cfg.ust_period_ns;
	__u64 price = who == UST_SHORT ? period * 8 : who == UST_ANY ? period / 2 : period / 4;

	return pay(&c->ust_credit_ns[who & 3], &c->ust_refilled_ns[who & 3], now, price, period * SB_UST_BURST);
}

/*
 * Whether the block that ends at `now` is recorded. saved: so was its user stack. Those under 10 ms have a small budget.
 * From there on threads in D state are always, and any after 100 ms; of the rest those whose user stack has been paid
 * for, and some that a CPU saves up for, as above: a stall finds a credit of a thousand, and hundreds of threads that
 * wait for each other all the time do not push the time before a stall out of the ring.
 */
static __always_inline bool within_budget(struct sb_cpu *c, bool saved, __u64 duration, __u32 state, __u64 now)
{
	bool blocked = (state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD);
	__u64 price = cfg.long_period_ns;

	if (duration < SHORT_BLOCK_NS) {
		if (sb_take_token(&c->short_window, &c->short_tokens, now >> 23, cfg.short_budget))
			return true;
		c->lost[SB_LOST_THROTTLED]++;
		return false;
	}
	if (duration >= LONG_BLOCK_NS || blocked || saved ||
	    pay(&c->long_credit_ns, &c->long_refilled_ns, now, price, price * SB_LONG_BURST))
		return true;
	c->lost[SB_LOST_LONG]++;
	return false;
}

/* prev leaves the CPU: note the exact time and state, and its user stack where it matters. */
static __always_inline void switch_out(void *ctx, bool preempt, struct task_struct *prev, __u64 now)
{
	__u32 tid = prev->pid, state = preempt ? 0 : sb_task_state_bits(prev);
	__u64 since = prev->sched_info.last_arrival;
	bool user = !(prev->flags & PF_KTHREAD);
	bool blocked = (state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD);
	__u32 who = UST_ANY;
	bool save = false;
	struct sb_task_state *t;
	struct sb_cpu *c;

	t = sb_state_of(tid);
	c = sb_this_cpu();
	if (!t || !c)
		return;
	/* Preempted after a short slice: with the slice it would look longer than it was, and as if
	 * nobody knew why. No other thread's place is taken for that. */
	if (!state && now - since < cfg.offcpu_threshold_ns && t->tid && t->tid != tid)
		return;
	if (t->tid == tid && t->off_ns && (__s64)(since - t->off_ns) >= (__s64)cfg.offcpu_threshold_ns)
		c->lost[SB_LOST_END_UNSEEN]++;
	/* Whoever comes under its tid is another thread, which has not been away since then. */
	if (state & TASK_DEAD) {
		if (t->tid == tid)
			sb_state_take(t, 0);
		return;
	}
	sb_state_take(t, tid);
	if (state && user) {
		if (blocked)
			who = UST_BLOCKED;
		else if (t->long_blocks)
			who = UST_LONG_BEFORE;
		else if (t->off_ns && now - t->off_ns < cfg.offcpu_threshold_ns)
			who = UST_SHORT;
		if (t->long_blocks)
			t->long_blocks--;
		save = pay_ustack(c, now, who);
	}
	t->off_ns = now;
	t->state = state;
	if (save && control.limit_step >= SB_LIMIT_USTACKS) {
		c->lost[SB_LOST_LIMIT_USTACK]++;
		save = false;
	}
	t->saved = save && sb_ustack_save(ctx, tid, since, c);
	if (blocked && !(t->flags & SB_TS_BLOCKED_INFLIGHT)) {
		__u32 match = sb_trigger_match(SB_KTRIG_BLOCKED, bpf_get_current_task());

		if (match) {
			if (sb_inflight_add(tid, SB_INFLIGHT_BLOCKED, match)) {
				t->flags |= SB_TS_BLOCKED_INFLIGHT;
				SB_ATOMIC_INC(&control.nr_blocked);
			} else {
				c->lost[SB_LOST_INFLIGHT_FULL]++;
			}
		}
	}
}

/* Its execs, its end and a new name are noted when they happen, the rest changes seldom. */
static __always_inline bool noted_lately(struct task_struct *t, __u64 now)
{
	__u32 i = t->pid & (SB_TASKS - 1);
	struct sb_task *e = bpf_map_lookup_elem(&tasks, &i);

	return e && e->tid == (__u32)t->pid && e->start_ns == t->start_time && e->noted == (__u16)(now >> 30) &&
	       sb_same_comm(e->comm, t->comm);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 now = next->se.cfs_rq->rq->clock, since, duration, runq, call, clock;
	__u32 tid = next->pid, flags = 0, state = 0;
	struct sb_off_cpu *p;
	struct sb_task_state *t;
	struct sb_scratch *s;
	struct sb_cpu *c;
	bool exact, recorded;
	long n;

	if (prev->pid) {
		switch_out(ctx, preempt, prev, now);
	} else {
		c = sb_this_cpu();
		if (c) {
			c->was_idle = 1;
			if (!c->clock_offset_ns) /* others need it before this CPU records anything */
				c->clock_offset_ns = bpf_ktime_get_ns() - now;
		}
	}
	if (!tid)
		return 0;

	since = next->sched_info.last_arrival;
	duration = now - since;
	if (control.nr_blocked) {
		t = sb_state_of(tid);
		/* Woken between its decision to sleep and the switch: sched_waking came too early. */
		if (t && t->tid == tid)
			sb_blocked_ends(t);
	}
	/* Signed: the clocks of run queues are not in step, and another CPU's may be ahead. */
	if ((__s64)duration < (__s64)cfg.offcpu_threshold_ns || !since)
		return 0;
	t = sb_state_of(tid);
	c = sb_this_cpu();
	if (!t || !c)
		return 0;
	/* Equal where the clock is coarse: in and out within one step of it. */
	exact = t->tid == tid && t->off_ns >= since;
	if (exact) {
		duration = now - t->off_ns;
		if ((__s64)duration < (__s64)cfg.offcpu_threshold_ns)
			return 0;
	}
	if (t->tid == tid)
		t->off_ns = 0;
	if (duration < control.offcpu_threshold_ns) {
		c->lost[SB_LOST_LIMIT_SHORT]++;
		return 0;
	}
	runq = now - next->sched_info.last_queued;
	if ((__s64)runq < 0)
		runq = 0;
	else if (runq > duration)
		runq = duration;
	if (exact)
		state = t->state;
	else if (runq >= duration - duration / 10)
		state = 0; /* runnable nearly all the time: it was preempted */
	else
		flags |= SB_REC_STATE_UNKNOWN;
	if (!state && !(flags & SB_REC_STATE_UNKNOWN))
		flags |= SB_REC_PREEMPTED;

	recorded = within_budget(c, exact && t->saved, duration, state, now);
	if (!(next->flags & PF_KTHREAD) && (recorded || duration >= SHORT_BLOCK_NS)) {
		sb_state_take(t, tid);
		t->long_blocks = REMEMBER_LONG;
	}
	if (!recorded)
		goto crossed;
	s = sb_scratch(SB_SCRATCH_SWITCH);
	if (!s) {
		c->lost[SB_LOST_NO_SCRATCH]++;
		return 0;
	}
	call = next->flags & PF_KTHREAD ? 0 : sb_call_of(next);
	n = sb_take_kstack_of(next, s, call, flags & SB_REC_PREEMPTED, c);
	s->nk = sb_frames(n, SB_KFRAMES, c, SB_LOST_TRUNCATED_K);
	if (n <= 0)
		c->lost[SB_LOST_KSTACK_ERR]++;
	s->nu = 0;
	s->uinfo = 0;
	if (next->flags & PF_KTHREAD)
		flags |= SB_REC_KTHREAD;
	else if (!(flags & SB_REC_PREEMPTED))
		sb_ustack_copy(s, tid, since, c);
	s->kind = SB_OFF_CPU;
	s->flags = flags;
	s->tid = tid;
	s->tgid = next->tgid;
	s->np = sizeof(*p) / 8;
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->runq_us = runq / 1000;
	p->state = state;
	p->call = call;
	clock = bpf_ktime_get_ns();
	c->clock_offset_ns = clock - now;
	if (!noted_lately(next, clock))
		sb_task_note(next);
	sb_emit(s);
crossed:
	if (control.watch & (1u << SB_KTRIG_RUNQ)) {
		__u64 task = 0;

		/* `next` as a plain number: a global function takes no other. */
		bpf_probe_read_kernel(&task, sizeof(task), &ctx[2]);
		sb_fire_crossed(SB_KTRIG_RUNQ, 0, runq, task);
	}
	return 0;
}
