/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What processes were before they ended or became another program: an image is what a process has
 * mapped between its fork or exec and its end or next exec. Kept first in, first out in a fixed
 * number of bytes; what has gone is counted. One thread; nothing blocks.
 */
#ifndef SB_RECORDER_IMAGES_H
#define SB_RECORDER_IMAGES_H

#include "format/base.h"

struct mapped_vma {
	uint64_t start, end; /* addresses */
	uint64_t offset;     /* in the file, bytes */
	uint32_t file;	     /* MAPPINGS_NO_FILE: none */
};

struct image {
	uint32_t pid, n;
	uint64_t since_ns, until_ns; /* since 0: before the recorder; until 0: it is there */
};

struct images;
int images_new(size_t bytes, struct images **ret);
void images_free(struct images *im);
void images_keep(struct images *im, const struct image *image, const struct mapped_vma *vma);
void images_forget(struct images *im, uint32_t n); /* the oldest ones */

typedef void (*image_fn)(const struct image *image, const struct mapped_vma *vma, void *ctx);
void images_each(const struct images *im, image_fn fn, void *ctx); /* oldest first */

uint64_t images_evicted(const struct images *im);
uint32_t images_count(const struct images *im);

#endif
