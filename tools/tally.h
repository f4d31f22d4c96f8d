/* SPDX-License-Identifier: BSD-2-Clause */
/* Sums by key, and the largest of them. */
#ifndef SB_TOOLS_TALLY_H
#define SB_TOOLS_TALLY_H

#include "format/map64.h"

struct tally_item {
	uint64_t key, count, ns;
	uint64_t longest_ns, note; /* note of the longest, for the caller */
	uint64_t members;	   /* different ones, by tally_member() */
};

struct tally {
	struct map64 by_key; /* key + 1 -> place + 1 */
	struct map64 seen;   /* (key, member) */
	struct tally_item *item;
	size_t n, cap;
	uint64_t count, ns;
};

/* NULL: no memory. */
struct tally_item *tally_add(struct tally *t, uint64_t key, uint64_t count, uint64_t ns, uint64_t note);
/* Counts a member of that item once. 0 or -ENOMEM. */
int tally_member(struct tally *t, uint64_t key, uint64_t member);
/* By time, or by count where no time was given; NULL: empty. */
const struct tally_item *tally_top(const struct tally *t);
void tally_done(struct tally *t);

#endif
