// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Waits for locks, from lock:contention_begin/end (5.19+), with the owner as far as the
 * lock names it, and who ended a long wait in D state (all kernels). Contention costs
 * nothing where there is none; holds of mmap_lock are in hold.bpf.c.
 *
 * Sleeping locks: every wait is timed. Spinning locks: one in SPIN_SAMPLE per CPU.
 */
#include "bpf/lock.bpf.h"

#define SHORT_WAIT_NS 10000000ULL /* longer ones are always recorded */
#define SPIN_SAMPLE 16
/* A spin this long is worth a record: ten times what a contended spinlock takes. */
#define SPIN_THRESHOLD_NS 100000ULL

static __always_inline void spin_begin(struct sb_cpu *c, void *lock, __u32 flags)
{
	if (c->spin_count++ % SPIN_SAMPLE)
		return;
	c->spin_lock = (__u64)lock;
	c->spin_flags = flags;
	c->spin_since_ns = bpf_ktime_get_ns();
}

static __always_inline void lock_record(void *ctx, struct sb_cpu *c, const struct sb_lock_wait *w)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct sb_scratch *s = sb_begin(SB_SCRATCH_LOCK, SB_LOCK_WAIT, id, sizeof(*w) / 8, c);

	if (!s)
		return;
	sb_take_kstack(ctx, s, c);
	if (id && !(w->flags & SB_LCB_SPIN))
		sb_take_ustack(ctx, s, c);
	*(struct sb_lock_wait *)s->payload = *w;
	if (id)
		sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
}

SEC("tp_btf/contention_begin")
int contention_begin(__u64 *ctx)
{
	void *lock = (void *)ctx[0];
	__u32 flags = ctx[1], tid = bpf_get_current_pid_tgid(), match;
	struct sb_task_state *t;
	struct sb_cpu *c;
	struct mm_struct *mm;

	c = sb_this_cpu();
	if (!c)
		return 0;
	if ((flags & SB_LCB_SPIN) && !(flags & SB_LCB_MUTEX)) {
		spin_begin(c, lock, flags);
		return 0;
	}
	t = tid ? sb_state_of(tid) : NULL;
	if (!t)
		return 0;
	sb_state_take(t, tid);
	if (t->lock == (__u64)lock && (flags & SB_LCB_MUTEX))
		return 0; /* spun first, sleeps now; the wait goes on */
	mm = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), mm);
	if (mm && lock == (void *)mm + bpf_core_field_offset(mm->mmap_lock))
		flags |= SB_LOCK_MMAP;
	t->lock_flags = flags;
	t->lock_since_ns = bpf_ktime_get_ns();
	t->lock = (__u64)lock;
	t->lock_owner = 0;
	t->owner_flags = 0;
	t->owner_votes = 0;
	sb_read_owner(t);
	if (t->flags & SB_TS_LOCK_INFLIGHT)
		return 0;
	match = flags & SB_LOCK_MMAP ?
			sb_trigger_match(SB_KTRIG_MMAP_LOCK_WAIT, bpf_get_current_task()) : 0;
	/* Every sleeping wait is in flight: the sampler looks again who owns the lock. */
	if (sb_inflight_add(tid, SB_INFLIGHT_LOCK, match)) {
		t->flags |= SB_TS_LOCK_INFLIGHT;
		SB_ATOMIC_INC(&control.nr_lock_waits);
	} else if (match) {
		c->lost[SB_LOST_INFLIGHT_FULL]++;
	}
	return 0;
}

SEC("tp_btf/contention_end")
int contention_end(__u64 *ctx)
{
	__u64 lock = ctx[0], duration;
	__u32 tid = bpf_get_current_pid_tgid();
	struct sb_lock_wait w = { .lock = lock, .weight = 1 };
	struct sb_task_state *t;
	struct sb_cpu *c;

	c = sb_this_cpu();
	if (!c)
		return 0;
	if (c->spin_lock == lock) {
		c->spin_lock = 0;
		w.duration_ns = bpf_ktime_get_ns() - c->spin_since_ns;
		if (w.duration_ns < SPIN_THRESHOLD_NS || !sb_within_budget(c))
			return 0;
		w.flags = c->spin_flags;
		w.weight = SPIN_SAMPLE;
		lock_record(ctx, c, &w);
		return 0;
	}
	t = tid ? sb_state_of(tid) : NULL;
	if (!t || t->tid != tid || t->lock != lock)
		return 0;
	duration = bpf_ktime_get_ns() - t->lock_since_ns;
	t->lock = 0;
	if (t->flags & SB_TS_LOCK_INFLIGHT) {
		t->flags &= ~SB_TS_LOCK_INFLIGHT;
		if (sb_inflight_del(tid, SB_INFLIGHT_LOCK))
			SB_ATOMIC_DEC(&control.nr_lock_waits);
	}
	if (duration < cfg.lock_threshold_ns || (duration < SHORT_WAIT_NS && !sb_within_budget(c)))
		return 0;
	w.duration_ns = duration;
	w.flags = t->lock_flags;
	w.owner_tid = t->lock_owner;
	w.owner_flags = t->owner_flags;
	lock_record(ctx, c, &w);
	if (w.flags & SB_LOCK_MMAP)
		sb_fire_crossed(SB_KTRIG_MMAP_LOCK_WAIT, 0, duration, bpf_get_current_task());
	return 0;
}

/* Whoever lets go of what a thread in D state waited for wakes it, from its own context or
 * from an interrupt. */
SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *p)
{
	__u32 state = sb_task_state_bits(p), tid;
	__u64 id, duration;
	struct sb_task_state *t;
	struct sb_scratch *s;
	struct sb_wakeup *w;
	struct sb_cpu *c;

	if (!(state & TASK_UNINTERRUPTIBLE) || (state & TASK_NOLOAD))
		return 0;
	tid = p->pid;
	t = sb_state_of(tid);
	c = sb_this_cpu();
	if (!t || !c || t->tid != tid)
		return 0;
	/* From here on it waits for a CPU. */
	if (control.nr_blocked)
		sb_blocked_ends(t);
	if (!t->off_ns || t->off_ns < p->sched_info.last_arrival)
		return 0;
	duration = bpf_ktime_get_ns() - c->clock_offset_ns - t->off_ns;
	if ((__s64)duration < (__s64)cfg.waker_threshold_ns || !sb_within_budget(c))
		return 0;
	id = bpf_get_current_pid_tgid();
	s = sb_begin(SB_SCRATCH_WAKEUP, SB_WAKEUP, id, sizeof(*w) / 8, c);
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	w = (void *)s->payload;
	w->duration_ns = duration;
	w->woken_tid = tid;
	w->woken_tgid = p->tgid;
	if (id)
		sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	return 0;
}
