/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reader of call frame information as it stands in .eh_frame (DWARF 5 section 6.4, Linux Standard
 * Base Core 5.0 section 10.6, AArch64 DWARF ABI for its vendor instruction).
 *
 * The input is hostile: an ELF file of any process is read with the recorder's rights. Nothing is
 * believed that is not checked, a bad FDE costs that FDE and nothing else, and time and memory
 * have limits that do not depend on what the input claims. Every loss is counted by its reason.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef SB_UNWIND_CFI_H
#define SB_UNWIND_CFI_H

#include "format/base.h"
#include "unwind/layout.h"

enum cfi_machine {
	CFI_X86_64,
	CFI_AARCH64,
};

/* Why a CIE or FDE was dropped. */
enum cfi_bad {
	CFI_BAD_LENGTH,	     /* a record ends behind the section, or is too short */
	CFI_BAD_CIE,	     /* version, augmentation or register that we do not know */
	CFI_BAD_CIE_POINTER, /* an FDE whose CIE is none, or was bad */
	CFI_BAD_ENCODING,    /* an address in a form that has no meaning here */
	CFI_BAD_RANGE,	     /* an FDE for no code: empty, or outside the executable segments */
	CFI_BAD_INSTRUCTION, /* unknown, cut off, or out of order */
	CFI_BAD_NESTING,     /* remembers too much, or restores what was not remembered */
	CFI_BAD_OVERLAP,     /* an FDE over code that another one has described */
	CFI_BAD_LIMIT,	     /* over a limit of time, rows or records */
	CFI_BAD_COUNT,
};
const char *cfi_bad_name(enum cfi_bad why);

struct cfi_counts {
	uint64_t cies, fdes, rows, instructions;
	uint64_t unsupported; /* rows that a debugger could follow and we do not */
	uint64_t bad[CFI_BAD_COUNT];
};

struct cfi_limits {
	uint64_t max_instructions; /* executed, of the whole section */
	uint32_t max_cies, max_fdes;
};

/* Room for the largest programs: a browser has 0.6 M functions and 15 M instructions. */
#define CFI_LIMITS_DEFAULT                                                                         \
	{                                                                                          \
		.max_instructions = 100000000, .max_cies = 200000, .max_fdes = 1000000             \
	}

struct cfi_section {
	const uint8_t *data; /* must outlive the reader */
	size_t len;
	uint64_t addr; /* of data[0] in the process, before it is moved */
	enum cfi_machine machine;
	bool to_its_end; /* len is the section's; else a terminator ends it before */
};

struct cfi;

/* Finds the CIEs and FDEs. The FDEs are then sorted by address. counts is added to. */
int cfi_open(const struct cfi_section *section, const struct cfi_limits *limits,
	     struct cfi_counts *counts, struct cfi **ret);
void cfi_free(struct cfi *cfi);
static inline void cfi_freep(struct cfi **cfi)
{
	cfi_free(*cfi);
}

size_t cfi_functions(const struct cfi *cfi);
/* Start and end (exclusive) of the function that an FDE describes; start < end. */
void cfi_function(const struct cfi *cfi, size_t i, uint64_t *ret_start, uint64_t *ret_end);

/* One row: from addr on the rule holds. A negative errno ends the FDE with it. */
typedef int (*cfi_row_fn)(void *ctx, uint64_t addr, const struct sb_unwind_rule *rule);

/* Executes an FDE: rows with ascending addresses, the first one at its start. -EBADMSG: it is
 * bad, and counted; rows that were told must be taken back. */
int cfi_run(struct cfi *cfi, size_t i, cfi_row_fn row, void *ctx, struct cfi_counts *counts);

#endif
