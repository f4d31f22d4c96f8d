// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Reclaim spans: direct, memcg and kswapd, with what they reclaimed and scanned. A span
 * that has begun is in flight, so that an in-kernel trigger sees it while it still runs,
 * even when its thread is runnable and gets no CPU.
 */
#include "bpf/ring.bpf.h"

static __always_inline int span_begin(__u32 kind, __u32 order, __u32 gfp, bool watch)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct sb_task_state *t = sb_state_of(tid);

	if (!t)
		return 0;
	sb_state_take(t, tid);
	t->reclaim_start_ns = bpf_ktime_get_ns();
	t->nr_scanned = 0;
	t->nr_reclaimed = 0;
	t->order = order;
	t->gfp = gfp;
	t->reclaim_kind = kind;
	t->reclaim_match = 0;
	if (!watch)
		return 0;
	t->reclaim_match = sb_trigger_match(SB_KTRIG_RECLAIM);
	if (!t->reclaim_match || (t->flags & SB_TS_RECLAIM_INFLIGHT))
		return 0;
	if (sb_inflight_add(tid, SB_INFLIGHT_RECLAIM, t->reclaim_match)) {
		t->flags |= SB_TS_RECLAIM_INFLIGHT;
	} else {
		struct sb_cpu *c = sb_this_cpu();

		if (c)
			c->lost[SB_LOST_INFLIGHT_FULL]++;
	}
	return 0;
}

/* A span that ended may have crossed a threshold since the last scan. */
static __always_inline void fire_ended(__u32 tid, __u32 match, __u64 duration)
{
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		if (!(match & (1u << i)) || control.trigger[i].count > 1 ||
		    duration < control.trigger[i].threshold_ns)
			continue;
		sb_fire(i, duration, tid);
		return;
	}
}

static __always_inline int span_end(void *ctx, __u64 nr_reclaimed, bool have_reclaimed,
				    __u32 scratch_id)
{
	__u64 id = bpf_get_current_pid_tgid(), duration;
	struct sb_task_state *t = sb_state_of(id);
	struct sb_cpu *c = sb_this_cpu();
	struct sb_reclaim *p;
	struct sb_scratch *s;
	__u32 tid = id, tidx = tid & (SB_TASKS - 1);
	struct sb_task *task;
	long n;

	if (!t || !c)
		return 0;
	if (t->tid != tid || !t->reclaim_start_ns) {
		c->lost[SB_LOST_SPAN_UNSTARTED]++;
		return 0;
	}
	duration = bpf_ktime_get_ns() - t->reclaim_start_ns;
	t->reclaim_start_ns = 0;
	if (t->flags & SB_TS_RECLAIM_INFLIGHT) {
		t->flags &= ~SB_TS_RECLAIM_INFLIGHT;
		sb_inflight_del(tid, SB_INFLIGHT_RECLAIM);
	}
	s = sb_scratch(scratch_id);
	if (!s) {
		c->lost[SB_LOST_NO_SCRATCH]++;
		return 0;
	}
	n = bpf_get_stack(ctx, s->k, sizeof(s->k), 0);
	s->nk = sb_frames(n, SB_KFRAMES, c, SB_LOST_TRUNCATED_K);
	s->nu = 0;
	s->uinfo = 0;
	s->kind = SB_RECLAIM;
	s->flags = 0;
	s->tid = tid;
	s->tgid = id >> 32;
	s->np = sizeof(*p) / 8;
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->nr_reclaimed = have_reclaimed ? nr_reclaimed : t->nr_reclaimed;
	p->nr_scanned = t->nr_scanned;
	p->gfp = t->gfp;
	p->kind = t->reclaim_kind;
	p->order = t->order;
	sb_task_note((void *)bpf_get_current_task());
	task = bpf_map_lookup_elem(&tasks, &tidx);
	p->cgroup_id = task ? task->cgroup_id : 0;
	sb_emit(s);
	if (t->reclaim_match)
		fire_ended(tid, t->reclaim_match, duration);
	return 0;
}

/* Arguments by position: (order, gfp), end: (nr_reclaimed), the same from 5.10 to 7.2. */
SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int direct_begin(__u64 *ctx)
{
	return span_begin(1, ctx[0], ctx[1], true);
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int direct_end(__u64 *ctx)
{
	return span_end(ctx, ctx[0], true, SB_SCRATCH_RECLAIM_DIRECT);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int memcg_begin(__u64 *ctx)
{
	return span_begin(2, ctx[0], ctx[1], true);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int memcg_end(__u64 *ctx)
{
	return span_end(ctx, ctx[0], true, SB_SCRATCH_RECLAIM_MEMCG);
}

/* kswapd runs as long as it must: no span of it is "too old", so no trigger watches. */
SEC("tp_btf/mm_vmscan_kswapd_wake")
int kswapd_wake(__u64 *ctx)
{
	return span_begin(3, ctx[2], 0, false); /* nid, zid, order */
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

/* (nid, nr_scanned, nr_reclaimed, ...): summed for the span it happens in. */
SEC("tp_btf/mm_vmscan_lru_shrink_inactive")
int shrink_inactive(__u64 *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct sb_task_state *t = sb_state_of(tid);

	if (!t || t->tid != tid || !t->reclaim_start_ns)
		return 0;
	t->nr_scanned += ctx[1];
	t->nr_reclaimed += ctx[2];
	return 0;
}
