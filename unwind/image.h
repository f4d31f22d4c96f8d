/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What unwinding needs of an ELF file: its segments, .eh_frame and build-id. Found through the
 * program headers, which a running file must have; section headers only say where .eh_frame ends,
 * and where it is in the few files that do not announce it. Of a Go file also where some functions
 * of its runtime are, or the names of all its functions, by section headers alone.
 *
 * Files are hostile. They are read by descriptor and never mapped, so that one which shrinks
 * meanwhile is an error and no SIGBUS; whatever a header claims is checked against limits before
 * memory is taken for it. Functions return 0 or a negative errno.
 */
#ifndef SB_UNWIND_IMAGE_H
#define SB_UNWIND_IMAGE_H

#include "format/base.h"
#include "unwind/cfi.h"

/* Linkers make one or two. */
#define UNWIND_SEGMENTS 16u
#define UNWIND_ID_BYTES 32u
/* .eh_frame of the largest programs is about 30 MiB. */
#define UNWIND_EH_FRAME_BYTES (64u << 20)

struct unwind_segment {
	uint64_t addr, offset, size; /* size: as much of it as the file holds */
};

/* How the caller is found of code that nothing describes: what the kernel has a signal handler return to, and Go's functions
 * (unwind/go.h). */
enum unwind_mark_how {
	UNWIND_MARK_DEPTH, /* n words above the stack pointer lies the return address. arm64: only n = 0, it is in x30 */
	UNWIND_MARK_DEPTH_FP, /* the same, and right below it the caller's frame pointer */
	UNWIND_MARK_ENDS,
	UNWIND_MARK_OTHER_STACK, /* by the frame pointer, wherever it leads */
	UNWIND_MARK_SWITCHED, /* on another stack, where the word n bytes above the stack pointer says (SB_CFA_GO_SWITCHED) */
	UNWIND_MARK_SIGRETURN,
};

struct unwind_mark {
	uint64_t offset; /* in the file, all of it within one executable segment */
	uint32_t size;	 /* 0: nothing */
	uint16_t how;	 /* enum unwind_mark_how */
	uint16_t n;
};
/* A large program has 0.5 M. */
#define UNWIND_MARKS 1500000u
/* What is in memory at a time of the table of Go's functions, 12 MiB of a large program, or of its
 * symbols and their names. */
#define UNWIND_GO_BYTES (48u << 20)

struct unwind_image {
	enum cfi_machine machine;
	struct unwind_segment code[UNWIND_SEGMENTS]; /* executable ones, by file offset */
	size_t n_code;
	uint8_t *eh_frame; /* NULL: none */
	size_t eh_frame_len;
	uint64_t eh_frame_addr;
	bool eh_frame_to_its_end; /* the length is the section's, else the segment's */
	uint8_t build_id[UNWIND_ID_BYTES];
	size_t build_id_len; /* 0: none */
	struct unwind_mark *marks; /* by offset, none over another */
	size_t n_marks, cap_marks;
};

/*
 * An ELF file open at fd, not closed. -ENOEXEC: no regular file, or no ELF for x86-64 or AArch64,
 * little-endian, 64 bits; -EFBIG: .eh_frame is larger than the limit; -EBADMSG: headers contradict
 * each other; -ESTALE: the file changed while it was read. A file without .eh_frame is fine.
 */
int unwind_image_read(int fd, struct unwind_image *ret);

/* A function by its offset in the file; size: bytes of code. name: at most max bytes, and a NUL only if it is there.
 * False: enough. */
typedef bool (*unwind_name_fn)(void *ctx, uint64_t offset, uint64_t size, const char *name, size_t max);

/* The same for names of functions: without marks. Those of Go's table are told to take, if it is not NULL; what was told of
 * a file that changed meanwhile (-ESTALE) is nothing to keep. */
int unwind_image_read_names(int fd, unwind_name_fn take, void *ctx, struct unwind_image *ret);

/* The same of bytes in memory, which are copied: the vdso. */
int unwind_image_read_memory(const void *data, size_t len, struct unwind_image *ret);

void unwind_image_done(struct unwind_image *image);

struct sb_unwind_rule unwind_mark_rule(enum cfi_machine machine, const struct unwind_mark *m);

/* File offset of an address in an executable segment: 0, or -ENOENT. */
int unwind_image_offset(const struct unwind_image *image, uint64_t addr, uint64_t *ret);

#endif
