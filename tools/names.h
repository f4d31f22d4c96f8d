/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of frames: looked up once per distinct frame, then known by a small number. */
#ifndef SB_TOOLS_NAMES_H
#define SB_TOOLS_NAMES_H

#include "format/map64.h"
#include "format/reader.h"

enum frame_class { FRAME_KERNEL, FRAME_USER, FRAME_UNKNOWN, FRAME_COMM };

struct names {
	const struct bundle *b;
	struct map64 frame;   /* (process, address) -> id */
	struct map64 by_name; /* hash of the text and class -> id */
	struct {
		char *text; /* as in the bundle, not escaped */
		enum frame_class class;
	} *list;
	uint32_t n, cap;
};

void names_init(struct names *n, const struct bundle *b);
void names_done(struct names *n);
/* Ids from 1; equal names of one class share an id, so functions merge. 0: no memory. */
uint32_t names_frame(struct names *n, uint32_t process, uint64_t addr);
uint32_t names_text(struct names *n, const char *text, enum frame_class class);
static inline const char *names_get(const struct names *n, uint32_t id)
{
	return id ? n->list[id - 1].text : "?";
}
static inline enum frame_class names_class(const struct names *n, uint32_t id)
{
	return id ? n->list[id - 1].class : FRAME_UNKNOWN;
}

#endif
