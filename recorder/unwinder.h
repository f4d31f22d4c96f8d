/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process that keeps what walks over user stacks need: who has what mapped (perf's sideband,
 * and a scan of /proc for those that were there before), and the tables of these files. It may wait
 * for a disk or a process that is stuck; nobody waits for it.
 */
#ifndef SB_RECORDER_UNWINDER_H
#define SB_RECORDER_UNWINDER_H

#include "recorder/probes.h"

/* Shared with the agent; each number stands for itself. */
struct unwinder_stats {
	uint64_t processes, mappings, files; /* known now */
	uint64_t not_kept;    /* processes, mappings and files that there was no room for */
	uint64_t tables, table_bytes, table_max_bytes;
	uint64_t room_bytes;  /* kernel memory that is there for tables */
	uint64_t evicted;     /* tables that went to make room */
	uint64_t refused;     /* larger than all room, or no memory for them */
	uint64_t unreadable;  /* files without a table because they could not be read */
	uint64_t lost;	      /* records of the sideband */
	uint64_t scanned, scan_failed; /* processes; failed: no answer in time */
	uint64_t rescans;     /* of all processes, after a loss */
	uint64_t stuck;	      /* readers of files given up */
	uint64_t hanging;     /* those that hang on a file now; READERS: no other file is read */
	uint64_t restarts;    /* of the process itself */
	uint64_t scanning;    /* 1: a scan of all processes is under way */
	uint64_t loading;     /* files that wait to be read */
	uint64_t cpu_ns;
	uint64_t build_ids;   /* 1: the kernel tells them */
	uint64_t ksyms;	      /* kernel code that went and told its name */
	uint64_t past, forgotten; /* programs that have ended and are known; that are not any more */
	uint64_t waiting;     /* 1: there is none; the next one begins some time after the last one's end */
	int64_t error;	      /* negative errno: why the last one could not begin, with no sideband and no tables */
};

struct unwinder {
	struct unwinder_stats *stats; /* NULL: not asked for */
	int pid;
	int ask[2]; /* [0] for known_ask(), [1] its own; -1: none */
	uint64_t begun_ns, again_ns, wait_ns; /* when the last one began; when another one will, after which wait */
};

enum unwinder_news { UNWINDER_SAME, UNWINDER_ENDED, UNWINDER_BEGINS };

/* Forks it, where p->cfg asks for walks by tables; else nothing happens. 0 or a negative errno. */
int unwinder_start(const struct probes *p, struct unwinder *ret);
/* Where it has ended another one begins, at once if it had worked for a while, else after a wait that grows from one time
 * to the next. Without blocking. */
enum unwinder_news unwinder_check(const struct probes *p, struct unwinder *u);
void unwinder_stop(struct unwinder *u);

#endif
