/* SPDX-License-Identifier: BSD-2-Clause */
/* Directories of a unit test's own below one that is removed at its end. Included once, after cmocka.h. */
#ifndef SB_TESTS_UNIT_SCRATCH_H
#define SB_TESTS_UNIT_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "format/base.h"

static char top[] = "/tmp/stallbox-test.XXXXXX";

/* A path below it; an absolute one is what it is. */
static inline const char *at(const char *name)
{
	static char path[8][512];
	static int turn;
	char *p = path[turn++ % 8];

	if (name[0] == '/')
		return name;
	snprintf(p, sizeof(path[0]), "%s/%s", top, name);
	return p;
}

/* A command of the shell in it; what it says of errors goes to top/log. */
static inline int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int sh(const char *fmt, ...)
{
	char command[4096];
	int n = snprintf(command, sizeof(command), "cd %s && { ", top);
	va_list ap;

	va_start(ap, fmt);
	n += vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	snprintf(command + n, sizeof(command) - (size_t)n, "; } 2>>log");
	return system(command);
}

static inline int open_at(const char *name)
{
	return open(at(name), O_RDONLY | O_CLOEXEC);
}

static inline void write_file(const char *name, const void *data, size_t len)
{
	FILE *f = fopen(at(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *name, const char *text)
{
	write_file(name, text, strlen(text));
}

static inline void make_file(const char *path, size_t len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0640);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static inline bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static inline off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

static inline unsigned int mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* Everything in a directory, dots aside. */
static inline int count_files(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* Makes it; the path stays valid, at()'s is soon another one. */
static inline const char *new_dir(const char *name)
{
	static char path[48][512];
	static size_t n;

	assert_true(n < SB_ARRAY_SIZE(path));
	strcpy(path[n], at(name));
	assert_int_equal(mkdir(path[n], 0755), 0);
	return path[n++];
}

/* A file system of that many bytes at top/name, in a mount namespace of this process. */
static inline bool mount_small(const char *name, unsigned int bytes)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%u", bytes);
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", new_dir(name), "tmpfs", 0, options) == 0;
}

static inline int set_up(void **state)
{
	(void)state;
	umask(022);
	return mkdtemp(top) ? 0 : -1;
}

static inline int tear_down(void **state)
{
	(void)state;
	return sh("rm -rf %s", top);
}

#endif
