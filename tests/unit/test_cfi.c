// SPDX-License-Identifier: BSD-2-Clause
/*
 * Rows from .eh_frame against the truth: for every byte of code that .eh_frame_hdr lists, what
 * elfutils' libdw says of it. Real programs, and programs built here with all that compilers write.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>

#include "tests/unit/cfi.h"

static const char source[] =
	"#include <alloca.h>\n#include <setjmp.h>\n#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
	"#include <string.h>\n"
	"static volatile int sink; static jmp_buf env;\n"
	"#define FAR __attribute__((noinline))\n"
	"static void on_signal(int s) { sink = s; }\n"
	"FAR int leaf(int x) { return x * 3 + sink; }\n"
	"FAR int many(int a, int b, int c, int d, int e, int f, int g, int h) {\n"
	"  char s[200]; snprintf(s, sizeof s, \"%d%d%d%d%d%d\", a, b, c, d, e, f); return leaf(g + h) + s[0]; }\n"
	"FAR int with_alloca(int n) { char *p = alloca(n); memset(p, n, n); return many(1, 2, 3, 4, 5, 6, n, p[n / 2]); }\n"
	"FAR int with_vla(int n) { int p[n]; for (int i = 0; i < n; i++) p[i] = leaf(i); return p[n - 1] + with_alloca(n); }\n"
	"FAR int aligned(int n) { __attribute__((aligned(64))) char p[256]; memset(p, n, sizeof p); return with_vla(p[n]); }\n"
	"FAR int huge(int n) { char p[300000]; memset(p, n, sizeof p); return aligned(n) + p[n]; }\n"
	"FAR int jumper(int n) { if (setjmp(env)) return 1; if (n < 0) longjmp(env, 1); return huge(n); }\n"
	"FAR double floats(double a, int n) { double v[8]; for (int i = 0; i < 8; i++) v[i] = a * i; return v[n & 7]; }\n"
	"FAR static int compare_ints(const void *a, const void *b) { return *(int *)a - *(int *)b; }\n"
	"FAR int switcher(int n) { switch (n) { case 1: return leaf(2); case 2: abort(); case 3: exit(3);\n"
	"  case 4: return jumper(n); case 5: return with_vla(n); default: return -n; } }\n"
	"int main(int argc, char **argv) { int v[] = { 3, 1, 2 }; signal(SIGUSR1, on_signal); raise(SIGUSR1);\n"
	"  qsort(v, 3, sizeof *v, compare_ints); return switcher(argc) + (int)floats(argc, v[0]) + (argv == 0); }\n";

static int set_up_program(void **state)
{
	if (set_up(state) < 0)
		return -1;
	write_file("prog.c", source, strlen(source));
	return 0;
}

/* ---- the truth: libdw ------------------------------------------------------------------ */

struct machine {
	int sp, fp, ra, n_regs;
};

static const struct machine x86 = { 7, 6, 16, 16 }, arm64 = { 31, 29, 30, 31 };
static const struct sb_unwind_rule unsupported = { .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_LOST << 4 };

/* A register plus an offset, in any of the forms that libdw gives it. */
static bool is_base(const Dwarf_Op *op, int reg, int64_t *off)
{
	if (op->atom == DW_OP_bregx && op->number == (Dwarf_Word)reg) {
		*off = (int64_t)op->number2;
		return true;
	}
	if (op->atom == DW_OP_breg0 + reg) {
		*off = (int64_t)op->number;
		return true;
	}
	return false;
}

static int other_base(const Dwarf_Op *op, const struct machine *m, int64_t *off)
{
	for (int reg = 0; reg < m->n_regs; reg++) {
		if (is_base(op, reg, off))
			return reg;
	}
	return -1;
}

static bool fits(int64_t v)
{
	return v >= INT32_MIN && v <= INT32_MAX;
}

static bool truth_is_plt(const Dwarf_Op *ops, size_t n)
{
	return n == 9 && ops[0].atom == DW_OP_breg7 && ops[0].number == 8 && ops[1].atom == DW_OP_breg16 &&
	       ops[2].atom == DW_OP_lit15 && ops[3].atom == DW_OP_and && ops[4].atom >= DW_OP_lit0 &&
	       ops[4].atom <= DW_OP_lit15 && ops[5].atom == DW_OP_ge && ops[6].atom == DW_OP_lit3 &&
	       ops[7].atom == DW_OP_shl && ops[8].atom == DW_OP_plus;
}

/* False: libdw finds the instructions in error. */
static bool truth_cfa(Dwarf_Frame *frame, const struct machine *m, struct sb_unwind_rule *r)
{
	Dwarf_Op *ops;
	int64_t off = 0;
	size_t n;
	bool sp;

	r->cfa = SB_CFA_UNSUPPORTED;
	if (dwarf_frame_cfa(frame, &ops, &n) != 0)
		return false;
	if (n == 0)
		return true;
	if (m == &x86 && truth_is_plt(ops, n)) {
		r->cfa = SB_CFA_PLT;
		r->cfa_off = ops[4].atom - DW_OP_lit0;
		return true;
	}
	sp = is_base(&ops[0], m->sp, &off);
	if (n == 1 && !sp && !is_base(&ops[0], m->fp, &off) && other_base(&ops[0], m, &off) >= 0 && fits(off)) {
		r->cfa = SB_CFA_REGISTER;
		r->post = (int8_t)other_base(&ops[0], m, &off);
		r->cfa_off = (int32_t)off;
		return true;
	}
	if ((!sp && !is_base(&ops[0], m->fp, &off)) || !fits(off))
		return true;
	if (n == 1)
		r->cfa = sp ? SB_CFA_SP : SB_CFA_FP;
	else if (n == 2 && ops[1].atom == DW_OP_deref)
		r->cfa = sp ? SB_CFA_DEREF_SP : SB_CFA_DEREF_FP;
	else if (n == 3 && ops[1].atom == DW_OP_deref && ops[2].atom == DW_OP_plus_uconst && ops[2].number < 128) {
		r->cfa = sp ? SB_CFA_DEREF_SP : SB_CFA_DEREF_FP;
		r->post = (int8_t)ops[2].number;
	} else {
		return true;
	}
	r->cfa_off = (int32_t)off;
	return true;
}

static uint8_t truth_register(Dwarf_Frame *frame, int reg, const struct machine *m, int32_t *ret_off)
{
	Dwarf_Op *ops, mem[3];
	int64_t off = 0;
	size_t n;

	*ret_off = 0;
	if (dwarf_frame_register(frame, reg, mem, &ops, &n) != 0)
		return SB_AT_LOST;
	if (n == 0)
		return ops ? (reg == m->ra ? SB_AT_END : SB_AT_LOST) : SB_AT_SAME;
	/* DW_CFA_expression: the CFA lies on the stack, and what follows does not use it. */
	if (ops[0].atom == DW_OP_call_frame_cfa && n == 2 && (is_base(&ops[1], m->sp, &off) || is_base(&ops[1], m->fp, &off))) {
		ops++;
		n--;
	}
	if (ops[0].atom == DW_OP_call_frame_cfa && (n == 1 || (n == 2 && ops[1].atom == DW_OP_plus_uconst))) {
		off = n == 2 ? (int64_t)ops[1].number : 0;
		*ret_off = (int32_t)off;
		return fits(off) ? SB_AT_CFA : SB_AT_LOST;
	}
	if (n != 1)
		return SB_AT_LOST;
	if (is_base(&ops[0], m->sp, &off) && fits(off)) {
		*ret_off = (int32_t)off;
		return SB_AT_SP;
	}
	if (is_base(&ops[0], m->fp, &off) && fits(off)) {
		*ret_off = (int32_t)off;
		return SB_AT_FP;
	}
	return SB_AT_LOST;
}

static struct sb_unwind_rule truth_rule(Dwarf_Frame *frame, const struct machine *m, bool signal, bool *ret_error)
{
	struct sb_unwind_rule r = { .flags = signal ? SB_RULE_SIGNAL : 0 };
	uint8_t fp, ra;

	*ret_error = !truth_cfa(frame, m, &r);
	fp = truth_register(frame, m->fp, m, &r.fp_off);
	ra = truth_register(frame, m->ra, m, &r.ra_off);
	if (ra == SB_AT_END)
		return (struct sb_unwind_rule){ .cfa = SB_CFA_UNSUPPORTED, .where = SB_AT_END << 4 };
	if (ra == SB_AT_SAME && m == &x86)
		ra = SB_AT_LOST;
	if (r.cfa == SB_CFA_UNSUPPORTED || ra == SB_AT_LOST)
		return unsupported;
	r.where = (uint8_t)(fp | ra << 4);
	return r;
}

struct agreement {
	uint64_t functions, bytes, equal;
	uint64_t followed; /* of the equal ones: we can follow the rule */
	uint64_t refused;  /* functions that libdw reads no frame information of */
	uint64_t errors;   /* bytes for which libdw finds the instructions in error; not in bytes */
	char first[256];   /* disagreement */
};

static void describe(struct agreement *a, uint64_t addr, const struct sb_unwind_rule *got, const struct sb_unwind_rule *want)
{
	if (!a->first[0])
		snprintf(a->first, sizeof(a->first),
			 "0x%llx: got cfa %d %+d post %d where %02x flags %d fp %+d ra %+d, libdw: cfa %d %+d post %d "
			 "where %02x flags %d fp %+d ra %+d",
			 (unsigned long long)addr, got->cfa, got->cfa_off, got->post, got->where, got->flags,
			 got->fp_off, got->ra_off, want->cfa, want->cfa_off, want->post, want->where, want->flags,
			 want->fp_off, want->ra_off);
}

/* Every byte of [start, end), for which libdw has one rule. */
static void compare_range(const struct loaded *l, uint64_t start, uint64_t end, const struct sb_unwind_rule *want,
			  struct agreement *a)
{
	for (uint64_t addr = start; addr < end; addr++) {
		struct sb_unwind_rule got = rule_at(l, addr);
		bool same = !memcmp(&got, want, sizeof(got));

		a->bytes++;
		a->equal += same;
		a->followed += same && (got.cfa != SB_CFA_UNSUPPORTED || got.where >> 4 == SB_AT_END);
		if (!same)
			describe(a, addr, &got, want);
	}
}

/* From one entry of .eh_frame_hdr to the next one, as far as libdw knows the code. */
static void compare_function(const struct loaded *l, Dwarf_CFI *cfi, const struct machine *m, uint64_t start,
			     uint64_t limit, struct agreement *a)
{
	Dwarf_Frame *frame;
	uint64_t at = start;

	while (at < limit && dwarf_cfi_addrframe(cfi, at, &frame) == 0) {
		struct sb_unwind_rule want;
		Dwarf_Addr from, to;
		bool signal, error;

		assert_true(dwarf_frame_info(frame, &from, &to, &signal) >= 0);
		want = truth_rule(frame, m, signal, &error);
		free(frame);
		assert_true(to > at);
		to = SB_MIN(to, limit);
		if (error)
			a->errors += to - at;
		else
			compare_range(l, at, to, &want, a);
		at = to;
	}
	a->refused += at == start;
	a->functions++;
}

static Elf_Data *section(Elf *elf, const char *name, GElf_Shdr *ret)
{
	Elf_Scn *scn = NULL;
	size_t names;

	if (elf_getshdrstrndx(elf, &names) < 0)
		return NULL;
	while ((scn = elf_nextscn(elf, scn))) {
		const char *s;

		if (gelf_getshdr(scn, ret) && (s = elf_strptr(elf, names, ret->sh_name)) && !strcmp(s, name))
			return elf_getdata(scn, NULL);
	}
	return NULL;
}

/* Starts of all functions: the table that the linker writes for binary search. */
static int32_t *search_table(Elf *elf, uint64_t *ret_base, uint32_t *ret_n)
{
	GElf_Shdr sh;
	Elf_Data *d = section(elf, ".eh_frame_hdr", &sh);
	const uint8_t *p = d ? d->d_buf : NULL;

	if (!p || d->d_size < 12 || p[0] != 1 || p[1] != 0x1b || p[2] != 0x03 || p[3] != 0x3b)
		return NULL;
	memcpy(ret_n, p + 8, 4);
	assert_true(12 + 8ULL * *ret_n <= d->d_size);
	*ret_base = sh.sh_addr;
	return (int32_t *)(p + 12);
}

static struct agreement compare(const char *name)
{
	_cleanup_close_ int fd = open_at(name);
	struct agreement a = {};
	struct loaded l;
	GElf_Ehdr eh;
	const int32_t *table;
	uint64_t base = 0;
	uint32_t n = 0;
	Dwarf_CFI *cfi;
	Elf *elf;

	assert_true(fd >= 0);
	load_fd(fd, &l);
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	assert_non_null(elf);
	assert_non_null(gelf_getehdr(elf, &eh));
	table = search_table(elf, &base, &n);
	cfi = dwarf_getcfi_elf(elf);
	assert_non_null(cfi);
	if (!table) { /* static programs: every address is tried */
		GElf_Shdr text = {};

		assert_non_null(section(elf, ".text", &text));
		for (uint64_t at = text.sh_addr; at < text.sh_addr + text.sh_size;) {
			uint64_t before = a.bytes;

			compare_function(&l, cfi, &x86, at, text.sh_addr + text.sh_size, &a);
			at += SB_MAX(a.bytes - before, 1ULL);
		}
		a.refused = 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint64_t start = base + (uint64_t)(int64_t)table[2 * i];

		compare_function(&l, cfi, eh.e_machine == EM_X86_64 ? &x86 : &arm64, start,
				 i + 1 < n ? base + (uint64_t)(int64_t)table[2 * i + 2] : UINT64_MAX, &a);
	}
	dwarf_cfi_end(cfi);
	elf_end(elf);
	print_message("%s: %llu bytes of code in %llu functions, %.4f %% equal, %.4f %% followed; for libdw "
		      "%llu functions and %llu bytes are in error\n",
		      name, (unsigned long long)a.bytes, (unsigned long long)a.functions,
		      100.0 * (double)a.equal / (double)SB_MAX(a.bytes, 1ULL),
		      100.0 * (double)a.followed / (double)SB_MAX(a.bytes, 1ULL), (unsigned long long)a.refused,
		      (unsigned long long)a.errors);
	if (a.first[0])
		fail_msg("%s, %llu bytes of %llu differ, the first: %s", name, (unsigned long long)(a.bytes - a.equal),
			 (unsigned long long)a.bytes, a.first);
	/* What was dropped would have differed; and there is nothing else to be dropped. */
	assert_int_equal(bad_of(&l.counts), 0);
	assert_int_equal(a.refused, 0);
	unload(&l);
	return a;
}

/* ---- real programs --------------------------------------------------------------------- */

static void expect_real(const char *const *paths, uint64_t min_bytes, double min_followed, uint64_t max_errors)
{
	struct agreement a;
	size_t i = 0;

	while (paths[i] && access(paths[i], R_OK) < 0)
		i++;
	if (!paths[i]) {
		print_message("no %s here\n", paths[0]);
		skip();
	}
	a = compare(paths[i]);
	assert_true(a.bytes >= min_bytes);
	assert_true((double)a.followed >= min_followed * (double)a.bytes);
	assert_true(a.errors <= max_errors);
}

#define LIB "/lib/x86_64-linux-gnu/"
#define REAL(name, min_bytes, min_followed, max_errors, ...)                     \
	static void test_##name(void **state)                                    \
	{                                                                        \
		const char *const paths[] = { __VA_ARGS__, NULL };               \
		(void)state;                                                     \
		expect_real(paths, min_bytes, min_followed, max_errors);         \
	}

REAL(libc, 1000000, 0.9998, 0, LIB "libc.so.6")
REAL(ld_so, 100000, 0.9997, 0, "/lib64/ld-linux-x86-64.so.2") /* longjmp: the return address is in rdx */
REAL(libstdcxx, 900000, 1, 0, "/usr" LIB "libstdc++.so.6")
REAL(bash, 600000, 1, 0, "/usr/bin/bash")
REAL(python3, 2000000, 1, 0, "/usr/bin/python3.11", "/usr/bin/python3")
/* Assembler: expressions over the whole frame in some hand-written loops. */
REAL(libcrypto, 2000000, 0.998, 0, LIB "libcrypto.so.3")
/* Assembler again: a register is told after an expression. libgcc and we go on with the offset
 * from before the expression, as its author meant it; libdw finds that in error. */
REAL(libgcrypt, 800000, 0.9999, 64, "/usr" LIB "libgcrypt.so.20")
REAL(node, 10000000, 0.999, 0, "/usr/bin/node")
REAL(rust, 1000000, 1, 0, "/usr/bin/rg")
REAL(java, 5000000, 1, 0, "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so")
/* Go has its own tables and frame pointers; rows are only for what C brought in. */
REAL(go, 1000, 1, 0, "/usr/bin/fzf")
REAL(arm64_libc, 1000000, 1, 0, "/usr/aarch64-linux-gnu/lib/libc.so.6")

/* ---- programs that are built here ------------------------------------------------------- */

static void test_built(void **state)
{
	static const char *const flags[] = {
		"-O0", "-O1", "-O2", "-O3", "-Os", "-O2 -fno-omit-frame-pointer", "-O0 -fomit-frame-pointer",
		"-O2 -mstackrealign", "-O2 -fstack-clash-protection", "-O2 -fno-asynchronous-unwind-tables -fexceptions",
		"-O2 -static", "-O2 -no-pie -fno-pie", "-O2 -fcf-protection -Wl,-z,ibtplt -Wl,-z,lazy",
		"-O2 -fcf-protection=none -Wl,-z,lazy", "-O2 -Wl,-z,now", "-O2 -shared -fPIC", "-O2 -Wl,-z,noseparate-code",
		"-O2 -fPIE -pie -Wl,-Ttext-segment=0x7000000", "-O3 -flto", "-O2 -ffunction-sections -Wl,--gc-sections",
		"-O2 -maccumulate-outgoing-args", "-O2 -mno-red-zone -fsplit-stack", "-O2 -fpatchable-function-entry=8",
	};
	static const char *const compilers[] = { "gcc", "clang" };
	unsigned int built = 0;

	(void)state;
	for (size_t c = 0; c < SB_ARRAY_SIZE(compilers); c++) {
		for (size_t i = 0; i < SB_ARRAY_SIZE(flags); i++) {
			struct agreement a;

			if (sh("%s -w %s -o prog prog.c", compilers[c], flags[i]))
				continue; /* an option of the other compiler */
			a = compare("prog");
			assert_true(a.bytes > 300);
			assert_true(a.bytes - a.followed <= a.bytes / 5000);
			built++;
		}
	}
	print_message("%u builds\n", built);
	assert_true(built >= SB_ARRAY_SIZE(flags));
}

/* Entries of a lazy PLT push a second word, and the GNU linker says from which byte on. */
static void test_plt(void **state)
{
	static const struct {
		const char *flags;
		int threshold;
	} how[] = {
		{ "-fcf-protection=none -Wl,-z,lazy", 11 },
		{ "-fcf-protection -Wl,-z,ibtplt -Wl,-z,lazy", 9 },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(how); i++) {
		_cleanup_close_ int fd = -1;
		struct sb_unwind_rule rule;
		struct loaded l;
		GElf_Shdr sh_plt;
		Elf *elf;

		assert_int_equal(sh("gcc -O2 %s -o prog prog.c", how[i].flags), 0);
		load("prog", &l);
		fd = open_at("prog");
		elf = elf_begin(fd, ELF_C_READ, NULL);
		assert_non_null(section(elf, ".plt", &sh_plt));
		rule = rule_at(&l, sh_plt.sh_addr + 32);
		assert_int_equal(rule.cfa, SB_CFA_PLT);
		assert_int_equal(rule.cfa_off, how[i].threshold);
		assert_int_equal(rule.where, SB_AT_SAME | SB_AT_CFA << 4);
		assert_int_equal(rule.ra_off, -8);
		elf_end(elf);
		unload(&l);
	}
}

static const char arm64_source[] =
	".globl leaf\nleaf: .cfi_startproc\nnop\nnop\nret\n.cfi_endproc\n"
	".globl framed\nframed: .cfi_startproc\nstp x29, x30, [sp, -48]!\n.cfi_def_cfa_offset 48\n"
	".cfi_offset 29, -48\n.cfi_offset 30, -40\nmov x29, sp\n.cfi_def_cfa 29, 48\nnop\n"
	".cfi_negate_ra_state\nnop\n.cfi_undefined 30\nnop\n.cfi_endproc\n";

static void test_arm64(void **state)
{
	static const char *const flags[] = {
		"-O0", "-O2", "-O3", "-Os", "-O2 -fomit-frame-pointer", "-O2 -mbranch-protection=standard",
		"-O2 -mbranch-protection=pac-ret+leaf+b-key", "-O2 -fstack-clash-protection",
	};
	struct sb_unwind_rule rule;
	struct loaded l;

	(void)state;
	if (sh("command -v aarch64-linux-gnu-gcc >/dev/null")) {
		print_message("no aarch64-linux-gnu-gcc\n");
		skip();
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(flags); i++) {
		struct agreement a;

		assert_int_equal(sh("aarch64-linux-gnu-gcc %s -shared -fPIC -o arm64.so prog.c", flags[i]), 0);
		a = compare("arm64.so");
		assert_true(a.bytes > 500);
		assert_int_equal(a.followed, a.bytes);
	}
	/* A leaf has its return address in x30, all the way; a frame has both in its record. */
	write_file("leaf.s", arm64_source, strlen(arm64_source));
	assert_int_equal(sh("aarch64-linux-gnu-gcc -nostdlib -shared -o leaf.so leaf.s && "
			    "aarch64-linux-gnu-nm leaf.so | awk '/ leaf/ {print $1}' >at"), 0);
	{
		char path[512];
		unsigned long long at = 0;
		FILE *f;

		snprintf(path, sizeof(path), "%s/at", top);
		f = fopen(path, "r");
		assert_int_equal(fscanf(f, "%llx", &at), 1);
		fclose(f);
		load("leaf.so", &l);
		rule = rule_at(&l, at + 8);
		assert_memory_equal(&rule, &(struct sb_unwind_rule){ .cfa = SB_CFA_SP }, sizeof(rule));
		rule = rule_at(&l, at + 12);
		assert_memory_equal(&rule, &(struct sb_unwind_rule){ .cfa = SB_CFA_SP }, sizeof(rule));
		rule = rule_at(&l, at + 16);
		assert_memory_equal(&rule, (&(struct sb_unwind_rule){ .cfa = SB_CFA_SP, .where = SB_AT_CFA | SB_AT_CFA << 4,
					    .cfa_off = 48, .fp_off = -48, .ra_off = -40 }), sizeof(rule));
		rule = rule_at(&l, at + 20);
		assert_memory_equal(&rule, (&(struct sb_unwind_rule){ .cfa = SB_CFA_FP, .where = SB_AT_CFA | SB_AT_CFA << 4,
					    .cfa_off = 48, .fp_off = -48, .ra_off = -40 }), sizeof(rule));
		rule = rule_at(&l, at + 28);
		assert_int_equal(rule.where >> 4, SB_AT_END);
		unload(&l);
	}
}

/* Its name is gone and its bytes are not. */
static void test_deleted(void **state)
{
	_cleanup_close_ int fd = -1;
	struct agreement a;
	struct loaded l;

	(void)state;
	assert_int_equal(sh("cp /bin/bash gone"), 0);
	fd = open_at("gone");
	assert_int_equal(sh("rm gone"), 0);
	load_fd(fd, &l);
	a = compare("/bin/bash");
	assert_true(a.equal > 0);
	assert_int_equal(l.counts.fdes, a.functions);
	unload(&l);
}

/* ---- names of functions ----------------------------------------------------------------- */

/* Every function that the linker lists begins where it says, and ends where its FDE does. */
static void test_functions(void **state)
{
	_cleanup_close_ int fd = open_at("/bin/bash");
	struct unwind_functions *functions;
	struct unwind_image image;
	uint64_t base = 0, start, offset;
	const int32_t *table;
	uint32_t n = 0, one_byte = 0;
	Elf *elf;

	(void)state;
	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_int_equal(unwind_functions_build(&image, &limits, &functions), 0);
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	table = search_table(elf, &base, &n);
	assert_true(n > 1000);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = base + (uint64_t)(int64_t)table[2 * i];

		assert_int_equal(unwind_image_offset(&image, at, &offset), 0);
		assert_int_equal(unwind_functions_find(functions, offset, &start), 0);
		assert_int_equal(start, offset);
		/* Assembler has functions of one byte. */
		if (unwind_functions_find(functions, offset + 1, &start) == 0)
			assert_true(start == offset || start == offset + 1);
		else
			one_byte++;
		/* Before it is another function, or padding. */
		if (unwind_functions_find(functions, offset - 1, &start) == 0)
			assert_true(start < offset);
	}
	assert_true(one_byte < 10);
	assert_int_equal(unwind_functions_find(functions, 0, &start), -ENOENT);
	assert_int_equal(unwind_functions_find(functions, UINT64_MAX, &start), -ENOENT);
	elf_end(elf);
	unwind_functions_free(functions);
	unwind_image_done(&image);
}

/* The build-id is what readelf says. */
static void test_build_id(void **state)
{
	_cleanup_close_ int fd = open_at("/bin/bash");
	struct unwind_image image;
	char hex[2 * UNWIND_ID_BYTES + 1] = "";

	(void)state;
	assert_int_equal(unwind_image_read(fd, &image), 0);
	assert_int_equal(image.build_id_len, 20);
	for (size_t i = 0; i < image.build_id_len; i++)
		snprintf(hex + 2 * i, 3, "%02x", image.build_id[i]);
	assert_int_equal(sh("readelf -n /bin/bash | grep -q 'Build ID: %s'", hex), 0);
	unwind_image_done(&image);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libc),
		cmocka_unit_test(test_ld_so),
		cmocka_unit_test(test_libstdcxx),
		cmocka_unit_test(test_bash),
		cmocka_unit_test(test_python3),
		cmocka_unit_test(test_libcrypto),
		cmocka_unit_test(test_libgcrypt),
		cmocka_unit_test(test_node),
		cmocka_unit_test(test_rust),
		cmocka_unit_test(test_java),
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_arm64_libc),
		cmocka_unit_test(test_built),
		cmocka_unit_test(test_plt),
		cmocka_unit_test(test_arm64),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_functions),
		cmocka_unit_test(test_build_id),
	};

	/* With arguments: a comparison of these files. */
	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			compare(argv[i]);
		return 0;
	}
	return cmocka_run_group_tests(tests, set_up_program, tear_down);
}
