/* SPDX-License-Identifier: BSD-2-Clause */
/* What the finder of records (cfi.c) and the executor of their instructions (cfi_rows.c) share. */
#ifndef SB_UNWIND_CFI_INTERNAL_H
#define SB_UNWIND_CFI_INTERNAL_H

#include "unwind/cfi.h"
#include "unwind/cursor.h"

struct saved {
	uint8_t where; /* enum sb_unwind_where */
	int64_t off;
};

/* One row of the table that the instructions describe, before it is a rule. */
struct row {
	uint8_t cfa; /* SB_CFA_SP: register plus offset, whichever it is; SB_CFA_NONE: not told */
	uint64_t cfa_reg;
	int64_t cfa_off;
	int64_t expr_off, post; /* of an expression; the register and offset before it are kept */
	struct saved fp, ra;
};

struct cie {
	size_t at; /* offset of the record */
	uint64_t code_align;
	int64_t data_align;
	uint64_t ra_reg;
	uint8_t encoding;
	bool sized, signal;
	struct row initial;
};

struct fde {
	uint64_t start;
	uint32_t size;		 /* bytes of code, not 0 */
	uint32_t code, code_len; /* offset into the section, bytes */
	uint32_t cie;
};

struct cfi {
	struct cfi_section section;
	struct cfi_limits limits;
	uint64_t sp_reg, fp_reg, n_regs;
	struct cie *cies;
	size_t n_cies, cap_cies;
	struct fde *fdes;
	size_t n_fdes, cap_fdes;
	uint64_t instructions;
};

static inline uint64_t cfi_address_of(const struct cfi *cfi, const uint8_t *p)
{
	return cfi->section.addr + (uint64_t)(p - cfi->section.data);
}

/* Absolute, or relative to where it stands. */
static inline uint64_t cfi_take_address(const struct cfi *cfi, struct cursor *c, uint8_t encoding)
{
	uint64_t at = (encoding & PE_RELATION) == PE_PCREL ? cfi_address_of(cfi, c->p) : 0;

	return at + cursor_form(c, encoding & PE_FORM);
}

/* Executes the instructions of a CIE for the row that its functions begin with. -EBADMSG: they
 * are bad, for the reason through ret_bad. */
int cfi_run_cie(struct cfi *cfi, const struct cie *cie, const struct cursor *code,
		struct cfi_counts *counts, struct row *ret, enum cfi_bad *ret_bad);

#endif
