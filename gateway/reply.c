// SPDX-License-Identifier: BSD-2-Clause
/* What all answers have in common. */
#include <stdarg.h>
#include <stdio.h>

#include "gateway/server.h"

static void add_headers(const struct exchange *e, struct MHD_Response *r)
{
	static const char *const headers[][2] = {
		{ "X-Content-Type-Options", "nosniff" },
		{ "Referrer-Policy", "no-referrer" },
		{ "Cross-Origin-Resource-Policy", "same-origin" },
	};

	for (size_t i = 0; i < SB_ARRAY_SIZE(headers); i++)
		MHD_add_response_header(r, headers[i][0], headers[i][1]);
	if (!MHD_get_response_header(r, "Content-Security-Policy"))
		MHD_add_response_header(r, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
	if (!MHD_get_response_header(r, "Cache-Control"))
		MHD_add_response_header(r, "Cache-Control", "no-store");
	if (e->ends)
		MHD_add_response_header(r, "Connection", "close");
}

enum MHD_Result server_send(struct exchange *e, unsigned int code, struct MHD_Response *r, uint64_t bytes)
{
	enum MHD_Result result;

	if (!r)
		return MHD_NO;
	add_headers(e, r);
	connections_expect(&e->s->connections, e->place, bytes);
	result = MHD_queue_response(e->connection, code, r);
	MHD_destroy_response(r);
	stats_add(e->s->stats.request[e->route][code], 1);
	return result;
}

static enum MHD_Result send_typed(struct exchange *e, unsigned int code, const char *type, struct MHD_Response *r,
				  size_t len)
{
	if (r)
		MHD_add_response_header(r, "Content-Type", type);
	return server_send(e, code, r, len);
}

enum MHD_Result server_send_text(struct exchange *e, unsigned int code, const char *type, const char *text)
{
	size_t len = strlen(text);

	return send_typed(e, code, type, MHD_create_response_from_buffer(len, (void *)text, MHD_RESPMEM_MUST_COPY), len);
}

enum MHD_Result server_send_owned(struct exchange *e, unsigned int code, const char *type, char *text, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);

	if (!r)
		free(text);
	return send_typed(e, code, type, r, len);
}

static struct MHD_Response *error_response(const char *fmt, va_list ap)
{
	char text[512], *body;
	struct MHD_Response *r;
	json_t *json;

	vsnprintf(text, sizeof(text) - 1, fmt, ap);
	/* What came from elsewhere need not be UTF-8. */
	json = json_string(text);
	if (!json) {
		for (char *c = text; *c; c++)
			*c = (unsigned char)*c < 0x80 ? *c : '?';
		json = json_string(text);
	}
	json = json_pack("{s:o}", "error", json);
	body = json_dumps(json, JSON_ENSURE_ASCII);
	json_decref(json);
	if (!body)
		return NULL;
	r = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
	if (!r)
		free(body);
	else
		MHD_add_response_header(r, "Content-Type", TYPE_JSON);
	return r;
}

enum MHD_Result server_refuse(struct exchange *e, unsigned int code, const char *fmt, ...)
{
	struct MHD_Response *r;
	va_list ap;

	va_start(ap, fmt);
	r = error_response(fmt, ap);
	va_end(ap);
	if (!r)
		return MHD_NO;
	if (code == MHD_HTTP_UNAUTHORIZED) {
		MHD_add_response_header(r, "WWW-Authenticate", "Bearer realm=\"stallbox\"");
		if (e->get) /* a browser asks for a password */
			MHD_add_response_header(r, "WWW-Authenticate", "Basic realm=\"stallbox: the token as the password\"");
	}
	if (code == MHD_HTTP_TOO_MANY_REQUESTS || code == MHD_HTTP_SERVICE_UNAVAILABLE)
		MHD_add_response_header(r, "Retry-After", "10");
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, "Allow", e->route == ROUTE_FREEZE || e->route == ROUTE_WEBHOOK ? "POST" : "GET, HEAD");
	return server_send(e, code, r, 512);
}
