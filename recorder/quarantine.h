/* SPDX-License-Identifier: BSD-2-Clause */
/* Files with a bundle's name of which nothing can be read: moved to the subdirectory quarantine/, so that nobody
 * meets them again and somebody can look at them. */
#ifndef SB_RECORDER_QUARANTINE_H
#define SB_RECORDER_QUARANTINE_H

#include "recorder/storage.h"

#define QUARANTINE_DIR "quarantine"
/* Of one directory; the oldest make room. */
#define QUARANTINE_FILES 16
#define QUARANTINE_BYTES (64ULL << 20)

/*
 * Looks at what changed since the last call. A file that killed whoever looked at it before is moved unread.
 * Reads untrusted files: for the keeper alone. Logs that it has moved some.
 */
void quarantine_check(const struct spool *s, enum spool_which which, struct storage *st);

#endif
