/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading forward through bytes that nobody vouches for: numbers as DWARF and ELF write them,
 * little-endian. Behind the end everything is 0 and the cursor is bad.
 */
#ifndef SB_UNWIND_CURSOR_H
#define SB_UNWIND_CURSOR_H

#include "format/base.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as the files that are accepted");

/* A pointer's form and what it is relative to (LSB Core 5.0, 10.5.1). */
enum {
	PE_ABSPTR = 0x00,
	PE_ULEB128 = 0x01,
	PE_UDATA2 = 0x02,
	PE_UDATA4 = 0x03,
	PE_UDATA8 = 0x04,
	PE_SLEB128 = 0x09,
	PE_SDATA2 = 0x0a,
	PE_SDATA4 = 0x0b,
	PE_SDATA8 = 0x0c,
	PE_FORM = 0x0f,
	PE_PCREL = 0x10,
	PE_ALIGNED = 0x50,
	PE_RELATION = 0x70,
	PE_INDIRECT = 0x80,
	PE_OMIT = 0xff,
};

struct cursor {
	const uint8_t *p, *end;
	bool bad;
};

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

static inline uint64_t cursor_take(struct cursor *c, size_t bytes)
{
	uint64_t v = 0;

	if (cursor_left(c) < bytes) {
		c->bad = true;
		c->p = c->end;
		return 0;
	}
	memcpy(&v, c->p, bytes); /* little-endian, as the files that are accepted */
	c->p += bytes;
	return v;
}

static inline void cursor_skip(struct cursor *c, uint64_t bytes)
{
	if (cursor_left(c) < bytes) {
		c->bad = true;
		bytes = cursor_left(c);
	}
	c->p += bytes;
}

/* Bits above 64 are bad unless they repeat the sign or are zero. */
static inline uint64_t cursor_take_leb(struct cursor *c, bool is_signed)
{
	uint64_t v = 0;
	unsigned int shift = 0;
	uint8_t b = 0;

	if (c->p < c->end && *c->p < 0x80) { /* nearly all are one byte */
		b = *c->p++;
		return is_signed && (b & 0x40) ? b | ~(uint64_t)0x7f : b;
	}
	do {
		if (c->p == c->end || shift >= 70) {
			c->bad = true;
			c->p = c->end;
			return 0;
		}
		b = *c->p++;
		if (shift < 64)
			v |= (uint64_t)(b & 0x7f) << shift;
		if (shift == 63 && (b & 0x7f) != 0 && (b & 0x7f) != (is_signed ? 0x7f : 1))
			c->bad = true;
		shift += 7;
	} while (b & 0x80);
	if (is_signed && shift < 64 && (b & 0x40))
		v |= ~(uint64_t)0 << shift;
	return v;
}

static inline uint64_t cursor_uleb(struct cursor *c)
{
	return cursor_take_leb(c, false);
}

static inline int64_t cursor_sleb(struct cursor *c)
{
	return (int64_t)cursor_take_leb(c, true);
}

static inline struct cursor cursor_block(struct cursor *c)
{
	uint64_t len = cursor_uleb(c);
	struct cursor block = { .p = c->p };

	cursor_skip(c, len);
	block.end = c->p;
	return block;
}

static inline uint64_t cursor_form(struct cursor *c, uint8_t form)
{
	switch (form) {
	case PE_ABSPTR:
	case PE_UDATA8:
	case PE_SDATA8:
		return cursor_take(c, 8);
	case PE_ULEB128:
		return cursor_uleb(c);
	case PE_SLEB128:
		return (uint64_t)cursor_sleb(c);
	case PE_UDATA2:
		return cursor_take(c, 2);
	case PE_UDATA4:
		return cursor_take(c, 4);
	case PE_SDATA2:
		return (uint64_t)(int16_t)cursor_take(c, 2);
	case PE_SDATA4:
		return (uint64_t)(int32_t)cursor_take(c, 4);
	default:
		c->bad = true;
		return 0;
	}
}

#endif
