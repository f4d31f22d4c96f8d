/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads a bundle. Everything in the file is a claim: sizes, counts and ids are
 * checked, memory is bounded, and whatever cannot be used is counted instead
 * of trusted. A truncated or damaged file yields every whole chunk.
 *
 * bundle_open() makes one pass and keeps the tables (strings, stacks, threads,
 * symbols ...) but no event; bundle_each_event() streams the events in a second
 * pass. Pointers into a bundle live until bundle_close().
 */
#ifndef SB_FORMAT_READER_H
#define SB_FORMAT_READER_H

#include <stdio.h>

#include "format/bundle.h"

struct bundle;

/* What is wrong with a file, for people: where, what, what to do. */
struct bundle_error {
	uint64_t offset;   /* in the file */
	char what[160];	   /* "not a zstd frame", ... */
	char hint[160];	   /* may be empty */
};

/* Damage found while reading. A file with damage still opens if it has a header
 * or at least one whole chunk. */
struct bundle_damage {
	uint64_t frames;	  /* whole frames read */
	uint64_t bad_frames;	  /* checksum, size or message refused */
	uint64_t skipped_bytes;	  /* not part of any whole frame */
	uint64_t missing_chunks;  /* holes in the chunk numbers */
	uint64_t bad_references;  /* ids that point nowhere, columns of unequal length */
	bool truncated;		  /* ends in the middle of a frame */
	bool complete;		  /* has a footer */
	uint64_t first_offset;	  /* of the first damage */
	char first_what[160];
};

/* path "-" reads standard input (kept in an unlinked temporary file).
 * Returns 0; -ENOENT ...; -EBADMSG not a bundle (*err filled); -EPROTO newer major
 * version. On success *ret is set. err may be NULL. */
int bundle_open(const char *path, struct bundle **ret, struct bundle_error *err);
/* As bundle_open(), and reads no further than the first whole chunk: 0, can anything be had of it? */
int bundle_probe(const char *path, struct bundle_error *err);
void bundle_close(struct bundle *b);
static inline void bundle_closep(struct bundle **b)
{
	bundle_close(*b);
}

const struct bundle_header *bundle_header(const struct bundle *b); /* NULL when lost */
const struct bundle_footer *bundle_footer(const struct bundle *b); /* NULL when lost */
const struct bundle_damage *bundle_damage(const struct bundle *b);

/* Tables. Ids are 1..count. An id out of range gives a static empty entry, never NULL. */
uint32_t bundle_n_threads(const struct bundle *b);
uint32_t bundle_n_processes(const struct bundle *b);
uint32_t bundle_n_stacks(const struct bundle *b);
uint32_t bundle_n_cgroups(const struct bundle *b);
uint32_t bundle_n_binaries(const struct bundle *b);
const struct bundle_thread *bundle_thread(const struct bundle *b, uint32_t id);
const struct bundle_process *bundle_process(const struct bundle *b, uint32_t id);
const struct bundle_stack *bundle_stack(const struct bundle *b, uint32_t id);
const char *bundle_cgroup_path(const struct bundle *b, uint32_t id);
uint64_t bundle_cgroup_kernel_id(const struct bundle *b, uint32_t id);
const char *bundle_binary_path(const struct bundle *b, uint32_t id);

/* GNU build-id, at most 32 bytes; its length, 0: unknown. */
size_t bundle_binary_build_id(const struct bundle *b, uint32_t id, const uint8_t **ret);
/* The file that a user address lies in, and where. false: in none that is known. */
bool bundle_locate(const struct bundle *b, uint32_t process, uint64_t addr, uint32_t *ret_binary, uint64_t *ret_offset);

/* Name of one frame. Returns NULL when the bundle holds no symbol for it, with
 * *ret_module set to the file or module where that much is known (else NULL) and
 * *ret_offset to the offset in it: of the function where its start is known, else of the address. process 0: a kernel address. */
const char *bundle_symbolize(const struct bundle *b, uint32_t process, uint64_t addr,
			     const char **ret_module, uint64_t *ret_offset);

/* What stands at a user address by its source, innermost first, the function itself last. Returns how many;
 * 0: not known. */
size_t bundle_lines(const struct bundle *b, uint32_t process, uint64_t addr, const struct bundle_line **ret);

/* Of the string table, such as bundle_event.name; "" for 0 and unknown ids. */
const char *bundle_string(const struct bundle *b, uint32_t id);

size_t bundle_losses(const struct bundle *b, const struct bundle_loss **ret);
/* What the counts are since; 0 unknown. */
uint64_t bundle_losses_since_ns(const struct bundle *b);
size_t bundle_marks(const struct bundle *b, const struct bundle_mark **ret);
size_t bundle_series(const struct bundle *b, const struct bundle_series **ret);
const struct bundle_cost *bundle_cost(const struct bundle *b); /* NULL: none */
/* The last stackshot in the file; n 0 when there is none. */
size_t bundle_stackshot(const struct bundle *b, const struct bundle_shot_thread **ret,
			uint64_t *ret_begin_ns, uint64_t *ret_end_ns, uint64_t *ret_seen,
			uint64_t *ret_truncated);

/* Calls fn for every event, file order: per CPU and kind in time order. A non-zero
 * return of fn stops and is returned. */
typedef int (*bundle_event_fn)(const struct bundle_event *e, void *ctx);
int bundle_each_event(struct bundle *b, bundle_event_fn fn, void *ctx);

/* For bundle_writer_resume(): the number of the next chunk, and of strings. */
uint32_t bundle_next_chunk(const struct bundle *b);
uint32_t bundle_n_strings(const struct bundle *b);

/* Totals found while opening. */
uint64_t bundle_n_events(const struct bundle *b, enum bundle_kind kind);
uint64_t bundle_first_ns(const struct bundle *b);
uint64_t bundle_last_ns(const struct bundle *b);

/* Copies every whole frame of in to out (a stdio stream), nothing else; *ret_damage
 * says what was left out. Returns 0, -EBADMSG when there is no whole frame. */
int bundle_recover(const char *in, FILE *out, struct bundle_damage *ret_damage,
		   struct bundle_error *err);

#endif
