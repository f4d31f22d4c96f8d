// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/agent.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "format/log.h"
#include "recorder/capture.h"
#include "recorder/control.h"
#include "recorder/ring.h"
#include "recorder/selfcost.h"
#include "recorder/status.h"

/* The freezer encodes 32 MiB in under a second; after this it is taken for dead. */
#define FREEZER_TIMEOUT_NS (60 * NSEC_PER_SEC)

enum source { SRC_SIGNAL, SRC_HITS, SRC_REPORTS, SRC_LISTEN, SRC_TRIGGER = 100, SRC_CLIENT = 1000 };

struct agent {
	struct options *o;
	struct probes probes;
	struct agent_view v; /* what status shows */
	struct capture_config capture_config;
	struct capture_process capture;
	struct control control;
	struct ring_buffer *hits;
	struct trigger_env env;
	int epoll_fd, signal_fd;
	bool stop;
	uint64_t due[OPTIONS_MAX_TRIGGERS]; /* of triggers with a period */
	uint64_t said_ns; /* last message about a trigger without a bundle: one in 10 s */
	uint64_t selfcost_due;
	size_t kernel_index[SB_KTRIGGERS]; /* in-kernel condition -> trigger */
	size_t n_kernel;
	/* The capture under way. */
	struct capture_order order;
	unsigned int marks_unkept;
	uint64_t state_since_ns, post_deadline_ns, cooldown_end_ns;
	struct series *series;
	uint32_t escalate_always; /* enum sb_ktrigger_type bits whose programs stay attached */
	bool pre_read; /* the freezer is done with the first bank */
	uint64_t stamp_ms; /* in the name of the last bundle */
};

static void set_state(struct agent *a, enum agent_state s)
{
	a->v.state = s;
	a->state_since_ns = sb_monotonic_ns();
}

static int watch(struct agent *a, int fd, uint32_t events, uint64_t source)
{
	struct epoll_event ev = { .events = events, .data.u64 = source };

	return epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* ---- arming ------------------------------------------------------------------------ */

static void write_kernel_triggers(struct agent *a)
{
	struct sb_control *c = a->probes.control;
	uint32_t watch = 0;
	int r;

	__atomic_store_n(&c->armed, 0, __ATOMIC_SEQ_CST);
	c->watch = 0;
	memset(c->trigger, 0, sizeof(c->trigger));
	a->n_kernel = 0;
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		const struct trigger_kernel_condition *k = &a->o->trigger[i]->kernel;

		if (k->type == TRIGGER_KERNEL_NONE)
			continue;
		if (a->n_kernel == SB_KTRIGGERS) {
			log_err("more than %u kernel: triggers; '%s' is not armed", SB_KTRIGGERS,
				a->o->trigger[i]->name);
			a->v.trigger_error[i] = -E2BIG;
			continue;
		}
		a->kernel_index[a->n_kernel] = i;
		c->trigger[a->n_kernel].count = k->count;
		c->trigger[a->n_kernel].threshold_ns = k->threshold_ns;
		memcpy(c->trigger[a->n_kernel].comm, k->comm, strlen(k->comm));
		c->trigger[a->n_kernel].percent = k->percent;
		if (k->cgroup[0]) {
			c->trigger[a->n_kernel].cgroup_id = probes_cgroup_id(&a->probes, k->cgroup);
			if (!c->trigger[a->n_kernel].cgroup_id) {
				log_err("trigger '%s': there is no cgroup '%s'", a->o->trigger[i]->name, k->cgroup);
				a->v.trigger_error[i] = -ENOENT;
				continue;
			}
			watch |= SB_WATCH_CGROUP;
		}
		c->trigger[a->n_kernel].type = k->type; /* the same numbers, asserted below */
		watch |= 1u << k->type;
		a->n_kernel++;
	}
	c->cpus_online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	c->window_ns = sb_monotonic_ns();
	r = probes_set_deadlines(&a->probes);
	if (r < 0)
		log_errno(r, "cannot set the timers of kernel: triggers: threads in D state are looked at every 10 ms");
	c->watch = watch;
	a->escalate_always = !strcmp(a->o->escalate, "always") ? ~0u : watch;
	probes_escalate(&a->probes, a->escalate_always);
}

_Static_assert((int)TRIGGER_KERNEL_RECLAIM == SB_KTRIG_RECLAIM &&
		       (int)TRIGGER_KERNEL_BLOCKED == SB_KTRIG_BLOCKED &&
		       (int)TRIGGER_KERNEL_MMAP_LOCK_WAIT == SB_KTRIG_MMAP_LOCK_WAIT &&
		       (int)TRIGGER_KERNEL_MMAP_LOCK_HOLD == SB_KTRIG_MMAP_LOCK_HOLD &&
		       (int)TRIGGER_KERNEL_RUNQ == SB_KTRIG_RUNQ &&
		       (int)TRIGGER_KERNEL_SOFTIRQ_DELAY == SB_KTRIG_SOFTIRQ_DELAY &&
		       (int)TRIGGER_KERNEL_SYSCALL == SB_KTRIG_SYSCALL &&
		       (int)TRIGGER_KERNEL_RECLAIM_YIELD == SB_KTRIG_RECLAIM_YIELD &&
		       (int)TRIGGER_KERNEL_SYSTEM == SB_KTRIG_SYSTEM,
	       "conditions");

/* From a trigger to the end of its post window everything is recorded that costs too much
 * for steady state. */
static void escalate(struct agent *a, bool on)
{
	probes_escalate(&a->probes, on && strcmp(a->o->escalate, "never") ? ~0u : a->escalate_always);
}

static void arm(struct agent *a)
{
	probes_arm(&a->probes);
	set_state(a, AGENT_RECORDING);
}

/* On whole periods of the clock: triggers of 500 ms and of 1 s share their wakeups. */
static uint64_t next_due(const struct trigger *t, uint64_t now)
{
	return (now / t->period_ns + 1) * t->period_ns;
}

static int arm_triggers(struct agent *a)
{
	uint64_t now = sb_monotonic_ns();
	size_t armed = 0;

	for (size_t i = 0; i < a->o->n_triggers; i++) {
		struct trigger *t = a->o->trigger[i];
		int r = a->v.trigger_error[i];

		if (r == 0 && t->ops->arm)
			r = t->ops->arm(t, &a->env);
		a->v.trigger_error[i] = r;
		if (r < 0) {
			log_errno(r, "cannot arm trigger '%s'", t->spec);
			continue;
		}
		armed++;
		if (t->fd >= 0)
			watch(a, t->fd, t->events, SRC_TRIGGER + i);
		a->due[i] = t->period_ns ? next_due(t, now) : UINT64_MAX;
	}
	return armed ? 0 : -ENOENT;
}

/* ---- captures ---------------------------------------------------------------------- */

static struct capture_cause cause_of(const struct trigger *t, const struct trigger_hit *hit)
{
	struct capture_cause cause = {}, *c = &cause;

	snprintf(c->name, sizeof(c->name), "%s", t ? t->name : "manual");
	snprintf(c->kind, sizeof(c->kind), "%s", t ? t->ops->kind : "manual");
	snprintf(c->spec, sizeof(c->spec), "%.255s", t ? t->spec : "manual");
	snprintf(c->unit, sizeof(c->unit), "%s", hit->unit ? hit->unit : "");
	snprintf(c->detail, sizeof(c->detail), "%s", hit->detail);
	c->fired_ns = hit->fired_ns;
	c->value = hit->value;
	c->threshold = hit->threshold;
	c->target_tid = hit->target_tid;
	return cause;
}

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

/* A bundle takes the place of one with its name: no two captures share a millisecond. A clock that
 * was set back far is believed. */
static uint64_t stamp_of(struct agent *a)
{
	uint64_t now = sb_realtime_ms();

	if (now <= a->stamp_ms && a->stamp_ms - now < 60000)
		now = a->stamp_ms + 1;
	a->stamp_ms = now;
	return now;
}

/* The bank is sealed: hand it to the freezer. */
static void begin_capture(struct agent *a, const struct capture_cause *cause, uint64_t post_ns,
			  uint64_t sealed_ns)
{
	struct capture_order *o = &a->order;
	char host[65] = "host", value[128];
	int r;

	memset(o, 0, sizeof(*o));
	o->type = CAPTURE_FREEZE;
	o->id = ++a->v.capture_id;
	o->bank = a->probes.control->armed_generation & 1;
	o->sealed_ns = sealed_ns;
	o->cause = *cause;
	gethostname(host, sizeof(host) - 1);
	spool_name(o->file, host, stamp_of(a), o->cause.name);
	if (a->probes.replaced)
		add_mark(a, "agent-start", a->probes.control->started_ns,
			 "an earlier recording did not fit this agent and was replaced");
	r = capture_send(&a->capture, o);
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
	a->pre_read = false;
	a->v.fired_ns = cause->fired_ns;
	a->v.seal_delay_ns = sb_monotonic_ns() - cause->fired_ns;
	snprintf(a->v.last_file, sizeof(a->v.last_file), "%s", o->file);
	a->v.last_path[0] = '\0';
	a->v.captures++;
	a->post_deadline_ns = sealed_ns + (post_ns ? post_ns : a->o->post_ns);
	a->cooldown_end_ns = sealed_ns + a->o->cooldown_ns;
	escalate(a, true);
	set_state(a, AGENT_POST_TRIGGER);
}

static void end_post_window(struct agent *a)
{
	struct capture_order *o = &a->order;
	int r;

	o->type = CAPTURE_POST;
	o->bank = a->probes.control->generation & 1;
	probes_recorded(&a->probes, o->recorded);
	probes_flip(&a->probes);
	o->sealed_ns = sb_monotonic_ns();
	escalate(a, false);
	selfcost_fill(&a->v.cost, &a->probes, &o->cost);
	for (size_t i = 0; i < o->cost.n_programs; i++) {
		o->program[i] = o->cost.program[i];
		memcpy(o->program_name[i], a->probes.program[i].name, 16);
	}
	r = capture_send(&a->capture, o);
	if (r < 0)
		log_errno(r, "cannot hand the post-trigger bank to the freezer");
	set_state(a, AGENT_FREEZING);
}

/* A trigger outside RECORDING: one incident, one bundle; it is counted and said. */
static void merge(struct agent *a, const char *name, const struct trigger_hit *hit)
{
	char text[192];

	a->v.merged++;
	if (hit->unit && *hit->unit)
		snprintf(text, sizeof(text), "trigger '%.60s' fired again: value %g %s", name, hit->value,
			 hit->unit);
	else
		snprintf(text, sizeof(text), "trigger '%.60s' fired again", name);
	if (a->v.state == AGENT_POST_TRIGGER) {
		add_mark(a, "merged", hit->fired_ns, text);
		log_info("%s; merged into %s", text, a->order.file);
	} else if (hit->fired_ns - a->said_ns > 10 * NSEC_PER_SEC) {
		a->said_ns = hit->fired_ns;
		log_info("%s; no new bundle for %llu s (cooldown), the last one is %s", text,
			 (unsigned long long)(a->cooldown_end_ns > hit->fired_ns ?
			 (a->cooldown_end_ns - hit->fired_ns) / NSEC_PER_SEC : 0),
			 a->v.last_file);
	}
}

static void fire(struct agent *a, struct trigger *t, const struct trigger_hit *hit)
{
	if (t) {
		t->fired_cnt++;
		t->last_fired_ns = hit->fired_ns;
	}
	if (a->v.state == AGENT_RECORDING && probes_seal(&a->probes)) {
		struct capture_cause cause = cause_of(t, hit);

		begin_capture(a, &cause, t ? t->post_ns : 0, sb_monotonic_ns());
	} else {
		merge(a, t ? t->name : "manual", hit);
	}
}

/* What an in-kernel condition has found, for people. */
static void describe_hit(const struct trigger_kernel_condition *k, const struct sb_hit *h,
			 struct trigger_hit *ret)
{
	static const char *const what[SB_KTRIG_COUNT] = {
		[SB_KTRIG_RECLAIM] = "in reclaim",
		[SB_KTRIG_MMAP_LOCK_WAIT] = "waiting for mmap_lock",
		[SB_KTRIG_MMAP_LOCK_HOLD] = "holding mmap_lock",
		[SB_KTRIG_RUNQ] = "waiting for a CPU",
		[SB_KTRIG_SOFTIRQ_DELAY] = "running while a softirq waited",
		[SB_KTRIG_SYSCALL] = "in one system call",
	};
	unsigned long long ms = h->value / NSEC_PER_MSEC;

	switch (k->type) {
	case TRIGGER_KERNEL_BLOCKED:
		ret->value = (double)h->value;
		ret->threshold = k->count;
		ret->unit = "threads";
		snprintf(ret->detail, sizeof(ret->detail),
			 "%llu threads in D state for more than %llu ms, tid %u the longest",
			 (unsigned long long)h->value,
			 (unsigned long long)(k->threshold_ns / NSEC_PER_MSEC), h->tid);
		return;
	case TRIGGER_KERNEL_RECLAIM_YIELD:
	case TRIGGER_KERNEL_SYSTEM:
		ret->value = (double)h->value;
		ret->threshold = k->percent;
		ret->unit = "%";
		snprintf(ret->detail, sizeof(ret->detail), "%s %llu %% for %.2f s",
			 k->type == TRIGGER_KERNEL_SYSTEM ? "sampled system time" :
			 "pages reclaimed of those scanned:", (unsigned long long)h->value,
			 (double)k->threshold_ns / 1e9);
		return;
	default:
		ret->value = (double)h->value / 1e6;
		ret->threshold = (double)k->threshold_ns / 1e6;
		ret->unit = "ms";
		snprintf(ret->detail, sizeof(ret->detail), "tid %u %s for %llu ms", h->tid, what[k->type], ms);
	}
}

/* An in-kernel condition has sealed the bank. */
static int kernel_hit(void *ctx, void *data, size_t len)
{
	struct agent *a = ctx;
	const struct sb_hit *h = data;
	struct trigger_hit hit = {};
	struct capture_cause cause;
	struct trigger *t;

	if (len < sizeof(*h) || a->v.state != AGENT_RECORDING || h->freeze_ns != a->probes.control->freeze_ns)
		return 0; /* of an earlier agent's time */
	if (h->trigger >= a->n_kernel) {
		/* Sealed is sealed: nothing else would ever open the bank again. */
		cause = (struct capture_cause){ .name = "kernel", .kind = "kernel", .fired_ns = h->freeze_ns,
						.target_tid = h->tid, .detail = "a condition of an earlier agent" };
		begin_capture(a, &cause, 0, h->freeze_ns);
		return 0;
	}
	t = a->o->trigger[a->kernel_index[h->trigger]];
	hit.fired_ns = h->freeze_ns;
	hit.target_tid = h->tid;
	describe_hit(&t->kernel, h, &hit);
	t->fired_cnt++;
	t->last_fired_ns = h->freeze_ns;
	t->value = hit.value;
	cause = cause_of(t, &hit);
	begin_capture(a, &cause, t->post_ns, h->freeze_ns);
	return 0;
}

/* A bank that the kernel froze while no agent ran is exported now. `met` is the condition
 * that the agent of that time had armed. */
static void export_orphan(struct agent *a, const struct sb_ktrigger *met)
{
	const struct sb_control *c = a->probes.control;
	struct capture_cause k = { .name = "kernel", .kind = "kernel", .fired_ns = c->freeze_ns,
				   .target_tid = c->fired_tid };
	unsigned long long ms = met->threshold_ns / NSEC_PER_MSEC;

	if (met->type == SB_KTRIG_BLOCKED) {
		snprintf(k.spec, sizeof(k.spec), "kernel:blocked(D)>%llums:count=%u", ms, met->count);
		snprintf(k.unit, sizeof(k.unit), "threads");
		k.value = (double)c->fired_value;
		k.threshold = met->count;
	} else {
		snprintf(k.spec, sizeof(k.spec), "kernel:reclaim>%llums", ms);
		snprintf(k.unit, sizeof(k.unit), "ms");
		k.value = (double)c->fired_value / 1e6;
		k.threshold = (double)met->threshold_ns / 1e6;
	}
	snprintf(k.detail, sizeof(k.detail), "frozen by the kernel while no agent ran, tid %u", c->fired_tid);
	begin_capture(a, &k, 0, sb_monotonic_ns());
}

static void restart_freezer(struct agent *a, const char *why)
{
	int r;

	log_err("the freezer process %s; the capture under way is lost, starting another", why);
	a->v.failures++;
	kill(a->capture.pid, SIGKILL);
	epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, a->capture.fd, NULL);
	capture_stop(&a->capture);
	r = capture_start(&a->capture_config, &a->capture);
	if (r < 0)
		log_errno(r, "cannot start the freezer process");
	else
		watch(a, a->capture.fd, EPOLLIN, SRC_REPORTS);
	if (a->v.state == AGENT_POST_TRIGGER || a->v.state == AGENT_FREEZING) {
		escalate(a, false);
		set_state(a, AGENT_COOLDOWN);
	}
}

/* ---- reports ----------------------------------------------------------------------- */

static void answer_waiting(struct agent *a, uint32_t id, const char *text)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *c = &a->control.client[i];

		if (c->fd >= 0 && c->waiting && c->capture_id == id)
			control_answer(c, text);
	}
}

static void report_failed(struct agent *a, const struct capture_report *r)
{
	char text[300];

	a->v.failures++;
	log_errno(r->error, "cannot store the bundle %s in %s%s%s", a->order.file, a->o->spool.dir,
		  a->o->spool.fallback[0] ? " nor in " : "", a->o->spool.fallback);
	log_hint("check free space and permissions of the directory, or set --spool");
	snprintf(text, sizeof(text), "error %d cannot store the bundle: %s\n", SB_EXIT_FAILURE,
		 strerror(-r->error));
	answer_waiting(a, r->id, text);
}

static void take_report(struct agent *a, const struct capture_report *r)
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
		if (a->v.state == AGENT_POST_TRIGGER)
			a->pre_read = true;
		else if (a->v.state == AGENT_FREEZING)
			set_state(a, AGENT_COOLDOWN);
		break;
	case CAPTURE_PRE_DURABLE:
		a->v.pre_durable_ms = ms;
		a->v.cost.bytes_written += r->value;
		snprintf(a->v.last_path, sizeof(a->v.last_path), "%s", r->path);
		log_info("durable: %s, %llu KiB, %llu events, %.0f ms after the trigger; "
			 "the post-trigger window follows", r->path,
			 (unsigned long long)(r->value >> 10), (unsigned long long)r->events, ms);
		break;
	case CAPTURE_RAW_DURABLE:
		if (r->deleted)
			log_info("%u older bundles deleted to stay below the size cap", r->deleted);
		snprintf(a->v.last_path, sizeof(a->v.last_path), "%s", r->path);
		break;
	case CAPTURE_COMPLETE:
		snprintf(a->v.last_path, sizeof(a->v.last_path), "%s", r->path);
		log_info("complete: %s, %llu KiB, %llu events", r->path,
			 (unsigned long long)(r->value >> 10), (unsigned long long)r->events);
		snprintf(text, sizeof(text), "ok\ncapture=%s\npath=%s\nstate=complete\n",
			 a->v.last_file, r->path);
		answer_waiting(a, r->id, text);
		break;
	case CAPTURE_FAILED:
		report_failed(a, r);
		break;
	}
}

static void take_reports(struct agent *a)
{
	struct capture_report r;
	int n;

	while ((n = capture_receive(&a->capture, &r)) > 0)
		take_report(a, &r);
	if (n < 0 && !a->stop)
		restart_freezer(a, "ended unexpectedly");
}

/* ---- requests ---------------------------------------------------------------------- */

static void request_freeze(struct agent *a, struct control_client *c, const char *reason, bool wait)
{
	struct trigger_hit hit = { .fired_ns = sb_monotonic_ns(), .unit = "" };
	bool merged;
	char text[400];

	snprintf(hit.detail, sizeof(hit.detail), "%s", reason);
	/* A person asks: the cooldown holds back machines. */
	if (a->v.state == AGENT_COOLDOWN)
		arm(a);
	merged = a->v.state != AGENT_RECORDING;
	fire(a, NULL, &hit);
	if (wait) {
		c->waiting = true;
		c->capture_id = a->v.capture_id;
		return;
	}
	snprintf(text, sizeof(text), "ok\ncapture=%s\npath=%s/%s\nstate=%s\n", a->v.last_file,
		 a->o->spool.dir, a->v.last_file, merged ? "merged" : "frozen");
	control_answer(c, text);
}

static void serve(struct agent *a, struct control_client *c)
{
	static char text[32768];
	const char *reason;
	int r = control_read(c);

	if (r == 0)
		return;
	if (r < 0) {
		control_drop(c);
		return;
	}
	a->v.env_now_ns = sb_monotonic_ns();
	a->v.cooldown_end_ns = a->cooldown_end_ns;
	switch (control_parse(c->line, &reason)) {
	case CONTROL_STATUS:
		status_text(&a->v, a->o, &a->probes, text, sizeof(text));
		control_answer(c, text);
		break;
	case CONTROL_STATUS_JSON:
		status_json(&a->v, a->o, &a->probes, text, sizeof(text));
		control_answer(c, text);
		break;
	case CONTROL_FREEZE:
		request_freeze(a, c, reason, false);
		break;
	case CONTROL_FREEZE_WAIT:
		request_freeze(a, c, reason, true);
		break;
	default:
		control_answer(c, "error 2 unknown request, expected status, status-json, freeze "
				  "or freeze-wait\n");
	}
}

static void accept_client(struct agent *a)
{
	struct control_client *c = control_accept(&a->control, sb_monotonic_ns());

	if (c && watch(a, c->fd, EPOLLIN, SRC_CLIENT + (uint64_t)(c - a->control.client)) < 0)
		control_drop(c);
}

static void take_signal(struct agent *a)
{
	struct signalfd_siginfo si;
	struct trigger_hit hit = { .fired_ns = sb_monotonic_ns(), .unit = "" };

	while (read(a->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1) {
			snprintf(hit.detail, sizeof(hit.detail), "SIGUSR1 from pid %u", si.ssi_pid);
			if (a->v.state == AGENT_COOLDOWN)
				arm(a);
			fire(a, NULL, &hit);
		} else {
			a->stop = true;
		}
	}
}

/* ---- the loop ------------------------------------------------------------------------ */

static void check_trigger(struct agent *a, size_t i, uint64_t now)
{
	struct trigger *t = a->o->trigger[i];
	struct trigger_hit hit = {};
	int r;

	if (a->v.trigger_error[i] < 0)
		return;
	r = t->ops->check(t, &a->env, now, &hit);
	if (r < 0) {
		a->v.trigger_error[i] = r;
		a->due[i] = UINT64_MAX;
		if (t->fd >= 0)
			epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, t->fd, NULL);
		log_errno(r, "trigger '%s' cannot look any more and is disarmed", t->name);
	} else if (r > 0) {
		fire(a, t, &hit);
	}
}

static void run_timers(struct agent *a, uint64_t now)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		if (now < a->due[i])
			continue;
		check_trigger(a, i, now);
		if (a->v.trigger_error[i] >= 0)
			a->due[i] = next_due(a->o->trigger[i], now);
	}
	if (now >= a->selfcost_due)
		a->selfcost_due = selfcost_tick(&a->v.cost, &a->probes, now);
	if (a->v.state == AGENT_POST_TRIGGER && a->pre_read && now >= a->post_deadline_ns)
		end_post_window(a);
	if (a->v.state == AGENT_COOLDOWN && now >= a->cooldown_end_ns)
		arm(a);
	if (((a->v.state == AGENT_POST_TRIGGER && !a->pre_read) || a->v.state == AGENT_FREEZING) &&
	    now >= a->state_since_ns + FREEZER_TIMEOUT_NS)
		restart_freezer(a, "makes no progress");
}

static int timeout_ms(const struct agent *a, uint64_t now)
{
	uint64_t due = a->selfcost_due;

	for (size_t i = 0; i < a->o->n_triggers; i++)
		due = SB_MIN(due, a->due[i]);
	if (a->v.state == AGENT_POST_TRIGGER && a->pre_read)
		due = SB_MIN(due, a->post_deadline_ns);
	if (a->v.state == AGENT_COOLDOWN)
		due = SB_MIN(due, a->cooldown_end_ns);
	if ((a->v.state == AGENT_POST_TRIGGER && !a->pre_read) || a->v.state == AGENT_FREEZING)
		due = SB_MIN(due, a->state_since_ns + FREEZER_TIMEOUT_NS);
	if (due <= now)
		return 0;
	return (int)SB_MIN((due - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, 3600000ULL);
}

static void dispatch(struct agent *a, uint64_t source)
{
	if (source == SRC_SIGNAL)
		take_signal(a);
	else if (source == SRC_HITS)
		ring_buffer__consume(a->hits);
	else if (source == SRC_REPORTS)
		take_reports(a);
	else if (source == SRC_LISTEN)
		accept_client(a);
	else if (source >= SRC_CLIENT)
		serve(a, &a->control.client[source - SRC_CLIENT]);
	else
		check_trigger(a, source - SRC_TRIGGER, sb_monotonic_ns());
}

static void loop(struct agent *a)
{
	struct epoll_event ev[32];

	while (!a->stop) {
		int n = epoll_wait(a->epoll_fd, ev, SB_ARRAY_SIZE(ev),
				   timeout_ms(a, sb_monotonic_ns()));

		a->v.cost.wakeups++;
		for (int i = 0; i < n; i++)
			dispatch(a, ev[i].data.u64);
		run_timers(a, sb_monotonic_ns());
	}
}

/* ---- start ---------------------------------------------------------------------------- */

static void become_realtime(void)
{
	struct sched_param sp = { .sched_priority = 1 };

	/* 0.8 ms late at worst behind 100 busy threads, against 84 ms (measured). */
	if (sched_setscheduler(0, SCHED_FIFO, &sp) < 0)
		log_warn("cannot use SCHED_FIFO: %s; triggers may be late on a busy host",
			 strerror(errno));
}

static int open_lock(const struct options *o)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[128], pid[16] = "", *slash;
	int fd;

	snprintf(path, sizeof(path), "%s", o->socket);
	slash = strrchr(path, '/');
	if (slash) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	strncat(path, ".lock", sizeof(path) - strlen(path) - 1);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return log_errno(-errno, "cannot open the lock '%s'", path);
	/* A record lock, not flock(): a child stuck on a disk must not hold it for a dead agent. */
	if (fcntl(fd, F_SETLK, &lock) < 0) {
		(void)!read(fd, pid, sizeof(pid) - 1);
		log_err("another stallboxd is running (pid %s), it holds '%s'",
			pid[0] ? strtok(pid, "\n") : "unknown", path);
		log_hint("use 'stallbox status' to talk to it, or give this one its own --socket, "
			 "--spool and --no-pin");
		close(fd);
		return -EBUSY;
	}
	dprintf(fd, "%d\n", getpid());
	return fd;
}

static void print_start(const struct agent *a)
{
	const struct probes *p = &a->probes;

	log_info("stallboxd %s: recording%s, %u CPUs, %llu MiB of ring in two banks, %zu MiB of kernel "
		 "memory in all, %zu triggers armed", SB_VERSION,
		 p->taken_over ? " (took over a running recorder)" : "", p->cfg.cpus,
		 (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus >> 20),
		 p->map_bytes >> 20, a->o->n_triggers);
	if (p->replaced)
		log_warn("the pinned recorder had another layout or other settings; it was replaced and "
			 "its history is gone");
	if (!p->pinned)
		log_warn("nothing is pinned: recording ends with this agent");
	for (size_t i = 0; i < p->n_missing; i++)
		log_info("not available on this kernel: %s: %s", p->missing[i].key, p->missing[i].value);
}

static int open_sources(struct agent *a)
{
	sigset_t set;
	int r;

	a->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->hits = ring_buffer__new(a->probes.hits_fd, kernel_hit, a, NULL);
	if (a->epoll_fd < 0 || a->signal_fd < 0 || !a->hits)
		return log_errno(-errno, "cannot set up the event loop");
	r = watch(a, a->signal_fd, EPOLLIN, SRC_SIGNAL);
	if (r == 0)
		r = watch(a, ring_buffer__epoll_fd(a->hits), EPOLLIN, SRC_HITS);
	if (r == 0)
		r = watch(a, a->capture.fd, EPOLLIN, SRC_REPORTS);
	if (r == 0)
		r = watch(a, a->control.fd, EPOLLIN, SRC_LISTEN);
	return r < 0 ? log_errno(r, "cannot set up the event loop") : 0;
}

static int start(struct agent *a)
{
	char error[512];
	int r;

	r = spool_prepare(&a->o->spool);
	if (r < 0) {
		log_errno(r, "cannot write bundles to '%s'", a->o->spool.dir);
		log_hint("create the directory, free space on it, or choose another with --spool");
		return r;
	}
	if (a->o->realtime)
		become_realtime();
	r = probes_open(&a->o->probes, &a->probes, error, sizeof(error));
	if (r < 0) {
		char *hint = strchr(error, '\n');

		if (hint)
			*hint++ = '\0';
		log_err("%s", error);
		if (hint)
			log_hint("%s", hint);
		return r;
	}
	r = series_start(a->probes.cfg.cpus, a->probes.cfg.cgroup_v1_memory, &a->series);
	if (r < 0)
		log_errno(r, "cannot keep the host's counters; bundles will lack them");
	a->capture_config = (struct capture_config){
		.probes = &a->probes,
		.series = a->series,
		.control_fd = &a->control.fd,
		.spool = a->o->spool,
		.config = a->o->config,
		.n_config = a->o->n_config,
		.post_ns = a->o->post_ns,
		.realtime = a->o->realtime,
	};
	r = capture_start(&a->capture_config, &a->capture);
	if (r < 0)
		return log_errno(r, "cannot start the freezer process");
	/* After the processes: one that outlives us must not answer in our name. */
	r = control_open(&a->control, a->o->socket);
	if (r < 0)
		return log_errno(r, "cannot listen on '%s'", a->o->socket);
	r = open_sources(a);
	if (r < 0)
		return r;
	if (a->o->realtime && mlockall(MCL_CURRENT) < 0)
		log_warn("cannot lock the agent's memory: %s", strerror(errno));
	return 0;
}

static void stop(struct agent *a)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		if (a->o->trigger[i]->ops->disarm)
			a->o->trigger[i]->ops->disarm(a->o->trigger[i]);
	}
	if (a->probes.control && a->v.state == AGENT_RECORDING && !a->probes.pinned)
		a->probes.control->armed = 0;
	capture_stop(&a->capture);
	series_stop(a->series);
	control_close(&a->control);
	if (a->hits)
		ring_buffer__free(a->hits);
	probes_close(&a->probes);
}

int agent_run(struct options *o, int ready_fd)
{
	struct agent a = { .o = o, .env = trigger_env_host(), .capture.fd = -1, .control.fd = -1 };
	_cleanup_close_ int lock = open_lock(o);
	struct sb_ktrigger met;
	bool orphan;

	if (lock < 0)
		return SB_EXIT_FAILURE;
	for (size_t i = 0; i < OPTIONS_MAX_TRIGGERS; i++)
		a.due[i] = UINT64_MAX;
	if (start(&a) < 0) {
		stop(&a);
		return SB_EXIT_FAILURE;
	}
	orphan = a.probes.taken_over && !a.probes.control->armed && a.probes.control->freeze_ns;
	met = a.probes.control->trigger[a.probes.control->fired_trigger & (SB_KTRIGGERS - 1)];
	write_kernel_triggers(&a);
	if (orphan)
		export_orphan(&a, &met);
	else
		arm(&a);
	if (arm_triggers(&a) < 0) {
		log_err("no trigger could be armed");
		stop(&a);
		return SB_EXIT_FAILURE;
	}
	print_start(&a);
	if (ready_fd >= 0)
		(void)!write(ready_fd, "", 1);
	malloc_trim(0);
	selfcost_init(&a.v.cost);
	loop(&a);
	log_info("stallboxd ends%s", a.probes.pinned ?
		 "; recording goes on in the kernel ('stallboxd --unload' ends it)" : "");
	stop(&a);
	return SB_EXIT_OK;
}

int agent_list_features(struct options *o)
{
	struct probes p;
	char error[512];
	int r;

	o->probes.pin = false;
	r = probes_open(&o->probes, &p, error, sizeof(error));
	if (r < 0) {
		printf("required: missing: %s\n", error);
		return SB_EXIT_FAILURE;
	}
	printf("required: all present\n");
	printf("programs: %zu loaded and attached\n", p.n_programs);
	for (size_t i = 0; i < p.n_missing; i++)
		printf("optional: absent: %s: %s\n", (const char *)p.missing[i].key,
		       (const char *)p.missing[i].value);
	if (!p.n_missing)
		printf("optional: all present\n");
	probes_close(&p);
	return SB_EXIT_OK;
}
