// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>

#include "tools/escape.h"
#include "tools/fold.h"

static void print_row(struct fold *f, const struct fold_row *r, char **escaped, FILE *out)
{
	uint32_t ids[FOLD_MAX_FRAMES], n = fold_frames(f, r, ids, FOLD_MAX_FRAMES);

	for (uint32_t i = 0; i < n; i++) {
		if (i)
			putc(';', out);
		fputs(escaped && ids[i] ? escaped[ids[i] - 1] : "?", out);
		if (names_class(&f->names, ids[i]) == FRAME_KERNEL)
			fputs("_[k]", out); /* as stackcollapse does with --kernel */
	}
	fprintf(out, " %llu\n", (unsigned long long)r->weight);
}

static void free_names(char **list, uint32_t n)
{
	for (uint32_t i = 0; list && i < n; i++)
		free(list[i]);
	free(list);
}

/* Every name is escaped once, not once per line. */
static char **escape_names(const struct names *names)
{
	char **list = calloc(names->n + 1u, sizeof(*list));
	char text[2048];

	for (uint32_t i = 0; list && i < names->n; i++) {
		escape_copy(text, sizeof(text), ESCAPE_FOLDED, names->list[i].text);
		list[i] = strdup(text);
		if (!list[i]) {
			free_names(list, i);
			return NULL;
		}
	}
	return list;
}

int fold_print(struct fold *f, FILE *out)
{
	char **escaped = escape_names(&f->names);

	if (!escaped)
		return -ENOMEM;
	for (size_t i = 0; i < f->n; i++)
		print_row(f, &f->row[i], escaped, out);
	free_names(escaped, f->names.n);
	return 0;
}
