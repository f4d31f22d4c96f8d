// SPDX-License-Identifier: BSD-2-Clause
/* Processes of captures: how they are forked, handed over and talked to. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "recorder/capture_impl.h"
#include "recorder/keeper.h"
#include "recorder/privileges.h"
#include "symbols/symbols.h"

/* Shared by all that are forked later. */
static const struct symbols *load_kernel_symbols(struct capture_work *work)
{
	struct symbols *s;
	uint64_t text_start;
	ssize_t bytes;

	if (symbols_load_kallsyms("/proc/kallsyms", &s, &text_start) < 0)
		return NULL;
	bytes = symbols_share(s);
	malloc_trim(0);
	storage_set(work->shared_bytes, (uint64_t)SB_MAX(bytes, 0));
	return s;
}

/* A child at the other end of a socket. Its pid, 0 in the child, or a negative errno. */
static pid_t fork_with_socket(int *ret_fd)
{
	int pair[2], size = 256 << 10, r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	pid = fork();
	r = -errno;
	if (pid < 0)
		close(pair[0]);
	close(pair[pid != 0]);
	*ret_fd = pair[pid == 0];
	return pid < 0 ? r : pid;
}

/* not_for_it: a descriptor that only this process may have; -1: none. */
static int fork_freezer(const struct capture_config *c, int not_for_it, struct capture_process *ret)
{
	int fd;
	pid_t pid = fork_with_socket(&fd);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		if (not_for_it >= 0)
			close(not_for_it);
		_exit(capture_main(c, fd));
	}
	*ret = (struct capture_process){ .fd = fd, .pid = pid };
	return 0;
}

int capture_start(const struct capture_config *c, struct capture_process *ret)
{
	struct capture_config with_names = *c;

	with_names.kernel = load_kernel_symbols(c->work);
	return fork_freezer(&with_names, -1, ret);
}

/* A process whose descriptor goes to whoever asked; one message, the pid in it. */
static int hand_over(int fd, const struct capture_process *p)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec iov = { (void *)&p->pid, sizeof(p->pid) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control.space) };

	control.h = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.h), &p->fd, sizeof(int));
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* It reads files that others may have written, and needs nothing else of what the starter has. */
static _Noreturn void keep(const struct capture_config *c)
{
	prctl(PR_SET_NAME, "stallbox-keep");
	close_range(3, ~0U, 0);
	if (privileges_become(PRIVILEGES_NONE) < 0)
		_exit(1);
	become_ordinary();
	keeper_run(&c->spool, c->gid, &c->work->storage);
	_exit(0);
}

/* One at a time: *pidfd is that of the last one. */
static void start_keeper(const struct capture_config *c, int *pidfd)
{
	struct pollfd p = { .fd = *pidfd, .events = POLLIN };
	pid_t pid;

	if (*pidfd >= 0 && poll(&p, 1, 0) == 0) {
		storage_set(c->work->storage.keep_again, 1);
		return;
	}
	if (*pidfd >= 0)
		close(*pidfd);
	/* Out of processes or memory: that passes. */
	while ((pid = fork()) < 0)
		sleep_until(sb_monotonic_ns() + NSEC_PER_SEC);
	if (pid == 0)
		keep(c);
	*pidfd = pidfd_open(pid, 0);
}

/* What the starter is asked for. */
#define ASK_CAPTURE "c"
#define ASK_KEEPER  "k"

static int starter_main(const struct capture_config *c, int fd)
{
	struct capture_config with_names = *c;
	int keeper = -1;
	char byte;

	privileges_become(PRIVILEGES_CAPTURES);
	prctl(PR_SET_NAME, "stallbox-start");
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* none of them is waited for */
	with_names.kernel = load_kernel_symbols(c->work);
	while (recv(fd, &byte, 1, 0) == 1) {
		struct capture_process p;
		int r;

		if (byte == *ASK_KEEPER) {
			start_keeper(c, &keeper);
			continue;
		}
		/* Out of processes or memory: that passes. */
		while (fork_freezer(&with_names, fd, &p) < 0)
			sleep_until(sb_monotonic_ns() + NSEC_PER_SEC);
		r = hand_over(fd, &p);
		close(p.fd);
		if (r < 0)
			return 1;
	}
	return 0;
}

int capture_starter(const struct capture_config *c, const int *not_for_it, size_t n, struct capture_process *ret)
{
	int fd;
	pid_t pid = fork_with_socket(&fd);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		sigset_t none;

		probes_forget_links(c->probes);
		for (size_t i = 0; i < n; i++)
			close(not_for_it[i]);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		_exit(starter_main(c, fd));
	}
	*ret = (struct capture_process){ .fd = fd, .pid = pid };
	return 0;
}

int capture_ask(const struct capture_process *starter)
{
	return send(starter->fd, ASK_CAPTURE, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int capture_keep(const struct capture_process *starter)
{
	return send(starter->fd, ASK_KEEPER, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int capture_accept(const struct capture_process *starter, struct capture_process *ret)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	pid_t pid;
	struct iovec iov = { &pid, sizeof(pid) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control.space) };
	ssize_t n = recvmsg(starter->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != sizeof(pid) || m.msg_controllen < sizeof(control.h) || control.h.cmsg_type != SCM_RIGHTS)
		return -EPIPE;
	ret->pid = pid;
	memcpy(&ret->fd, CMSG_DATA(&control.h), sizeof(int));
	return 1;
}

void capture_stop(struct capture_process *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	if (p->pid > 0)
		waitpid(p->pid, NULL, 0);
	p->pid = 0;
}

int capture_send(const struct capture_process *p, const struct capture_order *o)
{
	return send(p->fd, o, sizeof(*o), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int capture_receive(const struct capture_process *p, struct capture_report *ret)
{
	ssize_t n = recv(p->fd, ret, sizeof(*ret), MSG_DONTWAIT);

	if (n == sizeof(*ret))
		return 1;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return -EPIPE;
}
