/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of rows from .eh_frame share: a directory of their own, a program to build, a file's rows. */
#ifndef SB_TESTS_UNIT_CFI_H
#define SB_TESTS_UNIT_CFI_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "unwind/cache.h"
#include "tests/unit/scratch.h"

static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;

/* A file's rows, image and counts. */
struct loaded {
	struct unwind_image image;
	struct unwind_rows rows;
	struct cfi_counts counts;
};

static inline void load_fd(int fd, struct loaded *ret)
{
	memset(ret, 0, sizeof(*ret));
	assert_int_equal(unwind_image_read(fd, &ret->image), 0);
	assert_int_equal(unwind_rows_build(&ret->image, &limits, &ret->counts, &ret->rows), 0);
}

static inline void load(const char *name, struct loaded *ret)
{
	_cleanup_close_ int fd = open_at(name);

	assert_true(fd >= 0);
	load_fd(fd, ret);
}

static inline void unload(struct loaded *l)
{
	unwind_image_done(&l->image);
	unwind_rows_done(&l->rows);
}

static inline struct sb_unwind_rule rule_at(const struct loaded *l, uint64_t addr)
{
	uint64_t offset;

	if (unwind_image_offset(&l->image, addr, &offset) < 0)
		return (struct sb_unwind_rule){};
	return unwind_rows_find(&l->rows, offset);
}

static inline uint64_t bad_of(const struct cfi_counts *c)
{
	uint64_t n = 0;

	for (size_t i = 0; i < CFI_BAD_COUNT; i++)
		n += c->bad[i];
	return n;
}

#endif
