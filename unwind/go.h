/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table that Go's runtime finds functions by (.gopclntab): where each begins, its name, and how deep its stack is at each
 * instruction. And the functions of the runtime at which a walk by frame pointers must do something else: where a stack
 * ends, where it goes on on another one, and where a signal handler begins; found by their names,
 * there or in .symtab.
 *
 * The input is hostile, as all of an ELF file: what does not fit gives fewer functions.
 */
#ifndef SB_UNWIND_GO_H
#define SB_UNWIND_GO_H

#include "format/base.h"

/* The table from Go 1.16 on. */
struct go_table {
	const uint8_t *data;
	size_t len;
	unsigned int word; /* bytes of a number in the list of functions */
	uint64_t n;	   /* functions that are claimed, at most */
	uint64_t names, values, list; /* offsets in the table */
	uint64_t text; /* what the list counts from. 0: the table does not say, and who does must set it */
	bool counts_from_text; /* else from 0 */
	unsigned int flags;    /* where they are in what is known of a function */
};

/* Where the header of the table says it, up to Go 1.25. */
#define GO_HEADER_TEXT 24u

/* The table must outlive what is opened. False: it is none that we know. */
bool go_table_open(const uint8_t *table, size_t len, struct go_table *ret);

/* Start of the first function, of what the list has. */
uint64_t go_table_first(const struct go_table *t);

/* One function. name: at most max bytes, and a NUL only if it is there; size is not 0. False: enough. */
typedef bool (*go_function_fn)(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max);

/* In the order of the table. What does not fit is left out. */
void go_table_each(const struct go_table *t, go_function_fn take, void *ctx);

/* Code in which the stack pointer is as far from where it was at the start of the function. */
struct go_stretch {
	uint64_t addr, size; /* bytes of code, not 0 */
	uint32_t depth;	     /* bytes, a multiple of 8, at most GO_DEPTH_MAX */
	bool fp_saved;	     /* the caller's frame pointer lies right below the return address; else it is in its register */
};
/* Frames of more than that are rare: a variable of this size is on the heap where its size is not known before. */
#define GO_DEPTH_MAX (8u * UINT16_MAX)

/* False: enough. */
typedef bool (*go_stretch_fn)(void *ctx, const struct go_stretch *s);
/* Bytes of code. False: they are not there. */
typedef bool (*go_code_fn)(void *ctx, uint64_t addr, uint8_t *ret, size_t len);

/*
 * x86-64: the stretches of each function, in the order of the table. Of one that has a role below, or sets the stack pointer
 * itself, or that begins neither as Go's assembler begins a frame nor without one, none is told; nor of one whose
 * stretches make no sense. Where the table does not say who sets the stack pointer (Go 1.16), only functions without a
 * frame are told.
 */
void go_table_each_stretch(const struct go_table *t, go_code_fn code, go_stretch_fn take, void *ctx);

/*
 * asmcgocall() up to Go 1.20 leaves on the other stack where its caller waits: behind its code [from, to) the word at the
 * stack pointer + offset says how far below the end of the goroutine's stack, the next one says which goroutine, or is 0, and
 * the first one is an address (SB_CFA_GO_SWITCHED). Returns how many stretches there are, 0: it looks otherwise.
 */
struct go_switched {
	size_t from, to; /* in the code */
	uint8_t offset;
};
#define GO_SWITCHED 2u
size_t go_switched_find(const uint8_t *code, size_t len, struct go_switched ret[static GO_SWITCHED]);

enum go_role {
	GO_ENDS,	/* the outermost function of its stack, or one that never returns to it */
	GO_OTHER_STACK, /* the caller waits on another stack, where the frame pointer leads */
	GO_CALLS_C,	/* the same; up to Go 1.20 it says on its stack where its own caller waits */
	GO_ENTRY,	/* called by the kernel: has a frame only behind its first instruction */
	GO_JUMPS,	/* the same, and never has a frame */
	GO_SIGRETURN,	/* what a signal handler returns to */
};

struct go_function {
	uint64_t addr, size; /* bytes of code, not 0 */
	enum go_role role;
};

/* More than there are; one name may be two functions (ABI wrappers). */
#define GO_FUNCTIONS 24u

/* Returns their number, at most GO_FUNCTIONS. */
size_t go_functions_by_table(const struct go_table *t, struct go_function ret[static GO_FUNCTIONS]);

/* The same from Elf64_Sym and their names. */
size_t go_functions_by_symbols(const uint8_t *symbols, size_t len, const uint8_t *names,
			       size_t names_len, struct go_function ret[static GO_FUNCTIONS]);

#endif
