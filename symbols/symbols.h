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
 * by file offset. Takes detached symbols from debug_root/.build-id when that is not NULL, those that
 * .gnu_debuglink names (beside the file, in .debug/ there, below debug_root; by build-id, else by CRC), and
 * those of .gnu_debugdata.
 * ret_source: "symtab", "debugdata" or "dynsym". -ENOEXEC: not ELF; -ENODATA: no symbols. */
int symbols_load_elf(int fd, const char *debug_root, struct symbols **ret, const char **ret_source);

/* The same of detached symbols alone, which do not say where in the file the code is: code_offset,
 * that of the file's lowest executable mapping, a multiple of the page size. */
int symbols_load_detached(int fd, uint64_t code_offset, struct symbols **ret);

/*
 * Names of one file from all that is there: .symtab, detached symbols, where there are neither the table of
 * Go's runtime (.gopclntab), .dynsym, and where nothing names an offset the start of its function by
 * .eh_frame, so that frames of one function still are one. Built with EH_FRAME=no there is neither Go's table nor
 * .eh_frame.
 */
struct elf_names;
/* fd: open file, not closed; roots: NULL-terminated list of directories as debug_root above, or NULL.
 * 0, -ENOEXEC, -ENODATA (nothing there). */
int elf_names_open(int fd, const char *const *roots, struct elf_names **ret);
/* The names of detached symbols alone, as symbols_load_detached(). */
int elf_names_open_detached(int fd, uint64_t code_offset, struct elf_names **ret);
void elf_names_free(struct elf_names *n);
static inline void elf_names_freep(struct elf_names **n)
{
	elf_names_free(*n);
}
/* Where functions without a name start, of the file itself, to names whose symbols lie apart from the code. 0, or -ENODATA. */
int elf_names_add_starts(struct elf_names *n, int fd);

/* ret->name "": only the start is known. caller: the offset is a return address, whose call may be
 * the last instruction of its function. -ENOENT: nothing is known. */
int elf_names_find(const struct elf_names *n, uint64_t offset, bool caller, struct symbol *ret);
const char *elf_names_source(const struct elf_names *n); /* as ret_source above; "gopclntab"; "eh_frame" for starts only */

/* Name of the file that holds the symbols of the ELF file open at fd (.gnu_debuglink), without a path, and its CRC
 * (ret_crc may be NULL). 0, -ENODATA: none, or one that is no name. */
int elf_debuglink(int fd, char *ret, size_t len, uint32_t *ret_crc);

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
	uint8_t build_id[20], build_id_len; /* 0: not known without reading the file */
};

/* The next executable mapping of a text as /proc/PID/maps has it; false at its end. Lines that
 * are none are passed over. */
bool process_maps_next(FILE *f, struct process_map *ret);

/*
 * Reads the executable mappings of a process through a sacrificial child, because
 * /proc/PID/maps takes the victim's mmap_lock and may stand for minutes. The child is
 * killed after timeout_ms. Never called before the raw bundle is durable.
 * Returns the number of mappings that there are, of which the first max are given; -ETIMEDOUT, -ESRCH (exited),
 * -EACCES, -EIO (the child was killed).
 */
int process_maps_read(uint32_t pid, unsigned int timeout_ms, struct process_map *ret, size_t max);

/* Opens a mapped file through the process's own root, without following it out of the
 * root, never blocking on a FIFO or device; falls back to the host's path when the process
 * is gone. Returns a descriptor or a negative errno. */
int process_open_file(uint32_t pid, const char *path);

/* The file that the process has mapped there, if it can be had without asking for its mappings: by its path in the
 * process's root or, where a scan tells what is outside of it, in ours; or its program, whose file may be deleted or
 * another one by now. Told by the build-id, else by the inode. Returns a descriptor or a negative errno. */
int process_open_mapped(uint32_t pid, const struct process_map *m);

/* What is mapped at m->start, m->len, whatever its path is now: an upgraded library has none. Takes the process's
 * mmap_lock, so through a child, which is killed after timeout_ms. Told as above. Returns a descriptor, -ETIMEDOUT or
 * another negative errno. */
int process_open_map_file(uint32_t pid, const struct process_map *m, unsigned int timeout_ms);

/* The same below a directory: links and ".." lead nowhere else. */
int file_open_below(const char *root, const char *path);

#endif
