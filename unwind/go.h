/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Functions of Go's runtime at which a walk by frame pointers must do something else: where a stack
 * ends, where it goes on on another one, and where a signal handler begins. Found by their names,
 * in the table that the runtime itself finds functions by (.gopclntab), or in .symtab.
 *
 * The input is hostile, as all of an ELF file: what does not fit gives fewer functions.
 */
#ifndef SB_UNWIND_GO_H
#define SB_UNWIND_GO_H

#include "format/base.h"

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

/* The table from Go 1.16 on. Returns their number, at most GO_FUNCTIONS. 0: none, or a table that
 * does not say where the code lies, as that of a file that the dynamic linker relocates. */
size_t go_functions_by_table(const uint8_t *table, size_t len,
			     struct go_function ret[static GO_FUNCTIONS]);

/* The same from Elf64_Sym and their names. */
size_t go_functions_by_symbols(const uint8_t *symbols, size_t len, const uint8_t *names,
			       size_t names_len, struct go_function ret[static GO_FUNCTIONS]);

#endif
