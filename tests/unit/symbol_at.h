/* SPDX-License-Identifier: BSD-2-Clause */
/* What a table of symbols says of an address. Included after cmocka.h. */
#ifndef SB_TESTS_UNIT_SYMBOL_AT_H
#define SB_TESTS_UNIT_SYMBOL_AT_H

#include "symbols/symbols.h"

/* name: NULL: nothing is there. */
static inline void expect_at(const struct symbols *s, uint64_t addr, const char *name)
{
	struct symbol found = { .name = "-" };
	int r = symbols_find(s, addr, &found);

	if (r != (name ? 0 : -ENOENT) || strcmp(found.name, name ? name : "-"))
		fail_msg("0x%llx: got %d, %s; expected %s", (unsigned long long)addr, r, found.name,
			 name ? name : "nothing");
}

#endif
