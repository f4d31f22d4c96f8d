/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which bundles stay: limits of size, free space and age. The oldest go first; never the newest, and where
 * bundles are to be uploaded, never one that is not (format/uploaded.h).
 */
#ifndef SB_RECORDER_RETENTION_H
#define SB_RECORDER_RETENTION_H

#include "recorder/storage.h"

/*
 * Before `need` bytes go to a directory: claims them, so that whoever else writes at the same time, in this process
 * or another one, counts them as taken; then deletes from it what the limits ask for, never `keep`. Looks at no other
 * directory (their file systems may hang) and at no file while there is room by the counts in st. Allocates nothing.
 * 0; -ENOSPC: KeepFree would not be kept; -EDQUOT: MaxUse is taken by bundles that wait for their upload; -EBUSY:
 * too many write there; or another negative errno. Only on success there is a claim, and *ret_claim is it.
 */
int retention_claim(const struct spool *s, enum spool_which which, uint64_t need, const char *keep, struct storage *st,
		    struct storage_claim **ret_claim);
/* The claim ends: `written` bytes of it are in the directory, 0: none came of it. One whose process has died counts as
 * written until somebody has looked. */
void retention_settle(struct storage_dir *d, struct storage_claim *claim, uint64_t written);

/* What the bundles of a directory take, without claims. */
uint64_t retention_used(const struct storage_dir *d);

/* Keeps all limits in both directories, with `reserve` bytes and all claims below MaxUse, and counts what is there.
 * Returns how many bundles were deleted. */
unsigned int retention_enforce(const struct spool *s, uint64_t reserve, struct storage *st);

#endif
