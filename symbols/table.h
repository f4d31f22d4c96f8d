/* SPDX-License-Identifier: BSD-2-Clause */
/* How a loader fills a symbol table; internal to symbols/. */
#ifndef SB_SYMBOLS_TABLE_H
#define SB_SYMBOLS_TABLE_H

#include "format/base.h"
#include "symbols/symbols.h"

enum symbol_flags {
	SYMBOL_OPEN = 1 << 0, /* size unknown: ends at the next symbol or after len */
	SYMBOL_EDGE = 1 << 1, /* only ends the symbol before it, has no name to give */
	SYMBOL_STOP = 1 << 2, /* an edge that also hides every name at its address */
};

struct symbol_entry {
	uint64_t start;
	uint32_t len;
	uint32_t name;	 /* offset into the names */
	uint32_t module; /* offset into the names, 0: "" */
	uint8_t rank;	 /* the higher one names an address that has several symbols */
	uint8_t flags;
};

struct symbol_builder {
	struct symbol_entry *entries;
	size_t cnt, cap;
	char *names; /* NUL-terminated strings, from one to all of them */
	size_t names_len, names_cap;
};

void symbol_builder_done(struct symbol_builder *b);

/* -E2BIG above SYMBOLS_MAX_ENTRIES. */
int symbol_builder_add(struct symbol_builder *b, const struct symbol_entry *e);

/* Copies len bytes and a NUL to the names. */
int symbol_builder_name(struct symbol_builder *b, const char *name, size_t len, uint32_t *ret);

/* Sorts, picks one symbol per address, moves the names into the table. -ENODATA: none left. */
int symbol_builder_finish(struct symbol_builder *b, struct symbols **ret);

/* Leading underscores make a name less telling: 3 for none, 0 for three and more. */
uint8_t symbol_rank_underscores(const char *name);

#endif
