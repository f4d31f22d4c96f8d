// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/images.h"

#include <errno.h>

/* Entries follow each other in a ring of bytes and do not wrap: the end may hold a gap. */
struct images {
	uint8_t *bytes;
	size_t size, head, tail; /* head: of the next entry; tail: of the oldest one */
	size_t end;		 /* where the gap begins while head is before tail */
	uint32_t count;
	uint64_t evicted;
};

int images_new(size_t bytes, struct images **ret)
{
	struct images *im = calloc(1, sizeof(*im));

	if (im)
		im->bytes = malloc(bytes);
	if (!im || !im->bytes) {
		free(im);
		return -ENOMEM;
	}
	im->size = im->end = bytes;
	*ret = im;
	return 0;
}

void images_free(struct images *im)
{
	if (!im)
		return;
	free(im->bytes);
	free(im);
}

static size_t entry_bytes(const struct image *i)
{
	return sizeof(*i) + i->n * sizeof(struct mapped_vma);
}

static void drop_oldest(struct images *im)
{
	im->tail += entry_bytes((const void *)(im->bytes + im->tail));
	im->evicted++;
	im->count--;
	if (im->tail >= im->end && im->head < im->tail) {
		im->tail = 0;
		im->end = im->size;
	}
}

void images_keep(struct images *im, const struct image *image, const struct mapped_vma *vma)
{
	size_t need = entry_bytes(image);

	if (need > im->size) {
		im->evicted++;
		return;
	}
	if (im->head + need > im->size) {
		/* Behind head lie the oldest: they go with the gap. */
		while (im->count && im->tail >= im->head)
			drop_oldest(im);
		im->end = im->head;
		im->head = 0;
		if (!im->count)
			im->tail = 0;
	}
	while (im->count && im->tail >= im->head && im->tail < im->head + need)
		drop_oldest(im);
	if (!im->count) {
		im->head = im->tail = 0;
		im->end = im->size;
	}
	memcpy(im->bytes + im->head, image, sizeof(*image));
	if (image->n)
		memcpy(im->bytes + im->head + sizeof(*image), vma, image->n * sizeof(*vma));
	im->head += need;
	im->count++;
}

void images_forget(struct images *im, uint32_t n)
{
	while (n-- && im->count)
		drop_oldest(im);
}

void images_each(const struct images *im, image_fn fn, void *ctx)
{
	size_t at = im->tail;

	for (uint32_t i = 0; i < im->count; i++) {
		const struct image *e;

		if (at >= im->end)
			at = 0;
		e = (const void *)(im->bytes + at);
		fn(e, (const void *)(e + 1), ctx);
		at += entry_bytes(e);
	}
}

uint64_t images_evicted(const struct images *im)
{
	return im->evicted;
}

uint32_t images_count(const struct images *im)
{
	return im->count;
}
