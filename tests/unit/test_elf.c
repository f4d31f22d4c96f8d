// SPDX-License-Identifier: BSD-2-Clause
/* Symbols of programs that are built here, compared with what nm and readelf say of them; and
 * files that lie. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "symbols/symbols.h"
#include "tests/unit/scratch.h"
#include "tests/unit/symbol_at.h"


static const char source[] =
	"#include <stdio.h>\n"
	"int counter, table[100];\n" /* not functions */
	"static __attribute__((noinline)) int hidden(int x) { return x * 7 + counter; }\n"
	"__attribute__((noinline)) int visible(int x) { return hidden(x) + table[x]; }\n"
	"int alias(int x) __attribute__((alias(\"visible\")));\n"
	"int _other_alias(int x) __attribute__((alias(\"visible\")));\n"
	"__attribute__((weak, noinline)) int weak_one(int x) { return visible(x + 1); }\n"
	"static int pick_a(int x) { return x; }\n"
	"static void *choose(void) { return pick_a; }\n"
	"int indirect(int) __attribute__((ifunc(\"choose\")));\n"
	"__attribute__((section(\".text.far\"), noinline)) int far_away(int x) { return x - 3; }\n"
	"__asm__(\".text\\n.globl no_size\\n.type no_size,@function\\nno_size: nop\\nnop\\nret\\n\"\n"
	"        \".skip 64, 0x90\\n\");\n"
	"extern void no_size(void);\n"
	"int main(int argc, char **argv) { no_size();\n"
	"  return printf(\"%d\", weak_one(argc) + alias(1) + _other_alias(2) + far_away(argc) + indirect(3)); }\n";

static struct symbols *load(const char *name, const char *debug_root, const char *want_source)
{
	_cleanup_close_ int fd = open_at(name);
	struct symbols *s = NULL;
	const char *from = "-";
	int r = symbols_load_elf(fd, debug_root, &s, &from);

	if (r < 0 || strcmp(from, want_source))
		fail_msg("%s: got %d, '%s'; expected '%s'", name, r, from, want_source);
	return s;
}

/* ---- the truth: nm and readelf ------------------------------------------------------- */

struct function {
	char name[128];
	uint64_t addr, size;
};

struct truth {
	struct function f[6000];
	size_t n;
	struct {
		uint64_t offset, addr, size;
	} segment[8]; /* executable ones */
	size_t n_segments;
};

static void read_segments(struct truth *t, const char *name)
{
	char path[512], line[256], flags[32];
	unsigned long long offset, addr, phys, filesz, memsz;
	FILE *f;

	assert_int_equal(sh("readelf -lW %s >segments", name), 0);
	snprintf(path, sizeof(path), "%s/segments", top);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " LOAD 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx %31[RWE ]", &offset, &addr, &phys,
			   &filesz, &memsz, flags) != 6 || !strchr(flags, 'E'))
			continue;
		assert_true(t->n_segments < SB_ARRAY_SIZE(t->segment));
		t->segment[t->n_segments].offset = offset;
		t->segment[t->n_segments].addr = addr;
		t->segment[t->n_segments++].size = filesz;
	}
	fclose(f);
}

/* What nm lists as code and readelf as a function. */
static void read_functions(struct truth *t, const char *name, const char *nm_options)
{
	char path[512], line[512], type;
	unsigned long long addr, size;
	FILE *f;

	assert_int_equal(sh("nm --defined-only --format=posix %s %s | grep -E ' [tTwWi] ' >functions", nm_options,
			    name), 0);
	snprintf(path, sizeof(path), "%s/functions", top);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		struct function *fn = &t->f[t->n];

		size = 0;
		assert_true(t->n < SB_ARRAY_SIZE(t->f));
		if (sscanf(line, "%127s %c %llx %llx", fn->name, &type, &addr, &size) < 3)
			continue;
		fn->name[strcspn(fn->name, "@")] = '\0';
		fn->addr = addr;
		fn->size = size;
		t->n += size > 0;
	}
	fclose(f);
}

static struct truth *truth_of(const char *name, const char *nm_options)
{
	static struct truth t;

	memset(&t, 0, sizeof(t));
	read_segments(&t, name);
	read_functions(&t, name, nm_options);
	return &t;
}

static uint64_t offset_of(const struct truth *t, uint64_t addr)
{
	for (size_t i = 0; i < t->n_segments; i++) {
		if (addr >= t->segment[i].addr && addr < t->segment[i].addr + t->segment[i].size)
			return addr - t->segment[i].addr + t->segment[i].offset;
	}
	return UINT64_MAX;
}

/* Every byte of every function has a name that nm gives its start. */
static size_t check_functions(const struct symbols *s, const struct truth *t)
{
	size_t checked = 0;

	for (size_t i = 0; i < t->n; i++) {
		const struct function *fn = &t->f[i];
		uint64_t step = SB_MAX(fn->size / 64, 1ULL);

		if (offset_of(t, fn->addr) == UINT64_MAX)
			continue;
		for (uint64_t k = 0; k < fn->size; k = k + step < fn->size || k == fn->size - 1 ? k + step : fn->size - 1) {
			uint64_t offset = offset_of(t, fn->addr + k);
			struct symbol found = { .name = "-" };
			bool known = false;
			int r = symbols_find(s, offset, &found);

			for (size_t j = 0; r == 0 && j < t->n && !known; j++)
				known = !strcmp(found.name, t->f[j].name) &&
					offset_of(t, t->f[j].addr) == found.start &&
					offset - found.start < t->f[j].size;
			if (!known)
				fail_msg("%s+%llu: got %d, %s", fn->name, (unsigned long long)k, r, found.name);
			checked++;
		}
	}
	return checked;
}

static const struct function *by_name(const struct truth *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++) {
		if (!strcmp(t->f[i].name, name))
			return &t->f[i];
	}
	fail_msg("nm does not list %s", name);
	return NULL;
}

/* ---- programs ------------------------------------------------------------------------ */

static void test_builds(void **state)
{
	static const char *const flags[] = {
		"-O2 -pie -fPIE",
		"-O2 -no-pie -fno-pie",
		"-O0 -pie -fPIE -Wl,-z,separate-code",
		"-O2 -pie -fPIE -Wl,-z,noseparate-code",
		"-O2 -no-pie -fno-pie -Wl,-Ttext-segment=0x10000000",
		"-O2 -shared -fPIC",
		"-O2 -static",
		"-O2 -pie -fPIE -g3 -Wl,--build-id=none -fuse-ld=bfd -Wl,--compress-debug-sections=zlib",
		"-O2 -pie -fPIE -Wl,-q",
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(flags); i++) {
		const struct truth *t;
		struct symbols *s;
		size_t n;

		assert_int_equal(sh("cc %s -o prog prog.c", flags[i]), 0);
		t = truth_of("prog", "");
		s = load("prog", NULL, "symtab");
		n = check_functions(s, t);
		assert_true(n > 100);
		expect_at(s, offset_of(t, by_name(t, "hidden")->addr), "hidden");
		expect_at(s, offset_of(t, by_name(t, "far_away")->addr), "far_away");
		/* One address, three names: the one without underscores, then the shorter. */
		expect_at(s, offset_of(t, by_name(t, "visible")->addr), "alias");
		symbols_free(s);
	}
}

/* Between functions, before the first and after the last there is no name. */
static void test_edges(void **state)
{
	const struct truth *t;
	struct symbols *s;
	uint64_t first = UINT64_MAX, last = 0;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(sh("cc -O2 -pie -fPIE -o prog prog.c"), 0);
	t = truth_of("prog", "");
	s = load("prog", NULL, "symtab");
	for (size_t i = 0; i < t->n; i++) {
		first = SB_MIN(first, offset_of(t, t->f[i].addr));
		last = SB_MAX(last, offset_of(t, t->f[i].addr) + t->f[i].size);
	}
	expect_at(s, 0, NULL);
	fd = open_at("prog");
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	expect_at(s, (uint64_t)st.st_size, NULL);
	expect_at(s, UINT64_MAX, NULL);
	/* Sizes are honoured: the padding after a function is nobody's. */
	for (size_t i = 0; i < t->n; i++) {
		uint64_t end = t->f[i].addr + t->f[i].size;
		struct symbol found;
		bool in_other = false;

		for (size_t j = 0; j < t->n; j++)
			in_other |= end >= t->f[j].addr && end < t->f[j].addr + t->f[j].size;
		if (!in_other && symbols_find(s, offset_of(t, end), &found) == 0 && !strcmp(found.name, t->f[i].name))
			fail_msg("%s goes on after its end", t->f[i].name);
	}
	symbols_free(s);
}

/* An assembler's function without a size ends at the next one, or with its section. */
static void test_without_size(void **state)
{
	static const char asm_source[] =
		".section .text.a,\"ax\",@progbits\n"
		".globl one\n.type one,@function\none: .skip 48, 0x90\n"
		".globl two\n.type two,@function\ntwo: .skip 16, 0x90\n"
		".globl _start\n.type _start,@function\n_start: .skip 16, 0x90\n.size _start,16\n.skip 16, 0x90\n"
		".globl three\n.type three,@function\nthree: .skip 32, 0x90\n"
		".section .fini,\"ax\",@progbits\n.skip 64, 0x90\n"
		".section .note.GNU-stack,\"\",@progbits\n";
	const struct truth *t;
	struct symbols *s;
	char path[512];
	uint64_t text;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/size.s", top);
	f = fopen(path, "w");
	fputs(asm_source, f);
	fclose(f);
	assert_int_equal(sh("cc -nostdlib -static -o size size.s"), 0);
	t = truth_of("size", "");
	text = offset_of(t, by_name(t, "_start")->addr) - 64;
	s = load("size", NULL, "symtab");
	expect_at(s, text - 1, NULL);
	expect_at(s, text, "one");
	expect_at(s, text + 47, "one");
	expect_at(s, text + 48, "two");
	expect_at(s, text + 63, "two");
	expect_at(s, text + 64, "_start");
	expect_at(s, text + 79, "_start");
	expect_at(s, text + 80, NULL);
	expect_at(s, text + 96, "three");
	expect_at(s, text + 127, "three");
	expect_at(s, text + 128, NULL); /* .fini, or what lies between */
	expect_at(s, text + 170, NULL);
	symbols_free(s);
}

static void test_stripped(void **state)
{
	_cleanup_close_ int fd = -1;
	const struct truth *t;
	struct symbols *s = NULL;
	const char *from;

	(void)state;
	assert_int_equal(sh("cc -O2 -rdynamic -pie -fPIE -o prog prog.c && strip -o stripped prog"), 0);
	t = truth_of("prog", "--dynamic");
	s = load("stripped", NULL, "dynsym");
	assert_true(check_functions(s, t) > 50);
	expect_at(s, offset_of(t, by_name(t, "alias")->addr), "alias");
	t = truth_of("prog", "");
	expect_at(s, offset_of(t, by_name(t, "hidden")->addr), NULL); /* static: gone */
	symbols_free(s);
	/* Nothing to name at all. */
	assert_int_equal(sh("cc -nostdlib -static -o size size.s && strip -o none size"), 0);
	fd = open_at("none");
	s = NULL;
	assert_int_equal(symbols_load_elf(fd, NULL, &s, &from), -ENODATA);
	assert_null(s);
}

/* Detached symbols, found by build-id. */
static void test_detached(void **state)
{
	char root[512];
	const struct truth *t;
	struct symbols *s;

	(void)state;
	assert_int_equal(sh("cc -O2 -g -rdynamic -pie -fPIE -Wl,--build-id=0xabcdef0123456789 -o prog prog.c && strip -o stripped prog && "
			    "mkdir -p root/.build-id/ab && "
			    "objcopy --only-keep-debug prog root/.build-id/ab/cdef0123456789.debug"), 0);
	snprintf(root, sizeof(root), "%s/root", top);
	t = truth_of("prog", "");
	s = load("stripped", root, "symtab");
	assert_true(check_functions(s, t) > 100);
	expect_at(s, offset_of(t, by_name(t, "hidden")->addr), "hidden");
	symbols_free(s);
	/* The file's own table comes first. */
	assert_int_equal(sh("echo broken >root/.build-id/ab/cdef0123456789.debug"), 0);
	symbols_free(load("prog", root, "symtab"));
	symbols_free(load("stripped", root, "dynsym"));
}

/* Detached symbols, found by the name that the file tells: in each place, and only if they are its own. */
static void test_linked(void **state)
{
	static const char *const ids[] = { "0xabcdef0123456789", "none" };
	static const char *const places[] = { ".", ".debug", "root$(pwd -P)" };
	const struct truth *t;
	struct symbols *s;
	char root[512];

	(void)state;
	snprintf(root, sizeof(root), "%s/root", top);
	for (size_t i = 0; i < SB_ARRAY_SIZE(ids); i++) {
		assert_int_equal(sh("rm -rf root .debug odd; cc -O2 -g -rdynamic -pie -fPIE -Wl,--build-id=%s -o prog prog.c && "
				    "objcopy --only-keep-debug prog odd.dbg && strip -o bare prog && "
				    "objcopy --add-gnu-debuglink=odd.dbg bare linked && mv odd.dbg away", ids[i]), 0);
		t = truth_of("prog", "");
		symbols_free(load("linked", root, "dynsym"));
		for (size_t p = 0; p < SB_ARRAY_SIZE(places); p++) {
			assert_int_equal(sh("mkdir -p %s && cp away %s/odd.dbg", places[p], places[p]), 0);
			s = load("linked", root, "symtab");
			assert_true(check_functions(s, t) > 100);
			expect_at(s, offset_of(t, by_name(t, "hidden")->addr), "hidden");
			symbols_free(s);
			symbols_free(load("linked", NULL, "dynsym"));
			/* Another build's. */
			assert_int_equal(sh("cc -O1 -g -pie -fPIE -Wl,--build-id=%s -o other prog.c && objcopy --only-keep-debug other %s/odd.dbg",
					    i ? "none" : "0xabcdef0123456788", places[p]), 0);
			symbols_free(load("linked", root, "dynsym"));
			assert_int_equal(sh("rm %s/odd.dbg && mkfifo %s/odd.dbg", places[p], places[p]), 0);
			symbols_free(load("linked", root, "dynsym"));
			assert_int_equal(sh("rm %s/odd.dbg", places[p]), 0);
		}
	}
}

static void test_32_bit(void **state)
{
	const struct truth *t;
	struct symbols *s;

	(void)state;
	if (sh("cc -m32 -nostdlib -static -o size32 size.s") != 0) {
		print_message("the compiler has no -m32\n");
		skip();
	}
	t = truth_of("size32", "");
	s = load("size32", NULL, "symtab");
	expect_at(s, offset_of(t, by_name(t, "_start")->addr) - 64, "one");
	symbols_free(s);
}

/* The libraries and the program of this process. */
static void test_this_process(void **state)
{
	char line[1024], path[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	size_t files = 0;

	(void)state;
	while (fgets(line, sizeof(line), maps)) {
		_cleanup_close_ int fd = -1;
		struct symbols *s = NULL;
		const char *from;

		if (sscanf(line, "%*s r-xp %*s %*s %*s %511s", path) != 1 || path[0] != '/')
			continue;
		fd = open(path, O_RDONLY);
		assert_int_equal(symbols_load_elf(fd, "/usr/lib/debug", &s, &from), 0);
		symbols_free(s);
		files++;
	}
	fclose(maps);
	assert_true(files >= 3);
}

static void test_build_id(void **state)
{
	static const uint8_t want[] = { 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89 };
	_cleanup_close_ int with = -1, without = -1, text = -1;
	uint8_t id[32] = {};

	(void)state;
	assert_int_equal(sh("cc -O2 -Wl,--build-id=0xabcdef0123456789 -o with prog.c && cc -O2 -Wl,--build-id=none -o without prog.c"),
			 0);
	with = open_at("with");
	without = open_at("without");
	text = open_at("prog.c");
	assert_int_equal(elf_build_id(with, id, sizeof(id)), sizeof(want));
	assert_memory_equal(id, want, sizeof(want));
	assert_int_equal(elf_build_id(with, id, 3), 3);
	assert_int_equal(elf_build_id(without, id, sizeof(id)), 0);
	assert_int_equal(elf_build_id(text, id, sizeof(id)), -ENOEXEC);
}

static void test_no_elf(void **state)
{
	static const char *const made[] = { ": >x", "printf '\\177ELF' >x", "head -c 63 prog >x", "head -c 64 prog >x",
					    "head -c 4096 prog >x", "head -c 100000 /dev/zero >x",
					    "rm -f x.a && cc -c -o x.o prog.c && ar rc x.a x.o && mv x.a x" };

	(void)state;
	assert_int_equal(sh("cc -O2 -o prog prog.c"), 0);
	for (size_t i = 0; i < SB_ARRAY_SIZE(made); i++) {
		_cleanup_close_ int fd = -1;
		struct symbols *s = NULL;
		const char *from;
		uint8_t id[32];
		int r;

		assert_int_equal(sh("%s", made[i]), 0);
		fd = open_at("x");
		r = symbols_load_elf(fd, NULL, &s, &from);
		if (r != -ENOEXEC && r != -ENODATA)
			fail_msg("%s: got %d", made[i], r);
		assert_null(s);
		assert_true(elf_build_id(fd, id, sizeof(id)) <= 0);
	}
	{
		_cleanup_close_ int fd = open("/dev/zero", O_RDONLY), d = open("/tmp", O_RDONLY);
		struct symbols *s = NULL;
		const char *from;

		assert_int_equal(symbols_load_elf(fd, NULL, &s, &from), -ENOEXEC);
		assert_int_equal(symbols_load_elf(d, NULL, &s, &from), -ENOEXEC);
	}
}

/* ---- files that lie ------------------------------------------------------------------- */

/* A file with one executable segment, a .symtab of n functions and its names. */
struct forged {
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	Elf64_Shdr sh[3]; /* none, .symtab, .strtab */
};

static struct forged forge(uint64_t n_symbols, uint64_t names_len)
{
	struct forged f = {
		.eh = { .e_type = ET_DYN, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_ehsize = sizeof(Elf64_Ehdr),
			.e_phoff = offsetof(struct forged, ph), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1,
			.e_shoff = offsetof(struct forged, sh), .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 3 },
		.ph = { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = 1 << 20, .p_memsz = 1 << 20 },
	};

	memcpy(f.eh.e_ident, ELFMAG, SELFMAG);
	f.eh.e_ident[EI_CLASS] = ELFCLASS64;
	f.eh.e_ident[EI_DATA] = ELFDATA2LSB;
	f.eh.e_ident[EI_VERSION] = EV_CURRENT;
	f.sh[1] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_offset = sizeof(f), .sh_size = n_symbols * sizeof(Elf64_Sym),
				.sh_link = 2, .sh_entsize = sizeof(Elf64_Sym), .sh_addralign = 8 };
	f.sh[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = sizeof(f) + f.sh[1].sh_size, .sh_size = names_len,
				.sh_addralign = 1 };
	return f;
}

static int forged_file(const struct forged *f, uint64_t n_symbols, const char *names, size_t names_len, off_t size)
{
	char path[512];
	Elf64_Sym sym = { .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1, .st_size = 16 };
	FILE *out;
	int fd;

	snprintf(path, sizeof(path), "%s/forged", top);
	out = fopen(path, "w");
	assert_non_null(out);
	fwrite(f, sizeof(*f), 1, out);
	for (uint64_t i = 0; i < n_symbols; i++) {
		sym.st_name = 1;
		sym.st_value = 16 * i;
		fwrite(&sym, sizeof(sym), 1, out);
	}
	fwrite(names, 1, names_len, out);
	fclose(out);
	if (size)
		assert_int_equal(truncate(path, size), 0);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	return fd;
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void test_forged_is_good(void **state)
{
	struct forged f = forge(3, 4);
	_cleanup_close_ int fd = forged_file(&f, 3, "\0fn", 4, 0);
	struct symbols *s = NULL;
	const char *from;

	(void)state;
	assert_int_equal(symbols_load_elf(fd, NULL, &s, &from), 0);
	expect_at(s, 47, "fn");
	expect_at(s, 48, NULL);
	symbols_free(s);
	/* A name that goes on where the table ends is none. */
	close(fd);
	f.sh[2].sh_size = 3;
	fd = forged_file(&f, 3, "\0fn", 4, 0);
	s = NULL;
	assert_int_equal(symbols_load_elf(fd, NULL, &s, &from), -ENODATA);
	assert_null(s);
}

/* Names without an end: each one would be searched to the end of the table. */
static void test_endless_names(void **state)
{
	const uint64_t n = 20000;
	const size_t len = 8 << 20;
	char *names = malloc(len);
	struct forged f = forge(n, len);
	_cleanup_close_ int fd = -1;
	struct symbols *s = NULL;
	struct symbol found;
	const char *from;
	double began;
	int r;

	(void)state;
	memset(names, 'x', len);
	names[0] = '\0';
	fd = forged_file(&f, n, names, len, 0);
	began = cpu_seconds();
	r = symbols_load_elf(fd, NULL, &s, &from);
	/* 20,000 names of 8 MiB would be 160 GB to look at; each is cut. */
	assert_true(cpu_seconds() - began < 2);
	assert_int_equal(r, 0);
	assert_int_equal(symbols_find(s, 0, &found), 0);
	assert_int_equal(strlen(found.name), 4095);
	symbols_free(s);
	free(names);
}

/* What a call takes at most, in MiB. */
static long most_memory(int fd)
{
	struct rusage before, after;
	struct symbols *s = NULL;
	const char *from;
	uint8_t id[32];
	pid_t child = fork(); /* the most so far is its own */
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		getrusage(RUSAGE_SELF, &before);
		if (symbols_load_elf(fd, NULL, &s, &from) == 0 || elf_build_id(fd, id, sizeof(id)) > 0)
			_exit(255);
		getrusage(RUSAGE_SELF, &after);
		_exit((int)SB_MIN((after.ru_maxrss - before.ru_maxrss) >> 10, 254L));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
	return WEXITSTATUS(status);
}

/* Sizes that are true of a file full of holes: refused before memory is taken for them. */
static void test_huge_claims(void **state)
{
	const uint64_t huge = 900ULL << 20;

	(void)state;
	for (int what = 0; what < 3; what++) {
		struct forged f = forge(3, 4);
		_cleanup_close_ int fd = -1;

		if (what == 0) {
			f.sh[2].sh_size = huge;
		} else if (what == 1) {
			f.sh[1].sh_size = huge;
		} else {
			/* More sections than e_shnum can say: their number stands in the first one. */
			f.eh.e_shnum = 0;
			f.sh[0].sh_size = 2000000;
		}
		fd = forged_file(&f, 3, "\0fn", 4, (off_t)huge + 4096);
		assert_true(most_memory(fd) < 32);
	}
}

/* A compressed string table would be unpacked, whatever size it has then. */
static void test_compressed_names(void **state)
{
	const size_t plain = 300u << 20;
	Elf64_Chdr ch = { .ch_type = ELFCOMPRESS_ZLIB, .ch_size = plain, .ch_addralign = 1 };
	char path[512], *data;
	_cleanup_close_ int fd = -1;
	struct forged f;
	size_t packed;
	struct stat st;
	FILE *in;

	(void)state;
	if (sh("python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.compress(bytes(%zu), 1))' >packed", plain)) {
		print_message("no python3 to compress with\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/packed", top);
	assert_int_equal(stat(path, &st), 0);
	packed = (size_t)st.st_size;
	data = malloc(sizeof(ch) + packed);
	memcpy(data, &ch, sizeof(ch));
	in = fopen(path, "r");
	assert_int_equal(fread(data + sizeof(ch), 1, packed, in), packed);
	fclose(in);
	f = forge(3, sizeof(ch) + packed);
	f.sh[2].sh_flags = SHF_COMPRESSED;
	fd = forged_file(&f, 3, data, sizeof(ch) + packed, 0);
	free(data);
	assert_true(most_memory(fd) < 32);
}

static int begin(void **state)
{
	if (set_up(state))
		return -1;
	write_text("prog.c", source);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_builds),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_without_size),
		cmocka_unit_test(test_stripped),
		cmocka_unit_test(test_detached),
		cmocka_unit_test(test_linked),
		cmocka_unit_test(test_32_bit),
		cmocka_unit_test(test_this_process),
		cmocka_unit_test(test_build_id),
		cmocka_unit_test(test_no_elf),
		cmocka_unit_test(test_forged_is_good),
		cmocka_unit_test(test_endless_names),
		cmocka_unit_test(test_huge_claims),
		cmocka_unit_test(test_compressed_names),
	};

	return cmocka_run_group_tests(tests, begin, tear_down);
}
