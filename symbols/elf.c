// SPDX-License-Identifier: BSD-2-Clause
/* Function symbols and build-ids of ELF files. libelf reads by descriptor, never by mmap: a
 * file that shrinks under us must not be a SIGBUS. */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "symbols/symbols.h"
#include "symbols/table.h"

#define MAX_SEGMENTS 256
#define MAX_FILE_BYTES (8ULL << 30)
/* .symtab of the largest debug builds is about 200 MiB. */
#define MAX_SECTION_BYTES (512ULL << 20)
/* Longer ones are cut; mangled C++ names of a few KiB exist. */
#define MAX_NAME_BYTES 4095

static void elf_endp(Elf **e)
{
	if (*e)
		elf_end(*e);
}

/* More sections than e_shnum can say have their number in the first section header, and libelf
 * takes memory for as many: only object files have that many. */
static bool counts_elsewhere(int fd)
{
	union {
		unsigned char ident[EI_NIDENT];
		Elf32_Ehdr e32;
		Elf64_Ehdr e64;
	} h = {};

	if (pread(fd, &h, sizeof(h), 0) < (ssize_t)sizeof(h.e32))
		return false;
	if (h.ident[EI_CLASS] == ELFCLASS32)
		return !h.e32.e_shnum && h.e32.e_shoff;
	return !h.e64.e_shnum && h.e64.e_shoff;
}

static int open_elf(int fd, Elf **ret)
{
	struct stat st;
	Elf *e;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > MAX_FILE_BYTES || counts_elsewhere(fd))
		return -ENOEXEC;
	if (elf_version(EV_CURRENT) == EV_NONE)
		return -ENOSYS;
	e = elf_begin(fd, ELF_C_READ, NULL);
	if (!e)
		return -ENOEXEC;
	if (elf_kind(e) != ELF_K_ELF) {
		elf_end(e);
		return -ENOEXEC;
	}
	*ret = e;
	return 0;
}

struct segments {
	struct {
		uint64_t vaddr, offset, size;
	} s[MAX_SEGMENTS];
	size_t n;
};

static void load_segments(Elf *e, struct segments *seg)
{
	size_t n = 0;
	GElf_Phdr ph;

	seg->n = 0;
	if (elf_getphdrnum(e, &n) < 0)
		return;
	for (size_t i = 0; i < n && i < INT_MAX && seg->n < MAX_SEGMENTS; i++) {
		if (!gelf_getphdr(e, (int)i, &ph) || ph.p_type != PT_LOAD || !(ph.p_flags & PF_X))
			continue;
		seg->s[seg->n].vaddr = ph.p_vaddr;
		seg->s[seg->n].offset = ph.p_offset;
		seg->s[seg->n++].size = ph.p_filesz;
	}
}

/* Virtual address to file offset; UINT64_MAX outside the executable segments. */
static uint64_t to_offset(const struct segments *seg, uint64_t vaddr)
{
	for (size_t i = 0; i < seg->n; i++) {
		if (vaddr >= seg->s[i].vaddr && vaddr - seg->s[i].vaddr < seg->s[i].size)
			return vaddr - seg->s[i].vaddr + seg->s[i].offset;
	}
	return UINT64_MAX;
}

static Elf_Scn *find_section(Elf *e, uint32_t type, GElf_Shdr *ret)
{
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(e, scn))) {
		if (gelf_getshdr(scn, ret) && ret->sh_type == type)
			return scn;
	}
	return NULL;
}

/* The bytes of a section as they are in the file: libelf would unpack a compressed one to
 * whatever size it claims. */
static Elf_Data *plain_data(Elf_Scn *scn)
{
	GElf_Shdr sh;

	if (!scn || !gelf_getshdr(scn, &sh) || (sh.sh_flags & SHF_COMPRESSED) ||
	    sh.sh_size > MAX_SECTION_BYTES)
		return NULL;
	return elf_getdata(scn, NULL);
}

/* A name of the string table and its length; NULL when it has none or no end. Not
 * elf_strptr(), which looks for the end of each name from the end of the table. */
static const char *name_at(const Elf_Data *names, uint64_t at, size_t *ret_len)
{
	const char *s = names->d_buf;
	size_t room;

	if (!s || at >= names->d_size || !s[at])
		return NULL;
	room = names->d_size - at;
	*ret_len = strnlen(s + at, SB_MIN(room, (size_t)MAX_NAME_BYTES));
	return *ret_len < room ? s + at : NULL;
}

/* A function without a size, as assemblers leave it, ends with its section if nothing else
 * begins before. .dynsym does not say what else there is. */
static uint64_t room_in_section(Elf *e, const GElf_Shdr *table, const GElf_Sym *sym)
{
	Elf_Scn *scn = sym->st_shndx < SHN_LORESERVE ? elf_getscn(e, sym->st_shndx) : NULL;
	GElf_Shdr sh;

	if (table->sh_type != SHT_SYMTAB || !scn || !gelf_getshdr(scn, &sh) || sym->st_value < sh.sh_addr ||
	    sym->st_value - sh.sh_addr >= sh.sh_size)
		return 0;
	return sh.sh_size - (sym->st_value - sh.sh_addr);
}

static bool is_function(const GElf_Sym *sym)
{
	int type = GELF_ST_TYPE(sym->st_info);

	return (type == STT_FUNC || type == STT_GNU_IFUNC) && sym->st_shndx != SHN_UNDEF;
}

static int add_symbol(const GElf_Sym *sym, uint64_t size, const Elf_Data *names,
		      const struct segments *seg, struct symbol_builder *b)
{
	struct symbol_entry entry = { .start = to_offset(seg, sym->st_value) };
	size_t len;
	const char *name = name_at(names, sym->st_name, &len);
	int r;

	if (!name || entry.start == UINT64_MAX)
		return 0;
	entry.len = (uint32_t)SB_MIN(size, (uint64_t)UINT32_MAX);
	entry.flags = sym->st_size ? 0 : SYMBOL_OPEN;
	entry.rank = symbol_rank_underscores(name) +
		     (GELF_ST_BIND(sym->st_info) == STB_GLOBAL ? 4 : 0);
	r = symbol_builder_name(b, name, len, &entry.name);
	return r < 0 ? r : symbol_builder_add(b, &entry);
}

static int add_symbols(Elf *e, Elf_Scn *scn, const GElf_Shdr *sh, const struct segments *seg,
		       struct symbol_builder *b)
{
	Elf_Data *d = plain_data(scn), *names = plain_data(elf_getscn(e, sh->sh_link));
	size_t n;

	if (!sh->sh_entsize || !d || !names)
		return -ENODATA;
	n = sh->sh_size / sh->sh_entsize;
	for (size_t i = 0; i < n && i < INT_MAX; i++) {
		GElf_Sym sym;
		int r;

		if (!gelf_getsym(d, (int)i, &sym))
			break;
		if (!is_function(&sym))
			continue;
		r = add_symbol(&sym, sym.st_size ? sym.st_size : room_in_section(e, sh, &sym), names, seg, b);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_table(Elf *e, const struct segments *seg, uint32_t type, struct symbols **ret)
{
	struct symbol_builder b = {};
	GElf_Shdr sh;
	Elf_Scn *scn = find_section(e, type, &sh);
	int r = scn ? add_symbols(e, scn, &sh, seg, &b) : -ENODATA;

	if (r == 0)
		r = symbol_builder_finish(&b, ret);
	symbol_builder_done(&b);
	return r;
}

/* The detached symbols that a distribution installs below debug_root, by build-id. */
static int load_detached(int fd, const char *debug_root, const struct segments *seg,
			 struct symbols **ret)
{
	SB_CLEANUP(elf_endp) Elf *e = NULL;
	_cleanup_close_ int dfd = -1;
	char path[512];
	uint8_t id[32];
	int n = elf_build_id(fd, id, sizeof(id)), len;

	if (n < 2)
		return -ENODATA;
	len = snprintf(path, sizeof(path), "%s/.build-id/%02x/", debug_root, id[0]);
	for (int i = 1; i < n; i++)
		len += snprintf(path + len, sizeof(path) - (size_t)len, "%02x", id[i]);
	snprintf(path + len, sizeof(path) - (size_t)len, ".debug");
	dfd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (dfd < 0 || open_elf(dfd, &e) < 0)
		return -ENODATA;
	/* Its symbols have the addresses of the stripped file, whose segments count. */
	return load_table(e, seg, SHT_SYMTAB, ret);
}

int symbols_load_elf(int fd, const char *debug_root, struct symbols **ret, const char **ret_source)
{
	SB_CLEANUP(elf_endp) Elf *e = NULL;
	struct segments seg;
	int r = open_elf(fd, &e);

	if (r < 0)
		return r;
	load_segments(e, &seg);
	*ret_source = "symtab";
	if (load_table(e, &seg, SHT_SYMTAB, ret) == 0)
		return 0;
	if (debug_root && load_detached(fd, debug_root, &seg, ret) == 0)
		return 0;
	*ret_source = "dynsym";
	return load_table(e, &seg, SHT_DYNSYM, ret) == 0 ? 0 : -ENODATA;
}

int elf_build_id(int fd, uint8_t *ret, size_t len)
{
	SB_CLEANUP(elf_endp) Elf *e = NULL;
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	int r = open_elf(fd, &e);

	if (r < 0)
		return r;
	while ((scn = elf_nextscn(e, scn))) {
		size_t off = 0, name, desc;
		GElf_Nhdr nh;
		Elf_Data *d;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_NOTE || sh.sh_size > 65536)
			continue;
		d = elf_getdata(scn, NULL);
		while (d && (off = gelf_getnote(d, off, &nh, &name, &desc)) > 0) {
			if (nh.n_type != NT_GNU_BUILD_ID || nh.n_namesz != 4 ||
			    memcmp((char *)d->d_buf + name, "GNU", 4))
				continue;
			len = SB_MIN(len, (size_t)nh.n_descsz);
			memcpy(ret, (char *)d->d_buf + desc, len);
			return (int)len;
		}
	}
	return 0;
}
