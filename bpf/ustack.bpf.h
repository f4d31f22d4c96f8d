/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The user stack of a thread that leaves the CPU, kept by its tid for the record of the block and for the stackshot: the kernel
 * refuses another task's user stack. Most threads wait where they have waited before, and to look whether a walk would
 * find the same costs a few reads instead of the searches of the walk.
 */
#ifndef SB_BPF_USTACK_BPF_H
#define SB_BPF_USTACK_BPF_H

#include "bpf/kstack.bpf.h"

#ifdef SB_EH_FRAME
/* The addresses of the saved stack, and the frame pointers where others were found by them, stand where they were read then.
 * block: the words above the stack pointer have been read in one go. */
static __always_inline bool sb_ustack_same(const struct sb_ustack *u, const struct sb_kstack_words *w, bool block)
{
	__u64 fps = 0;
	__u32 n = u->n;

	for (__u32 i = 1; i < SB_UFRAMES; i++) {
		__u32 place = u->place[i], slot = SB_PLACE_SLOT(place), below = SB_PLACE_FP(place);
		__u64 ip = 0, fp = 0;

		if (i >= n)
			break;
		if (block) {
			ip = w->word[slot & (SB_KSTACK_WORDS - 1)];
			fp = w->word[(slot - below) & (SB_KSTACK_WORDS - 1)];
		} else if (!sb_unwind_read(&ip, u->sp + 8ULL * slot) ||
			   (below && !sb_unwind_read(&fp, u->sp + 8ULL * (slot - below)))) {
			return false;
		}
		if ((ip & SB_IP_MASK) != u->addr[i])
			return false;
		if (below)
			fps = sb_hash_step(fps, fp);
	}
	return fps == u->fps;
}

/*
 * The current thread's user stack is the one that was saved when it left the CPU before: it has entered the kernel with the
 * same registers, no mapping and no table is another one, and what the walk has read from that stack is as it was.
 */
SB_GLOBAL int sb_ustack_again(__u32 tid)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_ustack *u = sb_ustack_of(tid);
	struct sb_unwind_process *p;
	struct pt_regs *regs;
	__u32 last;

	if (!w || !u || u->tid != tid || !u->again || !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return 0;
	regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	if (!regs || sb_regs_ip(regs) != u->ip || u->addr[0] != u->ip || sb_regs_sp(regs) != u->sp || sb_regs_fp(regs) != u->fp)
		return 0;
	p = sb_unwind_process_of(bpf_get_current_pid_tgid() >> 32);
	if (!p || sb_unwind_version(p) != u->version)
		return 0;
	last = u->last;
	if (last >= SB_UST_BLOCK)
		return sb_ustack_same(u, w, false);
	asm volatile("" : "+r"(last));
	if (bpf_probe_read_user(w->word, (last & (SB_UST_BLOCK - 1)) * 8 + 8, (const void *)u->sp))
		return 0;
	return sb_ustack_same(u, w, true);
}
#else
static __always_inline int sb_ustack_again(__u32 tid)
{
	(void)tid;
	return 0;
}
#endif

#ifdef SB_CHECK_AGAIN
/* For tests: what was found is what a walk gives. */
static __always_inline void check_ustack(void *ctx, struct sb_scratch *s, const struct sb_ustack *u, struct sb_cpu *c)
{
	sb_take_ustack_in(ctx, s, SB_SCRATCH_SWITCH, c);
	if (!s->again || s->version != u->version)
		return; /* a walk that would not be kept, or of other mappings */
	if (s->nu != u->n)
		c->ust_wrong++;
	for (__u32 i = 0; i < SB_UFRAMES; i++) {
		if (i >= u->n)
			break;
		if (s->u[i] != u->addr[i]) {
			c->ust_wrong++;
			break;
		}
	}
}
#endif

/* Walked in the scratch that the block's own record uses when it is over. False: there is no place for it. */
static __always_inline bool sb_ustack_save(void *ctx, __u32 tid, __u64 since, struct sb_cpu *c)
{
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_ustack *u = sb_ustack_of(tid);
	__u32 n, last = 0;

	if (!u || !s)
		return false;
	c->ust_captured++;
	if (cfg.user_unwind == SB_USER_UNWIND_EH_FRAME && sb_ustack_again(tid)) {
		u->since = since;
		u->again--;
		c->ust_again++;
#ifdef SB_CHECK_AGAIN
		check_ustack(ctx, s, u, c);
#endif
		return true;
	}
	sb_take_ustack_in(ctx, s, SB_SCRATCH_SWITCH, c);
	n = SB_AGAIN(s->nu);
	u->again = 0;
	for (__u32 i = 0; i < SB_UFRAMES; i++) {
		__u32 place = s->by_fp ? s->place[i] : SB_PLACE_SLOT(s->place[i]);

		if (i >= n)
			break;
		u->addr[i] = s->u[i];
		u->place[i] = place;
		if (i && SB_PLACE_SLOT(place) > last)
			last = SB_PLACE_SLOT(place);
	}
	u->last = last;
	u->fps = s->by_fp ? s->fps : 0;
	u->n = n;
	u->info = s->uinfo;
	u->tid = tid;
	u->since = since;
	u->ip = s->walk_ip;
	u->sp = s->walk_sp;
	u->fp = s->walk_fp;
	u->version = s->version;
	u->again = s->again;
	return true;
}

/* The user stack saved at the switch-out of this very block, into the scratch of its record. */
static __always_inline void sb_ustack_copy(struct sb_scratch *s, __u32 tid, __u64 since, struct sb_cpu *c)
{
	struct sb_ustack *u = sb_ustack_of(tid);
	__u32 n;

	if (!u || u->tid != tid || u->since != since) {
		c->lost[SB_LOST_NO_USTACK]++;
		return;
	}
	n = u->n;
	if (n > SB_UFRAMES)
		n = SB_UFRAMES;
	for (__u32 i = 0; i < SB_UFRAMES; i++) {
		if (i >= n)
			break;
		s->u[i] = u->addr[i];
	}
	s->nu = n;
	s->uinfo = u->info;
}

#endif
