// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/spool.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define TMP_PREFIX ".tmp-"

static int make_dirs(const char *dir)
{
	char path[256];

	snprintf(path, sizeof(path), "%s", dir);
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
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

/* Left behind by a storing process that was killed. One that still writes for an earlier agent
 * holds its lock. */
static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_close_ int fd = -1;

		if (strncmp(e->d_name, TMP_PREFIX, strlen(TMP_PREFIX)))
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
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

void spool_name(char ret[SPOOL_NAME_MAX], const char *host, uint64_t when_ms, const char *trigger)
{
	time_t when = (time_t)(when_ms / 1000);
	char stamp[32];
	size_t n;
	struct tm tm;

	ret[0] = '\0';
	append_clean(ret, 65, host[0] && host[0] != '.' ? host : "host");
	n = strftime(stamp, sizeof(stamp), "-%Y%m%dT%H%M%S", gmtime_r(&when, &tm));
	snprintf(stamp + n, sizeof(stamp) - n, ".%03uZ-", (unsigned int)(when_ms % 1000));
	append_clean(ret, SPOOL_NAME_MAX - 48, stamp);
	append_clean(ret, SPOOL_NAME_MAX - 16, trigger);
	strcat(ret, SPOOL_SUFFIX);
}

static uint64_t stamp_in(const char *name)
{
	for (const char *p = name; (p = strchr(p, '-')); p++) {
		struct tm tm = {};
		const char *rest = strptime(p, "-%Y%m%dT%H%M%S", &tm);
		unsigned int ms = 0;
		int len = 0;

		if (rest && sscanf(rest, ".%3uZ-%n", &ms, &len) == 1 && len == 6)
			return (uint64_t)timegm(&tm) * 1000 + ms;
	}
	return 0;
}

uint64_t spool_newest(const struct spool *s, uint64_t limit_ms)
{
	const char *const dirs[] = { s->dir, s->fallback };
	uint64_t newest = 0;

	for (size_t i = 0; i < SB_ARRAY_SIZE(dirs); i++) {
		DIR *d = dirs[i][0] ? opendir(dirs[i]) : NULL;
		struct dirent *e;

		while (d && (e = readdir(d))) {
			uint64_t t = stamp_in(e->d_name);

			if (t <= limit_ms && t > newest)
				newest = t;
		}
		if (d)
			closedir(d);
	}
	return newest;
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
	(void)!flock(fd, LOCK_EX | LOCK_NB); /* sweep() of the next agent leaves it alone */
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

void spool_remove(const char *dir, const char *name)
{
	_cleanup_close_ int dfd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);

	if (dfd >= 0)
		unlinkat(dfd, name, 0);
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
	int dirfd;
	struct timespec mtime;
};

static bool older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* One directory's share of the survey: total use, the newest bundle, the oldest that is
 * neither the newest so far nor `keep`. */
static void survey(DIR *d, const char *keep, const char *newest_name, struct spool_entry *newest,
		   struct spool_entry *oldest, uint64_t *total)
{
	struct dirent *e;

	rewinddir(d);
	while ((e = readdir(d))) {
		struct spool_entry *best = NULL;
		struct stat st;

		if (!is_bundle(e->d_name) ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		*total += (uint64_t)st.st_size;
		if (newest && (!newest->name[0] || !older(&st.st_mtim, &newest->mtime)))
			best = newest;
		if (oldest && strcmp(e->d_name, newest_name) && strcmp(e->d_name, keep) &&
		    (!oldest->name[0] || older(&st.st_mtim, &oldest->mtime)))
			best = oldest;
		if (best) {
			best->mtime = st.st_mtim;
			best->dirfd = dirfd(d);
			memccpy(best->name, e->d_name, '\0', sizeof(best->name));
		}
	}
}

int spool_vacuum(const struct spool *s, const char *keep)
{
	DIR *d[2] = { opendir(s->dir), s->fallback[0] ? opendir(s->fallback) : NULL };
	int deleted = 0;

	while (s->max_use_bytes) {
		struct spool_entry newest = {}, oldest = {};
		uint64_t total = 0, again = 0;

		for (int i = 0; i < 2; i++) {
			if (d[i])
				survey(d[i], keep, "", &newest, NULL, &total);
		}
		for (int i = 0; i < 2; i++) {
			if (d[i])
				survey(d[i], keep, newest.name, NULL, &oldest, &again);
		}
		if (total <= s->max_use_bytes || !oldest.name[0] ||
		    unlinkat(oldest.dirfd, oldest.name, 0) < 0)
			break;
		deleted++;
	}
	for (int i = 0; i < 2; i++) {
		if (d[i])
			closedir(d[i]);
	}
	return deleted;
}
