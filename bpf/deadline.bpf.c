// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Conditions on what is still in flight, to the millisecond: a timer (5.15+) for each trigger
 * that watches reclaim spans, waits for mmap_lock or threads in D state, set to the moment at
 * which the oldest one would be too old. Without it the sampler finds them, within
 * SCAN_PERIOD_NS.
 *
 * A reclaim span or a wait for a lock sets the timer when it begins, if it is not set. D-state
 * waits begin under the run-queue lock, where no timer can be started: theirs goes on for ever,
 * started by the agent. Nothing that begins after a look can be too old before `threshold` has
 * passed, so that is the longest time between two looks, and the usual one.
 */
#include "bpf/scan.bpf.h"

/* A timer is never set to less: threads in D state that grow too old one after the other
 * are looked at together, so many times a second at most. */
#define LOOK_GAP_NS 250000ULL

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

/* Of the spans and waits that are not too old yet the oldest, in scan[SB_SCAN_TIMER]; its age is
 * 0 where there is none. */
int oldest_in_time(__u32 index)
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
	return 0;
}

/* Nanoseconds until the next look: when the oldest one will be too old. 0: there is none, and
 * whoever begins will set the timer. */
static __always_inline __u64 next_look(__u32 index)
{
	volatile struct sb_ktrigger *trigger = &control.trigger[index & (SB_KTRIGGERS - 1)];
	__u64 threshold = trigger->threshold_ns, age;
	struct sb_cpu *c = sb_this_cpu();

	if (!c)
		return 0;
	oldest_in_time(index);
	age = c->scan[SB_SCAN_TIMER].oldest_ns;
	if (trigger->type != SB_KTRIG_BLOCKED)
		return age ? threshold - age + 1000 : 0;
	return threshold - age > LOOK_GAP_NS ? threshold - age + 1000 : LOOK_GAP_NS;
}

static int deadline_passed(void *map, __u32 *key, struct sb_deadline *d)
{
	__u64 ns;

	/* First: whatever begins from here on sets it anew. */
	d->due_ns = 0;
	barrier();
	if (control.armed == 1)
		sb_scan_inflight(*key, SB_SCAN_TIMER);
	ns = next_look(*key);
	if (ns) {
		d->due_ns = bpf_ktime_get_ns() + ns;
		bpf_timer_start(&d->timer, ns, 0);
	}
	(void)map;
	return 0;
}

/* Run by the agent, through BPF_PROG_TEST_RUN, when it has written the triggers: those of an
 * earlier agent may have had other thresholds, and D-state waits cannot set their timer
 * themselves. Returns 0 or a negative errno. */
SEC("syscall")
int reset_deadlines(void *ctx)
{
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		__u32 key = i, type = control.trigger[i].type;
		struct sb_deadline *d = bpf_map_lookup_elem(&deadlines, &key);
		long r;

		if (!d)
			continue;
		bpf_timer_cancel(&d->timer); /* waits for one that is running */
		d->due_ns = 0;
		if (type < SB_KTRIG_RECLAIM || type > SB_KTRIG_MMAP_LOCK_WAIT)
			continue;
		bpf_timer_init(&d->timer, &deadlines, 1 /* CLOCK_MONOTONIC */);
		r = bpf_timer_set_callback(&d->timer, deadline_passed);
		if (!r)
			r = bpf_timer_start(&d->timer, 0, 0);
		if (r)
			return (int)r;
	}
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
