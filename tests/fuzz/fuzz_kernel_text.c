// SPDX-License-Identifier: BSD-2-Clause
/* What the kernel tells in files. The first byte says which: k kallsyms, m /proc/PID/maps, n notes in sysfs. */
#include "recorder/notes.h"
#include "symbols/symbols.h"
#include "tests/fuzz/target.h"

static void read_kallsyms(const char *path)
{
	struct symbols *s = NULL;
	uint64_t text_start = 0;
	struct symbol found;

	if (symbols_load_kallsyms(path, &s, &text_start) < 0)
		return;
	for (uint64_t a = 0; a < 4096; a += 8) {
		uint64_t addr = 0xffffffff81000000ULL + a;

		if (symbols_find(s, addr, &found) == 0)
			must(found.start <= addr && found.name[0] && found.module, "a function begins before");
		if (symbols_find(s, a, &found) == 0)
			must(found.start <= a, "a function begins before");
	}
	symbols_free(s);
}

static void read_maps(FILE *f)
{
	struct process_map m;

	while (process_maps_next(f, &m)) {
		must(m.len > 0, "a mapping has a length");
		must(m.path[0] && strnlen(m.path, sizeof(m.path)) < sizeof(m.path), "a path ends");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = -1;
	uint8_t id[20];
	char path[64];
	FILE *f;

	if (size < 1)
		return 0;
	fd = file_of(data + 1, size - 1);
	path_of(fd, path);
	switch (data[0]) {
	case 'k':
		read_kallsyms(path);
		break;
	case 'm':
		f = fopen(path, "re");
		must(f != NULL, "a stream");
		read_maps(f);
		fclose(f);
		break;
	case 'n':
		must(notes_build_id(path, id, sizeof(id)) <= sizeof(id), "an id fits");
		break;
	}
	return 0;
}
