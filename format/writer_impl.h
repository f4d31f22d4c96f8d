/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the writer, for format/writer*.c alone: a bundle that is being written. */
#ifndef SB_FORMAT_WRITER_IMPL_H
#define SB_FORMAT_WRITER_IMPL_H

#include <zstd.h>

#include "format/capture.pb-c.h"
#include "format/columns.h"
#include "format/map64.h"
#include "format/writer.h"

/* Microseconds: nanoseconds of noise would be a third of the file (measured). */
#define TIME_UNIT_NS 1000
/* The widest kind, RECLAIM, has 17 columns of at most 5 bytes and 6 of at most 10: the worst
 * block still fits BUNDLE_CHUNK_MAX. */
#define BLOCK_EVENTS 1400
#define BLOCKS 16
#define PENDING_FRAMES 12000
#define PENDING_ENTRIES 2048
#define PENDING_STRING_BYTES 65536
#define STRING_MAX 4096

#define COLUMN_ID(field, member) C_##field,
enum column { COLUMNS32(COLUMN_ID) C32_COUNT };
enum column64 { COLUMNS64(COLUMN_ID) COLUMNS_TIME(COLUMN_ID) C64_COUNT };
#undef COLUMN_ID

struct block {
	uint32_t cpu;
	enum bundle_kind kind; /* BUNDLE_KIND_NONE: free */
	uint64_t used, base_ns, last_unit;
	size_t n;
	int64_t ts[BLOCK_EVENTS];
	uint32_t c32[C32_COUNT][BLOCK_EVENTS];
	uint64_t c64[C64_COUNT][BLOCK_EVENTS];
	bool any32[C32_COUNT], any64[C64_COUNT];
};

struct bundle_writer {
	bundle_sink_fn sink;
	void *sink_ctx;
	int error;
	ZSTD_CCtx *zstd;
	uint8_t *frame; /* plain bytes of the frame being filled */
	size_t frame_len;
	uint8_t *packed; /* one chunk */
	size_t packed_cap;
	void *out;
	size_t out_cap;
	uint32_t seq, chunks;
	uint64_t events, first_ns, last_ns, tick;

	struct map64 strings, threads, processes, cgroups, stacks, binaries;
	/* Ids handed out so far. */
	uint32_t n_strings, n_threads, n_processes, n_cgroups, n_stacks, n_binaries;

	/* Entries not written yet. */
	ProtobufCBinaryData p_str[PENDING_ENTRIES];
	size_t np_str, p_str_bytes;
	uint32_t p_tid[PENDING_ENTRIES], p_tproc[PENDING_ENTRIES], p_tcomm[PENDING_ENTRIES],
		p_tcg[PENDING_ENTRIES];
	size_t np_thread;
	uint64_t p_cgid[PENDING_ENTRIES];
	uint32_t p_cgpath[PENDING_ENTRIES];
	size_t np_cgroup;
	uint32_t p_slen[PENDING_ENTRIES], p_sproc[PENDING_ENTRIES], p_sunw[PENDING_ENTRIES];
	int64_t p_addr[PENDING_FRAMES];
	size_t np_stack, np_addr;

	struct block block[BLOCKS];
};

#define CHUNK_OF(name, NAME, ptr)                                             \
	{                                                                     \
		.base = PROTOBUF_C_MESSAGE_INIT(&stallbox__v1__chunk__descriptor), \
		.body_case = STALLBOX__V1__CHUNK__BODY_##NAME, .name = (ptr)  \
	}

/* Notes the first error, which every later call returns. */
int writer_fail(struct bundle_writer *w, int r);
/* Appends one chunk as field 1 of Capture. 0, or the writer's error. */
int writer_put(struct bundle_writer *w, Stallbox__V1__Chunk *c);
/* Give out what waits: strings alone; entries of every table; the frame being filled. */
void writer_flush_strings(struct bundle_writer *w);
void writer_flush_tables(struct bundle_writer *w);
int writer_flush_frame(struct bundle_writer *w);

#endif
