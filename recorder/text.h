/* SPDX-License-Identifier: BSD-2-Clause */
/* Text in a buffer of the caller's: answers on the control socket, put together; small files of the kernel's. */
#ifndef SB_RECORDER_TEXT_H
#define SB_RECORDER_TEXT_H

#include "format/base.h"

struct text {
	char *p;
	size_t len, cap;
	bool cut; /* did not fit; what is there is of no use as JSON */
};

void text_put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As a string, with quotes: printable ASCII, whatever s has. */
void text_json(struct text *t, const char *s);

/* The first line of a small file, without its end; "" when it cannot be read. */
void text_first_line(const char *path, char *ret, size_t len);

#endif
