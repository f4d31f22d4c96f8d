// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Reclaim spans: direct, memcg, node, kswapd, and compaction, with what they scanned,
 * reclaimed and had to leave. A span that has begun is in flight, so that an in-kernel
 * trigger sees it while it still runs, even when its thread is runnable and gets no CPU.
 */
#include "bpf/ring.bpf.h"

/* include/linux/mmzone.h: DEF_PRIORITY */
#define PRIORITY_START 12

static __always_inline int span_begin(__u32 kind, __u32 order, __u32 gfp, bool watch)
{
	__u32 tid = bpf_get_current_pid_tgid(), match;
	struct sb_task_state *t = sb_state_of(tid);
	struct sb_task_detail *d = sb_detail_of(tid);

	if (!t || !d)
		return 0;
	sb_state_take(t, tid);
	if (t->reclaim_start_ns && kind == SB_RECLAIM_COMPACTION)
		return 0; /* part of the span that it happens in */
	t->reclaim_start_ns = bpf_ktime_get_ns();
	t->order = order;
	t->reclaim_kind = kind;
	t->reclaim_match = 0;
	d->gfp = gfp;
	d->nr_scanned = d->nr_reclaimed = d->nr_taken = d->nr_activate = d->nr_ref_keep = 0;
	d->nr_dirty = d->nr_writeback = d->slab_freed = d->throttled_us = 0;
	d->priority = PRIORITY_START;
	d->throttle_reason = 0;
	if (!watch)
		return 0;
	match = sb_trigger_match(SB_KTRIG_RECLAIM, bpf_get_current_task());
	t->reclaim_match = match;
	if (!match || (t->flags & SB_TS_RECLAIM_INFLIGHT))
		return 0;
	if (sb_inflight_add(tid, SB_INFLIGHT_RECLAIM, match)) {
		t->flags |= SB_TS_RECLAIM_INFLIGHT;
	} else {
		struct sb_cpu *c = sb_this_cpu();

		if (c)
			c->lost[SB_LOST_INFLIGHT_FULL]++;
	}
	return 0;
}

/* Does this thread hold its mmap_lock? For a writer the owner field is exact. A reader is
 * named if it was the last to come and somebody still reads. */
static __always_inline __u32 mmap_lock_held(struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u64 owner;
	__s64 count;

	if (!mm)
		return 0;
	owner = BPF_CORE_READ(mm, mmap_lock.owner.counter);
	if ((owner & ~7ULL) != (__u64)task)
		return 0;
	if (!(owner & 1))
		return SB_RECLAIM_MMAP_WRITE;
	count = BPF_CORE_READ(mm, mmap_lock.count.counter);
	return count >> 8 ? SB_RECLAIM_MMAP_READ : 0;
}

static __always_inline void fill(struct sb_reclaim *p, const struct sb_task_state *t,
				 const struct sb_task_detail *d)
{
	p->gfp = d->gfp;
	p->kind = t->reclaim_kind;
	p->order = t->order;
	p->nr_scanned = d->nr_scanned;
	p->nr_taken = d->nr_taken;
	p->nr_activate = d->nr_activate;
	p->nr_ref_keep = d->nr_ref_keep;
	p->nr_dirty = d->nr_dirty;
	p->nr_writeback = d->nr_writeback;
	p->slab_freed = d->slab_freed;
	p->throttled_us = d->throttled_us;
	p->priority = d->priority;
	p->throttle_reason = d->throttle_reason;
}

/* Long spans are all recorded. Short ones are sampled beyond the budget, and the next that
 * is recorded stands for those left out before it. 0: this one is left out. */
static __always_inline __u32 weight_of(struct sb_cpu *c, __u64 duration)
{
	__u64 weight;

	if (duration >= cfg.offcpu_threshold_ns)
		return 1;
	if (c->reclaim_skipped < 0xfffe && /* what a weight can tell */
	    !sb_take_token(&c->reclaim_window, &c->reclaim_tokens, bpf_ktime_get_ns() >> 30,
			   cfg.reclaim_budget)) {
		c->reclaim_skipped++;
		c->lost[SB_LOST_SHORT_SPANS]++;
		return 0;
	}
	weight = c->reclaim_skipped + 1;
	c->reclaim_skipped = 0;
	return weight;
}

static __always_inline int span_end(void *ctx, __u64 nr_reclaimed, bool have_reclaimed,
				    __u32 scratch_id)
{
	__u64 id = bpf_get_current_pid_tgid(), duration;
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tid = id;
	struct sb_task_state *t = sb_state_of(id);
	struct sb_task_detail *d = sb_detail_peek(id);
	struct sb_cpu *c = sb_this_cpu();
	struct sb_reclaim *p;
	struct sb_scratch *s;
	__u32 weight;

	if (!t || !c)
		return 0;
	if (t->tid != tid || !t->reclaim_start_ns || !d) {
		c->lost[SB_LOST_SPAN_UNSTARTED]++;
		return 0;
	}
	duration = bpf_ktime_get_ns() - t->reclaim_start_ns;
	t->reclaim_start_ns = 0;
	if (t->flags & SB_TS_RECLAIM_INFLIGHT) {
		t->flags &= ~SB_TS_RECLAIM_INFLIGHT;
		sb_inflight_del(tid, SB_INFLIGHT_RECLAIM);
	}
	if (!have_reclaimed)
		nr_reclaimed = d->nr_reclaimed;
	if ((t->flags & SB_TS_HOLDS_MMAP) && sb_escalated(d->hold_since_ns)) {
		d->hold_reclaims++;
		d->hold_scanned += d->nr_scanned;
		d->hold_reclaimed += nr_reclaimed;
	}
	weight = weight_of(c, duration);
	if (!weight)
		return 0;
	s = sb_begin(scratch_id, SB_RECLAIM, id, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->weight = weight;
	p->nr_reclaimed = nr_reclaimed;
	p->flags = mmap_lock_held(task);
	p->cgroup_id = sb_cgroup_of(task);
	fill(p, t, d);
	sb_task_note(task);
	sb_emit(s);
	if (t->reclaim_match)
		sb_fire_crossed(SB_KTRIG_RECLAIM, 0, duration, (__u64)task);
	return 0;
}

/* Arguments by position: (order, gfp), end: (nr_reclaimed), the same from 5.10 to 7.2. */
SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int direct_begin(__u64 *ctx)
{
	return span_begin(SB_RECLAIM_DIRECT, ctx[0], ctx[1], true);
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int direct_end(__u64 *ctx)
{
	return span_end(ctx, ctx[0], true, SB_SCRATCH_RECLAIM_DIRECT);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int memcg_begin(__u64 *ctx)
{
	return span_begin(SB_RECLAIM_MEMCG, ctx[0], ctx[1], true);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int memcg_end(__u64 *ctx)
{
	return span_end(ctx, ctx[0], true, SB_SCRATCH_RECLAIM_MEMCG);
}

SEC("tp_btf/mm_vmscan_node_reclaim_begin")
int node_begin(__u64 *ctx)
{
	return span_begin(SB_RECLAIM_NODE, ctx[1], ctx[2], true); /* nid, order, gfp */
}

SEC("tp_btf/mm_vmscan_node_reclaim_end")
int node_end(__u64 *ctx)
{
	return span_end(ctx, ctx[0], true, SB_SCRATCH_RECLAIM_NODE);
}

SEC("tp_btf/mm_compaction_begin")
int compaction_begin(__u64 *ctx)
{
	return span_begin(SB_RECLAIM_COMPACTION, 0, 0, false);
}

SEC("tp_btf/mm_compaction_end")
int compaction_end(__u64 *ctx)
{
	struct sb_task_state *t = sb_state_of(bpf_get_current_pid_tgid());

	if (!t || t->tid != (__u32)bpf_get_current_pid_tgid() || !t->reclaim_start_ns ||
	    t->reclaim_kind != SB_RECLAIM_COMPACTION)
		return 0;
	return span_end(ctx, 0, true, SB_SCRATCH_COMPACTION);
}

/* kswapd runs as long as it must: no span of it is "too old", so no trigger watches. */
SEC("tp_btf/mm_vmscan_kswapd_wake")
int kswapd_wake(__u64 *ctx)
{
	return span_begin(SB_RECLAIM_KSWAPD, ctx[2], 0, false); /* nid, zid, order */
}

SEC("tp_btf/mm_vmscan_kswapd_sleep")
int kswapd_sleep(__u64 *ctx)
{
	struct sb_task_state *t = sb_state_of(bpf_get_current_pid_tgid());

	/* It sleeps once more than it wakes: the first sleep after boot or load is no span. */
	if (!t || t->tid != (__u32)bpf_get_current_pid_tgid() || !t->reclaim_start_ns)
		return 0;
	return span_end(ctx, 0, false, SB_SCRATCH_KSWAPD);
}

/* The span that the current thread is in. */
static __always_inline struct sb_task_detail *in_span(void)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct sb_task_state *t = sb_state_of(tid);

	if (!t || t->tid != tid || !t->reclaim_start_ns)
		return NULL;
	return sb_detail_peek(tid);
}

/* (nid, nr_scanned, nr_reclaimed, stat, priority, file): summed for the span it happens in. */
SEC("tp_btf/mm_vmscan_lru_shrink_inactive")
int shrink_inactive(__u64 *ctx)
{
	struct sb_task_detail *d = in_span();
	struct reclaim_stat *stat = (void *)ctx[3];
	__u32 priority = ctx[4];

	if (!d)
		return 0;
	d->nr_scanned += ctx[1];
	d->nr_reclaimed += ctx[2];
	d->nr_activate += BPF_CORE_READ(stat, nr_activate[0]) + BPF_CORE_READ(stat, nr_activate[1]);
	d->nr_ref_keep += BPF_CORE_READ(stat, nr_ref_keep);
	d->nr_dirty += BPF_CORE_READ(stat, nr_dirty);
	d->nr_writeback += BPF_CORE_READ(stat, nr_writeback);
	if (priority < d->priority)
		d->priority = priority;
	if (control.watch & (1u << SB_KTRIG_RECLAIM_YIELD)) {
		SB_ATOMIC_ADD(&control.yield_scanned, ctx[1]);
		SB_ATOMIC_ADD(&control.yield_reclaimed, ctx[2]);
	}
	return 0;
}

/* (highest_zoneidx, order, nr_requested, nr_scanned, nr_skipped, nr_taken, ...) */
SEC("tp_btf/mm_vmscan_lru_isolate")
int lru_isolate(__u64 *ctx)
{
	struct sb_task_detail *d = in_span();

	if (d)
		d->nr_taken += ctx[5];
	return 0;
}

/* (nid, usec_timeout, usec_delayed, reason) */
SEC("tp_btf/mm_vmscan_throttled")
int vmscan_throttled(__u64 *ctx)
{
	struct sb_task_detail *d = in_span();

	if (d) {
		d->throttled_us += ctx[2];
		d->throttle_reason = ctx[3] + 1;
	}
	return 0;
}

SEC("tp_btf/mm_shrink_slab_start")
int slab_start(__u64 *ctx)
{
	struct sb_task_detail *d = in_span();

	if (d)
		d->slab_since_ns = bpf_ktime_get_ns();
	return 0;
}

/* (shrinker, nid, retval, unused_scan_cnt, new_scan_cnt, total_scan) */
SEC("tp_btf/mm_shrink_slab_end")
int slab_end(__u64 *ctx)
{
	struct shrinker *shrinker = (void *)ctx[0];
	__u64 id = bpf_get_current_pid_tgid(), duration;
	struct sb_task_detail *d = in_span();
	struct sb_cpu *c = sb_this_cpu();
	struct sb_scratch *s;
	struct sb_slab *p;

	if (!d || !c)
		return 0;
	if ((__s32)ctx[2] > 0)
		d->slab_freed += ctx[2];
	duration = bpf_ktime_get_ns() - d->slab_since_ns;
	if (!d->slab_since_ns || duration < cfg.offcpu_threshold_ns)
		return 0;
	d->slab_since_ns = 0;
	s = sb_begin(SB_SCRATCH_SLAB, SB_SLAB, id, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->nr_freed = (__s32)ctx[2] > 0 ? ctx[2] : 0;
	p->nr_scanned = ctx[5];
	p->fn = (__u64)BPF_CORE_READ(shrinker, scan_objects);
	__builtin_memset(p->name, 0, sizeof(p->name));
	if (bpf_core_field_exists(shrinker->name))
		bpf_probe_read_kernel_str(p->name, sizeof(p->name), BPF_CORE_READ(shrinker, name));
	sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	return 0;
}

/* (tsk) since 6.9, (pid) before. */
SEC("tp_btf/mark_victim")
int oom_victim(__u64 *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct sb_cpu *c = sb_this_cpu();
	struct sb_scratch *s;

	s = c ? sb_begin(SB_SCRATCH_OOM, SB_OOM, id, sizeof(struct sb_oom) / 8, c) : NULL;
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	if (ctx[0] >> 32) {
		int pid = BPF_CORE_READ((struct task_struct *)ctx[0], pid);

		s->payload[0] = pid;
		sb_task_note((void *)ctx[0]);
	} else {
		s->payload[0] = (__u32)ctx[0];
	}
	sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	return 0;
}
