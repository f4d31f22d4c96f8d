/* SPDX-License-Identifier: BSD-2-Clause */
/* One file of a unit test's own, removed at its end. Included once, after cmocka.h. */
#ifndef SB_TESTS_UNIT_ONE_FILE_H
#define SB_TESTS_UNIT_ONE_FILE_H

#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/stallbox-test.XXXXXX";

/* It is there, and empty. */
static inline int make_path(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static inline int remove_path(void **state)
{
	(void)state;
	return unlink(path);
}

#endif
