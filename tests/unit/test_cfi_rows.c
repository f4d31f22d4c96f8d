// SPDX-License-Identifier: BSD-2-Clause
/* Rows from instructions written by hand, and from sections that lie. */
#include "tests/unit/cfi_by_hand.h"

/* One function of 0x20000 bytes with these instructions behind the usual CIE. */
static struct loaded function_of(const void *ops, size_t len)
{
	struct bytes s = {};

	put_fde(&s, put_cie(&s), CODE, 0x20000, ops, len);
	return made(&s, true);
}

static void test_advance(void **state)
{
	struct loaded l = function_of(OPS(0x42, 0x0e, 16, 0x02, 0xff, 0x0e, 24, 0x03, 0x00, 0x10, 0x0e, 32, 0x04, 0, 0, 1, 0,
					  0x0e, 40, 0x1d, 1, 0, 0, 0, 0, 0, 0, 0, 0x0e, 48, 0x01, 0, 0, 0, 0));

	(void)state;
	/* set_loc is relative to its place, as the CIE says: backwards here, so all of it is bad. */
	assert_int_equal(l.counts.bad[CFI_BAD_INSTRUCTION], 1);
	expect_none(&l, CODE);
	unload(&l);
	l = function_of(OPS(0x42, 0x0e, 16, 0x02, 0xff, 0x0e, 24, 0x03, 0x00, 0x10, 0x0e, 32, 0x04, 0, 0, 1, 0, 0x0e, 40,
			    0x1d, 1, 0, 0, 0, 0, 0, 0, 0, 0x0e, 48));
	assert_int_equal(bad_of(&l.counts), 0);
	expect_none(&l, CODE - 1);
	expect_rule(&l, CODE, .cfa = SB_CFA_SP, .cfa_off = 8);
	expect_rule(&l, CODE + 1, .cfa = SB_CFA_SP, .cfa_off = 8);
	expect_rule(&l, CODE + 2, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_rule(&l, CODE + 0x100, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_rule(&l, CODE + 0x101, .cfa = SB_CFA_SP, .cfa_off = 24);
	expect_rule(&l, CODE + 0x1101, .cfa = SB_CFA_SP, .cfa_off = 32);
	expect_rule(&l, CODE + 0x11101, .cfa = SB_CFA_SP, .cfa_off = 40);
	expect_rule(&l, CODE + 0x11102, .cfa = SB_CFA_SP, .cfa_off = 48);
	expect_rule(&l, CODE + 0x1ffff, .cfa = SB_CFA_SP, .cfa_off = 48);
	expect_none(&l, CODE + 0x20000);
	unload(&l);
	/* To the end is fine, behind it is not. */
	l = function_of(OPS(0x42, 0x0e, 16, 0x04, 0xfe, 0xff, 1, 0, 0x0e, 24));
	assert_int_equal(bad_of(&l.counts), 0);
	expect_rule(&l, CODE + 0x1ffff, .cfa = SB_CFA_SP, .cfa_off = 16);
	unload(&l);
	l = function_of(OPS(0x42, 0x0e, 16, 0x04, 0xff, 0xff, 1, 0, 0x0e, 24));
	assert_int_equal(l.counts.bad[CFI_BAD_INSTRUCTION], 1);
	assert_int_equal(l.rows.n_rows, 0);
	unload(&l);
}

static void test_cfa_rules(void **state)
{
	struct loaded l = function_of(OPS(0x0d, 6, 0x41,		 /* rbp + 8 */
					  0x12, 7, 0x7e, 0x41,		 /* rsp + -2 * -8 */
					  0x13, 0x7d, 0x41,		 /* rsp + 24 */
					  0x0c, 3, 0x80, 0x02, 0x41,	 /* rbx + 256 */
					  0x0e, 0x80, 0x80, 0x80, 0x80, 0x10, 0x41, /* rbx + 4 GiB */
					  0x0f, 3, 0x76, 0x78, 0x06, 0x41, /* *(rbp - 8) */
					  0x0f, 5, 0x77, 0x08, 0x06, 0x23, 0x08, 0x41, /* *(rsp + 8) + 8 */
					  0x0f, 2, 0x77, 0x10, 0x41, /* rsp + 16 */
					  0x0f, 4, 0x77, 0x08, 0x06, 0x06, 0x41, /* **(rsp + 8) */
					  0x0d, 7, 0x0e, 64));

	(void)state;
	assert_int_equal(bad_of(&l.counts), 0);
	expect_rule(&l, CODE, .cfa = SB_CFA_FP, .cfa_off = 8);
	expect_rule(&l, CODE + 1, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_rule(&l, CODE + 2, .cfa = SB_CFA_SP, .cfa_off = 24);
	expect_rule(&l, CODE + 3, .cfa = SB_CFA_REGISTER, .cfa_off = 256, .post = 3);
	expect_rule(&l, CODE + 4, .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_LOST << 4, .ra_off = 0);
	expect_rule(&l, CODE + 5, .cfa = SB_CFA_DEREF_FP, .cfa_off = -8);
	expect_rule(&l, CODE + 6, .cfa = SB_CFA_DEREF_SP, .cfa_off = 8, .post = 8);
	expect_rule(&l, CODE + 7, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_rule(&l, CODE + 8, .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_LOST << 4, .ra_off = 0);
	expect_rule(&l, CODE + 9, .cfa = SB_CFA_SP, .cfa_off = 64);
	assert_int_equal(l.counts.unsupported, 2);
	unload(&l);
}

#define FP(w) .cfa = SB_CFA_SP, .cfa_off = 8, .where = RA | (w)
static void test_register_rules(void **state)
{
	struct loaded l = function_of(OPS(0x80 | 6, 2, 0x41,		/* offset */
					  0xc0 | 6, 0x41,		/* restore */
					  0x05, 6, 3, 0x41,		/* offset_extended */
					  0x06, 6, 0x41,		/* restore_extended */
					  0x11, 6, 0x7c, 0x41,		/* offset_extended_sf: +32 */
					  0x2f, 6, 2, 0x41,		/* GNU_negative_offset_extended: +16 */
					  0x07, 6, 0x41,		/* undefined */
					  0x08, 6, 0x41,		/* same_value */
					  0x09, 6, 3, 0x41,		/* register: in rbx */
					  0x10, 6, 2, 0x76, 0x08, 0x41, /* expression: *(rbp + 8) */
					  0x10, 6, 3, 0x77, 0xf8, 0x00, 0x41, /* expression: *(rsp + 120) */
					  0x10, 6, 3, 0x77, 0x08, 0x06, 0x41, /* expression: **(rsp + 8) */
					  0x14, 6, 2, 0x41,		/* val_offset */
					  0x0a, 0x08, 6, 0x0e, 32, 0x0a, 0x0e, 40, 0x41, 0x0b, 0x41, 0x0b, 0x41, /* states */
					  0x08, 6, 0x15, 6, 2, 0x41,	/* val_offset_sf */
					  0x08, 6, 0x16, 6, 2, 0x77, 8, 0x41, /* val_expression */
					  0x08, 6, 0x2e, 32, 0x0d, 7, 0x41, /* GNU_args_size */
					  0x80 | 3, 5, 0x05, 12, 3, 0x07, 13, 0x09, 14, 15, 0x10, 3, 1, 0x30, 0x41, /* others */
					  0x07, 16));
	uint64_t at = CODE;

	(void)state;
	assert_int_equal(bad_of(&l.counts), 0);
	expect_rule(&l, at++, FP(SB_AT_CFA), .fp_off = -16);
	expect_rule(&l, at++, FP(SB_AT_SAME));
	expect_rule(&l, at++, FP(SB_AT_CFA), .fp_off = -24);
	expect_rule(&l, at++, FP(SB_AT_SAME));
	expect_rule(&l, at++, FP(SB_AT_CFA), .fp_off = 32);
	expect_rule(&l, at++, FP(SB_AT_CFA), .fp_off = 16);
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, FP(SB_AT_SAME));
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, FP(SB_AT_FP), .fp_off = 8);
	expect_rule(&l, at++, FP(SB_AT_SP), .fp_off = 120);
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, .cfa = SB_CFA_SP, .cfa_off = 40);
	expect_rule(&l, at++, .cfa = SB_CFA_SP, .cfa_off = 32);
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, FP(SB_AT_LOST));
	expect_rule(&l, at++, FP(SB_AT_SAME));
	expect_rule(&l, at++, FP(SB_AT_SAME));
	expect_rule(&l, at++, .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_END << 4, .ra_off = 0);
	unload(&l);
}

/* Heads of CIEs as GCC, LLVM, Go's and Rust's linkers and old compilers write them. */
static void test_cies(void **state)
{
	static const uint8_t personality[] = { 0x9b, 1, 2, 3, 4, 0x1b, 0x1b };
	static const uint8_t aligned[] = { 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1b };
	static const struct {
		uint8_t version;
		const char *augmentation;
		const void *data;
		size_t len;
		int flags;
		bool good;
	} cases[] = {
		{ 1, "zR", "\x1b", 1, 0, true },
		{ 3, "zR", "\x1b", 1, 0, true },
		{ 4, "zR", "\x1b", 1, 0, true },
		{ 1, "zRS", "\x1b", 1, SB_RULE_SIGNAL, true },
		{ 1, "zRB", "\x1b", 1, 0, true },
		{ 1, "zRG", "\x1b", 1, 0, true },
		{ 1, "zPLR", personality, sizeof(personality), 0, true },
		{ 1, "zRLP", "\x1b\x1b\xff", 3, 0, true },
		{ 1, "zR!", "\x1b\x77\x77", 3, 0, true },
		{ 1, "zR", "\x9b", 1, 0, false },   /* indirect */
		{ 1, "zR", "\x3b", 1, 0, false },   /* relative to data */
		{ 1, "zR", "\x1e", 1, 0, false },   /* no such form */
		{ 1, "zPR", "\x1b\x01", 2, 0, false }, /* ends early */
		{ 1, "zP", "\x0f", 1, 0, false },
		{ 1, "x", "\x1b", 1, 0, false },
		{ 2, "zR", "\x1b", 1, 0, false },
		{ 1, "zPR", aligned, sizeof(aligned), 0, true },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		struct bytes s = {};
		struct loaded l;
		size_t cie = put_cie_of(&s, cases[i].version, cases[i].augmentation, cases[i].data, cases[i].len,
					OPS(USUAL)), good;

		put_fde(&s, cie, CODE, 16, OPS(0x41));
		good = put_cie(&s);
		put_fde(&s, good, CODE + 16, 16, OPS(0x41));
		l = made(&s, true);
		/* A bad one costs its functions, and only these. */
		expect_rule(&l, CODE + 16, .cfa = SB_CFA_SP, .cfa_off = 8);
		if (cases[i].good) {
			assert_int_equal(bad_of(&l.counts), 0);
			expect_rule(&l, CODE, .cfa = SB_CFA_SP, .cfa_off = 8, .flags = cases[i].flags);
		} else {
			assert_int_equal(bad_of(&l.counts), 2);
			assert_int_equal(l.counts.bad[CFI_BAD_CIE_POINTER], 1);
			expect_none(&l, CODE);
		}
		unload(&l);
	}
}

/* Absolute and variable-length addresses, and set_loc that goes forward. */
static void test_encodings(void **state)
{
	static const struct {
		uint8_t encoding, bytes;
	} cases[] = { { 0x00, 8 }, { 0x02, 0 }, { 0x03, 4 }, { 0x04, 8 }, { 0x0b, 4 }, { 0x0c, 8 }, { 0x01, 3 }, { 0x09, 4 } };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		static const uint8_t uleb[] = { 0x80, 0x80, 0x40 }, sleb[] = { 0x80, 0x80, 0xc0, 0x00 };
		static const uint8_t uleb_mid[] = { 0x90, 0x80, 0x40 }, sleb_mid[] = { 0x90, 0x80, 0xc0, 0x00 };
		uint8_t encoding = cases[i].encoding;
		struct bytes s = {}, body = {};
		struct loaded l;
		size_t cie = put_cie_of(&s, 1, "zR", &encoding, 1, OPS(USUAL));

		if (!cases[i].bytes)
			continue;
		put_int(&body, s.n + 4 - cie, 4);
		for (int mid = 0; mid < 2; mid++) {
			if (mid)
				put(&body, OPS(0, 0x01)); /* augmentation, set_loc */
			if (encoding == 0x01)
				put(&body, mid ? uleb_mid : uleb, 3);
			else if (encoding == 0x09)
				put(&body, mid ? sleb_mid : sleb, 4);
			else
				put_int(&body, mid ? CODE + 16 : CODE, cases[i].bytes);
			if (!mid && (encoding == 0x01 || encoding == 0x09))
				put_int(&body, 32, 1);
			else if (!mid)
				put_int(&body, 32, cases[i].bytes);
		}
		put(&body, OPS(0x0e, 16));
		put_record(&s, &body);
		l = made(&s, true);
		assert_int_equal(bad_of(&l.counts), 0);
		expect_rule(&l, CODE, .cfa = SB_CFA_SP, .cfa_off = 8);
		expect_rule(&l, CODE + 15, .cfa = SB_CFA_SP, .cfa_off = 8);
		expect_rule(&l, CODE + 16, .cfa = SB_CFA_SP, .cfa_off = 16);
		expect_none(&l, CODE + 32);
		unload(&l);
	}
}

static void test_gaps(void **state)
{
	struct bytes s = {};
	struct loaded l;
	size_t cie = put_cie(&s);

	(void)state;
	put_fde(&s, cie, CODE + 0x100, 13, OPS(0x0e, 16)); /* out of order */
	put_fde(&s, cie, CODE, 0x20, OPS(0x41));
	put_fde(&s, cie, CODE + 0x110, 7, OPS(0x0e, 16)); /* after padding, with the same rule */
	put_fde(&s, cie, CODE + 0x118, 8, OPS(0x0e, 16)); /* not aligned: no padding */
	l = made(&s, true);
	assert_int_equal(bad_of(&l.counts), 0);
	expect_rule(&l, CODE + 0x1f, .cfa = SB_CFA_SP, .cfa_off = 8);
	expect_none(&l, CODE + 0x20);
	expect_none(&l, CODE + 0xff);
	expect_rule(&l, CODE + 0x100, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_rule(&l, CODE + 0x10f, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_rule(&l, CODE + 0x116, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_none(&l, CODE + 0x117);
	expect_rule(&l, CODE + 0x118, .cfa = SB_CFA_SP, .cfa_off = 16);
	expect_none(&l, CODE + 0x120);
	expect_none(&l, CODE + 0xfffff);
	/* Equal neighbours are one row: function, gap, two functions, gap, function, end. */
	assert_int_equal(l.rows.n_rows, 6);
	unload(&l);
}

static void test_terminators(void **state)
{
	struct bytes s = {};
	struct loaded l;
	size_t cie = put_cie(&s);

	(void)state;
	put_fde(&s, cie, CODE, 16, OPS(0x41));
	put_int(&s, 0, 4);
	put_fde(&s, cie, CODE + 16, 16, OPS(0x0e, 16));
	/* In the middle of a section whose end is known: one object's, and more follow. */
	l = made(&s, true);
	expect_rule(&l, CODE + 16, .cfa = SB_CFA_SP, .cfa_off = 16);
	unload(&l);
	l = made(&s, false);
	expect_rule(&l, CODE, .cfa = SB_CFA_SP, .cfa_off = 8);
	expect_none(&l, CODE + 16);
	assert_int_equal(bad_of(&l.counts), 0);
	unload(&l);
}

/* ---- sections that lie ------------------------------------------------------------------ */

/* A bad function between two good ones: dropped, counted for its reason, the others stay. */
static void test_one_bad(void **state)
{
	static const struct {
		const uint8_t ops[23]; /* the record needs no padding then */
		enum cfi_bad why;
	} cases[] = {
		{ { 0x41, 0x3f }, CFI_BAD_INSTRUCTION },     /* unknown */
		{ { 0x41, 0x0b }, CFI_BAD_NESTING },	     /* restores what was not remembered */
		{ { 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a },
		  CFI_BAD_NESTING },
		{ { 0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, CFI_BAD_INSTRUCTION },
		{ { 0x0f, 0x7f, 0x77 }, CFI_BAD_INSTRUCTION }, /* an expression beyond the record */
		{ { 0x41, 0x51 }, CFI_BAD_INSTRUCTION },     /* behind the function */
		{ { [22] = 0x04 }, CFI_BAD_INSTRUCTION }, /* no operand */
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		struct bytes s = {};
		struct loaded l;
		size_t cie = put_cie(&s);

		put_fde(&s, cie, CODE, 16, OPS(0x41, 0x0e, 16));
		put_fde(&s, cie, CODE + 16, 16, cases[i].ops, sizeof(cases[i].ops));
		put_fde(&s, cie, CODE + 32, 16, OPS(0x41, 0x0e, 32));
		l = made(&s, true);
		assert_int_equal(l.counts.bad[cases[i].why], 1);
		assert_int_equal(bad_of(&l.counts), 1);
		expect_rule(&l, CODE + 15, .cfa = SB_CFA_SP, .cfa_off = 16);
		expect_none(&l, CODE + 16);
		expect_none(&l, CODE + 31);
		expect_rule(&l, CODE + 32, .cfa = SB_CFA_SP, .cfa_off = 8);
		expect_rule(&l, CODE + 47, .cfa = SB_CFA_SP, .cfa_off = 32);
		unload(&l);
	}
}

static void test_bad_ranges(void **state)
{
	struct bytes s = {};
	struct loaded l;
	size_t cie = put_cie(&s);

	(void)state;
	put_fde(&s, cie, CODE, 32, OPS(0x41));
	put_fde(&s, cie, CODE + 31, 32, OPS(0x0e, 16)); /* over the first one */
	put_fde(&s, cie, CODE, 8, OPS(0x0e, 24));	/* the same start: the first in the file stays */
	put_fde(&s, cie, CODE + 64, 0, OPS(0x41));	/* empty */
	put_fde(&s, cie, CODE - 8, 16, OPS(0x41));	/* begins before the segment */
	put_fde(&s, cie, CODE + 0xfffff, 2, OPS(0x41)); /* ends behind it */
	put_fde(&s, cie, 0x10, 16, OPS(0x41));		/* what a linker leaves of a discarded function */
	put_fde(&s, cie + 1, CODE + 96, 16, OPS(0x41)); /* not the start of a CIE */
	put_fde(&s, s.n + 4 + 64, CODE + 96, 16, OPS(0x41)); /* before the section */
	l = made(&s, true);
	assert_int_equal(l.counts.fdes, 9);
	assert_int_equal(l.counts.bad[CFI_BAD_OVERLAP], 2);
	assert_int_equal(l.counts.bad[CFI_BAD_RANGE], 4);
	assert_int_equal(l.counts.bad[CFI_BAD_CIE_POINTER], 2);
	expect_rule(&l, CODE + 31, .cfa = SB_CFA_SP, .cfa_off = 8);
	expect_none(&l, CODE + 32);
	expect_none(&l, CODE + 96);
	unload(&l);
}

/* The last record says that it is longer than the section, by one byte and by all there is. */
static void test_bad_lengths(void **state)
{
	static const uint32_t lengths[] = { 29, 3, 0x7fffffff, 0xfffffffe, 0xffffffff };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(lengths); i++) {
		struct bytes s = {};
		struct loaded l;
		size_t cie = put_cie(&s), at;

		put_fde(&s, cie, CODE, 16, OPS(0x41));
		at = s.n;
		put_fde(&s, cie, CODE + 16, 16, OPS(0x41, 0x41, 0x41, 0x41));
		memcpy(s.b + at, &lengths[i], 4);
		s.n = at + 4 + 28;
		l = made(&s, true);
		assert_true(l.counts.bad[CFI_BAD_LENGTH] == 1);
		expect_rule(&l, CODE, .cfa = SB_CFA_SP, .cfa_off = 8);
		expect_none(&l, CODE + 16);
		unload(&l);
	}
}


/* Limits hold, and what was read until then is kept. */
static void test_limits(void **state)
{
	const size_t n = 20000, len = 3000;
	struct unwind_limits tight = limits;
	struct loaded l = {};
	uint8_t *section_bytes = NULL;
	struct bytes head = {};
	size_t at;
	double began;

	(void)state;
	/* 20,000 functions of 3,000 instructions each, every one a row. */
	put_cie(&head);
	section_bytes = calloc(1, head.n + n * (len + 20));
	memcpy(section_bytes, head.b, head.n);
	at = head.n;
	for (size_t i = 0; i < n; i++) {
		uint32_t words[4] = { (uint32_t)(len + 16), (uint32_t)(at + 4), 0, 4096 };

		words[2] = (uint32_t)(CODE + i * 4096 - (FRAME + at + 8));
		memcpy(section_bytes + at, words, sizeof(words));
		for (size_t k = 17; k + 3 <= len; k += 3) {
			section_bytes[at + k] = 0x41;
			section_bytes[at + k + 1] = 0x0e;
			section_bytes[at + k + 2] = (uint8_t)(k & 0x7f);
		}
		at += len + 20;
	}
	l.image = (struct unwind_image){ .machine = CFI_X86_64, .n_code = 1, .eh_frame = section_bytes, .eh_frame_len = at,
					 .eh_frame_addr = FRAME, .eh_frame_to_its_end = true };
	l.image.code[0] = (struct unwind_segment){ .addr = CODE, .offset = 0, .size = 0xf0000000 };

	tight.max_rows = 5000;
	assert_int_equal(unwind_rows_build(&l.image, &tight, &l.counts, &l.rows), 0);
	assert_true(l.rows.n_rows <= 5000 && l.rows.n_rows > 3000);
	assert_true(l.counts.bad[CFI_BAD_LIMIT] >= n - 5);
	expect_rule(&l, CODE, .cfa = SB_CFA_SP, .cfa_off = 8);
	unwind_rows_done(&l.rows);

	memset(&l.counts, 0, sizeof(l.counts));
	tight = limits;
	tight.cfi.max_instructions = 100000;
	began = cpu_seconds();
	assert_int_equal(unwind_rows_build(&l.image, &tight, &l.counts, &l.rows), 0);
	assert_true(cpu_seconds() - began < 0.5);
	assert_true(l.counts.instructions <= 100000 + n + 1);
	assert_true(l.counts.bad[CFI_BAD_LIMIT] >= n - 60 && l.counts.bad[CFI_BAD_LIMIT] < n);
	unwind_rows_done(&l.rows);

	memset(&l.counts, 0, sizeof(l.counts));
	tight = limits;
	tight.cfi.max_fdes = 7;
	assert_int_equal(unwind_rows_build(&l.image, &tight, &l.counts, &l.rows), 0);
	assert_int_equal(l.counts.bad[CFI_BAD_LIMIT], n - 7);
	expect_rule(&l, CODE + 6 * 4096, .cfa = SB_CFA_SP, .cfa_off = 8);
	expect_none(&l, CODE + 7 * 4096);
	unload(&l);
}

/* More different rules than a table keeps: the others cannot be followed, and are counted. */
static void test_many_rules(void **state)
{
	const size_t n = 40000;
	uint8_t *data = calloc(1, 64 + n * 8);
	struct loaded l = {};
	struct bytes head = {};
	size_t at, len;
	uint32_t words[4];

	(void)state;
	put_cie(&head);
	memcpy(data, head.b, head.n);
	at = head.n + 17;
	for (size_t i = 0; i < n; i++) { /* DW_CFA_def_cfa_offset of three bytes, advance by 1 */
		uint8_t ops[] = { 0x0e, (uint8_t)(i | 0x80), (uint8_t)(i >> 7 | 0x80), (uint8_t)(i >> 14), 0x41 };

		ops[1] = (uint8_t)((i & 0x7f) | 0x80);
		ops[2] = (uint8_t)((i >> 7 & 0x7f) | 0x80);
		memcpy(data + at, ops, sizeof(ops));
		at += sizeof(ops);
	}
	len = at - head.n;
	words[0] = (uint32_t)(len - 4);
	words[1] = (uint32_t)(head.n + 4);
	words[2] = (uint32_t)(CODE - (FRAME + head.n + 8));
	words[3] = 0x80000;
	memcpy(data + head.n, words, sizeof(words));
	l.image = (struct unwind_image){ .machine = CFI_X86_64, .n_code = 1, .eh_frame = data, .eh_frame_len = at,
					 .eh_frame_addr = FRAME, .eh_frame_to_its_end = true };
	l.image.code[0] = (struct unwind_segment){ .addr = CODE, .offset = 0, .size = 0x100000 };
	assert_int_equal(unwind_rows_build(&l.image, &limits, &l.counts, &l.rows), 0);
	assert_int_equal(bad_of(&l.counts), 0);
	assert_true(l.rows.n_rules <= 16384 && l.rows.n_rules > 10000);
	assert_true(l.counts.unsupported >= n - 16384);
	expect_rule(&l, CODE + 7777, .cfa = SB_CFA_SP, .cfa_off = 7777);
	expect_rule(&l, CODE + n - 1, .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_LOST << 4, .ra_off = 0);
	unload(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_advance),
		cmocka_unit_test(test_cfa_rules),
		cmocka_unit_test(test_register_rules),
		cmocka_unit_test(test_cies),
		cmocka_unit_test(test_encodings),
		cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_terminators),
		cmocka_unit_test(test_one_bad),
		cmocka_unit_test(test_bad_ranges),
		cmocka_unit_test(test_bad_lengths),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_many_rules),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
