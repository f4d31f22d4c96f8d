/* SPDX-License-Identifier: BSD-2-Clause */
/* From a bundle's file name to the place of its object: PREFIX/HOST/YYYY-MM-DD/NAME. */
#ifndef SB_UPLOAD_KEY_H
#define SB_UPLOAD_KEY_H

#include "format/base.h"

#define KEY_MAX 1024 /* bytes, with its end; S3 allows as many */

/* What a bundle's name says of it. */
struct key_parts {
	char host[65];
	char date[11];	     /* YYYY-MM-DD, UTC */
	uint64_t when_s;     /* since 1970 */
};

/* HOST-20261120T233350Z-TRIGGER.stall.pb.zst. -EINVAL: no time in it, or one before 1970. */
int key_parse(const char *name, struct key_parts *ret);

/* [A-Za-z0-9._/-], no empty, "." or ".." component; "" is one. Slashes at its end do not matter. */
bool key_prefix_ok(const char *prefix);

/* The key. sha256: NULL, or the hash that tells the object from another one of the same name, by its first 12 digits.
 * A name without a time goes to PREFIX/unnamed/NAME. -ENAMETOOLONG. */
int key_make(const char *prefix, const char *name, const char *sha256, char ret[KEY_MAX]);

#endif
