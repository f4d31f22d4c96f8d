// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <sys/stat.h>

#define TOKEN_MIN 16
#define TOKEN_MAX 512

static bool is_credential(const char *path)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	size_t n = dir ? strlen(dir) : 0;

	return n && !strncmp(path, dir, n) && path[n] == '/';
}

/* systemd lets the service's user in by an access list, which shows as a right of the group to read. */
static int check_mode(const char *path, const struct stat *st, char *ret_error, size_t len)
{
	mode_t refused = is_credential(path) ? 037 : 077;

	if (!S_ISREG(st->st_mode)) {
		snprintf(ret_error, len, "'%s' is not a plain file", path);
		return -EINVAL;
	}
	if (st->st_mode & refused) {
		snprintf(ret_error, len, "'%s' has mode %04o: others than its owner may use it\nchmod 0600 %s, and make "
			 "the secret anew if somebody may have read it", path, st->st_mode & 07777, path);
		return -EPERM;
	}
	return 0;
}

ssize_t tokens_read_secret(const char *path, char *ret, size_t len, char *ret_error, size_t error_len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		snprintf(ret_error, error_len, "cannot read '%s': %s", path, strerror(errno));
		return r;
	}
	r = check_mode(path, &st, ret_error, error_len);
	if (r < 0)
		return r;
	n = read(fd, ret, len);
	if (n < 0 || (size_t)n >= len) {
		snprintf(ret_error, error_len, "'%s' %s", path, n < 0 ? strerror(errno) : "is too long");
		return -EINVAL;
	}
	ret[n] = '\0';
	return n;
}

static void digest_of(const char *token, unsigned char ret[32])
{
	gnutls_hash_fast(GNUTLS_DIG_SHA256, token, strlen(token), ret);
}

static int check_token(const char *path, char *token, char *ret_error, size_t len)
{
	size_t n = strcspn(token, "\r\n");
	bool blank = token[n + strspn(token + n, "\r\n")] != '\0';

	token[n] = '\0';
	for (size_t i = 0; i < n; i++)
		blank |= token[i] <= ' ' || token[i] > '~';
	if (n >= TOKEN_MIN && n <= TOKEN_MAX && !blank)
		return 0;
	snprintf(ret_error, len, "'%s': expected one line of %d to %d printable characters without blanks\n"
		 "make one with: (umask 077; openssl rand -hex 32 > %s)", path, TOKEN_MIN, TOKEN_MAX, path);
	return -EINVAL;
}

static int load_one(const char *item, struct tokens_one *ret, char *ret_error, size_t len)
{
	const char *path = strchr(item, ':');
	size_t n = path ? (size_t)(path - item) : 0;
	char token[4096] = "";
	ssize_t r;

	if (n == 4 && !strncmp(item, "read", n)) {
		ret->scopes = TOKENS_READ;
	} else if (n == 6 && !strncmp(item, "freeze", n)) {
		ret->scopes = TOKENS_FREEZE;
	} else {
		snprintf(ret_error, len, "'%s': expected read:PATH or freeze:PATH", item);
		return -EINVAL;
	}
	r = tokens_read_secret(path + 1, token, sizeof(token), ret_error, len);
	if (r >= 0 && memchr(token, '\0', (size_t)r))
		token[0] = '\0'; /* no text: refused */
	if (r >= 0)
		r = check_token(path + 1, token, ret_error, len);
	if (r == 0)
		digest_of(token, ret->digest);
	explicit_bzero(token, sizeof(token));
	return (int)r;
}

int tokens_load(struct tokens *t, const struct config_list *files, char *ret_error, size_t len)
{
	memset(t, 0, sizeof(*t));
	for (size_t i = 0; i < files->n; i++) {
		int r = load_one(files->item[i], &t->one[i], ret_error, len);

		if (r < 0)
			return r;
		t->scopes |= t->one[i].scopes;
		t->n++;
	}
	return 0;
}

/* All of them are compared, whichever fits. */
unsigned int tokens_scopes(const struct tokens *t, const char *token)
{
	unsigned char digest[32];
	unsigned int scopes = 0;

	digest_of(token, digest);
	for (size_t i = 0; i < t->n; i++)
		scopes |= gnutls_memcmp(t->one[i].digest, digest, sizeof(digest)) ? 0 : t->one[i].scopes;
	return scopes;
}
