/* SPDX-License-Identifier: BSD-2-Clause */
/* The names in a directory, without allocating: for threads that may stand still for ever on a stalled disk. */
#ifndef SB_RECORDER_DIRWALK_H
#define SB_RECORDER_DIRWALK_H

#include "format/base.h"

struct dirwalk {
	int fd; /* the caller's; from its beginning on */
	bool begun;
	long len, pos;
	char buf[4096] __attribute__((aligned(8)));
};

/* The next name but "." and "..", valid until the next call; NULL: no more, or none can be read. */
const char *dirwalk_next(struct dirwalk *w);

#endif
