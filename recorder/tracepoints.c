// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/tracepoints.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>

#include "recorder/kernel_features.h"
#include "recorder/probes_impl.h"

#define TO_THE_MS "conditions on what is in flight, to the millisecond"
#define SCANNED "pages scanned by reclaim"

/* Tracepoints that a kernel may lack, and the evidence that goes with each. */
static const struct {
	const char *program, *tracepoint, *evidence;
	bool required;
} tracepoints[] = {
	{ "sched_switch", "sched_switch", "off-CPU blocks", true },
	{ "direct_begin", "mm_vmscan_direct_reclaim_begin", "direct reclaim spans", false },
	{ "direct_end", "mm_vmscan_direct_reclaim_end", "direct reclaim spans", false },
	{ "memcg_begin", "mm_vmscan_memcg_reclaim_begin", "memcg reclaim spans", false },
	{ "memcg_end", "mm_vmscan_memcg_reclaim_end", "memcg reclaim spans", false },
	{ "kswapd_wake", "mm_vmscan_kswapd_wake", "kswapd spans", false },
	{ "kswapd_sleep", "mm_vmscan_kswapd_sleep", "kswapd spans", false },
	{ "shrink_inactive", "mm_vmscan_lru_shrink_inactive", SCANNED, false },
	{ "lru_isolate", "mm_vmscan_lru_isolate", "pages taken by reclaim", false },
	{ "vmscan_throttled", "mm_vmscan_throttled", "time that reclaim was throttled", false },
	{ "slab_start", "mm_shrink_slab_start", "slow shrinkers", false },
	{ "slab_end", "mm_shrink_slab_end", "slow shrinkers", false },
	{ "node_begin", "mm_vmscan_node_reclaim_begin", "node reclaim spans", false },
	{ "node_end", "mm_vmscan_node_reclaim_end", "node reclaim spans", false },
	{ "compaction_begin", "mm_compaction_begin", "compaction spans", false },
	{ "compaction_end", "mm_compaction_end", "compaction spans", false },
	{ "oom_victim", "mark_victim", "OOM kills", false },
	{ "direct_deadline", "mm_vmscan_direct_reclaim_begin", TO_THE_MS, false },
	{ "memcg_deadline", "mm_vmscan_memcg_reclaim_begin", TO_THE_MS, false },
	{ "node_deadline", "mm_vmscan_node_reclaim_begin", TO_THE_MS, false },
	{ "lock_deadline", "contention_begin", TO_THE_MS, false },
	{ "contention_begin", "contention_begin", "waits for locks and their owners", false },
	{ "contention_end", "contention_end", "waits for locks and their owners", false },
	{ "sched_waking", "sched_waking", "who ended a long wait", false },
	{ "block_complete", "block_rq_complete", "slow block I/O", false },
	{ "mmap_acquired", "mmap_lock_acquire_returned", "holds of mmap_lock", false },
	{ "mmap_acquired_path", "mmap_lock_acquire_returned", "holds of mmap_lock", false },
	{ "mmap_released", "mmap_lock_released", "holds of mmap_lock", false },
	{ "syscall_enter", "sys_enter", "exact times of system calls", false },
	{ "syscall_exit", "sys_exit", "exact times of system calls", false },
	{ "softirq_raised", "softirq_raise", "softirq delays", false },
	{ "softirq_entered", "softirq_entry", "softirq delays", false },
	{ "softirq_exited", "softirq_exit", "softirq delays", false },
	{ "hardirq_entered", "irq_handler_entry", "long hardirqs", false },
	{ "hardirq_exited", "irq_handler_exit", "long hardirqs", false },
	{ "process_fork", "sched_process_fork", "births of threads", false },
	{ "process_exec", "sched_process_exec", "exec times", false },
	{ "process_exit", "sched_process_exit", "exit times", false },
};

/* What the bundle has in place of evidence that a kernel cannot give. */
static const struct {
	const char *evidence, *instead;
} instead[] = {
	{ "waits for locks and their owners",
	  "no lock tracepoints (5.19); instead: off-CPU stacks show who waits, wakeups who let go, and "
	  "the owner of mmap_lock is read at the freeze" },
	{ TO_THE_MS, "no BPF timers (5.15) or none of the tracepoints; instead: the sampler looks every 10 ms" },
	{ "holds of mmap_lock",
	  "no mmap_lock tracepoints (5.11); instead: waits, and the owner at the freeze" },
};

static const char *why_missing(const char *evidence)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(instead); i++) {
		if (!strcmp(instead[i].evidence, evidence))
			return instead[i].instead;
	}
	return "this kernel has no such tracepoint";
}

/* (mm, memcg_path, write, success) or (mm, write, success): the one that does not fit would be
 * refused by the verifier. */
static bool fits(const struct btf *btf, const char *program)
{
	if (!strcmp(program, "mmap_acquired"))
		return kernel_tracepoint_args(btf, "mmap_lock_acquire_returned") == 3;
	if (!strcmp(program, "mmap_acquired_path"))
		return kernel_tracepoint_args(btf, "mmap_lock_acquire_returned") == 4;
	return true;
}

int tracepoints_choose(struct probes *p, struct bpf_object *obj, char *err, size_t len)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool timers = kernel_has_timers();
	struct bpf_program *reset, *tick;

	if (!btf) {
		probes_fail_text(err, len, "cannot read the kernel's BTF", -errno,
			  "stallbox needs /sys/kernel/btf/vmlinux: a kernel built with "
			  "CONFIG_DEBUG_INFO_BTF=y (Debian 11 and later, RHEL 8.2 and later)");
		return -ENOTSUP;
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(tracepoints); i++) {
		struct bpf_program *prog;

		prog = obj ? bpf_object__find_program_by_name(obj, tracepoints[i].program) : NULL;
		if (prog && !fits(btf, tracepoints[i].program))
			bpf_program__set_autoload(prog, false);
		if (kernel_tracepoint_args(btf, tracepoints[i].tracepoint) >= 0 &&
		    (timers || strcmp(tracepoints[i].evidence, TO_THE_MS)))
			continue;
		if (tracepoints[i].required) {
			snprintf(err, len, "this kernel has no tracepoint '%s', which %s need",
				 tracepoints[i].tracepoint, tracepoints[i].evidence);
			btf__free(btf);
			return -ENOTSUP;
		}
		probes_add_missing(p, tracepoints[i].evidence, why_missing(tracepoints[i].evidence));
		if (prog)
			bpf_program__set_autoload(prog, false);
	}
	if (!kernel_has_task_regs() || !kernel_softirq_words(btf, &p->raised_from_rq, &p->handled_from_rq))
		probes_add_missing(p, "softirqs that a system call holds up",
				   "this kernel has no bpf_task_pt_regs (5.15), or its BTF not the per-CPU variables; instead: the escalated window has their delays");
	if (kernel_scans_untraced(btf))
		probes_add_missing(p, SCANNED,
				   "the multi-generational LRU is on, and traces what it scans from 6.7 on; instead: what each span "
				   "reclaimed; reclaim-yield does not fire");
	btf__free(btf);
	tick = obj ? bpf_object__find_program_by_name(obj, "tick_sample") : NULL;
	if (tick)
		bpf_program__set_autoload(tick, p->cfg.tick_ns != 0);
	reset = obj ? bpf_object__find_program_by_name(obj, PROGRAM_RESET_DEADLINES) : NULL;
	if (reset)
		bpf_program__set_autoload(reset, timers);
	if (!kernel_has_task_regs())
		probes_add_missing(p, "system calls of samples, blocks and threads",
			    "this kernel has no bpf_task_pt_regs (5.15); instead: kernel stacks, and exact times of "
			    "system calls in the escalated window");
	return 0;
}
