// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Where time goes in the kernel besides reclaim and locks: block I/O (always), and system
 * calls, softirqs and hardirqs exactly, which cost too much for steady state (+112 ns a system call,
 * measured) and are attached from a trigger to the end of the post window. In steady state
 * the sampler finds long calls (follow_call()) and run-queue delay shows a late ksoftirqd.
 */
#include "bpf/ring.bpf.h"

/* (rq, error, nr_bytes) from 5.10 to 7.2 */
SEC("tp_btf/block_rq_complete")
int block_complete(__u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	__u64 start = BPF_CORE_READ(rq, io_start_time_ns), duration;
	struct sb_cpu *c = sb_this_cpu();
	struct sb_block_io *p;
	struct sb_scratch *s;
	struct gendisk *disk;

	if (!start || !c)
		return 0; /* this queue keeps no times */
	duration = bpf_ktime_get_ns() - start;
	if ((__s64)duration < (__s64)cfg.io_threshold_ns || !sb_within_budget(c))
		return 0;
	s = sb_begin(SB_SCRATCH_BLOCK_IO, SB_BLOCK_IO, 0, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	disk = sb_disk_of(rq);
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->dev = BPF_CORE_READ(disk, major) << 20 | BPF_CORE_READ(disk, first_minor);
	p->flags = BPF_CORE_READ(rq, cmd_flags);
	p->bytes = (__u32)ctx[2];
	sb_emit(s);
	return 0;
}

/* ---- escalated -------------------------------------------------------------- */

/* Calls that are made to wait: long ones say nothing unless they used the CPU. What they
 * waited for is in the off-CPU records. */
static __always_inline bool is_wait(__u32 nr)
{
	switch (nr) {
#if defined(__TARGET_ARCH_x86)
	case 7:	  /* poll */
	case 23:  /* select */
	case 34:  /* pause */
	case 35:  /* nanosleep */
	case 42:  /* connect */
	case 43:  /* accept */
	case 45:  /* recvfrom */
	case 47:  /* recvmsg */
	case 61:  /* wait4 */
	case 65:  /* semop */
	case 70:  /* msgrcv */
	case 128: /* rt_sigtimedwait */
	case 130: /* rt_sigsuspend */
	case 202: /* futex */
	case 208: /* io_getevents */
	case 219: /* restart_syscall */
	case 220: /* semtimedop */
	case 230: /* clock_nanosleep */
	case 232: /* epoll_wait */
	case 247: /* waitid */
	case 270: /* pselect6 */
	case 271: /* ppoll */
	case 281: /* epoll_pwait */
	case 288: /* accept4 */
	case 299: /* recvmmsg */
	case 333: /* io_pgetevents */
	case 426: /* io_uring_enter */
	case 441: /* epoll_pwait2 */
	case 449: /* futex_waitv */
#else
	case 4:	  /* io_getevents */
	case 22:  /* epoll_pwait */
	case 72:  /* pselect6 */
	case 73:  /* ppoll */
	case 95:  /* waitid */
	case 98:  /* futex */
	case 101: /* nanosleep */
	case 115: /* clock_nanosleep */
	case 128: /* restart_syscall */
	case 133: /* rt_sigsuspend */
	case 137: /* rt_sigtimedwait */
	case 202: /* accept */
	case 203: /* connect */
	case 207: /* recvfrom */
	case 212: /* recvmsg */
	case 242: /* accept4 */
	case 260: /* wait4 */
	case 426: /* io_uring_enter */
	case 441: /* epoll_pwait2 */
	case 449: /* futex_waitv */
#endif
		return true;
	}
	return false;
}

/* (regs, id) */
SEC("tp_btf/sys_enter")
int syscall_enter(__u64 *ctx)
{
	struct sb_task_detail *d = sb_detail_of(bpf_get_current_pid_tgid());

	if (!d)
		return 0;
	d->syscall_nr = ctx[1];
	d->syscall_cpu_ns = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), se.sum_exec_runtime);
	d->syscall_since_ns = bpf_ktime_get_ns();
	return 0;
}

/* (regs, ret) */
SEC("tp_btf/sys_exit")
int syscall_exit(__u64 *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), duration, cpu;
	struct sb_task_detail *d = sb_detail_peek(id);
	struct sb_cpu *c = sb_this_cpu();
	struct sb_syscall *p;
	struct sb_scratch *s;

	if (!d || !c || !sb_escalated(d->syscall_since_ns))
		return 0;
	duration = bpf_ktime_get_ns() - d->syscall_since_ns;
	d->syscall_since_ns = 0;
	if (duration < cfg.syscall_threshold_ns)
		return 0;
	cpu = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), se.sum_exec_runtime) -
	      d->syscall_cpu_ns;
	if (is_wait(d->syscall_nr) && cpu < cfg.syscall_threshold_ns / 10)
		return 0;
	s = sb_begin(SB_SCRATCH_SYSCALL, SB_SYSCALL, id, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	sb_take_ustack(ctx, s, c);
	p = (void *)s->payload;
	sb_syscall_fill(p, d->syscall_nr, (void *)bpf_get_current_task());
	p->duration_ns = duration;
	p->cpu_ns = cpu;
	sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	sb_fire_crossed(SB_KTRIG_SYSCALL, 0, duration, bpf_get_current_task());
	return 0;
}

struct sb_irq_cpu {
	__u64 raised_ns[16], entered_ns, delay_ns;
	__u64 hardirq_ns; /* when the current hardirq handler began */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sb_irq_cpu);
} irqs SEC(".maps");

static __always_inline struct sb_irq_cpu *irq_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&irqs, &zero);
}

/* (vec) */
SEC("tp_btf/softirq_raise")
int softirq_raised(__u64 *ctx)
{
	struct sb_irq_cpu *q = irq_cpu();
	__u32 vec = ctx[0] & 15;

	if (q && !sb_escalated(q->raised_ns[vec]))
		q->raised_ns[vec] = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/softirq_entry")
int softirq_entered(__u64 *ctx)
{
	struct sb_irq_cpu *q = irq_cpu();
	__u32 vec = ctx[0] & 15;
	__u64 now = bpf_ktime_get_ns();

	if (!q)
		return 0;
	q->entered_ns = now;
	q->delay_ns = sb_escalated(q->raised_ns[vec]) ? now - q->raised_ns[vec] : 0;
	q->raised_ns[vec] = 0;
	return 0;
}

SEC("tp_btf/softirq_exit")
int softirq_exited(__u64 *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), duration;
	struct sb_irq_cpu *q = irq_cpu();
	struct sb_cpu *c = sb_this_cpu();
	struct sb_softirq *p;
	struct sb_scratch *s;

	if (!q || !c || !sb_escalated(q->entered_ns))
		return 0;
	duration = bpf_ktime_get_ns() - q->entered_ns;
	q->entered_ns = 0;
	if (duration < cfg.irq_threshold_ns && q->delay_ns < cfg.irq_threshold_ns)
		return 0;
	s = sb_begin(SB_SCRATCH_SOFTIRQ, SB_SOFTIRQ, id, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->delay_ns = q->delay_ns;
	p->vector = ctx[0];
	p->pad = 0;
	sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	sb_fire_crossed(SB_KTRIG_SOFTIRQ_DELAY, 0, q->delay_ns, bpf_get_current_task());
	return 0;
}

/* (irq, action); handlers do not nest on a CPU. */
SEC("tp_btf/irq_handler_entry")
int hardirq_entered(__u64 *ctx)
{
	struct sb_irq_cpu *q = irq_cpu();

	if (q)
		q->hardirq_ns = bpf_ktime_get_ns();
	return 0;
}

/* (irq, action, ret) */
SEC("tp_btf/irq_handler_exit")
int hardirq_exited(__u64 *ctx)
{
	struct irqaction *action = (void *)ctx[1];
	__u64 id = bpf_get_current_pid_tgid(), duration;
	struct sb_irq_cpu *q = irq_cpu();
	struct sb_cpu *c = sb_this_cpu();
	struct sb_hardirq *p;
	struct sb_scratch *s;

	if (!q || !c || !sb_escalated(q->hardirq_ns))
		return 0;
	duration = bpf_ktime_get_ns() - q->hardirq_ns;
	q->hardirq_ns = 0;
	if (duration < cfg.irq_threshold_ns)
		return 0;
	s = sb_begin(SB_SCRATCH_HARDIRQ, SB_HARDIRQ, id, sizeof(*p) / 8, c);
	if (!s)
		return 0;
	sb_take_kstack(ctx, s, c);
	p = (void *)s->payload;
	p->duration_ns = duration;
	p->irq = ctx[0];
	p->pad = 0;
	__builtin_memset(p->name, 0, sizeof(p->name));
	bpf_probe_read_kernel_str(p->name, sizeof(p->name), BPF_CORE_READ(action, name));
	if (id)
		sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	return 0;
}
