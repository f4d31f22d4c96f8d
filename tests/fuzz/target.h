/* SPDX-License-Identifier: BSD-2-Clause */
/* What fuzz targets share. Each defines LLVMFuzzerTestOneInput(), for libFuzzer or for replay.c. */
#ifndef SB_TESTS_FUZZ_TARGET_H
#define SB_TESTS_FUZZ_TARGET_H

#include <stdio.h>
#include <sys/mman.h>

#include "format/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void must(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "not so: %s\n", what);
		abort();
	}
}

/* A file in memory that holds these bytes and nothing else. */
static inline int file_of(const void *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	must(fd >= 0 && write(fd, data, size) == (ssize_t)size, "a file in memory");
	return fd;
}

/* The name under which it can be opened once more. */
static inline const char *path_of(int fd, char ret[64])
{
	snprintf(ret, 64, "/proc/self/fd/%d", fd);
	return ret;
}

/* The bytes as a text of their own, so that a sanitizer sees who reads behind its end. For free(). */
static inline char *text_of(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	must(text != NULL, "memory for a text");
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

#endif
