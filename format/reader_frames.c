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

static ssize_t read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* One frame at the start of buf. >0: its packed size, *ret_plain set; 0: the buffer ends
 * inside it; <0: not a frame that we accept. */
static ssize_t decode_frame(struct bundle *b, const uint8_t *buf, size_t len, size_t *ret_plain,
			    const char **ret_what)
{
	unsigned long long claim = ZSTD_getFrameContentSize(buf, len);
	size_t packed, plain;

	*ret_what = "not a zstd frame";
	if (claim == ZSTD_CONTENTSIZE_ERROR)
		return len < 18 && (len < 4 || !memcmp(buf, "\x28\xb5\x2f\xfd", 4)) ? 0 : -EBADMSG;
	if (claim == ZSTD_CONTENTSIZE_UNKNOWN || claim > FRAME_PLAIN_MAX) {
		*ret_what = "frame claims more plain bytes than any bundle has";
		return -EBADMSG;
	}
	/* Frame_Header_Descriptor (RFC 8878, 3.1.1.1.1): checksum on, reserved bits zero. Without
	 * a checksum a damaged frame could pass for a whole one. */
	if ((buf[4] & 0x1c) != 0x04) {
		*ret_what = "frame without a checksum";
		return -EBADMSG;
	}
	packed = ZSTD_findFrameCompressedSize(buf, len);
	if (ZSTD_isError(packed)) {
		*ret_what = "damaged frame";
		return len >= FRAME_PACKED_MAX ? -EBADMSG : 0;
	}
	plain = ZSTD_decompressDCtx(b->zstd, b->plain, FRAME_PLAIN_MAX, buf, packed);
	if (ZSTD_isError(plain)) {
		*ret_what = "frame does not decompress (checksum or contents)";
		return -EBADMSG;
	}
	*ret_plain = plain;
	return (ssize_t)packed;
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

/* Calls fn for every whole frame. count: also fills b->damage. */
int reader_each_frame(struct bundle *b, bool count, frame_fn fn, void *ctx)
{
	uint64_t off = 0;
	bool in_damage = false;
	int r;

	while (off < b->size) {
		ssize_t n = read_at(b->fd, b->packed, FRAME_PACKED_MAX, off), used;
		const char *what = "";
		size_t plain = 0;

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		used = decode_frame(b, b->packed, (size_t)n, &plain, &what);
		if (used > 0) {
			in_damage = false;
			if (count)
				b->damage.frames++;
			r = fn(b, b->plain, plain, off, ctx);
			if (r)
				return r;
			off += (uint64_t)used;
			continue;
		}
		if (count) {
			if (!in_damage)
				b->damage.bad_frames += used < 0;
			note_damage(b, off, used == 0 ? "the file ends in the middle of a frame" : what);
		}
		in_damage = true;
		{
			size_t skip = next_magic(b->packed, (size_t)n);
			bool at_end = off + (uint64_t)n >= b->size;

			if (at_end && skip + 3 >= (size_t)n)
				skip = (size_t)n;
			if (count) {
				b->damage.skipped_bytes += skip;
				b->damage.truncated |= used == 0 && off + skip >= b->size;
			}
			off += skip;
		}
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

	while (p < end) {
		bool ok = true;
		uint64_t tag = get_varint(&p, end, &ok), n = get_varint(&p, end, &ok);
		Stallbox__V1__Chunk *c;
		int r;

		if (!ok || (tag & 7) != 2 || n > (uint64_t)(end - p)) {
			if (pass->count) {
				b->damage.bad_frames++;
				note_damage(b, offset, "frame holds no whole chunks");
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
