/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose event it is: --by thread, process, cgroup, CPU or thread name, as small numbers. */
#ifndef SB_TOOLS_GROUP_H
#define SB_TOOLS_GROUP_H

#include "format/map64.h"
#include "format/reader.h"

enum group_by { GROUP_COMM, GROUP_THREAD, GROUP_PROCESS, GROUP_CGROUP, GROUP_CPU, GROUP_KINDS };
#define GROUP_LIST "comm, thread, process, cgroup or cpu"

struct groups {
	const struct bundle *b;
	enum group_by by;
	uint32_t *of_thread; /* by thread id, 0: not looked at */
	struct map64 by_key;
	char **label; /* not escaped */
	uint32_t n, cap;
};

/* -EINVAL: none of GROUP_LIST. */
int group_parse(const char *s, enum group_by *ret);
/* 0 or -ENOMEM. */
int groups_init(struct groups *g, const struct bundle *b, enum group_by by);
void groups_done(struct groups *g);
/* From 1 on; 0: no memory. What a process was before its exec, or another one of its pid, is a group of its own. */
uint32_t group_of(struct groups *g, uint32_t thread, uint32_t cpu);
/* "db", "db 10/11", "db 10", "/a/b", "CPU 3" */
static inline const char *group_label(const struct groups *g, uint32_t id)
{
	return id ? g->label[id - 1] : "?";
}

#endif
