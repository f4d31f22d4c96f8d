/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Records of the ring and of the stackshot.
 *
 * A ring record is struct sb_rec, then np payload words, then nk kernel and nu user
 * frames (leaf first). A stack's frames stand in the first record that has it within
 * a window of segments; later records carry only the hash. A reader recomputes the
 * hash of every inline stack, and accepts a record only if `pos` is its own position.
 */
#ifndef SB_BPF_EVENTS_H
#define SB_BPF_EVENTS_H

#include <linux/types.h>

enum sb_kind {
	SB_KIND_NONE = 0,
	SB_ON_CPU = 1,
	SB_OFF_CPU = 2,
	SB_RECLAIM = 3,
	SB_LOCK_WAIT = 4,
	SB_WAKEUP = 5,
	SB_LOCK_HOLD = 6,
	SB_SYSCALL = 7,
	SB_SOFTIRQ = 8,
	SB_BLOCK_IO = 9,
	SB_OOM = 10,
	SB_SLAB = 11,
	SB_HARDIRQ = 12,
	SB_KIND_COUNT,
};
#define SB_KIND_SLOTS 16u /* counters by kind; a power of two */

enum sb_rec_flag {
	SB_REC_USER = 1 << 0, /* ON_CPU: in user mode */
	SB_REC_LATE = 1 << 1,
	SB_REC_PREEMPTED = 1 << 2,
	SB_REC_KTHREAD = 1 << 3,
	SB_REC_STATE_UNKNOWN = 1 << 4, /* OFF_CPU */
	SB_REC_THINNED = 1 << 4, /* ON_CPU: gap_ns is the time that this sample stands for */
	SB_REC_MMAP_LOCK = 1 << 5,  /* the thread held mmap_lock, as far as the owner field tells */
	SB_REC_IN_RECLAIM = 1 << 6, /* the thread was inside a reclaim span */
	SB_REC_BUSY = 1 << 7, /* being written */
};

struct sb_rec {
	__u16 len; /* bytes, a multiple of 8 */
	__u8 kind;
	__u8 flags;
	__u32 pos;   /* ring position / 8, low 32 bits */
	__u64 ts_ns; /* CLOCK_MONOTONIC */
	__u32 tid, tgid;
	__u32 seq;   /* per CPU, over both banks */
	__u8 nk, nu; /* frames that follow */
	__u8 np;     /* payload words that follow */
	__u8 uinfo;  /* how the user stack was taken and why it ended */
	__u64 kstack, ustack; /* hashes, 0: none */
};
_Static_assert(sizeof(struct sb_rec) == 48, "record layout");

/* Which system call a thread is in: (number + 1) << 48 | hash of user IP and SP; 0: none.
 * The same value in successive samples is the same call site, so most likely one call. */
#define SB_CALL_NR(call) ((__u32)((call) >> 48)) /* number + 1 */

/* Payload words by kind. */
struct sb_on_cpu {
	__u64 gap_ns; /* since the sampler's last interrupt on this CPU */
	__u64 call;   /* kernel mode only, else the word is left out */
};
struct sb_off_cpu {
	__u64 duration_ns;
	__u32 runq_us; /* part of it spent runnable */
	__u32 state;   /* task state when it left the CPU, unless SB_REC_STATE_UNKNOWN */
	__u64 call;    /* may be left out */
};
struct sb_reclaim {
	__u64 duration_ns;
	__u32 nr_reclaimed, nr_scanned; /* pages */
	__u32 gfp;
	__u8 kind; /* enum sb_reclaim_kind */
	__u8 order;
	__u16 weight; /* short spans are sampled in a storm: this one stands for so many */
	__u64 cgroup_id; /* of the reclaiming task */
	/* From here on sums over the span; pages. */
	__u32 nr_taken, nr_activate;
	__u32 nr_ref_keep, nr_dirty;
	__u32 nr_writeback, slab_freed; /* slab objects freed by shrinkers */
	__u32 throttled_us;
	__u8 priority;	      /* lowest scan priority reached, DEF_PRIORITY (12) down to 0 */
	__u8 throttle_reason; /* VMSCAN_THROTTLE_* of the last throttling, plus 1; 0: none */
	__u16 flags;	      /* enum sb_reclaim_flag */
};
_Static_assert(sizeof(struct sb_reclaim) == 64, "eight payload words");
enum sb_reclaim_kind {
	SB_RECLAIM_DIRECT = 1,
	SB_RECLAIM_MEMCG = 2,
	SB_RECLAIM_KSWAPD = 3,
	SB_RECLAIM_NODE = 4,
	SB_RECLAIM_COMPACTION = 5,
};
enum sb_reclaim_flag {
	SB_RECLAIM_MMAP_WRITE = 1, /* held mmap_lock for writing */
	SB_RECLAIM_MMAP_READ = 2,  /* was the last to acquire it for reading and it is still held */
};

/* One call of a shrinker that took at least the off-CPU threshold. */
struct sb_slab {
	__u64 duration_ns;
	__u64 fn;	/* address of its scan function */
	__u32 nr_freed, nr_scanned;
	char name[32]; /* where the kernel names shrinkers (6.0) */
};
_Static_assert(sizeof(struct sb_slab) == 56, "seven payload words");

/* How a lock was owned when a wait for it began. */
enum sb_owner_flag {
	SB_OWNER_KNOWN = 1,  /* owner_tid is what the lock's owner field named */
	SB_OWNER_READER = 2, /* the last reader to acquire it: one holder of perhaps several */
};
struct sb_lock_wait {
	__u64 duration_ns;
	__u64 lock;  /* kernel address */
	__u32 flags; /* LCB_F_*, include/trace/events/lock.h, and SB_LOCK_* */
	__u32 owner_tid;
	__u32 owner_flags; /* enum sb_owner_flag */
	__u32 weight;	   /* spinning locks are sampled: this wait stands for so many */
};
#define SB_LCB_SPIN 1u
#define SB_LCB_READ 2u
#define SB_LCB_WRITE 4u
#define SB_LCB_RT 8u
#define SB_LCB_PERCPU 16u
#define SB_LCB_MUTEX 32u
#define SB_LOCK_MMAP (1u << 16) /* mmap_lock of the waiter's own mm */

/* Who ended a long wait in D state: the record is the waker's. */
struct sb_wakeup {
	__u64 duration_ns; /* that the woken thread had been off the CPU */
	__u32 woken_tid, woken_tgid;
};

/* One acquire-release cycle of mmap_lock, from the tracepoints (escalated only). */
struct sb_lock_hold {
	__u64 duration_ns;
	__u64 lock;
	__u64 cpu_ns; /* of duration_ns, on the CPU */
	__u32 nvcsw, nivcsw; /* voluntary and involuntary switches meanwhile */
	__u32 reclaims, nr_scanned, nr_reclaimed, flags; /* flags: SB_LCB_READ or SB_LCB_WRITE */
};
_Static_assert(sizeof(struct sb_lock_hold) == 48, "six payload words");

struct sb_syscall {
	__u64 duration_ns;
	__u32 nr;
	__u32 flags; /* enum sb_syscall_flag */
	__u64 arg[2];  /* the first two, as numbers */
	__u64 cpu_ns;  /* of duration_ns, on the CPU */
	char name[24]; /* of the file that argument 0 is open on, for read and write; cut */
};
enum sb_syscall_flag {
	SB_SYSCALL_OPEN = 1,   /* has not returned yet: duration_ns so far */
	SB_SYSCALL_SAMPLED = 2, /* from samples of one call site: no longer than this, may be several */
};
_Static_assert(sizeof(struct sb_syscall) == 64, "eight payload words");

struct sb_softirq {
	__u64 duration_ns; /* of the handler */
	__u64 delay_ns;	   /* from raise to entry */
	__u32 vector, pad;
};
struct sb_hardirq {
	__u64 duration_ns; /* of one handler */
	__u32 irq, pad;
	char name[16]; /* as in /proc/interrupts, cut */
};
struct sb_block_io {
	__u64 duration_ns;
	__u32 dev;   /* major << 20 | minor */
	__u32 flags; /* cmd_flags: REQ_OP_* in the low 8 bits */
	__u64 bytes;
};
struct sb_oom {
	__u64 victim_tid;
};

/* One thread of the stackshot, as the iterator writes it; frames follow. */
struct sb_shot {
	__u32 tid, tgid;
	__u32 state;
	__u16 cpu;
	__u8 nk, nu;
	__u8 on_rq, on_cpu, kthread, uinfo;
	__u32 pad;
	__u64 since_ns; /* CLOCK_MONOTONIC, when it left the CPU; 0 unknown */
	__u64 start_ns, group_start_ns;
	__u64 cgroup_id;
	char comm[16], group_comm[16];
	__u64 mm;	  /* address of its mm; threads of one address space share it, 0: none */
	__u64 mmap_lock;  /* address of the mm's lock */
	__u32 mmap_owner; /* tid in the lock's owner field */
	__u32 mmap_owner_flags; /* enum sb_owner_flag */
	__s64 mmap_count;	/* the rwsem's count word: 0 free, bit 0 writer, bits 8.. readers */
	__u64 lock;		/* that it waits for, 0: none known */
	__u64 lock_since_ns;
	__u32 lock_flags, lock_owner, lock_owner_flags, syscall; /* syscall: number + 1 */
	__u64 reclaim_since_ns; /* of the reclaim span that it is in, 0: none */
	__u32 nr_scanned, nr_reclaimed; /* by that span so far */
	__u64 cpu_ns;		/* it has used since it was born */
	__u32 nvcsw, nivcsw;
	__u64 arg[2];		/* of syscall */
};
_Static_assert(sizeof(struct sb_shot) == 200, "stackshot layout");

/* Hash of a stack: the same arithmetic in BPF and in user space. Kernel stacks start
 * from 1, user stacks from tgid + 2, so that equal addresses of two processes differ. */
#define SB_HASH_KERNEL 1ULL
#define SB_HASH_USER(tgid) ((__u64)(tgid) + 2)
static inline __attribute__((always_inline)) __u64 sb_hash_step(__u64 h, __u64 frame)
{
	h = (h ^ frame) * 0x9E3779B97F4A7C15ULL; /* 2^64 / golden ratio (Knuth, TAOCP 6.4) */
	return h ^ (h >> 29);
}

#endif
