// SPDX-License-Identifier: BSD-2-Clause
/* Programs that are attached and detached while recording goes on: those that only the escalated window
 * has, and those that are left out above the CPU budget. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>

#include "recorder/probes_impl.h"

/* Attached from a trigger to the end of the post window, or for a trigger that needs them. */
static const struct {
	const char *program;
	uint32_t needed_by; /* bit t: enum sb_ktrigger_type */
} escalated[] = {
	{ "mmap_acquired", 1u << SB_KTRIG_MMAP_LOCK_HOLD },
	{ "mmap_acquired_path", 1u << SB_KTRIG_MMAP_LOCK_HOLD },
	{ "mmap_released", 1u << SB_KTRIG_MMAP_LOCK_HOLD },
	{ "syscall_enter", 0 },
	{ "syscall_exit", 0 },
	{ "softirq_raised", 1u << SB_KTRIG_SOFTIRQ_DELAY },
	{ "softirq_entered", 1u << SB_KTRIG_SOFTIRQ_DELAY },
	{ "softirq_exited", 1u << SB_KTRIG_SOFTIRQ_DELAY },
	{ "hardirq_entered", 0 },
	{ "hardirq_exited", 0 },
};

/* Detached above the CPU budget. Only such as keep nothing between two events: what began
 * unseen, or never ended, would be told as a wait that goes on. No condition needs them. */
static const char *const optional[] = { "sched_waking", "block_complete", "lru_isolate" };
_Static_assert(SB_ARRAY_SIZE(optional) <= PROBES_MAX_OPTIONAL, "optional programs");

bool programs_is_optional(const char *program)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(optional); i++) {
		if (!strcmp(optional[i], program))
			return true;
	}
	return false;
}

bool programs_is_escalated(const char *program)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(escalated); i++) {
		if (!strcmp(escalated[i].program, program))
			return true;
	}
	return false;
}

void programs_keep_optional(struct probes *p, const char *program, int fd, int link)
{
	snprintf(p->optional[p->n_optional].name, sizeof(p->optional[0].name), "%s", program);
	p->optional[p->n_optional].fd = fd;
	p->optional[p->n_optional++].link = link;
}

/* The program is pinned before its link goes: an agent that is killed in between leaves both,
 * and the next one has what it needs to attach it again. */
static void detach_optional(struct probes *p, size_t i)
{
	char name[64];

	snprintf(name, sizeof(name), "limited_%s", p->optional[i].name);
	if (pins_put(p, name, p->optional[i].fd) < 0)
		return;
	pins_remove(p, "link_", p->optional[i].name);
	close(p->optional[i].link);
	p->optional[i].link = -1;
}

static int attach_optional(struct probes *p, size_t i)
{
	char name[64];
	int link = bpf_raw_tracepoint_open(NULL, p->optional[i].fd), r;

	if (link < 0)
		return -errno;
	snprintf(name, sizeof(name), "link_%s", p->optional[i].name);
	r = pins_put(p, name, link);
	if (r < 0) {
		close(link);
		return r;
	}
	pins_remove(p, "limited_", p->optional[i].name);
	p->optional[i].link = link;
	return 0;
}

int probes_limit(struct probes *p, uint32_t step)
{
	struct sb_control *c = p->control;
	bool detach = step >= SB_LIMIT_PROGRAMS, any = false;
	int r = 0;

	c->offcpu_threshold_ns = p->cfg.offcpu_threshold_ns *
				 (step >= SB_LIMIT_THRESHOLD ? SB_LIMIT_FACTOR : 1);
	__atomic_store_n(&c->limit_step, step, __ATOMIC_RELEASE);
	for (size_t i = 0; i < p->n_optional; i++) {
		if (detach && p->optional[i].link >= 0)
			detach_optional(p, i);
		else if (!detach && p->optional[i].link < 0)
			r = attach_optional(p, i);
		any |= p->optional[i].link < 0;
	}
	if (any && !c->detached_since_ns) {
		c->detached_since_ns = sb_monotonic_ns();
	} else if (!any && c->detached_since_ns) {
		c->detached_ns = probes_detached_ns(p);
		c->detached_since_ns = 0;
	}
	return r;
}

uint64_t probes_detached_ns(const struct probes *p)
{
	const struct sb_control *c = p->control;

	return c->detached_ns + (c->detached_since_ns ? sb_monotonic_ns() - c->detached_since_ns : 0);
}

void probes_note_limit(struct probes *p, const struct sb_limit_note *n)
{
	struct sb_control *c = p->control;

	c->limit_note[c->limit_changes % SB_LIMIT_NOTES] = *n;
	__atomic_store_n(&c->limit_changes, c->limit_changes + 1, __ATOMIC_RELEASE);
}

/* Loaded for later. Pinned as a program, never as a link: what an agent escalated ends with it. */
int programs_keep_escalated(struct probes *p, const char *program, int fd)
{
	char name[64];

	if (p->n_escalated == PROBES_MAX_ESCALATED || fd < 0)
		return -E2BIG;
	snprintf(p->escalated[p->n_escalated].name, sizeof(p->escalated[0].name), "%s", program);
	p->escalated[p->n_escalated].fd = fd;
	p->escalated[p->n_escalated++].link = -1;
	snprintf(name, sizeof(name), "later_%s", program);
	return pins_put(p, name, fd);
}

static bool wanted(const char *program, uint32_t why)
{
	for (size_t k = 0; k < SB_ARRAY_SIZE(escalated); k++) {
		if (!strcmp(escalated[k].program, program))
			return why == ~0u || (escalated[k].needed_by & why);
	}
	return false;
}

void probes_escalate(struct probes *p, uint32_t why)
{
	size_t attached = 0;

	/* What the programs noted before is of a window whose end they did not see. */
	for (size_t i = 0; i < p->n_escalated; i++)
		attached += p->escalated[i].link >= 0;
	if (!attached && p->control)
		p->control->escalated_ns = sb_monotonic_ns();
	for (size_t i = 0; i < p->n_escalated; i++) {
		bool want = wanted(p->escalated[i].name, why);

		if (want && p->escalated[i].link < 0) {
			p->escalated[i].link = bpf_raw_tracepoint_open(NULL, p->escalated[i].fd);
		} else if (!want && p->escalated[i].link >= 0) {
			close(p->escalated[i].link);
			p->escalated[i].link = -1;
		}
	}
}

void probes_forget_links(const struct probes *p)
{
	for (size_t i = 0; i < p->n_optional; i++) {
		if (p->optional[i].link >= 0)
			close(p->optional[i].link);
	}
	for (size_t i = 0; i < p->n_escalated; i++) {
		if (p->escalated[i].link >= 0)
			close(p->escalated[i].link);
	}
}

void programs_take_escalated(struct probes *p, const char *program, int fd)
{
	bool pinned = p->pinned;

	probes_note_program(p, fd);
	p->pinned = false; /* it is */
	programs_keep_escalated(p, program, fd);
	p->pinned = pinned;
}

/* Killed in the middle, an agent leaves a program pinned both ways: the link counts. */
void programs_take_optional(struct probes *p, const char *program, int fd, int link)
{
	for (size_t i = 0; i < p->n_optional; i++) {
		if (strcmp(p->optional[i].name, program))
			continue;
		close(p->optional[i].fd);
		p->optional[i].fd = fd;
		p->optional[i].link = link;
		pins_remove(p, "limited_", program);
		return;
	}
	programs_keep_optional(p, program, fd, link);
}

void programs_take_limited(struct probes *p, const char *program)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "limited_%s", program);
	for (size_t i = 0; i < p->n_optional; i++) {
		if (!strcmp(p->optional[i].name, program)) {
			pins_remove(p, "limited_", program);
			return;
		}
	}
	fd = pins_get(p, name);
	if (fd < 0)
		return;
	probes_note_program(p, fd);
	programs_keep_optional(p, program, fd, -1);
}
