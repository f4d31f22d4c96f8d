/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tables of all files in one arena with a fixed budget, one table per build-id (a file without
 * one: per device, inode, time and size). What has not been used for longest goes when room is
 * needed, and is counted.
 *
 * Reading a file may take long and happens elsewhere: unwind_file_load() needs no cache and can
 * run in another process. Everything else here neither blocks nor allocates after
 * unwind_cache_new(), but for commit() of the arena. One thread.
 *
 * A build-id is a claim of the file: a file whose rows are not those of the table of its build-id gets one of its own
 * (unwind_cache_share()), whichever was read first. The kernel does not tell files of the same build-id and path in two roots
 * from each other: they share what was read first. Wrong frames, no more, because walkers trust no table.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef SB_UNWIND_CACHE_H
#define SB_UNWIND_CACHE_H

#include "unwind/table.h"

struct stat;

struct unwind_key {
	uint8_t len;
	bool build_id; /* else the parts of struct stat */
	uint8_t id[UNWIND_ID_BYTES];
};

/* Ids shorter than 8 bytes are no ids: false. */
bool unwind_key_build_id(const void *id, size_t len, struct unwind_key *ret);
void unwind_key_file(const struct stat *st, struct unwind_key *ret);

/*
 * Reads the ELF file open at fd (not closed) and builds its rows; n_rows is 0 when it has none.
 * expected: the build-id that the mapping had, or NULL; -ESTALE when the file has another one, or
 * changes while it is read. Errors of unwind_image_read() and -ENOMEM besides. ret_own (may be NULL): the key that it
 * would have without a build-id.
 */
int unwind_file_load(int fd, const struct unwind_key *expected, const struct unwind_limits *limits,
		     struct cfi_counts *counts, struct unwind_key *ret_key, struct unwind_key *ret_own,
		     struct unwind_rows *ret);

/* Memory that walkers read: heap, or the mapped arrays of a BPF object. Tables that an earlier
 * process has left there are retracted. */
struct unwind_arena {
	uint64_t *slots;
	uint32_t n_slots; /* <= SB_UNWIND_SLOTS_MAX */
	struct sb_unwind_table *tables;
	uint32_t n_tables;
	/* Makes sure that slots [first, first + n) are there; 0 or a negative errno. NULL: all are. */
	int (*commit)(void *ctx, uint32_t first, uint32_t n);
	void *ctx;
};

/* What a mapping keeps of a table. table: SB_UNWIND_NO_TABLE for a file without rows. */
struct unwind_ref {
	uint32_t table, generation;
};

struct unwind_cache_stats {
	uint32_t files;	 /* known, with or without rows */
	uint32_t tables; /* of these, with rows */
	uint64_t bytes, max_bytes;
	uint64_t evicted; /* tables that went to make room */
	uint64_t refused; /* larger than the whole budget, or no memory for it */
};

struct unwind_cache;
int unwind_cache_new(const struct unwind_arena *arena, struct unwind_cache **ret);
void unwind_cache_free(struct unwind_cache *cache);
static inline void unwind_cache_freep(struct unwind_cache **cache)
{
	unwind_cache_free(*cache);
}

/* A file that is known, and marks it as used. -ENOENT: not known, or evicted. */
int unwind_cache_find(struct unwind_cache *cache, const struct unwind_key *key,
		      struct unwind_ref *ret);

/* Copies rows into the arena; rows of a key that is known take the place of the old ones. Also
 * remembers files without rows. -ENOSPC: larger than the arena, and counted;
 * so are errors of commit(), after which the key is not known. */
int unwind_cache_put(struct unwind_cache *cache, const struct unwind_key *key,
		     const struct unwind_rows *rows, struct unwind_ref *ret);

/* The table of a file that has been read: that of its key where it has the same rows or there is none yet, else one of its
 * own. Errors of unwind_cache_put(). */
int unwind_cache_share(struct unwind_cache *cache, const struct unwind_key *key, const struct unwind_key *own,
		       const struct unwind_rows *rows, struct unwind_ref *ret);

/* Takes over which tables the walkers have used. Call it now and then; the order of eviction is
 * as fine as these calls are frequent. */
void unwind_cache_tick(struct unwind_cache *cache);

struct unwind_cache_stats unwind_cache_stats(const struct unwind_cache *cache);

#endif
