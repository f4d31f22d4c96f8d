/* SPDX-License-Identifier: BSD-2-Clause */
/* A question to the running agent, over its control socket (recorder/control.h has the requests). */
#ifndef SB_FORMAT_ASK_AGENT_H
#define SB_FORMAT_ASK_AGENT_H

#include "format/base.h"

#define ASK_AGENT_LINE 512 /* bytes of a request, with its newline and end */
#define ASK_AGENT_MAX (1u << 20) /* an answer is shorter, by a byte and its end */

/*
 * Sends one request line, given without its newline, and reads until the agent closes; all of it takes no longer than
 * timeout_ms. An agent that is kept busy takes connections later: so long it waits.
 *
 * 0: *ret is what follows the line "ok". 1: the agent said something else, as a rule "error CODE MESSAGE": *ret is that
 * line, without its newline. *ret is for free().
 * -ETIMEDOUT: no whole answer in time, -ENODATA: closed without one, -EBADMSG: it is cut or no text, -EMSGSIZE: it is
 * not shorter than ASK_AGENT_MAX. -ENAMETOOLONG: the path does not fit a socket's address. Else nobody answers there.
 */
int ask_agent(const char *socket_path, const char *request, int timeout_ms, char **ret);

/* The value of the line KEY=VALUE of an answer, cut to fit; "" where there is none. */
void ask_agent_value(const char *answer, const char *key, char *ret, size_t len);

#endif
