/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests to the agent over its control socket (recorder/control.h). Whatever is asked of the gateway, the
 * agent, which runs at real-time priority, is asked for its status once a second at most.
 */
#ifndef SB_GATEWAY_AGENT_CLIENT_H
#define SB_GATEWAY_AGENT_CLIENT_H

#include <jansson.h>
#include <pthread.h>

#include "format/base.h"

#define AGENT_CLIENT_FRESH_NS NSEC_PER_SEC
#define AGENT_CLIENT_ERROR 400

enum agent_answer { AGENT_STATUS, AGENT_COUNTERS, AGENT_TRIGGERS, AGENT_ANSWERS };

struct agent_client {
	const char *socket;
	pthread_mutex_t lock; /* of the rest */
	json_t *answer[AGENT_ANSWERS]; /* NULL: none, see error */
	int error;
	char message[AGENT_CLIENT_ERROR];
	uint64_t asked_ns;
	/* For "does it record?": the number of records, and when it was last seen to grow. */
	uint64_t records, grew_ns;
	bool known; /* records is of an earlier look */
};

/* What the agent said, for reading; each reference is the receiver's. NULL, but for the status: an older agent
 * that does not know the question, until it is restarted. */
struct agent_client_view {
	json_t *answer[AGENT_ANSWERS];
	uint64_t asked_ns, grew_ns; /* 0: not seen to grow yet */
};

/* socket lives as long as c. */
void agent_client_init(struct agent_client *c, const char *socket);
/* 0, or a negative errno with words in ret_error: no agent, no answer in time, an answer that is none. */
int agent_client_status(struct agent_client *c, struct agent_client_view *ret, char ret_error[AGENT_CLIENT_ERROR]);
void agent_client_view_done(struct agent_client_view *v);

/* One request line, without its newline; on success *ret, for free(), is what follows "ok". -EREMOTEIO: the
 * agent said "error ...", the rest of which is in ret_error. */
int agent_client_ask(const struct agent_client *c, const char *request, int timeout_ms, char **ret,
		     char ret_error[AGENT_CLIENT_ERROR]);

#endif
