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

struct found {
	struct go_function *functions;
	size_t n;
};

/* One of those that are known, with or without the ".abi0" of .symtab. False: another one. */
static bool role_of(const char *name, size_t max, enum go_role *ret)
{
	static const char prefix[] = "runtime.", abi[] = ".abi0";
	size_t len;

	if (max < sizeof(prefix) || memcmp(name, prefix, sizeof(prefix) - 1))
		return false;
	len = strnlen(name, SB_MIN(max, (size_t)64));
	if (len == max)
		return false;
	if (len > sizeof(abi) && !memcmp(name + len - (sizeof(abi) - 1), abi, sizeof(abi) - 1))
		len -= sizeof(abi) - 1;
	for (size_t i = 0; i < SB_ARRAY_SIZE(known); i++) {
		if (strlen(known[i].name) == len && !memcmp(known[i].name, name, len)) {
			*ret = known[i].role;
			return true;
		}
	}
	return false;
}

static bool take_known(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max)
{
	struct found *f = ctx;
	enum go_role role;

	if (role_of(name, max, &role))
		f->functions[f->n++] = (struct go_function){ .addr = addr, .size = size, .role = role };
	return f->n < GO_FUNCTIONS;
}

/* From an offset to the end; none where that lies behind it. */
static struct cursor part(const uint8_t *data, size_t len, uint64_t offset)
{
	struct cursor c = { .p = data, .end = data + len };

	cursor_skip(&c, offset);
	return c;
}

bool go_table_open(const uint8_t *table, size_t len, struct go_table *ret)
{
	struct cursor head = { .p = table, .end = table + len };
	uint32_t magic = (uint32_t)cursor_take(&head, 4);
	struct go_table t = { .data = table,
			      .len = len,
			      .word = magic == GO_1_16 ? 8 : 4,
			      .counts_from_text = magic != GO_1_16 };

	cursor_skip(&head, 3);
	if ((magic != GO_1_16 && magic != GO_1_18 && magic != GO_1_20) || cursor_take(&head, 1) != 8)
		return false;
	t.n = cursor_take(&head, 8);
	t.n = SB_MIN(t.n, (uint64_t)MAX_FUNCTIONS);
	cursor_skip(&head, 8); /* files */
	if (t.counts_from_text)
		t.text = cursor_take(&head, 8);
	t.names = cursor_take(&head, 8);
	cursor_skip(&head, 2 * 8); /* units, files */
	t.values = cursor_take(&head, 8);
	t.list = cursor_take(&head, 8);
	if (head.bad)
		return false;
	*ret = t;
	return true;
}

uint64_t go_table_first(const struct go_table *t)
{
	struct cursor list = part(t->data, t->len, t->list);

	return cursor_take(&list, t->word);
}

/* They set the stack pointer without Go's assembler knowing it. */
static bool moves_stack(const char *name, size_t max)
{
	static const char *const names[] = { "gogo", "runtime.clone" };
	enum go_role role;

	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		if (max > strlen(names[i]) && !memcmp(name, names[i], strlen(names[i]) + 1))
			return true;
	}
	return role_of(name, max, &role);
}

struct reading {
	go_function_fn take;
	void *ctx;
	bool frameless; /* those alone */
};

/* How far the stack pointer is from where it was at the start, by pc: a number for each stretch of code,
 * as difference to the one before, then the length (Go's src/runtime/symtab.go, step()). It is 0 all along where the
 * first stretch, from -1 on, is the last one. */
static bool is_frameless(const struct go_table *t, uint64_t depths)
{
	struct cursor c = part(t->data, t->len, t->values);

	cursor_skip(&c, depths);
	if (!depths || cursor_uleb(&c) != 2) /* 1, and no sign */
		return false;
	cursor_uleb(&c);
	return cursor_take(&c, 1) == 0 && !c.bad;
}

static void read_table(const struct go_table *t, const struct reading *r)
{
	struct cursor list = part(t->data, t->len, t->list);
	/* Start and what is known of each, and the end of the last one. */
	uint64_t next = cursor_take(&list, t->word);

	for (uint64_t i = 0; i < t->n && !list.bad; i++) {
		uint64_t start = next, at = cursor_take(&list, t->word), name;
		struct cursor c = part(t->data, t->len, t->list);

		next = cursor_take(&list, t->word);
		cursor_skip(&c, at);
		cursor_skip(&c, t->word); /* its start once more */
		name = cursor_take(&c, 4);
		if (list.bad || c.bad || next <= start)
			continue;
		if (r->frameless) {
			cursor_skip(&c, 2 * 4); /* arguments, deferred calls */
			if (!is_frameless(t, cursor_take(&c, 4)))
				continue;
		}
		c = part(t->data, t->len, t->names);
		cursor_skip(&c, name);
		if (r->frameless && moves_stack((const char *)c.p, cursor_left(&c)))
			continue;
		if (!r->take(r->ctx, t->text + start, next - start, (const char *)c.p, cursor_left(&c)))
			return;
	}
}

void go_table_each(const struct go_table *t, go_function_fn take, void *ctx)
{
	read_table(t, &(struct reading){ .take = take, .ctx = ctx });
}

void go_table_each_frameless(const struct go_table *t, go_function_fn take, void *ctx)
{
	read_table(t, &(struct reading){ .take = take, .ctx = ctx, .frameless = true });
}

size_t go_functions_by_table(const struct go_table *t, struct go_function ret[static GO_FUNCTIONS])
{
	struct found found = { .functions = ret };

	go_table_each(t, take_known, &found);
	return found.n;
}

size_t go_functions_by_symbols(const uint8_t *symbols, size_t len, const uint8_t *names,
			       size_t names_len, struct go_function ret[static GO_FUNCTIONS])
{
	struct found found = { .functions = ret };

	for (size_t at = 0; len - at >= sizeof(Elf64_Sym); at += sizeof(Elf64_Sym)) {
		struct cursor name;
		Elf64_Sym s;

		memcpy(&s, symbols + at, sizeof(s));
		if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || !s.st_size)
			continue;
		name = part(names, names_len, s.st_name);
		if (!take_known(&found, s.st_value, s.st_size, (const char *)name.p, cursor_left(&name)))
			break;
	}
	return found.n;
}
