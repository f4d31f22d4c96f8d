/* SPDX-License-Identifier: BSD-2-Clause */
/* Who has mapped what, internal to recorder/mappings*.c: processes (mappings.c), sets of mappings
 * (mappings_sets.c), files (mappings_files.c). */
#ifndef SB_RECORDER_MAPPINGS_IMPL_H
#define SB_RECORDER_MAPPINGS_IMPL_H

#include "recorder/mappings.h"

#define NONE UINT32_MAX
#define PROCESSES SB_UNWIND_PROCESSES
#define UNIT 8u /* mappings; a range is 2^class of these */
#define CLASSES 15u
_Static_assert(UNIT << (CLASSES - 1) == SB_UNWIND_MAPPINGS, "the largest range is everything");

struct set {
	uint32_t refs, n, cap;
	uint32_t first, class; /* of the range it is published in; NONE: not */
	struct mapped_vma vma[];
};

struct process {
	uint32_t pid; /* 0: free */
	uint32_t next;
	uint32_t shown; /* index in mappings.shown; NONE: not published */
	bool dirty;
	bool threads; /* it may have others beside the first one */
	uint64_t since_ns, changed_ns, scanned_ns, exited_ns;
	uint64_t alive_ns; /* seen there after exited_ns */
	struct set *set;
};

struct limbo {
	uint64_t since_ns;
	uint32_t first, class;
};

struct mappings {
	struct mappings_memory memory;
	struct process process[PROCESSES];
	uint32_t bucket[PROCESSES];
	uint32_t free_process, n_process;
	struct mapped_file *file;
	uint32_t n_file, file_bucket[MAPPINGS_FILES];
	uint32_t free_file, n_free_file; /* of those that were forgotten */
	bool file_used[MAPPINGS_FILES];
	uint64_t full_ns; /* since when nearly all of them are in use; 0: they are not */
	/* Free ranges of memory.maps: by class, linked by unit. */
	uint32_t free_range[CLASSES], link[SB_UNWIND_MAPPINGS / UNIT];
	struct limbo *limbo;
	size_t n_limbo, max_limbo;
	uint32_t n_published;
	uint64_t evicted;
	uint64_t looked_ns; /* for processes that are gone */
	/* Published ones and their entries in memory.procs. */
	struct shown {
		uint32_t process, entry;
	} shown[PROCESSES];
	uint32_t n_shown;
	uint32_t dirty[PROCESSES], n_dirty; /* may name one twice; more than fit: look at all */
	struct images *past;
};

/* ---- mappings_files.c ---- */
struct unwind_ref mappings_ref_of(const struct mappings *m, uint32_t file);

/* ---- mappings_sets.c ---- */
/* A range of 2^class units. False: there is none. */
bool mappings_take_range(struct mappings *m, uint32_t class, uint32_t *ret);
/* Ranges that no walk can be in any more are free. */
void mappings_end_limbo(struct mappings *m, uint64_t now);
/* One reference less; NULL is fine. */
void mappings_set_put(struct mappings *m, struct set *s);
/* What the process has mapped has changed: to be published. */
void mappings_mark_dirty(struct mappings *m, struct process *p);
/* Over what is mapped there. */
void mappings_set_add(struct mappings *m, struct process *p, const struct mapped_vma *v);

#endif
