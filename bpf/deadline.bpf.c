// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Conditions on what is still in flight, to the millisecond: a timer (5.15+) for each trigger
 * that watches reclaim spans or waits for mmap_lock, set to the moment at which the oldest one
 * would be too old. Without it the sampler finds them, within SCAN_PERIOD_NS.
 *
 * D-state waits begin under the run-queue lock, where no timer can be started: those are
 * always the sampler's.
 */
#include "bpf/scan.bpf.h"

struct sb_deadline {
	struct bpf_timer timer;
	__u64 due_ns; /* CLOCK_MONOTONIC; 0: not set */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SB_KTRIGGERS);
	__type(key, __u32);
	__type(value, struct sb_deadline);
} deadlines SEC(".maps");

/* Microseconds until the oldest span or wait that is not too old yet will be; 0: there is none. */
int deadline_next(__u32 index)
{
	volatile struct sb_ktrigger *trigger = &control.trigger[index & (SB_KTRIGGERS - 1)];
	struct sb_inflight_table *table = sb_watched_table(trigger);
	__u64 now = bpf_ktime_get_ns(), threshold = trigger->threshold_ns;
	__u32 bit = 1u << (index & (SB_KTRIGGERS - 1));
	struct sb_cpu *c = sb_this_cpu();
	volatile struct sb_scan *oldest;

	if (!table || !c)
		return 0;
	oldest = &c->scan[SB_SCAN_TIMER];
	oldest->oldest_ns = 0;
	for (__u32 i = 0; i < SB_INFLIGHT; i++) {
		struct sb_inflight *slot = &table->slot[i];
		__u64 since = slot->since_ns, age = now - since;

		if (!since || !sb_watched(slot, trigger, bit) || age >= threshold || age > 1ULL << 62)
			continue;
		if (age >= oldest->oldest_ns)
			oldest->oldest_ns = age ?: 1;
	}
	if (!oldest->oldest_ns)
		return 0;
	return (int)((threshold - oldest->oldest_ns) / 1000 + 1);
}

static int deadline_passed(void *map, __u32 *key, struct sb_deadline *d)
{
	int us;

	/* First: whatever begins from here on sets it anew. */
	d->due_ns = 0;
	barrier();
	if (control.armed == 1)
		sb_scan_inflight(*key, SB_SCAN_TIMER);
	us = deadline_next(*key);
	if (us > 0) {
		d->due_ns = bpf_ktime_get_ns() + us * 1000ULL;
		bpf_timer_start(&d->timer, us * 1000ULL, 0);
	}
	(void)map;
	return 0;
}

/* Something that triggers of this type watch begins now. */
static __always_inline void set_deadlines(__u32 type)
{
	__u64 now = bpf_ktime_get_ns(), due;

	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		volatile struct sb_ktrigger *t = &control.trigger[i];
		struct sb_deadline *d;
		__u32 key = i;

		if (t->type != type)
			continue;
		d = bpf_map_lookup_elem(&deadlines, &key);
		/* One due in the future sees to what begins later. One long past was lost with a
		 * map that nobody held. */
		due = d ? d->due_ns : 0;
		if (!d || (due && now < due + t->threshold_ns) ||
		    !SB_CLAIM(&d->due_ns, due, now + t->threshold_ns))
			continue;
		bpf_timer_init(&d->timer, &deadlines, 1 /* CLOCK_MONOTONIC */);
		bpf_timer_set_callback(&d->timer, deadline_passed);
		bpf_timer_start(&d->timer, t->threshold_ns, 0);
	}
}

static __always_inline int reclaim_begins(void)
{
	if (control.watch & (1u << SB_KTRIG_RECLAIM))
		set_deadlines(SB_KTRIG_RECLAIM);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int direct_deadline(__u64 *ctx)
{
	return reclaim_begins();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int memcg_deadline(__u64 *ctx)
{
	return reclaim_begins();
}

SEC("tp_btf/mm_vmscan_node_reclaim_begin")
int node_deadline(__u64 *ctx)
{
	return reclaim_begins();
}

/* (lock, flags): only waits for the mmap_lock of one's own mm, which begin with nothing held
 * that a timer could need. */
SEC("tp_btf/contention_begin")
int lock_deadline(__u64 *ctx)
{
	struct mm_struct *mm;

	if (!(control.watch & (1u << SB_KTRIG_MMAP_LOCK_WAIT)) || (ctx[1] & (SB_LCB_SPIN | SB_LCB_MUTEX)))
		return 0;
	mm = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), mm);
	if (mm && ctx[0] == (__u64)mm + bpf_core_field_offset(mm->mmap_lock))
		set_deadlines(SB_KTRIG_MMAP_LOCK_WAIT);
	return 0;
}
