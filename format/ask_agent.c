// SPDX-License-Identifier: BSD-2-Clause
#include "format/ask_agent.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* At least 1: a timeout of 0 means none to setsockopt(). */
static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = sb_monotonic_ns();

	return now < deadline_ns ? (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1 : 1;
}

static int dial(const char *path, uint64_t deadline_ns)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	for (;;) {
		int ms = left_ms(deadline_ns);
		struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
			return TAKE_FD(fd);
		if (errno != EINTR || sb_monotonic_ns() >= deadline_ns)
			return -errno;
	}
}

/* Until there is something to read. */
static int await(int fd, uint64_t deadline_ns)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	while (sb_monotonic_ns() < deadline_ns) {
		int n = poll(&pfd, 1, left_ms(deadline_ns));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	return -ETIMEDOUT;
}

static int grow(char **text, size_t *cap)
{
	size_t bigger = *cap ? *cap * 2 : 4096;
	char *more = bigger <= ASK_AGENT_MAX ? realloc(*text, bigger) : NULL;

	if (!more)
		return bigger <= ASK_AGENT_MAX ? -ENOMEM : -EMSGSIZE;
	*text = more;
	*cap = bigger;
	return 0;
}

/* Until the agent closes; the deadline is one for all of it, for an agent that drips must not hold us. */
static int receive(int fd, uint64_t deadline_ns, char **ret)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0, cap = 0;

	for (;;) {
		int r = await(fd, deadline_ns);
		ssize_t n;

		if (r == 0 && len + 1 >= cap)
			r = grow(&text, &cap);
		if (r < 0)
			return r;
		n = recv(fd, text + len, cap - 1 - len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0 && errno != ECONNRESET)
			return -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (!len)
		return -ENODATA;
	text[len] = '\0';
	if (text[len - 1] != '\n' || strlen(text) != len)
		return -EBADMSG;
	*ret = TAKE_PTR(text);
	return 0;
}

int ask_agent(const char *socket_path, const char *request, int timeout_ms, char **ret)
{
	uint64_t deadline_ns = sb_monotonic_ns() + (uint64_t)timeout_ms * NSEC_PER_MSEC;
	_cleanup_close_ int fd = dial(socket_path, deadline_ns);
	_cleanup_free_ char *text = NULL;
	char line[ASK_AGENT_LINE];
	int n = snprintf(line, sizeof(line), "%s\n", request), r;

	if (fd < 0)
		return fd;
	if (n >= (int)sizeof(line))
		return -E2BIG;
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) < 0 && errno != EPIPE) /* then it may have answered already */
		return -errno;
	r = receive(fd, deadline_ns, &text);
	if (r < 0)
		return r;
	r = strncmp(text, "ok\n", 3) != 0;
	if (r)
		text[strcspn(text, "\n")] = '\0';
	else
		memmove(text, text + 3, strlen(text + 3) + 1);
	*ret = TAKE_PTR(text);
	return r;
}

void ask_agent_value(const char *answer, const char *key, char *ret, size_t len)
{
	size_t n = strlen(key);

	ret[0] = '\0';
	for (const char *line = answer; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		if (strncmp(line, key, n) || line[n] != '=')
			continue;
		snprintf(ret, len, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
		return;
	}
}
