/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table that Go's runtime finds functions by (.gopclntab): where each begins, and its name. And
 * the functions of the runtime at which a walk by frame pointers must do something else: where a stack
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

/* Those that leave the stack pointer where it is: neither a frame nor a role below. */
void go_table_each_frameless(const struct go_table *t, go_function_fn take, void *ctx);

enum go_role {
	GO_ENDS,	/* the outermost function of its stack, or one that never returns to it */
	GO_OTHER_STACK, /* the caller waits on another stack, where the frame pointer leads */
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
