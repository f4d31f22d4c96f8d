// SPDX-License-Identifier: BSD-2-Clause
/* stallbox freeze and stallbox status: ask the running agent over its control socket. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tools/commands.h"

#define DEFAULT_SOCKET "/run/stallbox/control.sock"
#define ANSWER_MS 5000
#define WAIT_MS 720000 /* the longest post window, and what follows it */

static const struct opt_command freeze_command = {
	"freeze", "", "Ask the agent to freeze the ring into a bundle now.",
	{ "stallbox freeze -r 'checkout was slow'", "stallbox freeze --wait" },
};
static const struct opt_command status_command = {
	"status", "", "Say what the agent records, lost and costs, and how its triggers stand.",
	{ "stallbox status", "stallbox status --json | jq .cost" },
};

static int no_agent(const char *path, int r)
{
	fprintf(stderr, "error: no agent answers on '%s': %s\n", path, strerror(-r));
	fprintf(stderr, "hint: start it with 'stallboxd', or name its socket with --socket%s\n",
		r == -EACCES ? "; the socket is for root and its group" : "");
	return SB_EXIT_NOT_FOUND;
}

/* Prints the payload of the answer; returns the exit code. */
static int print_answer(char *text)
{
	char *rest = strchr(text, '\n');
	int code = 1;

	if (rest)
		*rest++ = '\0';
	if (!strcmp(text, "ok")) {
		fputs(rest ? rest : "", stdout);
		return SB_EXIT_OK;
	}
	sscanf(text, "error %d", &code);
	fprintf(stderr, "error: %s\n", strncmp(text, "error ", 6) ? "unexpected answer" :
		strchr(text + 6, ' ') ? strchr(text + 6, ' ') + 1 : text);
	return code;
}

static int ask(const char *path, const char *request, int timeout_ms)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	static char text[65536];
	size_t len = 0;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "error: socket path longer than %zu bytes\n", sizeof(addr.sun_path) - 1);
		return SB_EXIT_USAGE;
	}
	strcpy(addr.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		return no_agent(path, -errno);
	for (;;) {
		ssize_t n;

		if (poll(&pfd, 1, timeout_ms) <= 0) {
			fprintf(stderr, "error: the agent did not answer within %d s\n", timeout_ms / 1000);
			return SB_EXIT_FAILURE;
		}
		n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	return print_answer(text);
}

int cmd_freeze(int argc, char **argv)
{
	const char *reason = "", *path = DEFAULT_SOCKET;
	char request[400];
	bool wait = false;
	int first, r;
	const struct opt opts[] = {
		{ "reason", "TEXT", OPT_TEXT, &reason, "kept in the bundle (-r)" },
		{ "wait", NULL, OPT_FLAG, &wait, "until the bundle is complete" },
		{ "socket", "PATH", OPT_TEXT, &path, "control socket (default " DEFAULT_SOCKET ")" },
		{}
	};

	r = opt_parse(&freeze_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(&freeze_command, "unexpected argument '%s'", argv[first]);
	snprintf(request, sizeof(request), "%s %.300s", wait ? "freeze-wait" : "freeze", reason);
	for (char *c = request; *c; c++) {
		if (*c == '\n')
			*c = ' ';
	}
	strcat(request, "\n");
	return ask(path, request, wait ? WAIT_MS : ANSWER_MS);
}

int cmd_status(int argc, char **argv)
{
	const char *path = DEFAULT_SOCKET;
	bool json = false;
	int first, r;
	const struct opt opts[] = {
		{ "json", NULL, OPT_FLAG, &json, "one JSON object" },
		{ "socket", "PATH", OPT_TEXT, &path, "control socket (default " DEFAULT_SOCKET ")" },
		{}
	};

	r = opt_parse(&status_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(&status_command, "unexpected argument '%s'", argv[first]);
	return ask(path, json ? "status-json\n" : "status\n", ANSWER_MS);
}
