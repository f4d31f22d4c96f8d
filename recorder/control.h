/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: a UNIX stream socket; a client sends one request line, the agent
 * answers and closes. The first line of the answer is "ok" or "error CODE MESSAGE".
 *
 *   status | status-json       what the agent records, lost and costs
 *   counters-json              by kind, cause and CPU
 *   triggers | triggers-json   what the triggers see, and why they do not fire
 *   directories                where bundles are: directory=PATH, fallback=PATH
 *   freeze REASON              answers as soon as the bank is sealed
 *   freeze-wait REASON         answers when the bundle is complete
 *   delete NAME                may whoever asks delete this bundle, now? The agent touches no disk: they do
 *
 * The kernel says who asks (SO_PEERCRED). Root, and the agent's own user, may do everything; members of
 * the socket's group (Group=, or CONTROL_GROUP_NAME) everything but delete; nobody else anything.
 *
 * A client never holds up the agent: nothing here blocks, what a client does not take of an answer is
 * dropped, connections are taken at a limited rate and the others wait in the kernel's queue. One without a request makes
 * room for the next one, and is closed after CONTROL_IDLE_NS.
 */
#ifndef SB_RECORDER_CONTROL_H
#define SB_RECORDER_CONTROL_H

#include <sys/types.h>

#include "format/base.h"

#define CONTROL_CLIENTS 32
#define CONTROL_WAITING 24 /* of them, at most, wait for a bundle: the others can still ask */
#define CONTROL_QUEUE 64
#define CONTROL_LINE 512
#define CONTROL_GROUP_NAME "stallbox"
#define CONTROL_IDLE_NS (10 * NSEC_PER_SEC)
/* A status costs some 0.2 ms: 1 % of a CPU, whoever asks as often as that. */
#define CONTROL_PER_S 50
#define CONTROL_BURST 50

enum control_verb {
	CONTROL_UNKNOWN,
	CONTROL_STATUS,
	CONTROL_STATUS_JSON,
	CONTROL_COUNTERS_JSON,
	CONTROL_TRIGGERS,
	CONTROL_TRIGGERS_JSON,
	CONTROL_DIRECTORIES,
	CONTROL_FREEZE,
	CONTROL_FREEZE_WAIT,
	CONTROL_DELETE
};

/* What a request line asks for; *ret_arg: the rest of the line, "" where the verb takes none. */
enum control_verb control_parse(const char *line, const char **ret_arg);

enum control_right { CONTROL_NOBODY, CONTROL_GROUP, CONTROL_ROOT };

/* What a request needs. */
enum control_right control_needs(enum control_verb verb);

struct control_client {
	int fd; /* -1: free */
	size_t len;
	char line[CONTROL_LINE];
	bool waiting; /* for the end of capture_id */
	bool begun;   /* its beginning is enough */
	uint32_t capture_id;
	uint64_t since_ns;
	enum control_right right;
	uid_t uid;
	pid_t pid;
};

struct control {
	int fd;
	gid_t gid; /* that may talk to it; (gid_t)-1: root alone */
	char path[108];
	dev_t dev; /* of what is at path since we listen there */
	ino_t ino;
	struct control_client client[CONTROL_CLIENTS];
	uint64_t tokens, tokens_ns; /* connections that may be taken now; as of when */
	uint64_t dropped; /* connections closed without an answer: no request in time, a broken one, no room */
};

/* The group that bundles belong to may also ask for them. */
static inline const char *control_group(const char *of_bundles)
{
	return of_bundles[0] ? of_bundles : CONTROL_GROUP_NAME;
}

/* Of that group; (gid_t)-1: there is none. Asks the name service, as spool_gid(). */
gid_t control_gid(const char *of_bundles);
/* gid: of the group that may talk to it; (gid_t)-1: root alone. 0; 1: this process may not give it to that group,
 * so it is for root alone. -EADDRINUSE: an agent answers there already. -EEXIST: the path is no socket. */
int control_open(struct control *c, const char *path, gid_t gid);
/* Somebody who cleans up has removed the socket's path, or another one has taken it: listens there anew. 1: on another
 * descriptor; the caller closes the old one. 0: it is there. Negative: as control_open(), and nothing has changed. */
int control_renew(struct control *c, int *ret_old_fd);
/* Removes the path if it is still this socket's. */
void control_close(struct control *c);
/* 0: a connection may be taken; else ns until one may. */
uint64_t control_throttle(struct control *c, uint64_t now_ns);
/* Takes one connection; the slot or NULL. */
struct control_client *control_accept(struct control *c, uint64_t now_ns);
/* 1: a whole line is in client->line, 0: not yet, or the client was dropped before; negative: close it. What a
 * waiting client sends is dropped. */
int control_read(struct control_client *c);
/* false: so many wait already that the client may not. */
bool control_may_wait(const struct control *c);
/* Closes those without a request after CONTROL_IDLE_NS. */
void control_expire(struct control *c, uint64_t now_ns);
/* Answers and closes; never blocks: what a client does not take is dropped. */
void control_answer(struct control_client *c, const char *text);
void control_drop(struct control_client *c);

#endif
