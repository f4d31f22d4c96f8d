// SPDX-License-Identifier: BSD-2-Clause
/* Kernel symbols from kallsyms: "ADDR TYPE NAME[\t[MODULE]]" per line, sorted only in parts. */
#include "symbols/table.h"

#include <errno.h>
#include <fcntl.h>

/* KSYM_NAME_LEN is 512 since 6.1, a module name has 56 bytes; a longer line is skipped. */
#define LINE_MAX_BYTES 1024
#define READ_BYTES (64 << 10)

/* kallsyms has no sizes: a function ends where the next symbol starts, and nothing tells where
 * the last one before a hole ends (of the text, of a module, of a BPF program). The largest
 * function of Linux 6.18 has 20 KiB. */
#define FUNCTION_MAX_BYTES (64u << 10)

struct kallsyms {
	struct symbol_builder b;
	uint32_t module;	/* the module of the last line: they come in runs */
	uint64_t text_start;	/* _text */
	uint64_t any_addr;	/* all addresses, or-ed */
	size_t line_cnt;
};

struct kallsyms_line {
	uint64_t addr;
	char type;
	const char *name, *module;
	size_t name_len, module_len;
};

static void kallsyms_done(struct kallsyms *k)
{
	symbol_builder_done(&k->b);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool parse_addr(const char **p, const char *end, uint64_t *ret)
{
	const char *from = *p;
	uint64_t v = 0;
	int d;

	for (; *p < end && (d = hex_digit(**p)) >= 0; (*p)++)
		v = v << 4 | (uint64_t)d;
	*ret = v;
	return *p > from && *p - from <= 16;
}

/* A word of printable bytes; names go to terminals later. */
static size_t parse_word(const char *p, const char *end)
{
	const char *from = p;

	while (p < end && *p > ' ' && *p < 0x7f)
		p++;
	return (size_t)(p - from);
}

static bool parse_line(const char *p, const char *end, struct kallsyms_line *ret)
{
	if (!parse_addr(&p, end, &ret->addr) || end - p < 4 || p[0] != ' ' || p[2] != ' ')
		return false;
	ret->type = p[1];
	ret->name = p + 3;
	ret->name_len = parse_word(ret->name, end);
	p = ret->name + ret->name_len;
	ret->module_len = 0;
	if (end - p > 3 && p[0] == '\t' && p[1] == '[' && end[-1] == ']') {
		ret->module = p + 2;
		ret->module_len = parse_word(ret->module, end - 1);
		p = ret->module + ret->module_len + 1;
	}
	return ret->name_len > 0 && p == end;
}

static bool name_is(const struct kallsyms_line *l, const char *name)
{
	return l->name_len == strlen(name) && memcmp(l->name, name, l->name_len) == 0;
}

static bool name_starts(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool name_ends(const char *name, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len >= n && memcmp(name + len - n, suffix, n) == 0;
}

/* Padding before a function, copies for early boot, section marks: true names, but the
 * function at the same address says more. */
static bool is_mark(const char *name, size_t len)
{
	return name_starts(name, "__pfx_") || name_starts(name, "__cfi_") ||
	       name_starts(name, "__pi_") || name_ends(name, len, "_text_start") ||
	       name_ends(name, len, "_text_end") || name_ends(name, len, "_stext") ||
	       strcmp(name, "_text") == 0 || strcmp(name, "_sinittext") == 0;
}

static uint8_t rank_name(const char *name, size_t len, char type)
{
	uint8_t rank = symbol_rank_underscores(name);

	if (!is_mark(name, len))
		rank += 16;
	if (type == 'T')
		rank += 8;
	else if (type == 'W' || type == 'w')
		rank += 4;
	return rank;
}

static int intern_module(struct kallsyms *k, const struct kallsyms_line *l, uint32_t *ret)
{
	const char *last = k->b.names + k->module;

	if (l->module_len == 0) {
		*ret = 0;
		return 0;
	}
	if (strlen(last) != l->module_len || memcmp(last, l->module, l->module_len) != 0) {
		int r = symbol_builder_name(&k->b, l->module, l->module_len, &k->module);

		if (r < 0)
			return r;
	}
	*ret = k->module;
	return 0;
}

static int add_text(struct kallsyms *k, const struct kallsyms_line *l)
{
	struct symbol_entry e = { .start = l->addr, .len = FUNCTION_MAX_BYTES,
				  .flags = SYMBOL_OPEN };
	int r;

	r = intern_module(k, l, &e.module);
	if (r < 0)
		return r;
	r = symbol_builder_name(&k->b, l->name, l->name_len, &e.name);
	if (r < 0)
		return r;
	e.rank = rank_name(k->b.names + e.name, l->name_len, l->type);
	return symbol_builder_add(&k->b, &e);
}

/* Whatever is not code still ends the function before it. */
static int add_edge(struct kallsyms *k, const struct kallsyms_line *l, uint8_t flags)
{
	struct symbol_entry e = { .start = l->addr, .flags = SYMBOL_EDGE | flags };
	int r = intern_module(k, l, &e.module);

	return r < 0 ? r : symbol_builder_add(&k->b, &e);
}

static int add_line(struct kallsyms *k, const char *line, size_t len)
{
	struct kallsyms_line l = {};

	if (!parse_line(line, line + len, &l))
		return 0;
	k->line_cnt++;
	k->any_addr |= l.addr;
	if (l.module_len == 0 && name_is(&l, "_text"))
		k->text_start = l.addr;
	if (l.addr == 0)
		return 0;
	if (l.module_len == 0 && (name_is(&l, "_etext") || name_is(&l, "_einittext")))
		return add_edge(k, &l, SYMBOL_STOP);
	if (strchr("tTwW", l.type))
		return add_text(k, &l);
	return add_edge(k, &l, 0);
}

/* Takes the whole lines of buf; returns how many bytes they had. */
static int add_lines(struct kallsyms *k, const char *buf, size_t len, bool last, size_t *ret_used)
{
	size_t used = 0;

	while (used < len) {
		const char *line = buf + used, *nl = memchr(line, '\n', len - used);
		size_t n = nl ? (size_t)(nl - line) : len - used;
		int r;

		if (!nl && !last)
			break;
		r = n > LINE_MAX_BYTES ? 0 : add_line(k, line, n);
		if (r < 0)
			return r;
		used += n + (nl != NULL);
	}
	*ret_used = used;
	return 0;
}

/* Drops what is left of a line that did not fit into the buffer; false while it goes on. */
static bool drop_tail(char *buf, size_t *have)
{
	char *nl = memchr(buf, '\n', *have);
	size_t n = nl ? (size_t)(nl - buf) + 1 : *have;

	*have -= n;
	memmove(buf, buf + n, *have);
	return nl != NULL;
}

static int read_all_lines(struct kallsyms *k, int fd)
{
	_cleanup_free_ char *buf = malloc(READ_BYTES);
	bool last = false, in_tail = false;
	size_t have = 0, used;

	if (!buf)
		return -ENOMEM;
	while (!last) {
		ssize_t n = read(fd, buf + have, READ_BYTES - have);
		int r;

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		last = n == 0;
		have += (size_t)n;
		if (in_tail)
			in_tail = !drop_tail(buf, &have);
		r = add_lines(k, buf, have, last, &used);
		if (r < 0)
			return r;
		have -= used;
		memmove(buf, buf + used, have);
		if (have == READ_BYTES) { /* no line is that long */
			have = 0;
			in_tail = true;
		}
	}
	return 0;
}

int symbols_load_kallsyms(const char *path, struct symbols **ret, uint64_t *ret_text_start)
{
	SB_CLEANUP(kallsyms_done) struct kallsyms k = { 0 };
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	uint32_t empty;
	int r;

	if (fd < 0)
		return -errno;
	/* Offset 0 is the empty module name. */
	r = symbol_builder_name(&k.b, "", 0, &empty);
	if (r < 0)
		return r;
	r = read_all_lines(&k, fd);
	if (r < 0)
		return r;
	if (k.line_cnt > 0 && k.any_addr == 0)
		return -EPERM;
	r = symbol_builder_finish(&k.b, ret);
	if (r < 0)
		return r;
	*ret_text_start = k.text_start;
	return 0;
}
