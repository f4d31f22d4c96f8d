// SPDX-License-Identifier: BSD-2-Clause
#include "tools/filter.h"

void filter_start(struct filter *f, const struct bundle *b)
{
	const struct bundle_header *h = bundle_header(b);

	f->trigger_ns = h ? h->trigger.fired_ns : bundle_last_ns(b);
}

char event_state(const struct bundle_event *e)
{
	if (e->flags & BUNDLE_EV_PREEMPTED)
		return 'R';
	if (e->state & BUNDLE_TASK_UNINTERRUPTIBLE)
		return e->state & BUNDLE_TASK_NOLOAD ? 'I' : 'D';
	if (e->state & BUNDLE_TASK_INTERRUPTIBLE)
		return 'S';
	if (e->state & BUNDLE_TASK_STOPPED)
		return 'T';
	return e->state & BUNDLE_TASK_TRACED ? 't' : '?';
}

static bool below(const char *path, const char *root)
{
	size_t n = strlen(root);

	while (n > 1 && root[n - 1] == '/')
		n--;
	return !strncmp(path, root, n) && (!path[n] || path[n] == '/' || n == 1);
}

bool filter_thread(const struct filter *f, const struct bundle *b, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(b, thread);

	if (f->tid != NO_NUMBER && t->tid != f->tid)
		return false;
	if (f->pid != NO_NUMBER && bundle_process(b, t->process)->pid != f->pid)
		return false;
	if (f->comm && strcmp(f->comm, t->comm))
		return false;
	return !f->cgroup || below(bundle_cgroup_path(b, t->cgroup), f->cgroup);
}

bool filter_event(const struct filter *f, const struct bundle *b, const struct bundle_event *e)
{
	int64_t offset = (int64_t)(e->ts_ns - f->trigger_ns);

	if ((f->since.set && offset < f->since.ns) || (f->until.set && offset > f->until.ns))
		return false;
	if (f->state && e->kind == BUNDLE_OFF_CPU && !strchr(f->state, event_state(e)))
		return false;
	if (f->cpu != NO_NUMBER && e->cpu != f->cpu)
		return false;
	if (f->tid == NO_NUMBER && f->pid == NO_NUMBER && !f->comm && !f->cgroup)
		return true;
	return filter_thread(f, b, e->thread);
}
