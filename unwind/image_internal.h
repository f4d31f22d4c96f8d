/* SPDX-License-Identifier: BSD-2-Clause */
/* An ELF file while it is read; between image.c and image_go.c. */
#ifndef SB_UNWIND_IMAGE_INTERNAL_H
#define SB_UNWIND_IMAGE_INTERNAL_H

#include <elf.h>

#include "unwind/image.h"

#define MAX_PROGRAM_HEADERS 256u

struct image_source {
	int fd; /* -1: memory */
	const uint8_t *data;
	uint64_t len;
};

struct image_layout {
	struct image_source src;
	Elf64_Ehdr eh;
	Elf64_Phdr ph[MAX_PROGRAM_HEADERS];
	size_t n_ph;
	Elf64_Shdr *sh;
	size_t n_sh;
};

struct image_names {
	unwind_name_fn take; /* NULL: none are wanted */
	void *ctx;
};

/* All of it or a negative errno. */
int image_read_at(const struct image_source *src, uint64_t offset, void *ret, size_t len);

/* The first one with that name, if it is one that is wanted; else NULL. */
const Elf64_Shdr *image_section(const struct image_layout *l, const char *wanted,
				bool (*may_be)(const Elf64_Shdr *));

/* At most UNWIND_MARKS, and as memory allows; what is empty, or not all in one executable segment, is not taken. */
void image_mark(struct unwind_image *image, uint64_t offset, uint64_t size, enum unwind_mark_how how, unsigned int n);
void image_mark_sigreturn(struct unwind_image *image, uint64_t offset, uint64_t size);

/* Of a Go file; any other one is fine. What makes no sense gives less, and is no error. */
int image_go_marks(const struct image_layout *l, struct unwind_image *image);
int image_go_names(const struct image_layout *l, const struct unwind_image *image,
		   const struct image_names *names);

#endif
