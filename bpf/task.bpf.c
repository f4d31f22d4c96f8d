// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * The task table: who was born, became what, and died when. Records refresh it too, so a
 * thread older than the recorder is known as soon as it matters.
 */
#include "bpf/ring.bpf.h"

static __always_inline struct sb_task *entry_of(__u32 tid)
{
	__u32 i = tid & (SB_TASKS - 1);
	struct sb_task *e = bpf_map_lookup_elem(&tasks, &i);

	return e && e->tid == tid ? e : NULL;
}

static __always_inline void inherit_args(__u32 parent, __u32 child)
{
	struct sb_task *from, *to;

	if (!cfg.command_lines)
		return;
	from = entry_of(parent);
	to = entry_of(child);
	if (!from || !to || from == to)
		return;
	__builtin_memcpy(to->args, from->args, SB_ARGS);
	to->args_all = from->args_all;
	to->args_len = from->args_len;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	int r;

	if (child->pid == child->tgid)
		sb_unwind_forget(child->tgid);
	r = sb_task_note(child);
	if (child->pid == child->tgid)
		inherit_args(parent->tgid, child->pid);
	return r;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *p)
{
	__u32 i = p->pid & (SB_TASKS - 1);
	__u64 comm[SB_COMM / 8];
	struct sb_task *e;

	sb_unwind_forget(p->tgid);
	e = bpf_map_lookup_elem(&tasks, &i);
	BPF_CORE_READ_INTO(&comm, p, comm);
	if (e && e->tid == p->pid) {
		e->execs = p->self_exec_id; /* taken below */
		if (!sb_same_comm(e->comm, comm))
			__builtin_memcpy(e->before_comm, e->comm, SB_COMM);
	}
	sb_task_note(p);
	if (e) {
		/* A program of the same name, or one that was not known before. */
		if (!e->before_comm[0])
			__builtin_memcpy(e->before_comm, e->comm, SB_COMM);
		e->exec_ns = bpf_ktime_get_ns();
		if (cfg.command_lines)
			sb_take_args(e, p);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *p)
{
	__u32 i = p->pid & (SB_TASKS - 1);
	struct sb_task *e;

	sb_task_note(p);
	e = bpf_map_lookup_elem(&tasks, &i);
	if (e)
		e->exit_ns = bpf_ktime_get_ns();
	return 0;
}
