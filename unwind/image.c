// SPDX-License-Identifier: BSD-2-Clause
#include <elf.h>
#include <errno.h>
#include <sys/stat.h>

#include "unwind/go.h"
#include "unwind/image.h"

#define MAX_PROGRAM_HEADERS 256u
#define MAX_SECTION_HEADERS 8192u
#define MAX_NOTE_BYTES 65536u
/* A static program is searched for the trampoline of its C library up to this size. */
#define MAX_SEARCHED_BYTES (8u << 20)

/* Two encodings of DW_EH_PE pointers that linkers use for the address in .eh_frame_hdr. */
#define EH_PE_PCREL_SDATA4 0x1b
#define EH_PE_ABS_UDATA8 0x04

struct source {
	int fd; /* -1: memory */
	const uint8_t *data;
	uint64_t len;
};

struct layout {
	struct source src;
	Elf64_Ehdr eh;
	Elf64_Phdr ph[MAX_PROGRAM_HEADERS];
	size_t n_ph;
	Elf64_Shdr *sh;
	size_t n_sh;
};

static void layout_done(struct layout *l)
{
	free(l->sh);
}

/* All of it or an error. */
static int read_at(const struct source *src, uint64_t offset, void *ret, size_t len)
{
	ssize_t n;

	if (offset > src->len || len > src->len - offset)
		return -EBADMSG;
	if (src->fd < 0) {
		memcpy(ret, src->data + offset, len);
		return 0;
	}
	n = sb_pread(src->fd, ret, len, offset);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -ESTALE;
}

static int read_header(struct layout *l, enum cfi_machine *ret)
{
	Elf64_Ehdr *eh = &l->eh;
	int r = read_at(&l->src, 0, eh, sizeof(*eh));

	if (r < 0)
		return r == -EBADMSG ? -ENOEXEC : r;
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_ident[EI_DATA] != ELFDATA2LSB || (eh->e_type != ET_DYN && eh->e_type != ET_EXEC))
		return -ENOEXEC;
	if (eh->e_machine == EM_X86_64)
		*ret = CFI_X86_64;
	else if (eh->e_machine == EM_AARCH64)
		*ret = CFI_AARCH64;
	else
		return -ENOEXEC;
	return 0;
}

static int read_program_headers(struct layout *l)
{
	if (!l->eh.e_phnum)
		return 0;
	if (l->eh.e_phentsize != sizeof(Elf64_Phdr) || l->eh.e_phnum > MAX_PROGRAM_HEADERS)
		return -EBADMSG;
	l->n_ph = l->eh.e_phnum;
	return read_at(&l->src, l->eh.e_phoff, l->ph, l->n_ph * sizeof(Elf64_Phdr));
}

/* They are a help where they are there and make sense; no error where they do not. */
static int read_section_headers(struct layout *l)
{
	if (!l->eh.e_shoff || l->eh.e_shentsize != sizeof(Elf64_Shdr) || !l->eh.e_shnum ||
	    l->eh.e_shnum > MAX_SECTION_HEADERS)
		return 0;
	l->sh = malloc(l->eh.e_shnum * sizeof(Elf64_Shdr));
	if (!l->sh)
		return -ENOMEM;
	if (read_at(&l->src, l->eh.e_shoff, l->sh, l->eh.e_shnum * sizeof(Elf64_Shdr)) == 0)
		l->n_sh = l->eh.e_shnum;
	return 0;
}

static const Elf64_Phdr *find_header(const struct layout *l, uint32_t type)
{
	for (size_t i = 0; i < l->n_ph; i++) {
		if (l->ph[i].p_type == type)
			return &l->ph[i];
	}
	return NULL;
}

/* The loadable segment that holds an address within what the file has of it. */
static const Elf64_Phdr *segment_of(const struct layout *l, uint64_t addr)
{
	for (size_t i = 0; i < l->n_ph; i++) {
		const Elf64_Phdr *ph = &l->ph[i];

		if (ph->p_type == PT_LOAD && addr >= ph->p_vaddr &&
		    addr - ph->p_vaddr < ph->p_filesz)
			return ph;
	}
	return NULL;
}

static int by_offset(const void *a, const void *b)
{
	const struct unwind_segment *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int take_segments(const struct layout *l, struct unwind_image *image)
{
	for (size_t i = 0; i < l->n_ph; i++) {
		const Elf64_Phdr *ph = &l->ph[i];

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X) || !ph->p_filesz)
			continue;
		if (ph->p_filesz > UINT64_MAX - ph->p_vaddr ||
		    ph->p_filesz > UINT64_MAX - ph->p_offset || image->n_code == UNWIND_SEGMENTS)
			return -EBADMSG;
		image->code[image->n_code++] = (struct unwind_segment){ .addr = ph->p_vaddr,
									.offset = ph->p_offset,
									.size = ph->p_filesz };
	}
	qsort(image->code, image->n_code, sizeof(image->code[0]), by_offset);
	return 0;
}

/* ---- .eh_frame ------------------------------------------------------------------------ */

/* From .eh_frame_hdr, which PT_GNU_EH_FRAME points to (LSB Core 5.0, 10.6.2). 1: announced. */
static int announced_address(const struct layout *l, uint64_t *ret)
{
	const Elf64_Phdr *ph = find_header(l, PT_GNU_EH_FRAME);
	struct {
		uint8_t version, eh_frame_enc, count_enc, table_enc;
		uint8_t eh_frame[8];
	} hdr = {};
	int32_t relative;
	int r;

	if (!ph || ph->p_filesz < 8)
		return 0;
	r = read_at(&l->src, ph->p_offset, &hdr, SB_MIN(sizeof(hdr), (size_t)ph->p_filesz));
	if (r < 0)
		return r;
	if (hdr.version != 1)
		return 0;
	if (hdr.eh_frame_enc == EH_PE_PCREL_SDATA4) {
		memcpy(&relative, hdr.eh_frame, sizeof(relative));
		*ret = ph->p_vaddr + 4 + (uint64_t)(int64_t)relative;
		return 1;
	}
	memcpy(ret, hdr.eh_frame, sizeof(*ret));
	return hdr.eh_frame_enc == EH_PE_ABS_UDATA8;
}

static bool may_be_eh_frame(const Elf64_Shdr *sh)
{
	return (sh->sh_flags & SHF_ALLOC) && !(sh->sh_flags & SHF_COMPRESSED) && sh->sh_size &&
	       (sh->sh_type == SHT_PROGBITS || sh->sh_type == SHT_X86_64_UNWIND);
}

static const Elf64_Shdr *section_at(const struct layout *l, uint64_t addr)
{
	for (size_t i = 0; i < l->n_sh; i++) {
		if (l->sh[i].sh_addr == addr && may_be_eh_frame(&l->sh[i]))
			return &l->sh[i];
	}
	return NULL;
}

/* The first one with that name, if it is one that is wanted. */
static const Elf64_Shdr *section_named(const struct layout *l, const char *wanted,
				       bool (*may_be)(const Elf64_Shdr *))
{
	const Elf64_Shdr *names = l->eh.e_shstrndx < l->n_sh ? &l->sh[l->eh.e_shstrndx] : NULL;
	size_t len = strlen(wanted) + 1;
	char name[32];

	for (size_t i = 0; names && i < l->n_sh; i++) {
		const Elf64_Shdr *sh = &l->sh[i];

		if (may_be(sh) && sh->sh_name < names->sh_size &&
		    read_at(&l->src, names->sh_offset + sh->sh_name, name, len) == 0 &&
		    !memcmp(name, wanted, len))
			return sh;
	}
	return NULL;
}

static int read_eh_frame(const struct layout *l, struct unwind_image *image)
{
	const Elf64_Shdr *sh;
	const Elf64_Phdr *ph;
	uint64_t addr, into, len;
	int r = announced_address(l, &addr);

	if (r < 0)
		return r;
	if (r) {
		sh = section_at(l, addr);
	} else {
		sh = section_named(l, ".eh_frame", may_be_eh_frame);
		if (!sh)
			return 0;
		addr = sh->sh_addr;
	}
	ph = segment_of(l, addr);
	if (!ph)
		return -EBADMSG;
	into = addr - ph->p_vaddr;
	len = ph->p_filesz - into;
	image->eh_frame_to_its_end = sh && sh->sh_size <= len;
	if (image->eh_frame_to_its_end)
		len = sh->sh_size;
	else /* a segment may go on for long, a terminator comes first */
		len = SB_MIN(len, (uint64_t)UNWIND_EH_FRAME_BYTES);
	if (len > UNWIND_EH_FRAME_BYTES)
		return -EFBIG;
	if (into > UINT64_MAX - ph->p_offset || ph->p_offset + into > l->src.len)
		return -EBADMSG;
	len = SB_MIN(len, l->src.len - ph->p_offset - into);
	image->eh_frame = malloc(len ? len : 1);
	if (!image->eh_frame)
		return -ENOMEM;
	r = read_at(&l->src, ph->p_offset + into, image->eh_frame, len);
	if (r < 0)
		return r;
	image->eh_frame_len = len;
	image->eh_frame_addr = addr;
	return 0;
}

/* ---- build-id ------------------------------------------------------------------------- */

static void notes_build_id(const uint8_t *p, size_t len, struct unwind_image *image)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr nh;
		uint64_t name, desc;

		memcpy(&nh, p, sizeof(nh));
		name = sizeof(nh) + (((uint64_t)nh.n_namesz + 3) & ~3ULL);
		desc = name + (((uint64_t)nh.n_descsz + 3) & ~3ULL);
		if (desc > len)
			return;
		if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == 4 &&
		    !memcmp(p + sizeof(nh), "GNU", 4)) {
			image->build_id_len = SB_MIN((size_t)nh.n_descsz, sizeof(image->build_id));
			memcpy(image->build_id, p + name, image->build_id_len);
			return;
		}
		p += desc;
		len -= desc;
	}
}

static int read_build_id(const struct layout *l, struct unwind_image *image)
{
	_cleanup_free_ uint8_t *notes = malloc(MAX_NOTE_BYTES);

	if (!notes)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_ph && !image->build_id_len; i++) {
		const Elf64_Phdr *ph = &l->ph[i];

		if (ph->p_type == PT_NOTE && ph->p_filesz <= MAX_NOTE_BYTES &&
		    read_at(&l->src, ph->p_offset, notes, ph->p_filesz) == 0)
			notes_build_id(notes, ph->p_filesz, image);
	}
	return 0;
}

/* ---- what nothing describes ----------------------------------------------------------- */

/* At most UNWIND_MARKS; what is empty, or not all in one executable segment, is not taken. */
static void mark(struct unwind_image *image, uint64_t offset, uint64_t size,
		 const struct sb_unwind_rule *rule)
{
	for (size_t i = 0; size && i < image->n_code && image->n_marks < UNWIND_MARKS; i++) {
		const struct unwind_segment *s = &image->code[i];

		if (offset >= s->offset && offset - s->offset < s->size &&
		    size <= s->size - (offset - s->offset)) {
			image->marks[image->n_marks++] = (struct unwind_mark){
				.offset = offset, .size = size, .rule = *rule
			};
			return;
		}
	}
}

static int marks_by_offset(const void *a, const void *b)
{
	const struct unwind_mark *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* What the kernel has put on the stack: struct rt_sigframe of x86-64, whose first word the
 * return has taken, and of arm64. */
static const struct sb_unwind_rule sigreturn_rules[] = {
	[CFI_X86_64] = { .cfa = SB_CFA_DEREF_SP,
			 .cfa_off = 160,
			 .fp_off = 120,
			 .ra_off = 168,
			 .where = SB_AT_SP | SB_AT_SP << 4,
			 .flags = SB_RULE_SIGNAL },
	[CFI_AARCH64] = { .cfa = SB_CFA_DEREF_SP,
			  .cfa_off = 560,
			  .fp_off = 544,
			  .ra_off = 568,
			  .where = SB_AT_SP | SB_AT_SP << 4,
			  .flags = SB_RULE_SIGNAL },
};

/* The return address is its start, which is looked up as the byte before. */
static void mark_sigreturn(struct unwind_image *image, uint64_t offset, uint64_t size)
{
	mark(image, offset - 1, size + 1, &sigreturn_rules[image->machine]);
}

/* rt_sigreturn as musl and the vdso of arm64 call it, without call frame information: there,
 * because unwinders failed on it (linux, arch/arm64/kernel/vdso/sigreturn.S). */
static const uint8_t x86_sigreturn[] = { 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05 };
static const uint8_t arm64_sigreturn[] = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4 };

static int find_trampoline(const struct layout *l, struct unwind_image *image)
{
	bool x86 = image->machine == CFI_X86_64;
	const uint8_t *code = x86 ? x86_sigreturn : arm64_sigreturn, *hit = NULL;
	size_t len = x86 ? sizeof(x86_sigreturn) : sizeof(arm64_sigreturn);
	_cleanup_free_ uint8_t *text = NULL;

	/* Not in what is loaded by somebody else and loads others: most of the files. */
	if (find_header(l, PT_INTERP) || !image->n_code || (l->src.fd >= 0 && !l->eh.e_entry))
		return 0;
	for (size_t i = 0; i < image->n_code && !hit; i++) {
		const struct unwind_segment *s = &image->code[i];
		int r;

		if (s->size > MAX_SEARCHED_BYTES)
			continue;
		free(text);
		text = malloc(s->size);
		if (!text)
			return -ENOMEM;
		r = read_at(&l->src, s->offset, text, s->size);
		if (r < 0)
			return r == -EBADMSG ? 0 : r;
		hit = memmem(text, s->size, code, len);
		if (hit > text)
			mark_sigreturn(image, s->offset + (uint64_t)(hit - text), len);
	}
	return 0;
}

/* ---- Go ------------------------------------------------------------------------------- */

static bool has_bytes(const Elf64_Shdr *sh)
{
	return sh->sh_type != SHT_NOBITS && !(sh->sh_flags & SHF_COMPRESSED) && sh->sh_size &&
	       sh->sh_size <= UNWIND_GO_BYTES;
}

static int read_section(const struct layout *l, const Elf64_Shdr *sh, uint8_t **ret)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	int r;

	/* Before memory is taken for it. */
	if (sh->sh_offset > l->src.len || sh->sh_size > l->src.len - sh->sh_offset)
		return -EBADMSG;
	bytes = malloc(sh->sh_size);
	if (!bytes)
		return -ENOMEM;
	r = read_at(&l->src, sh->sh_offset, bytes, sh->sh_size);
	if (r == 0)
		*ret = TAKE_PTR(bytes);
	return r;
}

static int go_by_table(const struct layout *l, struct go_function *ret, size_t *ret_n)
{
	const Elf64_Shdr *sh = section_named(l, ".gopclntab", has_bytes);
	_cleanup_free_ uint8_t *table = NULL;
	int r;

	if (!sh)
		sh = section_named(l, ".data.rel.ro.gopclntab", has_bytes);
	if (!sh)
		return 0;
	r = read_section(l, sh, &table);
	if (r == 0)
		*ret_n = go_functions_by_table(table, sh->sh_size, ret);
	return r;
}

static int go_by_symbols(const struct layout *l, struct go_function *ret, size_t *ret_n)
{
	const Elf64_Shdr *sh = section_named(l, ".symtab", has_bytes);
	_cleanup_free_ uint8_t *symbols = NULL, *names = NULL;
	int r;

	if (!sh || sh->sh_link >= l->n_sh || !has_bytes(&l->sh[sh->sh_link]))
		return 0;
	r = read_section(l, sh, &symbols);
	if (r == 0)
		r = read_section(l, &l->sh[sh->sh_link], &names);
	if (r == 0)
		*ret_n = go_functions_by_symbols(symbols, sh->sh_size, names,
						 l->sh[sh->sh_link].sh_size, ret);
	return r;
}

static void mark_go(struct unwind_image *image, const struct go_function *f)
{
	static const struct sb_unwind_rule
		ends = { .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_END << 4 },
		other_stack = { .cfa = SB_CFA_OTHER_STACK },
		called[] = { [CFI_X86_64] = { .cfa = SB_CFA_SP,
					      .cfa_off = 8,
					      .ra_off = -8,
					      .where = SB_AT_CFA << 4 },
			     [CFI_AARCH64] = { .cfa = SB_CFA_SP } };
	uint64_t offset;

	if (unwind_image_offset(image, f->addr, &offset) < 0)
		return;
	if (f->role == GO_ENDS)
		mark(image, offset, f->size, &ends);
	else if (f->role == GO_OTHER_STACK)
		mark(image, offset, f->size, &other_stack);
	else if (f->role == GO_SIGRETURN && image->machine == CFI_X86_64) /* arm64: in the vdso */
		mark_sigreturn(image, offset, f->size);
	else if (f->role == GO_ENTRY || f->role == GO_JUMPS)
		mark(image, offset, f->role == GO_ENTRY ? 1 : f->size, &called[image->machine]);
}

static bool is_any(const Elf64_Shdr *sh)
{
	return sh->sh_type != SHT_NULL;
}

/* Each Go file has .go.buildinfo. A help, as all section headers: no error where they make no sense. */
static int find_go(const struct layout *l, struct unwind_image *image)
{
	struct go_function found[GO_FUNCTIONS];
	size_t n = 0;
	int r;

	if (!section_named(l, ".go.buildinfo", is_any))
		return 0;
	r = go_by_table(l, found, &n);
	if (r == 0 && !n)
		r = go_by_symbols(l, found, &n);
	if (r < 0)
		return r == -EBADMSG ? 0 : r;
	for (size_t i = 0; i < n; i++)
		mark_go(image, &found[i]);
	return 0;
}

static int find_marks(const struct layout *l, struct unwind_image *image)
{
	int r = find_trampoline(l, image);

	if (r == 0)
		r = find_go(l, image);
	qsort(image->marks, image->n_marks, sizeof(image->marks[0]), marks_by_offset);
	/* The byte before a trampoline may be the last one of another function. */
	for (size_t i = 1; i < image->n_marks; i++) {
		struct unwind_mark *m = &image->marks[i - 1];

		m->size = SB_MIN(m->size, m[1].offset - m->offset);
	}
	return r;
}

/* ---- all of it ------------------------------------------------------------------------ */

static int read_image(struct layout *l, struct unwind_image *image)
{
	int r = read_header(l, &image->machine);

	if (r == 0)
		r = read_program_headers(l);
	if (r == 0)
		r = take_segments(l, image);
	if (r == 0)
		r = read_section_headers(l);
	if (r == 0)
		r = read_eh_frame(l, image);
	if (r == 0)
		r = read_build_id(l, image);
	if (r == 0)
		r = find_marks(l, image);
	return r;
}

static int read_source(struct source src, struct unwind_image *ret)
{
	SB_CLEANUP(layout_done) struct layout l = { .src = src };
	struct unwind_image image = {};
	int r = read_image(&l, &image);

	if (r < 0)
		unwind_image_done(&image);
	else
		*ret = image;
	return r;
}

/* Not the change time: deleting the file changes it, too, and does no harm. */
static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int unwind_image_read(int fd, struct unwind_image *ret)
{
	struct unwind_image image = {};
	struct stat before, after;
	int r;

	if (fstat(fd, &before) < 0)
		return -errno;
	if (!S_ISREG(before.st_mode))
		return -ENOEXEC;
	r = read_source((struct source){ .fd = fd, .len = (uint64_t)before.st_size }, &image);
	if (fstat(fd, &after) < 0)
		after.st_size = -1;
	if (!same_file(&before, &after)) {
		if (r == 0)
			unwind_image_done(&image);
		return -ESTALE;
	}
	if (r == 0)
		*ret = image;
	return r;
}

int unwind_image_read_memory(const void *data, size_t len, struct unwind_image *ret)
{
	return read_source((struct source){ .fd = -1, .data = data, .len = len }, ret);
}

void unwind_image_done(struct unwind_image *image)
{
	free(image->eh_frame);
	memset(image, 0, sizeof(*image));
}

int unwind_image_offset(const struct unwind_image *image, uint64_t addr, uint64_t *ret)
{
	for (size_t i = 0; i < image->n_code; i++) {
		const struct unwind_segment *s = &image->code[i];

		if (addr >= s->addr && addr - s->addr < s->size) {
			*ret = addr - s->addr + s->offset;
			return 0;
		}
	}
	return -ENOENT;
}
