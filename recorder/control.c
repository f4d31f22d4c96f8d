// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/control.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const char *after(const char *line, const char *verb)
{
	size_t n = strlen(verb);

	if (strncmp(line, verb, n) || (line[n] && line[n] != ' '))
		return NULL;
	return line[n] ? line + n + 1 : "";
}

enum control_verb control_parse(const char *line, const char **ret_reason)
{
	const char *reason;

	*ret_reason = "";
	if (!strcmp(line, "status"))
		return CONTROL_STATUS;
	if (!strcmp(line, "status-json"))
		return CONTROL_STATUS_JSON;
	reason = after(line, "freeze-wait");
	if (reason) {
		*ret_reason = reason;
		return CONTROL_FREEZE_WAIT;
	}
	reason = after(line, "freeze");
	if (!reason)
		return CONTROL_UNKNOWN;
	*ret_reason = reason;
	return CONTROL_FREEZE;
}

/* An agent that is too busy to accept answers later: its queue is full, not closed. */
static bool somebody_answers(const struct sockaddr_un *addr)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN);
}

/* A socket that nobody answers on goes; anything else of that name is not ours to delete. */
static int make_room(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0; /* bind() says what is wrong, if anything is */
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(path) < 0 ? -errno : 0;
}

int control_open(struct control *c, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r;

	c->fd = -1;
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		c->client[i].fd = -1;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	strcpy(c->path, path);
	if (somebody_answers(&addr))
		return -EADDRINUSE;
	r = make_room(path);
	if (r < 0)
		return r;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	if (bind(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0660) < 0 ||
	    listen(c->fd, CONTROL_CLIENTS) < 0) {
		r = -errno;
		close(c->fd);
		c->fd = -1;
		return r;
	}
	return 0;
}

void control_drop(struct control_client *c)
{
	if (c->fd >= 0) {
		shutdown(c->fd, SHUT_RDWR); /* a freezer that was started meanwhile has it, too */
		close(c->fd);
	}
	c->fd = -1;
	c->waiting = false;
}

void control_close(struct control *c)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		control_drop(&c->client[i]);
	if (c->fd >= 0) {
		close(c->fd);
		unlink(c->path);
	}
	c->fd = -1;
}

/* A client that keeps its place without a request makes room for the next one. */
static struct control_client *free_slot(struct control *c)
{
	struct control_client *oldest = NULL;

	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *cl = &c->client[i];

		if (cl->fd < 0)
			return cl;
		if (!cl->waiting && (!oldest || cl->since_ns < oldest->since_ns))
			oldest = cl;
	}
	if (oldest)
		control_drop(oldest);
	return oldest;
}

struct control_client *control_accept(struct control *c, uint64_t now_ns)
{
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct control_client *cl;

	if (fd < 0)
		return NULL;
	cl = free_slot(c);
	if (!cl) {
		close(fd);
		return NULL;
	}
	*cl = (struct control_client){ .fd = fd, .since_ns = now_ns };
	return cl;
}

static int drop_input(int fd)
{
	char rest[CONTROL_LINE];
	ssize_t n = recv(fd, rest, sizeof(rest), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return n == 0 ? -EPIPE : 0;
}

int control_read(struct control_client *c)
{
	ssize_t n;
	char *end;

	if (c->waiting)
		return drop_input(c->fd);
	n = recv(c->fd, c->line + c->len, sizeof(c->line) - 1 - c->len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	if (memchr(c->line + c->len, '\0', (size_t)n))
		return -EBADMSG;
	c->len += (size_t)n;
	c->line[c->len] = '\0';
	end = strchr(c->line, '\n');
	if (!end)
		return c->len + 1 < sizeof(c->line) ? 0 : -E2BIG;
	*end = '\0';
	return 1;
}

void control_answer(struct control_client *c, const char *text)
{
	(void)!send(c->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	control_drop(c);
}
