/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading the configuration again in a process of its own: the agent's loop touches no disk, and one that has
 * stopped must not stop it. What that process has read comes back in memory that both share.
 */
#ifndef SB_RECORDER_RELOAD_H
#define SB_RECORDER_RELOAD_H

#include "recorder/options.h"

/* Longer than a slow disk takes, shorter than people wait for an answer. */
#define RELOAD_TIMEOUT_NS (10 * NSEC_PER_SEC)

struct reload_answer {
	struct config config;
	struct config_errors errors;
	bool whole; /* all was read; there may be errors */
};

struct reload {
	int fd;	   /* readable when the process has ended; -1: none is at it */
	pid_t pid; /* 0: none; one that had to be killed may take long to end */
	uint64_t deadline_ns;
	struct reload_answer *answer; /* of the last one; NULL: none */
	bool read; /* the answer is whole, and waits to be applied */
};

/* What became of it, for status. */
struct reload_view {
	uint64_t reloads, failures;
	bool failed;	    /* the last one */
	uint64_t last_ms;   /* since 1970, of the last one; 0: none yet */
	char error[512];    /* of the last one: the first error */
	size_t n_errors;
	char restart[512];  /* keys that have changed and need a restart, with ", " between */
};

/* 0, -EBUSY: the last process has not ended, or a negative errno. But for -EBUSY the last answer is forgotten. */
int reload_start(struct reload *r, const struct options *o);
/* Without waiting: -EAGAIN: not yet; 0: r->answer is whole (r->read); -ETIMEDOUT: it was killed; -EPIPE: it died. */
int reload_poll(struct reload *r, uint64_t now_ns);
/* Is there no process left? */
bool reload_reap(struct reload *r);
void reload_forget_answer(struct reload *r);

#endif
