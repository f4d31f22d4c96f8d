/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of the reader, for format/reader*.c alone: an open bundle, the bounded memory that it
 * decodes into, and what the parts of the reader call of each other.
 */
#ifndef SB_FORMAT_READER_IMPL_H
#define SB_FORMAT_READER_IMPL_H

#include <zstd.h>

#include "format/capture.pb-c.h"
#include "format/map64.h"
#include "format/reader.h"

/* The limits of FORMAT.md, section 8. A writer keeps a frame below 256 KiB; a bundle that was packed
 * again may have larger ones. */
#define FRAME_PLAIN_MAX (4u << 20)
#define FRAME_PACKED_MAX (5u << 20)
#define FRAME_PACKED_USUAL (512u << 10)
#define FRAME_BLOCKS_MAX 4096
#define FRAME_CHUNKS_MAX 65536
#define SEARCH_WORK_MAX (1ULL << 30)
/* protobuf-c needs up to 60 times the wire size for hostile messages: bounded per chunk. */
#define CHUNK_DECODE_MAX (64u << 20)
#define BUILD_ID_MAX 32u
#define TABLES_MAX (1ULL << 30)

/* Of a file of that many bytes. */
static inline uint64_t reader_plain_max(uint64_t size)
{
	return (256ULL << 20) + 64 * size;
}

static inline size_t reader_tables_max(uint64_t size)
{
	return size > TABLES_MAX / 256 ? TABLES_MAX : (size_t)SB_MIN((64ULL << 20) + 256 * size, TABLES_MAX);
}

/* A bounded allocator: everything of one chunk, or of the tables. */
struct arena_part {
	struct arena_part *next;
	size_t used, cap;
	char data[] __attribute__((aligned(16)));
};
struct arena {
	struct arena_part *part;
	size_t total, max;
};

/* NULL beyond arena.max. All is freed at once, by arena_reset(). `ctx`: struct arena, as protobuf-c
 * wants it. */
void *arena_alloc(void *ctx, size_t size);
void arena_free_one(void *ctx, void *p);
void arena_reset(struct arena *a);

struct stack_entry {
	uint64_t *addr;
	uint32_t n, process, unwind;
};

struct bundle {
	int fd;
	uint64_t size;
	uint8_t *packed, *plain;
	uint64_t packed_off; /* of packed[0] in the file */
	size_t packed_len;
	const uint8_t *frame; /* the one in hand, in packed, */
	size_t frame_len;     /* and its length */
	ZSTD_DCtx *zstd;
	struct arena chunk, tables;
	ProtobufCAllocator alloc;
	struct bundle_damage damage;
	bool have_header, have_footer, too_new;
	uint32_t next_seq, seen_major;
	struct bundle_header header;
	struct bundle_footer footer;
	char **strings;
	uint32_t n_strings;
	struct bundle_thread *threads;
	uint32_t n_threads;
	struct bundle_process *processes;
	uint32_t n_processes;
	struct stack_entry *stacks;
	uint32_t n_stacks;
	struct {
		uint64_t kernel_id;
		uint32_t path;
	} *cgroups;
	uint32_t n_cgroups;
	struct binary_entry {
		const char *path;
		const uint8_t *build_id;
		size_t build_id_len;
	} *binaries;
	uint32_t n_binaries;
	struct bundle_loss *losses;
	uint64_t losses_since_ns;
	size_t n_losses;
	struct bundle_mark *marks;
	size_t n_marks;
	struct bundle_series *series;
	size_t n_series;
	struct bundle_shot_thread *shot;
	size_t n_shot;
	uint64_t shot_begin_ns, shot_end_ns, shot_seen, shot_truncated;
	bool have_cost;
	struct bundle_cost cost;
	struct map64 symbols; /* (binary, address) -> struct bundle_symbol * */
	struct map64 lines;   /* (binary, address) -> struct line_entry * */
	uint64_t n_events[BUNDLE_KIND_COUNT], first_ns, last_ns;
};

/* reader_frames.c. Callbacks stop the pass by anything but 0, which is then returned. `count`: the
 * pass also fills b->damage. */
typedef int (*frame_fn)(struct bundle *b, const uint8_t *plain, size_t len, uint64_t offset, void *ctx);
typedef int (*chunk_fn)(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx);
int reader_each_frame(struct bundle *b, bool count, frame_fn fn, void *ctx);
int reader_each_chunk(struct bundle *b, bool count, chunk_fn fn, void *ctx);

/* reader_tables.c. Keeps what a chunk holds, events aside. 0, or -EPROTO: of a newer major version. */
int reader_take(struct bundle *b, const Stallbox__V1__Chunk *c);

struct line_entry {
	uint64_t addr;
	uint32_t binary, n;
	struct bundle_line line[];
};

/* reader_ask.c */
uint64_t reader_symbol_key(uint32_t binary, uint64_t addr);

#endif
