/* SPDX-License-Identifier: BSD-2-Clause */
/* Sections of .eh_frame put together byte by byte, and what is expected of them. */
#ifndef SB_TESTS_UNIT_CFI_BY_HAND_H
#define SB_TESTS_UNIT_CFI_BY_HAND_H

#include "tests/unit/cfi.h"

#define CODE 0x100000u	/* where the functions are */
#define FRAME 0x200000u /* where the section is */

struct bytes {
	uint8_t b[4096];
	size_t n;
};

static inline void put(struct bytes *s, const void *data, size_t len)
{
	assert_true(s->n + len <= sizeof(s->b));
	memcpy(s->b + s->n, data, len);
	s->n += len;
}

static inline void put_int(struct bytes *s, uint64_t v, size_t len)
{
	put(s, &v, len);
}

/* Instructions as a list of numbers, one byte each. */
#define OPS(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

static inline void put_record(struct bytes *s, const struct bytes *body)
{
	size_t padded = (body->n + 7 - 4) / 8 * 8 + 4; /* with DW_CFA_nop */

	put_int(s, padded, 4);
	put(s, body->b, body->n);
	while (padded-- > body->n)
		put_int(s, 0, 1);
}

/* Its head, for augmentations that are not "zR". */
static inline size_t put_cie_of(struct bytes *s, uint8_t version, const char *augmentation, const void *data, size_t data_len,
			 const void *ops, size_t len)
{
	struct bytes body = {};
	size_t at = s->n;

	put_int(&body, 0, 4);
	put_int(&body, version, 1);
	put(&body, augmentation, strlen(augmentation) + 1);
	if (version == 4)
		put_int(&body, 8, 2); /* address size 8, segment selector size 0 */
	put_int(&body, 1, 1);	 /* code alignment */
	put_int(&body, 0x78, 1); /* data alignment -8 */
	put_int(&body, 16, 1);
	if (augmentation[0] == 'z')
		put_int(&body, data_len, 1);
	put(&body, data, data_len);
	put(&body, ops, len);
	put_record(s, &body);
	return at;
}

/* As every compiler writes it: CFA is rsp + 8, the return address below it. */
#define USUAL 0x0c, 7, 8, 0x80 | 16, 1
static inline size_t put_cie(struct bytes *s)
{
	return put_cie_of(s, 1, "zR", OPS(0x1b), OPS(USUAL));
}

static inline void put_fde(struct bytes *s, size_t cie, uint64_t start, uint32_t size, const void *ops, size_t len)
{
	struct bytes body = {};

	put_int(&body, s->n + 4 - cie, 4);
	put_int(&body, start - (FRAME + s->n + 8), 4);
	put_int(&body, size, 4);
	put_int(&body, 0, 1);
	put(&body, ops, len);
	put_record(s, &body);
}

static inline struct loaded made(const struct bytes *s, bool to_its_end)
{
	struct loaded l = {};

	l.image.machine = CFI_X86_64;
	l.image.n_code = 1;
	l.image.code[0] = (struct unwind_segment){ .addr = CODE, .offset = 0x1000, .size = 0x100000 };
	l.image.eh_frame = malloc(s->n);
	memcpy(l.image.eh_frame, s->b, s->n);
	l.image.eh_frame_len = s->n;
	l.image.eh_frame_addr = FRAME;
	l.image.eh_frame_to_its_end = to_its_end;
	assert_int_equal(unwind_rows_build(&l.image, &limits, &l.counts, &l.rows), 0);
	return l;
}

#define RA (SB_AT_CFA << 4)
/* Fields that are named again take the later value. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define RULE(...) ((struct sb_unwind_rule){ .ra_off = -8, .where = RA, __VA_ARGS__ })

#define expect_rule(l, addr, ...) expect_rule_(l, addr, RULE(__VA_ARGS__), __LINE__)
static inline void expect_rule_(const struct loaded *l, uint64_t addr, struct sb_unwind_rule want, int line)
{
	struct sb_unwind_rule got = rule_at(l, addr);

	if (memcmp(&got, &want, sizeof(got)))
		fail_msg("line %d, 0x%llx: cfa %d %+d post %d where %02x flags %d fp %+d ra %+d", line,
			 (unsigned long long)addr, got.cfa, got.cfa_off, got.post, got.where, got.flags, got.fp_off,
			 got.ra_off);
}

static inline void expect_none(const struct loaded *l, uint64_t addr)
{
	struct sb_unwind_rule got = rule_at(l, addr), none = {};

	assert_memory_equal(&got, &none, sizeof(got));
}

static inline double cpu_seconds(void)
{
	return (double)sb_now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

#endif
