// SPDX-License-Identifier: BSD-2-Clause
#include "tools/escape.h"

#include <stdint.h>
#include <string.h>

/* Length of a valid UTF-8 sequence of a printable character at s, 0 if there is none
 * (RFC 3629; C1 controls U+0080-009F and overlong forms are refused). */
static size_t utf8_len(const unsigned char *s)
{
	if (s[0] >= 0xc2 && s[0] <= 0xdf && (s[1] & 0xc0) == 0x80)
		return s[0] == 0xc2 && s[1] < 0xa0 ? 0 : 2;
	if (s[0] >= 0xe0 && s[0] <= 0xef && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80) {
		if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0))
			return 0;
		/* Bidirectional overrides turn text around on a terminal. */
		if (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae)
			return 0;
		if (s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)
			return 0;
		return 3;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 &&
	    (s[3] & 0xc0) == 0x80 && !(s[0] == 0xf0 && s[1] < 0x90) && !(s[0] == 0xf4 && s[1] > 0x8f))
		return 4;
	return 0;
}

static const char *special(enum escape_form form, unsigned char c)
{
	switch (form) {
	case ESCAPE_XML:
		return c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" :
		       c == '"' ? "&quot;" : c == '\'' ? "&#39;" : NULL;
	case ESCAPE_JSON:
		return c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : NULL;
	case ESCAPE_FOLDED:
		return c == ';' ? ":" : NULL;
	default:
		return NULL;
	}
}

/* The next output piece of s into buf; returns how many bytes of s it stands for. */
static size_t step(enum escape_form form, const char *s, char buf[16])
{
	unsigned char c = (unsigned char)*s;
	const char *text = special(form, c);
	size_t n;

	if (text) {
		strcpy(buf, text);
		return 1;
	}
	if (c >= 0x20 && c < 0x7f) {
		buf[0] = (char)c;
		buf[1] = '\0';
		return 1;
	}
	n = c >= 0x80 ? utf8_len((const unsigned char *)s) : 0;
	if (n) {
		memcpy(buf, s, n);
		buf[n] = '\0';
		return n;
	}
	snprintf(buf, 16, form == ESCAPE_JSON ? "\\\\x%02x" : "\\x%02x", c);
	return 1;
}

void escape_put(FILE *f, enum escape_form form, const char *s)
{
	char buf[16];

	while (*s) {
		s += step(form, s, buf);
		fputs(buf, f);
	}
}

size_t escape_copy(char *ret, size_t len, enum escape_form form, const char *s)
{
	size_t n = 0;
	char buf[16];

	ret[0] = '\0';
	while (*s) {
		size_t k;

		s += step(form, s, buf);
		k = strlen(buf);
		if (n + k + 1 > len)
			break;
		memcpy(ret + n, buf, k + 1);
		n += k;
	}
	return n;
}
