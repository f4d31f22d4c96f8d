// SPDX-License-Identifier: BSD-2-Clause
/* The instructions of CIEs and FDEs: from what they say to rules that a walk can follow. */
#include <errno.h>

#include "unwind/cfi_internal.h"

/* DWARF 5, 7.24; the high two bits of the first three hold the operation. */
enum {
	CFA_ADVANCE_LOC = 0x40,
	CFA_OFFSET = 0x80,
	CFA_RESTORE = 0xc0,
	CFA_NOP = 0x00,
	CFA_SET_LOC = 0x01,
	CFA_ADVANCE_LOC1 = 0x02,
	CFA_ADVANCE_LOC2 = 0x03,
	CFA_ADVANCE_LOC4 = 0x04,
	CFA_OFFSET_EXTENDED = 0x05,
	CFA_RESTORE_EXTENDED = 0x06,
	CFA_UNDEFINED = 0x07,
	CFA_SAME_VALUE = 0x08,
	CFA_REGISTER = 0x09,
	CFA_REMEMBER_STATE = 0x0a,
	CFA_RESTORE_STATE = 0x0b,
	CFA_DEF_CFA = 0x0c,
	CFA_DEF_CFA_REGISTER = 0x0d,
	CFA_DEF_CFA_OFFSET = 0x0e,
	CFA_DEF_CFA_EXPRESSION = 0x0f,
	CFA_EXPRESSION = 0x10,
	CFA_OFFSET_EXTENDED_SF = 0x11,
	CFA_DEF_CFA_SF = 0x12,
	CFA_DEF_CFA_OFFSET_SF = 0x13,
	CFA_VAL_OFFSET = 0x14,
	CFA_VAL_OFFSET_SF = 0x15,
	CFA_VAL_EXPRESSION = 0x16,
	CFA_MIPS_ADVANCE_LOC8 = 0x1d,
	CFA_AARCH64_NEGATE_RA_STATE_WITH_PC = 0x2c,
	CFA_AARCH64_NEGATE_RA_STATE = 0x2d, /* SPARC: window save */
	CFA_GNU_ARGS_SIZE = 0x2e,
	CFA_GNU_NEGATIVE_OFFSET_EXTENDED = 0x2f,
};

/* Operations of expressions that we know the meaning of. */
enum {
	OP_DEREF = 0x06,
	OP_AND = 0x1a,
	OP_PLUS = 0x22,
	OP_PLUS_UCONST = 0x23,
	OP_SHL = 0x24,
	OP_GE = 0x2a,
	OP_LIT0 = 0x30,
	OP_LIT31 = 0x4f,
	OP_BREG0 = 0x70,
	OP_BREG31 = 0x8f,
};

/* GCC needs one level, and two for what shares an epilogue. */
#define MAX_REMEMBERED 16

/* ---- expressions ---------------------------------------------------------------------- */

static int base_register(const struct cfi *cfi, uint8_t op)
{
	if (op == OP_BREG0 + cfi->sp_reg)
		return SB_AT_SP;
	return op == OP_BREG0 + cfi->fp_reg ? SB_AT_FP : -1;
}

/* rsp + 8 + ((rip & 15) >= N) * 8, as the GNU linker writes it for .plt. */
static bool is_plt(struct cursor c, int64_t *ret_threshold)
{
	static const uint8_t head[] = { 0x77, 0x08, 0x80, 0x00, OP_LIT0 + 15, OP_AND };
	static const uint8_t tail[] = { OP_GE, OP_LIT0 + 3, OP_SHL, OP_PLUS };

	if (cursor_left(&c) != sizeof(head) + 1 + sizeof(tail) || memcmp(c.p, head, sizeof(head)) ||
	    memcmp(c.p + sizeof(head) + 1, tail, sizeof(tail)))
		return false;
	if (c.p[sizeof(head)] < OP_LIT0 || c.p[sizeof(head)] > OP_LIT0 + 15)
		return false;
	*ret_threshold = c.p[sizeof(head)] - OP_LIT0;
	return true;
}

/* sp or fp plus an offset, perhaps dereferenced, perhaps with a constant added then. */
static void cfa_expression(const struct cfi *cfi, struct cursor c, struct row *row)
{
	int64_t threshold;
	int base;

	row->cfa = SB_CFA_UNSUPPORTED;
	row->post = 0;
	if (cfi->section.machine == CFI_X86_64 && is_plt(c, &threshold)) {
		row->cfa = SB_CFA_PLT;
		row->expr_off = threshold;
		return;
	}
	base = cursor_left(&c) ? base_register(cfi, *c.p++) : -1;
	row->expr_off = cursor_sleb(&c);
	if (base < 0 || c.bad)
		return;
	if (!cursor_left(&c)) {
		row->cfa = SB_CFA_SP;
		row->cfa_reg = base == SB_AT_SP ? cfi->sp_reg : cfi->fp_reg;
		row->cfa_off = row->expr_off;
		return;
	}
	if (cursor_take(&c, 1) != OP_DEREF)
		return;
	if (cursor_left(&c)) {
		uint64_t post;

		if (cursor_take(&c, 1) != OP_PLUS_UCONST)
			return;
		post = cursor_uleb(&c);
		if (c.bad || cursor_left(&c) || post > INT8_MAX)
			return;
		row->post = (int64_t)post;
	}
	row->cfa = base == SB_AT_SP ? SB_CFA_DEREF_SP : SB_CFA_DEREF_FP;
}

/* Where a register was saved, as an address. */
static struct saved saved_expression(const struct cfi *cfi, struct cursor c)
{
	int base = cursor_left(&c) ? base_register(cfi, *c.p++) : -1;
	int64_t off = cursor_sleb(&c);

	if (base < 0 || c.bad || cursor_left(&c))
		return (struct saved){ .where = SB_AT_LOST };
	return (struct saved){ .where = (uint8_t)base, .off = off };
}

/* ---- rules ---------------------------------------------------------------------------- */

static bool fits(int64_t v)
{
	return v >= INT32_MIN && v <= INT32_MAX;
}

static uint8_t rule_cfa(const struct cfi *cfi, const struct row *row)
{
	if (row->cfa != SB_CFA_SP)
		return row->cfa == SB_CFA_NONE ? SB_CFA_UNSUPPORTED : row->cfa;
	if (row->cfa_reg == cfi->sp_reg)
		return SB_CFA_SP;
	if (row->cfa_reg == cfi->fp_reg)
		return SB_CFA_FP;
	return row->cfa_reg < cfi->n_regs ? SB_CFA_REGISTER : SB_CFA_UNSUPPORTED;
}

/* Equal rules are equal bytes: what does not matter is zero. Returns false for a rule that
 * cannot be followed. */
static bool make_rule(const struct cfi *cfi, const struct cie *cie, const struct row *row,
		      struct sb_unwind_rule *ret)
{
	struct saved fp = row->fp, ra = row->ra;
	int64_t cfa_off = row->cfa == SB_CFA_SP ? row->cfa_off : row->expr_off;

	*ret = (struct sb_unwind_rule){ .cfa = fits(cfa_off) ? rule_cfa(cfi, row)
							     : SB_CFA_UNSUPPORTED };
	if (!fits(fp.off))
		fp.where = SB_AT_LOST;
	if (!fits(ra.off))
		ra.where = SB_AT_LOST;
	/* Only arm64 has a return address in a register. */
	if (ra.where == SB_AT_SAME && cfi->section.machine == CFI_X86_64)
		ra.where = SB_AT_LOST;
	if (ra.where == SB_AT_END) {
		*ret = (struct sb_unwind_rule){ .cfa = SB_CFA_UNSUPPORTED,
						.where = SB_AT_END << 4 };
		return true;
	}
	if (ret->cfa == SB_CFA_UNSUPPORTED || ra.where == SB_AT_LOST) {
		*ret = (struct sb_unwind_rule){ .cfa = SB_CFA_UNSUPPORTED,
						.where = SB_AT_LOST << 4 };
		return false;
	}
	ret->where = (uint8_t)(fp.where | ra.where << 4);
	ret->flags = cie->signal ? SB_RULE_SIGNAL : 0;
	ret->cfa_off = (int32_t)cfa_off;
	if (ret->cfa == SB_CFA_DEREF_SP || ret->cfa == SB_CFA_DEREF_FP)
		ret->post = (int8_t)row->post;
	else if (ret->cfa == SB_CFA_REGISTER)
		ret->post = (int8_t)row->cfa_reg;
	if (fp.where == SB_AT_CFA || fp.where == SB_AT_SP || fp.where == SB_AT_FP)
		ret->fp_off = (int32_t)fp.off;
	if (ra.where == SB_AT_CFA || ra.where == SB_AT_SP || ra.where == SB_AT_FP)
		ret->ra_off = (int32_t)ra.off;
	return true;
}

/* ---- instructions --------------------------------------------------------------------- */

struct machine {
	struct cfi *cfi;
	const struct cie *cie;
	struct row row;
	struct row remembered[MAX_REMEMBERED];
	unsigned int n_remembered;
	uint64_t addr, end;
	bool has_rows; /* false for a CIE: it has no addresses to advance to */
	cfi_row_fn fn;
	void *ctx;
	struct cfi_counts *counts;
	enum cfi_bad bad;
};

static int reject(struct machine *m, enum cfi_bad why)
{
	m->bad = why;
	return -EBADMSG;
}

static int tell_row(struct machine *m)
{
	struct sb_unwind_rule rule;

	m->counts->unsupported += !make_rule(m->cfi, m->cie, &m->row, &rule);
	m->counts->rows++;
	return m->fn(m->ctx, m->addr, &rule);
}

static int advance(struct machine *m, uint64_t delta, uint64_t factor)
{
	int r;

	if (!m->has_rows || __builtin_mul_overflow(delta, factor, &delta) ||
	    delta > m->end - m->addr)
		return reject(m, CFI_BAD_INSTRUCTION);
	if (!delta)
		return 0;
	r = tell_row(m);
	m->addr += delta;
	return r;
}

static struct saved *saved_of(struct machine *m, uint64_t reg)
{
	if (reg == m->cfi->fp_reg)
		return &m->row.fp;
	return reg == m->cie->ra_reg ? &m->row.ra : NULL;
}

static void save(struct machine *m, uint64_t reg, uint8_t where, int64_t off)
{
	struct saved *s = saved_of(m, reg);

	if (s)
		*s = (struct saved){ .where = where, .off = off };
}

/* Offsets are factored; one that overflows is one that nobody meant. */
static int64_t factored(const struct machine *m, int64_t v)
{
	int64_t product;

	return __builtin_mul_overflow(v, m->cie->data_align, &product) ? INT64_MAX : product;
}

static void restore(struct machine *m, uint64_t reg)
{
	if (reg == m->cfi->fp_reg)
		m->row.fp = m->cie->initial.fp;
	else if (reg == m->cie->ra_reg)
		m->row.ra = m->cie->initial.ra;
}

/* A register ends an expression, an offset alone does not: as libgcc does it, which is what the
 * authors of assembler code test with. */
static void change_cfa(struct machine *m, const uint64_t *reg, const int64_t *off)
{
	if (reg) {
		m->row.cfa = SB_CFA_SP;
		m->row.cfa_reg = *reg;
	}
	if (off)
		m->row.cfa_off = *off;
}

static void execute_cfa(struct machine *m, uint8_t op, struct cursor *c)
{
	uint64_t reg;
	int64_t off;

	switch (op) {
	case CFA_DEF_CFA:
		reg = cursor_uleb(c);
		off = (int64_t)cursor_uleb(c);
		change_cfa(m, &reg, &off);
		break;
	case CFA_DEF_CFA_SF:
		reg = cursor_uleb(c);
		off = factored(m, cursor_sleb(c));
		change_cfa(m, &reg, &off);
		break;
	case CFA_DEF_CFA_REGISTER:
		reg = cursor_uleb(c);
		change_cfa(m, &reg, NULL);
		break;
	case CFA_DEF_CFA_OFFSET:
		off = (int64_t)cursor_uleb(c);
		change_cfa(m, NULL, &off);
		break;
	case CFA_DEF_CFA_OFFSET_SF:
		off = factored(m, cursor_sleb(c));
		change_cfa(m, NULL, &off);
		break;
	default:
		cfa_expression(m->cfi, cursor_block(c), &m->row);
		break;
	}
}

static void execute_register(struct machine *m, uint8_t op, struct cursor *c)
{
	uint64_t reg = cursor_uleb(c);
	struct cursor block;
	struct saved *s;

	switch (op) {
	case CFA_OFFSET_EXTENDED:
		save(m, reg, SB_AT_CFA, factored(m, (int64_t)cursor_uleb(c)));
		break;
	case CFA_OFFSET_EXTENDED_SF:
		save(m, reg, SB_AT_CFA, factored(m, cursor_sleb(c)));
		break;
	case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
		save(m, reg, SB_AT_CFA, factored(m, (int64_t)(0 - cursor_uleb(c))));
		break;
	case CFA_RESTORE_EXTENDED:
		restore(m, reg);
		break;
	case CFA_UNDEFINED:
		save(m, reg, reg == m->cie->ra_reg ? SB_AT_END : SB_AT_LOST, 0);
		break;
	case CFA_SAME_VALUE:
		save(m, reg, SB_AT_SAME, 0);
		break;
	case CFA_REGISTER:
	case CFA_VAL_OFFSET:
		cursor_uleb(c);
		save(m, reg, SB_AT_LOST, 0);
		break;
	case CFA_VAL_OFFSET_SF:
		cursor_sleb(c);
		save(m, reg, SB_AT_LOST, 0);
		break;
	case CFA_EXPRESSION:
		block = cursor_block(c);
		s = saved_of(m, reg);
		if (s)
			*s = saved_expression(m->cfi, block);
		break;
	default: /* CFA_VAL_EXPRESSION */
		cursor_block(c);
		save(m, reg, SB_AT_LOST, 0);
		break;
	}
}

static int execute_state(struct machine *m, uint8_t op)
{
	if (op == CFA_REMEMBER_STATE) {
		if (m->n_remembered == MAX_REMEMBERED)
			return reject(m, CFI_BAD_NESTING);
		m->remembered[m->n_remembered++] = m->row;
		return 0;
	}
	if (!m->n_remembered)
		return reject(m, CFI_BAD_NESTING);
	m->row = m->remembered[--m->n_remembered];
	return 0;
}

static int execute_one(struct machine *m, struct cursor *c)
{
	uint8_t op = *c->p++, low = op & 0x3f;
	uint64_t to;

	switch (op & 0xc0) {
	case CFA_ADVANCE_LOC:
		return advance(m, low, m->cie->code_align);
	case CFA_OFFSET:
		save(m, low, SB_AT_CFA, factored(m, (int64_t)cursor_uleb(c)));
		return 0;
	case CFA_RESTORE:
		restore(m, low);
		return 0;
	}
	switch (op) {
	case CFA_NOP:
	/* The signature is in bits that no address has: they are masked, signed or not. */
	case CFA_AARCH64_NEGATE_RA_STATE:
	case CFA_AARCH64_NEGATE_RA_STATE_WITH_PC:
		return 0;
	case CFA_SET_LOC:
		to = cfi_take_address(m->cfi, c, m->cie->encoding);
		return to < m->addr ? reject(m, CFI_BAD_INSTRUCTION) : advance(m, to - m->addr, 1);
	case CFA_ADVANCE_LOC1:
		return advance(m, cursor_take(c, 1), m->cie->code_align);
	case CFA_ADVANCE_LOC2:
		return advance(m, cursor_take(c, 2), m->cie->code_align);
	case CFA_ADVANCE_LOC4:
		return advance(m, cursor_take(c, 4), m->cie->code_align);
	case CFA_MIPS_ADVANCE_LOC8:
		return advance(m, cursor_take(c, 8), m->cie->code_align);
	case CFA_REMEMBER_STATE:
	case CFA_RESTORE_STATE:
		return execute_state(m, op);
	case CFA_DEF_CFA:
	case CFA_DEF_CFA_REGISTER:
	case CFA_DEF_CFA_OFFSET:
	case CFA_DEF_CFA_EXPRESSION:
	case CFA_DEF_CFA_SF:
	case CFA_DEF_CFA_OFFSET_SF:
		execute_cfa(m, op, c);
		return 0;
	case CFA_GNU_ARGS_SIZE:
		cursor_uleb(c);
		return 0;
	case CFA_OFFSET_EXTENDED:
	case CFA_RESTORE_EXTENDED:
	case CFA_UNDEFINED:
	case CFA_SAME_VALUE:
	case CFA_REGISTER:
	case CFA_EXPRESSION:
	case CFA_OFFSET_EXTENDED_SF:
	case CFA_VAL_OFFSET:
	case CFA_VAL_OFFSET_SF:
	case CFA_VAL_EXPRESSION:
	case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
		execute_register(m, op, c);
		return 0;
	default:
		return reject(m, CFI_BAD_INSTRUCTION);
	}
}

/* 0, a negative errno of the row function, or -EBADMSG and the reason in m->bad. */
static int execute(struct machine *m, const struct cursor *code)
{
	struct cursor c = *code;
	int r = 0;

	while (c.p < c.end && r == 0) {
		if (m->cfi->instructions++ >= m->cfi->limits.max_instructions)
			return reject(m, CFI_BAD_LIMIT);
		r = execute_one(m, &c);
		if (c.bad)
			r = reject(m, CFI_BAD_INSTRUCTION);
	}
	return r;
}

int cfi_run_cie(struct cfi *cfi, const struct cie *cie, const struct cursor *code,
		struct cfi_counts *counts, struct row *ret, enum cfi_bad *ret_bad)
{
	struct machine m = { .cfi = cfi, .cie = cie, .counts = counts };
	int r = execute(&m, code);

	if (r < 0)
		*ret_bad = m.bad;
	else
		*ret = m.row;
	return r;
}

int cfi_run(struct cfi *cfi, size_t i, cfi_row_fn row, void *ctx, struct cfi_counts *counts)
{
	const struct fde *fde = &cfi->fdes[i];
	const uint8_t *code = cfi->section.data + fde->code;
	struct machine m;
	uint64_t before = cfi->instructions;
	int r;

	/* Not all of it: what was remembered is set before it is read. */
	m.cfi = cfi;
	m.cie = &cfi->cies[fde->cie];
	m.row = m.cie->initial;
	m.n_remembered = 0;
	m.addr = fde->start;
	m.end = fde->start + fde->size;
	m.has_rows = true;
	m.fn = row;
	m.ctx = ctx;
	m.counts = counts;
	r = execute(&m, &(struct cursor){ .p = code, .end = code + fde->code_len });
	if (r == 0 && m.addr < m.end)
		r = tell_row(&m);
	counts->instructions += cfi->instructions - before;
	if (r == -EBADMSG)
		counts->bad[m.bad]++;
	return r;
}
