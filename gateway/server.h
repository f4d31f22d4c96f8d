/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP server: who may ask for what, and the answers' common part. A thread for each connection
 * (libmicrohttpd): one that hangs on a disk or waits for the agent holds up no other.
 */
#ifndef SB_GATEWAY_SERVER_H
#define SB_GATEWAY_SERVER_H

#include <microhttpd.h>

#include "gateway/agent_client.h"
#include "gateway/captures.h"
#include "gateway/connections.h"
#include "gateway/render.h"
#include "gateway/survey.h"
#include "gateway/tokens.h"
#include "gateway/webhook.h"

struct server {
	const struct config *config;
	bool local; /* listens where this machine alone can reach it */
	char hostname[REQUEST_HOST_MAX];
	struct tokens tokens;
	struct captures captures;
	struct agent_client agent;
	struct render render;
	struct survey *survey;
	struct connections connections;
	struct stats stats;
	uint64_t in_storage; /* requests that may hang on a disk; some connections are kept free of them */
	pthread_mutex_t lock; /* of what follows */
	struct webhook_seen seen;
	uint64_t asked_ns[3]; /* freezes that were asked for lately */
	struct MHD_Daemon *daemon;
};

/* One request and its answer. */
struct exchange {
	struct server *s;
	struct MHD_Connection *connection;
	struct connection *place;
	enum stats_route route;
	char name[BUNDLE_FILE_MAX]; /* of the bundle in the path; may be none */
	char *body;
	size_t len;
	bool get, head;	 /* GET or HEAD; HEAD */
	bool ends;	 /* the connection is closed after the answer */
	bool in_storage; /* is counted there */
};

/* Everything but the listening socket, which must listen already and becomes the server's. TLS when the
 * configuration names a certificate. 0 or an exit code; says what is wrong. */
int server_start(struct server *s, const struct config *config, const char *renderer, int listen_fd);
void server_stop(struct server *s);

/* ---- answers: each queues one and returns what libmicrohttpd wants to hear ------------ */

#define TYPE_JSON "application/json"
#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_HTML "text/html; charset=utf-8"

/* Ownership of r passes. bytes: how many the client has to take. */
enum MHD_Result server_send(struct exchange *e, unsigned int code, struct MHD_Response *r, uint64_t bytes);
enum MHD_Result server_send_text(struct exchange *e, unsigned int code, const char *type, const char *text);
/* Ownership of text (malloc) passes. */
enum MHD_Result server_send_owned(struct exchange *e, unsigned int code, const char *type, char *text, size_t len);
/* {"error": "..."}. The text may hold anything. */
enum MHD_Result server_refuse(struct exchange *e, unsigned int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- what there is to ask for ------------------------------------------------------- */

enum MHD_Result answer_healthy(struct exchange *e);
enum MHD_Result answer_ready(struct exchange *e);
enum MHD_Result answer_metrics(struct exchange *e);
enum MHD_Result answer_freeze(struct exchange *e);
enum MHD_Result answer_webhook(struct exchange *e);
enum MHD_Result answer_page(struct exchange *e);
/* Instead of it where no token has the scope read: how to make one. */
enum MHD_Result answer_page_without_token(struct exchange *e);
enum MHD_Result answer_list(struct exchange *e);
enum MHD_Result answer_capture(struct exchange *e);
enum MHD_Result answer_html(struct exchange *e);

#endif
