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

enum sb_kind { SB_KIND_NONE = 0, SB_ON_CPU = 1, SB_OFF_CPU = 2, SB_RECLAIM = 3, SB_KIND_COUNT };

enum sb_rec_flag {
	SB_REC_USER = 1 << 0, /* ON_CPU: in user mode */
	SB_REC_LATE = 1 << 1,
	SB_REC_PREEMPTED = 1 << 2,
	SB_REC_KTHREAD = 1 << 3,
	SB_REC_STATE_UNKNOWN = 1 << 4,
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

/* Payload words by kind. */
struct sb_on_cpu {
	__u64 gap_ns; /* since the sampler's last interrupt on this CPU */
};
struct sb_off_cpu {
	__u64 duration_ns;
	__u32 runq_us; /* part of it spent runnable */
	__u32 state;   /* task state when it left the CPU, unless SB_REC_STATE_UNKNOWN */
};
struct sb_reclaim {
	__u64 duration_ns;
	__u32 nr_reclaimed, nr_scanned; /* pages */
	__u32 gfp;
	__u16 kind; /* 1 direct, 2 memcg, 3 kswapd */
	__u16 order;
	__u64 cgroup_id; /* of the reclaiming task */
};
_Static_assert(sizeof(struct sb_reclaim) == 32, "four payload words");

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
};
_Static_assert(sizeof(struct sb_shot) == 88, "stackshot layout");

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
