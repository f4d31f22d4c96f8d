/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Layout of everything that the BPF programs and user space share: the ring's
 * banks and segments, the control words, the tables. Both compilers check the
 * sizes. SB_LAYOUT_VERSION changes with any of it, because maps stay pinned while
 * agents come and go.
 *
 * One ring per CPU and bank. A bank is one value of an mmapable array map: 2^n
 * bytes and SB_RING_SLACK behind them, so that a record that begins near the end
 * needs no wrap. Positions count up for ever; offset = position & (ring_bytes - 1).
 * Every SB_SEG_BYTES begins a segment, and whoever reserves across the border
 * notes where the first record of the new segment starts. That is where a reader
 * finds its footing once older segments are overwritten.
 */
#ifndef SB_BPF_RING_H
#define SB_BPF_RING_H

#include <linux/types.h>

#define SB_LAYOUT_VERSION 19u
#define SB_CONTROL_MAGIC 0x53544c42u /* "STLB" */

#define SB_SEG_SHIFT 16
#define SB_SEG_BYTES (1u << SB_SEG_SHIFT)
#define SB_SEG_MAX 512u /* 32 MiB per CPU and bank at most */
#define SB_RING_SLACK 4096u
#define SB_BANKS 2u

#define SB_KFRAMES 64u
#define SB_UFRAMES 64u
#define SB_PAYLOAD_WORDS 8u
#define SB_SEEN_SLOTS 4096u /* stacks remembered per CPU for interning */

#define SB_ARGS 84u	  /* bytes of a command line */
#define SB_TASKS 32768u	  /* task table and task state, indexed by tid */
#define SB_DETAILS 8192u  /* struct sb_task_detail, by tid */
#define SB_USTACKS 8192u  /* saved user stacks of blocked threads, by tid */
#define SB_UST_BURST 256u /* periods for which a CPU saves up the time for user stacks at switch-out */
#define SB_LONG_BURST 1024u /* and for records of blocks of 10 to 100 ms */
#define SB_UST_AGAIN_MOST 32u /* times in a row; then it is walked, which also says that its tables are in use */
#define SB_INFLIGHT 1024u /* waits and spans that have begun and not ended */
#define SB_KTRIGGERS 8u
#define SB_COMM 16u
#define SB_SOFTIRQS 10u /* include/linux/interrupt.h: NR_SOFTIRQS */

#define SB_ALIGN_ATOMIC __attribute__((aligned(64)))

/* What is in flight is looked at this often, by whichever CPU comes first. */
#define SB_SCAN_PERIOD_NS 10000000ULL

/* Why something that happened is not in the ring; counted per CPU. */
enum sb_lost {
	SB_LOST_THROTTLED = 0,	  /* blocks under 10 ms beyond the per-CPU budget */
	SB_LOST_NO_SCRATCH = 1,	  /* a map lookup failed; never seen, never silent */
	SB_LOST_NO_USTACK = 2,	  /* long block whose user stack had not been saved */
	SB_LOST_KSTACK_ERR = 3,	  /* the kernel gave no kernel stack */
	SB_LOST_TASK_EVICTED = 4, /* task table entry taken by another tid */
	SB_LOST_INFLIGHT_FULL = 5, /* wait not watched by the in-kernel triggers */
	SB_LOST_SPAN_UNSTARTED = 6, /* reclaim end without a begin (or evicted) */
	SB_LOST_TRUNCATED_K = 7,  /* kernel stacks cut at SB_KFRAMES */
	SB_LOST_TRUNCATED_U = 8,  /* user stacks cut at SB_UFRAMES */
	SB_LOST_SHORT_SPANS = 10, /* short reclaim spans that weights stand for */
	SB_LOST_BUDGET = 9, /* wakeups, short lock waits, block I/O beyond the per-CPU budget */
	/* Left out above the CPU budget, see struct sb_control.limit_step. */
	SB_LOST_LIMIT_USTACK = 11, /* user stacks at switch-out */
	SB_LOST_LIMIT_SHORT = 12,  /* blocks below the raised threshold */
	SB_LOST_LIMIT_SAMPLE = 13, /* samples that the next one recorded stands for */
	SB_LOST_END_UNSEEN = 14,   /* the kernel did not run the program when the block ended */
	SB_LOST_LONG = 15,	   /* blocks of 10 to 100 ms beyond the per-CPU budget */
	SB_LOST_COUNT = 16,
};

/* What the recorder leaves out, in this order, to come back below its CPU budget. */
enum sb_limit_step {
	SB_LIMIT_NONE = 0,
	SB_LIMIT_USTACKS = 1,	/* no user stacks at switch-out */
	SB_LIMIT_THRESHOLD = 2, /* off-CPU threshold times SB_LIMIT_FACTOR */
	SB_LIMIT_SAMPLES = 3,	/* of SB_LIMIT_THIN samples one is recorded and stands for all */
	SB_LIMIT_PROGRAMS = 4,	/* optional programs are detached */
	SB_LIMIT_STEPS
};
#define SB_LIMIT_FACTOR 10u
#define SB_LIMIT_THIN 4u
#define SB_LIMIT_NOTES 24u

/* One CPU's side of one bank. */
struct sb_bank {
	__u64 head; /* position of the next record */
	__u64 pad[7];
	__u64 seg_first[SB_SEG_MAX]; /* by segment & (segments - 1): position of its first record */
};

/* What one scan of the in-flight table found; kept in map memory because the verifier
 * would follow every counter on the stack through every slot. */
struct sb_scan {
	__u32 count, tid; /* tid: of the oldest */
	__u64 oldest_ns;
};
enum sb_scanner { SB_SCAN_SAMPLER = 0, SB_SCAN_TIMER = 1, SB_SCANNERS = 2 };

/* Per CPU; an element of the mmapable map `cpus`, a whole number of pages. */
struct sb_cpu {
	__u64 seq;	     /* records reserved, both banks */
	__u64 last_tick_ns;  /* CLOCK_MONOTONIC of the last sample, idle ones included */
	__u64 ticks;	     /* times that the sampler was run, idle ones included */
	__u64 idle_ticks;
	__s64 clock_offset_ns; /* CLOCK_MONOTONIC minus the run-queue clock, last seen */
	__u64 ust_refilled_ns[4], ust_credit_ns[4]; /* user stacks at switch-out: see pay_ustack() */
	__u64 short_window, short_tokens; /* token bucket: blocks under 10 ms */
	__u64 long_refilled_ns, long_credit_ns; /* blocks of 10 to 100 ms: see within_budget() in bpf/offcpu.bpf.c */
	__u64 ust_captured;
	__u64 was_idle; /* since the last sample: the gap before the next one says nothing */
	__u64 other_window, other_tokens; /* token bucket: wakeups, lock waits under 10 ms, block I/O */
	__u64 reclaim_window, reclaim_tokens; /* token bucket: short reclaim spans */
	__u64 reclaim_skipped; /* short spans since the last one recorded */
	__u64 recorded[16]; /* by enum sb_kind, SB_KIND_SLOTS */
	__u64 lost[SB_LOST_COUNT];
	struct sb_scan scan[SB_SCANNERS]; /* a late CPU and the next one may scan at the same time */
	__u64 system_ns; /* sampled time in the kernel */
	__u64 spin_lock;	   /* contended spinning lock being waited for, and since when */
	__u64 spin_since_ns;
	__u32 spin_flags, spin_count;
	__u64 thin_ns; /* time that the samples left out since the last recorded one stand for */
	__u64 thin_count;
	struct sb_bank bank[SB_BANKS];
	__u64 unwind_end[16]; /* walks over user stacks by enum sb_unwind_end */
	__u64 ust_again; /* of ust_captured: as they had been saved, no walk */
	__u64 kst_again; /* kernel stacks of off-CPU records that were as one seen before, no walk */
	__u64 kst_wrong, ust_wrong; /* of these, not what a walk gives: builds that check (CHECK_AGAIN=yes) */
	/* Raised softirqs that none of the last samples saw handled, all in one system call: which (bit v: vector v), since
	 * when, until the last look; how many of each had been handled. */
	__u64 held_since_ns, held_last_ns, held_call;
	__u32 held_raised, held_tid, held_looks;
	__u32 held_counts[SB_SOFTIRQS];
	__u32 pad3;
	__u64 stood_until_ns; /* the end of what its samples stand for, CLOCK_MONOTONIC */
	__u64 tick_timer;   /* address of this CPU's; 0: not looked up yet */
	__u64 tick_period;  /* number of the sampling period whose sample has been taken */
	__u64 tick_frames;  /* of the interrupt, which stand before what it has interrupted */
	__u64 pad2[396];
};
_Static_assert(sizeof(struct sb_bank) == 64 + SB_SEG_MAX * 8, "bank layout");
_Static_assert(sizeof(struct sb_cpu) == 12288, "cpu layout: whole pages, mapped by user space");

/* Conditions that BPF evaluates itself; filled in by the agent. */
enum sb_ktrigger_type {
	SB_KTRIG_NONE = 0,
	SB_KTRIG_RECLAIM = 1,
	SB_KTRIG_BLOCKED = 2,
	SB_KTRIG_MMAP_LOCK_WAIT = 3,
	SB_KTRIG_MMAP_LOCK_HOLD = 4,
	SB_KTRIG_RUNQ = 5,
	SB_KTRIG_SOFTIRQ_DELAY = 6,
	SB_KTRIG_SYSCALL = 7,
	SB_KTRIG_RECLAIM_YIELD = 8,
	SB_KTRIG_SYSTEM = 9,
	SB_KTRIG_SOFTIRQ_HELD = 10,
	SB_KTRIG_COUNT,
};
#define SB_WATCH_CGROUP (1u << 31) /* of control.watch: some trigger asks for a cgroup */

struct sb_ktrigger {
	__u32 type;
	__u32 count; /* how many at a time */
	__u64 threshold_ns;
	__u64 comm[SB_COMM / 8]; /* zero-padded; 0 any */
	__u64 cgroup_id;	 /* 0 any */
	__u32 percent;		 /* of reclaim-yield and system */
	__u32 held;		 /* windows in a row in which the condition was met */
	/* Besides the condition itself; set by the agent. */
	__u32 calm;		 /* count or percent at which one with hysteresis has ended; 0: without */
	__u32 unsealed_tid;
	__u64 held_ns;		 /* of blocked(D): to be met for so long */
	__u64 quiet_until_ns;	 /* does not seal before that; ~0: never */
	/* What became of it. */
	__u64 met_ns;		 /* since when it is met, 0: it is not */
	__u64 told;		 /* 1: that has sealed, or is in unsealed */
	/* Times that it was met and did not seal; the last one: when, with which value, and unsealed_tid by whom. */
	__u64 unsealed, unsealed_ns, unsealed_value;
	__u64 value, value_ns;	 /* the last one seen, and when */
};

/* One change of the limit; kept where a later agent and a later bundle find it. */
struct sb_limit_note {
	__u64 ts_ns;
	__u32 from, to; /* enum sb_limit_step */
	__u32 cost_ppm, budget_ppm; /* of the machine; cost 0: a new agent began without limits */
};

/* The control words: one page, mapped read-write by the agent. The ring's bank is
 * generation & 1. Whoever turns `armed` from 1 to 0 owns the freeze and sets
 * generation to armed_generation + 1, so that a second writer cannot flip twice. */
struct sb_control {
	__u32 magic, layout_version;
	__u64 object_hash; /* BPF object and load-time settings; differs: maps are made anew */
	__u32 limit_step;  /* enum sb_limit_step; set by the agent, stays when it goes */
	__u32 budget_ppm;  /* of the last agent */
	__u64 offcpu_threshold_ns; /* in force: cfg's, or more */
	__u64 generation SB_ALIGN_ATOMIC;
	__u64 armed SB_ALIGN_ATOMIC;
	__u64 armed_generation;
	__u64 freeze_ns; /* when an in-kernel condition sealed the bank, 0 none */
	__u64 fired_value;
	__u32 fired_trigger; /* index into trigger[] */
	__u32 fired_tid;
	__u64 last_scan_ns SB_ALIGN_ATOMIC; /* at what is in flight */
	__u64 nr_blocked SB_ALIGN_ATOMIC; /* D-state waits in `inflight`; may drift, never below truth */
	__u64 nr_lock_waits SB_ALIGN_ATOMIC; /* sleeping waits for locks, likewise */
	__u64 started_ns;		  /* when recording began */
	/* When the programs of the escalated window were attached; what they noted before is
	 * of an earlier window, whose end they did not see. 0: detached. */
	__u64 escalated_ns;
	__u64 owner_start;		  /* of the agent: start time as in /proc/PID/stat, and pid */
	__u32 owner_pid;
	__u32 watch;	   /* bit t: a trigger of enum sb_ktrigger_type t is armed */
	__u32 cpus_online, pad;
	/* The window that reclaim-yield and system are judged in, and what it has so far. */
	__u64 window_ns, system_ns, yield_scanned, yield_reclaimed;
	__u64 system_base_ns;
	struct sb_ktrigger trigger[SB_KTRIGGERS];
	/* Changes of limit_step: limit_changes in all, the last ones by number % SB_LIMIT_NOTES. */
	__u64 limit_changes;
	/* From a CPU's run queue to its word of raised softirqs and to its counts of those handled, in bytes; 0: not known. */
	__s64 raised_from_rq, handled_from_rq;
	__u64 clock_ns; /* where samples are taken at ticks: when the timer that goes on without them has last done so */
	__u64 detached_since_ns, detached_ns; /* optional programs: 0 attached; times over before */
	struct sb_limit_note limit_note[SB_LIMIT_NOTES];
};
_Static_assert(sizeof(struct sb_control) <= 4096, "control words: one page");

/* Load-time settings: constants to the verifier. */
struct sb_config {
	__u64 ring_bytes; /* per CPU and bank, a power of two */
	__u64 offcpu_threshold_ns;
	__u64 lock_threshold_ns;   /* waits for and holds of locks */
	__u64 waker_threshold_ns;  /* D-state waits whose waker is recorded */
	__u64 syscall_threshold_ns;
	__u64 irq_threshold_ns;	   /* softirq delays and handlers, hardirq handlers */
	__u64 io_threshold_ns;
	__u64 sample_period_ns;
	__u32 cpus;	      /* possible CPUs */
	__u32 keep_segments;  /* a stack is written again after so many segments */
	__u32 ust_period_ns;  /* of user stacks at switch-out: see pay_ustack() */
	__u32 long_period_ns; /* of records of blocks of 10 to 100 ms: see within_budget() there */
	__u32 short_budget;   /* blocks under 10 ms per CPU and 8.4 ms */
	__u32 other_budget;   /* wakeups, short lock waits, block I/O per CPU and 8.4 ms */
	__u32 reclaim_budget; /* reclaim spans under offcpu_threshold_ns per CPU and 1.07 s */
	__u32 user_unwind;    /* enum sb_user_unwind */
	__u32 cgroup_v1_memory; /* 1: the cgroup of a task is that of the v1 memory controller */
	__u32 unwind_slots;	/* of the tables' arena */
	__u32 command_lines;	/* 1: arguments of programs that begin are kept */
	__u32 pad;		/* the struct is hashed and compared as bytes */
	/* The scheduler's tick is the sampler's clock: its length; 0: a timer of our own is. From a CPU's run queue to
	 * the tick's timer and to the pointer to what an interrupt has interrupted, in bytes. */
	__u64 tick_ns;
	__s64 tick_from_rq, irq_regs_from_rq;
};
_Static_assert(__builtin_offsetof(struct sb_config, tick_ns) == __builtin_offsetof(struct sb_config, pad) + 4, "no padding");

enum sb_user_unwind { SB_USER_UNWIND_OFF = 0, SB_USER_UNWIND_FP = 1, SB_USER_UNWIND_EH_FRAME = 2 };

/* How a user stack was taken: the bundle's number; and why the walk ended: enum sb_unwind_end. */
#define SB_BY_FP 2u
#define SB_BY_EH_FRAME 3u
#define SB_UINFO(method, end) ((__u8)((method) | (__u32)(end) << 4))

/* Sizes of what a walk by tables needs (unwind/layout.h). */
#define SB_UNWIND_TABLES 4096u
#define SB_UNWIND_MAPPINGS 131072u
#define SB_UNWIND_PROCESSES 16384u
#define SB_UNWIND_WANTED 128u
#define SB_UNWIND_PROBES 4u
#define SB_UNWIND_EXEC_GRACE_NS 200000000ULL

/* The mappings of a process: a range of the array of all. An element of a table that is hashed by
 * tgid. sequence is odd while the agent writes it. */
struct sb_unwind_process {
	__u32 tgid; /* 0: free */
	__u32 first, n;
	__u32 sequence;
	__u64 since_ns; /* of its image: the time of fork or exec */
	__u32 tables;	/* grows with each table that comes for its mappings */
	__u32 pad;
};
_Static_assert(sizeof(struct sb_unwind_process) == 32, "shared layout");

/* Where one of its probes finds a process. */
static inline __attribute__((always_inline)) __u32 sb_unwind_process_slot(__u32 tgid, __u32 probe)
{
	return ((tgid * 2654435761u >> 16) + probe) & (SB_UNWIND_PROCESSES - 1);
}

/* A place in a process whose table has been evicted; the agent sets tgid to 0. */
struct sb_unwind_wanted {
	__u64 ip;
	__u32 tgid, pad;
};

/* What happened to one tid lately; touched at switches, so one cache line. */
struct sb_task_state {
	__u32 tid;
	__u32 state;  /* task state when it left the CPU */
	__u64 off_ns; /* run-queue clock when it left the CPU; 0: unknown, or that block is dealt with */
	__u64 reclaim_start_ns;
	__u64 lock; /* that it waits for; 0 none */
	__u64 lock_since_ns;
	__u32 lock_flags;  /* SB_LCB_*, SB_LOCK_* */
	__u32 lock_owner;  /* tid */
	__u8 owner_flags;  /* enum sb_owner_flag */
	__u8 long_blocks;  /* the last blocks were long: save the user stack again */
	__u8 flags;	   /* enum sb_task_state_flag */
	__u8 reclaim_kind; /* enum sb_reclaim_kind */
	__u8 reclaim_match; /* bit i: trigger[i] watches the current reclaim span */
	__u8 order;
	__u8 owner_votes; /* how much oftener lock_owner was met than others, while waiting */
	__u8 saved;	  /* 1: its user stack was, when it left the CPU */
	__u8 pad[8];
};
enum sb_task_state_flag {
	SB_TS_BLOCKED_INFLIGHT = 1,
	SB_TS_RECLAIM_INFLIGHT = 2,
	SB_TS_LOCK_INFLIGHT = 4,
	SB_TS_HOLDS_MMAP = 8, /* escalated: between acquire and release of mmap_lock */
};
_Static_assert(sizeof(struct sb_task_state) == 64, "task state layout");

/* More about the few tids that are in reclaim, in a long call or hold a lock. */
struct sb_task_detail {
	__u32 tid;
	/* the current reclaim span */
	__u32 gfp, nr_scanned, nr_reclaimed, nr_taken, nr_activate, nr_ref_keep, nr_dirty, nr_writeback;
	__u32 slab_freed, throttled_us;
	__u8 priority, throttle_reason, call_told, pad;
	__u64 slab_since_ns;
	/* the system call its samples were in */
	__u64 call, call_since_ns, call_last_ns;
	__u64 call_nvcsw, call_cpu_ns; /* of the task at the first of them */
	/* escalated: the system call it is in, the mmap_lock it holds */
	__u64 syscall_since_ns, syscall_cpu_ns;
	__u32 syscall_nr, hold_flags;
	__u64 hold_since_ns, hold_lock, hold_cpu_ns;
	__u32 hold_nvcsw, hold_nivcsw;
	__u32 hold_reclaims, hold_scanned, hold_reclaimed, pad2;
};
_Static_assert(sizeof(struct sb_task_detail) == 168, "task detail layout");

/* Who a tid is; written when a record of the task is, and at fork, exec, exit. */
struct sb_task {
	__u32 tid, tgid, ppid;
	__u8 flags; /* PF_KTHREAD as SB_TASK_KTHREAD */
	__u8 execs; /* the last bits of task_struct.self_exec_id when args were taken */
	__u16 noted; /* when, CLOCK_MONOTONIC in 2^30 ns: what the record of a block may rely on */
	__u64 start_ns;		      /* CLOCK_MONOTONIC, of the thread */
	char comm[SB_COMM];	      /* read for each record of a block, as all before it: one cache line */
	__u64 group_start_ns;	      /* of the process */
	__u64 exit_ns;
	__u64 exec_ns;
	__u64 cgroup_id;
	char group_comm[SB_COMM];
	char before_comm[SB_COMM]; /* before it became another program (exec_ns), or had another name */
	/* First bytes of its arguments at its exec, a NUL after each; of a process that only forked those of
	 * its parent. args_len 0: not known. Processes only. */
	__u16 args_len, args_all; /* bytes here; that there were */
	char args[SB_ARGS];
};
#define SB_TASK_KTHREAD 1
_Static_assert(sizeof(struct sb_task) == 192, "task layout");

/* The user stack a thread had when it last left the CPU. What is read to find it again comes first, in few cache lines. */
struct sb_ustack {
	__u32 tid;
	__u16 n, info; /* frames; unwind method and end as in the bundle */
	__u64 since;   /* sched_info.last_arrival of the slice: identifies the block */
	__u64 ip, sp, fp; /* with which it had entered the kernel */
	__u32 version;	/* of what was known of its process, sequence and tables: neither ever shrinks */
	__u16 again;	/* how often it may be found again by what follows */
	__u16 last;	/* the highest of the words above sp at which an address was read */
	__u64 fps;	/* hash of the frame pointers that were read */
	__u64 pad;
	__u32 place[SB_UFRAMES]; /* SB_PLACE(), from the second frame on */
	__u64 addr[SB_UFRAMES];
};
/* Where frame i was read, in words above sp, and where fp was read with it: words below that, 0 where it was not, or
 * where it does not matter. */
#define SB_PLACE(slot, fp) ((slot) | (__u32)(fp) << 16)
#define SB_PLACE_SLOT(place) ((place) & 0xffff)
#define SB_PLACE_FP(place) ((place) >> 16)
#define SB_UST_BLOCK 256u /* words: saved stacks not higher than that are read in one go */

/* Kernel stacks of threads that do not run, see bpf/kstack.bpf.h. */
#define SB_KSTACKS 128	     /* kept for each CPU; a power of two */
#define SB_KSTACK_WORDS 512u /* of a stack, from its pointer on, that are looked at */
#define SB_KPLACES 64u	     /* where its return addresses stand, and where such are left from earlier calls */
#define SB_KSTACK_SET 1024u
struct sb_kstack {
	__u16 n, places; /* frames, 0: nothing kept; places of their addresses */
	__u16 last;	 /* the last of these places */
	__u8 met;	 /* was found again since it is kept */
	__u8 wait, waits; /* others to let pass before one is kept instead, now and the next time */
	__u8 pad[7];
	__u64 addr[SB_KFRAMES];
	__u64 word[SB_KPLACES]; /* what stood there */
	__u16 slot[SB_KPLACES]; /* words above the stack pointer */
};
struct sb_kstack_words { /* of a kernel stack, or of the user stack in bpf/ustack.bpf.h */
	__u64 word[SB_KSTACK_WORDS];
	__u64 set[SB_KSTACK_SET]; /* the addresses of a walk, while it is looked where they stand; 0 elsewhere */
	__u32 words, places, found; /* not on the BPF stack, where a verifier follows each of their values */
};

enum sb_inflight_type { SB_INFLIGHT_RECLAIM = 1, SB_INFLIGHT_BLOCKED = 2, SB_INFLIGHT_LOCK = 3 };

struct sb_inflight {
	__u64 key; /* tid << 8 | type; 0 free */
	__u64 since_ns; /* CLOCK_MONOTONIC; 0: not valid yet */
	__u32 match;	/* bit i: trigger[i] watches this one */
	__u32 pad;
};
struct sb_inflight_table {
	struct sb_inflight slot[SB_INFLIGHT];
};

/* Sent to the agent when an in-kernel condition has sealed a bank. */
struct sb_hit {
	__u64 freeze_ns;
	__u64 value;
	__u32 trigger, tid;
};

#endif
