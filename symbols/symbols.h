/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names for addresses: kernel symbols from kallsyms, user symbols from ELF
 * tables. Sorted arrays of our own on libelf, because a lookup through libdwfl
 * scans the whole table (0.2-2 ms against 70 ns, measured).
 *
 * ELF files are untrusted input: offsets and sizes are checked against the file,
 * memory and entries are capped. Functions return 0 or a negative errno.
 */
#ifndef SB_SYMBOLS_SYMBOLS_H
#define SB_SYMBOLS_SYMBOLS_H

#include <stdio.h>
#include <sys/types.h>

#include "format/base.h"

#define SYMBOLS_MAX_ENTRIES 4000000u

struct symbols;

struct symbol {
	const char *name;   /* lives as long as the table */
	const char *module; /* kallsyms: "" for vmlinux, else the module (or "bpf") */
	uint64_t start;	    /* kernel: address; ELF: file offset */
};

/* path: "/proc/kallsyms" or a copy. -EPERM when every address is zero (kptr_restrict,
 * missing CAP_SYSLOG). text_start: address of _text, 0 when absent. */
int symbols_load_kallsyms(const char *path, struct symbols **ret, uint64_t *ret_text_start);

/* Function symbols of an ELF file open at fd (not closed), .symtab, else .dynsym, keyed
 * by file offset. Takes detached symbols from debug_root/.build-id when that is not NULL.
 * ret_source: "symtab" or "dynsym". -ENOEXEC: not ELF; -ENODATA: no symbols. */
int symbols_load_elf(int fd, const char *debug_root, struct symbols **ret, const char **ret_source);

/* GNU build-id of the ELF file open at fd, at most len bytes; returns its length, 0 when
 * there is none, or a negative errno. */
int elf_build_id(int fd, uint8_t *ret, size_t len);

/* The function that holds addr. -ENOENT when none does (sizes are honoured). */
int symbols_find(const struct symbols *s, uint64_t addr, struct symbol *ret);

/* Moves the table to memory that processes forked later have in common, even if they lock theirs.
 * Its bytes, or -ENOMEM: it stays where it is. */
ssize_t symbols_share(struct symbols *s);

void symbols_free(struct symbols *s);
static inline void symbols_freep(struct symbols **s)
{
	symbols_free(*s);
}

/* One executable mapping of a process. */
struct process_map {
	uint64_t start, len, pgoff;
	uint64_t dev, ino; /* the file, whatever its name is now; dev: major << 32 | minor */
	char path[256];	   /* as the process sees it; "[vdso]", "[anon]", "[path too long]" */
	bool deleted;
};

/* The next executable mapping of a text as /proc/PID/maps has it; false at its end. Lines that
 * are none are passed over. */
bool process_maps_next(FILE *f, struct process_map *ret);

/*
 * Reads the executable mappings of a process through a sacrificial child, because
 * /proc/PID/maps takes the victim's mmap_lock and may stand for minutes. The child is
 * killed after timeout_ms. Never called before the raw bundle is durable.
 * Returns the number of mappings (<= max), -ETIMEDOUT, -ESRCH (exited), -EACCES.
 */
int process_maps_read(uint32_t pid, unsigned int timeout_ms, struct process_map *ret, size_t max);

/* Opens a mapped file through the process's own root, without following it out of the
 * root, never blocking on a FIFO or device; falls back to the host's path when the process
 * is gone. Returns a descriptor or a negative errno. */
int process_open_file(uint32_t pid, const char *path);

#endif
