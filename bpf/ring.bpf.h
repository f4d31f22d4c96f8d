/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Maps, and what every program does with them: reserve and commit a record, intern
 * a stack, note who a task is, watch waits in flight, fire a trigger.
 *
 * Nesting: the sampler can interrupt a tracepoint program on the same CPU, and from
 * 7.x tracepoint programs are preemptible. So space is reserved by one atomic add,
 * a record is BUSY until it is whole, and scratch memory is one per program.
 */
#ifndef SB_BPF_RING_BPF_H
#define SB_BPF_RING_BPF_H

#include "bpf/compat.bpf.h"
#include "bpf/events.h"
#include "bpf/ring.h"
#include "unwind/layout.h"

/* Weak: every object file has them, the static linker keeps one. */
const volatile struct sb_config cfg __weak = {};
struct sb_control control __weak SEC(".data.control");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2); /* banks x CPUs, set by the agent: bank * cpus + cpu */
	__uint(key_size, 4);
	__uint(value_size, SB_SEG_BYTES + SB_RING_SLACK); /* set by the agent */
} rings __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sb_cpu);
} cpus __weak SEC(".maps");

/* Which stacks a CPU has written inline, and in which segment. */
struct sb_seen {
	__u64 slot[SB_SEEN_SLOTS];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sb_seen);
} seen __weak SEC(".maps");

/* Whoever may map it has it begin with a page, so that an entry is one cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SB_TASKS);
	__type(key, __u32);
	__type(value, struct sb_task_state);
} task_state __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SB_DETAILS);
	__type(key, __u32);
	__type(value, struct sb_task_detail);
} task_detail __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SB_TASKS);
	__type(key, __u32);
	__type(value, struct sb_task);
} tasks __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SB_USTACKS);
	__type(key, __u32);
	__type(value, struct sb_ustack);
} ustacks __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2); /* waits for locks have one of their own */
	__type(key, __u32);
	__type(value, struct sb_inflight_table);
} inflight __weak SEC(".maps");

/* Wakes the agent when a condition in the kernel has sealed a bank. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} hits __weak SEC(".maps");

/* A record before it has a place in the ring. One per program, never shared by two that can interrupt each other. */
struct sb_scratch {
	__u64 payload[SB_PAYLOAD_WORDS];
	__u64 k[SB_KFRAMES];
	__u64 u[SB_UFRAMES];
	__u64 kstack, ustack; /* hashes */
	__u32 nk, nu, np;
	__u32 in_k, in_u; /* frames that this record carries itself */
	__u32 tid, tgid;
	__u8 kind, flags, uinfo, id; /* id: enum sb_scratch_id */
	__u8 by_fp, fps_far; /* of the walk: SB_WALK_BY_FP; a frame pointer was read where place[] does not reach */
	__u64 walk[9];		     /* struct sb_unwind_walk */
	__u64 walk_ip, walk_sp, walk_fp; /* where it began */
	__u32 again, version; /* these and what follows: as in struct sb_ustack */
	__u32 place[SB_UFRAMES];
	__u64 fps;
};
enum sb_scratch_id {
	SB_SCRATCH_SWITCH,
	SB_SCRATCH_SAMPLE,
	SB_SCRATCH_RECLAIM_DIRECT,
	SB_SCRATCH_RECLAIM_MEMCG,
	SB_SCRATCH_RECLAIM_NODE,
	SB_SCRATCH_COMPACTION,
	SB_SCRATCH_KSWAPD,
	SB_SCRATCH_SHOT,
	SB_SCRATCH_LOCK,
	SB_SCRATCH_WAKEUP,
	SB_SCRATCH_HOLD,
	SB_SCRATCH_SYSCALL,
	SB_SCRATCH_SYSCALL_SAMPLED,
	SB_SCRATCH_SOFTIRQ,
	SB_SCRATCH_BLOCK_IO,
	SB_SCRATCH_OOM,
	SB_SCRATCH_SLAB,
	SB_SCRATCH_HARDIRQ,
	SB_SCRATCH_COUNT
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SB_SCRATCH_COUNT);
	__type(key, __u32);
	__type(value, struct sb_scratch);
} scratch __weak SEC(".maps");

static __always_inline struct sb_cpu *sb_this_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpus, &cpu);
}

static __always_inline struct sb_task_state *sb_state_of(__u32 tid)
{
	__u32 i = tid & (SB_TASKS - 1);

	return bpf_map_lookup_elem(&task_state, &i);
}

/* The tid's own entry, emptied if another tid had it. NULL only where a lookup fails. */
static __always_inline struct sb_task_detail *sb_detail_of(__u32 tid)
{
	__u32 i = tid & (SB_DETAILS - 1);
	struct sb_task_detail *d = bpf_map_lookup_elem(&task_detail, &i);

	if (d && d->tid != tid) {
		__builtin_memset(d, 0, sizeof(*d));
		d->tid = tid;
	}
	return d;
}

/* Only if the entry is this tid's. */
static __always_inline struct sb_task_detail *sb_detail_peek(__u32 tid)
{
	__u32 i = tid & (SB_DETAILS - 1);
	struct sb_task_detail *d = bpf_map_lookup_elem(&task_detail, &i);

	return d && d->tid == tid ? d : NULL;
}

static __always_inline struct sb_ustack *sb_ustack_of(__u32 tid)
{
	__u32 i = tid & (SB_USTACKS - 1);

	return bpf_map_lookup_elem(&ustacks, &i);
}

static __always_inline struct sb_scratch *sb_scratch(__u32 id)
{
	return bpf_map_lookup_elem(&scratch, &id);
}

/* Was this time noted in the escalated window that goes on? */
static __always_inline bool sb_escalated(__u64 since_ns)
{
	return since_ns && control.escalated_ns && since_ns >= control.escalated_ns;
}

/* ---- budgets: one storm must not wipe out the other evidence ---------------- */

static __always_inline bool sb_take_token(__u64 *window, __u64 *tokens, __u64 now, __u64 budget)
{
	if (*window != now) {
		*window = now;
		*tokens = budget;
	}
	if (!*tokens)
		return false;
	--*tokens;
	return true;
}

static __always_inline bool sb_within_budget(struct sb_cpu *c)
{
	if (sb_take_token(&c->other_window, &c->other_tokens, bpf_ktime_get_ns() >> 23, cfg.other_budget))
		return true;
	c->lost[SB_LOST_BUDGET]++;
	return false;
}

/* ---- waits and spans in flight ------------------------------------------- */

#define SB_INFLIGHT_PROBES 4

static __always_inline struct sb_inflight_table *sb_inflight_table(__u32 type)
{
	__u32 i = type == SB_INFLIGHT_LOCK;

	return bpf_map_lookup_elem(&inflight, &i);
}

static __noinline __maybe_unused int sb_inflight_add(__u32 tid, __u32 type, __u32 match)
{
	struct sb_inflight_table *table = sb_inflight_table(type);
	__u64 key = (__u64)tid << 8 | type;
	__u32 h = tid * 2654435761u >> 16;

	if (!table)
		return 0;
	for (int i = 0; i < SB_INFLIGHT_PROBES; i++) {
		struct sb_inflight *s = &table->slot[(h + i) & (SB_INFLIGHT - 1)];

		if (SB_CLAIM(&s->key, 0, key)) {
			s->match = match;
			s->since_ns = bpf_ktime_get_ns();
			return 1;
		}
	}
	return 0;
}

static __noinline __maybe_unused int sb_inflight_del(__u32 tid, __u32 type)
{
	struct sb_inflight_table *table = sb_inflight_table(type);
	__u64 key = (__u64)tid << 8 | type;
	__u32 h = tid * 2654435761u >> 16;

	if (!table)
		return 0;
	for (int i = 0; i < SB_INFLIGHT_PROBES; i++) {
		struct sb_inflight *s = &table->slot[(h + i) & (SB_INFLIGHT - 1)];

		if (s->key == key) {
			s->since_ns = 0; /* before the slot is free for another */
			barrier();
			s->key = 0;
			return 1;
		}
	}
	return 0;
}

/* The wait in D state of the thread whose entry this is ends, if it is watched. */
static __always_inline void sb_blocked_ends(struct sb_task_state *t)
{
	if (!(t->flags & SB_TS_BLOCKED_INFLIGHT))
		return;
	t->flags &= ~SB_TS_BLOCKED_INFLIGHT;
	if (sb_inflight_del(t->tid, SB_INFLIGHT_BLOCKED))
		SB_ATOMIC_DEC(&control.nr_blocked);
}

/* Makes the state entry this tid's own. Another tid with the same index loses its entry:
 * what it had in flight must not stay behind. */
static __always_inline void sb_state_take(struct sb_task_state *t, __u32 tid)
{
	if (t->tid == tid)
		return;
	sb_blocked_ends(t);
	if (t->flags & SB_TS_RECLAIM_INFLIGHT)
		sb_inflight_del(t->tid, SB_INFLIGHT_RECLAIM);
	if (t->flags & SB_TS_LOCK_INFLIGHT) {
		if (sb_inflight_del(t->tid, SB_INFLIGHT_LOCK))
			SB_ATOMIC_DEC(&control.nr_lock_waits);
	}
	t->tid = tid;
	t->state = 0;
	t->off_ns = 0;
	t->reclaim_start_ns = 0;
	t->lock = 0;
	t->long_blocks = 0;
	t->saved = 0;
	t->flags = 0;
}

/* The cgroup of a task: the v1 memory controller's where that is in use, else v2's. */
static __always_inline __u64 sb_cgroup_of(struct task_struct *t)
{
	struct cgroup *cg = NULL;

	if (cfg.cgroup_v1_memory && bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
		struct css_set *set = BPF_CORE_READ(t, cgroups);
		struct cgroup_subsys_state *css = NULL;
		__u32 id = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
		__u32 off = bpf_core_field_offset(set->subsys) + id * 8;

		bpf_probe_read_kernel(&css, sizeof(css), (char *)set + off);
		cg = BPF_CORE_READ(css, cgroup);
	} else {
		cg = BPF_CORE_READ(t, cgroups, dfl_cgrp);
	}
	return BPF_CORE_READ(cg, kn, id);
}

/* ---- triggers -------------------------------------------------------------- */

/* The first one that turns `armed` seals the bank. What does not, because another did or because its trigger
 * has to keep quiet, is counted, once for each time that it begins to be met: whoever ends that sets told to 0. */
static __noinline __maybe_unused int sb_fire(__u32 index, __u64 value, __u32 tid)
{
	struct sb_ktrigger *t = (void *)&control.trigger[index & (SB_KTRIGGERS - 1)];
	__u64 now = bpf_ktime_get_ns(), begins = SB_CLAIM(&t->told, 0, 1);
	struct sb_hit hit = {};

	if (t->calm && !begins)
		return 0;
	if (now < t->quiet_until_ns || control.armed != 1 || !SB_CLAIM(&control.armed, 1, 0)) {
		if (begins) {
			t->unsealed_ns = now;
			t->unsealed_value = value;
			t->unsealed_tid = tid;
			SB_COUNT(&t->unsealed);
		}
		return 0;
	}
	hit.freeze_ns = now;
	hit.value = value;
	hit.trigger = index;
	hit.tid = tid;
	control.fired_value = value;
	control.fired_trigger = index;
	control.fired_tid = tid;
	control.freeze_ns = hit.freeze_ns;
	barrier();
	control.generation = control.armed_generation + 1;
	bpf_ringbuf_output(&hits, &hit, sizeof(hit), 0);
	return 1;
}

/* The following are global functions, which the verifier checks once by themselves instead of
 * on every path of every caller (a fifteenth of the time to load). Those know no pointers to
 * kernel memory, so a task is passed as a number. */
#define SB_GLOBAL __weak __attribute__((noinline))

/* Bit i: trigger i watches this type for this task. Names are compared as two words: a
 * loop over bytes is more than 5.10's verifier follows. */
SB_GLOBAL int sb_trigger_match(__u32 type, __u64 task)
{
	__u64 comm[SB_COMM / 8] = {}, cgroup;
	__u32 match = 0;

	if (!(control.watch & (1u << (type & 31))))
		return 0;
	/* As a string: older kernels leave a longer name's tail behind the end. */
	bpf_probe_read_kernel_str(comm, sizeof(comm),
				  (void *)task + bpf_core_field_offset(((struct task_struct *)task)->comm));
	cgroup = control.watch & SB_WATCH_CGROUP ? sb_cgroup_of((void *)task) : 0;
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		volatile struct sb_ktrigger *t = &control.trigger[i];

		if (t->type != type || (t->comm[0] && (t->comm[0] != comm[0] || t->comm[1] != comm[1])))
			continue;
		if (t->cgroup_id && t->cgroup_id != cgroup)
			continue;
		match |= 1u << i;
	}
	return match;
}

/* What ends at once has no end of its own: another one after that is another time. */
#define SB_EVENTS_APART_NS 1000000000ULL

static __always_inline void sb_note_event(struct sb_ktrigger *t, __u64 duration)
{
	__u64 now = bpf_ktime_get_ns();

	t->value = duration;
	t->value_ns = now;
	if (t->type <= SB_KTRIG_MMAP_LOCK_WAIT)
		return; /* sb_scan_inflight() sees it end */
	/* Signed: another CPU may have noted its own in the meantime. */
	if ((__s64)(now - t->met_ns) > (__s64)SB_EVENTS_APART_NS)
		t->told = 0;
	t->met_ns = now;
}

/* A duration has grown from `before` to `now`: all whose threshold lies between fire. One of them seals, the others
 * count that. */
SB_GLOBAL int sb_fire_crossed(__u32 type, __u64 before, __u64 now, __u64 task)
{
	__u32 match;

	if (!(control.watch & (1u << (type & 31))))
		return 0;
	match = sb_trigger_match(type, task);
	for (__u32 i = 0; i < SB_KTRIGGERS; i++) {
		__u64 threshold = control.trigger[i].threshold_ns;

		if ((match & (1u << i)) && control.trigger[i].count <= 1 && before < threshold &&
		    now >= threshold) {
			sb_note_event((void *)&control.trigger[i], now);
			sb_fire(i, now, BPF_CORE_READ((struct task_struct *)task, pid));
		}
	}
	return 0;
}

/* ---- records --------------------------------------------------------------- */

static __always_inline __u64 sb_hash_stack(const __u64 *f, __u32 n, __u64 h, __u32 max)
{
	for (__u32 i = 0; i < max; i++) {
		if (i >= n)
			break;
		h = sb_hash_step(h, f[i]);
	}
	return h;
}

/* Must the frames stand in this record? Yes unless this CPU wrote them within
 * cfg.keep_segments. A collision of the table writes once more. The slot comes from the lower
 * half of the hash and the tag is the upper half: two stacks are taken for one only where
 * 44 bits agree. */
static __always_inline bool sb_must_inline(struct sb_seen *s, __u64 hash, __u32 segment)
{
	__u64 *slot = &s->slot[(hash >> 20) & (SB_SEEN_SLOTS - 1)];
	__u64 tag = hash & 0xffffffff00000000ULL;
	__u64 v = *slot;

	if ((v & 0xffffffff00000000ULL) == tag && segment - (__u32)v < cfg.keep_segments)
		return false;
	*slot = tag | segment;
	return true;
}

/* Both are aligned to 8 bytes. */
static __always_inline bool sb_same_comm(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return x[0] == y[0] && x[1] == y[1];
}

/* Has its new name already, and is not the new program yet. */
static __always_inline bool sb_in_exec(struct task_struct *t)
{
	return bpf_core_field_exists(t->in_execve) && BPF_CORE_READ_BITFIELD_PROBED(t, in_execve);
}

/* Of the current task. Its own memory: there is no lock, and a page that is not there is not read. */
static __always_inline void sb_take_args(struct sb_task *e, struct task_struct *p)
{
	__u64 start = BPF_CORE_READ(p, mm, arg_start), end = BPF_CORE_READ(p, mm, arg_end);
	__u64 n = end > start ? end - start : 0;

	e->args_len = 0;
	e->args_all = n < 0xffff ? n : 0xffff;
	if (n > SB_ARGS)
		n = SB_ARGS;
	barrier_var(n);
	if (n && n <= SB_ARGS && bpf_probe_read_user(e->args, n, (const void *)start) == 0)
		e->args_len = n;
}

/* Who this task is, as far as the bundle needs it. Reads through probe_read: it runs in
 * every context, and only for the tasks that get a record. */
static __noinline __maybe_unused int sb_task_note(struct task_struct *t)
{
	__u32 tid = BPF_CORE_READ(t, pid), i = tid & (SB_TASKS - 1);
	struct sb_task *e = bpf_map_lookup_elem(&tasks, &i);
	__u64 comm[SB_COMM / 8], start_ns;
	__u8 execs;

	if (!e)
		return 0;
	start_ns = BPF_CORE_READ(t, start_time);
	execs = BPF_CORE_READ(t, self_exec_id);
	BPF_CORE_READ_INTO(&comm, t, comm);
	if (e->tid != tid) {
		if (e->tid && !e->exit_ns) {
			struct sb_cpu *cpu = sb_this_cpu();

			if (cpu)
				cpu->lost[SB_LOST_TASK_EVICTED]++;
		}
	}
	if (e->tid != tid || e->start_ns != start_ns) {
		e->exec_ns = 0;
		e->args_len = 0;
		e->execs = execs;
		__builtin_memset(e->before_comm, 0, SB_COMM);
	} else {
		if (!sb_same_comm(e->comm, comm) && (!e->exec_ns || sb_in_exec(t)))
			__builtin_memcpy(e->before_comm, e->comm, SB_COMM);
		/* The kernel left out the program at its exec, as it does where another one's was interrupted (7.x): what is
		 * there are its parent's. They are taken now if it is the one that runs, else the next time that it does. */
		if (e->execs != execs) {
			e->args_len = 0;
			if ((__u64)t == bpf_get_current_task()) {
				e->execs = execs;
				if (cfg.command_lines)
					sb_take_args(e, t);
			}
		}
	}
	e->tid = tid;
	e->tgid = BPF_CORE_READ(t, tgid);
	e->ppid = BPF_CORE_READ(t, real_parent, tgid);
	e->flags = BPF_CORE_READ(t, flags) & PF_KTHREAD ? SB_TASK_KTHREAD : 0;
	e->noted = bpf_ktime_get_ns() >> 30;
	e->start_ns = start_ns;
	e->group_start_ns = BPF_CORE_READ(t, group_leader, start_time);
	e->exit_ns = 0;
	__builtin_memcpy(e->comm, comm, SB_COMM);
	BPF_CORE_READ_INTO(&e->group_comm, t, group_leader, comm);
	e->cgroup_id = sb_cgroup_of(t);
	return 0;
}

/* Reads a count afresh: what a loop's exit taught the verifier about the old copy would
 * multiply the states of every loop that follows. */
#define SB_AGAIN(x) (*(volatile __u32 *)&(x))

static __always_inline __u64 *sb_copy(__u64 *to, const __u64 *from, __u32 n, __u32 max)
{
	for (__u32 i = 0; i < max; i++) {
		if (i >= n)
			break;
		to[i] = from[i];
	}
	return to;
}

/* A word count, bounded right before its use, as 5.10's verifier wants. */
static __always_inline __u32 sb_words(__u32 n)
{
	asm volatile("" : "+r"(n));
	return n & 127;
}

/* Hashes the stacks and decides which frames this record must carry. */
static __always_inline void sb_intern(struct sb_scratch *s, struct sb_seen *known, __u32 segment)
{
	s->kstack = s->ustack = 0;
	s->in_k = s->in_u = 0;
	if (SB_AGAIN(s->nk)) {
		s->kstack = sb_hash_stack(s->k, SB_AGAIN(s->nk), SB_HASH_KERNEL, SB_KFRAMES);
		if (sb_must_inline(known, s->kstack, segment))
			s->in_k = SB_AGAIN(s->nk);
	}
	if (SB_AGAIN(s->nu)) {
		s->ustack = sb_hash_stack(s->u, SB_AGAIN(s->nu), SB_HASH_USER(s->tgid), SB_UFRAMES);
		if (sb_must_inline(known, s->ustack, segment))
			s->in_u = SB_AGAIN(s->nu);
	}
}

/* Writes the record that the scratch describes into this CPU's current bank. */
static __noinline __maybe_unused int sb_emit(struct sb_scratch *s)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u64 generation = control.generation;
	__u32 bank = generation & 1, index = bank * cfg.cpus + cpu;
	struct sb_cpu *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct sb_seen *known = bpf_map_lookup_elem(&seen, &cpu);
	char *ring = bpf_map_lookup_elem(&rings, &index);
	struct sb_bank *b;
	struct sb_rec *r;
	__u64 *d, pos, end;
	__u32 len;

	if (!s || !c)
		return 0;
	if (!known || !ring) {
		c->lost[SB_LOST_NO_SCRATCH]++;
		return 0;
	}
	b = &c->bank[bank];
	sb_intern(s, known, (__u32)(b->head >> SB_SEG_SHIFT) + ((__u32)generation << 24));

	len = sizeof(*r) +
	      (sb_words(SB_AGAIN(s->np)) + sb_words(SB_AGAIN(s->in_k)) + sb_words(SB_AGAIN(s->in_u))) * 8;
	pos = SB_FETCH_ADD(&b->head, len);
	end = pos + len;
	if (pos >> SB_SEG_SHIFT != end >> SB_SEG_SHIFT) {
		__u32 i = (end >> SB_SEG_SHIFT) & ((cfg.ring_bytes >> SB_SEG_SHIFT) - 1);

		b->seg_first[i & (SB_SEG_MAX - 1)] = end;
	}
	r = (void *)(ring + (pos & (cfg.ring_bytes - 8)));
	r->len = len;
	r->kind = s->kind;
	r->flags = SB_REC_BUSY;
	r->pos = pos >> 3;
	barrier();
	r->ts_ns = bpf_ktime_get_ns();
	r->tid = s->tid;
	r->tgid = s->tgid;
	r->seq = SB_FETCH_ADD(&c->seq, 1);
	r->nk = s->in_k;
	r->nu = s->in_u;
	r->np = s->np;
	r->uinfo = s->uinfo;
	r->kstack = s->kstack;
	r->ustack = s->ustack;
	d = sb_copy((void *)(r + 1), s->payload, SB_AGAIN(s->np), SB_PAYLOAD_WORDS);
	d += sb_words(SB_AGAIN(s->np)) & 15;
	sb_copy(d, s->k, SB_AGAIN(s->in_k), SB_KFRAMES);
	d += sb_words(SB_AGAIN(s->in_k));
	sb_copy(d, s->u, SB_AGAIN(s->in_u), SB_UFRAMES);
	barrier();
	r->flags = s->flags;
	SB_COUNT(&c->recorded[s->kind & (SB_KIND_SLOTS - 1)]);
	return 0;
}

/* The system call that a task is in, as struct sb_on_cpu has it; 0 where it is in none or
 * the kernel gives no registers. */
static __always_inline __u64 sb_call_of(struct task_struct *t)
{
	struct pt_regs *regs;
	__u64 h;
	long nr;

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return 0;
	if (t->flags & PF_KTHREAD)
		return 0;
	regs = (void *)bpf_task_pt_regs(t);
	if (!regs)
		return 0;
	nr = sb_regs_nr(regs);
	if (nr < 0 || nr > 0x7ffe || !sb_regs_ip(regs))
		return 0;
	h = sb_hash_step(sb_regs_ip(regs), sb_regs_sp(regs));
	return (__u64)(nr + 1) << 48 | (h & 0xffffffffffffULL);
}

static __always_inline __u64 sb_call_of_current(void)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return 0;
	return sb_call_of(bpf_get_current_task_btf());
}

/* The name of the file that descriptor `fd` of a task is open on: its last component. Read
 * without locks: it may be another file's for a moment, never a fault. */
static __always_inline void sb_file_name(char *name, __u32 size, struct task_struct *task, __u32 fd)
{
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file = NULL;

	if (fd >= BPF_CORE_READ(fdt, max_fds))
		return;
	files = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (file)
		bpf_probe_read_kernel_str(name, size, BPF_CORE_READ(file, f_path.dentry, d_name.name));
}

/* Calls whose first argument is a descriptor worth a name. */
static __always_inline bool sb_names_file(__u32 nr)
{
#if defined(__TARGET_ARCH_x86)
	return nr <= 1 || (nr >= 17 && nr <= 20) || nr == 16 || nr == 74 || nr == 75 || nr == 217 ||
	       nr == 78; /* read write p{read,write}64 readv writev ioctl f{,data}sync getdents64 getdents */
#else
	return nr >= 61 && nr <= 70; /* getdents64 lseek read write readv writev pread64 ... */
#endif
}

static __always_inline void sb_syscall_fill(struct sb_syscall *p, __u32 nr, struct task_struct *task)
{
	struct pt_regs *regs;

	__builtin_memset(p, 0, sizeof(*p));
	p->nr = nr;
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return;
	regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	if (!regs)
		return;
	p->arg[0] = sb_regs_arg0(regs);
	p->arg[1] = sb_regs_arg1(regs);
	if (sb_names_file(nr))
		sb_file_name(p->name, sizeof(p->name), task, p->arg[0]);
}

/* Frames from a helper's return value in bytes; counts failures and cuts. */
static __always_inline __u32 sb_frames(long bytes, __u32 max, struct sb_cpu *c, __u32 cut)
{
	__u32 n;

	if (bytes <= 0)
		return 0;
	n = (__u64)bytes / 8;
	if (n >= max)
		c->lost[cut & (SB_LOST_COUNT - 1)]++;
	return n;
}

/* A record of the thread `id` (pid_tgid) with `words` of payload and no stacks yet. NULL:
 * nothing to write it in, and that is counted. */
static __always_inline struct sb_scratch *sb_begin(__u32 scratch_id, __u32 kind, __u64 id, __u32 words,
						   struct sb_cpu *c)
{
	struct sb_scratch *s = sb_scratch(scratch_id);

	if (!s) {
		c->lost[SB_LOST_NO_SCRATCH]++;
		return NULL;
	}
	s->nk = s->nu = 0;
	s->uinfo = 0;
	s->kind = kind;
	s->flags = 0;
	s->id = scratch_id;
	s->tid = id;
	s->tgid = id >> 32;
	s->np = words;
	return s;
}

/* The current thread's own stacks. */
static __always_inline void sb_take_kstack(void *ctx, struct sb_scratch *s, struct sb_cpu *c)
{
	s->nk = sb_frames(bpf_get_stack(ctx, s->k, sizeof(s->k), 0), SB_KFRAMES, c, SB_LOST_TRUNCATED_K);
}

#ifdef SB_EH_FRAME
#include "bpf/unwind.bpf.h"
#else
static __always_inline int sb_unwind_user(__u32 id)
{
	(void)id;
	return 0;
}
static __always_inline void sb_unwind_forget(__u32 tgid)
{
	(void)tgid;
}
#endif

/* The current thread's user stack into the scratch `id`. */
static __always_inline void sb_take_ustack_in(void *ctx, struct sb_scratch *s, __u32 id, struct sb_cpu *c)
{
	s->nu = 0;
	s->uinfo = 0;
	s->again = 0;
	if (cfg.user_unwind == SB_USER_UNWIND_OFF)
		return;
	if (cfg.user_unwind == SB_USER_UNWIND_EH_FRAME && sb_unwind_user(id))
		return;
	s->nu = sb_frames(bpf_get_stack(ctx, s->u, sizeof(s->u), BPF_F_USER_STACK), SB_UFRAMES, c,
			  SB_LOST_TRUNCATED_U);
	if (s->nu)
		s->uinfo = SB_UINFO(SB_BY_FP, s->nu >= SB_UFRAMES ? SB_UNWIND_DEPTH : 0);
}

static __always_inline void sb_take_ustack(void *ctx, struct sb_scratch *s, struct sb_cpu *c)
{
	sb_take_ustack_in(ctx, s, s->id, c);
}

#endif
