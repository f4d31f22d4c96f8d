/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the directories of bundles hold and have left, for metrics and readiness. A thread looks when it is
 * asked to and then sleeps: a directory that does not answer holds up neither, and shows by the age of what
 * is known.
 */
#ifndef SB_GATEWAY_SURVEY_H
#define SB_GATEWAY_SURVEY_H

#include "gateway/captures.h"

#define SURVEY_FRESH_NS (10 * NSEC_PER_SEC)
#define SURVEY_WAIT_NS (500 * NSEC_PER_MSEC)
/* A disk that was asleep takes 10 s; one that takes longer has no room for a bundle in an incident. */
#define SURVEY_HANGS_NS (30 * NSEC_PER_SEC)

struct survey_dir {
	const char *path;
	bool known; /* the file system answered */
	bool read_only; /* for everybody: not only for us, whose view of it may be */
	uint64_t size_bytes, free_bytes; /* of the file system, as far as ordinary users may use it */
	uint64_t free_inodes;
	bool no_inodes; /* there is such a limit, and it is reached */
};

struct survey_result {
	uint64_t looked_ns;   /* when it was done, CLOCK_MONOTONIC; 0: never */
	uint64_t realtime_ms; /* likewise */
	uint64_t wanted_ns;   /* since when a look has been asked for that is not done; 0: none is */
	int error;	      /* of a directory that cannot be read */
	uint64_t captures, bytes, odd;
	int64_t newest_s; /* since 1970: last change of the newest bundle; 0: there is none */
	struct survey_dir dir[CAPTURES_DIRS];
};

struct survey;

/* c lives for ever. 0 or a negative errno. */
int survey_start(struct captures *c, struct survey **ret);
/* The last result; a fresh one where that can be had within SURVEY_WAIT_NS. */
struct survey_result survey_get(struct survey *s);
/* Whether no bundle can go there; an errno, 0: one may. */
int survey_dir_refuses(const struct survey_dir *d);
/* false: the directories were never looked at, or a look has been under way for SURVEY_HANGS_NS. */
bool survey_answers(const struct survey_result *r, uint64_t now_ns);

#endif
