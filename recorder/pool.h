/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processes of captures that the agent knows: some that wait for the next trigger, the one of
 * the capture under way, and those that still store what was captured.
 */
#ifndef SB_RECORDER_POOL_H
#define SB_RECORDER_POOL_H

#include "recorder/capture.h"

#define POOL_READY 2  /* that wait */
#define POOL_SLOTS 16 /* processes at a time */
#define POOL_TRIES 3  /* a capture is begun again: those that wait may have been killed together */
#define POOL_HELD 4   /* bundles that no directory takes, in memory at a time */
#define POOL_NAMING 2 /* that look up names at a time: more would pile up memory on a host without CPU */

enum pool_use { POOL_FREE, POOL_WAITING, POOL_CAPTURING, POOL_STORING };

struct pool_slot {
	struct capture_process p;
	enum pool_use use;
	uint32_t id; /* of the capture */
	struct capture_cause cause;
	uint64_t held_ns; /* since when no directory takes its bundle; 0: it is not held */
	bool names;
	bool told; /* how it ended */
	char file[BUNDLE_FILE_MAX];
};

struct pool {
	const struct capture_config *c;
	const int *control_fd; /* the agent's socket: no process that outlives it may answer in its name */
	struct capture_process starter;
	struct pool_slot slot[POOL_SLOTS];
	unsigned int asked; /* processes that the starter owes */
	struct capture_order order; /* of the last capture */
	bool due;                   /* it goes to the next process */
	unsigned int tries;         /* that are left if the process of the capture ends early */
};

/* Starts the starter and waits for the first process. c stays the caller's. 0 or a negative errno. */
int pool_start(struct pool *p, const struct capture_config *c, const int *control_fd);
/* To be called every second or two: whatever has ended is replaced, but not in a circle. 1: another starter
 * has begun, 0, or a negative errno: none could be forked. Processes of an earlier one go on. */
int pool_fill(struct pool *p);
/* Ends the waiting ones, and lets the capture under way end as if the agent had died: its banks are
 * read on return. */
void pool_stop(struct pool *p);

/* FREEZE: to one that waits, or to the next one that comes. POST: to the one of that capture. */
int pool_order(struct pool *p, struct capture_order *o);
/* The process of the capture has ended with no bank read: another one begins it again, the later
 * stackshot is the price. false: not once more. */
bool pool_again(struct pool *p);
/* The capture that no process has begun yet never will be. */
void pool_give_up(struct pool *p);
/* The starter's descriptor is readable. The slot that was filled, -EAGAIN: none, -EPIPE: the starter has
 * ended. */
int pool_take(struct pool *p);
/* How many bundles are held; *ret_oldest is that of the first capture, NULL: none. */
unsigned int pool_held(struct pool *p, struct pool_slot **ret_oldest);
/* The one of the capture under way; NULL: none. */
struct pool_slot *pool_capturing(struct pool *p);
/* Its banks are read: it stores, another one gets ready. */
void pool_captured(struct pool *p, struct pool_slot *s);
/* It has ended, or is to end. */
void pool_drop(struct pool_slot *s);

#endif
