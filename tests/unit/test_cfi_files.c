// SPDX-License-Identifier: BSD-2-Clause
/* Rows of files that lie, are huge, or change while they are read. */
#include <elf.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "symbols/symbols.h"
#include "tests/unit/cfi_by_hand.h"
#include "unwind/go.h"

static void test_no_elf(void **state)
{
	static const char *const made_by[] = {
		"rm -f x; : >x", "printf '\\177ELF' >x", "head -c 64 /dev/zero >x", "cp prog.c x", "head -c 63 /bin/true >x",
		"gcc -c -o x prog.c", /* an object file is not what runs */
	};

	(void)state;
	write_text("prog.c", "int main(void) { return 0; }\n");
	for (size_t i = 0; i < SB_ARRAY_SIZE(made_by); i++) {
		struct unwind_image image;
		_cleanup_close_ int fd = -1;

		assert_int_equal(sh("%s", made_by[i]), 0);
		fd = open_at("x");
		assert_int_equal(unwind_image_read(fd, &image), -ENOEXEC);
	}
	{
		_cleanup_close_ int zero = open("/dev/zero", O_RDONLY), dir = open("/tmp", O_RDONLY), fifo = -1;
		char path[512];
		struct unwind_image image;

		snprintf(path, sizeof(path), "%s/fifo", top);
		assert_int_equal(sh("mkfifo fifo"), 0);
		fifo = open(path, O_RDWR | O_NONBLOCK);
		assert_int_equal(unwind_image_read(zero, &image), -ENOEXEC);
		assert_int_equal(unwind_image_read(dir, &image), -ENOEXEC);
		assert_int_equal(unwind_image_read(fifo, &image), -ENOEXEC);
	}
}

/* The address sanitizer needs memory of its own for what is allocated. */
#ifdef __SANITIZE_ADDRESS__
#define MIB_OF_SANITIZER 100
#else
#define MIB_OF_SANITIZER 0
#endif

static int load_rows(int fd)
{
	struct cfi_counts counts = {};
	struct unwind_rows rows;
	struct unwind_key key;

	return unwind_file_load(fd, NULL, &limits, &counts, &key, NULL, &rows);
}

/* What a call takes at most, in MiB; its result through ret. */
static long most_memory(int fd, int (*call)(int), int *ret)
{
	struct rusage before, after;
	int out[2], status;
	pid_t child;

	assert_int_equal(pipe(out), 0);
	child = fork(); /* the most so far is its own */
	assert_true(child >= 0);
	if (child == 0) {
		int r;

		getrusage(RUSAGE_SELF, &before);
		r = call(fd);
		getrusage(RUSAGE_SELF, &after);
		if (write(out[1], &r, sizeof(r)) != sizeof(r))
			_exit(255);
		_exit((int)SB_MIN(SB_MAX(((after.ru_maxrss - before.ru_maxrss) >> 10) - MIB_OF_SANITIZER, 0L), 254L));
	}
	close(out[1]);
	assert_int_equal(read(out[0], ret, sizeof(*ret)), sizeof(*ret));
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
	return WEXITSTATUS(status);
}

/* An executable and a readable segment, .eh_frame_hdr and .eh_frame in the second one. */
struct forged {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[4];
	uint8_t hdr[16];
	uint8_t frame[256];
};

static struct forged forge(uint64_t frame_len)
{
	const uint64_t at_hdr = offsetof(struct forged, hdr), at_frame = offsetof(struct forged, frame);
	struct forged f = {
		.eh = { .e_type = ET_DYN, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_ehsize = sizeof(Elf64_Ehdr),
			.e_phoff = offsetof(struct forged, ph), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3 },
		.ph = { { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = CODE, .p_filesz = 4096, .p_memsz = 4096 },
			{ .p_type = PT_LOAD, .p_flags = PF_R, .p_vaddr = FRAME - at_frame, .p_filesz = at_frame + frame_len,
			  .p_memsz = at_frame + frame_len },
			{ .p_type = PT_GNU_EH_FRAME, .p_offset = at_hdr, .p_vaddr = FRAME - at_frame + at_hdr, .p_filesz = 16 } },
		.hdr = { 1, 0x1b, 0xff, 0xff },
	};
	int32_t to_frame = (int32_t)(at_frame - at_hdr - 4);
	struct bytes s = {};

	memcpy(f.eh.e_ident, ELFMAG, SELFMAG);
	f.eh.e_ident[EI_CLASS] = ELFCLASS64;
	f.eh.e_ident[EI_DATA] = ELFDATA2LSB;
	f.eh.e_ident[EI_VERSION] = EV_CURRENT;
	memcpy(f.hdr + 4, &to_frame, 4);
	put_fde(&s, put_cie(&s), CODE + 16, 16, OPS(0x41, 0x0e, 16));
	assert_true(s.n <= sizeof(f.frame));
	memcpy(f.frame, s.b, s.n);
	return f;
}

static int forged_file(const struct forged *f, off_t size)
{
	char path[512];
	int fd;

	write_file("forged", f, sizeof(*f));
	snprintf(path, sizeof(path), "%s/forged", top);
	if (size)
		assert_int_equal(truncate(path, size), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void test_forged_is_good(void **state)
{
	struct forged f = forge(sizeof(f.frame));
	_cleanup_close_ int fd = forged_file(&f, 0);
	struct loaded l;

	(void)state;
	load_fd(fd, &l);
	expect_none(&l, CODE);
	expect_rule(&l, CODE + 17, .cfa = SB_CFA_SP, .cfa_off = 16);
	assert_int_equal(bad_of(&l.counts), 0);
	unload(&l);
}

/* Sizes that are true of a file full of holes, and sizes that no file has. */
static void test_huge(void **state)
{
	const uint64_t huge = 4ULL << 30;
	int r = 1;

	(void)state;
	for (int what = 0; what < 6; what++) {
		struct forged f = forge(sizeof(f.frame));
		_cleanup_close_ int fd = -1;
		double began = cpu_seconds();
		long mib;

		if (what == 0) /* a segment of 4 GiB: read up to the limit, and the terminator ends it at once */
			f.ph[1].p_filesz = huge - 4096;
		else if (what == 1)
			f.ph[0].p_filesz = huge - 4096;
		else if (what == 2)
			f.ph[0].p_filesz = UINT64_MAX;
		else if (what == 3)
			f.eh.e_phnum = 65535;
		else if (what == 4)
			f.ph[1].p_offset = UINT64_MAX - 4096;
		else
			f.ph[2].p_offset = UINT64_MAX - 3;
		fd = forged_file(&f, (off_t)huge);
		mib = most_memory(fd, load_rows, &r);
		assert_true(mib <= 66);
		assert_true(cpu_seconds() - began < 1);
		if (what < 2)
			assert_int_equal(r, 0);
		else
			assert_int_equal(r, -EBADMSG);
	}
}

#define FRAME_BYTES (64u << 20)
#define N_SMALLEST (FRAME_BYTES / 24 - 2)

/* A section of the largest size that is taken, of nothing but the smallest FDEs, in an order that has
 * to be sorted, each with a rule of its own. */
static void write_worst(const char *name, struct forged *f)
{
	_cleanup_free_ uint8_t *frame = calloc(1, FRAME_BYTES);
	struct bytes s = {};
	FILE *out;

	f->ph[0].p_filesz = 0xf0000000; /* code for all of them */
	f->ph[0].p_vaddr = 1u << 28;
	put_cie(&s);
	memcpy(frame, s.b, s.n);
	for (uint32_t i = 0, at = (uint32_t)s.n; i < N_SMALLEST && at + 24 <= FRAME_BYTES; i++, at += 24) {
		uint32_t words[4] = { 20, at + 4, 0, 16 };

		words[2] = (1u << 28) + 16 * (uint32_t)(i * 7919ULL % N_SMALLEST) - (FRAME + at + 8);
		memcpy(frame + at, words, sizeof(words));
		/* def_cfa_offset, def_cfa_register: three bytes and a random number */
		frame[at + 17] = 0x0e;
		frame[at + 18] = (uint8_t)(i | 0x80);
		frame[at + 19] = (uint8_t)(i >> 7 | 0x80);
		frame[at + 20] = (uint8_t)(i >> 14 & 0x7f);
	}
	out = fopen(at(name), "w");
	assert_non_null(out);
	assert_int_equal(fwrite(f, 1, offsetof(struct forged, frame), out), offsetof(struct forged, frame));
	assert_int_equal(fwrite(frame, 1, FRAME_BYTES, out), FRAME_BYTES);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(truncate(at(name), 0xf0001000), 0);
}

/* What a hostile file costs, and that it is no more than that. */
static void expect_cost(const char *name, int (*call)(int), long most_mib)
{
	_cleanup_close_ int fd = open_at(name);
	struct rusage before, after;
	double seconds;
	int r = 1;
	long mib;

	assert_int_equal(getrusage(RUSAGE_CHILDREN, &before), 0);
	mib = most_memory(fd, call, &r);
	assert_int_equal(getrusage(RUSAGE_CHILDREN, &after), 0);
	seconds = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
		  (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6;
	print_message("%s: %ld MiB, %.2f s\n", name, mib, seconds);
	assert_int_equal(r, 0);
	assert_true(mib < most_mib);
	assert_true(seconds < 3);
}

static void test_worst_case(void **state)
{
	struct forged f = forge(FRAME_BYTES);

	(void)state;
	write_worst("worst", &f);
	expect_cost("worst", load_rows, 200);
	assert_int_equal(sh("rm worst"), 0);
}

/* ---- the same, as a Go program --------------------------------------------------------- */

#define GO_AT (512u << 20) /* in the file; the address is higher by the code's */
#define GO_TABLE (1u << 28 | GO_AT)
#define GO_FUNCTIONS_MAX 1000000u
#define HALF_BYTES (UNWIND_GO_BYTES / 2)

enum { S_NULL, S_NAMES, S_GO, S_TABLE, S_MODULE, S_RELOCATIONS, S_SYMBOLS, S_STRINGS, S_COUNT };

/* Names are the longest that are looked at, and none is one of those that are looked for: 64 bytes without an end
 * to find these, or each with one. */
static void fill_names(uint8_t *names, size_t len, bool end)
{
	memset(names, 'x', len);
	for (size_t i = 0; i + 8 <= len; i += 32)
		memcpy(names + i, "runtime.", 8);
	for (size_t i = 31; end && i < len; i += 32)
		names[i] = 0;
}

/* As many functions as are read, in a table of the largest size; where they begin is known only by the last of
 * many relocations. */
static void put_go_table(FILE *f, Elf64_Shdr *sh, bool end)
{
	const size_t n = GO_FUNCTIONS_MAX, header = 72, list = 8 * n + 4, known = 8 * n, relocations = 2000000;
	const uint64_t module = GO_TABLE + UNWIND_GO_BYTES;
	const Elf64_Rela fill = { .r_offset = 8, .r_info = R_X86_64_RELATIVE },
			 last[] = { { .r_offset = module, .r_info = R_X86_64_RELATIVE, .r_addend = GO_TABLE },
				    { .r_offset = module + 8 * 20, .r_info = R_X86_64_RELATIVE, .r_addend = 1u << 28 },
				    { .r_offset = module + 8 * 22, .r_info = R_X86_64_RELATIVE, .r_addend = 1u << 28 } };
	_cleanup_free_ uint8_t *table = calloc(1, UNWIND_GO_BYTES);
	_cleanup_free_ Elf64_Rela *rela = calloc(relocations, sizeof(*rela));
	const size_t at_names = header + list + known, n_names = (UNWIND_GO_BYTES - at_names) / 32;
	uint64_t words[9] = { 0xfffffff1 | 8ULL << 56 | 1ULL << 48, n, 1, 0, at_names, 0, 0, 0, header };
	uint32_t *p = (uint32_t *)(table + header);

	memcpy(table, words, sizeof(words));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t record[2] = { 16 * i, 32 * (uint32_t)(i * 7919ULL % (n_names - 3)) };

		p[2 * i] = 16 * i;
		p[2 * i + 1] = (uint32_t)(list + 8 * i);
		memcpy(table + header + list + 8 * i, record, sizeof(record));
	}
	p[2 * n] = 16 * (uint32_t)n;
	fill_names(table + at_names, UNWIND_GO_BYTES - at_names, end);
	for (size_t i = 0; i < relocations; i++)
		rela[i] = fill;
	memcpy(rela + relocations - 3, last, sizeof(last));
	sh[S_TABLE] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_addr = GO_TABLE, .sh_offset = (uint64_t)ftell(f), .sh_size = UNWIND_GO_BYTES };
	assert_int_equal(fwrite(table, 1, UNWIND_GO_BYTES, f), UNWIND_GO_BYTES);
	sh[S_MODULE] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_addr = module, .sh_offset = (uint64_t)ftell(f), .sh_size = 512 };
	assert_int_equal(fseek(f, 512, SEEK_CUR), 0);
	sh[S_RELOCATIONS] = (Elf64_Shdr){ .sh_type = SHT_RELA, .sh_entsize = sizeof(*rela), .sh_offset = (uint64_t)ftell(f),
					  .sh_size = relocations * sizeof(*rela) };
	assert_int_equal(fwrite(rela, sizeof(*rela), relocations, f), relocations);
}

#define GO_CODE (128u << 20) /* in the file */
#define GO_STEP 64u
#define GO_BAD 440000u
#define GO_GOOD 70000u

/* Stretches of a byte of code each, with a frame of 8 bytes and without in turn; last: the depth of the last one. */
static size_t put_stretches(uint8_t *p, size_t n, uint8_t last)
{
	for (size_t i = 0; i < n; i++) {
		p[2 * i] = (uint8_t)(!i ? 2 : i == n - 1 && last != 8 * (i & 1) ? 2 * last : i & 1 ? 16 : 15);
		p[2 * i + 1] = 1;
	}
	p[2 * n] = 0;
	return 2 * n + 1;
}

/* The stack of each function changes with each of its bytes: of most of them until a depth that makes no sense, of the others there are
 * more stretches than are taken. The code is "push rbp" all over. */
static void put_go_depths(FILE *f, Elf64_Shdr *sh)
{
	const uint32_t n = 1 + GO_BAD + GO_GOOD, header = 72, names = header, values = names + 32, list = values + 256, known = 8 * n + 4;
	const size_t len = list + known + 3 * 48;
	const uint64_t words[9] = { 0xfffffff1 | 8ULL << 56 | 1ULL << 48, n, 1, (1u << 28) + GO_CODE, names, 0, 0, values, list };
	_cleanup_free_ uint8_t *table = calloc(1, len), *code = malloc((size_t)n * GO_STEP);
	uint32_t *p = (uint32_t *)(table + list);
	uint32_t record[3][11] = { { 0, 0 }, { 0, 16, [4] = 1 }, { 0, 16, [4] = 100 } };

	record[0][10] = 1 << 8; /* where stacks end */
	memcpy(table, words, sizeof(words));
	memcpy(table + names, "runtime.goexit\0\0x", 17);
	put_stretches(table + values + 1, 40, 12);
	put_stretches(table + values + 100, 24, 8);
	for (uint32_t i = 0; i < n; i++) {
		p[2 * i] = GO_STEP * i;
		p[2 * i + 1] = known + 48 * (!i ? 0 : i <= GO_BAD ? 1 : 2);
	}
	p[2 * n] = GO_STEP * n;
	for (size_t i = 0; i < SB_ARRAY_SIZE(record); i++)
		memcpy(table + list + known + 48 * i, record[i], sizeof(record[i]));
	sh[S_TABLE] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_addr = GO_TABLE, .sh_offset = (uint64_t)ftell(f), .sh_size = len };
	assert_int_equal(fwrite(table, 1, len, f), len);
	memset(code, 0x55, (size_t)n * GO_STEP);
	assert_int_equal(fseek(f, GO_CODE, SEEK_SET), 0);
	assert_int_equal(fwrite(code, GO_STEP, n, f), n);
	assert_int_equal(fseek(f, GO_AT + (64 << 20), SEEK_SET), 0);
}

static void put_go_symbols(FILE *f, Elf64_Shdr *sh)
{
	_cleanup_free_ uint8_t *strings = malloc(HALF_BYTES);
	_cleanup_free_ Elf64_Sym *symbols = calloc(1, HALF_BYTES);
	const size_t n = HALF_BYTES / sizeof(*symbols);

	fill_names(strings, HALF_BYTES, false);
	for (size_t i = 0; i < n; i++)
		symbols[i] = (Elf64_Sym){ .st_name = 32 * (uint32_t)(i * 7919ULL % (HALF_BYTES / 32 - 3)), .st_value = (1u << 28) + 16 * i,
					  .st_size = 16, .st_info = STT_FUNC };
	sh[S_SYMBOLS] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_link = S_STRINGS, .sh_entsize = sizeof(*symbols),
				      .sh_offset = (uint64_t)ftell(f), .sh_size = n * sizeof(*symbols) };
	assert_int_equal(fwrite(symbols, sizeof(*symbols), n, f), n);
	sh[S_STRINGS] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = (uint64_t)ftell(f), .sh_size = HALF_BYTES };
	assert_int_equal(fwrite(strings, 1, HALF_BYTES, f), HALF_BYTES);
}

enum worst_go { WORST_TABLE, WORST_NAMES, WORST_DEPTHS, WORST_SYMBOLS };

static void write_worst_go(const char *name, enum worst_go what)
{
	static const char *const names[S_COUNT] = { "", ".shstrtab", ".go.buildinfo", ".gopclntab", ".go.module", ".rela.dyn",
						    ".symtab", ".strtab" };
	struct forged f = forge(FRAME_BYTES);
	Elf64_Shdr sh[S_COUNT] = {};
	char strings[128];
	size_t len = 0;
	FILE *out;

	f.eh.e_shoff = GO_AT - sizeof(sh);
	f.eh.e_shentsize = sizeof(Elf64_Shdr);
	f.eh.e_shnum = S_COUNT;
	f.eh.e_shstrndx = S_NAMES;
	write_worst(name, &f);
	out = fopen(at(name), "r+");
	assert_non_null(out);
	assert_int_equal(fseek(out, GO_AT, SEEK_SET), 0);
	if (what == WORST_SYMBOLS)
		put_go_symbols(out, sh);
	else if (what == WORST_DEPTHS)
		put_go_depths(out, sh);
	else
		put_go_table(out, sh, what == WORST_NAMES);
	sh[S_GO] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_size = 16 };
	sh[S_NAMES] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = (uint64_t)ftell(out), .sh_size = sizeof(strings) };
	for (size_t i = 0; i < S_COUNT; i++) {
		sh[i].sh_name = (uint32_t)len;
		len += (size_t)snprintf(strings + len, sizeof(strings) - len, "%s", names[i]) + 1;
	}
	assert_true(len < sizeof(strings));
	assert_int_equal(fwrite(strings, 1, sizeof(strings), out), sizeof(strings));
	assert_int_equal(fseek(out, (long)f.eh.e_shoff, SEEK_SET), 0);
	assert_int_equal(fwrite(sh, sizeof(sh[0]), S_COUNT, out), S_COUNT);
	assert_int_equal(fclose(out), 0);
}

static int load_names(int fd)
{
	struct elf_names *names;
	struct symbol s;
	int r = elf_names_open(fd, NULL, &names);

	if (r < 0)
		return r;
	/* It was read to its last function. */
	if (strcmp(elf_names_source(names), "gopclntab") ||
	    elf_names_find(names, 16 * (GO_FUNCTIONS_MAX - 1), false, &s) < 0 || strncmp(s.name, "runtime.x", 9))
		return -EINVAL;
	return 0;
}

static void expect_marks(const char *name, size_t n)
{
	_cleanup_close_ int fd = open_at(name);
	struct unwind_image image = {};

	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_int_equal(image.n_marks, n);
	unwind_image_done(&image);
}

/* What is read of a Go file has been given back when memory is taken for .eh_frame; but for its marks. */
static void test_worst_go(void **state)
{
	(void)state;
	write_worst_go("worst-go-table", WORST_TABLE);
	expect_cost("worst-go-table", load_rows, 120);
	write_worst_go("worst-go-symbols", WORST_SYMBOLS);
	expect_cost("worst-go-symbols", load_rows, 120);
	write_worst_go("worst-go-depths", WORST_DEPTHS);
	expect_marks("worst-go-depths", UNWIND_MARKS);
	expect_cost("worst-go-depths", load_rows, 120);
	write_worst_go("worst-go-names", WORST_NAMES);
	expect_cost("worst-go-names", load_names, 200);
	assert_int_equal(sh("rm worst-go-*"), 0);
}

/* Section headers that say .eh_frame is larger than anything we take. */
static void test_large_section(void **state)
{
	struct {
		struct forged f;
		Elf64_Shdr sh;
	} x = { .f = forge(128u << 20) };
	_cleanup_close_ int fd = -1;
	char path[512];
	int r = 1;

	(void)state;
	x.f.eh.e_shoff = offsetof(__typeof__(x), sh);
	x.f.eh.e_shentsize = sizeof(Elf64_Shdr);
	x.f.eh.e_shnum = 1;
	x.sh = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC, .sh_addr = FRAME, .sh_size = 100u << 20 };
	write_file("large", &x, sizeof(x));
	snprintf(path, sizeof(path), "%s/large", top);
	assert_int_equal(truncate(path, 200 << 20), 0);
	fd = open_at("large");
	assert_true(most_memory(fd, load_rows, &r) < 4);
	assert_int_equal(r, -EFBIG);
}

struct writer {
	char path[512];
	volatile bool stop;
};

/* Overwrites a file in place, as nobody should, over and over. */
static void *overwrite(void *arg)
{
	struct writer *w = arg;
	uint8_t block[4096];

	for (unsigned int i = 0; !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); i++) {
		int fd = open(w->path, O_WRONLY);

		memset(block, (int)i, sizeof(block));
		if (pwrite(fd, block, sizeof(block), 4096 * (1 + i % 64)) < 0)
			__atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
		close(fd);
	}
	return NULL;
}

/* A file that changes while it is read is no file of which to keep a table. */
static void test_changes_meanwhile(void **state)
{
	struct writer w = {};
	uint64_t until = sb_monotonic_ns() + 20 * NSEC_PER_SEC;
	_cleanup_close_ int fd = -1;
	unsigned int stale = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(sh("cp %s changing", access("/usr/bin/node", R_OK) ? "/bin/bash" : "/usr/bin/node"), 0);
	snprintf(w.path, sizeof(w.path), "%s/changing", top);
	fd = open_at("changing");
	assert_int_equal(pthread_create(&thread, NULL, overwrite, &w), 0);
	while (stale < 3 && sb_monotonic_ns() < until) {
		struct unwind_image image;
		int r = unwind_image_read(fd, &image);

		stale += r == -ESTALE;
		if (r == 0)
			unwind_image_done(&image);
	}
	__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_int_equal(stale, 3);
}

/* Cut while it is read, or cut before: an error, never a signal. */
static void test_cut(void **state)
{
	struct stat st;
	int fd, r = 0;

	(void)state;
	assert_int_equal(stat("/bin/bash", &st), 0);
	for (off_t len = st.st_size; len > 0; len -= 8191) {
		struct unwind_image image;
		char path[512];

		if (len == st.st_size)
			assert_int_equal(sh("cp /bin/bash cut"), 0);
		snprintf(path, sizeof(path), "%s/cut", top);
		assert_int_equal(truncate(path, len), 0);
		fd = open_at("cut");
		r = unwind_image_read(fd, &image);
		close(fd);
		if (r == 0)
			unwind_image_done(&image);
		else if (r != -EBADMSG && r != -ENOEXEC)
			fail_msg("cut to %lld: %d", (long long)len, r);
	}
	assert_int_equal(r, -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_elf),
		cmocka_unit_test(test_forged_is_good),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_worst_case),
		cmocka_unit_test(test_worst_go),
		cmocka_unit_test(test_large_section),
		cmocka_unit_test(test_changes_meanwhile),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
