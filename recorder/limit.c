// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/limit.h"

#include <stdio.h>
#include <string.h>

/* Ticks on whole seconds come a little late or early. */
#define WHOLE_NS (LIMIT_WINDOW_NS - LIMIT_WINDOW_NS / 50)

void limit_init(struct limit *l, uint32_t budget_ppm)
{
	memset(l, 0, sizeof(*l));
	l->budget_ppm = budget_ppm;
	l->hold_ns = LIMIT_HOLD_NS;
	l->back_ns = UINT64_MAX;
}

static void drop_oldest(struct limit *l)
{
	memmove(l->sample, l->sample + 1, --l->n * sizeof(l->sample[0]));
}

static uint64_t span_of(const struct limit *l)
{
	uint64_t span = 0;

	for (size_t i = 0; i < l->n; i++)
		span += l->sample[i].span_ns;
	return span;
}

static void take_sample(struct limit *l, uint64_t span_ns, uint64_t cost_ns, uint32_t cpus)
{
	uint64_t span, cost = 0;

	if (l->n == LIMIT_SAMPLES)
		drop_oldest(l);
	l->sample[l->n].span_ns = span_ns;
	l->sample[l->n++].cost_ns = cost_ns;
	span = span_of(l);
	while (span - l->sample[0].span_ns >= WHOLE_NS) {
		span -= l->sample[0].span_ns;
		drop_oldest(l);
	}
	for (size_t i = 0; i < l->n; i++)
		cost += l->sample[i].cost_ns;
	l->whole = span >= WHOLE_NS;
	if (l->whole)
		l->cost_ppm = (uint32_t)SB_MIN(1e6 * (double)cost / ((double)span * cpus), 4e9);
}

static int change(struct limit *l, int by)
{
	l->step += (uint32_t)by;
	l->n = 0;
	l->whole = false;
	l->calm_ns = l->quiet_ns = 0;
	return by;
}

int limit_judge(struct limit *l, uint64_t span_ns, uint64_t cost_ns, uint32_t cpus)
{
	/* A pause of this process or of the whole host: nothing is known of that time. */
	if (!span_ns || span_ns > LIMIT_WINDOW_NS || !cpus) {
		l->n = 0;
		l->whole = false;
		l->calm_ns = 0;
		return 0;
	}
	take_sample(l, span_ns, cost_ns, cpus);
	if (l->back_ns != UINT64_MAX)
		l->back_ns += span_ns;
	l->quiet_ns += span_ns;
	if (!l->step && l->quiet_ns >= LIMIT_FORGET_NS)
		l->hold_ns = LIMIT_HOLD_NS;
	if (!l->whole)
		return 0;
	if (l->cost_ppm > l->budget_ppm && l->step + 1 < SB_LIMIT_STEPS) {
		if (l->back_ns <= LIMIT_RELAPSE_NS)
			l->hold_ns = SB_MIN(2 * l->hold_ns, LIMIT_HOLD_MAX_NS);
		return change(l, 1);
	}
	l->calm_ns = l->step && l->cost_ppm < l->budget_ppm / 2 ? l->calm_ns + span_ns : 0;
	if (l->calm_ns < l->hold_ns)
		return 0;
	l->back_ns = 0;
	return change(l, -1);
}

const char *limit_step_name(uint32_t step)
{
	static const char *const names[SB_LIMIT_STEPS] = {
		[SB_LIMIT_NONE] = "nothing",
		[SB_LIMIT_USTACKS] = "user stacks at switch-out",
		[SB_LIMIT_THRESHOLD] = "short off-CPU blocks (threshold ten times as long)",
		[SB_LIMIT_SAMPLES] = "three of four on-CPU samples",
		[SB_LIMIT_PROGRAMS] = "optional programs (wakers, block I/O, pages taken by reclaim)",
	};

	return step < SB_LIMIT_STEPS ? names[step] : "?";
}

void limit_note_text(const struct sb_limit_note *n, char *ret, size_t len)
{
	double cost = n->cost_ppm / 1e4, budget = n->budget_ppm / 1e4;

	if (n->to > n->from)
		snprintf(ret, len, "step %u: own cost %.4g %% of the machine, above the budget of %.4g %%; left out "
			 "from here: %s", n->to, cost, budget, limit_step_name(n->to));
	else if (n->cost_ppm)
		snprintf(ret, len, "step %u: own cost %.4g %%, below half the budget of %.4g %%; recorded again: %s",
			 n->to, cost, budget, limit_step_name(n->from));
	else
		snprintf(ret, len, "step %u: a new agent begins without limits; step %u was in force", n->to, n->from);
}
