/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions to the running agent (format/ask_agent.h), for a command: what is wrong is printed. */
#ifndef SB_TOOLS_CLIENT_H
#define SB_TOOLS_CLIENT_H

#include "tools/options.h"

#define CLIENT_ANSWER_MS 5000
#define CLIENT_SOCKET_OPT(value) \
	{ "socket", "PATH", OPT_TEXT, value, "control socket (default: Socket= of the configuration)" }

/* path: NULL for the socket that the configuration names. On SB_EXIT_OK *ret is what follows "ok", to be freed. Else
 * the exit code, and what is wrong has been printed; SB_EXIT_NOT_FOUND: no agent answers. */
int client_ask(const char *path, const char *request, int timeout_ms, char **ret);
/* The same where it is no error that no agent answers: then nothing is printed. */
int client_ask_if_there(const char *path, const char *request, int timeout_ms, char **ret);

#endif
