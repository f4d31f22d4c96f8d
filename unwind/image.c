// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <sys/stat.h>

#include "unwind/image_internal.h"

#define MAX_SECTION_HEADERS 8192u
#define MAX_NOTE_BYTES 65536u
/* A static program is searched for the trampoline of its C library up to this size. */
#define MAX_SEARCHED_BYTES (8u << 20)

/* Two encodings of DW_EH_PE pointers that linkers use for the address in .eh_frame_hdr. */
#define EH_PE_PCREL_SDATA4 0x1b
#define EH_PE_ABS_UDATA8 0x04

static void layout_done(struct image_layout *l)
{
	free(l->sh);
}

int image_read_at(const struct image_source *src, uint64_t offset, void *ret, size_t len)
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

static int read_header(struct image_layout *l, enum cfi_machine *ret)
{
	Elf64_Ehdr *eh = &l->eh;
	int r = image_read_at(&l->src, 0, eh, sizeof(*eh));

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

static int read_program_headers(struct image_layout *l)
{
	if (!l->eh.e_phnum)
		return 0;
	if (l->eh.e_phentsize != sizeof(Elf64_Phdr) || l->eh.e_phnum > MAX_PROGRAM_HEADERS)
		return -EBADMSG;
	l->n_ph = l->eh.e_phnum;
	return image_read_at(&l->src, l->eh.e_phoff, l->ph, l->n_ph * sizeof(Elf64_Phdr));
}

/* They are a help where they are there and make sense; no error where they do not. */
static int read_section_headers(struct image_layout *l)
{
	if (!l->eh.e_shoff || l->eh.e_shentsize != sizeof(Elf64_Shdr) || !l->eh.e_shnum ||
	    l->eh.e_shnum > MAX_SECTION_HEADERS)
		return 0;
	l->sh = malloc(l->eh.e_shnum * sizeof(Elf64_Shdr));
	if (!l->sh)
		return -ENOMEM;
	if (image_read_at(&l->src, l->eh.e_shoff, l->sh, l->eh.e_shnum * sizeof(Elf64_Shdr)) == 0)
		l->n_sh = l->eh.e_shnum;
	return 0;
}

static const Elf64_Phdr *find_header(const struct image_layout *l, uint32_t type)
{
	for (size_t i = 0; i < l->n_ph; i++) {
		if (l->ph[i].p_type == type)
			return &l->ph[i];
	}
	return NULL;
}

/* The loadable segment that holds an address within what the file has of it. */
static const Elf64_Phdr *segment_of(const struct image_layout *l, uint64_t addr)
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

static int take_segments(const struct image_layout *l, struct unwind_image *image)
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
static int announced_address(const struct image_layout *l, uint64_t *ret)
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
	r = image_read_at(&l->src, ph->p_offset, &hdr, SB_MIN(sizeof(hdr), (size_t)ph->p_filesz));
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

static const Elf64_Shdr *section_at(const struct image_layout *l, uint64_t addr)
{
	for (size_t i = 0; i < l->n_sh; i++) {
		if (l->sh[i].sh_addr == addr && may_be_eh_frame(&l->sh[i]))
			return &l->sh[i];
	}
	return NULL;
}

const Elf64_Shdr *image_section(const struct image_layout *l, const char *wanted,
				bool (*may_be)(const Elf64_Shdr *))
{
	const Elf64_Shdr *names = l->eh.e_shstrndx < l->n_sh ? &l->sh[l->eh.e_shstrndx] : NULL;
	size_t len = strlen(wanted) + 1;
	char name[32];

	for (size_t i = 0; names && i < l->n_sh; i++) {
		const Elf64_Shdr *sh = &l->sh[i];

		if (may_be(sh) && sh->sh_name < names->sh_size &&
		    image_read_at(&l->src, names->sh_offset + sh->sh_name, name, len) == 0 &&
		    !memcmp(name, wanted, len))
			return sh;
	}
	return NULL;
}

static int read_eh_frame(const struct image_layout *l, struct unwind_image *image)
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
		sh = image_section(l, ".eh_frame", may_be_eh_frame);
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
	r = image_read_at(&l->src, ph->p_offset + into, image->eh_frame, len);
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

static int read_build_id(const struct image_layout *l, struct unwind_image *image)
{
	_cleanup_free_ uint8_t *notes = malloc(MAX_NOTE_BYTES);

	if (!notes)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_ph && !image->build_id_len; i++) {
		const Elf64_Phdr *ph = &l->ph[i];

		if (ph->p_type == PT_NOTE && ph->p_filesz <= MAX_NOTE_BYTES &&
		    image_read_at(&l->src, ph->p_offset, notes, ph->p_filesz) == 0)
			notes_build_id(notes, ph->p_filesz, image);
	}
	return 0;
}

/* ---- what nothing describes ----------------------------------------------------------- */

static bool has_room(struct unwind_image *image)
{
	if (image->n_marks == UNWIND_MARKS)
		return false;
	if (image->n_marks == image->cap_marks) {
		size_t more = SB_MIN(image->cap_marks ? 2 * image->cap_marks : 64, (size_t)UNWIND_MARKS);
		void *p = reallocarray(image->marks, more, sizeof(*image->marks));

		if (!p)
			return false;
		image->marks = p;
		image->cap_marks = more;
	}
	return true;
}

/* Goes on where the last one ends, and says the same. */
static bool extends(const struct unwind_mark *last, uint64_t offset, uint64_t size, enum unwind_mark_how how, unsigned int n)
{
	return last->offset + last->size == offset && last->how == how && last->n == n && size <= UINT32_MAX - last->size;
}

void image_mark(struct unwind_image *image, uint64_t offset, uint64_t size, enum unwind_mark_how how, unsigned int n)
{
	if (size > UINT32_MAX || n > UINT16_MAX)
		return;
	for (size_t i = 0; size && i < image->n_code; i++) {
		const struct unwind_segment *s = &image->code[i];

		if (offset < s->offset || offset - s->offset >= s->size || size > s->size - (offset - s->offset))
			continue;
		if (image->n_marks && offset > s->offset && extends(&image->marks[image->n_marks - 1], offset, size, how, n))
			image->marks[image->n_marks - 1].size += (uint32_t)size;
		else if (has_room(image))
			image->marks[image->n_marks++] = (struct unwind_mark){
				.offset = offset, .size = (uint32_t)size, .how = (uint16_t)how, .n = (uint16_t)n
			};
		return;
	}
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
void image_mark_sigreturn(struct unwind_image *image, uint64_t offset, uint64_t size)
{
	image_mark(image, offset - 1, size + 1, UNWIND_MARK_SIGRETURN, 0);
}

struct sb_unwind_rule unwind_mark_rule(enum cfi_machine machine, const struct unwind_mark *m)
{
	struct sb_unwind_rule called = { .cfa = SB_CFA_SP, .cfa_off = 8 * m->n + 8, .ra_off = -8, .where = SB_AT_CFA << 4 };

	switch ((enum unwind_mark_how)m->how) {
	case UNWIND_MARK_ENDS:
		return (struct sb_unwind_rule){ .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_END << 4 };
	case UNWIND_MARK_OTHER_STACK:
		return (struct sb_unwind_rule){ .cfa = SB_CFA_OTHER_STACK };
	case UNWIND_MARK_SIGRETURN:
		return sigreturn_rules[machine];
	case UNWIND_MARK_SWITCHED:
		called.cfa = SB_CFA_GO_SWITCHED;
		called.cfa_off = m->n;
		called.post = 8;
		break;
	case UNWIND_MARK_DEPTH_FP:
		called.fp_off = -16;
		called.where |= SB_AT_CFA;
		break;
	case UNWIND_MARK_DEPTH:
		if (machine == CFI_AARCH64)
			return (struct sb_unwind_rule){ .cfa = SB_CFA_SP };
	}
	return called;
}

/* rt_sigreturn as musl and the vdso of arm64 call it, without call frame information: there,
 * because unwinders failed on it (linux, arch/arm64/kernel/vdso/sigreturn.S). */
static const uint8_t x86_sigreturn[] = { 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05 };
static const uint8_t arm64_sigreturn[] = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4 };

static int find_trampoline(const struct image_layout *l, struct unwind_image *image)
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
		r = image_read_at(&l->src, s->offset, text, s->size);
		if (r < 0)
			return r == -EBADMSG ? 0 : r;
		hit = memmem(text, s->size, code, len);
		if (hit > text)
			image_mark_sigreturn(image, s->offset + (uint64_t)(hit - text), len);
	}
	return 0;
}

static int marks_by_offset(const void *a, const void *b)
{
	const struct unwind_mark *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void sort_marks(struct unwind_image *image)
{
	if (image->n_marks)
		qsort(image->marks, image->n_marks, sizeof(image->marks[0]), marks_by_offset);
	/* The byte before a trampoline may be the last one of another function. */
	for (size_t i = 1; i < image->n_marks; i++) {
		struct unwind_mark *m = &image->marks[i - 1];

		m->size = (uint32_t)SB_MIN((uint64_t)m->size, m[1].offset - m->offset);
	}
}

/* ---- all of it ------------------------------------------------------------------------ */

/* Go's tables are given back before memory is taken for .eh_frame. */
static int read_image(struct image_layout *l, const struct image_names *names, struct unwind_image *image)
{
	int r = read_header(l, &image->machine);

	if (r == 0)
		r = read_program_headers(l);
	if (r == 0)
		r = take_segments(l, image);
	if (r == 0)
		r = read_section_headers(l);
	if (r == 0)
		r = names ? image_go_names(l, image, names) : image_go_marks(l, image);
	if (r == 0 && !names)
		r = find_trampoline(l, image);
	if (r == 0)
		r = read_eh_frame(l, image);
	if (r == 0)
		r = read_build_id(l, image);
	sort_marks(image);
	return r;
}

static int read_source(struct image_source src, const struct image_names *names,
		       struct unwind_image *ret)
{
	SB_CLEANUP(layout_done) struct image_layout l = { .src = src };
	struct unwind_image image = {};
	int r = read_image(&l, names, &image);

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

static int read_file(int fd, const struct image_names *names, struct unwind_image *ret)
{
	struct unwind_image image = {};
	struct stat before, after;
	int r;

	if (fstat(fd, &before) < 0)
		return -errno;
	if (!S_ISREG(before.st_mode))
		return -ENOEXEC;
	r = read_source((struct image_source){ .fd = fd, .len = (uint64_t)before.st_size }, names,
			&image);
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

int unwind_image_read(int fd, struct unwind_image *ret)
{
	return read_file(fd, NULL, ret);
}

int unwind_image_read_names(int fd, unwind_name_fn take, void *ctx, struct unwind_image *ret)
{
	return read_file(fd, &(struct image_names){ .take = take, .ctx = ctx }, ret);
}

int unwind_image_read_memory(const void *data, size_t len, struct unwind_image *ret)
{
	return read_source((struct image_source){ .fd = -1, .data = data, .len = len }, NULL, ret);
}

void unwind_image_done(struct unwind_image *image)
{
	free(image->eh_frame);
	free(image->marks);
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
