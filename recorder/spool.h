/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directory of bundles: names, atomic publishing, the size cap. Called by the storing
 * processes only, never by the agent's loop (spool_prepare() at start aside).
 */
#ifndef SB_RECORDER_SPOOL_H
#define SB_RECORDER_SPOOL_H

#include "format/base.h"

#define SPOOL_SUFFIX ".stall.pb.zst"
#define SPOOL_NAME_MAX 160

struct spool {
	char dir[256];	    /* where bundles belong */
	char fallback[256]; /* where they go when that fails; "" none */
	uint64_t max_use_bytes; /* 0: no cap */
};

/* Creates the directories and removes stale temporaries. 0, or a negative errno of the
 * first directory when neither can be written. */
int spool_prepare(const struct spool *s);

/* HOST-20261120T233350.042Z-TRIGGER.stall.pb.zst in [A-Za-z0-9._-]; when_ms since 1970, UTC. */
void spool_name(char ret[SPOOL_NAME_MAX], const char *host, uint64_t when_ms, const char *trigger);

/* A name whose time is further ahead than this comes from before the clock was set back. */
#define SPOOL_AHEAD_MS 60000

/* The newest time in the names of the bundles there are, at most `limit_ms`; 0: none. */
uint64_t spool_newest(const struct spool *s, uint64_t limit_ms);

/* Writes data as dir/name by a temporary file, fsync, rename and fsync of the directory.
 * 0 or a negative errno; nothing is left behind on failure. */
int spool_publish(const char *dir, const char *name, const void *data, size_t len);
void spool_remove(const char *dir, const char *name);
/* Appends to a published file and makes that durable. The file must be expect_len long. */
int spool_append(const char *dir, const char *name, uint64_t expect_len, const void *data,
		 size_t len);

/* Deletes bundles, oldest first, until both directories together use at most
 * max_use_bytes. Never the newest one nor `keep`. Returns how many were deleted. */
int spool_vacuum(const struct spool *s, const char *keep);

#endif
