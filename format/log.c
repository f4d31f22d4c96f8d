// SPDX-License-Identifier: BSD-2-Clause
#include "format/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum log_level max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	max_level = level;
}

/* One write per line: several processes of the agent share the descriptor. */
static void put(const char *prefix, const char *suffix, const char *fmt, va_list ap)
{
	char line[1024];
	int n = snprintf(line, sizeof(line) - 1, "%s", prefix);

	n += vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	n += snprintf(line + n, sizeof(line) - 1 - (size_t)n, "%s", suffix);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nowhere left to say it */
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	static const char *const prefix[] = { "error: ", "warning: ", "", "debug: " };
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	put(prefix[level], "", fmt, ap);
	va_end(ap);
}

int log_errno(int r, const char *fmt, ...)
{
	char suffix[128] = "";
	va_list ap;

	if (r < 0)
		snprintf(suffix, sizeof(suffix), ": %s", strerror(-r));
	va_start(ap, fmt);
	put("error: ", suffix, fmt, ap);
	va_end(ap);
	return r;
}

void log_hint(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put("hint: ", "", fmt, ap);
	va_end(ap);
}

void log_err_and_hint(const char *text)
{
	const char *end = strchrnul(text, '\n');

	log_err("%.*s", (int)(end - text), text);
	if (*end)
		log_hint("%s", end + 1);
}
