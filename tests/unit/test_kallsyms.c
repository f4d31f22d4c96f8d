// SPDX-License-Identifier: BSD-2-Clause
/* Kernel symbols from texts as /proc/kallsyms gives them, and from the real one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "symbols/symbols.h"
#include "tests/unit/one_file.h"

static void write_text(const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static struct symbols *load(const char *text, uint64_t *ret_text_start)
{
	struct symbols *s = NULL;
	uint64_t text_start = 77;

	write_text(text, strlen(text));
	assert_int_equal(symbols_load_kallsyms(path, &s, &text_start), 0);
	if (ret_text_start)
		*ret_text_start = text_start;
	return s;
}

static void expect(const struct symbols *s, uint64_t addr, const char *name, const char *module)
{
	struct symbol found = { .name = "-", .module = "-" };
	int r = symbols_find(s, addr, &found);

	if (r != (name ? 0 : -ENOENT) || strcmp(found.name, name ? name : "-") ||
	    strcmp(found.module, name ? module : "-"))
		fail_msg("0x%llx: got %d, %s [%s]; expected %s [%s]", (unsigned long long)addr, r,
			 found.name, found.module, name ? name : "nothing", module);
}

static const char sample[] =
	"0000000000000000 A fixed_percpu_data\n"
	"000000000001b000 D cpu_hot\n"
	"ffffffff81000000 T _text\n"
	"ffffffff81000000 T _stext\n"
	"ffffffff81000000 T startup_64\n"
	"ffffffff81000100 T __pfx_do_one\n"
	"ffffffff81000110 T do_one\n"
	"ffffffff81000200 t helper.isra.0\n"
	"ffffffff81000200 T __helper\n"
	"ffffffff81000300 W weak_one\n"
	"ffffffff81000400 T last_function\n"
	"ffffffff81001000 T _etext\n"
	"ffffffff82000000 D __start_rodata\n"
	"ffffffff83000000 T _sinittext\n"
	"ffffffff83000000 B __init_begin\n"
	"ffffffff83000010 T init_one\n"
	"ffffffff83001000 T _einittext\n"
	/* modules and BPF programs: sorted only among themselves */
	"ffffffffc0500000 t ext4_readpage\t[ext4]\n"
	"ffffffffc0500200 T ext4_writepage\t[ext4]\n"
	"ffffffffc0501000 d ext4_table\t[ext4]\n"
	"ffffffffc0400000 t nf_hook\t[nf_tables]\n"
	"ffffffffc0300000 t bpf_prog_6deef7357e7b4530_sched_switch\t[bpf]\n"
	"ffffffffc0300400 t bpf_prog_0123456789abcdef\t[bpf]\n"
	"ffffffffc0380000 t bpf_trampoline_6442526459\t[bpf]\n";

static void test_sample(void **state)
{
	uint64_t text_start;
	struct symbols *s = load(sample, &text_start);
	struct symbol found;

	(void)state;
	assert_true(text_start == 0xffffffff81000000ULL);
	/* before the first */
	expect(s, 0, NULL, "");
	expect(s, 0x1b000, NULL, "");
	expect(s, 0xffffffff80ffffffULL, NULL, "");
	/* a mark, a padding and a helper share addresses: the function says most */
	expect(s, 0xffffffff81000000ULL, "startup_64", "");
	expect(s, 0xffffffff810000ffULL, "startup_64", "");
	expect(s, 0xffffffff81000100ULL, "__pfx_do_one", "");
	expect(s, 0xffffffff81000110ULL, "do_one", "");
	expect(s, 0xffffffff810001ffULL, "do_one", "");
	expect(s, 0xffffffff81000250ULL, "__helper", "");
	expect(s, 0xffffffff81000300ULL, "weak_one", "");
	/* after the last one of the text: nothing */
	expect(s, 0xffffffff81000fffULL, "last_function", "");
	expect(s, 0xffffffff81001000ULL, NULL, "");
	expect(s, 0xffffffff82000000ULL, NULL, "");
	expect(s, 0xffffffff83000010ULL, "init_one", "");
	expect(s, 0xffffffff83001000ULL, NULL, "");
	expect(s, 0xffffffffc0500000ULL, "ext4_readpage", "ext4");
	expect(s, 0xffffffffc0500fffULL, "ext4_writepage", "ext4");
	expect(s, 0xffffffffc0501000ULL, NULL, "");
	expect(s, 0xffffffffc0300123ULL, "bpf_prog_6deef7357e7b4530_sched_switch", "bpf");
	expect(s, 0xffffffffc0300400ULL, "bpf_prog_0123456789abcdef", "bpf");
	expect(s, 0xffffffffc0380000ULL, "bpf_trampoline_6442526459", "bpf");
	assert_int_equal(symbols_find(s, 0xffffffff81000155ULL, &found), 0);
	assert_true(found.start == 0xffffffff81000110ULL);
	symbols_free(s);
}

/* The same answers, and processes forked later have no copy of their own. */
static void test_shared(void **state)
{
	struct symbols *s = load(sample, NULL);

	(void)state;
	assert_in_range(symbols_share(s), 6 * 8, 4096);
	expect(s, 0xffffffff81000110, "do_one", "");
	expect(s, 0xffffffff81000fff, "last_function", "");
	expect(s, 0xffffffff81001000, NULL, NULL);
	expect(s, 0xffffffffc0500201, "ext4_writepage", "ext4");
	symbols_free(s);
}

/* There are no sizes: nothing may be named after a function that ended long before. */
static void test_holes(void **state)
{
	struct symbols *s = load(sample, NULL);

	(void)state;
	/* between BPF programs, between modules, after the very last one */
	expect(s, 0xffffffffc0300400ULL + 20000, "bpf_prog_0123456789abcdef", "bpf");
	expect(s, 0xffffffffc0300400ULL + (64 << 10), NULL, "");
	expect(s, 0xffffffffc0380000ULL + (64 << 10), NULL, "");
	expect(s, 0xffffffffc0400000ULL, "nf_hook", "nf_tables");
	expect(s, 0xffffffffc0400000ULL + (64 << 10), NULL, "");
	expect(s, 0xffffffffc04fffffULL, NULL, "");
	symbols_free(s);
	s = load("ffffffff81000000 T only_one\n", NULL);
	expect(s, 0xffffffff81000000ULL + (64 << 10) - 1, "only_one", "");
	expect(s, 0xffffffff81000000ULL + (64 << 10), NULL, "");
	expect(s, UINT64_MAX, NULL, "");
	symbols_free(s);
}

static void test_odd_lines(void **state)
{
	struct symbols *s = load("\n"
				 "ffffffff81000000 T good\r\n" /* a name of printable bytes only */
				 "ffffffff81000010\n"
				 "ffffffff81000020 T\n"
				 "ffffffff81000030 T \n"
				 "ffffffff81000040 TT two_types\n"
				 "gfffffff81000050 T not_hex\n"
				 "1ffffffff81000060 T seventeen_digits\n"
				 "ffffffff81000070 T na\x1b[31mme\n"
				 "ffffffff81000080 T a\t[mod\n"
				 "ffffffff81000090 T b\t[]\n"
				 "ffffffff810000a0 T c\tmod]\n"
				 "ffffffff810000b0 T d [mod]\n"
				 "80 T short\n"
				 "ffffffff810000c0 T e\t[mod]", NULL); /* no newline at the end */

	(void)state;
	expect(s, 0xffffffff81000000ULL, NULL, "");
	expect(s, 0x80, "short", "");
	expect(s, 0xffffffff81000000ULL - 1, NULL, "");
	expect(s, 0xffffffff810000bfULL, NULL, "");
	expect(s, 0xffffffff810000c0ULL, "e", "mod");
	symbols_free(s);
}

/* Longer than any line can be: it is passed over, whatever stands in its middle. */
static void test_long_lines(void **state)
{
	static const size_t lengths[] = { 500, 900, 1100, 65000, 65535, 65536, 65537, 70000, 200000 };
	static const char forged[] = "ffffffff82000000 T forged";
	static char text[400000];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(lengths); i++) {
		struct symbols *s;
		size_t at;

		at = (size_t)sprintf(text, "ffffffff81000000 T before\nffffffff81000100 T ");
		memset(text + at, 'x', lengths[i]);
		/* a line of its own, for a reader that begins anew in the middle */
		if (lengths[i] > 100000)
			memcpy(text + 65536, forged, sizeof(forged) - 1);
		at += lengths[i];
		if (lengths[i] > 60000 && lengths[i] < 100000)
			memcpy(text + at - sizeof(forged) + 1, forged, sizeof(forged) - 1);
		strcpy(text + at, "\nffffffff81000200 T after\n");
		s = load(text, NULL);
		expect(s, 0xffffffff81000000ULL, "before", "");
		if (lengths[i] > 1024)
			expect(s, 0xffffffff810001ffULL, "before", "");
		expect(s, 0xffffffff81000200ULL, "after", "");
		expect(s, 0xffffffff82000000ULL, NULL, "");
		symbols_free(s);
	}
}

/* The worst place: what the reader's buffer of 64 KiB holds next is a line of its own. */
static void test_forged_tail(void **state)
{
	static char text[70000];
	struct symbols *s;
	size_t at = (size_t)sprintf(text, "ffffffff81000000 T before\n");

	(void)state;
	memset(text + at, 'x', 65536);
	strcpy(text + at + 65536, "ffffffff82000000 T forged\nffffffff81000200 T after\n");
	s = load(text, NULL);
	expect(s, 0xffffffff82000000ULL, NULL, "");
	expect(s, 0xffffffff81000200ULL, "after", "");
	symbols_free(s);
}

static void test_refused(void **state)
{
	struct symbols *s = NULL;
	uint64_t text_start;

	(void)state;
	write_text("0000000000000000 T _text\n0000000000000000 T schedule\n", 53);
	assert_int_equal(symbols_load_kallsyms(path, &s, &text_start), -EPERM);
	write_text("", 0);
	assert_int_equal(symbols_load_kallsyms(path, &s, &text_start), -ENODATA);
	write_text("ffffffff81000000 D data\n", 24);
	assert_int_equal(symbols_load_kallsyms(path, &s, &text_start), -ENODATA);
	write_text("\0\0\0\0", 4);
	assert_int_equal(symbols_load_kallsyms(path, &s, &text_start), -ENODATA);
	assert_int_equal(symbols_load_kallsyms("/nonexistent", &s, &text_start), -ENOENT);
	assert_int_equal(symbols_load_kallsyms("/tmp", &s, &text_start), -EISDIR);
	assert_null(s);
}

/* Every function of this kernel: at its address stands a name that kallsyms gives there. */
static void test_this_kernel(void **state)
{
	struct symbols *s = NULL;
	uint64_t text_start;
	char line[1024], name[600], type;
	size_t functions = 0, found_cnt = 0, named = 0;
	FILE *f;
	int r = symbols_load_kallsyms("/proc/kallsyms", &s, &text_start);

	(void)state;
	if (r == -EPERM || r == -ENOENT) {
		print_message("/proc/kallsyms shows no addresses here\n");
		skip();
	}
	assert_int_equal(r, 0);
	f = fopen("/proc/kallsyms", "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		struct symbol found;
		unsigned long long addr;

		if (sscanf(line, "%llx %c %599s", &addr, &type, name) != 3 || !addr || !strchr("tTwW", type))
			continue;
		if (strstr(line, "[bpf]"))
			continue; /* loaded and unloaded by others between the two looks */
		functions++;
		if (symbols_find(s, addr, &found) < 0)
			continue;
		assert_true(found.start == addr);
		found_cnt++;
		named += !strcmp(found.name, name);
	}
	fclose(f);
	print_message("# %zu functions, %zu found, %zu by this name\n", functions, found_cnt, named);
	assert_true(functions > 10000);
	/* The end marks aside. */
	assert_true(found_cnt + 100 > functions);
	/* The rest are second names of an address. */
	assert_true(named > functions * 8 / 10);
	symbols_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sample),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_odd_lines),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_forged_tail),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_this_kernel),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
