/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The current thread's user stack by the tables of unwind/layout.h: from the registers with which
 * it entered the kernel (bpf_task_pt_regs(), 5.15), over memory that is read without a fault.
 *
 * Who is mapped where stands in maps that the agent's mapping process fills; a process that it does
 * not know (yet) keeps its frame pointers. Included by bpf/ring.bpf.h, whose maps it needs.
 */
#ifndef SB_BPF_UNWIND_BPF_H
#define SB_BPF_UNWIND_BPF_H

#include "unwind/layout.h"

/* Of arrays of SB_UNWIND_PIECE_SLOTS slots. User space makes them: the first one, a model, when this is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SB_UNWIND_PIECES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} unwind_slots __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* SB_UNWIND_TABLES */
	__type(key, __u32);
	__type(value, struct sb_unwind_table);
} unwind_tables __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* SB_UNWIND_MAPPINGS */
	__type(key, __u32);
	__type(value, struct sb_unwind_map);
} unwind_maps __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* SB_UNWIND_PROCESSES */
	__type(key, __u32);
	__type(value, struct sb_unwind_process);
} unwind_procs __weak SEC(".maps");

/* Tables that were evicted and are missed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* SB_UNWIND_WANTED */
	__type(key, __u32);
	__type(value, struct sb_unwind_wanted);
} unwind_wanted __weak SEC(".maps");

static __always_inline struct sb_unwind_process *sb_unwind_process_of(__u32 tgid)
{
	for (__u32 i = 0; i < SB_UNWIND_PROBES; i++) {
		__u32 at = sb_unwind_process_slot(tgid, i);
		struct sb_unwind_process *p = bpf_map_lookup_elem(&unwind_procs, &at);

		if (p && p->tgid == tgid)
			return p;
	}
	return NULL;
}

/* A new image, or a new process with an old number: what is known is of another address space.
 * The agent may have been faster with the new one's. */
static __always_inline void sb_unwind_forget(__u32 tgid)
{
	struct sb_unwind_process *p = cfg.user_unwind == SB_USER_UNWIND_EH_FRAME ? sb_unwind_process_of(tgid) : NULL;

	if (p && bpf_ktime_get_ns() - p->since_ns > SB_UNWIND_EXEC_GRACE_NS)
		p->tgid = 0;
}

static inline const struct sb_unwind_map *sb_unwind_map_at(__u32 index)
{
	return bpf_map_lookup_elem(&unwind_maps, &index);
}

static inline struct sb_unwind_table *sb_unwind_table_at(__u32 index)
{
	return bpf_map_lookup_elem(&unwind_tables, &index);
}

static inline bool sb_unwind_slot_at(__u32 index, __u64 *ret)
{
	__u32 piece = index >> SB_UNWIND_PIECE_BITS, at = index & (SB_UNWIND_PIECE_SLOTS - 1);
	void *slots = bpf_map_lookup_elem(&unwind_slots, &piece);
	__u64 *slot = slots ? bpf_map_lookup_elem(slots, &at) : NULL;

	if (!slot)
		return false;
	*ret = *slot;
	return true;
}

static inline bool sb_unwind_read(__u64 *ret, __u64 address)
{
	return bpf_probe_read_user(ret, sizeof(*ret), (const void *)address) == 0;
}

static __always_inline bool sb_unwind_register(__u64 *ret, __u8 number)
{
#if defined(__TARGET_ARCH_x86)
	/* Words of struct pt_regs by number in DWARF (System V psABI, fig. 3.36), four bits each. */
	__u32 word = 0x01236789f4ed5bcaULL >> (number & 15) * 4 & 15;
	const __u64 *regs = (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	return number < 16 && number != 7 && bpf_probe_read_kernel(ret, sizeof(*ret), regs + word) == 0;
#else
	const __u64 *regs = (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	return number < 31 && bpf_probe_read_kernel(ret, sizeof(*ret), regs + (number & 31)) == 0;
#endif
}

#define SB_UNWIND_SEARCH SB_GLOBAL
__u32 sb_unwind_find_map(__u32 first, __u32 n, __u64 pc);
__u32 sb_unwind_find_rule(__u32 first, __u32 n, __u32 pc);
#include "unwind/walk.h"

static __always_inline struct sb_unwind_walk *sb_walk_of(struct sb_scratch *s)
{
	_Static_assert(sizeof(struct sb_unwind_walk) <= sizeof(s->walk), "there is room for it");
	return (void *)s->walk;
}

/* Frame i of the walk in the scratch `id`, and the step to its caller. 0: goes on. */
SB_GLOBAL int sb_unwind_frame(__u32 id, __u32 i)
{
	struct sb_scratch *s = sb_scratch(id);
	struct sb_unwind_walk *w;
	__u64 words;
	__u32 place;

	if (!s || i >= SB_UFRAMES)
		return 1;
	w = sb_walk_of(s);
	SB_UNWIND_OPAQUE(i);
	s->u[i & (SB_UFRAMES - 1)] = w->ip;
	w->n = i + 1;
	if (sb_unwind_step(w))
		return 1;
	words = (w->at - s->walk_sp) >> 3;
	if (!w->at || (w->at & 7) || words > 0xffff)
		s->again = 0;
	place = words & 0xffff;
	words = w->fp_at ? (w->at - w->fp_at) >> 3 : 0;
	if ((w->fp_at & 7) || words > 0xff)
		s->fps_far = 1;
	s->place[(i + 1) & (SB_UFRAMES - 1)] = SB_PLACE(place, words & 0xff);
	if (words)
		s->fps = sb_hash_step(s->fps, w->fp);
	return 0;
}

static __always_inline __u32 sb_unwind_version(const struct sb_unwind_process *p)
{
	return *(const volatile __u32 *)&p->sequence + *(const volatile __u32 *)&p->tables;
}

/* A table that was here and is not: the agent reads the file again. */
static __always_inline void sb_unwind_want(__u32 tgid, __u64 ip)
{
	__u32 at = (__u32)(ip >> 12) & (SB_UNWIND_WANTED - 1);
	struct sb_unwind_wanted *w = bpf_map_lookup_elem(&unwind_wanted, &at);

	if (w && !w->tgid) {
		w->ip = ip;
		barrier();
		w->tgid = tgid;
	}
}

/* The user stack of the current thread into the scratch `id`: frames, their number, how and why
 * it ended. 0: not by tables, take another way; the walk's end may say why. */
SB_GLOBAL int sb_unwind_user(__u32 id)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, sequence, version, cpu = bpf_get_smp_processor_id();
	struct sb_scratch *s = sb_scratch(id);
	struct sb_cpu *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct sb_unwind_process *p;
	struct sb_unwind_walk *w;
	struct pt_regs *regs;
	__u32 i;

	if (!s || !c)
		return 0;
	w = sb_walk_of(s);
	w->end = SB_UNWIND_GOES_ON;
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return 0;
	regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	if (!regs || !sb_regs_64(regs))
		return 0;
	p = sb_unwind_process_of(tgid);
	version = p ? sb_unwind_version(p) : 0;
	sequence = p ? *(volatile __u32 *)&p->sequence : 1;
	if (!p || (sequence & 1)) {
		w->end = SB_UNWIND_NO_MAPPING;
		c->unwind_end[SB_UNWIND_NO_MAPPING]++;
		return 0;
	}
	sb_unwind_begin(w, p->first, p->n);
	w->ip = sb_regs_ip(regs);
	w->sp = sb_regs_sp(regs);
	w->fp = sb_regs_fp(regs);
	w->lr = sb_regs_lr(regs);
	w->ip_mask = SB_IP_MASK;
	if (!w->ip)
		return 0;
	s->walk_ip = w->ip;
	s->walk_sp = w->sp;
	s->walk_fp = w->fp;
	s->version = version;
	s->again = SB_UST_AGAIN_MOST;
	s->fps = 0;
	s->fps_far = 0;
	for (i = 0; i < SB_UFRAMES; i++) {
		if (sb_unwind_frame(id, i))
			break;
	}
	if (i == SB_UFRAMES) {
		w->end = SB_UNWIND_DEPTH;
		c->lost[SB_LOST_TRUNCATED_U]++;
	}
	if (*(volatile __u32 *)&p->sequence != sequence || p->tgid != tgid) {
		/* Its mappings have changed below the walk: only the first frame is sure. */
		w->n = 1;
		w->end = SB_UNWIND_STALE;
	} else if (w->end == SB_UNWIND_STALE) {
		sb_unwind_want(tgid, w->flags & SB_WALK_EXACT ? w->ip : w->ip - 1);
	}
	c->unwind_end[w->end & 15]++;
	/* What ends a walk here will end the next one, as long as nothing but return addresses can have changed. */
	if (w->flags & SB_WALK_LOOSE || (w->flags & SB_WALK_BY_FP && s->fps_far))
		s->again = 0;
	s->by_fp = !!(w->flags & SB_WALK_BY_FP);
	if (w->end != SB_UNWIND_COMPLETE && w->end != SB_UNWIND_NO_ROWS && w->end != SB_UNWIND_UNSUPPORTED &&
	    w->end != SB_UNWIND_DEPTH)
		s->again = 0;
	/* Not all of its mappings are known yet, as of one that has just begun: no better than one that is not known at all. */
	if (w->n == 1 && (w->end == SB_UNWIND_NO_MAPPING || w->end == SB_UNWIND_STALE))
		return 0;
	s->nu = w->n;
	s->uinfo = SB_UINFO(w->n_fp && w->n_fp + 1 >= w->n ? SB_BY_FP : SB_BY_EH_FRAME, w->end);
	return 1;
}

#endif
