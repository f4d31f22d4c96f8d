// SPDX-License-Identifier: BSD-2-Clause
/* What the triggers see, why they do not fire now, and what became of those that did. */
#include <stdio.h>

#include "recorder/status.h"

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static uint64_t left(uint64_t until_ns, uint64_t now_ns)
{
	return until_ns > now_ns ? until_ns - now_ns : 0;
}

/* The condition itself: met, or what is missing. */
static void why_condition(const struct agent_view *v, const struct options *o, size_t i, char *ret, size_t len)
{
	const struct trigger *t = o->trigger[i];

	if (v->trigger_error[i] < 0)
		snprintf(ret, len, "disarmed: %s", strerror(-v->trigger_error[i]));
	else if (t->waits_for_calm)
		snprintf(ret, len, "has fired, and does not again before the value has fallen %.0f %% below its threshold",
			 t->hysteresis * 100);
	else if (t->met_since_ns && v->env_now_ns - t->met_since_ns < t->held_ns)
		snprintf(ret, len, "met for %.1f s of %.1f s", seconds(v->env_now_ns - t->met_since_ns),
			 seconds(t->held_ns));
	else if (t->met)
		snprintf(ret, len, "met");
	else if (t->kernel.type == TRIGGER_KERNEL_RECLAIM_YIELD)
		snprintf(ret, len, "the share is not below its threshold, or reclaim does not work");
	else
		snprintf(ret, len, "the value is below its threshold");
}

/* What would keep it from making a bundle if the condition were met now; TRIGGER_FIRED: nothing. */
static enum trigger_outcome blocked_by(const struct agent_view *v, const struct options *o, size_t i, uint64_t *ret_ns)
{
	const struct trigger *t = o->trigger[i];
	enum trigger_outcome by = limits_judge(&t->limits, &t->history, v->env_now_ns);

	*ret_ns = 0;
	if (by == TRIGGER_IN_COOLDOWN) /* a dry run's, which is not there */
		*ret_ns = left(t->history.busy_until_ns, v->env_now_ns);
	else if (by != TRIGGER_FIRED && by != TRIGGER_DRY_RUN)
		*ret_ns = left(limits_until(&t->limits, &t->history, v->env_now_ns), v->env_now_ns);
	if (by != TRIGGER_FIRED || v->state == AGENT_RECORDING)
		return by;
	if (v->state == AGENT_POST_TRIGGER)
		return TRIGGER_MERGED;
	*ret_ns = left(v->cooldown_end_ns, v->env_now_ns);
	return TRIGGER_IN_COOLDOWN;
}

static void why_blocked(enum trigger_outcome by, uint64_t ns, const struct trigger *t, char *ret, size_t len)
{
	switch (by) {
	case TRIGGER_FIRED:
		snprintf(ret, len, "would fire");
		break;
	case TRIGGER_MERGED:
		snprintf(ret, len, "would become part of the capture under way");
		break;
	case TRIGGER_IN_COOLDOWN:
		snprintf(ret, len, "the recorder's cooldown holds it back for %.0f s", seconds(ns));
		break;
	case TRIGGER_OWN_COOLDOWN:
		snprintf(ret, len, "its cooldown holds it back for %.0f s", seconds(ns));
		break;
	case TRIGGER_OVER_HOUR:
		snprintf(ret, len, "max-per-hour=%lu holds it back for %.0f s", t->limits.max_per_hour, seconds(ns));
		break;
	case TRIGGER_OVER_DAY:
		snprintf(ret, len, "max-per-day=%lu holds it back for %.0f s", t->limits.max_per_day, seconds(ns));
		break;
	default:
		snprintf(ret, len, "dry run: would make no bundle");
	}
}

static uint64_t day_sum(const struct trigger *t, uint64_t now)
{
	uint64_t sum = 0;

	for (int k = 0; k < TRIGGER_OUTCOMES; k++)
		sum += limits_day(&t->history, (enum trigger_outcome)k, now);
	return sum;
}

static void put_day(struct text *t, const struct trigger *tr, uint64_t now)
{
	text_put(t, "    24 h:  met %llu times", (unsigned long long)day_sum(tr, now));
	for (int k = 0; k < TRIGGER_OUTCOMES; k++) {
		uint64_t n = limits_day(&tr->history, (enum trigger_outcome)k, now);

		if (n)
			text_put(t, ", %llu %s", (unsigned long long)n, trigger_outcome_name((enum trigger_outcome)k));
	}
	text_put(t, "\n");
}

static void put_last(struct text *t, const struct trigger *tr, uint64_t now)
{
	const char *sep = "    last:  ";

	for (int k = 0; k < TRIGGER_OUTCOMES; k++) {
		if (!tr->history.count[k])
			continue;
		text_put(t, "%s%s %.0f s ago", sep, trigger_outcome_name((enum trigger_outcome)k),
			 seconds(left(now, tr->history.last_ns[k])));
		sep = ", ";
	}
	if (*sep == ',')
		text_put(t, "\n");
}

void status_triggers_text(const struct agent_view *v, const struct options *o, struct text *t)
{
	char condition[160], blocked[120];

	text_put(t, "ok\n");
	for (size_t i = 0; i < o->n_triggers; i++) {
		const struct trigger *tr = o->trigger[i];
		uint64_t ns;
		enum trigger_outcome by = blocked_by(v, o, i, &ns);

		why_condition(v, o, i, condition, sizeof(condition));
		why_blocked(by, ns, tr, blocked, sizeof(blocked));
		text_put(t, "%s  (%s)\n", tr->name, tr->spec);
		text_put(t, "    now:   %g %s, threshold %g; %s\n", tr->value, tr->unit ? tr->unit : "", tr->threshold,
			 condition);
		text_put(t, "    met:   %s\n", blocked);
		put_last(t, tr, v->env_now_ns);
		put_day(t, tr, v->env_now_ns);
	}
}

static void json_counts(struct text *t, const char *name, const struct trigger *tr, uint64_t day_of)
{
	text_put(t, ",\"%s\":{", name);
	for (int k = 0; k < TRIGGER_OUTCOMES; k++)
		text_put(t, "%s\"%s\":%llu", k ? "," : "", trigger_outcome_name((enum trigger_outcome)k),
			 (unsigned long long)(day_of ? limits_day(&tr->history, (enum trigger_outcome)k, day_of) :
						       tr->history.count[k]));
	text_put(t, "}");
}

static void json_last(struct text *t, const struct trigger *tr, uint64_t now)
{
	const char *sep = "";

	text_put(t, ",\"last_s_ago\":{");
	for (int k = 0; k < TRIGGER_OUTCOMES; k++) {
		if (!tr->history.count[k])
			continue;
		text_put(t, "%s\"%s\":%.3f", sep, trigger_outcome_name((enum trigger_outcome)k),
			 seconds(left(now, tr->history.last_ns[k])));
		sep = ",";
	}
	text_put(t, "}");
}

static void json_settings(struct text *t, const struct trigger *tr, const struct options *o)
{
	text_put(t, ",\"settings\":{\"post_s\":%.3f,\"held_for_s\":%.3f,\"hysteresis\":%.4g,\"cooldown_s\":%.3f,"
		    "\"max_per_hour\":%lu,\"max_per_day\":%lu,\"dry_run\":%s}",
		 seconds(tr->post_ns ? tr->post_ns : o->config.recorder.post_ns), seconds(tr->held_ns), tr->hysteresis,
		 seconds(tr->limits.cooldown_ns), tr->limits.max_per_hour, tr->limits.max_per_day,
		 tr->limits.dry_run ? "true" : "false");
}

static void json_one(const struct agent_view *v, const struct options *o, size_t i, struct text *t)
{
	const struct trigger *tr = o->trigger[i];
	char condition[160];
	uint64_t ns;
	enum trigger_outcome by = blocked_by(v, o, i, &ns);

	why_condition(v, o, i, condition, sizeof(condition));
	text_put(t, "{\"name\":");
	text_json(t, tr->name);
	text_put(t, ",\"kind\":\"%s\",\"spec\":", tr->ops->kind);
	text_json(t, tr->spec);
	text_put(t, ",\"armed\":%s,\"value\":%g,\"threshold\":%g,\"unit\":\"%s\",\"why\":",
		 v->trigger_error[i] < 0 ? "false" : "true", tr->value, tr->threshold, tr->unit ? tr->unit : "");
	text_json(t, condition);
	text_put(t, ",\"met\":%llu,\"blocked_by\":", (unsigned long long)tr->fired_cnt);
	if (by == TRIGGER_FIRED)
		text_put(t, "null");
	else
		text_put(t, "\"%s\"", trigger_outcome_name(by));
	text_put(t, ",\"blocked_for_s\":%.3f", seconds(ns));
	json_counts(t, "outcomes", tr, 0);
	json_counts(t, "last_24h", tr, v->env_now_ns);
	json_last(t, tr, v->env_now_ns);
	json_settings(t, tr, o);
	text_put(t, "}");
}

void status_triggers_json(const struct agent_view *v, const struct options *o, struct text *t)
{
	text_put(t, "ok\n{\"state\":\"%s\",\"triggers\":[", status_state_name(v->state));
	for (size_t i = 0; i < o->n_triggers; i++) {
		text_put(t, "%s", i ? "," : "");
		json_one(v, o, i, t);
	}
	text_put(t, "]}\n");
}
