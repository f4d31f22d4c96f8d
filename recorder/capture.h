/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process of a capture.
 *
 * It is forked long before, and waits: on an order it takes the stackshot and encodes the
 * sealed bank into memory, without a disk, a fork or a growing heap. A thread of it stores
 * what was before the trigger, and may hang on a stalled disk without holding anything up.
 * On the second order it encodes the post-trigger window, appends it, and once that is
 * durable adds names and the footer as an ordinary process. What no directory takes it holds in memory and
 * tries again. Then it ends: each capture has a process of its own, and the agent keeps others ready (pool.h).
 *
 * Orders go to it and reports come back over one SEQPACKET socket pair. It finishes what it
 * has if the agent dies.
 */
#ifndef SB_RECORDER_CAPTURE_H
#define SB_RECORDER_CAPTURE_H

#include "recorder/probes.h"
#include "recorder/series.h"
#include "recorder/storage.h"
#include "recorder/unwinder.h"

#define CAPTURE_TEXT 256
#define CAPTURE_MARKS 8

struct capture_mark {
	uint64_t ts_ns;
	char kind[16], text[128];
};

/* What the header says; fixed for a capture. */
struct capture_cause {
	char name[64], kind[16], spec[CAPTURE_TEXT], unit[16], detail[CAPTURE_TEXT];
	uint64_t fired_ns;
	double value, threshold;
	uint32_t target_tid;
};

enum capture_order_type { CAPTURE_FREEZE = 1, CAPTURE_POST = 2, CAPTURE_DROP = 3 /* what is held: others need the memory */ };

struct capture_order {
	uint32_t type, id;
	uint32_t bank; /* the one just sealed */
	uint32_t n_marks;
	uint32_t no_names; /* POST: others are still looking up names */
	uint32_t settings; /* FREEZE: which of capture_work.settings */
	uint64_t sealed_ns;
	uint64_t recorded[SB_KIND_SLOTS]; /* POST: records ever made by kind */
	char file[BUNDLE_FILE_MAX];
	struct capture_cause cause;
	struct capture_mark mark[CAPTURE_MARKS];
	/* POST: the recorder's own cost. */
	struct bundle_cost cost;
	struct bundle_program_cost program[PROBES_MAX_PROGRAMS];
	char program_name[PROBES_MAX_PROGRAMS][16];
};

enum capture_report_type {
	CAPTURE_SHOT = 1,	 /* stackshot taken; value: threads' bytes */
	CAPTURE_BANK_READ = 2,	 /* the bank of the last order may record again */
	CAPTURE_PRE_DURABLE = 3, /* value: bytes on disk */
	CAPTURE_RAW_DURABLE = 4,
	CAPTURE_COMPLETE = 5,
	CAPTURE_FAILED = 6, /* error: negative errno; nothing of this part is on disk, nor will be */
	CAPTURE_PRE_KEPT = 7, /* error: no directory took the part before the trigger; it comes with the rest */
	CAPTURE_HELD = 8, /* error: no directory takes the bundle of value bytes; tried again and again */
};

struct capture_report {
	uint32_t type, id;
	int32_t error;
	uint64_t ns;	  /* CLOCK_MONOTONIC when it happened */
	uint64_t value;
	uint64_t events;
	char path[BUNDLE_FILE_MAX + 256];
};

#define CAPTURE_MAX_LISTED 32

/* What a reload can change, but for storage.limits: the configuration as text, for the header. */
struct capture_settings {
	size_t n_listed;
	char key[CAPTURE_MAX_LISTED][32], value[CAPTURE_MAX_LISTED][128];
};

/* Memory that all processes of captures share: what those that have ended cost, and what storing came to. */
struct capture_work {
	uint64_t cpu_ns, bytes_written;
	uint64_t shared_bytes; /* of memory that all of them have in common */
	struct storage storage;
	struct capture_settings settings[2]; /* one is in force, the other one is written by the next reload */
};

struct capture_config {
	const struct probes *probes;
	const struct series *series; /* NULL: none */
	const struct unwinder_stats *unwinder; /* NULL: none */
	int known_fd; /* for known_ask(); -1: none */
	struct capture_work *work;
	const struct symbols *kernel; /* set by whoever forks the processes; NULL: not to be had */
	struct spool spool; /* its limits: work->storage.limits */
	gid_t gid; /* of the bundles; -1: that of the process */
	bool realtime; /* SCHED_FIFO until the raw bundle is durable */
};

struct capture_process {
	int fd; /* orders out, reports in */
	pid_t pid;
};

/* Forks one. 0 or a negative errno. */
int capture_start(const struct capture_config *c, struct capture_process *ret);
void capture_stop(struct capture_process *p);
int capture_send(const struct capture_process *p, const struct capture_order *o);
/* 1: a report, 0: none waiting, -EPIPE: the process has ended. */
int capture_receive(const struct capture_process *p, struct capture_report *ret);

/*
 * A fork can wait for a lock that others hold which wait for a CPU, so the agent does not fork:
 * the starter does. It and what it forks get none of the n descriptors. c stays the caller's.
 */
int capture_starter(const struct capture_config *c, const int *not_for_it, size_t n,
		    struct capture_process *ret);
/* One more, please. */
int capture_ask(const struct capture_process *starter);
/* The directories are to be put in order (keeper.h). 0 or a negative errno: nobody has heard. */
int capture_keep(const struct capture_process *starter);
/* 1: it is there (not a child of the caller), 0: not yet, -EPIPE: the starter has ended. */
int capture_accept(const struct capture_process *starter, struct capture_process *ret);

#endif
