// SPDX-License-Identifier: BSD-2-Clause
/* From a trigger to the finished bundle: one incident at a time, what fires meanwhile is merged into it,
 * and who asked for it is answered. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "format/log.h"
#include "recorder/agent_impl.h"
#include "recorder/announce.h"
#include "recorder/orphan.h"

void agent_set_state(struct agent *a, enum agent_state s)
{
	agent_collect(a); /* what was met until now was met in the old state */
	a->v.state = s;
	a->state_since_ns = sb_monotonic_ns();
}

/* From a trigger to the end of its post window everything is recorded that costs too much
 * for steady state. */
void agent_escalate(struct agent *a, bool on)
{
	probes_escalate(&a->probes, on && a->o->config.recorder.escalate != CONFIG_ESCALATE_NEVER ? ~0u : agent_always(a));
	selfcost_remeasure(&a->v.cost);
}

void agent_arm(struct agent *a)
{
	probes_arm(&a->probes);
	agent_set_state(a, AGENT_RECORDING);
}

/* ---- captures ---------------------------------------------------------------------- */

static void add_mark(struct agent *a, const char *kind, uint64_t ts_ns, const char *text)
{
	struct capture_mark *m;

	if (a->order.n_marks == CAPTURE_MARKS) {
		/* What does not fit is still counted, in the last mark. */
		m = &a->order.mark[CAPTURE_MARKS - 1];
		a->marks_unkept++;
		snprintf(m->text, sizeof(m->text), "%u further triggers, the last one: %.80s",
			 a->marks_unkept, text);
		return;
	}
	m = &a->order.mark[a->order.n_marks++];
	m->ts_ns = ts_ns;
	snprintf(m->kind, sizeof(m->kind), "%s", kind);
	snprintf(m->text, sizeof(m->text), "%s", text);
}

/* What made no bundle since the last one. The rest of the marks is for what is merged into this one. */
static void mark_kept_back(struct agent *a)
{
	char why[80], text[128];
	unsigned int more = 0;
	uint64_t newest = 0;

	for (size_t i = 0, said = 0; i < a->o->n_triggers; i++) {
		uint64_t last = limits_tell(&a->o->trigger[i]->history, why, sizeof(why));

		if (last && said++ < CAPTURE_MARKS / 2 - 1) {
			snprintf(text, sizeof(text), "trigger '%.40s': %s", a->o->trigger[i]->name, why);
			add_mark(a, "kept-back", last, text);
		} else if (last) {
			more++;
			newest = SB_MAX(newest, last);
		}
	}
	snprintf(text, sizeof(text), "and %u more triggers", more);
	if (more)
		add_mark(a, "kept-back", newest, text);
}

/* A bundle takes the place of one with its name: no two captures share a millisecond. A clock that
 * was set back far is believed. */
static void name_bundle(struct agent *a, char ret[BUNDLE_FILE_MAX], const char *trigger)
{
	uint64_t now = sb_realtime_ms();
	char host[65] = "host";

	if (now <= a->stamp_ms && a->stamp_ms - now < SPOOL_AHEAD_MS)
		now = a->stamp_ms + 1;
	gethostname(host, sizeof(host) - 1);
	spool_name(ret, host, now, a->stamp_ms, trigger);
	a->stamp_ms = now;
}

void agent_answer_begun(struct agent *a, struct control_client *c, bool merged)
{
	char text[400];

	snprintf(text, sizeof(text), "ok\ncapture=%s\npath=%s/%s\nstate=%s\n", a->v.last_file,
		 a->o->spool.dir, a->v.last_file, merged ? "merged" : "frozen");
	control_answer(c, text);
}

static void answer_begun(struct agent *a, bool merged)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *c = &a->control.client[i];

		if (c->fd >= 0 && c->waiting && c->begun && c->capture_id == a->v.capture_id)
			agent_answer_begun(a, c, merged);
	}
}

/* The bank is sealed: hand it to the freezer. */
void agent_begin_capture(struct agent *a, const struct capture_cause *cause, uint64_t post_ns,
			  uint64_t sealed_ns)
{
	struct capture_order *o = &a->order;
	char value[128];
	int r;

	memset(o, 0, sizeof(*o));
	o->type = CAPTURE_FREEZE;
	o->id = ++a->v.capture_id;
	o->bank = a->probes.control->armed_generation & 1;
	o->settings = a->settings;
	o->sealed_ns = sealed_ns;
	o->cause = *cause;
	name_bundle(a, o->file, o->cause.name);
	if (a->probes.replaced)
		add_mark(a, "agent-start", a->probes.control->started_ns,
			 "an earlier recording did not fit this agent and was replaced");
	r = pool_order(&a->pool, o);
	value[0] = '\0';
	if (o->cause.unit[0])
		snprintf(value, sizeof(value), ", value %g %s, threshold %g %s", cause->value, cause->unit,
			 cause->threshold, cause->unit);
	log_info("freeze: trigger '%s' (%s)%s%s%s; bundle %s/%s", o->cause.name, o->cause.spec, value,
		 cause->detail[0] ? ": " : "", cause->detail, a->o->spool.dir, o->file);
	if (r < 0)
		log_errno(r, "cannot hand the frozen bank to the freezer");
	else
		a->probes.control->freeze_ns = 0; /* no later agent's to export */
	o->n_marks = 0;
	a->marks_unkept = 0;
	if (a->early.ts_ns)
		add_mark(a, a->early.kind, a->early.ts_ns, a->early.text);
	a->early.ts_ns = 0;
	mark_kept_back(a);
	a->pre_read = false;
	a->v.fired_ns = cause->fired_ns;
	a->v.seal_delay_ns = sb_monotonic_ns() - cause->fired_ns;
	snprintf(a->v.last_file, sizeof(a->v.last_file), "%s", o->file);
	a->v.last_path[0] = '\0';
	a->v.captures++;
	a->post_deadline_ns = sealed_ns + (post_ns ? post_ns : a->o->config.recorder.post_ns);
	a->cooldown_end_ns = sealed_ns + a->o->config.recorder.cooldown_ns;
	agent_escalate(a, true);
	agent_set_state(a, AGENT_POST_TRIGGER);
	answer_begun(a, strcmp(cause->kind, "manual") != 0);
}

void agent_end_post_window(struct agent *a)
{
	struct selfcost_sources cost = agent_cost_sources(a);
	struct capture_order *o = &a->order;
	int r;

	o->type = CAPTURE_POST;
	o->bank = a->probes.control->generation & 1;
	probes_recorded(&a->probes, o->recorded);
	probes_flip(&a->probes);
	o->sealed_ns = sb_monotonic_ns();
	agent_escalate(a, false);
	selfcost_fill(&a->v.cost, &cost, &o->cost);
	for (size_t i = 0; i < o->cost.n_programs; i++) {
		o->program[i] = o->cost.program[i];
		memcpy(o->program_name[i], a->probes.program[i].name, 16);
	}
	agent_set_state(a, AGENT_FREEZING); /* before the order, which takes along what was merged until now */
	r = pool_order(&a->pool, o);
	if (r < 0)
		log_errno(r, "cannot hand the post-trigger bank to the freezer");
}

/* A trigger in the post window, or whose bank the kernel has just sealed: one incident, one bundle; it is counted and
 * said. */
static void merge(struct agent *a, const char *name, const struct trigger_hit *hit)
{
	char text[128];

	if (hit->unit && *hit->unit)
		snprintf(text, sizeof(text), "trigger '%.60s' fired again: value %g %s%s%s", name, hit->value,
			 hit->unit, hit->detail[0] ? "; " : "", hit->detail);
	else
		snprintf(text, sizeof(text), "trigger '%.60s' fired again", name);
	a->v.merged++;
	if (a->v.state == AGENT_RECORDING) {
		a->early.ts_ns = hit->fired_ns;
		snprintf(a->early.kind, sizeof(a->early.kind), "merged");
		snprintf(a->early.text, sizeof(a->early.text), "%s", text);
		log_info("%s; merged into the bundle of the condition that has just sealed the bank", text);
		return;
	}
	add_mark(a, "merged", hit->fired_ns, text);
	log_info("%s; merged into %s", text, a->order.file);
}

enum trigger_outcome agent_capture(struct agent *a, const struct trigger *t, const struct trigger_hit *hit)
{
	if (a->v.state == AGENT_RECORDING && probes_seal(&a->probes)) {
		struct capture_cause cause = agent_cause(t, hit);
		uint64_t sealed_ns = sb_monotonic_ns();

		counters_observe(&a->v.seal_latency, sealed_ns - hit->fired_ns);
		agent_begin_capture(a, &cause, t ? t->post_ns : 0, sealed_ns);
		return TRIGGER_FIRED;
	}
	if (a->v.state == AGENT_RECORDING)
		ring_buffer__consume(a->hits); /* the kernel was faster: this is part of its capture */
	/* While the last bank is read the marks of its bundle have gone: the next one tells. */
	if (a->v.state == AGENT_COOLDOWN || a->v.state == AGENT_FREEZING)
		return TRIGGER_IN_COOLDOWN;
	merge(a, t ? t->name : "manual", hit);
	return TRIGGER_MERGED;
}

uint32_t agent_ask(struct agent *a, const struct trigger_hit *hit)
{
	if (a->v.state == AGENT_FREEZING) {
		a->v.merged += a->asked.fired_ns != 0;
		a->asked = *hit;
		return a->v.capture_id + 1;
	}
	if (a->v.state == AGENT_COOLDOWN)
		agent_arm(a);
	agent_capture(a, NULL, hit);
	return a->v.capture_id + (a->v.state == AGENT_RECORDING);
}

/* The banks are read, or lost. */
static void end_capture(struct agent *a)
{
	struct trigger_hit asked = a->asked;

	agent_set_state(a, AGENT_COOLDOWN);
	a->asked.fired_ns = 0;
	if (asked.fired_ns)
		agent_ask(a, &asked);
}

void agent_take_unheard(struct agent *a, uint64_t now)
{
	const struct sb_control *c = a->probes.control;
	struct capture_cause cause;

	if (a->v.state != AGENT_RECORDING || !probes_frozen(c) || now < c->freeze_ns + NSEC_PER_SEC)
		return;
	cause = orphan_cause(c);
	snprintf(cause.detail, sizeof(cause.detail), "sealed by the kernel, tid %u; its message was lost",
		 c->fired_tid);
	agent_note_sealed(a, c->fired_trigger, c->freeze_ns);
	agent_begin_capture(a, &cause, 0, c->freeze_ns);
}

static void answer_waiting(struct agent *a, uint32_t id, const char *text)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *c = &a->control.client[i];

		if (c->fd >= 0 && c->waiting && c->capture_id == id)
			control_answer(c, text);
	}
}

static void drop(struct agent *a, struct pool_slot *s)
{
	epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, s->p.fd, NULL);
	pool_drop(s);
}

void agent_lose_capture(struct agent *a, const char *why)
{
	struct pool_slot *s = pool_capturing(&a->pool);
	char text[600];

	snprintf(text, sizeof(text), "the freezer process %s; the capture under way is lost", why);
	announce_lost(&a->order.cause, a->order.file, text);
	a->v.failures++;
	pool_give_up(&a->pool);
	if (s) {
		a->v.cost.freezer_ns += selfcost_cpu_ns(s->p.pid);
		kill(s->p.pid, SIGKILL);
		drop(a, s);
	}
	snprintf(text, sizeof(text), "error %d the freezer process %s%s%s\n", SB_EXIT_FAILURE, why,
		 a->v.last_path[0] ? "; what there is of the bundle: " : "", a->v.last_path);
	answer_waiting(a, a->v.capture_id, text);
	if (a->v.state == AGENT_POST_TRIGGER || a->v.state == AGENT_FREEZING) {
		agent_escalate(a, false);
		end_capture(a);
	}
}

/* ---- reports ----------------------------------------------------------------------- */

static void report_failed(struct agent *a, struct pool_slot *s, const struct capture_report *r)
{
	char text[600], why[600];

	a->v.failures++;
	s->held_ns = 0;
	if (r->error == -EOWNERDEAD) {
		snprintf(why, sizeof(why), "the process that stored the bundle %s was killed", s->file);
		announce_lost(&s->cause, s->file, why);
		log_hint("what it had written can be read; 'stallbox recover' makes a whole file of it");
		snprintf(text, sizeof(text), "error %d the process that stored the bundle %s was killed\n",
			 SB_EXIT_FAILURE, s->file);
	} else {
		snprintf(why, sizeof(why), "cannot store the bundle %s in %s%s%s: %s", s->file, a->o->spool.dir,
			 a->o->spool.fallback[0] ? " nor in " : "", a->o->spool.fallback, strerror(-r->error));
		announce_lost(&s->cause, s->file, why);
		log_hint("check free space and permissions of the directory, or set --spool");
		snprintf(text, sizeof(text), "error %d cannot store the bundle: %s\n", SB_EXIT_FAILURE,
			 strerror(-r->error));
	}
	answer_waiting(a, s->id, text);
}

/* No directory took the bundle. It costs memory until one does: where there are too many, the oldest goes. */
static void hold(struct agent *a, struct pool_slot *s, const struct capture_report *r)
{
	static const struct capture_order drop_it = { .type = CAPTURE_DROP };
	struct pool_slot *oldest;
	char text[600];

	s->held_ns = sb_monotonic_ns();
	log_errno(r->error, "no directory took the bundle %s; its %llu KiB are held in memory and tried again", s->file,
		  (unsigned long long)(r->value >> 10));
	log_hint("free space on %s or repair it; see 'stallbox status'", a->o->spool.dir);
	snprintf(text, sizeof(text), "error %d cannot store the bundle %s yet: %s; it is held in memory and tried again\n",
		 SB_EXIT_FAILURE, s->file, strerror(-r->error));
	answer_waiting(a, s->id, text);
	if (pool_held(&a->pool, &oldest) <= POOL_HELD)
		return;
	a->v.dropped++;
	log_err("more than %d bundles are held in memory: %s is lost", POOL_HELD, oldest->file);
	oldest->held_ns = 0;
	(void)capture_send(&oldest->p, &drop_it);
}

/* Of the last capture: status and who waits for it are told of its file, not of an earlier one's. */
static void note_path(struct agent *a, const struct capture_report *r)
{
	if (r->id == a->v.capture_id)
		snprintf(a->v.last_path, sizeof(a->v.last_path), "%s", r->path);
}

static bool is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && path[n] == '/';
}

static void take_report(struct agent *a, struct pool_slot *s, const struct capture_report *r)
{
	double ms = (double)(r->ns - a->v.fired_ns) / 1e6;
	char text[600];

	switch (r->type) {
	case CAPTURE_SHOT:
		a->v.shot_ms = ms;
		if (r->error < 0)
			log_errno(r->error, "cannot take the stackshot");
		break;
	case CAPTURE_BANK_READ:
		if (r->id != a->v.capture_id)
			break;
		a->v.events = r->events;
		if (a->v.state == AGENT_POST_TRIGGER) {
			a->pre_read = true;
		} else if (a->v.state == AGENT_FREEZING) {
			pool_captured(&a->pool, s);
			end_capture(a);
		}
		break;
	case CAPTURE_PRE_DURABLE:
		note_path(a, r);
		if (r->id == a->v.capture_id)
			a->v.pre_durable_ms = ms;
		if (s->cause.fired_ns >= a->v.cost.started_ns) /* not what was frozen while no agent ran */
			counters_observe(&a->v.durable_latency, r->ns - s->cause.fired_ns);
		log_info("durable: %s, %llu KiB, %llu events, %.0f ms after the trigger; "
			 "the post-trigger window follows", r->path,
			 (unsigned long long)(r->value >> 10), (unsigned long long)r->events,
			 (double)(r->ns - s->cause.fired_ns) / 1e6);
		break;
	case CAPTURE_PRE_KEPT:
		log_errno(r->error, "no directory took the part of %s before the trigger; it is kept in memory, the "
			  "post-trigger window follows", s->file);
		break;
	case CAPTURE_HELD:
		hold(a, s, r);
		break;
	case CAPTURE_RAW_DURABLE:
		note_path(a, r);
		if (!is_in(r->path, a->o->spool.dir))
			log_warn("the bundle %s is not in %s, which refused it or did not take it in time",
				 r->path, a->o->spool.dir);
		break;
	case CAPTURE_COMPLETE:
		note_path(a, r);
		s->held_ns = 0;
		agent_keep(a, r->ns);
		announce_complete(&s->cause, r);
		snprintf(text, sizeof(text), "ok\ncapture=%s\npath=%s\nstate=complete\n", s->file, r->path);
		answer_waiting(a, r->id, text);
		break;
	case CAPTURE_FAILED:
		report_failed(a, s, r);
		break;
	}
}

/* The process of the capture has ended. As long as its bank is not read, another one can read it. */
static void take_over(struct agent *a, struct pool_slot *s)
{
	static const char text[] = "the process that took this capture was killed; another one began it again, "
				   "with a later stackshot";

	drop(a, s);
	if (a->pre_read || !pool_again(&a->pool)) {
		agent_lose_capture(a, "ended unexpectedly");
		return;
	}
	log_err("the freezer process ended unexpectedly; another one begins the capture again");
	add_mark(a, "freezer-lost", sb_monotonic_ns(), text);
}

void agent_take_reports(struct agent *a, struct pool_slot *s)
{
	static const struct capture_report killed = { .type = CAPTURE_FAILED, .error = -EOWNERDEAD };
	struct capture_report r;
	int n = 0;

	while (s->use && (n = capture_receive(&s->p, &r)) > 0) {
		s->told |= s->use == POOL_STORING && (r.type == CAPTURE_COMPLETE || r.type == CAPTURE_FAILED);
		take_report(a, s, &r);
	}
	if (!s->use || n == 0 || a->stop)
		return;
	if (s->use == POOL_CAPTURING) {
		take_over(a, s);
		return;
	}
	if (s->use == POOL_WAITING)
		log_err("a process that waited for the next capture has ended");
	else if (!s->told)
		report_failed(a, s, &killed);
	drop(a, s);
}

void agent_take_process(struct agent *a)
{
	int i = pool_take(&a->pool);

	if (i >= 0)
		agent_watch(a, a->pool.slot[i].p.fd, EPOLLIN, SRC_CAPTURE + (uint64_t)i);
	else if (i != -EAGAIN && !a->stop)
		log_err("the process that starts others has ended; another one begins");
}

void agent_keep(struct agent *a, uint64_t now)
{
	a->keep_due = now + (capture_keep(&a->pool.starter) < 0 ? NSEC_PER_SEC : KEEP_PERIOD_NS);
}

void agent_fill_pool(struct agent *a)
{
	int r = pool_fill(&a->pool);

	if (r > 0)
		agent_watch(a, a->pool.starter.fd, EPOLLIN, SRC_STARTER);
	if (r < 0 && !a->no_starter)
		log_errno(r, "cannot start the process that starts others; tried again every second");
	a->no_starter = r < 0;
}
