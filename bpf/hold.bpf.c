// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Holds of mmap_lock, from the mmap_lock tracepoints. They cost +61 % of a page fault on
 * 6.1 and +145 % of an mmap cycle on 6.12 (measured), so the agent attaches them only from a
 * trigger to the end of the post window, or where the user asks for them.
 */
#include "bpf/ring.bpf.h"

static __always_inline int hold_begin(__u64 mm, bool write)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tid = bpf_get_current_pid_tgid();
	struct sb_task_state *t = sb_state_of(tid);
	struct sb_task_detail *d = sb_detail_of(tid);

	if (!t || !d)
		return 0;
	sb_state_take(t, tid);
	d->hold_lock = mm;
	d->hold_flags = write ? SB_LCB_WRITE : SB_LCB_READ;
	d->hold_cpu_ns = BPF_CORE_READ(task, se.sum_exec_runtime);
	d->hold_nvcsw = BPF_CORE_READ(task, nvcsw);
	d->hold_nivcsw = BPF_CORE_READ(task, nivcsw);
	d->hold_reclaims = 0;
	d->hold_scanned = 0;
	d->hold_reclaimed = 0;
	d->hold_since_ns = bpf_ktime_get_ns();
	t->flags |= SB_TS_HOLDS_MMAP;
	return 0;
}

/* (mm, memcg_path, write, success) until 6.12, (mm, write, success) after it: the agent
 * loads the one that fits the running kernel. */
SEC("tp_btf/mmap_lock_acquire_returned")
int mmap_acquired_path(__u64 *ctx)
{
	return ctx[3] ? hold_begin(ctx[0], ctx[2]) : 0;
}

SEC("tp_btf/mmap_lock_acquire_returned")
int mmap_acquired(__u64 *ctx)
{
	return ctx[2] ? hold_begin(ctx[0], ctx[1]) : 0;
}

/* (mm, [memcg_path,] write) */
SEC("tp_btf/mmap_lock_released")
int mmap_released(__u64 *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 id = bpf_get_current_pid_tgid(), duration;
	__u32 tid = id;
	struct sb_task_state *t = sb_state_of(tid);
	struct sb_task_detail *d = sb_detail_peek(tid);
	struct sb_cpu *c = sb_this_cpu();
	struct sb_lock_hold *p;
	struct sb_scratch *s;
	struct mm_struct *mm = (void *)ctx[0];

	if (!t || !c || !d || t->tid != tid || d->hold_lock != ctx[0] ||
	    !sb_escalated(d->hold_since_ns))
		return 0;
	duration = bpf_ktime_get_ns() - d->hold_since_ns;
	d->hold_since_ns = 0;
	t->flags &= ~SB_TS_HOLDS_MMAP;
	if (duration < cfg.lock_threshold_ns)
		return 0;
	s = sb_begin(SB_SCRATCH_HOLD, SB_LOCK_HOLD, id, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	sb_take_ustack(ctx, s, c);
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->lock = (__u64)mm + bpf_core_field_offset(mm->mmap_lock);
	p->cpu_ns = BPF_CORE_READ(task, se.sum_exec_runtime) - d->hold_cpu_ns;
	p->nvcsw = BPF_CORE_READ(task, nvcsw) - d->hold_nvcsw;
	p->nivcsw = BPF_CORE_READ(task, nivcsw) - d->hold_nivcsw;
	p->reclaims = d->hold_reclaims;
	p->nr_scanned = d->hold_scanned;
	p->nr_reclaimed = d->hold_reclaimed;
	p->flags = d->hold_flags;
	sb_task_note(task);
	sb_emit(s);
	sb_fire_crossed(SB_KTRIG_MMAP_LOCK_HOLD, 0, duration, (__u64)task);
	return 0;
}
