// SPDX-License-Identifier: BSD-2-Clause
#include "tools/add_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "format/map64.h"
#include "format/writer.h"
#include "symbols/symbols.h"
#include "tools/escape.h"
#include "tools/lines.h"

#define ZSTD_LEVEL 3

/* A file of which addresses lack a name, or source lines. */
struct wanted {
	struct map64 offsets, lines; /* + 1: 1 return addresses only, 2 leaves too */
	uint64_t code_offset; /* of its lowest mapping */
};

struct pass {
	struct bundle *b;
	const struct names_from *from;
	struct wanted *binary; /* by id */
	struct map64 kernel;   /* addresses */
	struct names_added added;
};

/* ---- what lacks a name --------------------------------------------------------------------- */

static void want(struct map64 *offsets, uint64_t offset, bool leaf)
{
	map64_put(offsets, offset + 1, SB_MAX(leaf ? 2u : 1u, map64_get(offsets, offset + 1)));
}

static void want_frame(struct pass *p, const struct bundle_stack *s, uint32_t i)
{
	const struct bundle_line *line;
	struct wanted *w;
	const char *module;
	uint64_t offset;
	uint32_t binary;

	if (s->process && !p->from->names_only && !bundle_lines(p->b, s->process, s->addr[i], &line) &&
	    bundle_locate(p->b, s->process, s->addr[i], &binary, &offset) && binary <= bundle_n_binaries(p->b))
		want(&p->binary[binary].lines, offset, !i);
	if (bundle_symbolize(p->b, s->process, s->addr[i], &module, &offset))
		return;
	if (!s->process) {
		p->added.wanted += !map64_get(&p->kernel, s->addr[i]) && map64_put(&p->kernel, s->addr[i], 1) == 0;
		return;
	}
	if (!bundle_locate(p->b, s->process, s->addr[i], &binary, &offset) || binary > bundle_n_binaries(p->b))
		return;
	w = &p->binary[binary];
	p->added.wanted += !map64_get(&w->offsets, offset + 1);
	want(&w->offsets, offset, !i);
}

static void note_mappings(struct pass *p)
{
	for (uint32_t id = 1; id <= bundle_n_processes(p->b); id++) {
		const struct bundle_process *pr = bundle_process(p->b, id);

		for (size_t i = 0; i < pr->n_maps; i++) {
			const struct bundle_mapping *m = &pr->maps[i];

			if (m->binary && m->binary <= bundle_n_binaries(p->b))
				p->binary[m->binary].code_offset = SB_MIN(p->binary[m->binary].code_offset, m->pgoff);
		}
	}
}

static int collect(struct pass *p)
{
	p->binary = calloc(bundle_n_binaries(p->b) + 1, sizeof(*p->binary));
	if (!p->binary)
		return -ENOMEM;
	for (uint32_t i = 0; i <= bundle_n_binaries(p->b); i++)
		p->binary[i].code_offset = UINT64_MAX;
	note_mappings(p);
	for (uint32_t id = 1; id <= bundle_n_stacks(p->b); id++) {
		const struct bundle_stack *s = bundle_stack(p->b, id);

		for (uint32_t i = 0; i < s->n; i++)
			want_frame(p, s, i);
	}
	return 0;
}

/* ---- what is found --------------------------------------------------------------------------- */

struct found {
	const char *dir, *path;
	uint64_t code_offset;
	struct elf_names *names;
	bool detached; /* without where functions that have no name start */
	struct lines *lines;
	int lines_fd; /* stays open as long as lines */
};

static bool take_names(void *ctx, int fd, bool detached)
{
	struct found *f = ctx;
	const char *const roots[] = { f->dir, NULL };

	f->detached = detached;
	return (detached ? elf_names_open_detached(fd, f->code_offset, &f->names) : elf_names_open(fd, roots, &f->names)) == 0;
}

/* What the recording host knew, which had the file itself. */
static bool take_starts(void *ctx, int fd, bool detached)
{
	struct found *f = ctx;

	return !detached && elf_names_add_starts(f->names, fd) == 0;
}

static bool take_lines(void *ctx, int fd, bool detached)
{
	struct found *f = ctx;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), r = copy < 0 ? -errno : lines_open(copy, f->code_offset, &f->lines);

	(void)detached;
	f->lines_fd = copy;
	if (r == 0)
		return true;
	if (copy >= 0)
		close(copy);
	if (r == -EFBIG) {
		fprintf(stderr, "source lines of '");
		escape_put(stderr, ESCAPE_TERMINAL, f->path);
		fprintf(stderr, "' are left out: its debug information is more than %u MiB, or a million "
			"units\n", LINES_MAX_BYTES >> 20);
	}
	return false;
}

static bool find_in(struct debug_sources *sources, struct pass *p, uint32_t binary, debug_take *take, struct found *ret)
{
	const uint8_t *id;
	size_t len = bundle_binary_build_id(p->b, binary, &id);

	return debug_find(sources, id, len, ret->path, take, ret);
}

static bool find(struct pass *p, uint32_t binary, debug_take *take, struct found *ret)
{
	*ret = (struct found){ .dir = p->from->sources->dir, .path = bundle_binary_path(p->b, binary),
			       .code_offset = p->binary[binary].code_offset };
	return find_in(p->from->sources, p, binary, take, ret);
}

static void find_names(struct pass *p, uint32_t binary, struct found *ret)
{
	/* No server is asked for them: they are no more than a help where there is no name. */
	struct debug_sources here = { .dir = p->from->sources->dir };

	if (find(p, binary, take_names, ret) && ret->detached)
		find_in(&here, p, binary, take_starts, ret);
}

/* ---- writing ---------------------------------------------------------------------------------- */

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -EIO;
}

static void name_binary(struct pass *p, struct bundle_writer *w, uint32_t binary)
{
	const struct map64 *offsets = &p->binary[binary].offsets;
	struct bundle_symbol *out = calloc(offsets->n + 1, sizeof(*out));
	struct found found = {};
	struct elf_names *names;
	size_t n = 0, named = 0;

	if (out && offsets->n)
		find_names(p, binary, &found);
	names = found.names;
	for (size_t i = 0; names && i < offsets->cap; i++) {
		uint64_t off = offsets->slot[i].key - 1;
		struct symbol s;

		if (!offsets->slot[i].key || elf_names_find(names, off, offsets->slot[i].value == 1, &s) < 0)
			continue;
		out[n++] = (struct bundle_symbol){ off, s.start, s.name, "" };
		named += s.name[0] != '\0';
	}
	p->added.written += n;
	if (n)
		bundle_writer_symbols(w, binary, elf_names_source(names), out, n);
	if (named < offsets->n) {
		fprintf(stderr, "%zu of %zu functions of '", offsets->n - named, offsets->n);
		escape_put(stderr, ESCAPE_TERMINAL, bundle_binary_path(p->b, binary));
		fprintf(stderr, "' have no name%s%s\n", names ? "" : ": no symbols with its build-id were found",
			names || !p->from->sources->debuginfod || p->from->sources->servers_failed ? "" : ", and the servers have none");
	}
	p->added.named += named;
	p->added.files += named != 0;
	elf_names_free(names);
	free(out);
}

struct line_rows {
	uint64_t *addr;
	struct bundle_line *line;
	size_t n, max;
};

static bool add_rows(struct line_rows *r, uint64_t addr, const struct bundle_line *line, size_t n)
{
	if (r->n + n > r->max) {
		size_t max = SB_MAX(r->max * 2, (size_t)4 * LINES_MAX);
		void *bigger_addr = realloc(r->addr, max * sizeof(*r->addr)), *bigger_line;

		if (!bigger_addr)
			return false;
		r->addr = bigger_addr;
		bigger_line = realloc(r->line, max * sizeof(*r->line));
		if (!bigger_line)
			return false;
		r->line = bigger_line;
		r->max = max;
	}
	for (size_t i = 0; i < n; i++) {
		r->addr[r->n] = addr;
		r->line[r->n++] = line[i];
	}
	return true;
}

static void line_binary(struct pass *p, struct bundle_writer *w, uint32_t binary)
{
	const struct map64 *offsets = &p->binary[binary].lines;
	struct found found;
	struct line_rows rows = {};

	if (!offsets->n || !find(p, binary, take_lines, &found))
		return;
	for (size_t i = 0; i < offsets->cap; i++) {
		uint64_t off = offsets->slot[i].key - 1;
		struct bundle_line line[LINES_MAX];
		size_t n = offsets->slot[i].key ? lines_find(found.lines, off, offsets->slot[i].value == 1, line) : 0;

		if (!n || !add_rows(&rows, off, line, n))
			continue;
		p->added.lines++;
		p->added.inlined += n - 1;
	}
	bundle_writer_lines(w, binary, rows.addr, rows.line, rows.n);
	p->added.written += rows.n;
	free(rows.addr);
	free(rows.line);
	lines_free(found.lines);
	close(found.lines_fd);
}

/* Addresses of the kernel mean something until the next boot of that host. */
static const char *kallsyms_for(const struct pass *p)
{
	const struct bundle_header *h = bundle_header(p->b);
	char boot[64] = "";
	FILE *f;

	if (p->from->kallsyms)
		return p->from->kallsyms;
	f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (f) {
		if (!fgets(boot, sizeof(boot), f))
			boot[0] = '\0';
		fclose(f);
	}
	boot[strcspn(boot, "\n")] = '\0';
	return h && boot[0] && !strcmp(h->boot_id, boot) ? "/proc/kallsyms" : NULL;
}

static int name_kernel(struct pass *p, struct bundle_writer *w)
{
	const char *path = p->kernel.n ? kallsyms_for(p) : NULL;
	struct bundle_symbol *out;
	struct symbols *syms;
	uint64_t text;
	size_t n = 0;
	int r = path ? symbols_load_kallsyms(path, &syms, &text) : -ENOENT;

	if (r < 0) {
		if (p->from->kallsyms)
			fprintf(stderr, "error: cannot read '%s': %s\n", p->from->kallsyms, strerror(-r));
		else if (p->kernel.n)
			fprintf(stderr, "%zu kernel functions have no name\nhint: --kallsyms takes a copy of that "
				"host's /proc/kallsyms, of the same boot\n", p->kernel.n);
		return p->from->kallsyms ? -ECANCELED : 0;
	}
	out = calloc(p->kernel.n, sizeof(*out));
	for (size_t i = 0; out && i < p->kernel.cap; i++) {
		uint64_t addr = p->kernel.slot[i].key;
		struct symbol s;

		if (addr && symbols_find(syms, addr, &s) == 0)
			out[n++] = (struct bundle_symbol){ addr, s.start, s.name, s.module };
	}
	bundle_writer_symbols(w, 0, "kallsyms", out, n);
	p->added.named += n;
	p->added.written += n;
	p->added.files += n != 0;
	free(out);
	symbols_free(syms);
	return 0;
}

static int append(struct pass *p, FILE *out)
{
	SB_CLEANUP(bundle_writer_freep) struct bundle_writer *w = NULL;
	const struct bundle_footer *old = bundle_footer(p->b);
	struct bundle_footer footer = old ? *old : (struct bundle_footer){};
	int r = bundle_writer_new(to_file, out, ZSTD_LEVEL, &w);

	if (r < 0)
		return r;
	if (!old) {
		for (int k = BUNDLE_ON_CPU; k < BUNDLE_KIND_COUNT; k++)
			footer.events += bundle_n_events(p->b, (enum bundle_kind)k);
		footer.first_event_ns = bundle_first_ns(p->b);
		footer.last_event_ns = bundle_last_ns(p->b);
	}
	bundle_writer_resume(w, bundle_next_chunk(p->b), bundle_n_strings(p->b), &footer);
	r = name_kernel(p, w);
	for (uint32_t i = 1; r == 0 && i <= bundle_n_binaries(p->b); i++)
		name_binary(p, w, i);
	for (uint32_t i = 1; r == 0 && i <= bundle_n_binaries(p->b); i++)
		line_binary(p, w, i);
	if (r < 0 || !p->added.written)
		return r;
	footer.symbolized |= p->added.named == p->added.wanted;
	return bundle_writer_finish(w, &footer);
}

static void pass_done(struct pass *p)
{
	for (uint32_t i = 0; p->binary && i <= bundle_n_binaries(p->b); i++) {
		map64_done(&p->binary[i].offsets);
		map64_done(&p->binary[i].lines);
	}
	free(p->binary);
	map64_done(&p->kernel);
}

int add_names(struct bundle *b, const struct names_from *from, FILE *out, struct names_added *ret)
{
	struct pass p = { .b = b, .from = from };
	int r = collect(&p);

	if (r == 0)
		r = append(&p, out);
	*ret = p.added;
	pass_done(&p);
	return r;
}
