/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One bundle to where it belongs: an S3-compatible store, a Pyroscope server, or both. Its mark is set once both have
 * it, or Pyroscope has turned it away for good. A process that is killed at any moment delivers it again: the store
 * then answers that it is there, with the same hash.
 */
#ifndef SB_UPLOAD_UPLOAD_H
#define SB_UPLOAD_UPLOAD_H

#include "config/config.h"
#include "upload/backoff.h"
#include "upload/http.h"
#include "upload/queue.h"
#include "upload/s3.h"

/* Since this process began. */
struct upload_counts {
	uint64_t stored, present; /* objects written; found there with the same hash */
	uint64_t renamed;	  /* of the stored ones: another object had the key */
	uint64_t bytes;		  /* of the stored ones */
	uint64_t unfinished;	  /* of both: bundles without a footer */
	uint64_t failed[DELIVERIES];
	uint64_t marks_failed;
	uint64_t pushed, push_turned_away;
	uint64_t push_failed[DELIVERIES];
};

struct upload {
	const struct config_upload *config;
	struct s3 s3;
	struct http http;
	struct queue queue;
	struct backoff store, pyroscope; /* of the destination as a whole */
	struct upload_counts counts;
	uint64_t last_delivered_s, last_failed_s; /* since 1970; 0: not yet */
	char last_error[768];			  /* printable ASCII */
};

/* Tries to deliver: to the destinations that are not waited for. true: it is marked and gone from the queue. */
bool upload_deliver(struct upload *u, struct queue_item *item);

/* Counts a failure, and logs it: not the same one again and again. */
void upload_note_failure(struct upload *u, uint64_t counts[DELIVERIES], enum delivery d, const char *what, const char *where,
			 const char *why);

#endif
