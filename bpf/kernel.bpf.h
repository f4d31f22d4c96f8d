/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The kernel types that we read, with only the fields that we read; CO-RE finds
 * their offsets in the running kernel's BTF. A hand-written header instead of
 * vmlinux.h: the build host needs no BTF, and no 6.17+ pt_regs union gets in the way.
 */
#ifndef SB_BPF_KERNEL_H
#define SB_BPF_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define SB_CO_RE __attribute__((preserve_access_index))
#ifndef __maybe_unused
#define __maybe_unused __attribute__((unused))
#endif

/* The value comes from the running kernel (bpf_core_enum_value). */
enum cgroup_subsys_id { memory_cgrp_id = 0 };

struct kernfs_node {
	__u64 id;
} SB_CO_RE;

struct cgroup {
	struct kernfs_node *kn;
} SB_CO_RE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
} SB_CO_RE;

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
} SB_CO_RE;

struct rq {
	__u64 clock;
} SB_CO_RE;

struct cfs_rq {
	struct rq *rq;
} SB_CO_RE;

struct sched_entity {
	u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
} SB_CO_RE;

struct sched_info {
	unsigned long long last_arrival;
	unsigned long long last_queued;
} SB_CO_RE;

struct thread_info {
	__u32 cpu;
} SB_CO_RE;

typedef struct {
	s64 counter;
} atomic64_t;
typedef atomic64_t atomic_long_t;

struct rw_semaphore {
	atomic_long_t count;
	atomic_long_t owner;
} SB_CO_RE;

struct mutex {
	atomic_long_t owner;
} SB_CO_RE;

struct mm_struct {
	struct rw_semaphore mmap_lock;
	unsigned long arg_start, arg_end;
} SB_CO_RE;

struct qstr {
	const unsigned char *name;
} SB_CO_RE;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
} SB_CO_RE;

struct path {
	struct dentry *dentry;
} SB_CO_RE;

struct file {
	struct path f_path;
} SB_CO_RE;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} SB_CO_RE;

struct files_struct {
	struct fdtable *fdt;
} SB_CO_RE;

/* What an lru_shrink_inactive event sums up (include/linux/vmstat.h). */
struct reclaim_stat {
	unsigned int nr_dirty;
	unsigned int nr_writeback;
	unsigned int nr_activate[2];
	unsigned int nr_ref_keep;
} SB_CO_RE;

struct shrinker {
	const char *name;
	void *scan_objects;
} SB_CO_RE;

struct irqaction {
	const char *name;
} SB_CO_RE;

struct gendisk {
	int major, first_minor;
} SB_CO_RE;

struct request_queue {
	struct gendisk *disk;
} SB_CO_RE;

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	u64 io_start_time_ns;
} SB_CO_RE;

struct hrtimer {
	s64 _softexpires; /* ns of CLOCK_MONOTONIC */
} SB_CO_RE;

struct thread_struct {
	unsigned long sp; /* x86 */
} SB_CO_RE;

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	int on_rq;
	struct sched_entity se;
	struct sched_info sched_info;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	__u64 start_time;
	char comm[16];
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct files_struct *files;
	unsigned long nvcsw, nivcsw;
	unsigned int in_execve : 1;
	__u64 self_exec_id;
	struct thread_struct thread;
} SB_CO_RE;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} SB_CO_RE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} SB_CO_RE;

#define PF_KTHREAD 0x00200000

/* include/linux/sched.h; the same numbers in all kernels from 5.10 to 7.2. */
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_DEAD 0x80
#define TASK_NOLOAD 0x400

#endif
