/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directories of bundles: names, atomic publishing. Called by the processes of captures and the keeper
 * (keeper.h) only, never by the agent's loop. What is to stay is retention.h's.
 */
#ifndef SB_RECORDER_SPOOL_H
#define SB_RECORDER_SPOOL_H

#include <limits.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "format/file_name.h"

/* A file that is being written. */
#define SPOOL_TMP_PREFIX ".tmp-"

enum spool_which { SPOOL_FIRST, SPOOL_FALLBACK, SPOOL_DIRS };

/* 0: no limit. */
struct spool_limits {
	uint64_t max_use_bytes;	 /* of all bundles of both directories together */
	uint64_t keep_free_bytes; /* of each directory's file system, at most half of it */
	uint64_t max_age_ns;	 /* since a bundle was written */
	uint64_t delete_after_ns; /* since a bundle was uploaded */
	bool mark_uploads; /* somebody delivers bundles or their profiles, and wants a place for marks (format/uploaded.h) */
	bool wait_upload; /* what is not uploaded is not deleted */
};

struct spool {
	char dir[256];	    /* where bundles belong */
	char fallback[256]; /* where they go when that fails; "" none */
	char group[64];	    /* of the bundles, if there is such a group; "" that of the process */
	struct spool_limits limits; /* at start */
};

static inline const char *spool_dir(const struct spool *s, enum spool_which which)
{
	return which == SPOOL_FIRST ? s->dir : s->fallback;
}

/* -1: none of that name. Asks the name service, which may take its time: at start only. */
gid_t spool_gid(const struct spool *s);

/* As open(): "" is not there. The caller closes it. */
int spool_open_dir(const char *dir);

/* Creates a directory (0750, setgid and of the group if that is not -1), tries it and removes stale
 * temporaries. 0 or a negative errno. */
int spool_prepare(const char *dir, gid_t gid);

/* Removes what killed writers have left and nobody has touched for so long. Their number. */
unsigned int spool_sweep(const char *dir, unsigned int min_age_s);
unsigned int spool_sweep_in(int dirfd, unsigned int min_age_s);

/*
 * HOST-20261120T233350Z-TRIGGER.stall.pb.zst in [A-Za-z0-9._-]; times in ms since 1970, UTC. In the second of
 * last_ms, the time of the bundle before, the milliseconds follow: ...-TRIGGER_042.stall.pb.zst.
 */
void spool_name(char ret[BUNDLE_FILE_MAX], const char *host, uint64_t when_ms, uint64_t last_ms, const char *trigger);

/* A name whose time is further ahead than this comes from before the clock was set back. */
#define SPOOL_AHEAD_MS 60000

/* The newest time in the names of the bundles of a directory, at most `limit_ms`; 0: none. */
uint64_t spool_newest(const char *dir, uint64_t limit_ms);

/*
 * Writes n parts (at most SPOOL_PARTS) as dir/name by a temporary file, fsync, rename and fsync of the
 * directory. A name that is taken gets a suffix (_2, _3 ...); replace: what has it is replaced. 0 or a negative
 * errno; then nothing new is left behind, and what was there is still there.
 */
#define SPOOL_PARTS 3
int spool_publish(const char *dir, gid_t gid, char name[BUNDLE_FILE_MAX], bool replace, const struct iovec *part, size_t n);
/* 0, also when there is none, or a negative errno. */
int spool_remove(const char *dir, const char *name);
/* Appends to a published file and makes that durable. -ESTALE: it is not expect_len long. On failure it
 * is as long as it was, or its next reader sees whole frames up to there. */
int spool_append(const char *dir, const char *name, uint64_t expect_len, const struct iovec *part, size_t n);

#endif
