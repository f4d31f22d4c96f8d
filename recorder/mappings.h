/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who has which file mapped executable, in memory that walkers of user stacks read
 * (unwind/layout.h, bpf/ring.h). Processes that are forked share the mappings of their parent until
 * one of them changes. All tables have a fixed size; what does not fit is counted, and those
 * processes are walked by frame pointers.
 *
 * Changes are collected and become visible with mappings_publish(), a process at a time. One
 * thread; no function blocks.
 */
#ifndef SB_RECORDER_MAPPINGS_H
#define SB_RECORDER_MAPPINGS_H

#include "bpf/ring.h"
#include "format/base.h"
#include "recorder/images.h"
#include "unwind/cache.h"

#define MAPPINGS_NO_FILE UINT32_MAX /* code that stands in no file */
#define MAPPINGS_FILES 16384u
#define MAPPINGS_PER_PROCESS 4096u

struct mappings_memory {
	struct sb_unwind_map *maps; /* SB_UNWIND_MAPPINGS */
	struct sb_unwind_process *procs; /* SB_UNWIND_PROCESSES */
};

enum mapped_state { MAPPED_NEW, MAPPED_LOADING, MAPPED_READY, MAPPED_FAILED };

struct mapped_file {
	struct unwind_key key;	/* len 0: not known */
	struct unwind_key found; /* in the file itself, where the kernel told none */
	uint64_t dev, ino;	/* where there is no build-id */
	char *path;		/* as the process that was first sees it */
	enum mapped_state state;
	uint64_t tried_ns;
	struct unwind_ref ref;	/* READY */
	uint32_t next;		/* with the same hash */
};

struct mappings_stats {
	uint32_t processes, mappings, files;
	uint64_t evicted; /* processes, mappings and files that there was no room for */
	uint32_t past;	  /* images of processes that have ended or become another program */
	uint64_t forgotten; /* of these, to make room */
};

struct mappings;
int mappings_new(const struct mappings_memory *memory, struct mappings **ret);
void mappings_free(struct mappings *m);

/* The file's number, which stays while a process or an image has it or it is being read; MAPPINGS_NO_FILE: no room. */
uint32_t mappings_file(struct mappings *m, const uint8_t *build_id, size_t build_id_len, uint64_t dev,
		       uint64_t ino, const char *path);
/* NULL: there has been none of that number; its path is NULL when it was forgotten. */
struct mapped_file *mappings_file_at(struct mappings *m, uint32_t file);
/* All mappings of the file get its ref. */
void mappings_file_ready(struct mappings *m, uint32_t file, const struct unwind_ref *ref);

/* Events that are older than the process's last scan are in it already and are passed over. */
void mappings_add(struct mappings *m, uint64_t ts_ns, uint32_t pid, uint64_t start, uint64_t len,
		  uint64_t offset, uint32_t file);
void mappings_exec(struct mappings *m, uint64_t ts_ns, uint32_t pid);
void mappings_fork(struct mappings *m, uint64_t ts_ns, uint32_t pid, uint32_t parent);
/* It has more threads than the first one, which may end before them. */
void mappings_thread(struct mappings *m, uint32_t pid);
void mappings_exit(struct mappings *m, uint64_t ts_ns, uint32_t pid);
/* A scan that began at ts_ns is about to be added, and takes the place of what is known: true. Events
 * since then: false, scan again. */
bool mappings_rescan(struct mappings *m, uint64_t ts_ns, uint32_t pid);

/* What a process has at an address, until the next change; NULL: nothing. */
const struct mapped_vma *mappings_find(const struct mappings *m, uint32_t pid, uint64_t address);

/* All that is known: past images first, in the order in which they ended; until_ns 0: not yet. */
void mappings_each(const struct mappings *m, image_fn fn, void *ctx);

void mappings_publish(struct mappings *m, uint64_t now_ns);
struct mappings_stats mappings_stats(const struct mappings *m);

#endif
