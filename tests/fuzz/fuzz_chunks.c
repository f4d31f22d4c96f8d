// SPDX-License-Identifier: BSD-2-Clause
/*
 * Chunks of every type with any body, in a frame with a right checksum, so that what the checksum keeps out comes in.
 * Each begins with its field number (format/capture.proto, message Chunk) and the length of its body, a byte and two.
 */
#include "tests/fuzz/bundle.h"

static size_t put_varint(uint8_t *to, uint64_t v)
{
	size_t n = 0;

	for (; v > 127; v >>= 7)
		to[n++] = (uint8_t)(v | 128);
	to[n++] = (uint8_t)v;
	return n;
}

/* Capture.chunk { seq, body }; as many bytes as it has. */
static size_t put_chunk(uint8_t *to, uint32_t seq, uint8_t field, const uint8_t *body, size_t len)
{
	uint8_t head[32];
	size_t n = 0, at = 0;

	n += put_varint(head + n, 1 << 3);
	n += put_varint(head + n, seq);
	n += put_varint(head + n, (uint64_t)field << 3 | 2);
	n += put_varint(head + n, len);
	at += put_varint(to + at, 1 << 3 | 2);
	at += put_varint(to + at, n + len);
	memcpy(to + at, head, n);
	memcpy(to + at + n, body, len);
	return at + n + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t plain[PUT_MAX];
	size_t n = 0, len;
	uint32_t seq = 0;
	char path[64];
	int fd;

	for (size_t at = 0; at + 3 <= size; at += 3 + len) {
		len = SB_MIN((size_t)data[at + 1] << 8 | data[at + 2], size - at - 3);
		if (n + len + 64 > sizeof(plain))
			break;
		n += put_chunk(plain + n, seq++, data[at] & 31, data + at + 3, len);
	}
	fd = file_of_frame(plain, n);
	touch_bundle(path_of(fd, path));
	close(fd);
	return 0;
}
