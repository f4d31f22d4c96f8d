/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of bundles: HOST-20261120T233350Z-TRIGGER.stall.pb.zst, times in UTC. Whoever reads a directory of bundles,
 * or is told a name, asks here; recorder/spool.h makes them.
 */
#ifndef SB_FORMAT_FILE_NAME_H
#define SB_FORMAT_FILE_NAME_H

#include "format/base.h"

#define BUNDLE_SUFFIX ".stall.pb.zst"
#define BUNDLE_FILE_MAX 160 /* with its end */

/* What stallboxd names its files, and nothing else: [A-Za-z0-9._-], neither a path nor hidden nor an option of a
 * command ('.' or '-' first), BUNDLE_SUFFIX. Nothing that a URL would have to escape. */
bool bundle_is_file_name(const char *name);

/* Any that is not hidden and ends as a bundle's: what people take for one. */
bool bundle_looks_like_file(const char *name);

/* Where "20261120T233350Z-TRIGGER..." begins in the name, with or without a fraction ("50.042Z"). The first place: a
 * trigger may be called like a time. NULL: nowhere. */
const char *bundle_file_stamp(const char *name);

#endif
