/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The protobuf wire format, as far as the exports write it: numbers, text and messages. Their
 * schemas (pprof's profile.proto, Perfetto's trace.proto) are far larger than what is used.
 * Source: https://protobuf.dev/programming-guides/encoding/
 */
#ifndef SB_TOOLS_WIRE_H
#define SB_TOOLS_WIRE_H

#include "format/base.h"

/* Owns data; wire_done(). A failed allocation sets failed, and all that follows is ignored. */
struct wire {
	uint8_t *data;
	size_t len, cap;
	bool failed;
};

void wire_done(struct wire *w);
static inline void wire_clear(struct wire *w)
{
	w->len = 0;
}
void wire_number(struct wire *w, uint32_t field, uint64_t value);
void wire_bytes(struct wire *w, uint32_t field, const void *data, size_t len);
void wire_text(struct wire *w, uint32_t field, const char *s);
/* One varint without a field: an element of a packed column. */
void wire_varint(struct wire *w, uint64_t value);
/* A message or a packed column that was built in its own buffer, which is empty afterwards. */
void wire_message(struct wire *w, uint32_t field, struct wire *message);

#endif
