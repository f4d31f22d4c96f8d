// SPDX-License-Identifier: BSD-2-Clause
#include "tools/lines.h"

#include <errno.h>

#ifdef SB_LIBDW
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/map64.h"

#define MAX_SEGMENTS 64u
#define MAX_DEPTH 128 /* of nested scopes; compilers make some dozens */
#define CODE_ALIGN 4096u
/* Units with code; the largest programs have some 100,000. */
#define MAX_UNITS 1000000u

struct unit {
	uint64_t start, end;
	Dwarf_Off die;
};

struct lines {
	Elf *elf;
	Dwarf *dwarf;
	struct {
		uint64_t vaddr, offset, size;
	} segment[MAX_SEGMENTS];
	size_t n_segments;
	struct unit *unit; /* by start; .debug_aranges is not everywhere */
	size_t n_units, max_units;
	struct map64 qualified; /* DIE + 1 -> char * */
};

/* ---- opening --------------------------------------------------------------------------------- */

static void load_segments(struct lines *l, uint64_t code_offset)
{
	bool first = true;
	size_t n = 0;
	GElf_Phdr ph;

	if (elf_getphdrnum(l->elf, &n) < 0)
		return;
	for (size_t i = 0; i < n && l->n_segments < MAX_SEGMENTS; i++) {
		if (!gelf_getphdr(l->elf, (int)i, &ph) || ph.p_type != PT_LOAD || !(ph.p_flags & PF_X))
			continue;
		if (!ph.p_filesz && first) {
			ph.p_filesz = ph.p_memsz;
			ph.p_offset = code_offset + (ph.p_vaddr & (CODE_ALIGN - 1));
		}
		first = false;
		l->segment[l->n_segments].vaddr = ph.p_vaddr;
		l->segment[l->n_segments].offset = ph.p_offset;
		l->segment[l->n_segments++].size = ph.p_filesz;
	}
}

static bool to_vaddr(const struct lines *l, uint64_t offset, uint64_t *ret)
{
	for (size_t i = 0; i < l->n_segments; i++) {
		if (offset >= l->segment[i].offset && offset - l->segment[i].offset < l->segment[i].size) {
			*ret = offset - l->segment[i].offset + l->segment[i].vaddr;
			return true;
		}
	}
	return false;
}

static int add_unit(struct lines *l, const struct unit *u)
{
	if (l->n_units == l->max_units) {
		size_t max = SB_MAX(l->max_units * 2, (size_t)256);
		void *bigger = realloc(l->unit, max * sizeof(*l->unit));

		if (!bigger)
			return -ENOMEM;
		l->unit = bigger;
		l->max_units = max;
	}
	l->unit[l->n_units++] = *u;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct unit *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int load_units(struct lines *l)
{
	Dwarf_CU *cu = NULL;
	Dwarf_Die die, sub;
	size_t n = 0;
	uint8_t type;

	while (dwarf_get_units(l->dwarf, cu, &cu, NULL, &type, &die, &sub) == 0) {
		struct unit u = { .die = dwarf_dieoffset(&die) };
		Dwarf_Addr base, start, end;
		ptrdiff_t at = 0;

		if (++n > MAX_UNITS)
			return -EFBIG;
		if (type != DW_UT_compile && type != DW_UT_skeleton)
			continue;
		while ((at = dwarf_ranges(&die, at, &base, &start, &end)) > 0) {
			u.start = start;
			u.end = end;
			if (end > start && add_unit(l, &u) < 0)
				return -ENOMEM;
		}
	}
	if (!l->n_units)
		return -ENODATA;
	qsort(l->unit, l->n_units, sizeof(*l->unit), by_start);
	return 0;
}

/* A section that was compressed the old way: "ZLIB" and its size, big-endian. 0: it was not. */
static uint64_t old_unpacked(int fd, const GElf_Shdr *sh)
{
	uint8_t head[12];
	uint64_t size = 0;

	if (sh->sh_flags & SHF_ALLOC || pread(fd, head, sizeof(head), (off_t)sh->sh_offset) != sizeof(head) ||
	    memcmp(head, "ZLIB", 4) != 0)
		return 0;
	for (size_t i = 4; i < sizeof(head); i++)
		size = size << 8 | head[i];
	return size;
}

/* libdw unpacks every section to whatever size it claims, and reads holes as the zeros that they stand for. */
static bool is_bomb(int fd, Elf *e, off_t len)
{
	uint64_t unpacked = 0, plain = 0;
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	GElf_Chdr ch;

	while ((scn = elf_nextscn(e, scn))) {
		uint64_t size;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type == SHT_NOBITS)
			continue;
		if (sh.sh_flags & SHF_COMPRESSED)
			size = gelf_getchdr(scn, &ch) ? ch.ch_size : 0;
		else
			size = old_unpacked(fd, &sh);
		unpacked += SB_MIN(size, (uint64_t)LINES_MAX_BYTES + 1);
		plain += size ? 0 : SB_MIN(sh.sh_size, (uint64_t)len);
	}
	return unpacked > LINES_MAX_BYTES || (plain > LINES_MAX_BYTES && lseek(fd, 0, SEEK_HOLE) < len);
}

int lines_open(int fd, uint64_t code_offset, struct lines **ret)
{
	struct lines *l;
	struct stat st;
	int r = -ENODATA;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || elf_version(EV_CURRENT) == EV_NONE)
		return -ENODATA;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	/* Not by mmap: a file that shrinks must not be a SIGBUS. */
	l->elf = elf_begin(fd, ELF_C_READ, NULL);
	if (l->elf && elf_kind(l->elf) == ELF_K_ELF && is_bomb(fd, l->elf, st.st_size))
		r = -EFBIG;
	else if (l->elf && elf_kind(l->elf) == ELF_K_ELF)
		l->dwarf = dwarf_begin_elf(l->elf, DWARF_C_READ, NULL);
	if (l->dwarf) {
		load_segments(l, code_offset);
		r = load_units(l);
	}
	if (r < 0) {
		lines_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void lines_free(struct lines *l)
{
	if (!l)
		return;
	if (l->dwarf)
		dwarf_end(l->dwarf);
	if (l->elf)
		elf_end(l->elf);
	for (size_t i = 0; i < l->qualified.cap; i++) {
		if (l->qualified.slot[i].key)
			free((char *)(uintptr_t)l->qualified.slot[i].value);
	}
	map64_done(&l->qualified);
	free(l->unit);
	free(l);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static bool find_unit(struct lines *l, uint64_t pc, Dwarf_Die *ret)
{
	size_t lo = 0, hi = l->n_units;
	Dwarf_Die split = {};

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->unit[mid].start <= pc)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || pc >= l->unit[lo - 1].end || !dwarf_offdie(l->dwarf, l->unit[lo - 1].die, ret))
		return false;
	/* The rest of a divided unit is in a .dwo, where it is here. */
	if (dwarf_cu_info(ret->cu, NULL, NULL, NULL, &split, NULL, NULL, NULL) == 0 && split.addr)
		*ret = split;
	return true;
}

struct chain {
	Dwarf_Die die[LINES_MAX]; /* outermost first */
	size_t n;
};

static bool holds_functions(int tag)
{
	return tag == DW_TAG_namespace || tag == DW_TAG_module || tag == DW_TAG_class_type ||
	       tag == DW_TAG_structure_type || tag == DW_TAG_union_type;
}

static bool is_scope(int tag)
{
	return tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine || tag == DW_TAG_lexical_block ||
	       tag == DW_TAG_try_block || tag == DW_TAG_catch_block;
}

static bool descend(Dwarf_Die *from, uint64_t pc, struct chain *c, int depth)
{
	Dwarf_Die child;

	if (depth > MAX_DEPTH || dwarf_child(from, &child) != 0)
		return false;
	do {
		int tag = dwarf_tag(&child);

		if (holds_functions(tag) && descend(&child, pc, c, depth + 1))
			return true;
		if (!is_scope(tag) || dwarf_haspc(&child, pc) <= 0)
			continue;
		if ((tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine) && c->n < LINES_MAX)
			c->die[c->n++] = child;
		descend(&child, pc, c, depth + 1);
		return true;
	} while (dwarf_siblingof(&child, &child) == 0);
	return false;
}

/* Where the function is declared: its scopes are those of its name. */
static void to_declaration(Dwarf_Die *die)
{
	static const unsigned int links[] = { DW_AT_abstract_origin, DW_AT_specification };
	Dwarf_Attribute attr;
	Dwarf_Die to;

	for (size_t i = 0; i < SB_ARRAY_SIZE(links); i++) {
		if (dwarf_attr(die, links[i], &attr) && dwarf_formref_die(&attr, &to))
			*die = to;
	}
}

static void put_before(char **text, const char *scope)
{
	char *longer;

	if (asprintf(&longer, "%s::%s", scope, *text) < 0)
		return;
	free(*text);
	*text = longer;
}

/* What has no name for a linker (static, inline) has that of its source. */
static const char *source_name(struct lines *l, Dwarf_Die *inlined)
{
	Dwarf_Die die = *inlined, *scope;
	const char *name = dwarf_diename(inlined);
	uint64_t key;
	char *text;
	int n;

	to_declaration(&die);
	key = dwarf_dieoffset(&die) + 1;
	text = (char *)(uintptr_t)map64_get(&l->qualified, key);
	if (text || !name)
		return text ? text : "?";
	text = strdup(name);
	n = text ? dwarf_getscopes_die(&die, &scope) : 0;
	for (int i = 1; i < n; i++) {
		const char *of = dwarf_diename(&scope[i]);

		if (holds_functions(dwarf_tag(&scope[i])))
			put_before(&text, of ? of : "(anonymous)");
	}
	if (n > 0)
		free(scope);
	if (text && map64_put(&l->qualified, key, (uint64_t)(uintptr_t)text) == 0)
		return text;
	free(text);
	return name;
}

static const char *name_of(struct lines *l, Dwarf_Die *die)
{
	Dwarf_Attribute attr;
	const char *name = NULL;

	if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attr) || dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr))
		name = dwarf_formstring(&attr);
	return name ? name : source_name(l, die);
}

static uint32_t number_of(Dwarf_Die *die, unsigned int which)
{
	Dwarf_Attribute attr;
	Dwarf_Word value;

	if (!dwarf_attr(die, which, &attr) || dwarf_formudata(&attr, &value) < 0)
		return 0;
	return (uint32_t)SB_MIN(value, (Dwarf_Word)UINT32_MAX);
}

static void put_call(Dwarf_Die *unit, Dwarf_Die *inlined, struct bundle_line *ret)
{
	Dwarf_Files *files;
	const char *file = NULL;
	size_t n;

	if (dwarf_getsrcfiles(unit, &files, &n) == 0)
		file = dwarf_filesrc(files, number_of(inlined, DW_AT_call_file), NULL, NULL);
	ret->file = file ? file : "";
	ret->line = number_of(inlined, DW_AT_call_line);
}

static void put_own(Dwarf_Die *unit, uint64_t pc, struct bundle_line *ret)
{
	Dwarf_Line *line = dwarf_getsrc_die(unit, pc);
	const char *file = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
	int number = 0;

	if (line)
		dwarf_lineno(line, &number);
	ret->file = file ? file : "";
	ret->line = (uint32_t)SB_MAX(number, 0);
}

size_t lines_find(struct lines *l, uint64_t offset, bool caller, struct bundle_line ret[LINES_MAX])
{
	struct chain c = {};
	Dwarf_Die unit;
	uint64_t pc;
	size_t n;

	/* The call may be the last instruction of its function, or of what was put into it. */
	if (!to_vaddr(l, caller && offset ? offset - 1 : offset, &pc) || !find_unit(l, pc, &unit))
		return 0;
	descend(&unit, pc, &c, 0);
	n = SB_MAX(c.n, (size_t)1);
	for (size_t i = 0; i < n; i++) {
		ret[i].name = i + 1 < n ? name_of(l, &c.die[n - 1 - i]) : "";
		if (i)
			put_call(&unit, &c.die[n - i], &ret[i]);
		else
			put_own(&unit, pc, &ret[i]);
	}
	return c.n || ret[0].file[0] ? n : 0;
}

#else

int lines_open(int fd, uint64_t code_offset, struct lines **ret)
{
	(void)fd;
	(void)code_offset;
	(void)ret;
	return -ENOSYS;
}

void lines_free(struct lines *l)
{
	(void)l;
}

size_t lines_find(struct lines *l, uint64_t offset, bool caller, struct bundle_line ret[LINES_MAX])
{
	(void)l;
	(void)offset;
	(void)caller;
	(void)ret;
	return 0;
}

#endif
