// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/spool.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define TMP_PREFIX ".tmp-"

static int make_dirs(const char *dir)
{
	char path[256];

	snprintf(path, sizeof(path), "%s", dir);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int check_writable(const char *dir)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/" TMP_PREFIX "check-%d", dir, getpid());
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	close(fd);
	unlink(path);
	return 0;
}

/* Left behind by a storing process that was killed. */
static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (!strncmp(e->d_name, TMP_PREFIX, strlen(TMP_PREFIX)))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

static int prepare_one(const char *dir)
{
	int r = make_dirs(dir);

	if (r == 0)
		r = check_writable(dir);
	if (r == 0)
		sweep(dir);
	return r;
}

int spool_prepare(const struct spool *s)
{
	int r = prepare_one(s->dir), f = s->fallback[0] ? prepare_one(s->fallback) : -ENOENT;

	return r == 0 || f == 0 ? 0 : r;
}

static void append_clean(char *to, size_t size, const char *from)
{
	size_t n = strlen(to);

	for (; *from && n + 1 < size; from++) {
		unsigned char c = (unsigned char)*from;

		to[n++] = isalnum(c) || strchr("._-", c) ? (char)c : '_';
	}
	to[n] = '\0';
}

void spool_name(char ret[SPOOL_NAME_MAX], const char *host, time_t when, const char *trigger)
{
	char stamp[32];
	struct tm tm;

	ret[0] = '\0';
	append_clean(ret, 65, host[0] && host[0] != '.' ? host : "host");
	strftime(stamp, sizeof(stamp), "-%Y%m%dT%H%M%SZ-", gmtime_r(&when, &tm));
	append_clean(ret, SPOOL_NAME_MAX - 48, stamp);
	append_clean(ret, SPOOL_NAME_MAX - 16, trigger);
	strcat(ret, SPOOL_SUFFIX);
}

static int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_retry(int fd)
{
	while (fsync(fd) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int spool_publish(const char *dir, const char *name, const void *data, size_t len)
{
	_cleanup_close_ int dfd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int fd = -1;
	char tmp[SPOOL_NAME_MAX + 32];
	int r;

	if (dfd < 0)
		return -errno;
	snprintf(tmp, sizeof(tmp), TMP_PREFIX "%d-%s", getpid(), name);
	fd = openat(dfd, tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	if (r == 0)
		r = sync_retry(fd);
	if (r == 0 && renameat(dfd, tmp, dfd, name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dfd, tmp, 0);
		return r;
	}
	return sync_retry(dfd);
}

int spool_append(const char *dir, const char *name, uint64_t expect_len, const void *data,
		 size_t len)
{
	_cleanup_close_ int dfd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (dfd < 0)
		return -errno;
	fd = openat(dfd, name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != expect_len)
		return -ESTALE;
	r = write_all(fd, data, len);
	if (r == 0)
		r = sync_retry(fd);
	if (r < 0 && ftruncate(fd, (off_t)expect_len) < 0)
		return r; /* whole frames up to expect_len can still be read */
	return r;
}

static bool is_bundle(const char *name)
{
	size_t n = strlen(name), s = strlen(SPOOL_SUFFIX);

	return n > s && name[0] != '.' && !strcmp(name + n - s, SPOOL_SUFFIX);
}

struct spool_entry {
	char name[256];
	time_t mtime;
	uint64_t bytes;
};

/* Oldest bundle that may go, total use, and the newest's name. */
static int survey(DIR *d, const char *keep, struct spool_entry *oldest, uint64_t *total)
{
	struct spool_entry newest = {};
	struct dirent *e;
	int n = 0;

	*total = 0;
	oldest->name[0] = '\0';
	for (int pass = 0; pass < 2; pass++) {
		rewinddir(d);
		while ((e = readdir(d))) {
			struct stat st;

			if (!is_bundle(e->d_name) || fstatat(dirfd(d), e->d_name, &st, 0) < 0)
				continue;
			if (pass == 0) {
				n++;
				*total += (uint64_t)st.st_size;
				if (st.st_mtime >= newest.mtime) {
					newest.mtime = st.st_mtime;
					snprintf(newest.name, sizeof(newest.name), "%s", e->d_name);
				}
				continue;
			}
			if (!strcmp(e->d_name, newest.name) || !strcmp(e->d_name, keep))
				continue;
			if (!oldest->name[0] || st.st_mtime < oldest->mtime) {
				oldest->mtime = st.st_mtime;
				snprintf(oldest->name, sizeof(oldest->name), "%s", e->d_name);
			}
		}
	}
	return n;
}

int spool_vacuum(const char *dir, uint64_t max_use_bytes, const char *keep)
{
	DIR *d = opendir(dir);
	struct spool_entry oldest;
	uint64_t total;
	int deleted = 0;

	if (!d)
		return 0;
	while (max_use_bytes && survey(d, keep, &oldest, &total) > 1 && total > max_use_bytes &&
	       oldest.name[0]) {
		if (unlinkat(dirfd(d), oldest.name, 0) < 0)
			break;
		deleted++;
	}
	closedir(d);
	return deleted;
}
