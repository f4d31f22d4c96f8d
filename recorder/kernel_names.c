// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/kernel_names.h"

#include <stdio.h>

#include "recorder/known.h"
#include "recorder/notes.h"

#define BATCH 512

/* Which build of each module the names are of: enough to find its source lines elsewhere. */
static void note_modules(struct freeze *f, const struct bundle_symbol *s, size_t n, struct map64 *seen)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t key = sb_hash_bytes(s[i].module, strlen(s[i].module)) | 1;
		uint8_t id[32];
		char path[256];
		size_t len;

		if (!s[i].module[0] || strchr(s[i].module, '/') || map64_get(seen, key))
			continue;
		map64_put(seen, key, 1);
		snprintf(path, sizeof(path), "/sys/module/%s/notes/.note.gnu.build-id", s[i].module);
		len = notes_build_id(path, id, sizeof(id));
		if (len)
			bundle_writer_binary(f->w, s[i].module, id, len, 3);
	}
}

static bool find(const struct freeze *f, const struct symbols *s, enum kernel_names_of which, uint64_t addr,
		 struct bundle_symbol *ret)
{
	const struct known_ksym *gone;
	struct symbol sym;

	if (symbols_find(s, addr, &sym) == 0) {
		*ret = (struct bundle_symbol){ addr, sym.start, sym.name, sym.module };
		return which == KERNEL_NAMES_ALL || !*sym.module;
	}
	/* BPF programs come and go: one that is gone has told its name. */
	gone = which == KERNEL_NAMES_ALL && f->known ? known_ksym(f->known, addr) : NULL;
	if (gone)
		*ret = (struct bundle_symbol){ addr, gone->start, gone->name, "bpf" };
	return gone;
}

size_t kernel_names_write(struct freeze *f, const struct symbols *s, enum kernel_names_of which)
{
	struct bundle_symbol out[BATCH];
	struct map64 modules = {};
	size_t n = 0, left = 0;

	for (size_t i = 0; i <= f->kframes.cap; i++) {
		struct map64_slot *slot = i < f->kframes.cap ? &f->kframes.slot[i] : NULL;

		if (slot && slot->key && slot->value != FREEZE_NAMED) {
			if (find(f, s, which, slot->key, &out[n])) {
				slot->value = FREEZE_NAMED;
				n++;
			} else {
				left++;
			}
		}
		if (n == BATCH || (n && !slot)) {
			bundle_writer_symbols(f->w, 0, "kallsyms", out, n);
			note_modules(f, out, n, &modules);
			n = 0;
		}
	}
	map64_done(&modules);
	return left;
}
