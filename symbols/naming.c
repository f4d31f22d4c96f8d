// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>

#include "symbols/symbols.h"
#ifdef SB_EH_FRAME
#include "unwind/table.h"
#endif

struct elf_names {
	struct symbols *symbols; /* NULL: none */
	const char *source;
#ifdef SB_EH_FRAME
	struct unwind_functions *functions; /* NULL: none */
#endif
};

static void load_starts(int fd, struct elf_names *n)
{
#ifdef SB_EH_FRAME
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	struct unwind_image image = {};

	if (unwind_image_read(fd, &image) < 0)
		return;
	if (unwind_functions_build(&image, &limits, &n->functions) < 0)
		n->functions = NULL;
	unwind_image_done(&image);
#else
	(void)fd;
	(void)n;
#endif
}

static bool has_starts(const struct elf_names *n)
{
#ifdef SB_EH_FRAME
	return n->functions;
#else
	(void)n;
	return false;
#endif
}

int elf_names_open(int fd, const char *const *roots, struct elf_names **ret)
{
	static const char *const none[] = { NULL };
	struct elf_names *n = calloc(1, sizeof(*n));
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
	load_starts(fd, n);
	if (!n->symbols && !has_starts(n)) {
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

void elf_names_free(struct elf_names *n)
{
	if (!n)
		return;
	symbols_free(n->symbols);
#ifdef SB_EH_FRAME
	unwind_functions_free(n->functions);
#endif
	free(n);
}

int elf_names_find(const struct elf_names *n, uint64_t offset, bool caller, struct symbol *ret)
{
	uint64_t at = caller && offset ? offset - 1 : offset;

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
