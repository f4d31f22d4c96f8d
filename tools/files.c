// SPDX-License-Identifier: BSD-2-Clause
#include "tools/files.h"

#include <errno.h>
#include <sys/stat.h>

int files_write(int fd, const void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int files_copy(int from, int to, uint64_t *ret_bytes)
{
	static char buf[1 << 16];

	for (*ret_bytes = 0;;) {
		ssize_t n = read(from, buf, sizeof(buf));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r = files_write(to, buf, (size_t)n);
		if (r < 0)
			return r;
		*ret_bytes += (uint64_t)n;
	}
}

void files_drop(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
		unlink(path);
}

bool files_same(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
