// SPDX-License-Identifier: BSD-2-Clause
#include "triggers/limits.h"

#include <errno.h>
#include <stdio.h>

#define HOUR_NS (3600 * NSEC_PER_SEC)

const char *trigger_outcome_name(enum trigger_outcome o)
{
	static const char *const names[TRIGGER_OUTCOMES] = {
		[TRIGGER_FIRED] = "fired",
		[TRIGGER_MERGED] = "merged",
		[TRIGGER_IN_COOLDOWN] = "cooldown",
		[TRIGGER_OWN_COOLDOWN] = "own-cooldown",
		[TRIGGER_OVER_HOUR] = "max-per-hour",
		[TRIGGER_OVER_DAY] = "max-per-day",
		[TRIGGER_DRY_RUN] = "dry-run",
	};

	return names[o];
}

int limits_init(const struct trigger_limits *l, struct trigger_history *ret)
{
	size_t cap = SB_MAX(l->max_per_hour, l->max_per_day);

	cap = SB_MAX(cap, (size_t)1);
	*ret = (struct trigger_history){ .fired_ns = calloc(cap, sizeof(*ret->fired_ns)), .cap = cap };
	return ret->fired_ns ? 0 : -ENOMEM;
}

void limits_done(struct trigger_history *h)
{
	free(h->fired_ns);
	h->fired_ns = NULL;
}

/* When the n-th last bundle will be `span` ago; 0: there were not so many. */
static uint64_t back(const struct trigger_history *h, unsigned long n, uint64_t span)
{
	return n && n <= h->n_fired ? h->fired_ns[(h->n_fired - n) % h->cap] + span : 0;
}

/* Of the limits in force the one that ends last. */
static enum trigger_outcome binding(const struct trigger_limits *l, const struct trigger_history *h,
				    uint64_t now_ns, uint64_t *ret_until)
{
	const struct {
		enum trigger_outcome outcome;
		uint64_t until_ns;
	} limit[] = {
		{ TRIGGER_OWN_COOLDOWN, l->cooldown_ns ? back(h, 1, l->cooldown_ns) : 0 },
		{ TRIGGER_OVER_HOUR, back(h, l->max_per_hour, HOUR_NS) },
		{ TRIGGER_OVER_DAY, back(h, l->max_per_day, TRIGGER_DAY_NS) },
	};
	enum trigger_outcome o = TRIGGER_FIRED;

	*ret_until = 0;
	for (size_t i = 0; i < SB_ARRAY_SIZE(limit); i++) {
		if (limit[i].until_ns <= SB_MAX(now_ns, *ret_until))
			continue;
		*ret_until = limit[i].until_ns;
		o = limit[i].outcome;
	}
	return o;
}

enum trigger_outcome limits_judge(const struct trigger_limits *l, const struct trigger_history *h,
				  uint64_t now_ns)
{
	uint64_t until;
	enum trigger_outcome o = binding(l, h, now_ns, &until);

	if (o != TRIGGER_FIRED || !l->dry_run)
		return o;
	return now_ns < h->busy_until_ns ? TRIGGER_IN_COOLDOWN : TRIGGER_DRY_RUN;
}

uint64_t limits_until(const struct trigger_limits *l, const struct trigger_history *h, uint64_t now_ns)
{
	uint64_t until;

	binding(l, h, now_ns, &until);
	return until;
}

static void turn_to(struct trigger_history *h, uint64_t part)
{
	if (part > h->newest_part + TRIGGER_PARTS)
		h->newest_part = part - TRIGGER_PARTS;
	while (h->newest_part < part)
		memset(h->part[++h->newest_part % TRIGGER_PARTS], 0, sizeof(h->part[0]));
}

void limits_note(struct trigger_history *h, enum trigger_outcome o, uint64_t n, uint64_t at_ns)
{
	uint64_t part = at_ns / TRIGGER_PART_NS;
	uint32_t *c;

	turn_to(h, part);
	c = &h->part[h->newest_part % TRIGGER_PARTS][o];
	*c = (uint32_t)SB_MIN(*c + n, (uint64_t)UINT32_MAX);
	h->count[o] += n;
	h->last_ns[o] = at_ns;
	/* A dry run goes by the limits as if its bundles were there. */
	for (uint64_t i = 0; (o == TRIGGER_FIRED || o == TRIGGER_DRY_RUN) && i < n; i++)
		h->fired_ns[h->n_fired++ % h->cap] = at_ns;
}

uint64_t limits_tell(struct trigger_history *h, char *ret, size_t len)
{
	uint64_t last = 0;
	size_t at = 0;

	ret[0] = '\0';
	for (int o = TRIGGER_IN_COOLDOWN; o < TRIGGER_OUTCOMES; o++) {
		uint64_t n = h->count[o] - h->told[o];

		if (!n)
			continue;
		if (at < len)
			at += (size_t)snprintf(ret + at, len - at, "%s%llu %s", last ? ", " : "", (unsigned long long)n,
					       trigger_outcome_name(o));
		last = SB_MAX(last, h->last_ns[o]);
		h->told[o] = h->count[o];
	}
	return last;
}

uint64_t limits_day(const struct trigger_history *h, enum trigger_outcome o, uint64_t now_ns)
{
	uint64_t part = now_ns / TRIGGER_PART_NS, sum = 0;

	for (uint64_t i = 0; i < TRIGGER_PARTS && i <= h->newest_part; i++) {
		if (h->newest_part - i + TRIGGER_PARTS > part)
			sum += h->part[(h->newest_part - i) % TRIGGER_PARTS][o];
	}
	return sum;
}
