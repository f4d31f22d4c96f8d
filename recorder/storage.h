/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What became of bundles on their way to a directory, and what the directories hold: counted since the
 * agent's start in memory that the agent and all processes of captures share. Written by any of them, one
 * atomic operation a field; the agent only reads.
 */
#ifndef SB_RECORDER_STORAGE_H
#define SB_RECORDER_STORAGE_H

#include <sys/types.h>

#include "recorder/spool.h"

/* Processes that may stand in a directory's file system at a time. */
#define STORAGE_STUCK 4
/* That may write to a directory at a time: those that the agent knows (pool.h), those that stand there, and some more. */
#define STORAGE_CLAIMS 32

/* Why a bundle was deleted. */
enum storage_reason { STORAGE_MAX_USE, STORAGE_KEEP_FREE, STORAGE_MAX_AGE, STORAGE_UPLOADED, STORAGE_REASONS };

struct storage {
	struct spool_limits limits; /* those in force; the agent may change them at any time */
	struct storage_dir {
		uint64_t stored, stored_bytes; /* bundles that became durable here */
		uint64_t failed;   /* attempts that ended with an error */
		uint64_t timeouts; /* attempts that did not end in time */
		int32_t error;	   /* of the last attempt, negative; 0: it went well */
		uint64_t tried_ns; /* when that was (CLOCK_MONOTONIC); 0: never */
		uint64_t bundles, free_bytes; /* as of the last look */
		/*
		 * What bundles take is seen_bytes + written_bytes. A look sets seen_bytes to what it saw less what
		 * was written before it began, so that nothing written since is forgotten; what it saw of that
		 * counts twice until the next look.
		 */
		uint64_t seen_bytes, written_bytes;
		struct storage_claim {
			pid_t pid; /* 0: free */
			uint64_t bytes;
		} claim[STORAGE_CLAIMS]; /* that are being written; see retention_claim() */
		pid_t stuck[STORAGE_STUCK]; /* processes that have gone on without it while it keeps a thread of theirs */
		/* The keeper's; see quarantine.h. */
		uint64_t checked_s; /* whatever changed before (CLOCK_REALTIME) has been looked at */
		char suspect[NAME_MAX + 1]; /* is being looked at; whoever did so has died if it is still here */
	} dir[SPOOL_DIRS];
	uint64_t deleted[STORAGE_REASONS], deleted_bytes;
	uint64_t swept;	      /* temporaries of writers that were killed */
	uint64_t quarantined; /* files that were no bundles, and are in quarantine/ */
	uint64_t quarantine_deleted; /* of those, to make room for others */
	uint64_t retries;     /* attempts to store what was held in memory */
	uint64_t last_bytes;  /* size of the last bundle */
	/* The keeper's; see keeper.h. */
	uint64_t kept_ns; /* CLOCK_MONOTONIC when one was done; 0: never */
	uint32_t keep_again; /* one is running; when it is done there is more to do */
};

#define storage_add(field, n) __atomic_fetch_add(&(field), (n), __ATOMIC_RELAXED)
#define storage_set(field, v) __atomic_store_n(&(field), (v), __ATOMIC_RELAXED)
#define storage_get(field)    __atomic_load_n(&(field), __ATOMIC_RELAXED)

#endif
