/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Kernel differences as CO-RE flavours, each naming the commit that made it. */
#ifndef SB_BPF_COMPAT_H
#define SB_BPF_COMPAT_H

#include "bpf/kernel.bpf.h"

/* 2f064a59a11f ("sched: Change task_struct::state", 5.14) renamed state to __state. */
struct task_struct___pre_5_14 {
	volatile long state;
} SB_CO_RE;

/* Of a task that the kernel has handed to the program: read where it lies, without a call, at every switch. */
static __always_inline __u32 sb_task_state_bits(struct task_struct *t)
{
	if (bpf_core_field_exists(t->__state))
		return t->__state;
	return (__u32)((struct task_struct___pre_5_14 *)t)->state;
}

/* bcf9033e5449 ("sched: move CPU field back into thread_info", 5.16). */
struct task_struct___pre_5_16 {
	unsigned int cpu;
} SB_CO_RE;

static __always_inline __u32 sb_task_cpu(struct task_struct *t)
{
	struct task_struct___pre_5_16 *old = (void *)t;

	if (bpf_core_field_exists(old->cpu))
		return BPF_CORE_READ(old, cpu);
	return BPF_CORE_READ(t, thread_info.cpu);
}

/* 309d08d9b3a3 ("block: move the disk into the queue", 5.17): before that the request knew it. */
struct request___pre_5_17 {
	struct gendisk *rq_disk;
} SB_CO_RE;

static __always_inline struct gendisk *sb_disk_of(struct request *rq)
{
	struct request___pre_5_17 *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return BPF_CORE_READ(old, rq_disk);
	return BPF_CORE_READ(rq, q, disk);
}

/* User registers of a task, as bpf_task_pt_regs() gives them (5.15+). */
#if defined(__TARGET_ARCH_x86)
struct pt_regs___x86 {
	unsigned long bp, si, di, orig_ax, ip, sp;
	unsigned short cs;
} SB_CO_RE;
#define sb_regs_nr(r)	((long)BPF_CORE_READ((struct pt_regs___x86 *)(r), orig_ax))
#define sb_regs_ip(r)	BPF_CORE_READ((struct pt_regs___x86 *)(r), ip)
#define sb_regs_sp(r)	BPF_CORE_READ((struct pt_regs___x86 *)(r), sp)
#define sb_regs_arg0(r) BPF_CORE_READ((struct pt_regs___x86 *)(r), di)
#define sb_regs_arg1(r) BPF_CORE_READ((struct pt_regs___x86 *)(r), si)
#define sb_regs_fp(r)	BPF_CORE_READ((struct pt_regs___x86 *)(r), bp)
#define sb_regs_lr(r)	0
#define sb_regs_64(r)	(BPF_CORE_READ((struct pt_regs___x86 *)(r), cs) != 0x23) /* __USER32_CS */
#define sb_regs_in_user(r) ((BPF_CORE_READ((struct pt_regs___x86 *)(r), cs) & 3) != 0)
#define SB_IP_MASK	(~0ULL)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs___arm64 {
	u64 regs[31];
	u64 sp, pc, pstate;
	u64 orig_x0;
	int syscallno;
} SB_CO_RE;
#define sb_regs_nr(r)	((long)BPF_CORE_READ((struct pt_regs___arm64 *)(r), syscallno))
#define sb_regs_ip(r)	BPF_CORE_READ((struct pt_regs___arm64 *)(r), pc)
#define sb_regs_sp(r)	BPF_CORE_READ((struct pt_regs___arm64 *)(r), sp)
#define sb_regs_arg0(r) BPF_CORE_READ((struct pt_regs___arm64 *)(r), orig_x0)
#define sb_regs_arg1(r) BPF_CORE_READ((struct pt_regs___arm64 *)(r), regs[1])
#define sb_regs_fp(r)	BPF_CORE_READ((struct pt_regs___arm64 *)(r), regs[29])
#define sb_regs_lr(r)	BPF_CORE_READ((struct pt_regs___arm64 *)(r), regs[30])
#define sb_regs_64(r)	(!(BPF_CORE_READ((struct pt_regs___arm64 *)(r), pstate) & 0x10)) /* PSR_MODE32_BIT */
#define sb_regs_in_user(r) (!(BPF_CORE_READ((struct pt_regs___arm64 *)(r), pstate) & 0xf)) /* PSR_MODE_EL0t */
#define SB_IP_MASK	((1ULL << 48) - 1) /* a signed return address has its signature above */
#endif

/* 5ca584d935c3 ("bpf: Add atomic_fetch_add", 5.12) and xchg/cmpxchg: the 5.10 object is
 * built without. There sched_switch and the sampler run with interrupts off and cannot
 * interleave; a reclaim record interrupted between the two instructions is the one that
 * can be torn, and the reader finds that by its position. */
#ifdef SB_NO_FETCH_ATOMICS
#define SB_FETCH_ADD(p, n)              \
	({                              \
		__u64 _old = *(p);      \
		*(p) = _old + (n);      \
		_old;                   \
	})
#define SB_CLAIM(p, old, new)           \
	({                              \
		int _won = *(p) == (old); \
		if (_won)               \
			*(p) = (new);   \
		_won;                   \
	})
#define SB_ATOMIC_INC(p) __sync_fetch_and_add((p), 1)
#define SB_ATOMIC_DEC(p) __sync_fetch_and_add((p), -1)
#define SB_ATOMIC_ADD(p, n) __sync_fetch_and_add((p), (n))
#else
#define SB_FETCH_ADD(p, n) __sync_fetch_and_add((p), (n))
#define SB_CLAIM(p, old, new) (__sync_val_compare_and_swap((p), (old), (new)) == (old))
#define SB_ATOMIC_INC(p) __sync_fetch_and_add((p), 1)
#define SB_ATOMIC_DEC(p) __sync_fetch_and_add((p), -1)
#define SB_ATOMIC_ADD(p, n) __sync_fetch_and_add((p), (n))
#endif
/* A counter that the program which interrupts this one counts in, too. */
#define SB_COUNT(p) ((void)__sync_fetch_and_add((p), 1))

/* Was the CPU in user mode? The registers in the sampler's context are the UAPI's, whose
 * code segment is 8 bytes wide: 2-byte loads are refused by the verifier. */
#if defined(__TARGET_ARCH_x86)
#define sb_regs_user(regs) (((regs)->cs & 3) != 0)
#elif defined(__TARGET_ARCH_arm64)
#define sb_regs_user(regs) (((regs)->pstate & 0xf) == 0) /* PSR_MODE_EL0t */
#else
#error "tell sb_regs_user() how this architecture marks user mode"
#endif

#endif
