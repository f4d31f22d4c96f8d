/* SPDX-License-Identifier: BSD-2-Clause */
/* Names in a bundle are hostile: they may hold control characters, markup, terminal escapes
 * and invalid UTF-8. Nothing from a bundle reaches an output except through here. */
#ifndef SB_TOOLS_ESCAPE_H
#define SB_TOOLS_ESCAPE_H

#include <stdio.h>

enum escape_form {
	ESCAPE_TERMINAL, /* controls, what turns text around, broken UTF-8 as \xNN */
	ESCAPE_FOLDED,	 /* the same, and ';' as ':' so that a frame stays one frame */
	ESCAPE_XML,
	ESCAPE_JSON, /* without the quotes */
	ESCAPE_SCRIPT, /* JSON that may stand in a script element, of HTML or XML: no <, > or & */
};

void escape_put(FILE *f, enum escape_form form, const char *s);
/* Into a buffer; cut to fit, always terminated. Returns its length. */
size_t escape_copy(char *ret, size_t len, enum escape_form form, const char *s);

#endif
