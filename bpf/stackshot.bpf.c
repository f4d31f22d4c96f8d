// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * The stackshot: every thread of the machine with its state, since when, the kernel stack
 * it stands in and the user stack saved when it left the CPU. A ring fed by switches misses
 * exactly the threads that are stuck, because they have not run since.
 */
#include "bpf/ring.bpf.h"

static __always_inline void shot_args(struct task_struct *t, struct sb_shot *shot)
{
	struct pt_regs *regs;

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return;
	regs = (void *)bpf_task_pt_regs(t);
	if (!regs)
		return;
	shot->arg[0] = sb_regs_arg0(regs);
	shot->arg[1] = sb_regs_arg1(regs);
}

/* What it waits for, and who owns the lock of its address space. Read from kernel memory
 * without taking anything: the numbers are those of one moment each. */
static __always_inline void shot_locks(struct task_struct *t, struct sb_task_state *ts,
				       struct sb_shot *shot)
{
	struct mm_struct *mm = BPF_CORE_READ(t, mm);
	struct sb_task_detail *d = sb_detail_peek(shot->tid);
	__u64 call, owner;

	if (mm && !shot->kthread) {
		shot->mm = (__u64)mm;
		shot->mmap_lock = (__u64)mm + bpf_core_field_offset(mm->mmap_lock);
		shot->mmap_count = BPF_CORE_READ(mm, mmap_lock.count.counter);
		owner = BPF_CORE_READ(mm, mmap_lock.owner.counter);
		if (owner & ~7ULL) {
			int tid = BPF_CORE_READ((struct task_struct *)(owner & ~7ULL), pid);

			shot->mmap_owner = tid;
			shot->mmap_owner_flags = SB_OWNER_KNOWN | (owner & 1 ? SB_OWNER_READER : 0);
		}
		call = shot->on_cpu ? 0 : sb_call_of(t);
		shot->syscall = SB_CALL_NR(call);
		if (shot->syscall)
			shot_args(t, shot);
	}
	if (!ts || ts->tid != shot->tid)
		return;
	if (ts->lock) {
		shot->lock = ts->lock;
		shot->lock_since_ns = ts->lock_since_ns;
		shot->lock_flags = ts->lock_flags;
		shot->lock_owner = ts->lock_owner;
		shot->lock_owner_flags = ts->owner_flags;
	}
	if (ts->reclaim_start_ns && d) {
		shot->reclaim_since_ns = ts->reclaim_start_ns;
		shot->nr_scanned = d->nr_scanned;
		shot->nr_reclaimed = d->nr_reclaimed;
	}
}

SEC("iter/task")
int stackshot(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct seq_file *seq = ctx->meta->seq;
	struct sb_scratch *s;
	struct sb_task_state *ts;
	struct sb_ustack *u;
	struct sb_shot shot = {};
	struct sb_cpu *c;
	__u64 off, since;
	__u32 cpu, i, bytes;
	long n;

	if (!t)
		return 0;
	s = sb_scratch(SB_SCRATCH_SHOT);
	if (!s)
		return 0;
	sb_task_note(t);
	shot.tid = t->pid;
	shot.tgid = t->tgid;
	shot.state = sb_task_state_bits(t);
	cpu = sb_task_cpu(t);
	shot.cpu = cpu;
	/* int until 7.0, then narrower: read by whatever size the kernel has. */
	shot.on_rq = BPF_CORE_READ_BITFIELD_PROBED(t, on_rq) != 0;
	shot.on_cpu = BPF_CORE_READ_BITFIELD_PROBED(t, on_cpu) != 0;
	shot.kthread = (t->flags & PF_KTHREAD) != 0;
	i = shot.tid & (SB_TASKS - 1);
	{
		struct sb_task *e = bpf_map_lookup_elem(&tasks, &i);

		if (e) {
			shot.start_ns = e->start_ns;
			shot.group_start_ns = e->group_start_ns;
			shot.cgroup_id = e->cgroup_id;
			__builtin_memcpy(shot.comm, e->comm, sizeof(shot.comm));
			__builtin_memcpy(shot.group_comm, e->group_comm, sizeof(shot.group_comm));
		}
	}

	/* When it left the CPU: exact if noted then, else its last switch-in. */
	since = t->sched_info.last_arrival;
	off = since;
	ts = sb_state_of(shot.tid);
	if (ts && ts->tid == shot.tid && ts->off_ns > since)
		off = ts->off_ns;
	c = bpf_map_lookup_elem(&cpus, &cpu);
	if (c && c->clock_offset_ns)
		off += c->clock_offset_ns;
	/* A thread that has never run has been waiting since it was born. */
	shot.since_ns = since ? off : shot.start_ns;
	shot.cpu_ns = t->se.sum_exec_runtime;
	shot.nvcsw = t->nvcsw;
	shot.nivcsw = t->nivcsw;
	shot_locks(t, ts, &shot);

	n = bpf_get_task_stack(t, s->k, sizeof(s->k), 0);
	shot.nk = n > 0 ? (__u64)n / 8 : 0;
	if (shot.nk > SB_KFRAMES)
		shot.nk = SB_KFRAMES;
	u = sb_ustack_of(shot.tid);
	if (u && u->tid == shot.tid && u->since == since) {
		shot.nu = u->n > SB_UFRAMES ? SB_UFRAMES : u->n;
		shot.uinfo = u->info;
	}
	bpf_seq_write(seq, &shot, sizeof(shot));
	bytes = shot.nk * 8;
	asm volatile("" : "+r"(bytes));
	bytes &= 1023;
	if (bytes && bytes <= sizeof(s->k))
		bpf_seq_write(seq, s->k, bytes);
	bytes = shot.nu * 8;
	asm volatile("" : "+r"(bytes));
	bytes &= 1023;
	if (u && bytes && bytes <= sizeof(u->addr))
		bpf_seq_write(seq, u->addr, bytes);
	return 0;
}
