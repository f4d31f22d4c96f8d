// SPDX-License-Identifier: BSD-2-Clause
#include "tools/demangle.h"

#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* Names of 2 KiB are real (templates), and what they stand for is many times as long. A hostile one
 * says "twice that" again and again, and would fill all memory. */
#define MAX_MANGLED 4095
#define MAX_READABLE 8191

struct output {
	char text[MAX_READABLE + 1];
	size_t len;
	jmp_buf too_long;
};

/* Neither demangler holds anything but its stack while it calls this. */
static void take(const char *s, size_t len, void *opaque)
{
	struct output *o = opaque;

	if (!len) /* libiberty's writer of Rust names says so of no text at all */
		return;
	if (len > MAX_READABLE - o->len)
		longjmp(o->too_long, 1);
	memcpy(o->text + o->len, s, len);
	o->len += len;
}

/* Rust's older scheme looks like C++; what is none of Rust writes nothing. */
static int run(const char *name, struct output *o)
{
	if (setjmp(o->too_long))
		return 0;
	o->len = 0;
	if (rust_demangle_callback(name, 0, take, o))
		return 1;
	o->len = 0;
	return name[1] == 'Z' && cplus_demangle_v3_callback(name, DMGL_NO_OPTS, take, o);
}

char *demangle(const char *name)
{
	struct output *o;
	char *s = NULL;

	if (name[0] != '_' || (name[1] != 'Z' && name[1] != 'R') || strlen(name) > MAX_MANGLED)
		return NULL;
	o = malloc(sizeof(*o));
	if (o && run(name, o) && o->len && !memchr(o->text, 0, o->len))
		s = strndup(o->text, o->len);
	free(o);
	return s;
}
