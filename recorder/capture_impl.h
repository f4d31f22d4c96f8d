/* SPDX-License-Identifier: BSD-2-Clause */
/* The process of one capture; internal to recorder/capture*.c. */
#ifndef SB_RECORDER_CAPTURE_IMPL_H
#define SB_RECORDER_CAPTURE_IMPL_H

#include <pthread.h>

#include "recorder/capture.h"
#include "recorder/freeze.h"

struct membuf {
	char *data;
	size_t len, cap;
};

/* What the thread does that alone touches the spool. */
enum spool_work { SPOOL_IDLE, SPOOL_PRE, SPOOL_REST, SPOOL_WHOLE };

struct spooler {
	pthread_mutex_t lock; /* never held while writing */
	pthread_cond_t changed;
	enum spool_work wanted;
	struct membuf whole; /* for SPOOL_WHOLE */
	bool done;
	int result;
	bool given_up; /* the bundle is in the fallback: what comes to the spool after all is removed */
	pid_t *stuck_slot;
};

struct freezer {
	const struct capture_config *c;
	int fd;
	struct freeze f;
	struct membuf pre, out; /* before the trigger; what follows */
	struct capture_order order; /* the FREEZE one */
	uint64_t pre_events;
	struct spooler spooler;
	/* The thread that stores the first part while the main one goes on: a byte starts it, a result ends it. */
	int store_pre[2], pre_done[2];
	uint64_t pre_durable_ns;
	uint64_t counted_ns; /* of CPU time */
};

/* Appends; ctx: a struct membuf. 0 or -ENOMEM. */
int membuf_write(void *ctx, const void *buf, size_t len);
uint64_t capture_events(const struct freezer *z);
void capture_report(const struct freezer *z, enum capture_report_type type, uint64_t value, int error,
		    uint64_t events);
/* That the bundle is in a directory. */
void capture_report_path(const struct freezer *z, enum capture_report_type type, const char *dir, uint64_t bytes,
			 uint32_t deleted, uint64_t events);
void sleep_until(uint64_t ns);

int capture_write_header(struct freezer *z);

/* Starts the threads that store. 0 or a negative errno. */
int store_init(struct freezer *z);
/* z->pre is complete and is not touched again. */
void store_first(struct freezer *z);
/* z->out, then names if wanted; reports how that ends. */
void store_rest(struct freezer *z, bool names);
/* A copy that the spool gets after all is removed before this process ends. */
void store_done(struct freezer *z);
/* CPU time since the last call, and bytes that were written. */
void count_work(struct freezer *z, uint64_t bytes);

/* The whole life of the process; fd: orders in, reports out. Its exit status. */
int capture_main(const struct capture_config *c, int fd);

#endif
