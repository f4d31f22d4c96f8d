/* SPDX-License-Identifier: BSD-2-Clause */
/* Open-addressing map from a 64-bit key (never 0) to a 64-bit value; 0 is "absent". */
#ifndef SB_FORMAT_MAP64_H
#define SB_FORMAT_MAP64_H

#include "format/base.h"

struct map64_slot {
	uint64_t key, value;
};
struct map64 {
	struct map64_slot *slot;
	size_t n, cap; /* cap: a power of two */
	uint64_t seed;
};

/* 0, -ENOMEM, or -EINVAL for key 0. Takes the place of an earlier value of that key. */
int map64_put(struct map64 *m, uint64_t key, uint64_t value);
/* The value, or 0. */
uint64_t map64_get(const struct map64 *m, uint64_t key);
void map64_done(struct map64 *m);

#endif
