/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The look at waits and spans in flight: has one of them lasted long enough to fire? */
#ifndef SB_BPF_SCAN_BPF_H
#define SB_BPF_SCAN_BPF_H

#include "bpf/ring.bpf.h"

static __always_inline struct sb_inflight_table *sb_watched_table(volatile struct sb_ktrigger *trigger)
{
	return sb_inflight_table(trigger->type == SB_KTRIG_MMAP_LOCK_WAIT ? SB_INFLIGHT_LOCK :
									    SB_INFLIGHT_BLOCKED);
}

/* The bit alone may be of an earlier agent's trigger of this index. */
_Static_assert((int)SB_KTRIG_RECLAIM == SB_INFLIGHT_RECLAIM && (int)SB_KTRIG_BLOCKED == SB_INFLIGHT_BLOCKED &&
		       (int)SB_KTRIG_MMAP_LOCK_WAIT == SB_INFLIGHT_LOCK, "types");
static __always_inline bool sb_watched(const struct sb_inflight *slot, volatile struct sb_ktrigger *trigger,
				       __u32 bit)
{
	return (slot->match & bit) && (__u32)(slot->key & 0xff) == trigger->type;
}

/* Fires trigger `index` if enough of what it watches has been in flight for too long. `who`:
 * enum sb_scanner, because the sampler can interrupt the timer's scan on the same CPU. */
SB_GLOBAL int sb_scan_inflight(__u32 index, __u32 who)
{
	volatile struct sb_ktrigger *trigger = &control.trigger[index & (SB_KTRIGGERS - 1)];
	struct sb_inflight_table *table = sb_watched_table(trigger);
	__u64 now = bpf_ktime_get_ns(), threshold = trigger->threshold_ns;
	__u32 bit = 1u << (index & (SB_KTRIGGERS - 1));
	struct sb_cpu *c = sb_this_cpu();
	volatile struct sb_scan *found;
	__u64 value, met;

	if (!table || !c)
		return 0;
	found = &c->scan[who & (SB_SCANNERS - 1)];
	found->count = 0;
	found->oldest_ns = 0;
	for (__u32 i = 0; i < SB_INFLIGHT; i++) {
		struct sb_inflight *slot = &table->slot[i];
		__u64 since = slot->since_ns;

		if (!since || !sb_watched(slot, trigger, bit) || (__s64)(now - since) < 0)
			continue;
		found->count += now - since >= threshold;
		if (now - since > found->oldest_ns) {
			found->oldest_ns = now - since;
			found->tid = slot->key >> 8;
		}
	}
	value = trigger->type == SB_KTRIG_BLOCKED ? found->count : found->oldest_ns;
	trigger->value = value;
	trigger->value_ns = now;
	if (!found->count || found->count < trigger->count) {
		trigger->met_ns = 0;
		if (found->count < trigger->calm || !trigger->calm)
			trigger->told = 0;
		return 0;
	}
	/* Another CPU may scan, too: it begins and ends this at any time, with a later clock even. */
	met = trigger->met_ns;
	if (!met)
		trigger->met_ns = met = now;
	if ((__s64)(now - met) < (__s64)trigger->held_ns)
		return 0;
	return sb_fire(index, value, found->tid);
}

#endif
