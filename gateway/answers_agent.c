// SPDX-License-Identifier: BSD-2-Clause
/* The pages about the agent: is it alive, does it record, what does it count; and requests to freeze. */
#include <errno.h>
#include <stdio.h>

#include "format/ask_agent.h"
#include "format/uploaded.h"
#include "gateway/metrics.h"
#include "gateway/server.h"

#define FREEZE_MS 10000

enum MHD_Result answer_healthy(struct exchange *e)
{
	return server_send_text(e, MHD_HTTP_OK, TYPE_TEXT, "the gateway answers\n");
}

/* ---- ready ---------------------------------------------------------------------------- */

/* The agent's own wakeups make records: none for so long means that none are made. */
#define RECORDS_WITHIN_NS (10 * NSEC_PER_SEC)
#define SECOND_LOOK_MS 1200

/* Whether records come is told by two looks. The first request has to wait for its second one. */
static int look_twice(struct server *s, struct agent_client_view *ret, char *ret_error)
{
	struct timespec pause = { SECOND_LOOK_MS / 1000, (long)(SECOND_LOOK_MS % 1000 * NSEC_PER_MSEC) };
	int r = agent_client_status(&s->agent, ret, ret_error);

	if (r < 0 || (ret->grew_ns && ret->asked_ns - ret->grew_ns < RECORDS_WITHIN_NS))
		return r;
	agent_client_view_done(ret);
	nanosleep(&pause, NULL);
	return agent_client_status(&s->agent, ret, ret_error);
}

/* NULL: some trigger would make a bundle. An older agent does not say which are dry runs. */
static const char *no_trigger(const struct agent_client_view *v)
{
	const json_t *all = v->answer[AGENT_TRIGGERS] ? v->answer[AGENT_TRIGGERS] : v->answer[AGENT_STATUS];
	const char *why = "no trigger is armed";
	size_t i;
	json_t *t;

	json_array_foreach(json_object_get(all, "triggers"), i, t) {
		if (!json_is_true(json_object_get(t, "armed")))
			continue;
		if (!json_is_true(json_object_get(json_object_get(t, "settings"), "dry_run")))
			return NULL;
		why = "every trigger that is armed is a dry run";
	}
	return why;
}

/* What is held is tried again every 30 s at least. When nothing is, the last attempt may have been the one at the agent's
 * start, or of a bundle that was lost: nobody tries again, and the disk may be well since. */
#define ATTEMPT_COUNTS_NS (120 * NSEC_PER_SEC)

/* What the agent was told there lately; an older agent does not say when. */
static int last_refusal(const json_t *dir, uint64_t now_ns)
{
	uint64_t tried_ns = (uint64_t)json_integer_value(json_object_get(dir, "tried_ns"));

	if (tried_ns && now_ns > tried_ns && now_ns - tried_ns >= ATTEMPT_COUNTS_NS)
		return 0;
	return (int)json_integer_value(json_object_get(dir, "error"));
}

/* What we see of a directory counts before anything was tried there. An errno, 0: it takes bundles as far as one knows. */
static int refusal(const json_t *dir, uint64_t now_ns, const struct survey_result *seen)
{
	const char *path = json_string_value(json_object_get(dir, "path"));
	int error = last_refusal(dir, now_ns);

	for (size_t i = 0; error == 0 && i < CAPTURES_DIRS; i++) {
		if (path && seen->dir[i].path && !strcmp(seen->dir[i].path, path))
			error = survey_dir_refuses(&seen->dir[i]);
	}
	return error;
}

/* Each directory refuses: what the first one says, else false. */
static bool no_directory(const struct agent_client_view *v, const struct survey_result *seen, char ret[AGENT_CLIENT_ERROR])
{
	const json_t *storage = json_object_get(v->answer[AGENT_STATUS], "storage");
	long long held = json_integer_value(json_object_get(storage, "held"));
	int first = 0;
	size_t i;
	json_t *d;

	json_array_foreach(json_object_get(storage, "directories"), i, d) {
		int error = refusal(d, v->asked_ns, seen);

		if (!error)
			return false;
		first = first ? first : error;
	}
	if (!first)
		return false;
	snprintf(ret, AGENT_CLIENT_ERROR, "no directory takes a bundle: %s; %lld are held in memory", strerror(first), held);
	return true;
}

/* What keeps a stall of this minute from becoming a bundle, or NULL; it may stand in text. */
static const char *not_ready(const struct agent_client_view *v, const struct survey_result *seen, char text[AGENT_CLIENT_ERROR])
{
	const char *why;

	if (!v->grew_ns || v->asked_ns - v->grew_ns >= RECORDS_WITHIN_NS)
		return "nothing is recorded";
	why = no_trigger(v);
	if (why)
		return why;
	return no_directory(v, seen, text) ? text : NULL;
}

enum MHD_Result answer_ready(struct exchange *e)
{
	struct survey_result storage = survey_get(e->s->survey);
	struct agent_client_view v;
	char error[AGENT_CLIENT_ERROR], text[AGENT_CLIENT_ERROR + 32];
	const char *why = error;
	int r = look_twice(e->s, &v, error);

	if (r == 0) {
		why = not_ready(&v, &storage, error);
		agent_client_view_done(&v);
	}
	if (!why && !survey_answers(&storage, sb_monotonic_ns()))
		why = "the bundles cannot be read: their directory does not answer";
	if (!why && storage.error < 0) {
		snprintf(error, sizeof(error), "the bundles cannot be read: %s", strerror(-storage.error));
		why = error;
	}
	if (!why)
		return server_send_text(e, MHD_HTTP_OK, TYPE_TEXT, "ready\n");
	snprintf(text, sizeof(text), "not ready: %s\n", why);
	return server_send_text(e, MHD_HTTP_SERVICE_UNAVAILABLE, TYPE_TEXT, text);
}

/* ---- metrics -------------------------------------------------------------------------- */

/* Without an agent, too: that it is gone is the first thing to know. */
enum MHD_Result answer_metrics(struct exchange *e)
{
	struct survey_result storage = survey_get(e->s->survey);
	struct agent_client_view v = {};
	char error[AGENT_CLIENT_ERROR];
	char *text = NULL;
	size_t len;
	FILE *f;

	if (agent_client_status(&e->s->agent, &v, error) < 0)
		v = (struct agent_client_view){};
	f = open_memstream(&text, &len);
	if (f) {
		metrics_put_agent(f, v.answer);
		metrics_put_storage(f, &storage);
		metrics_put_gateway(f, &e->s->stats);
		metrics_put_upload(f, UPLOAD_STATUS);
		fclose(f);
	}
	agent_client_view_done(&v);
	return f && text ? server_send_owned(e, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, len) : MHD_NO;
}

/* ---- freezes -------------------------------------------------------------------------- */

#define BURST SB_ARRAY_SIZE(((struct server *)0)->asked_ns)
#define BURST_NS (30 * NSEC_PER_SEC)

/* Each freeze is a bundle, and bundles push out older ones: three in half a minute are enough. When it was taken, or 0. */
static uint64_t take_turn(struct server *s)
{
	uint64_t now = sb_monotonic_ns();

	pthread_mutex_lock(&s->lock);
	if (s->asked_ns[0] && now - s->asked_ns[0] < BURST_NS)
		now = 0;
	if (now) {
		memmove(s->asked_ns, s->asked_ns + 1, sizeof(s->asked_ns) - sizeof(s->asked_ns[0]));
		s->asked_ns[BURST - 1] = now;
	}
	pthread_mutex_unlock(&s->lock);
	return now;
}

/* No bundle came of it. */
static void give_back(struct server *s, uint64_t turn)
{
	size_t i = BURST;

	pthread_mutex_lock(&s->lock);
	while (i && s->asked_ns[i - 1] != turn)
		i--;
	if (i) {
		memmove(s->asked_ns + 1, s->asked_ns, (i - 1) * sizeof(s->asked_ns[0]));
		s->asked_ns[0] = 0;
	}
	pthread_mutex_unlock(&s->lock);
}

struct frozen {
	char capture[BUNDLE_FILE_MAX], state[16];
};

/* 0, or the HTTP status of the refusal, with its words. */
static unsigned int freeze(struct server *s, const char *reason, struct frozen *ret, char ret_error[AGENT_CLIENT_ERROR])
{
	_cleanup_free_ char *answer = NULL;
	char request[WEBHOOK_REASON_MAX + 16];
	uint64_t turn = take_turn(s);
	int r;

	if (!turn) {
		snprintf(ret_error, AGENT_CLIENT_ERROR, "%zu freezes were asked for in the last %llu s", BURST,
			 BURST_NS / NSEC_PER_SEC);
		return MHD_HTTP_TOO_MANY_REQUESTS;
	}
	snprintf(request, sizeof(request), "freeze %s", reason);
	r = agent_client_ask(&s->agent, request, FREEZE_MS, &answer, ret_error);
	if (r < 0)
		give_back(s, turn);
	if (r < 0)
		return r == -EREMOTEIO ? MHD_HTTP_BAD_GATEWAY : r == -ETIMEDOUT ? MHD_HTTP_GATEWAY_TIMEOUT :
		       MHD_HTTP_SERVICE_UNAVAILABLE;
	ask_agent_value(answer, "capture", ret->capture, sizeof(ret->capture));
	ask_agent_value(answer, "state", ret->state, sizeof(ret->state));
	if (bundle_is_file_name(ret->capture))
		return 0;
	snprintf(ret_error, AGENT_CLIENT_ERROR, "the agent named no bundle");
	return MHD_HTTP_BAD_GATEWAY;
}

/* The bundle is there a second later, and grows until the post window is over. */
static enum MHD_Result send_frozen(struct exchange *e, const struct frozen *f, unsigned int code)
{
	json_t *json = json_pack("{s:s, s:s}", "state", f->state, "capture", f->capture);
	char *text = json ? json_dumps(json, JSON_ENSURE_ASCII) : NULL;
	char location[BUNDLE_FILE_MAX + 32];
	struct MHD_Response *r;

	json_decref(json);
	if (!text)
		return MHD_NO;
	r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (!r) {
		free(text);
		return MHD_NO;
	}
	snprintf(location, sizeof(location), "/api/v1/captures/%s", f->capture);
	MHD_add_response_header(r, "Content-Type", TYPE_JSON);
	MHD_add_response_header(r, "Location", location);
	return server_send(e, code, r, 0);
}

enum MHD_Result answer_freeze(struct exchange *e)
{
	char reason[WEBHOOK_REASON_MAX], error[AGENT_CLIENT_ERROR];
	struct frozen f;
	unsigned int code;

	if (webhook_parse_freeze(e->body, e->len, reason, error, sizeof(error)) < 0)
		return server_refuse(e, MHD_HTTP_BAD_REQUEST, "%s", error);
	code = freeze(e->s, reason, &f, error);
	return code ? server_refuse(e, code, "%s", error) : send_frozen(e, &f, MHD_HTTP_ACCEPTED);
}

/* ---- Alertmanager --------------------------------------------------------------------- */

static enum MHD_Result send_webhook(struct exchange *e, enum stats_webhook result, const char *state)
{
	char text[64];

	stats_add(e->s->stats.webhook[result], 1);
	snprintf(text, sizeof(text), "{\"state\":\"%s\"}\n", state);
	return server_send_text(e, MHD_HTTP_OK, TYPE_JSON, text);
}

/* After a bundle the agent holds its triggers back for a while; an alert is a trigger, and no person. */
static bool is_held_back(struct server *s)
{
	struct agent_client_view v;
	char error[AGENT_CLIENT_ERROR];
	const char *state;
	bool held;

	if (agent_client_status(&s->agent, &v, error) < 0)
		return false; /* the freeze will say what is wrong */
	state = json_string_value(json_object_get(v.answer[AGENT_STATUS], "state"));
	held = state && !strcmp(state, "cooldown");
	agent_client_view_done(&v);
	return held;
}

static bool is_new(struct server *s, const struct webhook *w)
{
	bool is;

	pthread_mutex_lock(&s->lock);
	is = webhook_unseen(&s->seen, w);
	pthread_mutex_unlock(&s->lock);
	return is;
}

/* Alertmanager sends again what was answered with 5xx, and nothing else. */
enum MHD_Result answer_webhook(struct exchange *e)
{
	char error[AGENT_CLIENT_ERROR];
	struct webhook w;
	struct frozen f;
	unsigned int code;

	if (webhook_parse(e->body, e->len, &w, error, sizeof(error)) < 0) {
		stats_add(e->s->stats.webhook[WEBHOOK_FAILED], 1);
		return server_refuse(e, MHD_HTTP_BAD_REQUEST, "%s", error);
	}
	if (!w.firing)
		return send_webhook(e, WEBHOOK_RESOLVED, "resolved");
	if (!is_new(e->s, &w))
		return send_webhook(e, WEBHOOK_SEEN_BEFORE, "seen-before");
	if (is_held_back(e->s))
		return send_webhook(e, WEBHOOK_HELD_BACK, "held-back");
	code = freeze(e->s, w.reason, &f, error);
	if (code) {
		stats_add(e->s->stats.webhook[WEBHOOK_FAILED], 1);
		code = code == MHD_HTTP_TOO_MANY_REQUESTS ? MHD_HTTP_SERVICE_UNAVAILABLE : code;
		return server_refuse(e, code, "%s", error);
	}
	pthread_mutex_lock(&e->s->lock);
	webhook_remember(&e->s->seen, &w);
	pthread_mutex_unlock(&e->s->lock);
	stats_add(e->s->stats.webhook[strcmp(f.state, "merged") ? WEBHOOK_FROZEN : WEBHOOK_MERGED], 1);
	return send_frozen(e, &f, MHD_HTTP_OK);
}
