/* SPDX-License-Identifier: BSD-2-Clause */
/* What the running kernel can do, asked of the kernel itself and not of its version. */
#ifndef SB_RECORDER_KERNEL_FEATURES_H
#define SB_RECORDER_KERNEL_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

struct btf;

/* 5.12+: atomics that return the old value. */
bool kernel_has_fetch_atomics(void);
/* 5.12+: values of a map beyond KMALLOC_MAX_SIZE. */
bool kernel_has_large_values(void);
/* 5.15+: the registers with which a task entered the kernel. */
bool kernel_has_task_regs(void);
/* 5.15+ */
bool kernel_has_timers(void);
/* Are tasks told apart by the cgroups of v1's memory controller? */
bool kernel_cgroup_v1_memory(void);
/* Bytes from a CPU's run queue (per-CPU variable runqueues) to its word of raised softirqs and to its counts of handled
 * ones. False where this kernel's BTF does not tell of these variables. */
bool kernel_softirq_words(const struct btf *btf, int64_t *ret_raised, int64_t *ret_handled);
/* The scheduler's tick as a clock for samples: its length in ns, and bytes from a CPU's run queue to its timer and to the pointer to
 * the registers of what an interrupt has interrupted. False where some CPU has no tick, timers have no high resolution, or BTF does
 * not tell of these variables. */
struct kernel_tick {
	uint64_t ns;
	int64_t timer_from_rq, regs_from_rq;
};
bool kernel_tick(struct kernel_tick *ret);
/* The multi-generational LRU is on, and mm_vmscan_lru_shrink_inactive does not tell what it scans. It does since 6.7; that release
 * took a parameter from mm_vmscan_lru_isolate, which is what this looks at. */
bool kernel_scans_untraced(const struct btf *btf);
/* Parameters of a tracepoint, its data pointer not counted; -1: this kernel has none of that name. */
int kernel_tracepoint_args(const struct btf *btf, const char *tracepoint);

#endif
