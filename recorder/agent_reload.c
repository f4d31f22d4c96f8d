// SPDX-License-Identifier: BSD-2-Clause
/* SIGHUP: the configuration is read again, and what can change while it records does. All of it or nothing. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "format/log.h"
#include "recorder/agent_impl.h"

static void __attribute__((format(printf, 2, 3))) fail(struct agent *a, const char *fmt, ...)
{
	struct reload_view *v = &a->v.reload;
	va_list ap;

	v->failures++;
	v->failed = true;
	v->last_ms = sb_realtime_ms();
	va_start(ap, fmt);
	vsnprintf(v->error, sizeof(v->error), fmt, ap);
	va_end(ap);
	log_err("%s", v->error);
	log_err("the configuration was not reloaded; the earlier one stays in force");
}

/* ---- triggers ---------------------------------------------------------------------- */

struct new_triggers {
	struct trigger *t[OPTIONS_MAX_TRIGGERS];
	int was[OPTIONS_MAX_TRIGGERS]; /* index of the same one now; -1: it is new */
	size_t n;
	bool same; /* all of them, in their order */
};

static int find_same(const struct options *o, const char *spec, const bool *taken)
{
	for (size_t i = 0; i < o->n_triggers; i++) {
		if (!taken[i] && !strcmp(o->trigger[i]->spec, spec))
			return (int)i;
	}
	return -1;
}

static void free_new(struct new_triggers *n)
{
	for (size_t i = 0; i < n->n; i++) {
		if (n->was[i] < 0)
			trigger_free(n->t[i]);
	}
}

/* Those of which not a letter has changed stay what they are. */
static int make_triggers(struct agent *a, const struct config *c, struct new_triggers *ret)
{
	char spec[OPTIONS_MAX_TRIGGERS][TRIGGER_SPEC_MAX], error[256];
	size_t n = options_trigger_specs(a->o, c, spec);
	bool taken[OPTIONS_MAX_TRIGGERS] = {};

	*ret = (struct new_triggers){ .same = n == a->o->n_triggers };
	for (size_t i = 0; i < n; i++) {
		int was = find_same(a->o, spec[i], taken);

		ret->same &= was == (int)i;
		ret->was[i] = was;
		if (was >= 0) {
			taken[was] = true;
			ret->t[i] = a->o->trigger[was];
		} else if (trigger_parse(spec[i], &ret->t[i], error, sizeof(error)) < 0) {
			fail(a, "trigger '%s': %s", spec[i], error);
			free_new(ret);
			return -EINVAL;
		}
		ret->n++;
	}
	return 0;
}

static void drop_gone(struct agent *a, const struct new_triggers *n)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		struct trigger *t = a->o->trigger[i];
		size_t k = 0;

		while (k < n->n && n->was[k] != (int)i)
			k++;
		if (k < n->n)
			continue;
		if (t->fd >= 0)
			epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, t->fd, NULL);
		if (t->ops->disarm)
			t->ops->disarm(t);
		trigger_free(t);
	}
}

/* What the kernel knows of conditions that stay: how long they have held, what has become of them. */
static void keep_state(struct agent *a, const struct sb_ktrigger *before, const struct trigger *const *owner, size_t n)
{
	for (size_t i = 0; i < a->n_kernel; i++) {
		const struct trigger *t = a->o->trigger[a->kernel_index[i]];

		for (size_t k = 0; k < n; k++) {
			struct sb_ktrigger *c = &a->probes.control->trigger[i];

			if (owner[k] != t)
				continue;
			c->held = before[k].held;
			c->met_ns = before[k].met_ns;
			c->told = before[k].told;
			c->value = before[k].value;
			c->value_ns = before[k].value_ns;
		}
	}
}

static void swap_triggers(struct agent *a, const struct new_triggers *n)
{
	struct options *o = a->o;
	struct sb_ktrigger before[SB_KTRIGGERS];
	const struct trigger *owner[SB_KTRIGGERS];
	uint64_t due[OPTIONS_MAX_TRIGGERS];
	int error[OPTIONS_MAX_TRIGGERS] = {};
	size_t n_before = a->n_kernel;

	agent_collect(a); /* what did not seal is counted from 0 again */
	memcpy(before, a->probes.control->trigger, sizeof(before));
	for (size_t i = 0; i < n_before; i++)
		owner[i] = o->trigger[a->kernel_index[i]];
	for (size_t i = 0; i < OPTIONS_MAX_TRIGGERS; i++)
		due[i] = UINT64_MAX;
	for (size_t i = 0; i < n->n; i++) {
		if (n->was[i] < 0)
			continue;
		due[i] = a->due[n->was[i]];
		if (n->t[i]->kernel.type == TRIGGER_KERNEL_NONE) /* for those of the kernel there may be room now */
			error[i] = a->v.trigger_error[n->was[i]];
	}
	drop_gone(a, n);
	memcpy(o->trigger, n->t, sizeof(o->trigger));
	o->n_triggers = n->n;
	memcpy(a->due, due, sizeof(due));
	memcpy(a->v.trigger_error, error, sizeof(error));
	agent_write_kernel_triggers(a);
	keep_state(a, before, owner, n_before);
	for (size_t i = 0; i < n->n; i++) {
		struct epoll_event ev = { .events = n->t[i]->events, .data.u64 = SRC_TRIGGER + i };

		if (n->was[i] < 0)
			(void)agent_arm_trigger(a, i);
		else if (n->t[i]->fd >= 0 && error[i] == 0)
			epoll_ctl(a->epoll_fd, EPOLL_CTL_MOD, n->t[i]->fd, &ev);
	}
}

/* The kernel looks at no condition any more. false: one has just sealed the bank; its message comes first. */
static bool quiesce(struct agent *a)
{
	if (a->v.state != AGENT_RECORDING || __atomic_exchange_n(&a->probes.control->armed, 0, __ATOMIC_SEQ_CST))
		return true;
	ring_buffer__consume(a->hits);
	return a->v.state != AGENT_RECORDING;
}

/* ---- the rest ------------------------------------------------------------------------ */

/* What is fixed at start keeps its value, and is told. */
static void keep_fixed(struct agent *a, struct config *c)
{
	struct reload_view *v = &a->v.reload;
	char source[CONFIG_TEXT_MAX + 16];
	size_t n = 0;

	v->restart[0] = '\0';
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];
		struct config_source *s;

		if (k->section > CONFIG_STORAGE || k->at_run_time || config_same(&a->o->config, c, k))
			continue;
		s = (struct config_source *)config_source_of(c, NULL, k);
		config_source_text(c, s, source, sizeof(source));
		log_warn("%s: [%s] %s= has changed, which needs a restart", source, config_section_name[k->section],
			 k->name);
		if (n < sizeof(v->restart))
			n += (size_t)snprintf(v->restart + n, sizeof(v->restart) - n, "%s%s", n ? ", " : "", k->name);
		memcpy((char *)c + k->offset, (const char *)&a->o->config + k->offset, k->size);
	}
}

static void adopt(struct agent *a, const struct config *c)
{
	options_adopt(a->o, c);
	/* The other one: a process that has its order may still look at the first. */
	options_settings(a->o, &a->work->settings[a->settings ^ 1]);
	a->settings ^= 1;
	a->work->storage.limits = a->o->spool.limits;
	a->keep_due = 0;
	a->v.limit.budget_ppm = (uint32_t)c->recorder.cpu_budget_ppm;
	a->probes.control->budget_ppm = a->v.limit.budget_ppm;
}

static void count(const struct agent *a, const struct new_triggers *n)
{
	size_t fresh = 0;

	for (size_t i = 0; i < n->n; i++)
		fresh += n->was[i] < 0;
	log_info("configuration reloaded: %zu files, %zu triggers, %zu of them new%s%s", a->o->config.n_files, n->n, fresh,
		 a->v.reload.restart[0] ? "; needs a restart: " : "", a->v.reload.restart);
}

/* false: not now, once more soon. */
static bool apply(struct agent *a, struct config *c)
{
	struct reload_view *v = &a->v.reload;
	struct new_triggers n;

	if (make_triggers(a, c, &n) < 0)
		return true;
	if (!n.same && !quiesce(a)) {
		free_new(&n);
		return false;
	}
	keep_fixed(a, c);
	adopt(a, c);
	if (!n.same)
		swap_triggers(a, &n);
	agent_set_always(a);
	agent_escalate(a, a->v.state == AGENT_POST_TRIGGER);
	if (!n.same && a->v.state == AGENT_RECORDING)
		agent_arm(a);
	v->reloads++;
	v->failed = false;
	v->error[0] = '\0';
	v->n_errors = 0;
	v->last_ms = sb_realtime_ms();
	count(a, &n);
	return true;
}

/* ---- what the loop calls ---------------------------------------------------------------- */

void agent_reload(struct agent *a)
{
	int r = reload_start(&a->reload, a->o);

	a->reload_again = r == -EBUSY;
	if (r < 0 && r != -EBUSY)
		fail(a, "cannot start the process that reads the configuration: %s", strerror(-r));
	if (r == 0)
		agent_watch(a, a->reload.fd, EPOLLIN, SRC_RELOAD);
}

static void take_errors(struct agent *a, const struct config_errors *e)
{
	char text[1024];

	for (size_t i = 1; i < e->n; i++) { /* the first one below */
		config_error_text(&e->error[i], text, sizeof(text));
		log_err("%s", text);
	}
	a->v.reload.n_errors = e->n + e->more;
	config_error_text(&e->error[0], text, sizeof(text));
	fail(a, "%s", text);
}

void agent_check_reload(struct agent *a, uint64_t now)
{
	int r;

	if (a->reload.fd >= 0) {
		r = reload_poll(&a->reload, now);
		if (r == -EAGAIN)
			return;
		a->v.reload.n_errors = 0;
		if (r == -ETIMEDOUT)
			fail(a, "reading the configuration '%s' takes more than 10 s", a->o->config_file);
		else if (r < 0)
			fail(a, "the process that reads the configuration was killed");
	}
	if (a->reload.read) {
		if (a->reload.answer->errors.n)
			take_errors(a, &a->reload.answer->errors);
		else if (!apply(a, &a->reload.answer->config))
			return;
		reload_forget_answer(&a->reload);
	}
	if (reload_reap(&a->reload) && a->reload_again)
		agent_reload(a);
}
