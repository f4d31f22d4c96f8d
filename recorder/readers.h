/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One thread reads files. When it hangs on one (a dead NFS server, FUSE) it is left there and another one goes on, up to
 * READERS of them; those that come back end and make room for others.
 */
#ifndef SB_RECORDER_READERS_H
#define SB_RECORDER_READERS_H

#include "format/base.h"

#define READERS 4u
#define READER_HANGS_NS (10 * NSEC_PER_SEC)

struct readers {
	/* Set by the owner. take: waits for a job; work: does it, which may take for ever. */
	void *(*take)(void *ctx);
	void (*work)(void *ctx, void *job);
	void *ctx;
	/* Inside. */
	struct reader {
		struct readers *of; /* NULL: never begun */
		uint64_t busy_ns;   /* since when, of work(); 0: not */
		bool given_up, ended;
	} reader[READERS];
	struct reader *current;
};

/* The first one. 0, -EAGAIN. */
int readers_start(struct readers *r);
/* From time to time. Returns how many hang; READERS: nobody reads until one comes back. ret_given_up is increased for each
 * that another one took the place of. */
uint32_t readers_watch(struct readers *r, uint64_t now_ns, uint64_t *ret_given_up);

#endif
