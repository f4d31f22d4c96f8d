/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which bundles stay: limits of size, free space and age. The oldest go first; never the newest, and where
 * bundles are to be uploaded, never one that is not (format/uploaded.h).
 */
#ifndef SB_RECORDER_RETENTION_H
#define SB_RECORDER_RETENTION_H

#include "recorder/storage.h"

/*
 * Before `need` bytes go to a directory: deletes from it what the limits ask for, never `keep`. Looks at no
 * other directory (their file systems may hang) and at no file while there is room by the counts in st.
 * Allocates nothing. 0; -ENOSPC: KeepFree would not be kept; -EDQUOT: MaxUse is taken by bundles that wait for
 * their upload; or another negative errno.
 */
int retention_room(const struct spool *s, enum spool_which which, uint64_t need, const char *keep, struct storage *st);

/* Keeps all limits in both directories, with `reserve` bytes below MaxUse, and counts what is there. Returns how
 * many bundles were deleted. */
unsigned int retention_enforce(const struct spool *s, uint64_t reserve, struct storage *st);

#endif
