/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directories of bundles, read-only: listing, opening, SHA-256. A bundle may grow while it is served (its
 * second half follows the first): what was there when it was opened is what is hashed and sent.
 */
#ifndef SB_GATEWAY_CAPTURES_H
#define SB_GATEWAY_CAPTURES_H

#include <pthread.h>
#include <sys/stat.h>

#include "config/config.h"
#include "gateway/request.h"

#define CAPTURES_DIRS 2
#define CAPTURES_LISTED 500u /* newest ones in a list */
#define CAPTURES_HASHES 1024u
#define CAPTURES_HEX 65

/* Which bytes of which file. */
struct captures_identity {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct captures_hash {
	struct captures_identity of;
	char hex[CAPTURES_HEX]; /* "": free */
	uint64_t used;		/* number of the last use: the oldest makes room */
};

struct captures {
	const struct config_storage *storage;
	pthread_mutex_t lock;		      /* of hash and uses */
	pthread_mutex_t reading[CAPTURES_DIRS]; /* one at a time: 200 requests of a new file read it once */
	struct captures_hash hash[CAPTURES_HASHES];
	uint64_t uses;
};

struct capture_file {
	int fd; /* the receiver's to close */
	size_t dir;
	struct stat st;
};

struct capture_item {
	char name[BUNDLE_FILE_MAX];
	size_t dir;
	struct stat st;
	/* Of captures_complete(): */
	bool uploaded;
	char sha256[CAPTURES_HEX]; /* "": not known yet */
};

struct capture_list {
	struct capture_item *item; /* newest first */
	size_t n, total;	   /* total: with those that did not fit */
	size_t odd;		   /* files that look like bundles and have names or types that none has */
	uint64_t bytes;		   /* of all */
	int error;		   /* of a directory that cannot be read, 0: none */
};

/* storage lives as long as c. */
void captures_init(struct captures *c, const struct config_storage *storage);
const char *captures_dir(const struct captures *c, size_t dir); /* "": there is none */

/* 0, -ENOENT, or what else keeps it from being read. Symbolic links and everything but plain files: -ENOENT. */
int captures_open(struct captures *c, const char *name, struct capture_file *ret);
/* Of the first st.st_size bytes, in hexadecimal. Read once for each identity. 0 or a negative errno. */
int captures_sha256(struct captures *c, const struct capture_file *f, char ret[CAPTURES_HEX]);

/* -ENOMEM, or 0: what could not be read is in ret->error. Without marks and hashes. */
int captures_list(struct captures *c, struct capture_list *ret);
/* Which of them are uploaded, and the hashes that are known: a file to open for each. */
void captures_complete(struct captures *c, struct capture_list *l);
void captures_list_done(struct capture_list *l);

#endif
