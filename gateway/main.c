// SPDX-License-Identifier: BSD-2-Clause
/* stallbox-gateway: bundles, metrics and requests to freeze over HTTP. It has no privileges: it reads the directories
 * of bundles and talks to the agent's control socket. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "format/log.h"
#include "gateway/options.h"
#include "gateway/server.h"

#define FIRST_PASSED_FD 3 /* sd_listen_fds(3) */
#define BACKLOG 128

/* The socket that systemd has made for us; -ENOENT: none. */
static int passed_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
	struct stat st;

	if (!pid || !n || strtol(pid, NULL, 10) != getpid())
		return -ENOENT;
	if (strcmp(n, "1"))
		return -E2BIG;
	if (fstat(FIRST_PASSED_FD, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fcntl(FIRST_PASSED_FD, F_SETFD, FD_CLOEXEC);
	return FIRST_PASSED_FD;
}

static int open_socket(const char *text)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_storage addr;
	socklen_t len;
	int one = 1;

	if (request_listen(text, &addr, &len) < 0)
		return -EINVAL;
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (const struct sockaddr *)&addr, len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int get_socket(const struct config_server *c)
{
	int fd = passed_socket();

	if (fd == -ENOENT)
		fd = open_socket(c->listen);
	if (fd == -E2BIG) {
		log_err("systemd passed more than one socket, expected one");
		log_hint("leave one ListenStream= in stallbox-gateway.socket");
	} else if (fd == -EINVAL) {
		log_err("Listen='%s': expected ADDRESS:PORT or [ADDRESS]:PORT", c->listen);
	} else if (fd < 0) {
		log_errno(fd, "cannot listen on '%s'", c->listen);
	}
	return fd;
}

static void say_where(int fd, bool tls)
{
	struct sockaddr_storage addr = {};
	socklen_t len = sizeof(addr);
	char text[REQUEST_HOST_MAX];

	getsockname(fd, (struct sockaddr *)&addr, &len);
	request_print(&addr, text);
	log_info("stallbox-gateway %s: listening on %s%s", SB_VERSION, text, tls ? " with TLS" : "");
}

int main(int argc, char **argv)
{
	static struct gateway_options o;
	static struct server s;
	sigset_t end;
	int fd, r = gateway_options_read(&o, argc, argv), sig;

	if (r >= 0)
		return r;
	if (o.verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	umask(077);
	/* A heap for each of 256 threads would be 256 times what is left over in one. */
	mallopt(M_ARENA_MAX, 2);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_BLOCK, &end, NULL); /* before there are threads */
	fd = get_socket(&o.config.server);
	if (fd < 0)
		return fd == -EINVAL ? SB_EXIT_CONFIG : SB_EXIT_FAILURE;
	r = server_start(&s, &o.config, o.renderer, fd);
	if (r != SB_EXIT_OK)
		return r;
	say_where(fd, *o.config.server.tls_certificate);
	sigwait(&end, &sig);
	server_stop(&s);
	return SB_EXIT_OK;
}
