// SPDX-License-Identifier: BSD-2-Clause
#include "format/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static enum log_level max_level = LOG_LEVEL_INFO;
static unsigned long unheard; /* lines that nobody took in time */

void log_set_level(enum log_level level)
{
	max_level = level;
}

/* $JOURNAL_STREAM is "device:inode" of the stream that a service manager has given us. */
bool log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

/*
 * Without waiting: the journal or the reader of a container's pipe may be what is stuck, and the agent must go on.
 * Our own stderr may be others', too, so its flags stay as they are. A pipe that takes anything takes a page.
 */
static ssize_t put_now(const char *text, size_t len)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t n = send(STDERR_FILENO, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0 || errno != ENOTSOCK)
		return n;
	if (poll(&out, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(STDERR_FILENO, text, len);
}

static void put_line(const char *line, size_t len)
{
	char gap[80];

	if (unheard) {
		int n = snprintf(gap, sizeof(gap), "warning: %lu lines are missing here, nobody took them\n", unheard);

		if (put_now(gap, (size_t)n) == n)
			unheard = 0;
	}
	if (put_now(line, len) < 0 && errno == EAGAIN)
		unheard++; /* what else goes wrong can be said nowhere */
}

/* One write per line: several processes of the agent share the descriptor. */
static void put(int priority, const char *prefix, const char *suffix, const char *fmt, va_list ap)
{
	char line[1024];
	int n = log_is_journal() ? snprintf(line, sizeof(line) - 1, "<%d>", priority) : 0;

	n += snprintf(line + n, sizeof(line) - 1 - (size_t)n, "%s", prefix);

	n += vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	n += snprintf(line + n, sizeof(line) - 1 - (size_t)n, "%s", suffix);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	put_line(line, (size_t)n);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	static const char *const prefix[] = { "error: ", "warning: ", "", "debug: " };
	static const int priority[] = { 3, 4, 6, 7 }; /* of syslog(3) */
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	put(priority[level], prefix[level], "", fmt, ap);
	va_end(ap);
}

int log_errno(int r, const char *fmt, ...)
{
	char suffix[128] = "";
	va_list ap;

	if (r < 0)
		snprintf(suffix, sizeof(suffix), ": %s", strerror(-r));
	va_start(ap, fmt);
	put(3, "error: ", suffix, fmt, ap);
	va_end(ap);
	return r;
}

void log_hint(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(6, "hint: ", "", fmt, ap);
	va_end(ap);
}

void log_err_and_hint(const char *text)
{
	const char *end = strchrnul(text, '\n');

	log_err("%.*s", (int)(end - text), text);
	if (*end)
		log_hint("%s", end + 1);
}
