// SPDX-License-Identifier: BSD-2-Clause
#include "tools/escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "format/utf8.h"

static bool harmless(uint32_t c)
{
	if (c < 0xa0) /* C1 controls: a terminal obeys them */
		return false;
	/* Marks, overrides and isolates turn text around; line and paragraph separators. */
	if (c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	    (c >= 0x2066 && c <= 0x2069))
		return false;
	return c != 0xfffe && c != 0xffff; /* XML has no such characters */
}

/* Length of the sequence at s if it may stand in an output as it is, else 0. */
static size_t utf8_len(const unsigned char *s)
{
	uint32_t c;
	size_t n = utf8_decode(s, &c);

	return n && harmless(c) ? n : 0;
}

static const char *special(enum escape_form form, unsigned char c)
{
	switch (form) {
	case ESCAPE_XML:
		return c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" :
		       c == '"' ? "&quot;" : c == '\'' ? "&#39;" : NULL;
	case ESCAPE_SCRIPT:
		if (c == '<' || c == '>' || c == '&')
			return c == '<' ? "\\u003c" : c == '>' ? "\\u003e" : "\\u0026";
		/* fall through */
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
	snprintf(buf, 16, form == ESCAPE_JSON || form == ESCAPE_SCRIPT ? "\\\\x%02x" : "\\x%02x", c);
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
