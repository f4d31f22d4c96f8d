/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The columns of an event block, once: COLUMN(field in capture.proto, member of struct
 * bundle_event). Time columns are stored in units of the block (EventBlock.time_unit_ns).
 */
#ifndef SB_FORMAT_COLUMNS_H
#define SB_FORMAT_COLUMNS_H

#define COLUMNS32(COLUMN)                     \
	COLUMN(thread, thread)                \
	COLUMN(kstack, kstack)                \
	COLUMN(ustack, ustack)                \
	COLUMN(state, state)                  \
	COLUMN(flags, flags)                  \
	COLUMN(order, order)                  \
	COLUMN(gfp, gfp)                      \
	COLUMN(reclaim_kind, reclaim_kind)    \
	COLUMN(syscall, syscall)              \
	COLUMN(peer, peer)                    \
	COLUMN(owner_flags, owner_flags)      \
	COLUMN(detail, detail)                \
	COLUMN(weight, weight)                \
	COLUMN(name, name)                    \
	COLUMN(nr_taken, nr_taken)            \
	COLUMN(nr_activate, nr_activate)      \
	COLUMN(nr_ref_keep, nr_ref_keep)      \
	COLUMN(nr_dirty, nr_dirty)            \
	COLUMN(nr_writeback, nr_writeback)    \
	COLUMN(slab_freed, slab_freed)        \
	COLUMN(priority, priority)            \
	COLUMN(throttle_reason, throttle_reason) \
	COLUMN(nvcsw, nvcsw)                  \
	COLUMN(nivcsw, nivcsw)                \
	COLUMN(reclaims, reclaims)

#define COLUMNS64(COLUMN)                     \
	COLUMN(nr_reclaimed, nr_reclaimed)    \
	COLUMN(nr_scanned, nr_scanned)        \
	COLUMN(cgroup, cgroup_id)             \
	COLUMN(call_site, call_site)          \
	COLUMN(addr, addr)                    \
	COLUMN(bytes, bytes)                  \
	COLUMN(arg0, arg0)                    \
	COLUMN(arg1, arg1)

#define COLUMNS_TIME(COLUMN)                  \
	COLUMN(duration, duration_ns)         \
	COLUMN(runq_delay, runq_delay_ns)     \
	COLUMN(delay, delay_ns)               \
	COLUMN(throttled, throttled_ns)       \
	COLUMN(cpu_time, cpu_time_ns)

/* The same for the stackshot: COLUMN(field), the member has the field's name. */
#define SHOT_COLUMNS32(COLUMN)                                                              \
	COLUMN(thread) COLUMN(state) COLUMN(cpu) COLUMN(flags) COLUMN(kstack) COLUMN(ustack) \
	COLUMN(mm) COLUMN(mmap_owner) COLUMN(mmap_owner_flags) COLUMN(lock_flags)            \
	COLUMN(lock_owner) COLUMN(lock_owner_flags) COLUMN(syscall) COLUMN(nr_scanned)       \
	COLUMN(nr_reclaimed)
#define SHOT_COLUMNS64(COLUMN)                                                              \
	COLUMN(since_ns) COLUMN(wchan) COLUMN(mmap_lock) COLUMN(lock) COLUMN(lock_since_ns)  \
	COLUMN(reclaim_since_ns) COLUMN(arg0) COLUMN(arg1)
#define SHOT_COLUMNS_SIGNED(COLUMN) COLUMN(mmap_count)

/* The numbers of SelfCost: FIELD(field), the member of struct bundle_cost has the field's name. */
#define COST_FIELDS(FIELD)                                                             \
	FIELD(since_ns) FIELD(until_ns) FIELD(agent_cpu_ns) FIELD(agent_rss_bytes)     \
	FIELD(map_bytes) FIELD(wakeups) FIELD(bytes_written) FIELD(worker_cpu_ns)      \
	FIELD(worker_rss_bytes) FIELD(bpf_time_ns) FIELD(period_ns) FIELD(windows)     \
	FIELD(budget_ppm) FIELD(limit_step) FIELD(limit_changes)

#endif
