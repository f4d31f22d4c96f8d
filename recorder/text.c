// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/text.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

void text_put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
	va_end(ap);
	t->cut |= n < 0 || t->len + (size_t)n >= t->cap;
	if (n > 0)
		t->len = SB_MIN(t->len + (size_t)n, t->cap - 1);
}

void text_json(struct text *t, const char *s)
{
	text_put(t, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			text_put(t, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			text_put(t, "\\u%04x", c);
		else
			text_put(t, "%c", c);
	}
	text_put(t, "\"");
}

void text_first_line(const char *path, char *ret, size_t len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, ret, len - 1);

	ret[n > 0 ? n : 0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}
