/* SPDX-License-Identifier: BSD-2-Clause */
/* UTF-8 as RFC 3629 has it. */
#ifndef SB_FORMAT_UTF8_H
#define SB_FORMAT_UTF8_H

#include "format/base.h"

/* Length of the UTF-8 sequence of more than one byte at s and its character (RFC 3629:
 * overlong forms and surrogates are none); 0 if there is none. */
static inline size_t utf8_decode(const unsigned char *s, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
	uint32_t c = n ? s[0] & (0x7fu >> n) : 0;

	if (s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return 0;
	*ret = c;
	return n;
}

#endif
