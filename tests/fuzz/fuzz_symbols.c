// SPDX-License-Identifier: BSD-2-Clause
/*
 * Anything at all where names come from. The first byte says as what: 0 an ELF file, 1 detached
 * symbols, 2 a perf map, 3 a jit dump, 4 a mangled name.
 */
#include "symbols/jitmap.h"
#include "symbols/symbols.h"
#include "tests/fuzz/target.h"
#include "tools/demangle.h"

static void look_up(const struct elf_names *n, size_t size)
{
	for (uint64_t off = 0; off < SB_MIN(size, (size_t)8192); off += 7) {
		struct symbol s;

		if (elf_names_find(n, off, off & 1, &s) == 0)
			must(s.name && strlen(s.name) <= 4095 && s.start <= off, "a name begins before");
	}
}

static void read_elf(const uint8_t *data, size_t size, bool detached)
{
	_cleanup_close_ int fd = file_of(data, size);
	struct elf_names *n = NULL;
	uint8_t id[32];

	must(elf_build_id(fd, id, sizeof(id)) <= (int)sizeof(id), "an id fits");
	if ((detached ? elf_names_open_detached(fd, 0x1000, &n) : elf_names_open(fd, NULL, &n)) == 0)
		look_up(n, size);
	elf_names_free(n);
}

static void read_jit(const uint8_t *data, size_t size, bool dump)
{
	FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
	struct symbols *s = NULL;
	struct symbol found;

	if (!f)
		return;
	if (jitmap_read(dump ? NULL : f, dump ? f : NULL, &s) == 0) {
		for (uint64_t a = 0; a < 4096; a += 16)
			must(symbols_find(s, a, &found) < 0 || found.name[0], "a name is one");
	}
	symbols_free(s);
	fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text, *readable;

	if (size < 2)
		return 0;
	switch (data[0]) {
	case 0:
	case 1:
		read_elf(data + 1, size - 1, data[0]);
		break;
	case 2:
	case 3:
		read_jit(data + 1, size - 1, data[0] == 3);
		break;
	case 4:
		text = text_of(data + 1, size - 1);
		readable = demangle(text);
		must(!readable || strlen(readable) <= 8191, "names are bounded");
		free(readable);
		free(text);
		break;
	}
	return 0;
}
