/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: a UNIX stream socket; a client sends one request line, the agent
 * answers and closes. The first line of the answer is "ok" or "error CODE MESSAGE".
 *
 *   status | status-json
 *   freeze REASON         answers as soon as the bank is sealed
 *   freeze-wait REASON    answers when the bundle is complete
 */
#ifndef SB_RECORDER_CONTROL_H
#define SB_RECORDER_CONTROL_H

#include "format/base.h"

#define CONTROL_CLIENTS 8
#define CONTROL_LINE 512

enum control_verb { CONTROL_UNKNOWN, CONTROL_STATUS, CONTROL_STATUS_JSON, CONTROL_FREEZE, CONTROL_FREEZE_WAIT };

/* What a request line asks for; *ret_reason: the rest of a freeze's line, else "". */
enum control_verb control_parse(const char *line, const char **ret_reason);

struct control_client {
	int fd; /* -1: free */
	size_t len;
	char line[CONTROL_LINE];
	bool waiting; /* for the end of capture_id */
	bool begun;   /* its beginning is enough */
	uint32_t capture_id;
	uint64_t since_ns;
};

struct control {
	int fd;
	char path[108];
	struct control_client client[CONTROL_CLIENTS];
};

/* -EADDRINUSE: an agent answers there already. -EEXIST: the path is no socket. */
int control_open(struct control *c, const char *path);
void control_close(struct control *c);
/* Takes one connection; the slot or NULL. */
struct control_client *control_accept(struct control *c, uint64_t now_ns);
/* 1: a whole line is in client->line, 0: not yet, negative: close it. What a waiting client
 * sends is dropped. */
int control_read(struct control_client *c);
/* Answers and closes; never blocks: what a client does not take is dropped. */
void control_answer(struct control_client *c, const char *text);
void control_drop(struct control_client *c);

#endif
