// SPDX-License-Identifier: BSD-2-Clause
#include "tools/wire.h"

enum { VARINT = 0, BYTES = 2 };

void wire_done(struct wire *w)
{
	free(w->data);
	*w = (struct wire){};
}

static void put(struct wire *w, const void *data, size_t len)
{
	if (w->failed || !len)
		return;
	if (w->len + len > w->cap) {
		size_t cap = SB_MAX(w->cap * 2, w->len + len + 256);
		void *bigger = realloc(w->data, cap);

		if (!bigger) {
			w->failed = true;
			return;
		}
		w->data = bigger;
		w->cap = cap;
	}
	memcpy(w->data + w->len, data, len);
	w->len += len;
}

void wire_varint(struct wire *w, uint64_t value)
{
	uint8_t buf[10];
	size_t n = 0;

	do {
		buf[n] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
		value >>= 7;
		n++;
	} while (value);
	put(w, buf, n);
}

void wire_number(struct wire *w, uint32_t field, uint64_t value)
{
	wire_varint(w, (uint64_t)field << 3 | VARINT);
	wire_varint(w, value);
}

void wire_bytes(struct wire *w, uint32_t field, const void *data, size_t len)
{
	wire_varint(w, (uint64_t)field << 3 | BYTES);
	wire_varint(w, len);
	put(w, data, len);
}

void wire_text(struct wire *w, uint32_t field, const char *s)
{
	wire_bytes(w, field, s, strlen(s));
}

void wire_message(struct wire *w, uint32_t field, struct wire *message)
{
	w->failed |= message->failed;
	wire_bytes(w, field, message->data, message->len);
	wire_clear(message);
}
