// SPDX-License-Identifier: BSD-2-Clause
/* CIEs and FDEs: where they are and what they say of themselves. */
#include <errno.h>

#include "unwind/cfi_internal.h"

/* Linkers put one terminator between what several objects bring; zeros without end are a hole. */
#define MAX_TERMINATORS 64

const char *cfi_bad_name(enum cfi_bad why)
{
	static const char *const names[CFI_BAD_COUNT] = {
		[CFI_BAD_LENGTH] = "length",
		[CFI_BAD_CIE] = "cie",
		[CFI_BAD_CIE_POINTER] = "cie-pointer",
		[CFI_BAD_ENCODING] = "encoding",
		[CFI_BAD_RANGE] = "range",
		[CFI_BAD_INSTRUCTION] = "instruction",
		[CFI_BAD_NESTING] = "nesting",
		[CFI_BAD_OVERLAP] = "overlap",
		[CFI_BAD_LIMIT] = "limit",
	};

	return (size_t)why < CFI_BAD_COUNT ? names[why] : "unknown";
}

/* Absolute or relative to its own place: the other relations need registers or a running
 * process, and nobody writes them for code. */
static bool encoding_is_code(uint8_t encoding)
{
	uint8_t form = encoding & PE_FORM;

	if (encoding & PE_INDIRECT)
		return false;
	if ((encoding & PE_RELATION) != 0 && (encoding & PE_RELATION) != PE_PCREL)
		return false;
	return form <= PE_UDATA8 || (form >= PE_SLEB128 && form <= PE_SDATA8);
}

/* An array with room for one more, or NULL; then it is as it was. */
static void *grow(void *array, size_t *cap, size_t n, size_t size)
{
	size_t more = n ? 2 * n : 256;

	if (n < *cap)
		return array;
	array = realloc(array, more * size);
	if (array)
		*cap = more;
	return array;
}

/* The letters behind 'z', each with its data. An unknown one ends what can be understood. */
static bool take_augmentation(const struct cfi *cfi, const char *letters, struct cursor *c,
			      struct cie *cie)
{
	for (; *letters; letters++) {
		uint8_t encoding;

		switch (*letters) {
		case 'R':
			cie->encoding = (uint8_t)cursor_take(c, 1);
			break;
		case 'L':
			cursor_take(c, 1);
			break;
		case 'P':
			encoding = (uint8_t)cursor_take(c, 1);
			if (encoding == PE_OMIT)
				break;
			if (encoding == PE_ALIGNED)
				cursor_skip(c, -cfi_address_of(cfi, c->p) & 7);
			cursor_form(c, encoding == PE_ALIGNED ? PE_ABSPTR : encoding & PE_FORM);
			break;
		case 'S':
			cie->signal = true;
			break;
		case 'B': /* return addresses are signed with the B key */
		case 'G': /* the stack is tagged */
			break;
		default:
			return !c->bad;
		}
	}
	return !c->bad;
}

static bool take_cie_head(const struct cfi *cfi, struct cursor *c, struct cie *cie)
{
	uint8_t version = (uint8_t)cursor_take(c, 1);
	const char *letters = (const char *)c->p;
	size_t len = strnlen(letters, cursor_left(c));
	struct cursor data;

	if ((version != 1 && version != 3 && version != 4) || len == cursor_left(c))
		return false;
	cursor_skip(c, len + 1);
	if (version == 4 &&
	    (cursor_take(c, 1) != 8 || cursor_take(c, 1) != 0)) /* address and selector size */
		return false;
	if (!strcmp(letters, "eh")) /* GCC 2: an address follows */
		cursor_take(c, 8);
	cie->code_align = cursor_uleb(c);
	cie->data_align = cursor_sleb(c);
	cie->ra_reg = version == 1 ? cursor_take(c, 1) : cursor_uleb(c);
	if (c->bad || cie->ra_reg == cfi->fp_reg || cie->ra_reg == cfi->sp_reg)
		return false;
	if (letters[0] != 'z')
		return !letters[0] || !strcmp(letters, "eh");
	cie->sized = true;
	data = cursor_block(c);
	return !c->bad && take_augmentation(cfi, letters + 1, &data, cie);
}

static enum cfi_bad parse_cie(const struct cfi *cfi, struct cursor *c, struct cie *cie)
{
	if (cfi->n_cies >= cfi->limits.max_cies)
		return CFI_BAD_LIMIT;
	if (!take_cie_head(cfi, c, cie))
		return CFI_BAD_CIE;
	return encoding_is_code(cie->encoding) ? CFI_BAD_COUNT : CFI_BAD_ENCODING;
}

static int read_cie(struct cfi *cfi, size_t at, struct cursor c, struct cfi_counts *counts)
{
	struct cie cie = { .at = at }, *cies;
	enum cfi_bad why;
	int r = 0;

	counts->cies++;
	why = parse_cie(cfi, &c, &cie);
	if (why == CFI_BAD_COUNT)
		r = cfi_run_cie(cfi, &cie, &c, counts, &cie.initial, &why);
	if (why != CFI_BAD_COUNT) {
		counts->bad[why]++;
		return 0;
	}
	if (r < 0)
		return r;
	cies = grow(cfi->cies, &cfi->cap_cies, cfi->n_cies, sizeof(*cfi->cies));
	if (!cies)
		return -ENOMEM;
	cfi->cies = cies;
	cfi->cies[cfi->n_cies++] = cie;
	return 0;
}

/* The CIE that begins at an offset; they were found in ascending order. */
static const struct cie *find_cie(const struct cfi *cfi, size_t at)
{
	size_t lo = 0, hi = cfi->n_cies;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (cfi->cies[mid].at == at)
			return &cfi->cies[mid];
		if (cfi->cies[mid].at < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static enum cfi_bad parse_fde(const struct cfi *cfi, const struct cie *cie, struct cursor *c,
			      struct fde *ret)
{
	uint64_t start, size;

	if (!cie)
		return CFI_BAD_CIE_POINTER;
	start = cfi_take_address(cfi, c, cie->encoding);
	size = cursor_form(c, cie->encoding & PE_FORM);
	if (cie->sized)
		cursor_block(c);
	if (c->bad)
		return CFI_BAD_LENGTH;
	if (!size || size > UINT32_MAX || size > UINT64_MAX - start)
		return CFI_BAD_RANGE;
	*ret = (struct fde){
		.start = start,
		.size = (uint32_t)size,
		.code = (uint32_t)(c->p - cfi->section.data),
		.code_len = (uint32_t)cursor_left(c),
		.cie = (uint32_t)(cie - cfi->cies),
	};
	return CFI_BAD_COUNT;
}

static int read_fde(struct cfi *cfi, size_t id_at, uint32_t back, struct cursor c,
		    struct cfi_counts *counts)
{
	const struct cie *cie = back <= id_at ? find_cie(cfi, id_at - back) : NULL;
	struct fde fde, *fdes;
	enum cfi_bad why;

	counts->fdes++;
	why = cfi->n_fdes < cfi->limits.max_fdes ? parse_fde(cfi, cie, &c, &fde) : CFI_BAD_LIMIT;
	if (why != CFI_BAD_COUNT) {
		counts->bad[why]++;
		return 0;
	}
	fdes = grow(cfi->fdes, &cfi->cap_fdes, cfi->n_fdes, sizeof(*cfi->fdes));
	if (!fdes)
		return -ENOMEM;
	cfi->fdes = fdes;
	cfi->fdes[cfi->n_fdes++] = fde;
	return 0;
}

static int read_records(struct cfi *cfi, struct cfi_counts *counts)
{
	const uint8_t *data = cfi->section.data;
	struct cursor all = { .p = data, .end = data + cfi->section.len };
	unsigned int terminators = 0;

	while (cursor_left(&all) >= 4) {
		size_t at = (size_t)(all.p - data), id_at;
		uint64_t len = cursor_take(&all, 4);
		struct cursor c;
		uint32_t id;
		int r;

		if (len == 0) {
			if (!cfi->section.to_its_end || ++terminators > MAX_TERMINATORS)
				return 0;
			continue;
		}
		/* 64-bit records: no linker writes them here, and no unwinder reads them. */
		if (len == UINT32_MAX) {
			counts->bad[CFI_BAD_LENGTH]++;
			cursor_skip(&all, cursor_take(&all, 8));
			continue;
		}
		if (len > cursor_left(&all) || len < 4) {
			counts->bad[CFI_BAD_LENGTH]++;
			return 0;
		}
		c = (struct cursor){ .p = all.p, .end = all.p + len };
		cursor_skip(&all, len);
		id_at = at + 4;
		id = (uint32_t)cursor_take(&c, 4);
		r = id ? read_fde(cfi, id_at, id, c, counts) : read_cie(cfi, at, c, counts);
		if (r < 0)
			return r;
	}
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct fde *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->code < y->code ? -1 : x->code > y->code;
}

static void sort_fdes(struct cfi *cfi)
{
	for (size_t i = 1; i < cfi->n_fdes; i++) {
		if (cfi->fdes[i].start < cfi->fdes[i - 1].start) {
			qsort(cfi->fdes, cfi->n_fdes, sizeof(*cfi->fdes), by_start);
			return;
		}
	}
}

int cfi_open(const struct cfi_section *section, const struct cfi_limits *limits,
	     struct cfi_counts *counts, struct cfi **ret)
{
	SB_CLEANUP(cfi_freep) struct cfi *cfi = NULL;
	uint64_t before;
	int r;

	if (section->len > UINT32_MAX)
		return -EFBIG;
	cfi = calloc(1, sizeof(*cfi));
	if (!cfi)
		return -ENOMEM;
	cfi->section = *section;
	cfi->limits = *limits;
	cfi->sp_reg = section->machine == CFI_X86_64 ? 7 : 31;
	cfi->fp_reg = section->machine == CFI_X86_64 ? 6 : 29;
	cfi->n_regs = section->machine == CFI_X86_64 ? 16 : 31;
	before = cfi->instructions;
	r = read_records(cfi, counts);
	counts->instructions += cfi->instructions - before;
	if (r < 0)
		return r;
	sort_fdes(cfi);
	*ret = TAKE_PTR(cfi);
	return 0;
}

void cfi_free(struct cfi *cfi)
{
	if (!cfi)
		return;
	free(cfi->cies);
	free(cfi->fdes);
	free(cfi);
}

size_t cfi_functions(const struct cfi *cfi)
{
	return cfi->n_fdes;
}

void cfi_function(const struct cfi *cfi, size_t i, uint64_t *ret_start, uint64_t *ret_end)
{
	*ret_start = cfi->fdes[i].start;
	*ret_end = cfi->fdes[i].start + cfi->fdes[i].size;
}
