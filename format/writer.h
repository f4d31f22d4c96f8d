/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes a bundle as a stream of zstd frames into a sink. Knows no file: the
 * recorder's sink is memory, a test's may be anything.
 *
 * Tables are interned: the same string, thread, stack or cgroup gets the same
 * id, and what an id means is always written before the first event that uses
 * it, so that every cut prefix of the stream can be read.
 *
 * Functions return 0 or a negative errno unless stated; ids are >= 1, and 0 is
 * returned as an id only for "none" or on failure. The first failure (sink or
 * memory) is kept: bundle_writer_error() gives it and every later call is a
 * no-op that returns it. One writer belongs to one thread.
 */
#ifndef SB_FORMAT_WRITER_H
#define SB_FORMAT_WRITER_H

#include "format/bundle.h"

struct bundle_writer;

/* Takes len bytes, whole zstd frames, in order. Returns 0 or a negative errno. */
typedef int (*bundle_sink_fn)(void *ctx, const void *buf, size_t len);

/* level: zstd level (3 is the recorder's). Allocates everything it can up front. */
int bundle_writer_new(bundle_sink_fn sink, void *ctx, int level, struct bundle_writer **ret);
void bundle_writer_free(struct bundle_writer *w);
static inline void bundle_writer_freep(struct bundle_writer **w)
{
	bundle_writer_free(*w);
}
/* Sends what follows to another sink (used after fork(): the worker appends). */
void bundle_writer_set_sink(struct bundle_writer *w, bundle_sink_fn sink, void *ctx);

/* Goes on where a bundle has ended, to add names: only symbols, lines and a footer may follow. The
 * numbers are the reader's; f: what its footer said. */
void bundle_writer_resume(struct bundle_writer *w, uint32_t next_chunk, uint32_t strings,
			  const struct bundle_footer *f);

int bundle_writer_header(struct bundle_writer *w, const struct bundle_header *h);

uint32_t bundle_writer_string(struct bundle_writer *w, const char *s);
uint32_t bundle_writer_cgroup(struct bundle_writer *w, uint64_t kernel_id, const char *path);
/* Assigns p->id when it is 0 (keyed by pid and start_ns); with an id that exists
 * the entry is written again and replaces the earlier one. */
uint32_t bundle_writer_process(struct bundle_writer *w, const struct bundle_process *p);
uint32_t bundle_writer_thread(struct bundle_writer *w, const struct bundle_thread *t);
/* key: any 64-bit identity of the stack that the caller has (the ring's hash). */
uint32_t bundle_writer_stack(struct bundle_writer *w, uint64_t key, const struct bundle_stack *s);
/* The id of a stack already written, or 0. */
uint32_t bundle_writer_find_stack(const struct bundle_writer *w, uint64_t key);
/* Equal paths and build-ids are one binary; without a build-id each call makes another one. */
uint32_t bundle_writer_binary(struct bundle_writer *w, const char *path, const void *build_id,
			      size_t build_id_len, uint32_t kind);

/* Events of one CPU and kind must come in time order; CPUs and kinds may be mixed. */
int bundle_writer_event(struct bundle_writer *w, const struct bundle_event *e);
int bundle_writer_stackshot(struct bundle_writer *w, uint64_t begin_ns, uint64_t end_ns,
			    const struct bundle_shot_thread *t, size_t n, uint64_t threads_seen,
			    uint64_t truncated);
/* since_ns: when the counting began, 0 unknown. */
int bundle_writer_losses(struct bundle_writer *w, uint64_t since_ns, const struct bundle_loss *l,
			 size_t n);
int bundle_writer_marks(struct bundle_writer *w, const struct bundle_mark *m, size_t n);
int bundle_writer_series(struct bundle_writer *w, const struct bundle_series *s);
/* binary 0: the kernel. source: as FORMAT.md lists them. */
int bundle_writer_symbols(struct bundle_writer *w, uint32_t binary, const char *source,
			  const struct bundle_symbol *s, size_t n);
/* addr: of each row; rows of an address follow each other. */
int bundle_writer_lines(struct bundle_writer *w, uint32_t binary, const uint64_t *addr, const struct bundle_line *s,
			size_t n);
int bundle_writer_cost(struct bundle_writer *w, const struct bundle_cost *c);

/* Writes out everything that is still buffered; the stream is readable up to here. */
int bundle_writer_flush(struct bundle_writer *w);
/* Flushes and writes the footer; chunks, events and first/last event are filled in. */
int bundle_writer_finish(struct bundle_writer *w, const struct bundle_footer *f);

int bundle_writer_error(const struct bundle_writer *w);
uint64_t bundle_writer_events(const struct bundle_writer *w);

#endif
