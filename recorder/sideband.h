/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who maps what, forks, becomes another program and ends, and which BPF programs went, as perf's sideband tells it
 * (include/uapi/linux/perf_event.h): a dummy event per CPU, CLOCK_MONOTONIC, mappings with their
 * build-id from 5.12 on. munmap() is not told.
 *
 * Events come in the order in which they happened, over all CPUs, some milliseconds late. What the
 * kernel could not write is counted. Functions return 0 or a negative errno. One thread.
 */
#ifndef SB_RECORDER_SIDEBAND_H
#define SB_RECORDER_SIDEBAND_H

#include "format/base.h"

enum sideband_type {
	SIDEBAND_MAP,
	SIDEBAND_EXEC,
	SIDEBAND_FORK,
	SIDEBAND_THREAD, /* pid has another thread */
	SIDEBAND_EXIT,	 /* of the first thread; others may go on */
	SIDEBAND_KSYM_GONE,
};

struct sideband_event {
	enum sideband_type type;
	uint64_t ts_ns;
	uint32_t pid, parent; /* processes; parent: FORK only */
	/* MAP: executable mappings only */
	uint64_t start, len, offset; /* KSYM_GONE: kernel code that was taken away, offset 0 */
	uint8_t build_id[20], build_id_len; /* 0: none known */
	uint64_t dev, ino;		    /* 0 where there is a build-id; dev: major << 32 | minor */
	const char *path; /* while the callback runs; KSYM_GONE: its symbol */
};

typedef void (*sideband_fn)(const struct sideband_event *e, void *ctx);

struct sideband;
int sideband_open(uint32_t cpus, struct sideband **ret);
void sideband_close(struct sideband *s);

/* Until a buffer fills up or the time is over: round_ms, but where the last rounds have read nothing, idle_ms or
 * the next record, whichever is first. others (at most SIDEBAND_OTHERS, -1: none) end an idle wait when they are
 * readable. */
#define SIDEBAND_OTHERS 2
void sideband_wait(struct sideband *s, int round_ms, int idle_ms, const int others[SIDEBAND_OTHERS]);
void sideband_read(struct sideband *s, sideband_fn fn, void *ctx);

bool sideband_has_build_ids(const struct sideband *s);
/* Records that the kernel had no room for. */
uint64_t sideband_lost(const struct sideband *s);

#endif
