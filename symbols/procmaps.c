// SPDX-License-Identifier: BSD-2-Clause
/* Mappings and files of another process, without ever waiting for it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "symbols/symbols.h"

/* Longer than a line with any path that fits. */
#define LINE_MAX_BYTES 2048

/* "\012" back to a newline: the kernel writes nothing else in octal. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (!strncmp(s, "\\012", 4)) {
			*to++ = '\n';
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* The name of a mapping, without the newline; path is what is left of its line. */
static void take_path(char *path, struct process_map *m)
{
	static const char deleted[] = " (deleted)";
	size_t n = strlen(path), d = strlen(deleted);

	if (n > d && !strcmp(path + n - d, deleted)) {
		m->deleted = true;
		path[n - d] = '\0';
	}
	unescape(path);
	n = strlen(path);
	/* Cut, it would be the name of another file. */
	memcpy(m->path, "[path too long]", sizeof("[path too long]"));
	if (n < sizeof(m->path))
		memcpy(m->path, path, n + 1);
	if (!n)
		strcpy(m->path, "[anon]");
}

/* One line of /proc/PID/maps, proc(5); false when it is not an executable mapping. */
static bool parse_line(char *line, struct process_map *m)
{
	unsigned long long start, end, pgoff, ino;
	unsigned int major, minor;
	char perms[5];
	int at = 0;

	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu%n", &start, &end, perms, &pgoff, &major, &minor, &ino,
		   &at) < 7 || strlen(perms) != 4 || perms[2] != 'x' || end <= start)
		return false;
	*m = (struct process_map){ .start = start, .len = end - start, .pgoff = pgoff,
				   .dev = (uint64_t)major << 32 | minor, .ino = ino };
	line += at;
	line[strcspn(line, "\n")] = '\0';
	take_path(line + strspn(line, " "), m);
	return true;
}

static void skip_line(FILE *f)
{
	int c;

	do
		c = getc(f);
	while (c != EOF && c != '\n');
}

bool process_maps_next(FILE *f, struct process_map *ret)
{
	char line[LINE_MAX_BYTES];

	while (fgets(line, sizeof(line), f)) {
		if (!strchr(line, '\n'))
			skip_line(f);
		if (parse_line(line, ret))
			return true;
	}
	return false;
}

/* The child's part. Exit code: an errno. */
static int send_maps(uint32_t pid, int out_fd, size_t max)
{
	char path[64];
	struct process_map m;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, "maps");
	f = fopen(path, "re");
	if (!f)
		return errno;
	while (max && process_maps_next(f, &m)) {
		if (write(out_fd, &m, sizeof(m)) != sizeof(m))
			return EIO;
		max--;
	}
	return ferror(f) ? ESRCH : 0;
}

static int take_maps(int fd, uint64_t deadline_ns, struct process_map *ret, size_t max)
{
	size_t bytes = 0;

	for (;;) {
		uint64_t now = sb_monotonic_ns();
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (now >= deadline_ns ||
		    poll(&pfd, 1, (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1) <= 0)
			return -ETIMEDOUT;
		n = read(fd, (char *)ret + bytes, max * sizeof(*ret) - bytes);
		if (n < 0)
			return -errno;
		if (n == 0)
			return (int)(bytes / sizeof(*ret));
		bytes += (size_t)n;
		if (bytes == max * sizeof(*ret))
			return (int)max;
	}
}

int process_maps_read(uint32_t pid, unsigned int timeout_ms, struct process_map *ret, size_t max)
{
	/* Of a thousand short-lived ones few are left: no child for those. */
	if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
		return -ESRCH;
	uint64_t deadline = sb_monotonic_ns() + timeout_ms * NSEC_PER_MSEC;
	int out[2], r, status;
	pid_t child;

	/* Earlier children that hung and were killed. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(out[0]);
		_exit(send_maps(pid, out[1], max));
	}
	close(out[1]);
	r = child < 0 ? -EAGAIN : take_maps(out[0], deadline, ret, max);
	close(out[0]);
	if (child < 0)
		return r;
	if (r < 0) {
		kill(child, SIGKILL);
		return r;
	}
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) && r == 0)
		return WEXITSTATUS(status) == ENOENT ? -ESRCH : -WEXITSTATUS(status);
	return r;
}

/* Regular files only: a FIFO or a device at that path must not hang or act. */
static int only_regular(int fd)
{
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -ENOEXEC;
	}
	return fd;
}

int process_open_file(uint32_t pid, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	char root[64];
	_cleanup_close_ int rfd = -1;
	int fd = -1;

	if (path[0] != '/')
		return -EINVAL;
	snprintf(root, sizeof(root), "/proc/%u/root", pid);
	rfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rfd >= 0)
		fd = (int)syscall(SYS_openat2, rfd, path, &how, sizeof(how));
	if (fd < 0 && rfd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return only_regular(fd);
}
