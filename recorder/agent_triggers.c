// SPDX-License-Identifier: BSD-2-Clause
/* Triggers armed and heard: which of them fire, and what becomes of those that make no bundle. */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "format/log.h"
#include "recorder/agent_impl.h"

/* ---- arming ------------------------------------------------------------------------ */

/* The kernel seals by itself: it is told until when a trigger must not. */
static void keep_quiet(struct agent *a, size_t i, uint64_t now)
{
	const struct trigger *t = a->o->trigger[i];

	for (size_t k = 0; k < a->n_kernel; k++) {
		if (a->kernel_index[k] == i)
			a->probes.control->trigger[k].quiet_until_ns =
				t->limits.dry_run ? UINT64_MAX : limits_until(&t->limits, &t->history, now);
	}
}

/* Where a condition with hysteresis has ended: less than this many threads or percent; more, where it fires at
 * too few. */
static uint32_t calm_of(const struct trigger_kernel_condition *k)
{
	double limit = k->type == TRIGGER_KERNEL_BLOCKED ? k->count : k->percent, calm;

	if (!(k->hysteresis > 0))
		return 0;
	calm = limit * (k->type == TRIGGER_KERNEL_RECLAIM_YIELD ? 1 + k->hysteresis : 1 - k->hysteresis);
	return calm < 1 ? 1 : (uint32_t)(calm + 0.5);
}

void agent_set_always(struct agent *a)
{
	a->escalate_always = a->o->config.recorder.escalate == CONFIG_ESCALATE_ALWAYS ? ~0u : a->probes.control->watch;
}

/* The slot may have had another condition before, or one that came to nothing. 0, or -ENOENT: no such cgroup. */
static int write_condition(const struct agent *a, const struct trigger_kernel_condition *k, struct sb_ktrigger *ret)
{
	uint64_t cgroup_id = k->cgroup[0] ? probes_cgroup_id(&a->probes, k->cgroup) : 0;

	if (k->cgroup[0] && !cgroup_id)
		return -ENOENT;
	*ret = (struct sb_ktrigger){
		.count = k->count,
		.threshold_ns = k->threshold_ns,
		.percent = k->percent,
		.held_ns = k->held_ns,
		.calm = calm_of(k),
		.cgroup_id = cgroup_id,
	};
	memcpy(ret->comm, k->comm, strlen(k->comm));
	/* Last: from then on it is looked at. The same numbers, asserted below. */
	__atomic_store_n(&ret->type, (uint32_t)k->type, __ATOMIC_RELEASE);
	return 0;
}

void agent_write_kernel_triggers(struct agent *a)
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
		r = write_condition(a, k, &c->trigger[a->n_kernel]);
		if (r < 0) {
			log_err("trigger '%s': there is no cgroup '%s'", a->o->trigger[i]->name, k->cgroup);
			a->v.trigger_error[i] = r;
			continue;
		}
		watch |= 1u << k->type | (k->cgroup[0] ? SB_WATCH_CGROUP : 0);
		a->kernel_index[a->n_kernel] = i;
		a->unsealed[a->n_kernel] = 0;
		a->n_kernel++;
		keep_quiet(a, i, sb_monotonic_ns());
	}
	c->cpus_online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	c->window_ns = sb_monotonic_ns();
	r = probes_set_deadlines(&a->probes);
	if (r < 0)
		log_errno(r, "cannot set the timers of kernel: triggers: threads in D state are looked at every 10 ms");
	c->raised_from_rq = a->probes.raised_from_rq;
	c->handled_from_rq = a->probes.handled_from_rq;
	c->watch = watch;
	agent_set_always(a);
	probes_escalate(&a->probes, agent_always(a));
}

_Static_assert((int)TRIGGER_KERNEL_RECLAIM == SB_KTRIG_RECLAIM &&
		       (int)TRIGGER_KERNEL_BLOCKED == SB_KTRIG_BLOCKED &&
		       (int)TRIGGER_KERNEL_MMAP_LOCK_WAIT == SB_KTRIG_MMAP_LOCK_WAIT &&
		       (int)TRIGGER_KERNEL_MMAP_LOCK_HOLD == SB_KTRIG_MMAP_LOCK_HOLD &&
		       (int)TRIGGER_KERNEL_RUNQ == SB_KTRIG_RUNQ &&
		       (int)TRIGGER_KERNEL_SOFTIRQ_DELAY == SB_KTRIG_SOFTIRQ_DELAY &&
		       (int)TRIGGER_KERNEL_SYSCALL == SB_KTRIG_SYSCALL &&
		       (int)TRIGGER_KERNEL_RECLAIM_YIELD == SB_KTRIG_RECLAIM_YIELD &&
		       (int)TRIGGER_KERNEL_SYSTEM == SB_KTRIG_SYSTEM &&
		       (int)TRIGGER_KERNEL_SOFTIRQ_HELD == SB_KTRIG_SOFTIRQ_HELD,
	       "conditions");

/* On whole periods of the clock: triggers of 500 ms and of 1 s share their wakeups. */
static uint64_t next_due(const struct agent *a, const struct trigger *t, uint64_t now)
{
	bool seldom = t->quiet && !(t->quiet & ~series_watched(a->series, now));
	uint64_t period_ns = seldom ? TRIGGER_QUIET_NS : t->period_ns;

	return (now / period_ns + 1) * period_ns;
}

/* Of what begins the series' process tells only those who wait for it. */
static void want_begins(struct agent *a)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < a->o->n_triggers; i++)
		bits |= a->v.trigger_error[i] < 0 ? 0 : a->o->trigger[i]->quiet;
	series_want(a->series, bits);
}

int agent_arm_trigger(struct agent *a, size_t i)
{
	struct trigger *t = a->o->trigger[i];
	int r = a->v.trigger_error[i];

	if (r == 0 && t->ops->arm)
		r = t->ops->arm(t, &a->env);
	a->v.trigger_error[i] = r;
	if (r < 0) {
		log_errno(r, "cannot arm trigger '%s'", t->spec);
		if (r == -EAFNOSUPPORT)
			log_hint("the service has no network; stallboxd.service(8), HEALTH CHECKS, says how to "
				 "give it one");
		return r;
	}
	if (t->fd >= 0)
		agent_watch(a, t->fd, t->events, SRC_TRIGGER + i);
	a->due[i] = t->period_ns ? next_due(a, t, sb_monotonic_ns()) : UINT64_MAX;
	return 0;
}

int agent_arm_triggers(struct agent *a)
{
	size_t armed = 0;

	for (size_t i = 0; i < a->o->n_triggers; i++)
		armed += agent_arm_trigger(a, i) == 0;
	return armed ? 0 : -ENOENT;
}

/* ---- hits -------------------------------------------------------------------------- */

struct capture_cause agent_cause(const struct trigger *t, const struct trigger_hit *hit)
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

static void note(struct agent *a, size_t i, enum trigger_outcome o, uint64_t n, uint64_t at_ns)
{
	struct trigger *t = a->o->trigger[i];
	uint64_t post_ns = t->post_ns ? t->post_ns : a->o->config.recorder.post_ns;

	limits_note(&t->history, o, n, at_ns);
	if (o == TRIGGER_DRY_RUN)
		t->history.busy_until_ns = at_ns + SB_MAX(post_ns, a->o->config.recorder.cooldown_ns);
	if (o != TRIGGER_FIRED && o != TRIGGER_MERGED)
		a->v.kept_back += n;
	keep_quiet(a, i, at_ns);
}

/* Condition and limits may bring this many times a second: one message in 10 s. */
static void say_kept_back(struct agent *a, const struct trigger *t, const struct trigger_hit *hit,
			  enum trigger_outcome o)
{
	uint64_t until = o == TRIGGER_IN_COOLDOWN ? a->cooldown_end_ns :
						    limits_until(&t->limits, &t->history, hit->fired_ns);
	char text[64] = "dry run";

	if (hit->fired_ns - a->said_ns <= 10 * NSEC_PER_SEC)
		return;
	a->said_ns = hit->fired_ns;
	if (o != TRIGGER_DRY_RUN)
		snprintf(text, sizeof(text), "no new bundle for %llu s (%s)",
			 (unsigned long long)(until > hit->fired_ns ? (until - hit->fired_ns) / NSEC_PER_SEC : 0),
			 trigger_outcome_name(o));
	log_info("trigger '%.60s' fired%s: value %g %s; %s%s%s", t->name,
		 o == TRIGGER_DRY_RUN ? "" : " again", hit->value, hit->unit ? hit->unit : "", text,
		 a->v.last_file[0] ? ", the last one is " : "", a->v.last_file);
}

static void fire(struct agent *a, size_t i, const struct trigger_hit *hit)
{
	struct trigger *t = a->o->trigger[i];
	enum trigger_outcome o = limits_judge(&t->limits, &t->history, hit->fired_ns);

	/* As long as it goes on it is the same incident, which has been counted. */
	if (hit->goes_on && o != TRIGGER_DRY_RUN && (o != TRIGGER_FIRED || a->v.state != AGENT_RECORDING))
		return;
	t->fired_cnt++;
	if (o == TRIGGER_FIRED)
		o = agent_capture(a, t, hit);
	note(a, i, o, 1, hit->fired_ns);
	if (o != TRIGGER_FIRED && o != TRIGGER_MERGED)
		say_kept_back(a, t, hit, o);
}

/* What an in-kernel condition's value is in the unit of its trigger. */
static double kernel_value(const struct trigger_kernel_condition *k, uint64_t value)
{
	bool is_time = k->type != TRIGGER_KERNEL_BLOCKED && k->type != TRIGGER_KERNEL_RECLAIM_YIELD &&
		       k->type != TRIGGER_KERNEL_SYSTEM;

	return is_time ? (double)value / 1e6 : (double)value;
}

/* What an in-kernel condition has found, with words for people. */
static void describe_hit(const struct trigger_kernel_condition *k, const struct sb_hit *h,
			 struct trigger_hit *ret)
{
	static const char *const what[SB_KTRIG_COUNT] = {
		[SB_KTRIG_RECLAIM] = "in reclaim",
		[SB_KTRIG_MMAP_LOCK_WAIT] = "waiting for mmap_lock",
		[SB_KTRIG_MMAP_LOCK_HOLD] = "holding mmap_lock",
		[SB_KTRIG_RUNQ] = "waiting for a CPU",
		[SB_KTRIG_SOFTIRQ_DELAY] = "running while a softirq waited",
		[SB_KTRIG_SOFTIRQ_HELD] = "in one system call while a raised softirq waited",
		[SB_KTRIG_SYSCALL] = "in one system call",
	};
	unsigned long long ms = h->value / NSEC_PER_MSEC;

	ret->fired_ns = h->freeze_ns;
	ret->target_tid = h->tid;
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

/* It was met n times, and the kernel did not seal. False: it is too early to say why. */
static bool not_sealed(struct agent *a, size_t i, uint64_t n, const struct trigger_hit *hit)
{
	struct trigger *t = a->o->trigger[i];

	/* Others sealed the bank, and the agent has not heard yet. */
	if (limits_judge(&t->limits, &t->history, hit->fired_ns) == TRIGGER_FIRED && a->v.state == AGENT_RECORDING)
		return false;
	t->fired_cnt += n;
	while (n) {
		enum trigger_outcome o = limits_judge(&t->limits, &t->history, hit->fired_ns);
		uint64_t as_many = o == TRIGGER_DRY_RUN ? 1 : n;

		if (o == TRIGGER_FIRED)
			o = agent_capture(a, t, hit);
		note(a, i, o, as_many, hit->fired_ns);
		if (o == TRIGGER_MERGED)
			a->v.merged += as_many - 1;
		else
			say_kept_back(a, t, hit, o);
		n -= as_many;
	}
	return true;
}

void agent_collect(struct agent *a)
{
	for (size_t k = 0; k < a->n_kernel; k++) {
		const struct sb_ktrigger *c = &a->probes.control->trigger[k];
		const struct trigger *t = a->o->trigger[a->kernel_index[k]];
		uint64_t n = __atomic_load_n(&c->unsealed, __ATOMIC_ACQUIRE) - a->unsealed[k];
		struct sb_hit last = { .freeze_ns = c->unsealed_ns, .value = c->unsealed_value, .tid = c->unsealed_tid };
		struct trigger_hit hit = {};

		describe_hit(&t->kernel, &last, &hit);
		if (n && not_sealed(a, a->kernel_index[k], n, &hit))
			a->unsealed[k] += n;
	}
}

/* The value of an in-kernel condition, its threshold. */
static bool is_past(const struct trigger *t)
{
	if (t->kernel.type == TRIGGER_KERNEL_RECLAIM_YIELD)
		return t->value < t->threshold;
	return t->kernel.type == TRIGGER_KERNEL_SYSTEM ? t->value > t->threshold : t->value >= t->threshold;
}

/* As old as this it is of a condition that nobody has looked at since: nothing is in flight. */
#define KERNEL_VALUE_NS (2 * NSEC_PER_SEC)

void agent_look(struct agent *a, uint64_t now)
{
	agent_collect(a);
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		struct trigger *t = a->o->trigger[i];

		if (t->ops->look && a->v.trigger_error[i] >= 0)
			t->ops->look(t, &a->env);
	}
	for (size_t k = 0; k < a->n_kernel; k++) {
		const struct sb_ktrigger *c = &a->probes.control->trigger[k];
		struct trigger *t = a->o->trigger[a->kernel_index[k]];
		bool fresh = c->value_ns && now < c->value_ns + KERNEL_VALUE_NS;

		t->value = fresh ? kernel_value(&t->kernel, c->value) : 0;
		t->met = fresh && is_past(t);
		t->waits_for_calm = c->calm && c->told;
		t->met_since_ns = c->held_ns ? c->met_ns : 0;
	}
}

/* ---- of the agent's loop ------------------------------------------------------------- */

void agent_check(struct agent *a, size_t i, uint64_t now)
{
	struct trigger *t = a->o->trigger[i];
	struct trigger_hit hit = {};
	int r;

	if (a->v.trigger_error[i] < 0)
		return;
	t->looked_ns = now;
	r = t->ops->check(t, &a->env, now, &hit);
	if (r < 0) {
		a->v.trigger_error[i] = r;
		a->due[i] = UINT64_MAX;
		if (t->fd >= 0)
			epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, t->fd, NULL);
		log_errno(r, "trigger '%s' cannot look any more and is disarmed", t->name);
	} else if (r > 0) {
		fire(a, i, &hit);
	}
}

static void check_and_plan(struct agent *a, size_t i, uint64_t now)
{
	agent_check(a, i, now);
	if (a->v.trigger_error[i] >= 0)
		a->due[i] = next_due(a, a->o->trigger[i], now);
	want_begins(a);
}

void agent_check_due(struct agent *a, uint64_t now)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		if (now >= a->due[i])
			check_and_plan(a, i, now);
	}
}

void agent_check_quiet(struct agent *a, uint64_t now)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		const struct trigger *t = a->o->trigger[i];

		/* The reader's look and ours may be due together: twice within a moment says nothing. */
		if (t->quiet && a->v.trigger_error[i] >= 0 && now - t->looked_ns >= t->period_ns / 2)
			check_and_plan(a, i, now);
	}
}

void agent_note_sealed(struct agent *a, uint32_t k, uint64_t at_ns)
{
	if (k >= a->n_kernel)
		return;
	a->o->trigger[a->kernel_index[k]]->fired_cnt++;
	note(a, a->kernel_index[k], TRIGGER_FIRED, 1, at_ns);
}

/* An in-kernel condition has sealed the bank. */
int agent_kernel_hit(void *ctx, void *data, size_t len)
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
		agent_begin_capture(a, &cause, 0, h->freeze_ns);
		return 0;
	}
	t = a->o->trigger[a->kernel_index[h->trigger]];
	describe_hit(&t->kernel, h, &hit);
	agent_note_sealed(a, h->trigger, h->freeze_ns);
	cause = agent_cause(t, &hit);
	counters_observe(&a->v.seal_latency, 0); /* in the interrupt that saw the condition */
	agent_begin_capture(a, &cause, t->post_ns, h->freeze_ns);
	return 0;
}
