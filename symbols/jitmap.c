// SPDX-License-Identifier: BSD-2-Clause
#include "symbols/jitmap.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "format/log.h"
#include "format/map64.h"
#include "symbols/table.h"

/* A JVM after days has some 10,000 functions: 1 MiB. */
#define MAX_BYTES (256ULL << 20)
#define MAX_FUNCTIONS 1000000u
#define LINE_BYTES 4096
#define CLOCK_SET_NS (2 * NSEC_PER_SEC)
#define JITDUMP_MAGIC 0x4A695444u
#define JIT_CODE_LOAD 0u

struct dump_header {
	uint32_t magic, version, total_size, elf_mach, pad, pid;
	uint64_t timestamp, flags;
};

struct dump_record {
	uint32_t id, total_size;
	uint64_t timestamp;
};

struct code_load {
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index;
};

static int add(struct symbol_builder *b, uint64_t start, uint64_t size, const char *name)
{
	struct symbol_entry e = { .start = start, .len = (uint32_t)SB_MIN(size, (uint64_t)UINT32_MAX) };
	int r;

	if (!size || !name[0])
		return 0;
	if (b->cnt >= MAX_FUNCTIONS)
		return -E2BIG;
	r = symbol_builder_name(b, name, strnlen(name, LINE_BYTES), &e.name);
	return r < 0 ? r : symbol_builder_add(b, &e);
}

/* "START SIZE name with spaces", both in hexadecimal. What is none is passed over. */
static int read_text(FILE *f, struct symbol_builder *b)
{
	char line[LINE_BYTES];
	int r = 0;

	while (r == 0 && fgets(line, sizeof(line), f)) {
		uint64_t start, size;
		int at = 0, c;

		if (!strchr(line, '\n')) {
			do
				c = getc(f);
			while (c != EOF && c != '\n');
		}
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %n", &start, &size, &at) >= 2 && at)
			r = add(b, start, size, line + at);
	}
	return r;
}

static int skip(FILE *f, uint64_t bytes)
{
	return fseeko(f, (off_t)bytes, SEEK_CUR) < 0 ? -errno : 0;
}

static int read_dump(FILE *f, struct symbol_builder *b)
{
	struct dump_header h;
	struct dump_record rec;
	int r = 0;

	if (fread(&h, sizeof(h), 1, f) != 1 || h.magic != JITDUMP_MAGIC || h.total_size < sizeof(h))
		return -ENODATA;
	r = skip(f, h.total_size - sizeof(h));
	/* The last one may be in the making. */
	while (r == 0 && fread(&rec, sizeof(rec), 1, f) == 1 && rec.total_size >= sizeof(rec)) {
		uint64_t left = rec.total_size - sizeof(rec);
		char name[1024] = "";
		struct code_load load;

		if (rec.id == JIT_CODE_LOAD && left > sizeof(load)) {
			size_t want = SB_MIN(left - sizeof(load), (uint64_t)sizeof(name) - 1);

			if (fread(&load, sizeof(load), 1, f) != 1 || fread(name, 1, want, f) != want)
				break;
			left -= sizeof(load) + want;
			r = add(b, load.code_addr, load.code_size, name);
		}
		if (r == 0)
			r = skip(f, left);
	}
	return r;
}

/* Memory of code is used again: what was written last is there. */
static void drop_replaced(struct symbol_builder *b)
{
	struct map64 seen = {};
	size_t to = b->cnt;

	for (size_t i = b->cnt; i-- > 0;) {
		uint64_t key = sb_mix64(b->entries[i].start) | 1;

		if (map64_get(&seen, key) == b->entries[i].start + 1)
			continue;
		map64_put(&seen, key, b->entries[i].start + 1);
		b->entries[--to] = b->entries[i];
	}
	memmove(b->entries, b->entries + to, (b->cnt - to) * sizeof(*b->entries));
	b->cnt -= to;
	map64_done(&seen);
}

int jitmap_read(FILE *text, FILE *dump, struct symbols **ret)
{
	struct symbol_builder b = {};
	int r = -ENODATA;

	/* Beyond a limit the first ones are kept. */
	if (text)
		read_text(text, &b);
	if (dump)
		read_dump(dump, &b);
	if (b.cnt) {
		drop_replaced(&b);
		r = symbol_builder_finish(&b, ret);
	}
	symbol_builder_done(&b);
	return r;
}

/* The pid that the process has for itself: the last number of NSpid. */
static uint32_t own_pid(uint32_t pid)
{
	char path[64], line[256];
	uint32_t own = pid;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		const char *last = strrchr(line, '\t');

		if (!strncmp(line, "NSpid:", 6) && last)
			own = (uint32_t)strtoul(last + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return own;
}

/* When the process began, on the clock of file times; 0: not known. */
static uint64_t began_ns(uint32_t pid)
{
	unsigned long long ticks = 0;
	char path[64], stat[1024] = "";
	const char *after;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	(void)!fread(stat, 1, sizeof(stat) - 1, f);
	fclose(f);
	/* Field 22 of proc(5), since boot; its second one is a name, in which anything may stand. */
	after = strrchr(stat, ')');
	if (!after || sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks) != 1)
		return 0;
	return sb_now_ns(CLOCK_REALTIME) - sb_now_ns(CLOCK_BOOTTIME) + ticks * (NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* Left by somebody who had that pid before. The clock may have been set since: by more than that, and a process that
 * has written nothing after it is told here. */
static bool is_stale(FILE *f, uint32_t pid, const char *path)
{
	uint64_t began = began_ns(pid), written;
	struct stat st;

	if (fstat(fileno(f), &st) < 0)
		return true;
	written = (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec;
	if (written + CLOCK_SET_NS >= began)
		return false;
	log_debug("%s is taken for an earlier process's: written at %llu, process %u began at %llu (s since 1970)", path,
		  written / NSEC_PER_SEC, pid, began / NSEC_PER_SEC);
	return true;
}

/* The file, if the process or root wrote it: /tmp is everybody's. */
static FILE *open_own(uint32_t pid, const char *path)
{
	char proc[64];
	struct stat process, st;
	int fd = process_open_file(pid, path);
	FILE *f;

	if (fd < 0)
		return NULL;
	snprintf(proc, sizeof(proc), "/proc/%u", pid);
	if (stat(proc, &process) < 0 || fstat(fd, &st) < 0 || (st.st_uid != process.st_uid && st.st_uid != 0) ||
	    st.st_size > (off_t)MAX_BYTES) {
		close(fd);
		return NULL;
	}
	f = fdopen(fd, "r");
	if (!f)
		close(fd);
	return f;
}

int jitmap_load(uint32_t pid, const char *dump, char *ret_path, size_t len, struct symbols **ret)
{
	FILE *text_file, *dump_file = dump ? open_own(pid, dump) : NULL;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/tmp/perf-%u.map", own_pid(pid));
	text_file = open_own(pid, path);
	if (text_file && is_stale(text_file, pid, path)) {
		fclose(text_file);
		text_file = NULL;
	}
	r = jitmap_read(text_file, dump_file, ret);
	if (r == 0)
		snprintf(ret_path, len, "%s", text_file ? path : dump);
	if (text_file)
		fclose(text_file);
	if (dump_file)
		fclose(dump_file);
	return r;
}
