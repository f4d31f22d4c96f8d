// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * On-CPU samples, and the clock of the in-kernel triggers: a cpu-clock perf event per
 * CPU. Idle CPUs are interrupted too where the machine's timers go on in idle: they record
 * nothing, but keep the triggers' clock going when nothing else runs.
 */
#include "bpf/ring.bpf.h"
#include <linux/bpf_perf_event.h>

/* The wait table is scanned this often by whichever CPU comes first. */
#define SCAN_PERIOD_NS 10000000ULL

/* Fires trigger `index` if enough of what it watches has been in flight for too long.
 * A global function: the verifier checks it once by itself, instead of a thousand slots
 * again for every trigger and caller. */
int scan_inflight(__u32 index)
{
	struct sb_inflight_table *table = sb_inflight_table();
	volatile struct sb_ktrigger *trigger = &control.trigger[index & (SB_KTRIGGERS - 1)];
	__u64 now = bpf_ktime_get_ns(), threshold = trigger->threshold_ns;
	__u32 bit = 1u << (index & (SB_KTRIGGERS - 1));
	struct sb_cpu *c = sb_this_cpu();
	volatile struct sb_scan *found;

	if (!table || !c)
		return 0;
	found = &c->scan;
	found->count = 0;
	found->oldest_ns = 0;
	for (__u32 i = 0; i < SB_INFLIGHT; i++) {
		struct sb_inflight *slot = &table->slot[i];
		__u64 since = slot->since_ns;

		if (!since || !(slot->match & bit) || (__s64)(now - since) < (__s64)threshold)
			continue;
		found->count++;
		if (now - since > found->oldest_ns) {
			found->oldest_ns = now - since;
			found->tid = slot->key >> 8;
		}
	}
	if (!found->count || found->count < trigger->count)
		return 0;
	return sb_fire(index, trigger->type == SB_KTRIG_BLOCKED ? found->count : found->oldest_ns,
		       found->tid);
}

static __always_inline void scan_all(void)
{
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		if (control.trigger[i].type != SB_KTRIG_NONE)
			scan_inflight(i);
	}
}

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns(), last, gap;
	struct sb_cpu *c = sb_this_cpu();
	struct sb_on_cpu *p;
	struct sb_scratch *s;
	bool user;
	long n;

	if (!c)
		return 0;
	/* Some machines do not interrupt an idle CPU: a gap with idleness in it is no delay. */
	gap = c->last_tick_ns && !c->was_idle ? now - c->last_tick_ns : 0;
	c->was_idle = 0;
	c->last_tick_ns = now;
	c->ticks++;
	last = control.last_scan_ns;
	if (now - last >= SCAN_PERIOD_NS && control.armed == 1 &&
	    SB_CLAIM(&control.last_scan_ns, last, now))
		scan_all();
	if (!(__u32)id) {
		c->idle_ticks++;
		return 0;
	}
	s = sb_scratch(SB_SCRATCH_SAMPLE);
	if (!s) {
		c->lost[SB_LOST_NO_SCRATCH]++;
		return 0;
	}
	user = sb_regs_user(&ctx->regs);
	s->nk = 0;
	if (!user) {
		n = bpf_get_stack(ctx, s->k, sizeof(s->k), 0);
		s->nk = sb_frames(n, SB_KFRAMES, c, SB_LOST_TRUNCATED_K);
	}
	n = bpf_get_stack(ctx, s->u, sizeof(s->u), BPF_F_USER_STACK);
	s->nu = sb_frames(n, SB_UFRAMES, c, SB_LOST_TRUNCATED_U);
	s->uinfo = s->nu ? 2 | (s->nu >= SB_UFRAMES ? 2 << 4 : 0) : 0;
	s->kind = SB_ON_CPU;
	s->flags = user ? SB_REC_USER : 0;
	if (gap > cfg.sample_period_ns + cfg.sample_period_ns / 2)
		s->flags |= SB_REC_LATE;
	s->tid = id;
	s->tgid = id >> 32;
	s->np = sizeof(*p) / 8;
	p = (void *)s->payload;
	p->gap_ns = gap;
	sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	return 0;
}
