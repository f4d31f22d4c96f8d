/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flame graphs: a tree, laid out and written as one SVG file. It can be looked at where no script
 * runs (in a ticket, as an image); its own script adds zoom, search and keys, from all of the
 * tree's frames, also those too thin to be drawn at first. It loads nothing.
 */
#ifndef SB_TOOLS_FLAME_H
#define SB_TOOLS_FLAME_H

#include <stdio.h>

#include "tools/tree.h"

struct flame_text {
	const char *title, *subtitle, *losses; /* not escaped */
};

enum flame_width { FLAME_WIDTH_BOTH, FLAME_WIDTH_FIRST, FLAME_WIDTH_SECOND };

struct flame_options {
	struct flame_text text;
	const char *unit; /* fold_unit() */
	bool inverted;	  /* the root on top */
	bool compare;	  /* side 0 against side 1 of the tree: red grew, blue shrank */
	enum flame_width width; /* what the widths are, when comparing */
	const char *side[2];	/* "after", "before"; when comparing */
};

/* Writes a sorted tree. 0 or a negative errno. */
int flame_write_tree(const struct tree *t, const struct flame_options *o, FILE *out);
/* The same for one fold, with names as the unit has them. */
int flame_write(struct fold *f, const struct flame_text *text, FILE *out);

#endif
