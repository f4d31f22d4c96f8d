// SPDX-License-Identifier: BSD-2-Clause
/* What clients of the control socket ask for. */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "format/log.h"
#include "recorder/agent_impl.h"

/* Room for the largest answer: the counters of 400 CPUs, or 32 triggers with every count. */
#define ANSWER_BYTES (192u << 10)

/* Each bundle may push out an older one: whoever is not root can ask for so many an hour. */
static const struct trigger_limits asked_limits = { .max_per_hour = 60 };

int agent_open_control(struct agent *a)
{
	const char *path = a->o->config.recorder.socket, *group = control_group(a->o->config.storage.group);
	int r = limits_init(&asked_limits, &a->asked_history);

	if (r == 0)
		r = control_open(&a->control, path, control_gid(a->o->config.storage.group));
	if (r < 0)
		return log_errno(r, "cannot listen on '%s'", path);
	if (r > 0) {
		log_warn("'%s' may not be given to the group '%s': root alone may ask", path, group);
		log_hint("let the agent be of that group: [Service] Group=%s in a drop-in of stallboxd.service", group);
	}
	return 0;
}

void agent_renew_control(struct agent *a)
{
	int old = -1, r = control_renew(&a->control, &old);

	if (r == 1) {
		epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, old, NULL);
		close(old);
		a->listen_due = UINT64_MAX;
		r = agent_watch(a, a->control.fd, EPOLLIN, SRC_LISTEN);
		if (r == 0)
			log_warn("'%s' was removed; the agent listens there again", a->control.path);
	}
	if (r < 0)
		log_errno(r, "'%s' was removed, and the agent cannot listen there again", a->control.path);
}

void agent_listen(struct agent *a, bool on)
{
	struct epoll_event ev = { .events = on ? EPOLLIN : 0, .data.u64 = SRC_LISTEN };

	if (epoll_ctl(a->epoll_fd, EPOLL_CTL_MOD, a->control.fd, &ev) == 0 && on)
		a->listen_due = UINT64_MAX;
}

static void refuse(struct control_client *c, const char *why)
{
	char text[300];

	snprintf(text, sizeof(text), "error %d %s\n", SB_EXIT_FAILURE, why);
	control_answer(c, text);
}

static void refuse_right(const struct agent *a, struct control_client *c)
{
	char text[200] = "not allowed: only root may do that";

	if (c->right == CONTROL_NOBODY && a->control.gid == (gid_t)-1)
		snprintf(text, sizeof(text), "not allowed: only root may ask");
	else if (c->right == CONTROL_NOBODY)
		snprintf(text, sizeof(text), "not allowed: only root and the group %s may ask",
			 control_group(a->o->config.storage.group));
	refuse(c, text);
}

/* 0, or -EAGAIN after an answer. */
static int may_freeze(struct agent *a, struct control_client *c, bool wait, uint64_t now)
{
	struct trigger_history *h = &a->asked_history;

	if (wait && !control_may_wait(&a->control)) {
		refuse(c, "too many wait for a bundle already; ask without --wait");
		return -EAGAIN;
	}
	if (c->right == CONTROL_ROOT)
		return 0;
	if (limits_judge(&asked_limits, h, now) != TRIGGER_FIRED) {
		refuse(c, "there were 60 requests for a bundle within an hour, expected fewer of others than root");
		return -EAGAIN;
	}
	limits_note(h, TRIGGER_FIRED, 1, now);
	return 0;
}

/* It goes to logs, where a line is a line. */
static void copy_reason(char *ret, size_t len, const char *reason)
{
	snprintf(ret, len, "%s", reason);
	for (unsigned char *p = (unsigned char *)ret; *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			*p = ' ';
	}
}

static void request_freeze(struct agent *a, struct control_client *c, const char *reason, bool wait)
{
	struct trigger_hit hit = { .fired_ns = sb_monotonic_ns(), .unit = "" };
	uint32_t before = a->v.capture_id;

	if (may_freeze(a, c, wait, hit.fired_ns) < 0)
		return;
	copy_reason(hit.detail, sizeof(hit.detail), reason);
	log_info("uid %u (pid %d) asks for a bundle", c->uid, c->pid);
	c->capture_id = agent_ask(a, &hit);
	if (wait || c->capture_id != a->v.capture_id) {
		c->waiting = true;
		c->begun = !wait;
	} else {
		agent_answer_begun(a, c, c->capture_id == before);
	}
}

/* Does a process write to it, or may it still? */
static bool is_being_written(const struct agent *a, const char *name)
{
	for (int i = 0; i < POOL_SLOTS; i++) {
		const struct pool_slot *s = &a->pool.slot[i];

		if ((s->use == POOL_CAPTURING || s->use == POOL_STORING) && !s->told && !strcmp(s->file, name))
			return true;
	}
	return false;
}

/* Whoever asks deletes: a disk may hang, and the agent does not wait for one. */
static void request_delete(struct agent *a, struct control_client *c, const char *name)
{
	if (!bundle_is_file_name(name)) {
		refuse(c, "that is no name of a bundle, expected one that 'stallbox list' gives, without a path");
		return;
	}
	if (is_being_written(a, name)) {
		refuse(c, "the bundle is still being written");
		return;
	}
	if (!strcmp(a->v.last_file, name))
		a->v.last_path[0] = '\0';
	log_info("uid %u (pid %d) deletes the bundle %s", c->uid, c->pid, name);
	control_answer(c, "ok\n");
}

static void answer(struct agent *a, struct control_client *c, enum control_verb verb)
{
	static char buf[ANSWER_BYTES];
	struct text t = { .p = buf, .cap = sizeof(buf) };
	uint64_t now = sb_monotonic_ns();
	struct pool_slot *oldest;

	a->v.env_now_ns = now;
	a->v.held = pool_held(&a->pool, &oldest);
	a->v.storage = &a->work->storage;
	a->v.cooldown_end_ns = a->cooldown_end_ns;
	a->v.clients_dropped = a->control.dropped;
	switch (verb) {
	case CONTROL_STATUS:
	case CONTROL_STATUS_JSON:
		a->v.sources = agent_cost_sources(a);
		agent_collect(a);
		(verb == CONTROL_STATUS ? status_text : status_json)(&a->v, a->o, &a->probes, &t);
		break;
	case CONTROL_COUNTERS_JSON:
		counters_json(&a->v, &a->probes, &t);
		break;
	case CONTROL_TRIGGERS:
	case CONTROL_TRIGGERS_JSON:
		agent_look(a, now);
		(verb == CONTROL_TRIGGERS ? status_triggers_text : status_triggers_json)(&a->v, a->o, &t);
		break;
	default:
		text_put(&t, "ok\ndirectory=%s\nfallback=%s\n", a->o->spool.dir, a->o->spool.fallback);
	}
	if (t.cut)
		refuse(c, "the answer is too long: so many CPUs, or triggers of such long names, do not fit");
	else
		control_answer(c, t.p);
}

void agent_serve(struct agent *a, struct control_client *c)
{
	enum control_verb verb;
	const char *arg;
	int r = control_read(c);

	if (r == 0)
		return;
	if (r < 0) {
		a->control.dropped += !c->waiting;
		control_drop(c);
		return;
	}
	verb = control_parse(c->line, &arg);
	if (c->right < control_needs(verb)) {
		refuse_right(a, c);
		return;
	}
	switch (verb) {
	case CONTROL_UNKNOWN:
		control_answer(c, "error 2 unknown request, expected status, status-json, counters-json, triggers, triggers-json, "
				  "directories, freeze, freeze-wait or delete\n");
		break;
	case CONTROL_FREEZE:
	case CONTROL_FREEZE_WAIT:
		request_freeze(a, c, arg, verb == CONTROL_FREEZE_WAIT);
		break;
	case CONTROL_DELETE:
		request_delete(a, c, arg);
		break;
	default:
		answer(a, c, verb);
	}
}

void agent_accept(struct agent *a, uint64_t now)
{
	uint64_t later = control_throttle(&a->control, now);
	struct control_client *c;

	if (later) {
		a->listen_due = now + later;
		agent_listen(a, false);
		return;
	}
	c = control_accept(&a->control, now);
	if (!c)
		return;
	if (agent_watch(a, c->fd, EPOLLIN, SRC_CLIENT + (uint64_t)(c - a->control.client)) < 0)
		control_drop(c);
	else
		agent_serve(a, c); /* who has asked by now does not have to stay */
}
