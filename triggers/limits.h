/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What keeps a trigger from making a bundle although its condition is met, and how often that was
 * so. All of it is bounded: counters by cause, those of the last 24 hours by half hours, and
 * the times of as many bundles as max-per-hour= and max-per-day= look back on.
 *
 * Times are CLOCK_MONOTONIC ns.
 */
#ifndef SB_TRIGGERS_LIMITS_H
#define SB_TRIGGERS_LIMITS_H

#include "format/base.h"

#define TRIGGER_MAX_PER 1000 /* the largest max-per-hour= and max-per-day= */
#define TRIGGER_PART_NS (1800 * NSEC_PER_SEC)
#define TRIGGER_DAY_NS (86400 * NSEC_PER_SEC)
#define TRIGGER_PARTS 49 /* a day, and the half hour that is not over */

/* What became of a condition that was met. */
enum trigger_outcome {
	TRIGGER_FIRED = 0,	   /* a bundle of its own */
	TRIGGER_MERGED = 1,	   /* noted in the bundle under way */
	TRIGGER_IN_COOLDOWN = 2,   /* the recorder's */
	TRIGGER_OWN_COOLDOWN = 3,
	TRIGGER_OVER_HOUR = 4,
	TRIGGER_OVER_DAY = 5,
	TRIGGER_DRY_RUN = 6,	   /* would have made a bundle */
	TRIGGER_OUTCOMES
};

struct trigger_limits {
	uint64_t cooldown_ns;	    /* from a bundle of this trigger to its next one, besides the recorder's */
	unsigned long max_per_hour, max_per_day; /* 0: any number */
	bool dry_run;
};

struct trigger_history {
	uint64_t count[TRIGGER_OUTCOMES], last_ns[TRIGGER_OUTCOMES];
	uint64_t told[TRIGGER_OUTCOMES]; /* of them, what limits_tell() has said */
	uint32_t part[TRIGGER_PARTS][TRIGGER_OUTCOMES];
	uint64_t newest_part;
	uint64_t *fired_ns; /* the last ones; n_fired % cap is the next */
	size_t cap, n_fired;
	uint64_t busy_until_ns; /* dry run: a real one would have kept the recorder busy until then */
};

/* "fired", "merged", ... for machines. */
const char *trigger_outcome_name(enum trigger_outcome o);

/* Room for what the limits look back on. 0 or -ENOMEM; limits_done() frees it. */
int limits_init(const struct trigger_limits *l, struct trigger_history *ret);
void limits_done(struct trigger_history *h);

/* TRIGGER_FIRED: nothing of its own keeps it back. */
enum trigger_outcome limits_judge(const struct trigger_limits *l, const struct trigger_history *h,
				  uint64_t now_ns);
/* Until when something of its own other than a dry run keeps it back; 0: nothing does. */
uint64_t limits_until(const struct trigger_limits *l, const struct trigger_history *h, uint64_t now_ns);
void limits_note(struct trigger_history *h, enum trigger_outcome o, uint64_t n, uint64_t at_ns);
/* "3 max-per-hour, 1 cooldown": how often, and why, it made no bundle and is not part of one, since the last call.
 * Returns when that was the last time; 0: never. */
uint64_t limits_tell(struct trigger_history *h, char *ret, size_t len);
/* In the last 24 hours, to half an hour more. */
uint64_t limits_day(const struct trigger_history *h, enum trigger_outcome o, uint64_t now_ns);

#endif
