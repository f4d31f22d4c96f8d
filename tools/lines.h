/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Source lines and inlined functions of one file by its DWARF (libdw; without it lines_open() always says -ENOSYS).
 * Names and paths live as long as the object. Functions return 0 or a negative errno.
 */
#ifndef SB_TOOLS_LINES_H
#define SB_TOOLS_LINES_H

#include "format/bundle.h"

#define LINES_MAX_BYTES (1u << 30) /* of debug information, unpacked, or with holes in its file */
#define LINES_MAX 64u /* frames at one address; what stands further out is left out */

struct lines;
/* fd: the file, or its detached symbols, not closed and needed until lines_free(). code_offset: that of the file's
 * lowest executable mapping, for detached symbols that do not say it. -ENODATA: no DWARF; -EFBIG: more than
 * LINES_MAX_BYTES of it, or than a million units. */
int lines_open(int fd, uint64_t code_offset, struct lines **ret);
void lines_free(struct lines *l);
/* Frames at a file offset, innermost first, the function itself last, which gets no name. caller: the offset is a
 * return address. Returns how many; 0: nothing is known. */
size_t lines_find(struct lines *l, uint64_t offset, bool caller, struct bundle_line ret[LINES_MAX]);

#endif
