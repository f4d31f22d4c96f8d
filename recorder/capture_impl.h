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

/* Before the trigger; what follows; names and footer. */
#define CAPTURE_PARTS SPOOL_PARTS

/* One directory of this bundle, and the thread that alone touches it: its file system may hang. */
struct place {
	struct freezer *z;
	enum spool_which which;
	char file[BUNDLE_FILE_MAX]; /* the bundle's name here */
	/* Under freezer.lock, which is never held while writing. */
	size_t have;	/* parts that are durable here, under that name */
	size_t wanted;	/* that are being made so; 0: what is there is being removed */
	bool busy;
	bool unwanted;	/* the bundle is elsewhere: what comes here after all is removed */
	int result;
	pid_t *stuck_slot;
};

struct freezer {
	const struct capture_config *c;
	struct bundle_kv listed[CAPTURE_MAX_LISTED];
	size_t n_listed;
	int fd;
	struct freeze f;
	struct membuf out; /* the part in the making */
	struct membuf part[CAPTURE_PARTS]; /* those that are complete and do not change any more */
	size_t n_parts;
	struct capture_order order; /* the FREEZE one */
	uint64_t pre_events;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct place place[SPOOL_DIRS];
	/* What starts the thread that stores the first part while the main one goes on, and what it says. */
	bool pre_sealed, pre_done;
	uint64_t pre_durable_ns; /* 0: no directory took it */
	uint64_t counted_ns; /* of CPU time */
};

/* Appends; ctx: a struct membuf. 0 or -ENOMEM. */
int membuf_write(void *ctx, const void *buf, size_t len);
uint64_t capture_events(const struct freezer *z);
void capture_report(const struct freezer *z, enum capture_report_type type, uint64_t value, int error,
		    uint64_t events);
/* That the bundle is in a directory. */
void capture_report_path(const struct freezer *z, enum capture_report_type type, const struct place *p, uint64_t events);
void sleep_until(uint64_t ns);

int capture_write_header(struct freezer *z);

/* An ordinary process from here on: what it does is not urgent any more. */
void become_ordinary(void);
/* What is in z->out is the next part. */
void capture_seal_part(struct freezer *z);
/* Of all parts so far. */
uint64_t capture_bytes(const struct freezer *z);

/* ---- capture_places.c ---- */

/* Starts a thread for each directory. 0 or a negative errno. */
int places_init(struct freezer *z);
/* A thread of the process that is never waited for. 0 or a negative errno. */
int places_thread(void *(*fn)(void *), void *arg);
/* Makes all parts so far durable in one directory, the first that takes them. NULL: none does, or not in time;
 * *ret_error is what the first one said. */
struct place *places_store(struct freezer *z, int *ret_error);
/* Waits until no thread is kept by a file system any more. */
void places_settle(struct freezer *z);

/* ---- capture_store.c ---- */

/* Starts the threads that store. 0 or a negative errno. */
int store_init(struct freezer *z);
/* The first part is sealed. */
void store_first(struct freezer *z);
/* z->out, then names if wanted; reports how that ends. */
void store_rest(struct freezer *z, bool names);
/* A copy that a directory gets after all is removed before this process ends. */
void store_done(struct freezer *z);
/* CPU time since the last call. */
void count_work(struct freezer *z);

/* The whole life of the process; fd: orders in, reports out. Its exit status. */
int capture_main(const struct capture_config *c, int fd);

#endif
