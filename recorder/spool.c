// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/spool.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "recorder/dirwalk.h"

/* Names of one second and trigger; a clock that is set back again and again has more. */
#define SAME_NAME_MAX 100

#define TMP_NAME_MAX (BUNDLE_FILE_MAX + 32)
#define TMP_ATTEMPTS 100 /* somebody locks all that we make, or no file there has a name: as it is, then */

gid_t spool_gid(const struct spool *s)
{
	const struct group *g = s->group[0] ? getgrnam(s->group) : NULL;

	return g ? g->gr_gid : (gid_t)-1;
}

int spool_open_dir(const char *dir)
{
	return TEMP_FAILURE_RETRY(open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC));
}

/* ---- preparing --------------------------------------------------------------------- */

/* Files made in it are of its group, whatever that of the process is and may. */
static int make_last(const char *path, gid_t gid)
{
	if (mkdir(path, 0750) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (gid != (gid_t)-1 && (chown(path, (uid_t)-1, gid) < 0 || chmod(path, 02750) < 0))
		return errno == EPERM ? 0 : -errno;
	return 0;
}

static int make_dirs(const char *dir, gid_t gid)
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
	return make_last(path, gid);
}

static int check_writable(const char *dir)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/" SPOOL_TMP_PREFIX "check-%d", dir, getpid());
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	close(fd);
	unlink(path);
	return 0;
}

/* One that still writes, for an earlier agent even, holds its lock; one that was not yet that far makes another. */
unsigned int spool_sweep_in(int dfd, unsigned int min_age_s)
{
	struct dirwalk w = { .fd = dfd };
	time_t newest = (time_t)(sb_realtime_ms() / 1000) - min_age_s;
	unsigned int swept = 0;
	const char *name;

	while (dfd >= 0 && (name = dirwalk_next(&w))) {
		_cleanup_close_ int fd = -1;
		struct stat st;

		if (strncmp(name, SPOOL_TMP_PREFIX, strlen(SPOOL_TMP_PREFIX)) ||
		    (min_age_s && fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ctim.tv_sec > newest))
			continue;
		fd = openat(dfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			swept += unlinkat(dfd, name, 0) == 0;
	}
	return swept;
}

unsigned int spool_sweep(const char *dir, unsigned int min_age_s)
{
	_cleanup_close_ int dfd = spool_open_dir(dir);

	return spool_sweep_in(dfd, min_age_s);
}

int spool_prepare(const char *dir, gid_t gid)
{
	int r = make_dirs(dir, gid);

	if (r == 0)
		r = check_writable(dir);
	if (r == 0)
		spool_sweep(dir, 0);
	return r;
}

/* ---- names ------------------------------------------------------------------------- */

static void append_clean(char *to, size_t size, const char *from)
{
	size_t n = strlen(to);

	for (; *from && n + 1 < size; from++) {
		unsigned char c = (unsigned char)*from;

		to[n++] = (c < 0x80 && isalnum(c)) || strchr("._-", c) ? (char)c : '_';
	}
	to[n] = '\0';
}

void spool_name(char ret[BUNDLE_FILE_MAX], const char *host, uint64_t when_ms, uint64_t last_ms, const char *trigger)
{
	time_t when = (time_t)(when_ms / 1000);
	char stamp[32];
	struct tm tm;

	ret[0] = '\0';
	append_clean(ret, 65, host[0] && !strchr(".-", host[0]) ? host : "host");
	strftime(stamp, sizeof(stamp), "-%Y%m%dT%H%M%SZ-", gmtime_r(&when, &tm));
	append_clean(ret, BUNDLE_FILE_MAX - 48, stamp);
	append_clean(ret, BUNDLE_FILE_MAX - 24, trigger);
	if (when_ms / 1000 == last_ms / 1000)
		snprintf(ret + strlen(ret), 5, "_%03u", (unsigned int)(when_ms % 1000));
	strcat(ret, BUNDLE_SUFFIX);
}

static uint64_t stamp_in(const char *name)
{
	const char *stamp = bundle_file_stamp(name), *rest, *suffix;
	unsigned int ms = 0;
	struct tm tm = {};

	rest = stamp ? strptime(stamp, "%Y%m%dT%H%M%SZ-", &tm) : NULL;
	if (!rest)
		return 0;
	suffix = strstr(rest, BUNDLE_SUFFIX);
	if (suffix && suffix - rest >= 4)
		sscanf(suffix - 4, "_%3u", &ms);
	return (uint64_t)timegm(&tm) * 1000 + ms;
}

uint64_t spool_newest(const char *dir, uint64_t limit_ms)
{
	_cleanup_close_ int dfd = spool_open_dir(dir);
	struct dirwalk w = { .fd = dfd };
	uint64_t newest = 0;
	const char *name;

	while (dfd >= 0 && (name = dirwalk_next(&w))) {
		uint64_t t = stamp_in(name);

		if (t <= limit_ms && t > newest)
			newest = t;
	}
	return newest;
}

/* ---- publishing -------------------------------------------------------------------- */

static int write_all(int fd, const struct iovec *part, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *p = part[i].iov_base;

		for (size_t len = part[i].iov_len; len;) {
			ssize_t k = TEMP_FAILURE_RETRY(write(fd, p, len));

			if (k < 0)
				return -errno;
			p += k;
			len -= (size_t)k;
		}
	}
	return 0;
}

static int sync_fd(int fd)
{
	return TEMP_FAILURE_RETRY(fsync(fd)) < 0 ? -errno : 0;
}

/* A group that cannot be given costs some readers, not the bundle. */
static void give_group(int fd, gid_t gid)
{
	struct stat st;

	if (gid != (gid_t)-1 && fstat(fd, &st) == 0 && st.st_gid != gid)
		(void)!fchown(fd, (uid_t)-1, gid);
}

/* A sweeper that meets it before it is locked removes it by its name: then it has another one. */
static int open_temporary(int dfd, const char *name, char ret_tmp[TMP_NAME_MAX])
{
	for (int attempt = 0;; attempt++) {
		_cleanup_close_ int fd = -1;
		struct stat st;

		snprintf(ret_tmp, TMP_NAME_MAX, SPOOL_TMP_PREFIX "%d.%d-%s", getpid(), attempt, name);
		/* An earlier one of this process, whose file could not be removed. */
		unlinkat(dfd, ret_tmp, 0);
		fd = TEMP_FAILURE_RETRY(openat(dfd, ret_tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0640));
		if (fd < 0)
			return -errno;
		if (attempt == TMP_ATTEMPTS || (flock(fd, LOCK_EX | LOCK_NB) < 0 ? errno != EWOULDBLOCK :
										  fstat(fd, &st) < 0 || st.st_nlink))
			return TAKE_FD(fd);
		unlinkat(dfd, ret_tmp, 0);
	}
}

static int write_temporary(int dfd, const char *name, gid_t gid, const struct iovec *part, size_t n,
			   char ret_tmp[TMP_NAME_MAX], int *ret_fd)
{
	_cleanup_close_ int fd = open_temporary(dfd, name, ret_tmp);
	int r;

	if (fd < 0)
		return fd;
	give_group(fd, gid);
	r = write_all(fd, part, n);
	if (r == 0)
		r = sync_fd(fd);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

/* File systems that cannot do it in one step (EINVAL) are asked first. */
static int rename_to_new(int dfd, const char *tmp, const char *name)
{
	struct stat st;

	if (TEMP_FAILURE_RETRY(renameat2(dfd, tmp, dfd, name, RENAME_NOREPLACE)) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return TEMP_FAILURE_RETRY(renameat(dfd, tmp, dfd, name)) < 0 ? -errno : 0;
}

static int rename_to(int dfd, const char *tmp, char name[BUNDLE_FILE_MAX], bool replace)
{
	char stem[BUNDLE_FILE_MAX], other[BUNDLE_FILE_MAX + 8];
	int r;

	if (replace)
		return TEMP_FAILURE_RETRY(renameat(dfd, tmp, dfd, name)) < 0 ? -errno : 0;
	r = rename_to_new(dfd, tmp, name);
	snprintf(stem, sizeof(stem), "%.*s", (int)(strlen(name) - (bundle_is_file_name(name) ? strlen(BUNDLE_SUFFIX) : 0)), name);
	for (int i = 2; r == -EEXIST && i < SAME_NAME_MAX; i++) {
		if (snprintf(other, sizeof(other), "%s_%d%s", stem, i, name + strlen(stem)) >= BUNDLE_FILE_MAX)
			return -ENAMETOOLONG;
		r = rename_to_new(dfd, tmp, other);
		if (r == 0)
			memcpy(name, other, strlen(other) + 1);
	}
	return r;
}

int spool_publish(const char *dir, gid_t gid, char name[BUNDLE_FILE_MAX], bool replace, const struct iovec *part, size_t n)
{
	_cleanup_close_ int dfd = spool_open_dir(dir), fd = -1;
	char tmp[TMP_NAME_MAX];
	int r;

	if (dfd < 0)
		return -errno;
	r = write_temporary(dfd, name, gid, part, n, tmp, &fd);
	if (r == 0)
		r = rename_to(dfd, tmp, name, replace);
	if (r < 0) {
		unlinkat(dfd, tmp, 0);
		return r;
	}
	r = sync_fd(dfd);
	if (r < 0 && !replace)
		unlinkat(dfd, name, 0);
	return r;
}

int spool_remove(const char *dir, const char *name)
{
	_cleanup_close_ int dfd = spool_open_dir(dir);

	if (dfd < 0 || unlinkat(dfd, name, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return 0;
}

int spool_append(const char *dir, const char *name, uint64_t expect_len, const struct iovec *part, size_t n)
{
	_cleanup_close_ int dfd = spool_open_dir(dir), fd = -1;
	struct stat st;
	int r;

	if (dfd < 0)
		return -errno;
	fd = TEMP_FAILURE_RETRY(openat(dfd, name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != expect_len)
		return -ESTALE;
	r = write_all(fd, part, n);
	if (r == 0)
		r = sync_fd(fd);
	if (r < 0 && ftruncate(fd, (off_t)expect_len) < 0)
		return r; /* whole frames up to expect_len can still be read */
	return r;
}
