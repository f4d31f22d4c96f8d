// SPDX-License-Identifier: BSD-2-Clause
#include <elf.h>
#include <errno.h>

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
/* Read and thrown away in all; a large program has 0.6 M, each read twice. */
#define MAX_STRETCHES 20000000u

/* Bits of what is known of a function (Go's src/runtime/symtab.go). */
enum {
	FLAG_TOP = 1,	   /* a stack ends there */
	FLAG_SETS_SP = 2, /* in a way that the table does not follow */
};

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
	{ "runtime.asmcgocall", GO_CALLS_C },
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
	/* Behind its start, eight numbers, from Go 1.20 on nine, and what kind of function it is. */
	t.flags = t.word + 8 * 4 + (magic == GO_1_20 ? 4 : 0) + 1;
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

/* One function of the table. */
struct function {
	uint64_t addr, size;
	const char *name; /* at most max bytes */
	size_t max;
	struct cursor known; /* its start, and what else is known of it */
};

typedef bool (*function_fn)(void *ctx, const struct function *f);

static void read_table(const struct go_table *t, function_fn take, void *ctx)
{
	struct cursor list = part(t->data, t->len, t->list);
	/* Start and what is known of each, and the end of the last one. */
	uint64_t next = cursor_take(&list, t->word);

	for (uint64_t i = 0; i < t->n && !list.bad; i++) {
		uint64_t start = next, at = cursor_take(&list, t->word);
		struct function f = { .known = part(t->data, t->len, t->list) };
		struct cursor c;

		next = cursor_take(&list, t->word);
		cursor_skip(&f.known, at);
		c = f.known;
		cursor_skip(&c, t->word); /* its start once more */
		at = cursor_take(&c, 4);
		if (list.bad || c.bad || next <= start)
			continue;
		c = part(t->data, t->len, t->names);
		cursor_skip(&c, at);
		f.addr = t->text + start;
		f.size = next - start;
		f.name = (const char *)c.p;
		f.max = cursor_left(&c);
		if (!take(ctx, &f))
			return;
	}
}

struct told {
	go_function_fn take;
	void *ctx;
};

static bool tell(void *ctx, const struct function *f)
{
	const struct told *t = ctx;

	return t->take(t->ctx, f->addr, f->size, f->name, f->max);
}

void go_table_each(const struct go_table *t, go_function_fn take, void *ctx)
{
	read_table(t, tell, &(struct told){ .take = take, .ctx = ctx });
}

/* ---- stack depths ------------------------------------------------------------------------ */

struct reading {
	const struct go_table *t;
	go_code_fn code;
	go_stretch_fn take;
	void *ctx;
	bool flags; /* are where they are expected */
	uint32_t n; /* stretches read */
};

static uint8_t flags_of(const struct go_table *t, const struct function *f)
{
	struct cursor c = f->known;

	cursor_skip(&c, t->flags);
	return (uint8_t)cursor_take(&c, 1);
}

static bool is_called(const struct function *f, const char *name)
{
	return f->max > strlen(name) && !memcmp(f->name, name, strlen(name) + 1);
}

/* Each program has goexit, and stacks end there. */
static bool look_for_flags(void *ctx, const struct function *f)
{
	struct reading *r = ctx;

	if (!is_called(f, "runtime.goexit"))
		return true;
	r->flags = flags_of(r->t, f) & FLAG_TOP;
	return false;
}

/* They set the stack pointer without the table following it. */
static bool moves_stack(const struct reading *r, const struct function *f)
{
	enum go_role role;

	if (role_of(f->name, f->max, &role))
		return true;
	return r->flags ? flags_of(r->t, f) & FLAG_SETS_SP : is_called(f, "gogo") || is_called(f, "runtime.clone");
}

/* How far the stack pointer is from where it was at the start, by pc: a number for each stretch of code,
 * as difference to the one before, beginning with -1, then the length (Go's src/runtime/symtab.go, step()). */
struct depths {
	struct cursor c;
	uint64_t pc, end;
	int64_t depth;
	bool any;
};

static bool open_depths(const struct reading *r, const struct function *f, struct depths *ret)
{
	struct cursor c = f->known;
	uint64_t at;

	cursor_skip(&c, r->t->word + 3 * 4); /* its start, its name, arguments, deferred calls */
	at = cursor_take(&c, 4);
	*ret = (struct depths){ .c = part(r->t->data, r->t->len, r->t->values), .pc = f->addr, .end = f->addr + f->size,
				.depth = -1 };
	cursor_skip(&ret->c, at);
	return at && !c.bad && !ret->c.bad;
}

/* 1: there is one more; 0: that was the last one; -EBADMSG: it makes no sense. */
static int next_depth(struct depths *d, struct go_stretch *ret)
{
	uint64_t step = cursor_uleb(&d->c), n;

	if (!step && d->any)
		return d->c.bad ? -EBADMSG : 0;
	n = cursor_uleb(&d->c);
	if (d->c.bad || step > UINT32_MAX || !n || n > d->end - d->pc)
		return -EBADMSG;
	d->depth += step & 1 ? -(int64_t)(step >> 1) - 1 : (int64_t)(step >> 1);
	if (d->depth < 0 || d->depth > GO_DEPTH_MAX || d->depth & 7)
		return -EBADMSG;
	*ret = (struct go_stretch){ .addr = d->pc, .size = n, .depth = (uint32_t)d->depth, .fp_saved = d->depth > 0 };
	d->pc += n;
	d->any = true;
	return 1;
}

/*
 * How many bytes behind where the stack first grows the frame pointer is saved right below the return address: "push rbp" has
 * done so, as Go 1.21 and later begin; up to 1.20 "mov rbp, depth - 8(rsp)" does it behind. -EINVAL: it begins in another way.
 */
static int saves_fp(const struct reading *r, const struct go_stretch *grown)
{
	static const uint8_t at_8[] = { 0x48, 0x89, 0x6c, 0x24 }, at_32[] = { 0x48, 0x89, 0xac, 0x24 },
			     at_0[] = { 0x48, 0x89, 0x2c, 0x24 };
	uint32_t slot = grown->depth - 8;
	uint8_t code[9];

	if (!r->code(r->ctx, grown->addr - 1, code, sizeof(code)))
		return -EINVAL;
	if (!slot && code[0] == 0x55)
		return 0;
	if (!slot && !memcmp(code + 1, at_0, sizeof(at_0)))
		return sizeof(at_0);
	if (slot < 128 && !memcmp(code + 1, at_8, sizeof(at_8)) && code[5] == slot)
		return sizeof(at_8) + 1;
	if (slot >= 128 && !memcmp(code + 1, at_32, sizeof(at_32)) && !memcmp(code + 5, &slot, sizeof(slot)))
		return sizeof(at_32) + sizeof(slot);
	return -EINVAL;
}

/* All of its stretches make sense. ret_saves: as above. */
static bool is_told(struct reading *r, const struct function *f, int *ret_saves)
{
	struct go_stretch s;
	struct depths d;
	int more, saves = 0;
	size_t n = 0;

	if (!open_depths(r, f, &d))
		return false;
	while ((more = next_depth(&d, &s)) > 0) {
		if (r->n++ == MAX_STRETCHES || (!n && s.depth))
			return false;
		if (n++ == 1)
			saves = r->flags ? saves_fp(r, &s) : -EINVAL;
		if (saves < 0 || (n == 2 && (uint64_t)saves >= s.size))
			return false;
	}
	*ret_saves = saves;
	return more == 0;
}

/* The last one goes on to the next function: what lies between is padding. */
static bool tell_stretches(void *ctx, const struct function *f)
{
	struct reading *r = ctx;
	struct go_stretch last, next;
	struct depths d;
	size_t n = 0;
	int saves;

	if (moves_stack(r, f) || !is_told(r, f, &saves))
		return r->n <= MAX_STRETCHES;
	open_depths(r, f, &d);
	next_depth(&d, &last);
	while (next_depth(&d, &next) > 0) {
		if (!r->take(r->ctx, &last))
			return false;
		last = next;
		if (n++ || !saves)
			continue;
		next.size = (uint64_t)saves;
		next.fp_saved = false;
		if (!r->take(r->ctx, &next))
			return false;
		last.addr += next.size;
		last.size -= next.size;
	}
	last.size = d.end - last.addr;
	return r->take(r->ctx, &last);
}

void go_table_each_stretch(const struct go_table *t, go_code_fn code, go_stretch_fn take, void *ctx)
{
	struct reading r = { .t = t, .code = code, .take = take, .ctx = ctx };

	read_table(t, look_for_flags, &r);
	read_table(t, tell_stretches, &r);
}

/* ---- C on the thread's stack --------------------------------------------------------------- */

/* mov r64, offset(rsp). Returns its length, 0: that is not there. */
static size_t is_store(const uint8_t *code, size_t len, uint8_t reg, uint8_t *ret_offset)
{
	uint8_t modrm = (uint8_t)(reg << 3 | 4);

	if (len < 5 || code[0] != 0x48 || code[1] != 0x89 || (code[2] & 0x3f) != modrm || code[3] != 0x24)
		return 0;
	*ret_offset = code[2] >> 6 ? code[4] : 0;
	return code[2] >> 6 == 0 ? 4 : code[2] >> 6 == 1 ? 5 : 0;
}

#define RDX 2u
#define RDI 7u

/* The goroutine is kept, then the distance: mov rdi, offset + 8(rsp); mov 8(rdi), rdi; sub rdx, rdi; mov rdi, offset(rsp). Or
 * none: movq $0, offset + 8(rsp); mov rdx, offset(rsp). Returns the length, 0: neither. */
static size_t is_switch(const uint8_t *code, size_t len, uint8_t *ret_offset)
{
	static const uint8_t distance[] = { 0x48, 0x8b, 0x7f, 0x08, 0x48, 0x29, 0xd7 },
			     none[] = { 0x48, 0xc7, 0x44, 0x24 };
	uint8_t g = 0, offset = 0;
	size_t at, n;

	at = is_store(code, len, RDI, &g);
	if (at && len - at > sizeof(distance) && !memcmp(code + at, distance, sizeof(distance))) {
		at += sizeof(distance);
		n = is_store(code + at, len - at, RDI, &offset);
	} else if (len > 9 && !memcmp(code, none, sizeof(none)) && !memcmp(code + 5, "\0\0\0", 4)) {
		g = code[4];
		at = 9;
		n = is_store(code + at, len - at, RDX, &offset);
	} else {
		return 0;
	}
	*ret_offset = offset;
	return n && offset < 120 && g == offset + 8 ? at + n : 0;
}

/* In between stands what the function calls, and at the end it goes back: mov rsi, rsp. */
size_t go_switched_find(const uint8_t *code, size_t len, struct go_switched ret[static GO_SWITCHED])
{
	static const uint8_t takes[] = { 0x48, 0x89, 0xe2 }, back[] = { 0x48, 0x89, 0xf4 };
	const uint8_t *p = memmem(code, len, takes, sizeof(takes));
	size_t n = 0;

	/* A frame of its own keeps rbp, which leads to it. */
	if (!p || !len || code[0] == 0x55)
		return 0;
	for (size_t at = (size_t)(p - code); at < len && n < GO_SWITCHED; at++) {
		struct go_switched s = { .from = at + is_switch(code + at, len - at, &s.offset) };

		if (s.from == at)
			continue;
		p = memmem(code + s.from, len - s.from, back, sizeof(back));
		if (!p)
			return 0;
		s.to = (size_t)(p - code);
		ret[n++] = s;
		at = s.to;
	}
	return n;
}

/* ---- functions of the runtime --------------------------------------------------------------- */

static bool take_known(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max)
{
	struct found *f = ctx;
	enum go_role role;

	if (role_of(name, max, &role))
		f->functions[f->n++] = (struct go_function){ .addr = addr, .size = size, .role = role };
	return f->n < GO_FUNCTIONS;
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
