// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/agent_client.h"

#include <errno.h>
#include <stdio.h>

#include "format/ask_agent.h"

#define STATUS_MS 2000

void agent_client_init(struct agent_client *c, const char *socket)
{
	memset(c, 0, sizeof(*c));
	c->socket = socket;
	pthread_mutex_init(&c->lock, NULL);
}

int agent_client_ask(const struct agent_client *c, const char *request, int timeout_ms, char **ret,
		     char ret_error[AGENT_CLIENT_ERROR])
{
	_cleanup_free_ char *text = NULL;
	int r = ask_agent(c->socket, request, timeout_ms, &text);

	if (r < 0) {
		snprintf(ret_error, AGENT_CLIENT_ERROR, "no agent answers on '%s': %s", c->socket, strerror(-r));
		return r;
	}
	if (r) {
		snprintf(ret_error, AGENT_CLIENT_ERROR, "the agent said: %.300s", text);
		return -EREMOTEIO;
	}
	*ret = TAKE_PTR(text);
	return 0;
}

/* ---- status ------------------------------------------------------------------------- */

static int ask_json(struct agent_client *c, const char *request, json_t **ret)
{
	_cleanup_free_ char *text = NULL;
	json_error_t e;
	int r = agent_client_ask(c, request, STATUS_MS, &text, c->message);

	if (r < 0)
		return r;
	*ret = json_loads(text, 0, &e);
	if (*ret)
		return 0;
	snprintf(c->message, sizeof(c->message), "the agent's answer to %s is no JSON at byte %d: %s", request, e.position,
		 e.text);
	return -EBADMSG;
}

static uint64_t sum_of(json_t *object)
{
	uint64_t sum = 0;
	const char *key;
	json_t *v;

	json_object_foreach(object, key, v)
		sum += (uint64_t)json_integer_value(v);
	return sum;
}

static void note_growth(struct agent_client *c)
{
	uint64_t records = sum_of(json_object_get(c->answer[AGENT_STATUS], "recorded"));

	/* Fewer: another recorder took its place. */
	if (c->known && records > c->records)
		c->grew_ns = c->asked_ns;
	c->records = records;
	c->known = true;
}

static void refresh(struct agent_client *c)
{
	static const char *const requests[AGENT_ANSWERS] = { "status-json", "counters-json", "triggers-json" };

	c->error = 0;
	for (int i = 0; i < AGENT_ANSWERS; i++) {
		int r = 0;

		json_decref(c->answer[i]);
		c->answer[i] = NULL;
		if (c->error == 0)
			r = ask_json(c, requests[i], &c->answer[i]);
		if (r < 0 && (r != -EREMOTEIO || i == AGENT_STATUS))
			c->error = r;
	}
	c->asked_ns = sb_monotonic_ns();
	if (c->error == 0)
		note_growth(c);
}

int agent_client_status(struct agent_client *c, struct agent_client_view *ret, char ret_error[AGENT_CLIENT_ERROR])
{
	int r;

	pthread_mutex_lock(&c->lock);
	if (!c->asked_ns || sb_monotonic_ns() - c->asked_ns >= AGENT_CLIENT_FRESH_NS)
		refresh(c);
	r = c->error;
	if (r == 0) {
		*ret = (struct agent_client_view){ .asked_ns = c->asked_ns, .grew_ns = c->grew_ns };
		for (int i = 0; i < AGENT_ANSWERS; i++)
			ret->answer[i] = json_incref(c->answer[i]);
	} else {
		snprintf(ret_error, AGENT_CLIENT_ERROR, "%s", c->message);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

void agent_client_view_done(struct agent_client_view *v)
{
	for (int i = 0; i < AGENT_ANSWERS; i++)
		json_decref(v->answer[i]);
}
