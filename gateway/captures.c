// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/captures.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <stdio.h>

#include "format/uploaded.h"

void captures_init(struct captures *c, const struct config_storage *storage)
{
	memset(c, 0, sizeof(*c));
	c->storage = storage;
	pthread_mutex_init(&c->lock, NULL);
	for (size_t i = 0; i < CAPTURES_DIRS; i++)
		pthread_mutex_init(&c->reading[i], NULL);
}

const char *captures_dir(const struct captures *c, size_t dir)
{
	return dir ? c->storage->fallback : c->storage->directory;
}

/* Anew for each request: what is mounted there may change. */
static int open_dir(const struct captures *c, size_t dir)
{
	const char *path = captures_dir(c, dir);
	int fd = *path ? open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC) : (errno = ENOENT, -1);

	return fd < 0 ? -errno : fd;
}

/* O_NONBLOCK: a FIFO of that name must not hold us up. */
static int open_in(int dirfd, const char *name, struct capture_file *ret)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -ENOENT : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	ret->st = st;
	ret->fd = TAKE_FD(fd);
	return 0;
}

int captures_open(struct captures *c, const char *name, struct capture_file *ret)
{
	int first = -ENOENT;

	if (!bundle_is_file_name(name))
		return -ENOENT;
	for (size_t i = 0; i < CAPTURES_DIRS; i++) {
		_cleanup_close_ int dirfd = open_dir(c, i);
		int r = dirfd < 0 ? dirfd : open_in(dirfd, name, ret);

		ret->dir = i;
		if (r == 0)
			return 0;
		if (first == -ENOENT)
			first = r;
	}
	return first;
}

/* ---- SHA-256 ------------------------------------------------------------------------ */

static struct captures_identity identity_of(const struct stat *st)
{
	struct captures_identity id;

	memset(&id, 0, sizeof(id)); /* compared as bytes */
	id.dev = st->st_dev;
	id.ino = st->st_ino;
	id.size = st->st_size;
	id.mtime = st->st_mtim;
	id.ctime = st->st_ctim;
	return id;
}

static bool is_known(struct captures *c, const struct stat *st, char ret[CAPTURES_HEX])
{
	struct captures_identity id = identity_of(st);
	bool found = false;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < CAPTURES_HASHES && !found; i++) {
		struct captures_hash *h = &c->hash[i];

		found = h->hex[0] && !memcmp(&h->of, &id, sizeof(id));
		if (found) {
			strcpy(ret, h->hex);
			h->used = ++c->uses;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

static void remember(struct captures *c, const struct stat *st, const char *hex)
{
	struct captures_hash *oldest = &c->hash[0];

	pthread_mutex_lock(&c->lock);
	for (size_t i = 1; i < CAPTURES_HASHES; i++) {
		if (c->hash[i].used < oldest->used)
			oldest = &c->hash[i];
	}
	oldest->of = identity_of(st);
	oldest->used = ++c->uses;
	strcpy(oldest->hex, hex);
	pthread_mutex_unlock(&c->lock);
}

static int hash_bytes(int fd, uint64_t size, gnutls_hash_hd_t hash)
{
	char buf[16384];

	for (uint64_t at = 0; at < size;) {
		ssize_t n = sb_pread(fd, buf, SB_MIN(sizeof(buf), size - at), at);

		if (n <= 0)
			return n < 0 ? (int)n : -ESTALE; /* cut while we read */
		if (gnutls_hash(hash, buf, (size_t)n) < 0)
			return -EIO;
		at += (uint64_t)n;
	}
	return 0;
}

static int hash_file(const struct capture_file *f, char ret[CAPTURES_HEX])
{
	unsigned char digest[32];
	gnutls_hash_hd_t hash;
	int r;

	if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0)
		return -ENOMEM;
	r = hash_bytes(f->fd, (uint64_t)f->st.st_size, hash);
	gnutls_hash_deinit(hash, digest);
	for (size_t i = 0; r == 0 && i < sizeof(digest); i++)
		sprintf(ret + 2 * i, "%02x", digest[i]);
	return r;
}

int captures_sha256(struct captures *c, const struct capture_file *f, char ret[CAPTURES_HEX])
{
	int r = 0;

	if (is_known(c, &f->st, ret))
		return 0;
	pthread_mutex_lock(&c->reading[f->dir]);
	if (!is_known(c, &f->st, ret)) {
		r = hash_file(f, ret);
		if (r == 0)
			remember(c, &f->st, ret);
	}
	pthread_mutex_unlock(&c->reading[f->dir]);
	return r;
}

/* ---- lists -------------------------------------------------------------------------- */

static int later_first(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? 1 : -1;
	return a->tv_nsec == b->tv_nsec ? 0 : a->tv_nsec < b->tv_nsec ? 1 : -1;
}

/* By the second of their names, whatever the hosts are called; files without one come last. */
static int newest_first(const void *a, const void *b)
{
	const struct capture_item *x = a, *y = b;
	const char *s = bundle_file_stamp(x->name), *t = bundle_file_stamp(y->name);
	int r = s && t ? strncmp(t, s, strlen("00000000T000000")) : (t != NULL) - (s != NULL);

	if (!r)
		r = later_first(&x->st.st_mtim, &y->st.st_mtim);
	return r ? r : strcmp(x->name, y->name);
}

/* Keeps room for twice the newest ones; the older half goes when it is full. */
static void add(struct capture_list *l, const struct capture_item *item)
{
	l->total++;
	l->bytes += (uint64_t)item->st.st_size;
	if (l->n == 2 * CAPTURES_LISTED) {
		qsort(l->item, l->n, sizeof(*l->item), newest_first);
		l->n = CAPTURES_LISTED;
	}
	l->item[l->n++] = *item;
}

static int list_dir(struct captures *c, size_t dir, struct capture_list *l)
{
	int fd = open_dir(c, dir), r;
	struct dirent *e;
	DIR *d;

	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((errno = 0, e = readdir(d))) {
		struct capture_item item = { .dir = dir };

		if (!bundle_looks_like_file(e->d_name))
			continue;
		if (!bundle_is_file_name(e->d_name) || fstatat(dirfd(d), e->d_name, &item.st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(item.st.st_mode)) {
			l->odd++;
			continue;
		}
		strcpy(item.name, e->d_name);
		add(l, &item);
	}
	r = -errno; /* of a directory that cannot be read to its end */
	closedir(d);
	return r;
}

int captures_list(struct captures *c, struct capture_list *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->item = calloc(2 * CAPTURES_LISTED, sizeof(*ret->item));
	if (!ret->item)
		return -ENOMEM;
	for (size_t i = 0; i < CAPTURES_DIRS; i++) {
		int r = list_dir(c, i, ret);

		/* A fallback that was never needed is not there. */
		if (r < 0 && !(i && r == -ENOENT) && !ret->error)
			ret->error = r;
	}
	qsort(ret->item, ret->n, sizeof(*ret->item), newest_first);
	ret->n = SB_MIN(ret->n, (size_t)CAPTURES_LISTED);
	return 0;
}

void captures_complete(struct captures *c, struct capture_list *l)
{
	int dirfd[CAPTURES_DIRS];

	for (size_t i = 0; i < CAPTURES_DIRS; i++)
		dirfd[i] = open_dir(c, i);
	for (size_t i = 0; i < l->n; i++) {
		struct capture_item *item = &l->item[i];

		is_known(c, &item->st, item->sha256);
		item->uploaded = dirfd[item->dir] >= 0 && uploaded_is(dirfd[item->dir], item->name, &item->st);
	}
	for (size_t i = 0; i < CAPTURES_DIRS; i++) {
		if (dirfd[i] >= 0)
			close(dirfd[i]);
	}
}

void captures_list_done(struct capture_list *l)
{
	free(l->item);
	l->item = NULL;
}
