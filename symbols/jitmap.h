/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of code that a process made at run time, as compilers leave them for perf: a text
 * /tmp/perf-PID.map (tools/perf/Documentation/jit-interface.txt of Linux) and jit-PID.dump
 * (jitdump-specification.txt), both named by the pid of the process's own namespace and read
 * through its own root. Their contents are hostile and bounded. Functions return 0 or a negative
 * errno.
 */
#ifndef SB_SYMBOLS_JITMAP_H
#define SB_SYMBOLS_JITMAP_H

#include "symbols/symbols.h"

/*
 * Keyed by address. dump: path of a jit dump that the process has mapped, or NULL. ret_path: what
 * to call it all, the text's path or else the dump's. A text that was last written before the process
 * began is of another one with its pid, and is not read. -ENODATA: neither is there, or neither
 * belongs to the process's user or root.
 */
int jitmap_load(uint32_t pid, const char *dump, char *ret_path, size_t len, struct symbols **ret);

/* For tests: the files themselves. */
int jitmap_read(FILE *text, FILE *dump, struct symbols **ret);

#endif
