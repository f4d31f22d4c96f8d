/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting for a bundle to come or to be completed, for a moment, or for a signal to end. */
#ifndef SB_UPLOAD_WATCH_H
#define SB_UPLOAD_WATCH_H

#include <signal.h>

#include "upload/queue.h"

struct watch {
	int inotify_fd, stop_fd;
};

/* Set by SIGTERM and SIGINT once watch_init() has been called. */
extern volatile sig_atomic_t watch_stop;

/* 0 or a negative errno. */
int watch_init(struct watch *w);
void watch_done(struct watch *w);

/* What changes in the queue's directories from now on ends the next watch_wait(). Again after each scan: a directory may
 * have come, or have been replaced. */
void watch_directories(struct watch *w, const struct queue *q);
/* Until then (CLOCK_MONOTONIC), or sooner. */
void watch_wait(struct watch *w, uint64_t until_ns);

#endif
