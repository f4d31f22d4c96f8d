/* SPDX-License-Identifier: BSD-2-Clause */
/* The process that keeps the tables for user stacks, internal to recorder/unwinder*.c: one thread
 * that keeps them, one that scans /proc, readers of files, queues between them. */
#ifndef SB_RECORDER_UNWINDER_IMPL_H
#define SB_RECORDER_UNWINDER_IMPL_H

#include <pthread.h>

#include "recorder/known.h"
#include "recorder/mappings.h"
#include "recorder/readers.h"
#include "recorder/sideband.h"
#include "recorder/unwinder.h"

/* How late a new process or library may be known: its stacks are walked by frame pointers before. */
#define ROUND_MS 50
#define SCAN_TIMEOUT_MS 200
#define QUEUE 4096u
#define KSYMS 1024u /* BPF programs that went; older ones are forgotten */

struct queue {
	void *item[QUEUE];
	uint32_t head, tail;
	pthread_mutex_t lock;
	pthread_cond_t filled;
};

struct keeper {
	const struct probes *probes;
	struct unwinder_stats *stats;
	struct sb_unwind_wanted *wanted;
	struct mappings *mappings;
	struct sideband *sideband;
	struct unwind_cache *cache;
	struct queue to_load, loaded, to_scan, scanned;
	struct readers readers;
	uint32_t vdso; /* file */
	uint64_t *slots;
	bool piece[SB_UNWIND_PIECES]; /* of slots, that are there */
	uint64_t now_ns; /* of this round */
	uint64_t lost_seen, rescan_ns, second_ns;
	uint64_t cut; /* mappings that a scan had no room for */
	bool scanning;
	int ask; /* where the storing processes ask */
	int found; /* an eventfd: a thread has a result */
	struct known_ksym ksym[KSYMS];
	uint32_t n_ksyms; /* ever; the newest KSYMS are there */
};

/* ---- unwinder_queue.c ---- */
void unwinder_queue_init(struct queue *q);
/* False: it is full; the item is still the caller's. */
bool unwinder_queue_put(struct queue *q, void *item);
/* NULL: it is empty, and nobody waits. */
void *unwinder_queue_take(struct queue *q, bool wait);
uint32_t unwinder_queue_length(struct queue *q);

/* ---- unwinder_files.c ---- */
/* For the first thread, which may be waiting for anything to happen. */
void unwinder_say_found(const struct keeper *k);
/* Of a reader; ctx: the keeper. */
void *unwinder_take_job(void *ctx);
void unwinder_do_job(void *ctx, void *job);
/* A file that somebody has mapped now: known already, or to be read. */
void unwinder_want_file(struct keeper *k, uint32_t file, uint32_t pid, uint64_t start, uint64_t len,
			uint64_t now);
void unwinder_take_loaded(struct keeper *k);
void unwinder_load_vdso(struct keeper *k);
/* What was evicted and is walked through again. */
void unwinder_take_wanted(struct keeper *k, uint64_t now);

/* ---- unwinder_scan.c ---- */
/* For sideband_read(); ctx: the keeper. */
void unwinder_take_event(const struct sideband_event *e, void *ctx);
/* The thread that scans; arg: the keeper. */
void *unwinder_scanner(void *arg);
/* pid: 0: everybody. tries: how often it was scanned before. */
void unwinder_order_scan(struct keeper *k, uint32_t pid, uint32_t tries);
void unwinder_take_scanned(struct keeper *k);
/* Scans everybody, where news was lost. */
void unwinder_repair(struct keeper *k, uint64_t now);

#endif
