/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bearer tokens (RFC 6750) from files: one token a file, on its first line, 16 to 512 printable characters without
 * blanks. Kept as SHA-256 and compared in constant time, so that neither contents nor length can be timed.
 */
#ifndef SB_GATEWAY_TOKENS_H
#define SB_GATEWAY_TOKENS_H

#include "config/config.h"

enum tokens_scope { TOKENS_NONE = 0, TOKENS_READ = 1, TOKENS_FREEZE = 2 };

struct tokens_one {
	unsigned int scopes; /* enum tokens_scope bits */
	unsigned char digest[32];
};

struct tokens {
	struct tokens_one one[CONFIG_MAX_LIST];
	size_t n;
	unsigned int scopes; /* of all together */
};

/* Each item is SCOPE:PATH. 0, or a negative errno with what is wrong and what to do, behind a newline, in
 * ret_error. The file must be its owner's alone; what systemd puts into $CREDENTIALS_DIRECTORY is as it is. */
int tokens_load(struct tokens *t, const struct config_list *files, char *ret_error, size_t len);
/* A file with a secret, whole: at most len - 1 bytes. Returns its length or a negative errno as above. */
ssize_t tokens_read_secret(const char *path, char *ret, size_t len, char *ret_error, size_t error_len);
/* The scopes of a token; 0: not known. */
unsigned int tokens_scopes(const struct tokens *t, const char *token);

#endif
