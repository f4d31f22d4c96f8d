// SPDX-License-Identifier: BSD-2-Clause
#include <elf.h>

#include "unwind/cursor.h"
#include "unwind/go.h"

/* Magic numbers of the table (Go's src/debug/gosym/pclntab.go). */
enum {
	GO_1_16 = 0xfffffffa,
	GO_1_18 = 0xfffffff0,
	GO_1_20 = 0xfffffff1, /* differs behind what is read here */
};

/* As many as FDEs of a file (CFI_LIMITS_DEFAULT); a large program has 0.1 M. */
#define MAX_FUNCTIONS 1000000u

/*
 * systemstack() and asmcgocall() run a function on the thread's own stack while the goroutine that
 * called them waits on its stack, in this thread: the frame pointer is the goroutine's. mcall() and
 * morestack() leave a goroutine that may run in another thread by now: Go's traceback ends there,
 * too. The others are the first function of their stack.
 */
static const struct {
	const char *name;
	enum go_role role;
} known[] = {
	{ "runtime.systemstack", GO_OTHER_STACK },
	{ "runtime.asmcgocall", GO_OTHER_STACK },
	{ "runtime.mcall", GO_ENDS },
	{ "runtime.morestack", GO_ENDS },
	{ "runtime.goexit", GO_ENDS },
	{ "runtime.mstart", GO_ENDS },
	{ "runtime.rt0_go", GO_ENDS },
	{ "runtime.sigtramp", GO_ENTRY },
	{ "runtime.cgoSigtramp", GO_JUMPS },
	{ "runtime.sigreturn", GO_SIGRETURN },
	{ "runtime.sigreturn__sigaction", GO_SIGRETURN }, /* from Go 1.21 on */
};

/* Takes a function whose name stands at p, with or without the ".abi0" of .symtab. */
static void take_named(struct cursor name, uint64_t addr, uint64_t size, struct go_function *ret,
		       size_t *n)
{
	static const char prefix[] = "runtime.", abi[] = ".abi0";
	size_t len;

	if (cursor_left(&name) < sizeof(prefix) || memcmp(name.p, prefix, sizeof(prefix) - 1))
		return;
	len = strnlen((const char *)name.p, SB_MIN(cursor_left(&name), (size_t)64));
	if (len == cursor_left(&name) || !size || *n == GO_FUNCTIONS)
		return;
	if (len > sizeof(abi) && !memcmp(name.p + len - (sizeof(abi) - 1), abi, sizeof(abi) - 1))
		len -= sizeof(abi) - 1;
	for (size_t i = 0; i < SB_ARRAY_SIZE(known); i++) {
		if (strlen(known[i].name) == len && !memcmp(known[i].name, name.p, len)) {
			ret[(*n)++] = (struct go_function){ .addr = addr,
							    .size = size,
							    .role = known[i].role };
			return;
		}
	}
}

/* From an offset to the end; none where that lies behind it. */
static struct cursor part(const uint8_t *data, size_t len, uint64_t offset)
{
	struct cursor c = { .p = data, .end = data + len };

	cursor_skip(&c, offset);
	return c;
}

size_t go_functions_by_table(const uint8_t *table, size_t len,
			     struct go_function ret[static GO_FUNCTIONS])
{
	struct cursor head = { .p = table, .end = table + len }, list;
	uint32_t magic = (uint32_t)cursor_take(&head, 4);
	size_t word = magic == GO_1_16 ? 8 : 4, found = 0;
	uint64_t n, text = 0, names, code, next;

	cursor_skip(&head, 3);
	if ((magic != GO_1_16 && magic != GO_1_18 && magic != GO_1_20) || cursor_take(&head, 1) != 8)
		return 0;
	n = cursor_take(&head, 8);
	n = SB_MIN(n, (uint64_t)MAX_FUNCTIONS);
	cursor_skip(&head, 8); /* files */
	if (magic != GO_1_16)
		text = cursor_take(&head, 8);
	names = cursor_take(&head, 8);
	cursor_skip(&head, 3 * 8); /* units, files, values by pc */
	code = cursor_take(&head, 8);
	if (head.bad || (magic != GO_1_16 && !text))
		return 0;
	/* Start and what is known of each, and the end of the last one. */
	list = part(table, len, code);
	next = cursor_take(&list, word);
	for (uint64_t i = 0; i < n && !list.bad; i++) {
		uint64_t start = next, at = cursor_take(&list, word);
		struct cursor function = part(table, len, code);

		next = cursor_take(&list, word);
		cursor_skip(&function, at);
		cursor_skip(&function, word); /* its start once more */
		at = cursor_take(&function, 4);
		if (list.bad || function.bad || next < start)
			continue;
		function = part(table, len, names);
		cursor_skip(&function, at);
		take_named(function, text + start, next - start, ret, &found);
	}
	return found;
}

size_t go_functions_by_symbols(const uint8_t *symbols, size_t len, const uint8_t *names,
			       size_t names_len, struct go_function ret[static GO_FUNCTIONS])
{
	size_t found = 0;

	for (size_t at = 0; len - at >= sizeof(Elf64_Sym); at += sizeof(Elf64_Sym)) {
		Elf64_Sym s;

		memcpy(&s, symbols + at, sizeof(s));
		if (ELF64_ST_TYPE(s.st_info) == STT_FUNC)
			take_named(part(names, names_len, s.st_name), s.st_value, s.st_size, ret, &found);
	}
	return found;
}
