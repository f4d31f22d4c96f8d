// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * On-CPU samples, and the clock of the in-kernel triggers. The scheduler's tick interrupts whatever runs anyway, so samples
 * are taken there: a timer of our own is an interrupt more, which costs a virtual machine more than the sample. Where the
 * tick cannot be the sampler (kernel_features.h, or more samples are wanted than half of the ticks) there is a cpu-clock perf event for each CPU.
 * Idle CPUs are interrupted by those, too, where the machine's timers go on in idle: they record
 * nothing, but keep the triggers' clock going when nothing else runs. Beside the tick one CPU has such an event for that.
 */
#include "bpf/lock.bpf.h"
#include "bpf/scan.bpf.h"
#include <linux/bpf_perf_event.h>

/* How many frames an interrupt may have, at most. */
#define INTERRUPT_FRAMES 24

/* Whoever began to wait behind another waiter met that one as the owner; the holder that
 * matters is the one that is still there. Global functions, as sb_scan_inflight(). */
int refresh_owner(__u32 tid)
{
	struct sb_task_state *t = sb_state_of(tid);

	if (t && t->tid == tid && t->lock)
		sb_read_owner(t);
	return 0;
}

int refresh_owners(__u32 unused)
{
	struct sb_inflight_table *table = sb_inflight_table(SB_INFLIGHT_LOCK);
	__u64 now = bpf_ktime_get_ns();

	if (!table)
		return 0;
	for (__u32 i = 0; i < SB_INFLIGHT; i++) {
		__u64 since = table->slot[i].since_ns;

		if (since && (__s64)(now - since) >= (__s64)SB_SCAN_PERIOD_NS / 2)
			refresh_owner(table->slot[i].key >> 8);
	}
	return (int)unused;
}

#define WINDOW_NS 250000000ULL
/* A yield is only judged where reclaim has really worked: 16 MiB scanned in the window. */
#define YIELD_MIN_PAGES 4096

/* Closes the window and judges the triggers that look at shares of it. */
static __always_inline void judge_window(__u64 now)
{
	__u64 elapsed = now - control.window_ns, system = 0, scanned, reclaimed, percent;

	for (__u32 i = 0; i < cfg.cpus && i < 1024; i++) {
		__u32 cpu = i;
		struct sb_cpu *c = bpf_map_lookup_elem(&cpus, &cpu);

		if (c)
			system += c->system_ns;
	}
	control.window_ns = now;
	control.system_ns = system - control.system_base_ns;
	control.system_base_ns = system;
	scanned = control.yield_scanned;
	reclaimed = control.yield_reclaimed;
	control.yield_scanned = control.yield_reclaimed = 0;
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		volatile struct sb_ktrigger *t = &control.trigger[i];
		bool met = false, calm = false;

		if (t->type == SB_KTRIG_SYSTEM) {
			percent = control.system_ns * 100 / (elapsed * (control.cpus_online ?: 1));
			met = percent > t->percent;
			calm = !t->calm || percent < t->calm;
		} else if (t->type == SB_KTRIG_RECLAIM_YIELD) {
			percent = scanned >= YIELD_MIN_PAGES ? reclaimed * 100 / scanned : 100;
			met = percent < t->percent;
			calm = percent > t->calm;
		} else {
			continue;
		}
		t->value = percent;
		t->value_ns = now;
		t->held = met ? t->held + 1 : 0;
		if (!met && calm)
			t->told = 0;
		if (met && t->held * WINDOW_NS >= t->threshold_ns) {
			t->held = 0;
			sb_fire(i, percent, 0);
		}
	}
}

static __always_inline void scan_all(__u64 now)
{
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		__u32 type = control.trigger[i].type;

		if (type >= SB_KTRIG_RECLAIM && type <= SB_KTRIG_MMAP_LOCK_WAIT)
			sb_scan_inflight(i, SB_SCAN_SAMPLER);
	}
	if ((control.watch & (1u << SB_KTRIG_RECLAIM_YIELD | 1u << SB_KTRIG_SYSTEM)) &&
	    (__s64)(now - control.window_ns) >= (__s64)WINDOW_NS)
		judge_window(now);
}

/* Samples of one thread in one call site, one after the other and no sleep between: a system call that keeps the
 * CPU, found without a hook in every call. Told once, when it passes the threshold. */
static __always_inline void follow_call(struct sb_cpu *c, __u64 id, __u64 call, __u64 now)
{
	struct sb_task_detail *d;
	struct sb_syscall *p;
	struct sb_scratch *s;
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 duration, before, nvcsw, cpu_ns;

	d = call ? sb_detail_of(id) : sb_detail_peek(id);
	if (!d)
		return;
	/* Whoever slept may have left the call and come back. */
	nvcsw = BPF_CORE_READ(task, nvcsw);
	cpu_ns = BPF_CORE_READ(task, se.sum_exec_runtime);
	if (d->call != call || !call || d->call_nvcsw != nvcsw) {
		d->call = call;
		d->call_nvcsw = nvcsw;
		d->call_since_ns = d->call_last_ns = now;
		d->call_cpu_ns = cpu_ns;
		d->call_told = 0;
		return;
	}
	duration = now - d->call_since_ns;
	/* The last sample of it may be of another CPU, and any time ago. */
	before = d->call_last_ns - d->call_since_ns;
	d->call_last_ns = now;
	if (control.watch & (1u << SB_KTRIG_SYSCALL))
		sb_fire_crossed(SB_KTRIG_SYSCALL, before, duration, (__u64)task);
	if (d->call_told || duration < cfg.syscall_threshold_ns)
		return;
	d->call_told = 1;
	s = sb_begin(SB_SCRATCH_SYSCALL_SAMPLED, SB_SYSCALL, id, sizeof(*p) / 8, c);
	if (!s)
		return;
	p = (void *)s->payload;
	sb_syscall_fill(p, SB_CALL_NR(call) - 1, task);
	p->duration_ns = duration;
	p->cpu_ns = cpu_ns - d->call_cpu_ns;
	p->flags = SB_SYSCALL_OPEN | SB_SYSCALL_SAMPLED;
	sb_emit(s);
}

/* A vCPU that stands still in the middle of a timer interrupt is sampled twice in it when it goes on: two looks alone say
 * nothing. */
#define HELD_LOOKS 3

/* Per-CPU variables have no name for us where the kernel's symbols have none (CONFIG_KALLSYMS_ALL), but they lie at fixed
 * distances from each other, which its BTF knows, and the run queue is found through whatever runs on it. */
static __always_inline bool read_softirqs(__u32 *ret_raised, __u32 *ret_counts)
{
	__u64 rq = (__u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), se.cfs_rq, rq);
	__u16 raised = 0;

	if (!control.raised_from_rq || bpf_probe_read_kernel(&raised, sizeof(raised), (void *)(rq + control.raised_from_rq)))
		return false;
	*ret_raised = raised;
	return !raised || !bpf_probe_read_kernel(ret_counts, SB_SOFTIRQS * sizeof(__u32), (void *)(rq + control.handled_from_rq));
}

/* A softirq that was raised when a system call was sampled and has not been handled when the same call is sampled again,
 * as the kernel's own counts of those handled say, has waited all that time. call 0: there is none. */
static __always_inline void follow_softirqs(struct sb_cpu *c, __u32 tid, __u64 call, __u64 now)
{
	__u32 raised = 0, counts[SB_SOFTIRQS] = {}, still;
	__u64 before;

	if (!(control.watch & (1u << SB_KTRIG_SOFTIRQ_HELD)))
		return;
	if (!call || !read_softirqs(&raised, counts) || !raised) {
		c->held_since_ns = 0;
		return;
	}
	still = c->held_since_ns && c->held_call == call && c->held_tid == tid ? c->held_raised & raised : 0;
	for (__u32 i = 0; i < SB_SOFTIRQS; i++) {
		if (counts[i] != c->held_counts[i])
			still &= ~(1u << i);
	}
	if (!still) {
		__builtin_memcpy(c->held_counts, counts, sizeof(counts));
		c->held_raised = raised;
		c->held_call = call;
		c->held_tid = tid;
		c->held_looks = 1;
		c->held_since_ns = c->held_last_ns = now;
		return;
	}
	c->held_raised = still;
	before = c->held_looks < HELD_LOOKS - 1 ? 0 : c->held_looks == HELD_LOOKS - 1 ? 1 : c->held_last_ns - c->held_since_ns;
	c->held_looks++;
	c->held_last_ns = now;
	if (before)
		sb_fire_crossed(SB_KTRIG_SOFTIRQ_HELD, before, now - c->held_since_ns, bpf_get_current_task());
}

/* Above the CPU budget only one sample in SB_LIMIT_THIN is recorded. Returns the time that it
 * stands for, 0: this one is left out. */
static __always_inline __u64 thin(struct sb_cpu *c, __u64 gap)
{
	__u64 stands_ns;

	if (control.limit_step < SB_LIMIT_SAMPLES && !c->thin_count)
		return cfg.sample_period_ns;
	c->thin_ns += gap > cfg.sample_period_ns ? gap : cfg.sample_period_ns;
	c->thin_count++;
	if (control.limit_step >= SB_LIMIT_SAMPLES && c->thin_count < SB_LIMIT_THIN) {
		c->lost[SB_LOST_LIMIT_SAMPLE]++;
		return 0;
	}
	stands_ns = c->thin_ns;
	c->thin_ns = c->thin_count = 0;
	return stands_ns;
}

/* Whichever CPU comes first looks at what is in flight. */
static __always_inline void scan_when_due(__u64 now)
{
	__u64 last = control.last_scan_ns;

	/* Signed: another CPU may have come first, with a later clock. */
	if ((__s64)(now - last) >= (__s64)SB_SCAN_PERIOD_NS && SB_CLAIM(&control.last_scan_ns, last, now)) {
		if (control.nr_lock_waits)
			refresh_owners(0);
		scan_all(now);
	}
}

/* The kernel stack that an interrupt has interrupted at ip, from a tracepoint within that interrupt. */
static __always_inline void take_interrupted_kstack(void *ctx, struct sb_scratch *s, struct sb_cpu *c, __u64 ip)
{
	__u64 skip = c->tick_frames & BPF_F_SKIP_FIELD_MASK;
	long n = skip ? bpf_get_stack(ctx, s->k, sizeof(s->k), skip) : 0;

	if (n <= 0 || s->k[0] != ip) {
		/* As many as on this CPU the last time, but within a softirq, or the first time. */
		n = bpf_get_stack(ctx, s->k, sizeof(s->k), 0);
		for (skip = 0; skip < INTERRUPT_FRAMES; skip++) {
			if (s->k[skip] == ip)
				break;
		}
		if (skip && skip < INTERRUPT_FRAMES && n > (long)skip * 8) {
			c->tick_frames = skip;
			n = bpf_get_stack(ctx, s->k, sizeof(s->k), skip);
		} else {
			n = 0;
		}
		if (n <= 0) {
			c->lost[SB_LOST_KSTACK_ERR]++;
			s->k[0] = ip;
			n = 8;
		}
	}
	s->nk = sb_frames(n, SB_KFRAMES, c, SB_LOST_TRUNCATED_K);
}

/* How long it is since the end of what this CPU's samples before stand for, not since the last one: one that came early stands for
 * more than had passed, and the late one behind it must not have that again. 0: not known, it was idle meanwhile. */
static __always_inline __u64 gap_before(const struct sb_cpu *c, __u64 now)
{
	__s64 gap = now - c->stood_until_ns;

	return !c->stood_until_ns || c->was_idle ? 0 : gap > 0 ? gap : 1;
}

/* This one stands for ns behind that, if it is known. */
static __always_inline void stand(struct sb_cpu *c, __u64 gap, __u64 ns, __u64 now)
{
	__u64 until = gap ? c->stood_until_ns + ns : now;

	c->stood_until_ns = until < now + cfg.sample_period_ns ? until : now + cfg.sample_period_ns;
}

static __always_inline bool is_late(__u64 gap)
{
	return gap > cfg.sample_period_ns + cfg.sample_period_ns / 2;
}

/* ip: where a tracepoint's interrupt has interrupted; 0: ctx is a perf event's, which knows that itself. */
static __always_inline void look(void *ctx, struct sb_cpu *c, bool user, __u64 ip, __u64 now)
{
	__u64 id = bpf_get_current_pid_tgid(), gap = gap_before(c, now), since = c->was_idle ? 0 : now - c->last_tick_ns;
	__u64 call, stands_ns;
	struct sb_task_detail *d;
	struct sb_task_state *t;
	struct sb_on_cpu *p;
	struct sb_scratch *s;
	bool thinned;

	c->was_idle = 0;
	if (!c->last_tick_ns)
		since = 0;
	c->last_tick_ns = now;
	if (!(__u32)id) {
		c->stood_until_ns = now;
		c->held_since_ns = 0;
		c->idle_ticks++;
		return;
	}
	call = user ? 0 : sb_call_of_current();
	follow_softirqs(c, id, call, now);
	if (!user)
		c->system_ns += since ? since : cfg.sample_period_ns;
	stands_ns = thin(c, gap);
	thinned = stands_ns != cfg.sample_period_ns;
	stand(c, gap, (thinned || is_late(gap)) && gap > cfg.sample_period_ns ? gap : cfg.sample_period_ns, now);
	if (!stands_ns)
		return;
	s = sb_begin(SB_SCRATCH_SAMPLE, SB_ON_CPU, id, 1, c);
	if (!s)
		return;
	p = (void *)s->payload;
	if (user)
		s->flags = SB_REC_USER;
	else if (ip)
		take_interrupted_kstack(ctx, s, c, ip);
	else
		sb_take_kstack(ctx, s, c);
	sb_take_ustack(ctx, s, c);
	if (thinned)
		s->flags |= SB_REC_THINNED;
	else if (is_late(gap))
		s->flags |= SB_REC_LATE;
	t = sb_state_of(id);
	if (t && t->tid == (__u32)id) {
		if (t->reclaim_start_ns)
			s->flags |= SB_REC_IN_RECLAIM;
		if ((t->flags & SB_TS_HOLDS_MMAP) && (d = sb_detail_peek(id)) && sb_escalated(d->hold_since_ns))
			s->flags |= SB_REC_MMAP_LOCK;
	}
	p->gap_ns = thinned ? stands_ns : gap;
	p->call = call;
	if (call)
		s->np = 2;
	sb_task_note((void *)bpf_get_current_task());
	sb_emit(s);
	follow_call(c, id, call, now);
}

/* A timer of our own: the sampler's where the tick cannot be, else of one CPU, so that the triggers' clock goes on
 * when nothing runs. */
SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	struct sb_cpu *c = sb_this_cpu();

	if (!c)
		return 0;
	scan_when_due(now);
	if (cfg.tick_ns) {
		control.clock_ns = now;
		return 0;
	}
	c->ticks++;
	look(ctx, c, sb_regs_user(&ctx->regs), 0, now);
	return 0;
}

/* Does the tick that was due at due_ns take a sample? The first one in a sampling period does, early or late. Where the CPU was
 * idle in between that would be too many: what runs for less than a period after each idle time would count as if it had run all of
 * it. There it is the tick that was due in the period's first tick's length, or that something has kept off for longer than that.
 * phase_ns: each CPU has periods of its own, so that not all are sampled at once. */
static __always_inline bool tick_samples(struct sb_cpu *c, __u64 due_ns, __u64 now, __u64 phase_ns)
{
	__u64 period = (now + phase_ns) / cfg.sample_period_ns;

	if (period == c->tick_period)
		return false;
	if (c->was_idle && (due_ns + phase_ns) % cfg.sample_period_ns >= cfg.tick_ns && (__s64)(now - due_ns) < (__s64)cfg.tick_ns)
		return false;
	c->tick_period = period;
	return true;
}

/* This CPU's tick timer. It lies where it lies, whoever runs. */
static __always_inline __u64 tick_timer(struct sb_cpu *c)
{
	__u64 rq;

	if (!c->tick_timer) {
		rq = (__u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), se.cfs_rq, rq);
		if (rq)
			c->tick_timer = rq + cfg.tick_from_rq;
	}
	return c->tick_timer;
}

/* (hrtimer, now) */
SEC("tp_btf/hrtimer_expire_entry")
int tick_sample(__u64 *ctx)
{
	struct sb_cpu *c = sb_this_cpu();
	void *regs = NULL;
	__u64 now;

	if (!c)
		return 0;
	c->ticks++;
	if (ctx[0] != tick_timer(c))
		return 0;
	now = bpf_ktime_get_ns();
	scan_when_due(now);
	/* 5/8, 2/8, 7/8, ... of a period */
	if (!tick_samples(c, BPF_CORE_READ((struct hrtimer *)ctx[0], _softexpires), now,
			  bpf_get_smp_processor_id() * (cfg.sample_period_ns * 5 / 8)))
		return 0;
	bpf_probe_read_kernel(&regs, sizeof(regs), (void *)(c->tick_timer - cfg.tick_from_rq + cfg.irq_regs_from_rq));
	if (regs)
		look(ctx, c, sb_regs_in_user(regs), sb_regs_ip(regs), now);
	else
		c->lost[SB_LOST_NO_SCRATCH]++; /* never seen */
	return 0;
}
