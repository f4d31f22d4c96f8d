// SPDX-License-Identifier: BSD-2-Clause
#include "format/uploaded.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define MARK_MAX 64

static int open_marks(int dirfd)
{
	return openat(dirfd, UPLOADED_DIR, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static int mark_of(const struct stat *st, char ret[MARK_MAX])
{
	return snprintf(ret, MARK_MAX, "%lld %lld\n", (long long)st->st_size,
			(long long)st->st_mtim.tv_sec * (long long)NSEC_PER_SEC + st->st_mtim.tv_nsec);
}

int64_t uploaded_at(int dirfd, const char *name, const struct stat *st)
{
	_cleanup_close_ int marks = open_marks(dirfd), fd = -1;
	char want[MARK_MAX], got[MARK_MAX];
	int len = mark_of(st, want);
	struct stat mark;

	if (marks < 0)
		return -1;
	fd = openat(marks, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || read(fd, got, sizeof(got)) != len || memcmp(got, want, (size_t)len) || fstat(fd, &mark) < 0)
		return -1;
	return mark.st_mtim.tv_sec;
}

bool uploaded_is(int dirfd, const char *name, const struct stat *st)
{
	return uploaded_at(dirfd, name, st) >= 0;
}

/* By another name first: a mark is there with its text or not at all. */
static int write_mark(int marks, const char *name, const struct stat *st)
{
	_cleanup_close_ int fd = -1;
	char text[MARK_MAX], tmp[32];
	int len = mark_of(st, text), r = 0;

	snprintf(tmp, sizeof(tmp), ".tmp-%d", getpid());
	unlinkat(marks, tmp, 0);
	fd = openat(marks, tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	errno = ENOSPC; /* of a write that is cut short */
	if (write(fd, text, (size_t)len) != len || fchmod(fd, 0644) < 0 || fsync(fd) < 0 || renameat(marks, tmp, marks, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(marks, tmp, 0);
	return r < 0 ? r : fsync(marks) < 0 ? -errno : 0;
}

int uploaded_mark(int dirfd, const char *name, const struct stat *st)
{
	_cleanup_close_ int marks = -1;

	if (mkdirat(dirfd, UPLOADED_DIR, 0770) < 0 && errno != EEXIST)
		return -errno;
	marks = open_marks(dirfd);
	return marks < 0 ? -errno : write_mark(marks, name, st);
}

void uploaded_forget(int dirfd, const char *name)
{
	_cleanup_close_ int marks = open_marks(dirfd);

	if (marks >= 0)
		unlinkat(marks, name, 0);
}
