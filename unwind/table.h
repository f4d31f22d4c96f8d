/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From call frame information to the rows of unwind/layout.h: one file's table, and the start of
 * the function that an offset belongs to, for frames without a name. Offsets are file offsets.
 */
#ifndef SB_UNWIND_TABLE_H
#define SB_UNWIND_TABLE_H

#include "unwind/image.h"

struct unwind_limits {
	struct cfi_limits cfi;
	uint32_t max_rows;
};
/* libLLVM has 0.8 M rows, a browser 3 M. */
#define UNWIND_LIMITS_DEFAULT                                                                      \
	{                                                                                          \
		.cfi = CFI_LIMITS_DEFAULT, .max_rows = 3000000                                     \
	}

/* A table as it will lie in the arena: rules, then rows. */
struct unwind_rows {
	uint64_t *slots;
	uint64_t base;
	uint32_t n_rules, n_rows;
};

/* Builds the rows of an image. One without .eh_frame gives none: n_rows is 0 then. What is bad
 * or too much is left out and counted. 0 or -ENOMEM. */
int unwind_rows_build(const struct unwind_image *image, const struct unwind_limits *limits,
		      struct cfi_counts *counts, struct unwind_rows *ret);
void unwind_rows_done(struct unwind_rows *rows);

static inline size_t unwind_rows_slots(const struct unwind_rows *rows)
{
	return (size_t)rows->n_rules * SB_UNWIND_RULE_SLOTS + rows->n_rows;
}

/* The rule for an offset; all zero (SB_CFA_NONE) where there is none. */
struct sb_unwind_rule unwind_rows_find(const struct unwind_rows *rows, uint64_t offset);

/* The functions that .eh_frame describes. */
struct unwind_functions;
int unwind_functions_build(const struct unwind_image *image, const struct unwind_limits *limits,
			   struct unwind_functions **ret);
/* Start of the function that holds an offset; -ENOENT: none does. */
int unwind_functions_find(const struct unwind_functions *functions, uint64_t offset, uint64_t *ret);
void unwind_functions_free(struct unwind_functions *functions);

#endif
