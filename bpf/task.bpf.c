// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * The task table: who was born, became what, and died when. Records refresh it too, so a
 * thread older than the recorder is known as soon as it matters.
 */
#include "bpf/ring.bpf.h"

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	return sb_task_note(child);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *p)
{
	__u32 i = p->pid & (SB_TASKS - 1);
	struct sb_task *e;

	sb_task_note(p);
	e = bpf_map_lookup_elem(&tasks, &i);
	if (e)
		e->exec_ns = bpf_ktime_get_ns();
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
