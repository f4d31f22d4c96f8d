// SPDX-License-Identifier: BSD-2-Clause
#include "tools/client.h"

#include <errno.h>
#include <stdio.h>

#include "format/ask_agent.h"
#include "tools/escape.h"
#include "tools/settings.h"

static int fail(int code, const char *what, const char *text)
{
	fprintf(stderr, "error: %s", what);
	escape_put(stderr, ESCAPE_TERMINAL, text);
	fputc('\n', stderr);
	return code;
}

static int no_agent(const char *path, int r)
{
	fprintf(stderr, "error: no agent answers on '%s': %s\n", path, strerror(-r));
	fprintf(stderr, "hint: start it with 'stallboxd', or name its socket with --socket%s\n",
		r == -EACCES ? "; the socket is for root and its group" : "");
	return SB_EXIT_NOT_FOUND;
}

/* "error CODE MESSAGE" */
static int refused(const char *line)
{
	int code = SB_EXIT_FAILURE;
	const char *message = sscanf(line, "error %d", &code) == 1 ? strchr(line + 6, ' ') : NULL;

	return fail(code > 0 && code < 126 ? code : SB_EXIT_FAILURE, message ? "" : "unexpected answer: ",
		    message ? message + 1 : line);
}

static int ask(const char *path, const char *request, int timeout_ms, bool must, char **ret)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (!path)
		path = settings()->recorder.socket;
	r = ask_agent(path, request, timeout_ms, &text);
	switch (r) {
	case 0:
		*ret = TAKE_PTR(text);
		return SB_EXIT_OK;
	case 1:
		return refused(text);
	case -ETIMEDOUT:
		fprintf(stderr, "error: the agent did not answer within %d s\n", timeout_ms / 1000);
		return SB_EXIT_FAILURE;
	case -ENODATA:
		return fail(SB_EXIT_FAILURE, "the agent closed the connection without an answer", "");
	case -EBADMSG:
		return fail(SB_EXIT_FAILURE, "the agent's answer is cut", "");
	case -EMSGSIZE:
		return fail(SB_EXIT_FAILURE, "the agent's answer is longer than 1 MiB", "");
	default:
		break;
	}
	if (!must)
		return SB_EXIT_NOT_FOUND;
	if (r == -ENAMETOOLONG)
		return fail(SB_EXIT_USAGE, "the path of the socket is too long, expected at most 107 bytes: ", path);
	return no_agent(path, r);
}

int client_ask(const char *path, const char *request, int timeout_ms, char **ret)
{
	return ask(path, request, timeout_ms, true, ret);
}

int client_ask_if_there(const char *path, const char *request, int timeout_ms, char **ret)
{
	return ask(path, request, timeout_ms, false, ret);
}
