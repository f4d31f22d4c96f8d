// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writes a bundle in which nothing has a name: make_unnamed OUT ELF PATH CODE_OFFSET OFFSET...
 * One process has ELF mapped, called PATH, its code from the file offset CODE_OFFSET on; one sample
 * of a stack whose frames, leaf first, lie at the file offsets OFFSET (hexadecimal), the callers'
 * as return addresses. "boot" instead of ELF: a kernel stack of this boot at the addresses.
 */
#include <fcntl.h>
#include <stdio.h>

#include "format/writer.h"
#include "symbols/symbols.h"

#define CODE 0x555555000000ULL

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -5;
}

static void header(struct bundle_writer *w)
{
	static char boot[64];
	struct bundle_clock clock = { 1, 1, 1 };
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
	struct bundle_header h = { .producer = "make_unnamed", .hostname = "other", .boot_id = boot, .clocks = &clock,
				   .n_clocks = 1, .page_size = 4096, .sample_period_ns = 10101010 };

	if (f && fgets(boot, sizeof(boot), f))
		boot[strcspn(boot, "\n")] = '\0';
	if (f)
		fclose(f);
	bundle_writer_header(w, &h);
}

static uint32_t user_process(struct bundle_writer *w, char **argv, uint64_t code)
{
	struct bundle_process p = { .pid = 100, .comm = "prog", .exe = argv[3] };
	struct bundle_mapping m = { CODE, 1 << 30, code, 0 };
	uint8_t id[32];
	int fd = open(argv[2], O_RDONLY), len = elf_build_id(fd, id, sizeof(id));

	m.binary = bundle_writer_binary(w, argv[3], id, len > 0 ? (size_t)len : 0, 0);
	p.maps = &m;
	p.n_maps = 1;
	p.map_state = BUNDLE_MAPS_KNOWN;
	close(fd);
	return bundle_writer_process(w, &p);
}

int main(int argc, char **argv)
{
	struct bundle_stack s = {};
	struct bundle_event e = { .kind = BUNDLE_ON_CPU, .ts_ns = 1000, .duration_ns = 10101010 };
	struct bundle_thread t = { .tid = 100, .comm = "prog" };
	struct bundle_footer footer = {};
	struct bundle_writer *w;
	uint64_t addr[64], code;
	bool kernel;
	FILE *f;

	if (argc < 6)
		return 2;
	f = fopen(argv[1], "w");
	if (!f || bundle_writer_new(to_file, f, 3, &w) < 0)
		return 1;
	header(w);
	kernel = !strcmp(argv[2], "boot");
	code = strtoull(argv[4], NULL, 16);
	s.process = kernel ? 0 : user_process(w, argv, code);
	s.addr = addr;
	s.unwind = kernel ? 1 : 3;
	for (int i = 5; i < argc && s.n < SB_ARRAY_SIZE(addr); i++)
		addr[s.n++] = strtoull(argv[i], NULL, 16) + (kernel ? 0 : CODE - code);
	t.process = s.process;
	e.thread = bundle_writer_thread(w, &t);
	*(kernel ? &e.kstack : &e.ustack) = bundle_writer_stack(w, 1, &s);
	bundle_writer_event(w, &e);
	bundle_writer_finish(w, &footer);
	bundle_writer_free(w);
	return fclose(f) ? 1 : 0;
}
