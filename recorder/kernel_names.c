// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/kernel_names.h"

#define BATCH 512

size_t kernel_names_write(struct freeze *f, const struct symbols *s, enum kernel_names_of which)
{
	struct bundle_symbol out[BATCH];
	size_t n = 0, left = 0;

	for (size_t i = 0; i < f->kframes.cap; i++) {
		struct map64_slot *slot = &f->kframes.slot[i];
		struct symbol sym;

		if (!slot->key || slot->value == FREEZE_NAMED)
			continue;
		if (symbols_find(s, slot->key, &sym) < 0 || (which == KERNEL_NAMES_OWN_TEXT && *sym.module)) {
			left++;
			continue;
		}
		slot->value = FREEZE_NAMED;
		out[n++] = (struct bundle_symbol){ slot->key, sym.start, sym.name, sym.module };
		if (n == BATCH) {
			bundle_writer_symbols(f->w, 0, "kallsyms", out, n);
			n = 0;
		}
	}
	if (n)
		bundle_writer_symbols(f->w, 0, "kallsyms", out, n);
	return left;
}
