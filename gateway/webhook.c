// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/webhook.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

static int __attribute__((format(printf, 3, 4))) refuse(char *ret, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ret, len, fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

/* jansson calls itself for each level, up to 2048: more than the stack of a connection's thread holds. */
static bool is_shallow(const char *body, size_t len)
{
	bool text = false;
	int depth = 0;

	for (size_t i = 0; i < len; i++) {
		if (body[i] == '"')
			text = !text;
		else if (text && body[i] == '\\')
			i++;
		else if (!text && (body[i] == '[' || body[i] == '{') && ++depth > WEBHOOK_MAX_DEPTH)
			return false;
		else if (!text && (body[i] == ']' || body[i] == '}'))
			depth--;
	}
	return true;
}

static int load(const char *body, size_t len, json_t **ret, char *ret_error, size_t error_len)
{
	json_error_t e;

	if (len > WEBHOOK_MAX_BYTES)
		return refuse(ret_error, error_len, "the body has more than %u bytes", WEBHOOK_MAX_BYTES);
	if (!is_shallow(body, len))
		return refuse(ret_error, error_len, "the body nests deeper than %d levels", WEBHOOK_MAX_DEPTH);
	*ret = json_loadb(body, len, JSON_REJECT_DUPLICATES, &e);
	if (!*ret)
		return refuse(ret_error, error_len, "no JSON at line %d, column %d: %s", e.line, e.column, e.text);
	if (!json_is_object(*ret)) {
		json_decref(*ret);
		return refuse(ret_error, error_len, "expected a JSON object");
	}
	return 0;
}

/* One line of text for the control socket: no control characters, cut between characters. */
static void clean(char *text)
{
	size_t n = strlen(text);

	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	}
	/* A character that was cut: back to where it begins. */
	for (size_t i = n; i > 0 && n - i < 4; i--) {
		unsigned char c = (unsigned char)text[i - 1];
		size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

		if ((c & 0xc0) == 0x80)
			continue;
		if (i - 1 + need > n)
			text[i - 1] = '\0';
		break;
	}
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

/* Same alert, same beginning: the same freeze. */
static uint64_t id_of(const char *group, const json_t *alert)
{
	const char *part[] = { group, text_of(alert, "fingerprint"), text_of(alert, "startsAt") };
	uint64_t id = 0;

	for (size_t i = 0; i < SB_ARRAY_SIZE(part); i++)
		id = sb_mix64(id ^ sb_hash_bytes(part[i], strlen(part[i])));
	return id | 1; /* 0: none */
}

static void take_alerts(const json_t *alerts, const char *group, struct webhook *w)
{
	size_t i;
	json_t *alert;

	json_array_foreach(alerts, i, alert) {
		if (strcmp(text_of(alert, "status"), "firing")) {
			w->resolved++;
			continue;
		}
		if (w->firing < SB_ARRAY_SIZE(w->id))
			w->id[w->firing++] = id_of(group, alert);
	}
}

/* The name that the alerts share, else that of the first one that fires. */
static void write_reason(const json_t *body, const json_t *alerts, struct webhook *w)
{
	const json_t *labels = json_object_get(body, "commonLabels"), *notes = json_object_get(body, "commonAnnotations");
	const json_t *alert = NULL;
	const char *summary;
	size_t i;
	json_t *a;

	json_array_foreach(alerts, i, a) {
		if (!alert && !strcmp(text_of(a, "status"), "firing"))
			alert = a;
	}
	if (!*text_of(labels, "alertname"))
		labels = json_object_get(alert, "labels");
	summary = text_of(notes, "summary");
	if (!*summary)
		summary = text_of(json_object_get(alert, "annotations"), "summary");
	snprintf(w->reason, sizeof(w->reason), "alert %s%s%s%s%s", text_of(labels, "alertname"),
		 *text_of(labels, "instance") ? " of " : "", text_of(labels, "instance"), *summary ? ": " : "", summary);
	clean(w->reason);
}

int webhook_parse(const char *body, size_t len, struct webhook *ret, char *ret_error, size_t error_len)
{
	struct webhook w = {};
	const json_t *alerts;
	json_t *root;
	int r = load(body, len, &root, ret_error, error_len);

	if (r < 0)
		return r;
	alerts = json_object_get(root, "alerts");
	if (strcmp(text_of(root, "version"), "4"))
		r = refuse(ret_error, error_len, "expected \"version\": \"4\", as Alertmanager sends it");
	else if (!json_is_array(alerts))
		r = refuse(ret_error, error_len, "expected \"alerts\" to be an array");
	if (r == 0) {
		take_alerts(alerts, text_of(root, "groupKey"), &w);
		write_reason(root, alerts, &w);
		*ret = w;
	}
	json_decref(root);
	return r;
}

int webhook_parse_freeze(const char *body, size_t len, char ret[WEBHOOK_REASON_MAX], char *ret_error, size_t error_len)
{
	const json_t *reason;
	json_t *root;
	int r;

	if (!len) {
		ret[0] = '\0';
		return 0;
	}
	r = load(body, len, &root, ret_error, error_len);
	if (r < 0)
		return r;
	reason = json_object_get(root, "reason");
	if (reason && !json_is_string(reason)) {
		r = refuse(ret_error, error_len, "expected \"reason\" to be a string");
	} else {
		snprintf(ret, WEBHOOK_REASON_MAX, "%s", text_of(root, "reason"));
		clean(ret);
	}
	json_decref(root);
	return r;
}

/* ---- seen before -------------------------------------------------------------------- */

static bool is_seen(const struct webhook_seen *seen, uint64_t id)
{
	for (size_t i = 0; i < WEBHOOK_SEEN; i++) {
		if (seen->id[i] == id)
			return true;
	}
	return false;
}

size_t webhook_unseen(const struct webhook_seen *seen, const struct webhook *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->firing; i++)
		n += !is_seen(seen, w->id[i]);
	return n;
}

void webhook_remember(struct webhook_seen *seen, const struct webhook *w)
{
	for (size_t i = 0; i < w->firing; i++) {
		if (!is_seen(seen, w->id[i]))
			seen->id[seen->next++ % WEBHOOK_SEEN] = w->id[i];
	}
}
