/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes to and between open files. Functions return 0 or a negative errno. */
#ifndef SB_TOOLS_FILES_H
#define SB_TOOLS_FILES_H

#include "format/base.h"

int files_write(int fd, const void *buf, size_t len);
/* From where `from` stands to its end. *ret_bytes, that were written, in any case. */
int files_copy(int from, int to, uint64_t *ret_bytes);
/* Do both name one file that is there? */
bool files_same(const char *a, const char *b);
/* Removes an output that was written in part. A pipe, a device or a link to one is none to be removed. */
void files_drop(const char *path);

#endif
