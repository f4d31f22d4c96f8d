// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the tables for unwinding cost, as Markdown: for the ELF files named, or for every file that
 * a process of this host has mapped executable. CPU time of this process, pages of the files in
 * the cache; the best of three rounds.
 *
 *     build/tests/bench/unwind_tables [FILE...]
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "unwind/cache.h"

#define MAX_FILES 20000
#define ROUNDS 3

struct file {
	char *path;
	struct unwind_key key;
	size_t rows, rules;
	uint64_t cpu_ns;
	struct cfi_counts counts;
};

static struct file files[MAX_FILES];
static size_t n_files;

static void add_file(const char *path)
{
	struct stat st;

	if (n_files == MAX_FILES || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	for (size_t i = 0; i < n_files; i++) {
		if (!strcmp(files[i].path, path))
			return;
	}
	files[n_files++].path = strdup(path);
}

static void add_mapped_by(const char *pid)
{
	char path[512], line[8192], flags[8];
	FILE *f;
	int at;

	snprintf(path, sizeof(path), "/proc/%.20s/maps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*x-%*x %7s %*x %*x:%*x %*u %n", flags, &at) != 1 || flags[2] != 'x')
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (line[at] == '/')
			add_file(line + at);
	}
	if (f)
		fclose(f);
}

static void add_all_mapped(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
			add_mapped_by(e->d_name);
	}
	if (d)
		closedir(d);
}

static int build(struct file *f, struct unwind_rows *ret)
{
	const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	uint64_t began = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID), took;
	_cleanup_close_ int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int r;

	memset(&f->counts, 0, sizeof(f->counts));
	r = fd < 0 ? -1 : unwind_file_load(fd, NULL, &limits, &f->counts, &f->key, NULL, ret);
	took = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID) - began;
	if (!f->cpu_ns || took < f->cpu_ns)
		f->cpu_ns = took;
	return r;
}

static int by_rows(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return x->rows > y->rows ? -1 : x->rows < y->rows;
}

static void print_row(const char *name, size_t rows, size_t rules, uint64_t bytes, uint64_t cpu_ns,
		      const struct cfi_counts *c)
{
	uint64_t bad = 0;

	for (size_t i = 0; i < CFI_BAD_COUNT; i++)
		bad += c->bad[i];
	printf("| %s | %llu | %zu | %zu | %.1f | %.2f | %.1f | %llu | %llu |\n", name, (unsigned long long)c->fdes,
	       rows, rules, (double)bytes / 1024, rows ? (double)bytes / (double)rows : 0, (double)cpu_ns / 1e6,
	       (unsigned long long)c->unsupported, (unsigned long long)bad);
}

static uint64_t bytes_of(const struct file *f)
{
	return 8 * (f->rows + (uint64_t)f->rules * SB_UNWIND_RULE_SLOTS);
}

static void add_counts(struct cfi_counts *sum, const struct cfi_counts *c)
{
	sum->fdes += c->fdes;
	sum->unsupported += c->unsupported;
	for (size_t i = 0; i < CFI_BAD_COUNT; i++)
		sum->bad[i] += c->bad[i];
}

static void print_all(void)
{
	struct cfi_counts sum = {};
	uint64_t bytes = 0, cpu_ns = 0;
	size_t rows = 0, rules = 0, with_rows = 0;

	puts("| file | FDEs | rows | rules | KiB | bytes/row | CPU ms | rows not followed | FDEs dropped |");
	puts("|---|---|---|---|---|---|---|---|---|");
	for (size_t i = 0; i < n_files; i++) {
		const struct file *f = &files[i];
		const char *base = strrchr(f->path, '/');

		if (i < 20)
			print_row(base ? base + 1 : f->path, f->rows, f->rules, bytes_of(f), f->cpu_ns, &f->counts);
		rows += f->rows;
		rules += f->rules;
		bytes += bytes_of(f);
		cpu_ns += f->cpu_ns;
		with_rows += f->rows > 0;
		add_counts(&sum, &f->counts);
	}
	printf("| **%zu files, %zu with rows** | %llu | %zu | %zu | %.1f | %.2f | %.1f | %llu |", n_files, with_rows,
	       (unsigned long long)sum.fdes, rows, rules, (double)bytes / 1024,
	       rows ? (double)bytes / (double)rows : 0, (double)cpu_ns / 1e6, (unsigned long long)sum.unsupported);
	for (size_t i = 0; i < CFI_BAD_COUNT; i++) {
		if (sum.bad[i])
			printf(" %llu %s", (unsigned long long)sum.bad[i], cfi_bad_name((enum cfi_bad)i));
	}
	puts(" |");
	printf("\n%.2f s CPU and %.1f MiB for 2 M rows; this process had at most %ld MiB.\n",
	       rows ? (double)cpu_ns / 1e9 * 2e6 / (double)rows : 0, rows ? (double)bytes / (double)rows * 2e6 / 1048576 : 0,
	       ({ struct rusage u; getrusage(RUSAGE_SELF, &u); u.ru_maxrss / 1024; }));
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		add_file(argv[i]);
	if (argc == 1)
		add_all_mapped();
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < n_files; i++) {
			struct unwind_rows rows = {};

			if (build(&files[i], &rows) == 0) {
				files[i].rows = rows.n_rows;
				files[i].rules = rows.n_rules;
			}
			unwind_rows_done(&rows);
		}
	}
	qsort(files, n_files, sizeof(files[0]), by_rows);
	print_all();
	return n_files ? 0 : 1;
}
