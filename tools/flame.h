/* SPDX-License-Identifier: BSD-2-Clause */
/* Flame graphs: the tree of a fold, laid out and written as one interactive SVG file. */
#ifndef SB_TOOLS_FLAME_H
#define SB_TOOLS_FLAME_H

#include <stdio.h>

#include "tools/fold.h"

struct flame_text {
	const char *title, *subtitle, *losses; /* not escaped */
};

/* Names every frame of the fold and writes the SVG. 0 or a negative errno. */
int flame_write(struct fold *f, const struct flame_text *text, FILE *out);

#endif
