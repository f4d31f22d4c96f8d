/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Layout of the unwind tables, shared by user space, which builds them from .eh_frame, and the
 * programs that walk user stacks with them. Both compilers check the sizes.
 *
 * Everything of all files lies in one arena of 8-byte slots. A table is a range of it:
 *
 *     rules: n_rules times two slots (struct sb_unwind_rule), each rule of the file once
 *     rows:  n_rows slots (struct sb_unwind_row), ascending pc
 *
 * A row holds from its pc to that of the next row. Where no function is, a row says so with a
 * rule of SB_CFA_NONE; the last row of a table is always such an end. A pc is a file offset
 * minus the table's base: what a mapping gives without knowing the file's addresses.
 *
 * A table that is taken away or replaced gets another generation. Whoever has copied a rule looks
 * at the generation again and discards the rule when it is not the one the mapping was made for.
 */
#ifndef SB_UNWIND_LAYOUT_H
#define SB_UNWIND_LAYOUT_H

#include <linux/types.h>

#define SB_UNWIND_SLOT_BITS 22 /* 32 MiB of slots at most, and as many steps of a search */
#define SB_UNWIND_SLOTS_MAX (1u << SB_UNWIND_SLOT_BITS)
#define SB_UNWIND_MAP_BITS 20 /* mappings of all processes */
#define SB_UNWIND_MAPS_MAX (1u << SB_UNWIND_MAP_BITS)
#define SB_UNWIND_RULE_SLOTS 2u
/* The arena comes in pieces of 1 MiB, which are there from when they are first needed. */
#define SB_UNWIND_PIECE_BITS 17
#define SB_UNWIND_PIECE_SLOTS (1u << SB_UNWIND_PIECE_BITS)
#define SB_UNWIND_PIECES (1u << (SB_UNWIND_SLOT_BITS - SB_UNWIND_PIECE_BITS))

struct sb_unwind_row {
	__u32 pc;
	__u32 rule; /* index into the rules of the table */
};

/* Canonical frame address: the value of the stack pointer in the caller. */
enum sb_unwind_cfa {
	SB_CFA_NONE = 0,     /* no function here */
	SB_CFA_SP = 1,	     /* sp + cfa_off */
	SB_CFA_FP = 2,	     /* fp + cfa_off */
	SB_CFA_DEREF_SP = 3, /* *(sp + cfa_off) + post */
	SB_CFA_DEREF_FP = 4, /* *(fp + cfa_off) + post */
	SB_CFA_PLT = 5, /* x86-64 lazy PLT: sp + 8, and 8 more from byte cfa_off of its 16 on */
	SB_CFA_UNSUPPORTED = 6, /* another expression, out of range */
	SB_CFA_REGISTER = 7, /* register number post of DWARF + cfa_off; innermost frame only */
	SB_CFA_OTHER_STACK = 8, /* the caller by the frame pointer alone, whichever stack it is on */
	/* v + post, on another stack: v is *(sp + cfa_off) or, where the word g behind it is not 0, *(g + 8) - *(sp + cfa_off) */
	SB_CFA_GO_SWITCHED = 9,
};

/* Where the caller's frame pointer (rbp, x29) and the return address are. */
enum sb_unwind_where {
	SB_AT_SAME = 0, /* not saved: still in its register (ra: x30) */
	SB_AT_CFA = 1,	/* *(cfa + off) */
	SB_AT_SP = 2,	/* *(sp + off) */
	SB_AT_FP = 3,	/* *(fp + off) */
	SB_AT_LOST = 4, /* fp: no longer known; ra: told in a way that we do not follow */
	SB_AT_END = 5,	/* ra only: undefined, there is no caller */
};

enum sb_unwind_rule_flags {
	/* The caller was interrupted and has not called: its pc is exact, its x30 is the word 16
	 * bytes before its pc (arm64), its stack may be another one. */
	SB_RULE_SIGNAL = 1 << 0,
};

struct sb_unwind_rule {
	__u8 cfa;      /* enum sb_unwind_cfa */
	__u8 where;    /* enum sb_unwind_where: fp in the low, ra in the high four bits */
	__u8 flags;    /* enum sb_unwind_rule_flags */
	__s8 post;     /* added to what was dereferenced, or a register */
	__s32 cfa_off; /* bytes, as the following */
	__s32 fp_off;
	__s32 ra_off;
};

/* One table. The arena's user writes these, odd generations while it does so. */
struct sb_unwind_table {
	__u64 base;  /* file offset of pc 0 */
	__u32 rules; /* first slot */
	__u32 n_rules;
	__u32 rows; /* first slot */
	__u32 n_rows;
	__u32 generation;
	__u32 used; /* set by walkers, cleared by the one who evicts */
};

/* One executable mapping. Those of a process are a range of an array, sorted by start. */
struct sb_unwind_map {
	__u64 start, end;
	__u64 offset;	  /* of the file at start */
	__u32 table;	  /* index, or SB_UNWIND_NO_TABLE: frame pointers only */
	__u32 generation; /* of that table */
};
#define SB_UNWIND_NO_TABLE 0xffffffffu

/* Why a walk ended. */
enum sb_unwind_end {
	SB_UNWIND_GOES_ON = 0,
	SB_UNWIND_COMPLETE = 1,	    /* at a function that has no caller */
	SB_UNWIND_NO_MAPPING = 2,   /* pc outside every executable mapping */
	SB_UNWIND_NO_ROWS = 3,	    /* no rows for this pc, and no usable frame pointer */
	SB_UNWIND_UNSUPPORTED = 4,  /* a rule that only a debugger could follow */
	SB_UNWIND_NOT_RESIDENT = 5, /* the stack could not be read there */
	SB_UNWIND_DEPTH = 6,	    /* more frames than there is room for */
	SB_UNWIND_BAD_STACK = 7, /* the stack would grow the wrong way: rules or stack are wrong */
	SB_UNWIND_STALE = 8,	 /* the table was evicted or replaced meanwhile */
	SB_UNWIND_END_COUNT = 9,
};

_Static_assert(sizeof(struct sb_unwind_row) == 8, "a row is one slot");
_Static_assert(sizeof(struct sb_unwind_rule) == 8 * SB_UNWIND_RULE_SLOTS, "a rule is two slots");
_Static_assert(sizeof(struct sb_unwind_table) == 32, "shared layout");
_Static_assert(sizeof(struct sb_unwind_map) == 32, "shared layout");

#endif
