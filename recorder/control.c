// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/control.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct {
	const char *verb;
	enum control_right needs;
	bool takes_arg;
} verbs[] = {
	[CONTROL_STATUS] = { "status", CONTROL_GROUP, false },
	[CONTROL_STATUS_JSON] = { "status-json", CONTROL_GROUP, false },
	[CONTROL_COUNTERS_JSON] = { "counters-json", CONTROL_GROUP, false },
	[CONTROL_TRIGGERS] = { "triggers", CONTROL_GROUP, false },
	[CONTROL_TRIGGERS_JSON] = { "triggers-json", CONTROL_GROUP, false },
	[CONTROL_DIRECTORIES] = { "directories", CONTROL_GROUP, false },
	[CONTROL_FREEZE] = { "freeze", CONTROL_GROUP, true },
	[CONTROL_FREEZE_WAIT] = { "freeze-wait", CONTROL_GROUP, true },
	[CONTROL_DELETE] = { "delete", CONTROL_ROOT, true },
};

enum control_verb control_parse(const char *line, const char **ret_arg)
{
	size_t n = strcspn(line, " ");

	*ret_arg = "";
	for (size_t i = CONTROL_UNKNOWN + 1; i < SB_ARRAY_SIZE(verbs); i++) {
		if (strlen(verbs[i].verb) != n || strncmp(verbs[i].verb, line, n))
			continue;
		if (line[n] && !verbs[i].takes_arg)
			break;
		*ret_arg = line[n] ? line + n + 1 : "";
		return (enum control_verb)i;
	}
	return CONTROL_UNKNOWN;
}

enum control_right control_needs(enum control_verb verb)
{
	return verb == CONTROL_UNKNOWN ? CONTROL_GROUP : verbs[verb].needs;
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

/* The socket is made closed to all others, and opened to its group when that is set. 1: that may not be. */
static int bind_for_group(struct control *c, const struct sockaddr_un *addr)
{
	mode_t mask = umask(0177);
	int r = bind(c->fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;

	umask(mask);
	if (r < 0)
		return r;
	if (c->gid != (gid_t)-1 && chown(c->path, (uid_t)-1, c->gid) < 0) {
		if (errno != EPERM)
			return -errno;
		c->gid = (gid_t)-1;
		r = 1;
	}
	return chmod(c->path, 0660) < 0 || listen(c->fd, CONTROL_QUEUE) < 0 ? -errno : r;
}

/* Not removed, nor another one's. */
static bool is_ours(const struct control *c)
{
	struct stat st;

	return lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino;
}

static int open_socket(struct control *c)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int r;

	strcpy(addr.sun_path, c->path);
	if (somebody_answers(&addr))
		return -EADDRINUSE;
	r = make_room(c->path);
	if (r < 0)
		return r;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	r = bind_for_group(c, &addr);
	if (r >= 0 && lstat(c->path, &st) < 0)
		r = -errno;
	if (r < 0) {
		close(c->fd);
		c->fd = -1;
		return r;
	}
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	return r;
}

gid_t control_gid(const char *of_bundles)
{
	const struct group *g = getgrnam(control_group(of_bundles));

	return g ? g->gr_gid : (gid_t)-1;
}

int control_open(struct control *c, const char *path, gid_t gid)
{
	c->fd = -1;
	c->gid = gid;
	c->tokens = CONTROL_BURST;
	c->tokens_ns = 0;
	c->dropped = 0;
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		c->client[i].fd = -1;
	if (strlen(path) >= sizeof(c->path))
		return -ENAMETOOLONG;
	strcpy(c->path, path);
	return open_socket(c);
}

int control_renew(struct control *c, int *ret_old_fd)
{
	int old = c->fd, r;

	if (is_ours(c))
		return 0;
	r = open_socket(c);
	if (r < 0) {
		c->fd = old;
		return r;
	}
	*ret_old_fd = old;
	return 1;
}

/* Of a process that has connected; its rights are those that it had then. */
static bool is_member(int fd, gid_t gid, gid_t primary)
{
	gid_t groups[256];
	socklen_t len = sizeof(groups);

	if (gid == (gid_t)-1)
		return false;
	if (primary == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false; /* in more groups than that, too */
	for (size_t i = 0; i < len / sizeof(gid_t); i++) {
		if (groups[i] == gid)
			return true;
	}
	return false;
}

static void identify(const struct control *c, struct control_client *cl)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	cl->right = CONTROL_NOBODY;
	if (getsockopt(cl->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return;
	cl->uid = cred.uid;
	cl->pid = cred.pid;
	if (cred.uid == 0 || cred.uid == geteuid())
		cl->right = CONTROL_ROOT;
	else if (is_member(cl->fd, c->gid, cred.gid))
		cl->right = CONTROL_GROUP;
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
		if (is_ours(c))
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
	if (oldest) {
		control_drop(oldest);
		c->dropped++;
	}
	return oldest;
}

uint64_t control_throttle(struct control *c, uint64_t now_ns)
{
	const uint64_t each_ns = NSEC_PER_SEC / CONTROL_PER_S;
	uint64_t n = (now_ns - c->tokens_ns) / each_ns;

	if (n) {
		c->tokens = SB_MIN(c->tokens + n, (uint64_t)CONTROL_BURST);
		c->tokens_ns += n * each_ns;
	}
	return c->tokens ? 0 : c->tokens_ns + each_ns - now_ns;
}

bool control_may_wait(const struct control *c)
{
	int n = 0;

	for (int i = 0; i < CONTROL_CLIENTS; i++)
		n += c->client[i].fd >= 0 && c->client[i].waiting;
	return n < CONTROL_WAITING;
}

void control_expire(struct control *c, uint64_t now_ns)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *cl = &c->client[i];

		if (cl->fd < 0 || cl->waiting || now_ns - cl->since_ns < CONTROL_IDLE_NS)
			continue;
		control_drop(cl);
		c->dropped++;
	}
}

struct control_client *control_accept(struct control *c, uint64_t now_ns)
{
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct control_client *cl;

	c->tokens -= c->tokens > 0; /* the attempt costs one: without a descriptor left for it, it stays in the queue */
	if (fd < 0)
		return NULL;
	cl = free_slot(c);
	if (!cl) {
		close(fd);
		c->dropped++;
		return NULL;
	}
	*cl = (struct control_client){ .fd = fd, .since_ns = now_ns };
	identify(c, cl);
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

	if (c->fd < 0)
		return 0;
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
