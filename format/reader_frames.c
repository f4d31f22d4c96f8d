// SPDX-License-Identifier: BSD-2-Clause
/* From the file to its chunks: whole frames found and unpacked, damage stepped over and noted, each
 * chunk decoded into bounded memory. */
#include <errno.h>

#include "format/reader_impl.h"

/* ---- memory -------------------------------------------------------------------------------- */

void *arena_alloc(void *ctx, size_t size)
{
	struct arena *a = ctx;
	struct arena_part *p = a->part;
	void *ret;

	size = (size + 15) & ~(size_t)15;
	if (size > a->max || a->total + size > a->max)
		return NULL;
	if (!p || p->cap - p->used < size) {
		size_t cap = SB_MAX(size, (size_t)256 << 10);

		p = malloc(sizeof(*p) + cap);
		if (!p)
			return NULL;
		*p = (struct arena_part){ .next = a->part, .cap = cap };
		a->part = p;
	}
	ret = p->data + p->used;
	p->used += size;
	a->total += size;
	return ret;
}

void arena_free_one(void *ctx, void *p)
{
	(void)ctx;
	(void)p; /* all at once, by arena_reset() */
}

void arena_reset(struct arena *a)
{
	while (a->part) {
		struct arena_part *next = a->part->next;

		free(a->part);
		a->part = next;
	}
	a->total = 0;
}

/* ---- damage and numbers -------------------------------------------------------------------- */

static void note_damage(struct bundle *b, uint64_t offset, const char *what)
{
	if (b->damage.first_what[0])
		return;
	b->damage.first_offset = offset;
	strncpy(b->damage.first_what, what, sizeof(b->damage.first_what) - 1);
}

static uint64_t get_varint(const uint8_t **p, const uint8_t *end, bool *ok)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64 && *p < end; shift += 7) {
		uint8_t c = *(*p)++;

		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return v;
	}
	*ok = false;
	return 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* At least `want` bytes of the file from off on, or all up to its end. What is in the buffer is read
 * again only when less than that is left of it, and then as much again is read. */
static ssize_t look_at(struct bundle *b, uint64_t off, size_t want, const uint8_t **ret)
{
	uint64_t end = b->packed_off + b->packed_len;

	if (off < b->packed_off || off > end || (end - off < want && end < b->size)) {
		ssize_t n = sb_pread(b->fd, b->packed, (size_t)SB_MIN(b->size - off, (uint64_t)(2 * want)), off);

		b->packed_off = off;
		b->packed_len = n < 0 ? 0 : (size_t)n;
		if (n < 0)
			return n;
	}
	*ret = b->packed + (off - b->packed_off);
	return (ssize_t)(b->packed_off + b->packed_len - off);
}

static uint32_t le(const uint8_t *p, size_t n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

/* The length of the frame at the start of buf by its headers (RFC 8878, 3.1.1). >0; 0: the buffer ends
 * inside it; <0: not a frame that we accept. Adds to *work what it looked at. */
static ssize_t frame_length(const uint8_t *buf, size_t len, uint64_t *work, const char **ret_what)
{
	size_t at;
	int blocks = 0;

	*ret_what = "not a zstd frame";
	if (memcmp(buf, "\x28\xb5\x2f\xfd", SB_MIN(len, (size_t)4)) != 0)
		return -EBADMSG;
	if (len < 6)
		return 0;
	/* Frame_Header_Descriptor: checksum on, no dictionary, reserved bits zero. Without a checksum
	 * a damaged frame could pass for a whole one. */
	*ret_what = buf[4] & 0x04 ? "frame that needs a dictionary or a newer zstd" : "frame without a checksum";
	if ((buf[4] & 0x1c) != 0x04 || buf[4] & 0x03)
		return -EBADMSG;
	*ret_what = "damaged frame";
	/* A single segment has a content size of one byte at least, and no window. */
	at = 5 + (buf[4] & 0x20 ? buf[4] >> 6 == 0 : 1) + (buf[4] >> 6 ? 1u << (buf[4] >> 6) : 0);
	for (bool last = false; !last;) {
		uint32_t head;

		*work += 64;
		if (at + 3 > len)
			break;
		head = le(buf + at, 3);
		last = head & 1;
		/* type 1 repeats one byte, 3 is reserved */
		if (++blocks > FRAME_BLOCKS_MAX || (head >> 1 & 3) == 3)
			return -EBADMSG;
		at += 3 + ((head >> 1 & 3) == 1 ? 1 : head >> 3);
	}
	at += buf[4] & 0x04; /* the checksum */
	if (at > FRAME_PACKED_MAX)
		return -EBADMSG;
	return at <= len ? (ssize_t)at : 0;
}

/* One frame at the start of buf. >0: its packed size, *ret_plain set; 0: the buffer ends
 * inside it; <0: not a frame that we accept. */
static ssize_t decode_frame(struct bundle *b, const uint8_t *buf, size_t len, size_t *ret_plain,
			    uint64_t *work, const char **ret_what)
{
	unsigned long long claim;
	ssize_t packed = frame_length(buf, len, work, ret_what);
	size_t plain;

	if (packed <= 0)
		return packed;
	claim = ZSTD_getFrameContentSize(buf, (size_t)packed);
	if (claim != ZSTD_CONTENTSIZE_UNKNOWN && claim > FRAME_PLAIN_MAX) {
		*ret_what = "frame claims more plain bytes than any bundle has";
		return -EBADMSG;
	}
	plain = ZSTD_decompressDCtx(b->zstd, b->plain, FRAME_PLAIN_MAX, buf, (size_t)packed);
	if (ZSTD_isError(plain)) {
		*work += (uint64_t)packed + SB_MIN(claim, (unsigned long long)FRAME_PLAIN_MAX);
		*ret_what = "frame does not decompress (checksum, size or contents)";
		return -EBADMSG;
	}
	*ret_plain = plain;
	return packed;
}

/* Bytes of a skippable frame at the start of buf with its header; 0: there is none. */
static uint64_t skippable(const uint8_t *buf, size_t len)
{
	return len >= 8 && le(buf, 4) >> 4 == 0x184d2a5 ? 8 + (uint64_t)le(buf + 4, 4) : 0;
}

/* Offset of the next zstd magic after the first byte, or len. */
static size_t next_magic(const uint8_t *buf, size_t len)
{
	for (size_t i = 1; i + 4 <= len; i++) {
		if (buf[i] == 0x28 && buf[i + 1] == 0xb5 && buf[i + 2] == 0x2f && buf[i + 3] == 0xfd)
			return i;
	}
	return len > 3 ? len - 3 : len;
}

struct frame_pass {
	uint64_t off, plain, work;
	bool count, in_damage;
};

/* Nothing that is accepted stands at p->off: goes on to the next place that looks like a frame. */
static void step_over(struct bundle *b, struct frame_pass *p, const uint8_t *buf, size_t n, bool cut,
		      const char *what)
{
	size_t skip = next_magic(buf, n);

	if (p->off + n >= b->size && skip + 3 >= n)
		skip = n;
	if (p->count) {
		if (!p->in_damage)
			b->damage.bad_frames += !cut;
		note_damage(b, p->off, cut ? "the file ends in the middle of a frame" : what);
		b->damage.skipped_bytes += skip;
		b->damage.truncated |= cut && p->off + skip >= b->size;
	}
	p->in_damage = true;
	p->off += skip;
}

/* A limit of work is reached: the rest of the file is left out. */
static void give_up(struct bundle *b, const struct frame_pass *p, const char *what)
{
	if (!p->count)
		return;
	b->damage.bad_frames += !p->in_damage;
	note_damage(b, p->off, what);
	b->damage.skipped_bytes += b->size - p->off;
}

/* Calls fn for every whole frame. count: also fills b->damage. */
int reader_each_frame(struct bundle *b, bool count, frame_fn fn, void *ctx)
{
	struct frame_pass p = { .count = count };

	while (p.off < b->size) {
		const uint8_t *buf = NULL;
		ssize_t n = look_at(b, p.off, FRAME_PACKED_USUAL, &buf), used;
		const char *what = "";
		uint64_t skip;
		size_t plain = 0;
		int r;

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		skip = skippable(buf, (size_t)n);
		if (skip && skip <= b->size - p.off) {
			p.off += skip;
			continue;
		}
		used = decode_frame(b, buf, (size_t)n, &plain, &p.work, &what);
		if (used == 0 && (uint64_t)n < b->size - p.off && n < (ssize_t)FRAME_PACKED_MAX) {
			n = look_at(b, p.off, FRAME_PACKED_MAX, &buf);
			if (n < 0)
				return (int)n;
			used = decode_frame(b, buf, (size_t)n, &plain, &p.work, &what);
		}
		if (used <= 0) {
			step_over(b, &p, buf, (size_t)n, used == 0, what);
			if (p.work > SEARCH_WORK_MAX) {
				give_up(b, &p, "too much that looks like frames and is none: the rest was left out");
				break;
			}
			continue;
		}
		p.in_damage = false;
		p.plain += plain;
		if (p.plain > reader_plain_max(b->size)) {
			give_up(b, &p, "more plain bytes than a file of this size has: the rest was left out");
			break;
		}
		if (count)
			b->damage.frames++;
		b->frame = buf;
		b->frame_len = (size_t)used;
		r = fn(b, b->plain, plain, p.off, ctx);
		if (r)
			return r;
		p.off += (uint64_t)used;
	}
	return 0;
}

/* ---- chunks ------------------------------------------------------------------------------------ */

struct chunk_pass {
	chunk_fn fn;
	void *ctx;
	bool count;
};

/* A frame's plain text: field 1 of Capture, over and over. Other fields are of a newer minor. */
static int split_chunks(struct bundle *b, const uint8_t *p, size_t len, uint64_t offset, void *ctx)
{
	const struct chunk_pass *pass = ctx;
	const uint8_t *end = p + len;

	for (int chunks = 1; p < end; chunks++) {
		bool ok = chunks <= FRAME_CHUNKS_MAX;
		uint64_t tag = get_varint(&p, end, &ok), n = get_varint(&p, end, &ok);
		Stallbox__V1__Chunk *c;
		int r;

		if (!ok || (tag & 7) != 2 || n > (uint64_t)(end - p)) {
			if (pass->count) {
				b->damage.bad_frames++;
				note_damage(b, offset, "frame holds no whole chunks, or too many");
			}
			return 0;
		}
		if (tag >> 3 != 1) {
			p += n;
			continue;
		}
		c = stallbox__v1__chunk__unpack(&b->alloc, n, p);
		p += n;
		if (!c) {
			if (pass->count) {
				b->damage.bad_frames++;
				note_damage(b, offset, "chunk is no message of this format, or too large");
			}
			arena_reset(&b->chunk);
			continue;
		}
		r = pass->fn(b, c, pass->ctx);
		arena_reset(&b->chunk);
		if (r)
			return r;
	}
	return 0;
}

int reader_each_chunk(struct bundle *b, bool count, chunk_fn fn, void *ctx)
{
	struct chunk_pass pass = { fn, ctx, count };

	return reader_each_frame(b, count, split_chunks, &pass);
}
