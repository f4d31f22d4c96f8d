/* SPDX-License-Identifier: BSD-2-Clause */
/* Names and source lines that a bundle lacks, as chunks to be appended to it. */
#ifndef SB_TOOLS_ADD_NAMES_H
#define SB_TOOLS_ADD_NAMES_H

#include <stdio.h>

#include "format/reader.h"
#include "tools/debug_files.h"

struct names_from {
	struct debug_sources *sources;
	const char *kallsyms; /* of the same boot of that host; NULL: /proc/kallsyms, where this is that boot */
	bool names_only;      /* no source lines and inlined functions */
};

struct names_added {
	size_t wanted, named, files; /* functions without a name; that have one now, from how many files */
	size_t written;		     /* rows; 0: nothing is to be appended */
	size_t lines, inlined;	     /* addresses with lines, functions inlined there */
};

/* What finds no name is told on standard error. Looks for it, which may take long, before it writes to out. *ret is
 * set in any case. 0 or a negative errno; -ECANCELED: from->kallsyms is no list, which has been told, too. */
int add_names(struct bundle *b, const struct names_from *from, FILE *out, struct names_added *ret);

#endif
