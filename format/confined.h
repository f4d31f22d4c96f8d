/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A command that reads bundles, as a process of its own that can do little else. Whoever wrote a bundle may attack its
 * parser; the programs that run one hold tokens, keys and connections.
 *
 * It has /dev/null, one file to write to and one for errors, limits, and a lower priority. It opens no socket, sends no
 * signal, looks into no other process, and reads nothing but DIR, its own program and the system's libraries. The last
 * is Landlock's (Linux 5.13; see landlock(7)): without it files are as open to it as to its parent.
 */
#ifndef SB_FORMAT_CONFINED_H
#define SB_FORMAT_CONFINED_H

#include <signal.h>
#include <sys/types.h>

#include "format/base.h"

struct confined {
	const char *program;	 /* with a '/', or found by PATH */
	char *const *argv;	 /* ends with NULL */
	const char *dir;	 /* where it runs, and what it may read */
	int out, err;		 /* its standard output and error output */
	uint64_t memory_bytes;	 /* address space */
	uint64_t output_bytes;	 /* of each file that it writes */
	uint64_t cpu_s, limit_s; /* CPU time; in all, then it is killed */
	const volatile sig_atomic_t *stop; /* not 0: it is killed at once. NULL: never */
};

/* Waits for its end. Its status as waitpid() gives it, of exit status 127 where the program cannot be run, 126 where it
 * cannot be confined; -ETIME: it was killed; another negative errno: it was not begun. */
int confined_run(const struct confined *c);

/* Does this kernel let it read its own files alone? */
bool confined_has_landlock(void);

#endif
