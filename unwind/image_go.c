// SPDX-License-Identifier: BSD-2-Clause
/* What is read of a Go file: the table of its functions, and where the code is that it counts from. */
#include <errno.h>

#include "unwind/go.h"
#include "unwind/image_internal.h"

/* Of .rela.dyn; a large program has a million. */
#define MAX_RELOCATIONS 2000000u
#define TABLE_ALIGN 32u

static bool has_bytes(const Elf64_Shdr *sh)
{
	return sh->sh_type != SHT_NOBITS && !(sh->sh_flags & SHF_COMPRESSED) && sh->sh_size &&
	       sh->sh_size <= UNWIND_GO_BYTES;
}

static int read_section(const struct image_layout *l, const Elf64_Shdr *sh, uint8_t **ret)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	int r;

	/* Before memory is taken for it. */
	if (sh->sh_offset > l->src.len || sh->sh_size > l->src.len - sh->sh_offset)
		return -EBADMSG;
	bytes = malloc(sh->sh_size);
	if (!bytes)
		return -ENOMEM;
	r = image_read_at(&l->src, sh->sh_offset, bytes, sh->sh_size);
	if (r == 0)
		*ret = TAKE_PTR(bytes);
	return r;
}

/* ---- where the code is ---------------------------------------------------------------- */

/* A word of the file, which the dynamic linker may have to fill in. */
struct word {
	uint64_t addr, value;
};

static bool is_rela(const Elf64_Shdr *sh)
{
	return sh->sh_type == SHT_RELA && sh->sh_entsize == sizeof(Elf64_Rela);
}

static int relocate(const struct image_layout *l, enum cfi_machine machine, struct word *words, size_t n)
{
	uint32_t relative = machine == CFI_X86_64 ? R_X86_64_RELATIVE : R_AARCH64_RELATIVE;
	const Elf64_Shdr *sh = image_section(l, ".rela.dyn", is_rela);
	uint64_t left = sh ? SB_MIN(sh->sh_size / sizeof(Elf64_Rela), (uint64_t)MAX_RELOCATIONS) : 0;
	uint64_t offset = sh ? sh->sh_offset : 0;
	Elf64_Rela rela[512];

	while (left) {
		size_t some = SB_MIN(left, SB_ARRAY_SIZE(rela));
		int r = image_read_at(&l->src, offset, rela, some * sizeof(rela[0]));

		if (r < 0)
			return r;
		for (size_t i = 0; i < some; i++) {
			for (size_t w = 0; w < n; w++) {
				if (rela[i].r_offset == words[w].addr && ELF64_R_TYPE(rela[i].r_info) == relative)
					words[w].value = (uint64_t)rela[i].r_addend;
			}
		}
		left -= some;
		offset += some * sizeof(rela[0]);
	}
	return 0;
}

/* Words of runtime.moduledata that have been there from Go 1.16 on (Go's src/runtime/symtab.go). */
enum {
	MODULE_TABLE = 0,
	MODULE_FIRST = 20, /* address of the first function */
	MODULE_TEXT = 22,
};

/*
 * What the table counts from: in its header; from Go 1.26 on in the module's data, which have a section of their own since
 * then. In a file that the C linker made to be moved the dynamic linker fills in both. The module's
 * data must be of this table and agree with it. 0: not known.
 */
static int find_text(const struct image_layout *l, enum cfi_machine machine, uint64_t table,
		     const struct go_table *t, uint64_t *ret)
{
	const Elf64_Shdr *module = image_section(l, ".go.module", has_bytes);
	uint64_t data[MODULE_TEXT + 1] = {}, addr = module ? module->sh_addr : 0;
	struct word words[] = { { .addr = table + GO_HEADER_TEXT },
				{ .addr = addr + 8 * MODULE_TABLE },
				{ .addr = addr + 8 * MODULE_FIRST },
				{ .addr = addr + 8 * MODULE_TEXT } };
	int r;

	if (module && module->sh_size >= sizeof(data)) {
		r = image_read_at(&l->src, module->sh_offset, data, sizeof(data));
		if (r < 0)
			return r;
	}
	words[1].value = data[MODULE_TABLE];
	words[2].value = data[MODULE_FIRST];
	words[3].value = data[MODULE_TEXT];
	if (!data[MODULE_TEXT]) {
		r = relocate(l, machine, words, module ? SB_ARRAY_SIZE(words) : 1);
		if (r < 0)
			return r;
	}
	if (words[0].value)
		*ret = words[0].value;
	else if (words[1].value == table && words[2].value == words[3].value + go_table_first(t))
		*ret = words[3].value;
	return 0;
}

/* 1: there is one, whose bytes are in ret_bytes; 0: none that can be used. */
static int read_table(const struct image_layout *l, enum cfi_machine machine, uint8_t **ret_bytes,
		      struct go_table *ret)
{
	static const char *const sections[] = { ".gopclntab", ".data.rel.ro.gopclntab", ".data.rel.ro" };
	const Elf64_Shdr *sh = NULL;
	uint64_t at = 0;
	size_t i;
	int r;

	for (i = 0; !sh && i < SB_ARRAY_SIZE(sections); i++)
		sh = image_section(l, sections[i], has_bytes);
	if (!sh)
		return 0;
	r = read_section(l, sh, ret_bytes);
	if (r < 0)
		return r;
	while (!go_table_open(*ret_bytes + at, sh->sh_size - at, ret)) {
		/* The last one is where the C linker puts it with other data, up to Go 1.25. */
		at += TABLE_ALIGN;
		if (i < SB_ARRAY_SIZE(sections) || at >= sh->sh_size)
			return 0;
	}
	if (ret->counts_from_text && !ret->text)
		r = find_text(l, machine, sh->sh_addr + at, ret, &ret->text);
	return r < 0 ? r : !ret->counts_from_text || ret->text;
}

/* ---- marks ---------------------------------------------------------------------------- */

/* Its code as it is in the file, in pieces: who asks goes forward. */
struct code {
	const struct image_layout *l;
	struct unwind_image *image;
	uint64_t offset; /* of the piece */
	size_t len;
	uint8_t piece[4096];
};

static bool read_code(void *ctx, uint64_t addr, uint8_t *ret, size_t len)
{
	struct code *c = ctx;
	uint64_t offset;

	if (unwind_image_offset(c->image, addr, &offset) < 0 || offset > c->l->src.len || len > c->l->src.len - offset)
		return false;
	if (offset - c->offset > c->len || len > c->len - (offset - c->offset)) {
		c->len = SB_MIN(sizeof(c->piece), c->l->src.len - offset);
		c->offset = offset;
		if (image_read_at(&c->l->src, offset, c->piece, c->len) < 0)
			c->len = 0;
	}
	if (len > c->len)
		return false;
	memcpy(ret, c->piece + (offset - c->offset), len);
	return true;
}

/* Where asmcgocall() tells on its stack where its caller waits; elsewhere it is the frame pointer that may know. */
static void mark_calls_c(struct code *c, const struct go_function *f, uint64_t offset)
{
	struct go_switched switched[GO_SWITCHED];
	uint8_t bytes[512];
	size_t len = SB_MIN(f->size, sizeof(bytes)), n = 0, at = 0;

	if (c->image->machine == CFI_X86_64 && read_code(c, f->addr, bytes, len))
		n = go_switched_find(bytes, len, switched);
	for (size_t i = 0; i < n; i++) {
		image_mark(c->image, offset + at, switched[i].from - at, UNWIND_MARK_OTHER_STACK, 0);
		image_mark(c->image, offset + switched[i].from, switched[i].to - switched[i].from, UNWIND_MARK_SWITCHED,
			   switched[i].offset);
		at = switched[i].to;
	}
	image_mark(c->image, offset + at, f->size - at, UNWIND_MARK_OTHER_STACK, 0);
}

static void mark_go(struct code *c, const struct go_function *f)
{
	struct unwind_image *image = c->image;
	uint64_t offset;

	if (unwind_image_offset(image, f->addr, &offset) < 0)
		return;
	if (f->role == GO_ENDS)
		image_mark(image, offset, f->size, UNWIND_MARK_ENDS, 0);
	else if (f->role == GO_OTHER_STACK)
		image_mark(image, offset, f->size, UNWIND_MARK_OTHER_STACK, 0);
	else if (f->role == GO_CALLS_C)
		mark_calls_c(c, f, offset);
	else if (f->role == GO_SIGRETURN && image->machine == CFI_X86_64) /* arm64: in the vdso */
		image_mark_sigreturn(image, offset, f->size);
	else if (f->role == GO_ENTRY || f->role == GO_JUMPS)
		image_mark(image, offset, f->role == GO_ENTRY ? 1 : f->size, UNWIND_MARK_DEPTH, 0);
}

static void mark_all(struct code *c, const struct go_function *found, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mark_go(c, &found[i]);
}

static int go_by_symbols(struct code *c)
{
	const struct image_layout *l = c->l;
	struct go_function found[GO_FUNCTIONS];
	const Elf64_Shdr *sh = image_section(l, ".symtab", has_bytes);
	_cleanup_free_ uint8_t *symbols = NULL, *names = NULL;
	int r;

	if (!sh || sh->sh_link >= l->n_sh || !has_bytes(&l->sh[sh->sh_link]) ||
	    sh->sh_size + l->sh[sh->sh_link].sh_size > UNWIND_GO_BYTES)
		return 0;
	r = read_section(l, sh, &symbols);
	if (r == 0)
		r = read_section(l, &l->sh[sh->sh_link], &names);
	if (r == 0)
		mark_all(c, found, go_functions_by_symbols(symbols, sh->sh_size, names,
							       l->sh[sh->sh_link].sh_size, found));
	return r;
}

static bool mark_stretch(void *ctx, const struct go_stretch *s)
{
	struct code *c = ctx;
	uint64_t offset;

	if (unwind_image_offset(c->image, s->addr, &offset) == 0)
		image_mark(c->image, offset, s->size, s->fp_saved ? UNWIND_MARK_DEPTH_FP : UNWIND_MARK_DEPTH, s->depth / 8);
	return c->image->n_marks < UNWIND_MARKS;
}

/* 1: there is a table. On arm64 only the caller of the innermost function is known without a frame, and which one that is
 * is not known here. */
static int go_by_table(struct code *c)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct go_function found[GO_FUNCTIONS];
	struct go_table t;
	int r = read_table(c->l, c->image->machine, &bytes, &t);

	if (r <= 0)
		return r;
	mark_all(c, found, go_functions_by_table(&t, found));
	if (c->image->machine == CFI_X86_64)
		go_table_each_stretch(&t, read_code, mark_stretch, c);
	return 1;
}

static bool is_any(const Elf64_Shdr *sh)
{
	return sh->sh_type != SHT_NULL;
}

/* Each Go file has .go.buildinfo. */
static bool is_go(const struct image_layout *l)
{
	return image_section(l, ".go.buildinfo", is_any);
}

/* Section headers are a help where they are there and make sense. */
static int no_help(int r)
{
	return r == -EBADMSG ? 0 : r;
}

int image_go_marks(const struct image_layout *l, struct unwind_image *image)
{
	struct code c = { .l = l, .image = image };
	int r;

	if (!is_go(l))
		return 0;
	r = no_help(go_by_table(&c));
	if (r == 0)
		r = no_help(go_by_symbols(&c));
	return SB_MIN(r, 0);
}

/* ---- names ---------------------------------------------------------------------------- */

struct told {
	const struct unwind_image *image;
	const struct image_names *names;
};

/* Addresses become offsets; what is in no executable segment is no function. */
static bool tell(void *ctx, uint64_t addr, uint64_t size, const char *name, size_t max)
{
	const struct told *t = ctx;
	uint64_t offset;

	return unwind_image_offset(t->image, addr, &offset) < 0 ||
	       t->names->take(t->names->ctx, offset, size, name, max);
}

int image_go_names(const struct image_layout *l, const struct unwind_image *image,
		   const struct image_names *names)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct told told = { .image = image, .names = names };
	struct go_table t;
	int r;

	if (!names->take || !is_go(l))
		return 0;
	r = read_table(l, image->machine, &bytes, &t);
	if (r > 0)
		go_table_each(&t, tell, &told);
	return no_help(SB_MIN(r, 0));
}
