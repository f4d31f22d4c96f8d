/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plain C values of a bundle, shared by the writer and the reader, so that
 * nothing above format/ deals with protobuf messages. FORMAT.md is normative.
 *
 * Times are CLOCK_MONOTONIC nanoseconds. Ids are indexes handed out by the
 * writer (bundle_writer_thread() ...); 0 always means "none".
 */
#ifndef SB_FORMAT_BUNDLE_H
#define SB_FORMAT_BUNDLE_H

#include "format/base.h"

#define BUNDLE_FORMAT_MAJOR 1
#define BUNDLE_FORMAT_MINOR 0

/* Plain bytes per zstd frame; larger claims are refused by the reader. */
#define BUNDLE_CHUNK_TARGET (192u * 1024)
#define BUNDLE_CHUNK_MAX (256u * 1024)
#define BUNDLE_STACK_MAX_FRAMES 256u

/* Same numbers as EventKind in capture.proto (asserted in writer.c). */
enum bundle_kind {
	BUNDLE_KIND_NONE = 0,
	BUNDLE_ON_CPU = 1,
	BUNDLE_OFF_CPU = 2,
	BUNDLE_RECLAIM = 3,
	BUNDLE_LOCK_WAIT = 4,
	BUNDLE_WAKEUP = 5,
	BUNDLE_LOCK_HOLD = 6,
	BUNDLE_SYSCALL = 7,
	BUNDLE_SOFTIRQ = 8,
	BUNDLE_BLOCK_IO = 9,
	BUNDLE_OOM = 10,
	BUNDLE_SLAB = 11,
	BUNDLE_HARDIRQ = 12,
	BUNDLE_KIND_COUNT
};

/* Flags of an event. */
enum bundle_event_flag {
	BUNDLE_EV_USER = 1 << 0,      /* ON_CPU: the CPU was in user mode */
	BUNDLE_EV_LATE = 1 << 1,      /* ON_CPU: came late, duration holds what the ones before do not stand for */
	BUNDLE_EV_PREEMPTED = 1 << 2, /* OFF_CPU: left the CPU while runnable */
	BUNDLE_EV_KTHREAD = 1 << 3,
	BUNDLE_EV_KSTACK_LOST = 1 << 4, /* had a kernel stack that was evicted before the freeze */
	BUNDLE_EV_USTACK_LOST = 1 << 5,
	BUNDLE_EV_MMAP_LOCK = 1 << 7,  /* ON_CPU: the thread held mmap_lock (escalated window) */
	BUNDLE_EV_IN_RECLAIM = 1 << 8, /* ON_CPU: inside a reclaim span */
};

enum bundle_reclaim_kind {
	BUNDLE_RECLAIM_DIRECT = 1,
	BUNDLE_RECLAIM_MEMCG = 2,
	BUNDLE_RECLAIM_KSWAPD = 3,
	BUNDLE_RECLAIM_NODE = 4,
	BUNDLE_RECLAIM_COMPACTION = 5,
};

/* detail of LOCK_WAIT and LOCK_HOLD: LCB_F_* of include/trace/events/lock.h, and ours. */
#define BUNDLE_LOCK_SPIN 1u
#define BUNDLE_LOCK_READ 2u
#define BUNDLE_LOCK_WRITE 4u
#define BUNDLE_LOCK_RT 8u
#define BUNDLE_LOCK_PERCPU 16u
#define BUNDLE_LOCK_MUTEX 32u
#define BUNDLE_LOCK_MMAP (1u << 16) /* mmap_lock of the waiter's own address space */
#define BUNDLE_OWNER_KNOWN 1u
#define BUNDLE_OWNER_READER 2u
/* detail of SYSCALL */
#define BUNDLE_SYSCALL_OPEN 1u
#define BUNDLE_SYSCALL_SAMPLED 2u
/* detail of RECLAIM */
#define BUNDLE_RECLAIM_MMAP_WRITE 1u
#define BUNDLE_RECLAIM_MMAP_READ 2u

/* Same numbers as LossCause in capture.proto. */
enum bundle_loss_cause {
	BUNDLE_LOSS_OVERWRITTEN = 1,
	BUNDLE_LOSS_DROPPED = 2,
	BUNDLE_LOSS_EVICTED = 3,
	BUNDLE_LOSS_TRUNCATED = 4,
	BUNDLE_LOSS_TORN = 5,
	BUNDLE_LOSS_MISSED = 6,
	BUNDLE_LOSS_LIMITED = 7, /* above the recorder's own CPU budget */
};

/* How a user stack was taken (low 4 bits of StackTable.unwind) ... */
enum bundle_unwind { BUNDLE_UNWIND_NONE = 0, BUNDLE_UNWIND_KERNEL = 1, BUNDLE_UNWIND_FP = 2, BUNDLE_UNWIND_EH_FRAME = 3 };
/* ... and why the walk ended (next 4 bits). */
enum bundle_unwind_end {
	BUNDLE_END_UNKNOWN = 0,
	BUNDLE_END_COMPLETE = 1,
	BUNDLE_END_DEPTH = 2,
	BUNDLE_END_NO_MAPPING = 3,
	BUNDLE_END_NO_ROWS = 4,
	BUNDLE_END_UNSUPPORTED = 5,
	BUNDLE_END_NOT_RESIDENT = 6,
	BUNDLE_END_BAD_STACK = 7,
	BUNDLE_END_STALE = 8,
	BUNDLE_END_COUNT = 9,
};
const char *bundle_unwind_name(uint32_t unwind);     /* of the method */
const char *bundle_unwind_end_name(uint32_t unwind); /* both take StackTable.unwind as a whole */

/* Task states as the kernel numbers them (include/linux/sched.h). */
#define BUNDLE_TASK_INTERRUPTIBLE 0x1u
#define BUNDLE_TASK_UNINTERRUPTIBLE 0x2u
#define BUNDLE_TASK_STOPPED 0x4u
#define BUNDLE_TASK_TRACED 0x8u
#define BUNDLE_TASK_NOLOAD 0x400u

struct bundle_event {
	enum bundle_kind kind;
	uint32_t cpu;
	uint64_t ts_ns; /* end of the block or span; moment of the sample */
	uint32_t thread;
	uint32_t kstack;
	uint32_t ustack;
	uint32_t flags;		/* enum bundle_event_flag */
	uint64_t duration_ns;	/* ON_CPU: time the sample stands for */
	uint64_t runq_delay_ns; /* OFF_CPU */
	uint32_t state;		/* OFF_CPU: task state bits */
	uint32_t order;		/* RECLAIM ... */
	uint32_t gfp;
	uint32_t reclaim_kind; /* enum bundle_reclaim_kind */
	uint64_t nr_reclaimed; /* pages */
	uint64_t nr_scanned;   /* pages */
	uint64_t cgroup_id;    /* kernel cgroup id, 0 unknown */
	uint32_t nr_taken, nr_activate, nr_ref_keep, nr_dirty, nr_writeback; /* pages */
	uint32_t slab_freed;   /* objects */
	uint32_t priority, throttle_reason; /* + 1; 0 unknown, none */
	uint64_t throttled_ns;
	uint32_t syscall;   /* number + 1; 0 none */
	uint64_t call_site; /* ON_CPU, OFF_CPU: equal for samples of one call */
	uint32_t peer;	    /* thread: LOCK_WAIT owner, WAKEUP woken, OOM victim */
	uint32_t owner_flags; /* LOCK_WAIT: BUNDLE_OWNER_* */
	uint32_t detail;    /* by kind, see capture.proto */
	uint32_t weight;    /* LOCK_WAIT: stands for so many; 0 means 1 */
	uint32_t name;	    /* bundle_writer_string(), bundle_string() */
	uint64_t addr;	    /* LOCK_*: of the lock; SLAB: of the scan function */
	uint64_t bytes;	    /* BLOCK_IO */
	uint64_t arg0, arg1; /* SYSCALL */
	uint64_t delay_ns;   /* SOFTIRQ: raise to entry */
	uint64_t cpu_time_ns; /* LOCK_HOLD */
	uint32_t nvcsw, nivcsw, reclaims; /* LOCK_HOLD */
};

struct bundle_clock {
	int64_t monotonic_ns, realtime_ns, boottime_ns;
};

struct bundle_kv {
	const char *key, *value;
};

struct bundle_trigger {
	const char *name, *kind, *spec, *unit, *detail;
	uint64_t fired_ns;
	double value, threshold;
	uint32_t target_tid;
};

/* Strings are borrowed: by the writer for the call, by the reader's users for
 * the life of the bundle. NULL strings mean "". */
struct bundle_header {
	uint32_t format_major, format_minor;
	uint8_t capture_id[16];
	const char *producer, *hostname, *machine_id_hash, *boot_id;
	const char *kernel_release, *kernel_version, *arch;
	uint8_t kernel_build_id[32];
	size_t kernel_build_id_len;
	uint32_t page_size, cpus_possible;
	const uint32_t *cpu_online;
	size_t n_cpu_online;
	uint64_t mem_total_bytes;
	const struct bundle_clock *clocks; /* start of recording, trigger */
	size_t n_clocks;
	struct bundle_trigger trigger;
	const struct bundle_kv *config;
	size_t n_config;
	const struct bundle_kv *missing; /* evidence this kernel cannot give, and why */
	size_t n_missing;
	uint64_t sample_period_ns, offcpu_threshold_ns, ring_bytes;
};

struct bundle_mapping {
	uint64_t start, len, pgoff; /* bytes */
	uint32_t binary;	    /* bundle_writer_binary() */
};

enum bundle_map_state {
	BUNDLE_MAPS_NONE = 0,
	BUNDLE_MAPS_READ = 1,
	BUNDLE_MAPS_TIMED_OUT = 2,
	BUNDLE_MAPS_EXITED = 3,
	BUNDLE_MAPS_DENIED = 4,
	BUNDLE_MAPS_KNOWN = 5, /* from what the kernel told at the time */
};

struct bundle_process {
	uint32_t id; /* assigned by bundle_writer_process() */
	uint32_t pid, ppid;
	uint64_t start_ns, exit_ns;
	const char *comm, *exe;
	const char *cmdline; /* first bytes of the arguments, a space between them; "" (writer: NULL too): not known */
	uint32_t cmdline_bytes; /* that all of them had */
	uint32_t cgroup;
	const struct bundle_mapping *maps;
	size_t n_maps;
	enum bundle_map_state map_state;
};

struct bundle_thread {
	uint32_t tid, process;
	const char *comm;
	uint32_t cgroup;
};

struct bundle_stack {
	const uint64_t *addr; /* leaf first */
	uint32_t n;
	uint32_t process; /* 0: kernel stack */
	uint32_t unwind;  /* enum bundle_unwind | enum bundle_unwind_end << 4 */
};

struct bundle_shot_thread {
	uint32_t thread, state, cpu, flags; /* flags: enum bundle_shot_flag */
	uint64_t since_ns;
	uint32_t kstack, ustack;
	uint64_t wchan;
	uint32_t mm; /* number of the address space within this stackshot, 0 none */
	uint64_t mmap_lock;
	uint32_t mmap_owner, mmap_owner_flags; /* thread; BUNDLE_OWNER_* */
	int64_t mmap_count;
	uint64_t lock, lock_since_ns; /* that it waits for; 0 none known */
	uint32_t lock_flags, lock_owner, lock_owner_flags;
	uint32_t syscall; /* number + 1 */
	uint64_t arg0, arg1; /* its first arguments */
	uint64_t reclaim_since_ns;
	uint32_t nr_scanned, nr_reclaimed;
};

enum bundle_shot_flag { BUNDLE_SHOT_RUNNABLE = 1, BUNDLE_SHOT_KTHREAD = 2, BUNDLE_SHOT_RUNNING = 4 };

struct bundle_loss {
	enum bundle_loss_cause cause;
	enum bundle_kind kind; /* BUNDLE_KIND_NONE: not one kind */
	int32_t cpu;	       /* -1: not one CPU */
	uint64_t count;
	const char *unit, *what;
};

struct bundle_mark {
	uint64_t ts_ns;
	const char *kind, *text;
};

struct bundle_series {
	const char *name, *scope, *unit;
	bool counter;
	const uint64_t *ts_ns;
	const int64_t *value;
	size_t n;
};

struct bundle_symbol {
	uint64_t addr;	    /* kernel: absolute; else file offset */
	uint64_t sym_start; /* same unit as addr */
	const char *name, *module;
};

/* One frame at an address; those of an address innermost first, the last one is the function itself. */
struct bundle_line {
	const char *name; /* mangled; "": as the symbol says */
	const char *file; /* "": not known */
	uint32_t line;	  /* 0: not known */
};

struct bundle_program_cost {
	const char *name;
	uint64_t run_cnt, run_time_ns, recursion_misses;
};

struct bundle_cost {
	uint64_t since_ns, until_ns;
	const struct bundle_program_cost *program;
	size_t n_programs;
	uint64_t agent_cpu_ns, agent_rss_bytes, map_bytes, wakeups, bytes_written;
	uint64_t worker_cpu_ns, worker_rss_bytes, bpf_time_ns, period_ns;
	uint32_t windows, budget_ppm, limit_step, limit_changes;
};

struct bundle_footer {
	uint32_t chunks;
	uint64_t events, closed_ns, first_event_ns, last_event_ns;
	uint64_t raw_durable_ns, pre_durable_ns;
	bool symbolized;
};

/* "on-cpu", "off-cpu", "reclaim", "lock-wait", ...; "?" for anything else. */
const char *bundle_kind_name(enum bundle_kind kind);
/* "overwritten", "dropped", ... */
const char *bundle_loss_name(enum bundle_loss_cause cause);

#endif
