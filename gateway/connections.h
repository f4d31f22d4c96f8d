/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A deadline for each connection. libmicrohttpd's own timeout is one of silence: a byte every two seconds keeps a
 * connection for ever (measured). Here a request has to be whole in time, and an answer has to be taken at
 * CONNECTIONS_MIN_RATE at least.
 *
 * Where there are more than there should be, one that has had a second for its request and has not sent it gives way to
 * each new one, so that nobody is shut out by those who say nothing. A burst finds room for twice as many meanwhile.
 */
#ifndef SB_GATEWAY_CONNECTIONS_H
#define SB_GATEWAY_CONNECTIONS_H

#include <pthread.h>

#include "gateway/stats.h"

#define CONNECTIONS_MIN_RATE 32768u /* bytes a second */
#define CONNECTIONS_PATIENCE_NS NSEC_PER_SEC

struct connection {
	struct connection *next, *prev;
	int fd;
	uint64_t deadline_ns; /* UINT64_MAX: none, we are working, or it has ended */
	bool waiting;	      /* for its request */
	const char *uri_end;  /* of the request under way; its connection's thread alone uses it */
};

struct connections {
	pthread_mutex_t lock; /* of the list and of what is in it */
	pthread_cond_t more;
	struct connection *first;
	size_t n, max;
	uint64_t timeout_ns;
	struct stats *stats;
};

/* At most, for a moment. */
static inline size_t connections_limit(size_t max)
{
	return 2 * max;
}

/* A thread watches while there are connections, and sleeps when there are none. 0 or a negative errno. */
int connections_start(struct connections *c, size_t max, uint64_t timeout_ns, struct stats *stats);
/* NULL: no memory. fd stays the caller's until connections_remove(). It is the client's turn: a request. */
struct connection *connections_add(struct connections *c, int fd);
void connections_remove(struct connections *c, struct connection *one);

/* The client's turn: the next request. */
void connections_await(struct connections *c, struct connection *one);
/* The client's turn: `bytes` of an answer to take. */
void connections_expect(struct connections *c, struct connection *one, uint64_t bytes);
/* Our turn: what is being done has limits of its own. */
void connections_suspend(struct connections *c, struct connection *one);

#endif
