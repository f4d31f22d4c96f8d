// SPDX-License-Identifier: BSD-2-Clause
#include "tools/group.h"

#include <errno.h>
#include <stdio.h>

int group_parse(const char *s, enum group_by *ret)
{
	static const char *const names[GROUP_KINDS] = { "comm", "thread", "process", "cgroup", "cpu" };

	for (int i = 0; i < GROUP_KINDS; i++) {
		if (!strcmp(s, names[i])) {
			*ret = (enum group_by)i;
			return 0;
		}
	}
	return -EINVAL;
}

int groups_init(struct groups *g, const struct bundle *b, enum group_by by)
{
	*g = (struct groups){ .b = b, .by = by };
	g->of_thread = calloc(bundle_n_threads(b) + 1u, sizeof(*g->of_thread));
	return g->of_thread ? 0 : -ENOMEM;
}

void groups_done(struct groups *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		free(g->label[i]);
	free(g->label);
	free(g->of_thread);
	map64_done(&g->by_key);
	*g = (struct groups){};
}

static uint32_t add_group(struct groups *g, uint64_t key, const char *label)
{
	uint32_t id;

	key = key + 1 ? key + 1 : 1; /* 0 is no key */
	id = (uint32_t)map64_get(&g->by_key, key);
	if (id)
		return id;
	if (g->n == g->cap) {
		uint32_t cap = g->cap ? g->cap * 2 : 256;
		void *bigger = realloc(g->label, cap * sizeof(*g->label));

		if (!bigger)
			return 0;
		g->label = bigger;
		g->cap = cap;
	}
	g->label[g->n] = strdup(label);
	if (!g->label[g->n])
		return 0;
	g->n++;
	return map64_put(&g->by_key, key, g->n) < 0 ? 0 : g->n;
}

static const char *named(const char *s)
{
	return *s ? s : "[unknown]";
}

static uint64_t key_of(const char *name, uint64_t ids)
{
	return sb_mix64(sb_hash_bytes(name, strlen(name)) ^ ids);
}

static uint32_t look_up(struct groups *g, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(g->b, thread);
	const struct bundle_process *p = bundle_process(g->b, t->process);
	const char *path;
	char label[512];

	switch (g->by) {
	case GROUP_THREAD:
		snprintf(label, sizeof(label), "%s %u/%u", named(t->comm), p->pid, t->tid);
		return add_group(g, key_of(t->comm, (uint64_t)p->pid << 32 | t->tid), label);
	case GROUP_PROCESS:
		snprintf(label, sizeof(label), "%s %u", named(*p->comm ? p->comm : t->comm), p->pid);
		return add_group(g, key_of(p->comm, p->pid), label);
	case GROUP_CGROUP:
		path = bundle_cgroup_path(g->b, t->cgroup);
		if (*path)
			snprintf(label, sizeof(label), "%s", path);
		else if (t->cgroup)
			snprintf(label, sizeof(label), "[cgroup %llu]",
				 (unsigned long long)bundle_cgroup_kernel_id(g->b, t->cgroup));
		else
			strcpy(label, "[no cgroup known]");
		return add_group(g, t->cgroup, label);
	default:
		/* Two names of one hash would be one group: as likely as a broken disk. */
		return add_group(g, sb_hash_bytes(t->comm, strlen(t->comm)), named(t->comm));
	}
}

uint32_t group_of(struct groups *g, uint32_t thread, uint32_t cpu)
{
	char label[32];

	if (g->by == GROUP_CPU) {
		uint32_t id = (uint32_t)map64_get(&g->by_key, (uint64_t)cpu + 1);

		if (id)
			return id;
		snprintf(label, sizeof(label), "CPU %u", cpu);
		return add_group(g, cpu, label);
	}
	if (thread > bundle_n_threads(g->b))
		thread = 0;
	if (!g->of_thread[thread])
		g->of_thread[thread] = look_up(g, thread);
	return g->of_thread[thread];
}
