/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What Alertmanager sends (webhook, version "4"), and what a person asks for, as the reason of a freeze.
 * A notification comes again as long as an alert fires (repeat_interval): an alert is one freeze, from its
 * start to its end.
 */
#ifndef SB_GATEWAY_WEBHOOK_H
#define SB_GATEWAY_WEBHOOK_H

#include "format/base.h"

#define WEBHOOK_REASON_MAX 300 /* as the control socket takes it */
#define WEBHOOK_MAX_BYTES 65536u
#define WEBHOOK_MAX_DEPTH 32
/* {"status":"firing"} and a comma: no body has more alerts that fire. */
#define WEBHOOK_ALERTS (WEBHOOK_MAX_BYTES / 20)
#define WEBHOOK_SEEN 4096 /* all of one body, so that its next sending finds them */

struct webhook {
	char reason[WEBHOOK_REASON_MAX];
	size_t firing, resolved;
	uint64_t id[WEBHOOK_ALERTS]; /* of those that fire; see webhook_unseen() */
};

/* 0, or -EBADMSG with what is wrong in ret_error. */
int webhook_parse(const char *body, size_t len, struct webhook *ret, char *ret_error, size_t error_len);
/* {"reason": "..."} or nothing at all. 0, or -EBADMSG with what is wrong in ret_error. */
int webhook_parse_freeze(const char *body, size_t len, char ret[WEBHOOK_REASON_MAX], char *ret_error, size_t error_len);

/* Alerts that led to a freeze; the ones seen longest ago give way. */
struct webhook_seen {
	uint64_t id[WEBHOOK_SEEN];
	size_t next;
};

/* How many alerts of w fire that are not in seen. */
size_t webhook_unseen(const struct webhook_seen *seen, const struct webhook *w);
void webhook_remember(struct webhook_seen *seen, const struct webhook *w);

#endif
