/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Included first where a static analyzer reads our sources (tests/lint/run). It is told what it cannot know: errno after
 * a failure is positive, so that -errno is negative and a function that returns it has failed.
 */
#include <errno.h>

static inline int *analyzer_errno(void)
{
	int *e = __errno_location();

	if (*e <= 0)
		__builtin_unreachable();
	return e;
}

#undef errno
#define errno (*analyzer_errno())
