// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>

#include "symbols/table.h"
#ifdef SB_EH_FRAME
#include "unwind/table.h"
#endif

struct elf_names {
	struct symbols *symbols; /* NULL: none */
	const char *source;
#ifdef SB_EH_FRAME
	struct symbols *go;		    /* by .gopclntab; NULL: none */
	struct unwind_functions *functions; /* NULL: none */
#endif
};

#ifdef SB_EH_FRAME
/* As in symbols/elf.c; and all of them are no more than UNWIND_GO_BYTES: each stands in the table once. */
#define MAX_NAME_BYTES 4095u

static bool take_go(void *ctx, uint64_t offset, uint64_t size, const char *name, size_t max)
{
	struct symbol_builder *b = ctx;
	size_t len = strnlen(name, SB_MIN(max, (size_t)MAX_NAME_BYTES));
	struct symbol_entry e = { .start = offset, .len = (uint32_t)SB_MIN(size, (uint64_t)UINT32_MAX) };

	if (!len || len == max)
		return true;
	return b->names_len + len < UNWIND_GO_BYTES && symbol_builder_name(b, name, len, &e.name) == 0 &&
	       symbol_builder_add(b, &e) == 0;
}

/* wants_go: what names it has so far are not all. */
static void load_starts(int fd, bool wants_go, struct elf_names *n)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	SB_CLEANUP(symbol_builder_done) struct symbol_builder b = {};
	struct unwind_image image = {};
	int r = unwind_image_read_names(fd, wants_go ? take_go : NULL, &b, &image);

	if (r == 0 && unwind_functions_build(&image, &limits, &n->functions) < 0)
		n->functions = NULL;
	unwind_image_done(&image);
	if (r != -ESTALE && symbol_builder_finish(&b, &n->go) == 0)
		n->source = "gopclntab";
}
#endif

int elf_names_open(int fd, const char *const *roots, struct elf_names **ret)
{
	static const char *const none[] = { NULL };
	struct elf_names *n = calloc(1, sizeof(*n));
	bool found = false;
	int r;

	if (!n)
		return -ENOMEM;
	n->source = "eh_frame";
	/* .dynsym of the file is there with every root: look on while that is all. */
	for (const char *const *root = roots ? roots : none;; root++) {
		struct symbols *s = NULL;
		const char *source;

		r = symbols_load_elf(fd, *root, &s, &source);
		if (r == 0) {
			symbols_free(n->symbols);
			n->symbols = s;
			n->source = source;
			if (strcmp(source, "dynsym"))
				break;
		}
		if (!*root || !root[1])
			break;
	}
#ifdef SB_EH_FRAME
	load_starts(fd, !n->symbols || !strcmp(n->source, "dynsym"), n);
	found = n->go || n->functions;
#endif
	if (!n->symbols && !found) {
		free(n);
		return r < 0 ? r : -ENODATA;
	}
	*ret = n;
	return 0;
}

int elf_names_open_detached(int fd, uint64_t code_offset, struct elf_names **ret)
{
	struct elf_names *n = calloc(1, sizeof(*n));
	int r = n ? symbols_load_detached(fd, code_offset, &n->symbols) : -ENOMEM;

	if (r < 0) {
		free(n);
		return r;
	}
	n->source = "symtab";
	*ret = n;
	return 0;
}

int elf_names_add_starts(struct elf_names *n, int fd)
{
#ifdef SB_EH_FRAME
	if (!n->functions)
		load_starts(fd, false, n);
	return n->functions ? 0 : -ENODATA;
#else
	(void)n;
	(void)fd;
	return -ENODATA;
#endif
}

void elf_names_free(struct elf_names *n)
{
	if (!n)
		return;
	symbols_free(n->symbols);
#ifdef SB_EH_FRAME
	symbols_free(n->go);
	unwind_functions_free(n->functions);
#endif
	free(n);
}

int elf_names_find(const struct elf_names *n, uint64_t offset, bool caller, struct symbol *ret)
{
	uint64_t at = caller && offset ? offset - 1 : offset;

#ifdef SB_EH_FRAME
	if (n->go && symbols_find(n->go, at, ret) == 0)
		return 0;
#endif
	if (n->symbols && symbols_find(n->symbols, at, ret) == 0)
		return 0;
#ifdef SB_EH_FRAME
	*ret = (struct symbol){ .name = "", .module = "" };
	if (n->functions && unwind_functions_find(n->functions, at, &ret->start) == 0)
		return 0;
#endif
	return -ENOENT;
}

const char *elf_names_source(const struct elf_names *n)
{
	return n->source;
}
