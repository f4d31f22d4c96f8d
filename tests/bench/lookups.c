// SPDX-License-Identifier: BSD-2-Clause
/* Names of random offsets in code: lookups FILE... prints Markdown. Each look-up is checked to have
 * an answer where the file has one; what is timed is the look-up alone, the best of five rounds. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "symbols/symbols.h"

#define LOOKUPS 1000000u

static int measure(const char *path)
{
	SB_CLEANUP(elf_names_freep) struct elf_names *names = NULL;
	uint64_t begin, best = UINT64_MAX, load, found = 0;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	begin = sb_monotonic_ns();
	if (elf_names_open(fd, NULL, &names) < 0)
		return -1;
	load = sb_monotonic_ns() - begin;
	for (int round = 0; round < 5; round++) {
		found = 0;
		begin = sb_monotonic_ns();
		for (uint64_t i = 0; i < LOOKUPS; i++) {
			struct symbol s;

			found += elf_names_find(names, sb_mix64(i) % (uint64_t)st.st_size, false, &s) == 0;
		}
		best = SB_MIN(best, sb_monotonic_ns() - begin);
	}
	printf("| %s | %s | %.1f | %.0f %% | %.1f |\n", path, elf_names_source(names), (double)load / 1e6,
	       100.0 * (double)found / LOOKUPS, LOOKUPS * 1e3 / (double)best);
	return 0;
}

int main(int argc, char **argv)
{
	printf("| file | names from | load ms | of random offsets with an answer | M lookups/s |\n|---|---|---|---|---|\n");
	for (int i = 1; i < argc; i++) {
		if (measure(argv[i]) < 0)
			printf("| %s | none | | | |\n", argv[i]);
	}
	return 0;
}
