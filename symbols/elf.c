// SPDX-License-Identifier: BSD-2-Clause
/* Function symbols and build-ids of ELF files. libelf reads by descriptor, never by mmap: a
 * file that shrinks under us must not be a SIGBUS. */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <lzma.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>

#include "symbols/symbols.h"
#include "symbols/table.h"

#define MAX_SEGMENTS 256
#define CODE_ALIGN 4096u /* mappings begin at a page, of the smallest size there is */
#define MAX_FILE_BYTES (8ULL << 30)
/* .symtab of the largest debug builds is about 200 MiB. */
#define MAX_SECTION_BYTES (512ULL << 20)
/* Longer ones are cut; mangled C++ names of a few KiB exist. */
#define MAX_NAME_BYTES 4095
/* .gnu_debugdata of the largest programs unpacks to some MiB. */
#define MAX_UNPACKED_BYTES (64u << 20)
#define UNPACK_MEMORY (64u << 20)
#define NO_CODE_OFFSET UINT64_MAX

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

/* code_offset: where the code lies in a file of which only detached symbols are here, which say
 * addresses alone; that works for one segment of code. */
static void load_segments(Elf *e, uint64_t code_offset, struct segments *seg)
{
	size_t n = 0;
	GElf_Phdr ph;

	seg->n = 0;
	if (elf_getphdrnum(e, &n) < 0)
		return;
	for (size_t i = 0; i < n && i < INT_MAX && seg->n < MAX_SEGMENTS; i++) {
		if (!gelf_getphdr(e, (int)i, &ph) || ph.p_type != PT_LOAD || !(ph.p_flags & PF_X))
			continue;
		if (!ph.p_filesz && code_offset != NO_CODE_OFFSET && !seg->n) {
			ph.p_filesz = ph.p_memsz;
			ph.p_offset = code_offset + (ph.p_vaddr & (CODE_ALIGN - 1));
		}
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

/* What an xz stream holds, as a file in memory, or -1. */
static int unpack(const uint8_t *packed, size_t len)
{
	lzma_stream z = LZMA_STREAM_INIT;
	uint8_t *out = malloc(MAX_UNPACKED_BYTES); /* touched as far as it is filled */
	int fd = -1;

	if (!out || lzma_stream_decoder(&z, UNPACK_MEMORY, 0) != LZMA_OK) {
		free(out);
		return -1;
	}
	z.next_in = packed;
	z.avail_in = len;
	z.next_out = out;
	z.avail_out = MAX_UNPACKED_BYTES;
	if (lzma_code(&z, LZMA_FINISH) == LZMA_STREAM_END)
		fd = memfd_create("debugdata", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, out, z.total_out) != (ssize_t)z.total_out) {
		close(fd);
		fd = -1;
	}
	lzma_end(&z);
	free(out);
	return fd;
}

static Elf_Data *named_section(Elf *e, const char *want)
{
	Elf_Scn *scn = NULL;
	size_t names;
	GElf_Shdr sh;

	if (elf_getshdrstrndx(e, &names) < 0)
		return NULL;
	while ((scn = elf_nextscn(e, scn))) {
		const char *name = gelf_getshdr(scn, &sh) ? elf_strptr(e, names, sh.sh_name) : NULL;

		if (name && !strcmp(name, want))
			return plain_data(scn);
	}
	return NULL;
}

/* A name, zeros to a multiple of four bytes, the CRC (GDB manual, "Separate Debug Files"). */
static int debuglink_of(Elf *e, char *ret, size_t len, uint32_t *ret_crc)
{
	Elf_Data *d = named_section(e, ".gnu_debuglink");
	size_t n = d && d->d_buf ? strnlen(d->d_buf, d->d_size) : 0, at = (n + 4) & ~(size_t)3;
	const char *name = n ? d->d_buf : NULL;

	if (!n || n >= len || at + 4 > d->d_size || memchr(name, '/', n) || !strcmp(name, ".") || !strcmp(name, ".."))
		return -ENODATA;
	memcpy(ret, name, n + 1);
	if (ret_crc)
		memcpy(ret_crc, (const char *)d->d_buf + at, 4);
	return 0;
}

static bool crc_is(int fd, uint32_t want)
{
	uint8_t buf[16384];
	struct stat st;
	uLong crc = crc32(0, NULL, 0);
	off_t at = 0;
	ssize_t n;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > MAX_SECTION_BYTES)
		return false;
	while ((n = pread(fd, buf, sizeof(buf), at)) > 0) {
		crc = crc32(crc, buf, (uInt)n);
		at += n;
	}
	return n == 0 && at == st.st_size && crc == want;
}

/* By build-id where the file has one, else by its CRC. */
static bool belongs_to(int fd, int debug, uint32_t crc)
{
	uint8_t id[32], other[32];
	int n = elf_build_id(fd, id, sizeof(id));

	if (n > 0)
		return elf_build_id(debug, other, sizeof(other)) == n && !memcmp(id, other, (size_t)n);
	return crc_is(debug, crc);
}

/* As the file itself says: beside it, in .debug/ there, below debug_root. */
static int load_linked(Elf *of, int fd, const char *debug_root, const struct segments *seg, struct symbols **ret)
{
	static const char *const places[] = { "%.0s%s/%s", "%.0s%s/.debug/%s", "%s%s/%s" };
	char name[256], self[64], dir[PATH_MAX], path[2 * PATH_MAX];
	ssize_t n;
	uint32_t crc;
	int r = debuglink_of(of, name, sizeof(name), &crc);

	if (r < 0)
		return r;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, dir, sizeof(dir) - 1);
	if (n <= 0 || dir[0] != '/')
		return -ENODATA;
	dir[n] = '\0';
	*strrchr(dir, '/') = '\0';
	r = -ENODATA;
	for (size_t i = 0; i < SB_ARRAY_SIZE(places) && r < 0; i++) {
		SB_CLEANUP(elf_endp) Elf *e = NULL;
		_cleanup_close_ int dfd = -1;

		snprintf(path, sizeof(path), places[i], debug_root, dir, name);
		dfd = file_open_below("/", path);
		if (dfd >= 0 && belongs_to(fd, dfd, crc) && open_elf(dfd, &e) == 0)
			r = load_table(e, seg, SHT_SYMTAB, ret);
	}
	return r;
}

int elf_debuglink(int fd, char *ret, size_t len, uint32_t *ret_crc)
{
	SB_CLEANUP(elf_endp) Elf *e = NULL;
	int r = open_elf(fd, &e);

	return r < 0 ? r : debuglink_of(e, ret, len, ret_crc);
}

/* MiniDebugInfo, as Fedora ships it: the functions that .dynsym lacks, and only those. */
static int load_mini(Elf *e, const struct segments *seg, struct symbols **ret)
{
	SB_CLEANUP(elf_endp) Elf *mini = NULL;
	_cleanup_close_ int fd = -1;
	struct symbol_builder b = {};
	Elf_Data *d = named_section(e, ".gnu_debugdata");
	Elf_Scn *scn;
	GElf_Shdr sh;
	int r;

	fd = d && d->d_buf ? unpack(d->d_buf, d->d_size) : -1;
	if (fd < 0 || open_elf(fd, &mini) < 0 || !(scn = find_section(mini, SHT_SYMTAB, &sh)))
		return -ENODATA;
	r = add_symbols(mini, scn, &sh, seg, &b);
	scn = find_section(e, SHT_DYNSYM, &sh);
	if (r == 0 && scn)
		r = add_symbols(e, scn, &sh, seg, &b);
	if (r == 0)
		r = symbol_builder_finish(&b, ret);
	symbol_builder_done(&b);
	return r;
}

int symbols_load_detached(int fd, uint64_t code_offset, struct symbols **ret)
{
	SB_CLEANUP(elf_endp) Elf *e = NULL;
	struct segments seg;
	int r = open_elf(fd, &e);

	if (r < 0)
		return r;
	load_segments(e, code_offset, &seg);
	return load_table(e, &seg, SHT_SYMTAB, ret);
}

int symbols_load_elf(int fd, const char *debug_root, struct symbols **ret, const char **ret_source)
{
	SB_CLEANUP(elf_endp) Elf *e = NULL;
	struct segments seg;
	int r = open_elf(fd, &e);

	if (r < 0)
		return r;
	load_segments(e, NO_CODE_OFFSET, &seg);
	*ret_source = "symtab";
	if (load_table(e, &seg, SHT_SYMTAB, ret) == 0)
		return 0;
	if (debug_root && (load_detached(fd, debug_root, &seg, ret) == 0 || load_linked(e, fd, debug_root, &seg, ret) == 0))
		return 0;
	*ret_source = "debugdata";
	if (load_mini(e, &seg, ret) == 0)
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
