/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the mapping process knows, as a storing process gets it to give names: who had which file
 * mapped, also of programs that have ended, and kernel code that is gone (BPF programs). The
 * asker sends a memory file and a pipe over a datagram socket; the other side fills the one and
 * closes the other, and blocks on neither. No victim is asked anything.
 */
#ifndef SB_RECORDER_KNOWN_H
#define SB_RECORDER_KNOWN_H

#include "recorder/images.h"

struct known_file {
	uint64_t dev, ino; /* 0 where there is a build-id; dev: major << 32 | minor */
	uint32_t path;	   /* offset into the texts */
	uint8_t id_len, id[20]; /* build-id */
};

/* Kernel code that was taken away. */
struct known_ksym {
	uint64_t start, len, until_ns;
	char name[128];
};

/* Borrowed from the snapshot. */
struct known_image {
	uint32_t pid;
	uint64_t since_ns, until_ns; /* until 0: it was there when asked */
	const struct mapped_vma *vma;
	uint32_t n;
};

/* ---- the side that knows ---- */

struct known_source {
	void (*each_image)(const void *of, image_fn fn, void *ctx);
	const void *of;
	uint32_t n_files;
	/* false: no such file */
	bool (*file)(const void *of, uint32_t i, struct known_file *ret, const char **ret_path);
	const struct known_ksym *ksym;
	uint32_t n_ksyms;
};

/* Answers what has been asked on the socket. Never blocks. */
void known_serve(int socket, const struct known_source *source);

/* ---- the side that asks ---- */

struct known;
/* 0, -ETIMEDOUT, or another negative errno. socket < 0: -ENOENT. */
int known_ask(int socket, unsigned int timeout_ms, struct known **ret);
void known_free(struct known *k);
static inline void known_freep(struct known **k)
{
	known_free(*k);
}

/*
 * The image that a process was. until_ns not 0: the last one that had ended by then; else the last
 * one that had begun by at_ns. false: not known.
 */
bool known_find(const struct known *k, uint32_t pid, uint64_t at_ns, uint64_t until_ns, struct known_image *ret);
/* Any image that has the file mapped and is there, beginning with number *iter; 0: none. */
uint32_t known_mapper(const struct known *k, uint32_t file, uint32_t *iter);
const struct known_file *known_file(const struct known *k, uint32_t file); /* NULL: none */
const char *known_path(const struct known *k, const struct known_file *f);
/* The newest that held the address; NULL: none. */
const struct known_ksym *known_ksym(const struct known *k, uint64_t addr);

#endif
