/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of frames: looked up once per distinct frame, then known by a small number. */
#ifndef SB_TOOLS_NAMES_H
#define SB_TOOLS_NAMES_H

#include "format/map64.h"
#include "format/reader.h"

enum frame_class {
	FRAME_KERNEL,
	FRAME_USER,
	FRAME_UNKNOWN, /* an address in no known file */
	FRAME_COMM,    /* the name of a thread, process, cgroup or CPU */
	FRAME_JIT,     /* made at run time, user or kernel */
	FRAME_MARK,    /* no frame: says that frames are missing here */
};

struct names {
	const struct bundle *b;
	bool lines;	      /* frames have their source line in their name */
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
/*
 * All frames at an address, innermost first: what the compiler put into the function there, where the bundle knows
 * it, and the function. Returns how many, at most max and NAMES_INLINED; of more the innermost ones go.
 */
#define NAMES_INLINED 32u
uint32_t names_frames(struct names *n, uint32_t process, uint64_t addr, uint32_t *ret, uint32_t max);
uint32_t names_text(struct names *n, const char *text, enum frame_class class);
static inline const char *names_get(const struct names *n, uint32_t id)
{
	return id ? n->list[id - 1].text : "?";
}
static inline enum frame_class names_class(const struct names *n, uint32_t id)
{
	return id ? n->list[id - 1].class : FRAME_UNKNOWN;
}
/* The recorder's own programs, and what calls them, stand at the leaf of kernel stacks that a
 * tracepoint took. They say nothing about the host. */
bool names_is_own(const char *name);
/* Frames of a stack, leaf first, without the recorder's own. Returns how many. Inlined ones are left out where there
 * is no room for all. */
uint32_t names_leaf_first(struct names *n, uint32_t stack, uint32_t *ret, uint32_t max);

#endif
