/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The walk over a user stack by the tables of unwind/layout.h; the same code in the kernel and in
 * user space. Whoever includes it defines first how memory is reached:
 *
 *     static const struct sb_unwind_map *sb_unwind_map_at(__u32 index);
 *     static struct sb_unwind_table *sb_unwind_table_at(__u32 index);
 *     static bool sb_unwind_slot_at(__u32 index, __u64 *ret);
 *     static bool sb_unwind_read(__u64 *ret, __u64 address);      one word of the stack
 *     static bool sb_unwind_register(__u64 *ret, __u8 dwarf_number);   of the innermost frame
 *
 * NULL or false: there is none, or it cannot be read. Tables and stack may hold anything.
 *
 * For the verifier: the loops have constant bounds and one exit condition on masked numbers; the
 * two searches are functions of numbers only and can be global ones (SB_UNWIND_SEARCH), verified
 * once and not at every call; sb_unwind_step() keeps its state in memory, so that a program can
 * call it in a bounded loop, through bpf_loop() or across tail calls.
 */
#ifndef SB_UNWIND_WALK_H
#define SB_UNWIND_WALK_H

#include "unwind/layout.h"

#ifndef SB_UNWIND_SEARCH
#define SB_UNWIND_SEARCH static inline
#endif
#ifndef SB_UNWIND_INLINE
#define SB_UNWIND_INLINE static inline __attribute__((always_inline))
#endif
/* Keeps the compiler from knowing more about a number than the verifier will. */
#define SB_UNWIND_OPAQUE(v) __asm__ volatile("" : "+r"(v))

/* A frame pointer further away than this is a number that happens to be in that register. */
#define SB_UNWIND_FP_REACH (1u << 20)

enum sb_unwind_walk_flags {
	SB_WALK_EXACT = 1 << 0,	  /* ip is where the function stands, not where a call returns to */
	SB_WALK_FP_LOST = 1 << 1, /* fp is not this frame's */
	SB_WALK_LR = 1 << 2,	  /* lr is this frame's */
	SB_WALK_INNERMOST = 1 << 3, /* all registers are known */
	SB_WALK_FP_READ = 1 << 4,   /* fp is not the innermost frame's any more */
	SB_WALK_LOOSE = 1 << 5,	    /* where a frame lies depends on more than the registers at its beginning and on rules */
	SB_WALK_BY_FP = 1 << 6,	    /* or on an fp that was read */
	SB_WALK_IN_TABLE = 1 << 7,  /* it stands in a file that has a table */
};

struct sb_unwind_walk {
	__u64 ip, sp, fp, lr;
	__u64 ip_mask;	    /* ~0, arm64: the bits of an address without its signature */
	__u32 maps, n_maps; /* mappings of the process */
	__u16 n;	    /* frames found */
	__u16 n_fp;	    /* of these, callers found by the frame pointer alone */
	__u8 end;	    /* enum sb_unwind_end */
	__u8 flags;	    /* enum sb_unwind_walk_flags */
	__u16 pad;
	__u64 at; /* where ip was read; 0: in a register */
	__u64 fp_at; /* where fp was read in the same step; 0: it was not */
};

/* Index of the last mapping that starts at or below pc, plus one; 0: none. */
SB_UNWIND_SEARCH __u32 sb_unwind_find_map(__u32 first, __u32 n, __u64 pc)
{
	__u32 lo = first & (SB_UNWIND_MAPS_MAX - 1), hi = (lo + n) & (2 * SB_UNWIND_MAPS_MAX - 1),
	      least = lo;

	for (int i = 0; i <= SB_UNWIND_MAP_BITS; i++) {
		const struct sb_unwind_map *m;
		__u32 mid;

		if (lo >= hi)
			break;
		mid = ((lo + hi) >> 1) & (SB_UNWIND_MAPS_MAX - 1);
		SB_UNWIND_OPAQUE(mid);
		m = sb_unwind_map_at(mid);
		if (!m)
			return 0;
		if (m->start <= pc)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo == least ? 0 : lo;
}

/* Rule of the row that holds pc, plus one; 0: pc is before the first row. */
SB_UNWIND_SEARCH __u32 sb_unwind_find_rule(__u32 first, __u32 n, __u32 pc)
{
	__u32 lo = first & (SB_UNWIND_SLOTS_MAX - 1), hi = (lo + n) & (2 * SB_UNWIND_SLOTS_MAX - 1);
	__u32 found = 0;

	for (int i = 0; i <= SB_UNWIND_SLOT_BITS; i++) {
		__u64 row = 0;
		__u32 mid;

		if (lo >= hi)
			break;
		mid = ((lo + hi) >> 1) & (SB_UNWIND_SLOTS_MAX - 1);
		SB_UNWIND_OPAQUE(mid);
		if (!sb_unwind_slot_at(mid, &row))
			return 0;
		if ((__u32)row <= pc) {
			lo = mid + 1;
			found = (__u32)(row >> 32) + 1;
		} else {
			hi = mid;
		}
	}
	return found;
}

SB_UNWIND_INLINE int sb_unwind_stop(struct sb_unwind_walk *w, __u8 end)
{
	w->end = end;
	return 1;
}

SB_UNWIND_INLINE const struct sb_unwind_map *sb_unwind_map_of(const struct sb_unwind_walk *w,
							      __u64 pc)
{
	__u32 at = sb_unwind_find_map(w->maps, w->n_maps, pc);
	const struct sb_unwind_map *m = at ? sb_unwind_map_at(at - 1) : 0;

	return m && pc >= m->start && pc < m->end ? m : 0;
}

/* 0, or the reason why there is no rule. */
SB_UNWIND_INLINE __u8 sb_unwind_rule_of(struct sb_unwind_walk *w, __u64 pc,
					struct sb_unwind_rule *ret)
{
	const struct sb_unwind_map *m = sb_unwind_map_of(w, pc);
	struct sb_unwind_table *t;
	__u32 at, rule, generation;
	union {
		__u64 slot[SB_UNWIND_RULE_SLOTS];
		struct sb_unwind_rule rule;
	} u = {};
	__u64 offset;

	if (!m)
		return SB_UNWIND_NO_MAPPING;
	if (m->table == SB_UNWIND_NO_TABLE)
		return SB_UNWIND_NO_ROWS;
	w->flags |= SB_WALK_IN_TABLE;
	offset = pc - m->start + m->offset;
	generation = m->generation;
	t = sb_unwind_table_at(m->table);
	if (!t || t->generation != generation)
		return SB_UNWIND_STALE;
	if (!t->used)
		t->used = 1;
	if (offset < t->base || offset - t->base > 0xffffffffu)
		return SB_UNWIND_NO_ROWS;
	rule = sb_unwind_find_rule(t->rows, t->n_rows, (__u32)(offset - t->base));
	if (rule && rule <= t->n_rules) {
		at = t->rules + (rule - 1) * SB_UNWIND_RULE_SLOTS;
		if (!sb_unwind_slot_at(at, &u.slot[0]) || !sb_unwind_slot_at(at + 1, &u.slot[1]))
			rule = 0;
	}
	if (*(const volatile __u32 *)&t->generation != generation)
		return SB_UNWIND_STALE;
	if (!rule || u.rule.cfa == SB_CFA_NONE)
		return SB_UNWIND_NO_ROWS;
	*ret = u.rule;
	return 0;
}

/* Whether the eight bytes of x86-64's code before an address, the first one lowest, end with a call: e8 and four bytes, or ff with
 * 2 in the middle of the second of its two to seven. On arm64 x29 is a frame pointer wherever it is used at all. */
SB_UNWIND_INLINE bool sb_unwind_ends_with_call(__u64 code)
{
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
	(void)code;
	return true;
#else
	return (code >> 24 & 0xff) == 0xe8 || (code >> 48 & 0x38ff) == 0x10ff || (code >> 40 & 0x38ff) == 0x10ff ||
	       (code >> 32 & 0x38ff) == 0x10ff || (code >> 16 & 0x38ff) == 0x10ff || (code >> 8 & 0x38ff) == 0x10ff;
#endif
}

/*
 * Whether a frame pointer that nothing vouches for has led to what can be a return address: who stands in code without a row has
 * that register for anything, as all of musl, and it leads into a buffer or to what an earlier call left. In code that was made at
 * run time a caller may have been pushed without a call, as HotSpot's interpreter does it; a trampoline of signals has none either,
 * nor the start of a goroutine.
 */
SB_UNWIND_INLINE bool sb_unwind_returns_to(struct sb_unwind_walk *w, __u64 ip)
{
	const struct sb_unwind_map *m;
	struct sb_unwind_rule rule = {};
	__u64 code = 0;
	bool read = sb_unwind_read(&code, ip - 8);

	if (read && sb_unwind_ends_with_call(code))
		return true;
	m = sb_unwind_map_of(w, ip - 1);
	if (!m || !read || m->table == SB_UNWIND_NO_TABLE)
		return m;
	return !sb_unwind_rule_of(w, ip - 1, &rule) && ((rule.flags & SB_RULE_SIGNAL) || rule.where >> 4 == SB_AT_END);
}

/*
 * The caller by the frame pointer: fp points to the caller's fp, and behind it lies the return
 * address, on x86-64 as on arm64. To another stack only where a rule says that the caller waits
 * there (other_stack), and to code: an idle thread of Go stands in the scheduler with the frame
 * pointer of what it ran last, which is parked, runs in another thread by now, or is gone.
 */
SB_UNWIND_INLINE int sb_unwind_step_fp(struct sb_unwind_walk *w, bool other_stack)
{
	__u64 fp = w->fp, up = 0, ip = 0;
	/* Where no call is waited for the register may point to zeros, which say nothing. */
	__u8 end = w->flags & SB_WALK_EXACT ? SB_UNWIND_NO_ROWS : SB_UNWIND_COMPLETE;

	if (w->flags & SB_WALK_FP_READ)
		w->flags |= SB_WALK_BY_FP;
	/* What a start routine leaves there; an interrupted function may have it for anything. */
	if (!fp && !(w->flags & (SB_WALK_FP_LOST | SB_WALK_EXACT)))
		return sb_unwind_stop(w, SB_UNWIND_COMPLETE);
	if ((w->flags & SB_WALK_FP_LOST) || (fp & 7) ||
	    (!other_stack && (fp < w->sp || fp - w->sp > SB_UNWIND_FP_REACH)))
		return sb_unwind_stop(w, SB_UNWIND_NO_ROWS);
	if (!sb_unwind_read(&up, fp) || !sb_unwind_read(&ip, fp + 8))
		return sb_unwind_stop(w, SB_UNWIND_NOT_RESIDENT);
	ip &= w->ip_mask;
	if (other_stack && !sb_unwind_map_of(w, ip - 1))
		return sb_unwind_stop(w, SB_UNWIND_NO_ROWS);
	if (!other_stack && ip && (w->flags & (SB_WALK_EXACT | SB_WALK_IN_TABLE)) && !sb_unwind_returns_to(w, ip)) {
		w->flags |= SB_WALK_LOOSE;
		return sb_unwind_stop(w, SB_UNWIND_NO_ROWS);
	}
	w->sp = fp + 16;
	w->fp = up;
	w->ip = ip;
	w->at = fp + 8;
	w->fp_at = fp;
	w->flags = SB_WALK_FP_READ | (w->flags & (SB_WALK_LOOSE | SB_WALK_BY_FP));
	w->n_fp++;
	return w->ip ? 0 : sb_unwind_stop(w, end);
}

/* Where Go waits while C runs on the thread's stack: an address, or how far below the end of the stack of a goroutine, whose second
 * word that is. The stack may have been moved meanwhile. False: it could not be read. */
SB_UNWIND_INLINE bool sb_unwind_go_switched(__u64 at, __u64 *ret)
{
	__u64 value = 0, goroutine = 0, end = 0;

	if (!sb_unwind_read(&value, at) || !sb_unwind_read(&goroutine, at + 8) ||
	    (goroutine && !sb_unwind_read(&end, goroutine + 8)))
		return false;
	*ret = goroutine ? end - value : value;
	return true;
}

/* 0, or the reason why there is none. */
SB_UNWIND_INLINE __u8 sb_unwind_cfa_of(const struct sb_unwind_walk *w,
				       const struct sb_unwind_rule *r, __u64 *ret)
{
	__u8 kind = r->cfa;
	__u64 base = w->sp;

	if (kind == SB_CFA_PLT) {
		*ret = base + 8 + ((w->ip & 15) >= (__u32)r->cfa_off ? 8 : 0);
		return 0;
	}
	if (kind == SB_CFA_FP || kind == SB_CFA_DEREF_FP) {
		if (w->flags & SB_WALK_FP_LOST)
			return SB_UNWIND_UNSUPPORTED;
		base = w->fp;
	} else if (kind == SB_CFA_REGISTER) {
		if (!(w->flags & SB_WALK_INNERMOST) || !sb_unwind_register(&base, (__u8)r->post))
			return SB_UNWIND_UNSUPPORTED;
	} else if (kind != SB_CFA_SP && kind != SB_CFA_DEREF_SP && kind != SB_CFA_GO_SWITCHED) {
		return SB_UNWIND_UNSUPPORTED;
	}
	base += (__u64)(__s64)r->cfa_off;
	if (kind == SB_CFA_DEREF_SP || kind == SB_CFA_DEREF_FP) {
		__u64 value = 0;

		if (!sb_unwind_read(&value, base))
			return SB_UNWIND_NOT_RESIDENT;
		base = value + (__u64)(__s64)r->post;
	} else if (kind == SB_CFA_GO_SWITCHED) {
		if (!sb_unwind_go_switched(base, &base))
			return SB_UNWIND_NOT_RESIDENT;
		base += (__u64)(__s64)r->post;
	}
	*ret = base;
	return 0;
}

/* The address that a register was saved at; 0 when it was not. */
SB_UNWIND_INLINE __u64 sb_unwind_slot_of(const struct sb_unwind_walk *w, __u8 where, __s32 off,
					 __u64 cfa)
{
	__u64 base = cfa;

	if (where == SB_AT_SP)
		base = w->sp;
	else if (where == SB_AT_FP)
		base = w->flags & SB_WALK_FP_LOST ? 0 : w->fp;
	else if (where != SB_AT_CFA)
		base = 0;
	return base ? base + (__u64)(__s64)off : 0;
}

SB_UNWIND_INLINE int sb_unwind_apply(struct sb_unwind_walk *w, const struct sb_unwind_rule *r)
{
	__u8 fp_where = r->where & 15, ra_where = r->where >> 4, signal = r->flags & SB_RULE_SIGNAL,
	     lost, why;
	__u8 kept = w->flags & (SB_WALK_FP_READ | SB_WALK_LOOSE | SB_WALK_BY_FP);
	__u64 cfa = 0, at = 0, ip = 0, fp = w->fp, lr = 0;

	if (ra_where == SB_AT_END)
		return sb_unwind_stop(w, SB_UNWIND_COMPLETE);
	why = sb_unwind_cfa_of(w, r, &cfa);
	if (why)
		return sb_unwind_stop(w, why);
	if (r->cfa == SB_CFA_DEREF_SP || r->cfa == SB_CFA_DEREF_FP || r->cfa == SB_CFA_REGISTER || r->cfa == SB_CFA_GO_SWITCHED)
		kept |= SB_WALK_LOOSE;
	if ((w->flags & SB_WALK_FP_READ) && (r->cfa == SB_CFA_FP || ra_where == SB_AT_FP || fp_where == SB_AT_FP))
		kept |= SB_WALK_BY_FP;
	/* Only a leaf of arm64 has no frame at all. */
	if (!signal && r->cfa != SB_CFA_GO_SWITCHED && (ra_where == SB_AT_SAME ? cfa < w->sp : cfa <= w->sp))
		return sb_unwind_stop(w, SB_UNWIND_BAD_STACK);

	if (ra_where == SB_AT_SAME) {
		if (!(w->flags & SB_WALK_LR))
			return sb_unwind_stop(w, SB_UNWIND_BAD_STACK);
		ip = w->lr;
	} else {
		at = sb_unwind_slot_of(w, ra_where, r->ra_off, cfa);
		if (!at)
			return sb_unwind_stop(w, SB_UNWIND_UNSUPPORTED);
		if (!sb_unwind_read(&ip, at) || (signal && !sb_unwind_read(&lr, at - 16)))
			return sb_unwind_stop(w, SB_UNWIND_NOT_RESIDENT);
	}

	w->at = at;
	lost = fp_where == SB_AT_SAME ? w->flags & SB_WALK_FP_LOST : SB_WALK_FP_LOST;
	at = sb_unwind_slot_of(w, fp_where, r->fp_off, cfa);
	if (at) {
		if (!sb_unwind_read(&fp, at))
			return sb_unwind_stop(w, SB_UNWIND_NOT_RESIDENT);
		lost = 0;
		kept |= SB_WALK_FP_READ;
	}
	w->fp_at = at;
	w->ip = ip & w->ip_mask;
	w->sp = cfa;
	w->fp = fp;
	w->lr = lr;
	w->flags = kept | lost | (signal ? SB_WALK_EXACT | SB_WALK_LR : 0);
	return w->ip ? 0 : sb_unwind_stop(w, SB_UNWIND_COMPLETE);
}

/* To the caller of the frame that w stands at. 0: w stands there now; else w->end says why not. */
SB_UNWIND_INLINE int sb_unwind_step(struct sb_unwind_walk *w)
{
	/* A call may be the last instruction of a function, and what it returns to another one. */
	__u64 pc = w->flags & SB_WALK_EXACT ? w->ip : w->ip - 1;
	struct sb_unwind_rule rule = {};
	__u8 why = sb_unwind_rule_of(w, pc, &rule);
	bool other_stack = rule.cfa == SB_CFA_OTHER_STACK;

	if (why == SB_UNWIND_NO_ROWS || other_stack)
		return sb_unwind_step_fp(w, other_stack);
	if (why)
		return sb_unwind_stop(w, why);
	return sb_unwind_apply(w, &rule);
}

/* Begins at the registers of a thread that did not call but was stopped. */
SB_UNWIND_INLINE void sb_unwind_begin(struct sb_unwind_walk *w, __u32 maps, __u32 n_maps)
{
	w->maps = maps;
	w->n_maps = n_maps;
	w->n = w->n_fp = 0;
	w->end = SB_UNWIND_GOES_ON;
	w->flags = SB_WALK_EXACT | SB_WALK_LR | SB_WALK_INNERMOST;
	w->pad = 0;
}

/* Fills frames, innermost first, at most max; their number is w->n and the reason w->end. */
SB_UNWIND_INLINE void sb_unwind_walk(struct sb_unwind_walk *w, __u64 *frames, __u16 max)
{
	for (__u16 i = 0; i < max; i++) {
		frames[i] = w->ip;
		w->n = i + 1;
		if (sb_unwind_step(w))
			return;
	}
	w->end = SB_UNWIND_DEPTH;
}

#endif
