/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is still to be delivered: the bundles of the capture directory and its fallback that carry no valid mark
 * (format/uploaded.h). The directories are the queue; this is a view of them that is renewed by queue_scan(), so that
 * nothing depends on this process having lived when a bundle came.
 */
#ifndef SB_UPLOAD_QUEUE_H
#define SB_UPLOAD_QUEUE_H

#include <sys/stat.h>

#include "upload/backoff.h"

#define QUEUE_DIRS 2
#define QUEUE_MAX 4096 /* at a time; what is beyond is counted, and seen once these are gone */
/* A bundle without a footer that has not grown for so long will not be completed: its writer was killed. Names are
 * looked up for 30 s at most. */
#define QUEUE_SETTLED_S 120

struct queue_item {
	char name[256];
	unsigned int dir;
	uint64_t size;
	struct timespec mtime;
	bool looked, whole;   /* was a footer looked for since it changed; and found */
	bool stored, pushed;  /* delivered to the store, to Pyroscope, since it changed */
	bool seen;	      /* by the scan that is under way */
	struct backoff retry;
};

struct queue {
	char dir[QUEUE_DIRS][256]; /* "": none */
	int fd[QUEUE_DIRS];	   /* -1: cannot be read now */
	struct queue_item *item;   /* oldest first, by the time of the last change */
	size_t n, cap;
	/* Of the last scan: */
	uint64_t pending_bytes;
	uint64_t left_out;	   /* pending, beyond QUEUE_MAX */
	uint64_t foreign;	   /* *.stall.pb.zst that are not named like a bundle */
	int error[QUEUE_DIRS];	   /* negative errno; -ENOENT of a directory that is not there */
};

/* fallback may be "". */
void queue_init(struct queue *q, const char *directory, const char *fallback);
void queue_done(struct queue *q);

/* 0 or -ENOMEM. */
int queue_scan(struct queue *q);

/* Of the last scan: why a directory cannot be read, negative. 0: it can, or is a fallback that was never needed. */
int queue_error(const struct queue *q, unsigned int dir);

/* Until when (CLOCK_MONOTONIC ns) nobody is to bother a destination. */
struct queue_gates {
	uint64_t store_ns, pyroscope_ns;
};

/* What was delivered of it was another content, if it has changed since it was looked at. True: it has. */
bool queue_renew(struct queue_item *item, const struct stat *st);

/* One that can be delivered now to a destination that it lacks, or NULL; then *ret_due_ns is when the next can,
 * UINT64_MAX: none. Of those the one that failed least often, then the oldest. One that is not whole waits until it changes
 * or, by realtime_ns, has settled. */
struct queue_item *queue_next(struct queue *q, const struct queue_gates *gates, uint64_t now_ns, uint64_t realtime_ns,
			      uint64_t *ret_due_ns);

/* It has been delivered everywhere. */
void queue_remove(struct queue *q, struct queue_item *item);

#endif
