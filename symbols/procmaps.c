// SPDX-License-Identifier: BSD-2-Clause
/* Mappings and files of another process, without ever waiting for it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
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

/*
 * What a child has to tell ends with words of its own. The end of the pipe or socket may never come: a child that
 * another thread forks in the meantime has it open, too, for as long as it stands.
 */

/* The child's part. Last what has no length: how many were not sent, and an errno. */
static void send_maps(uint32_t pid, int out_fd, size_t max)
{
	struct process_map m, end = {};
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, "maps");
	f = fopen(path, "re");
	if (!f)
		end.pgoff = (uint64_t)errno;
	for (size_t n = 0; f && process_maps_next(f, &m); n++) {
		if (n >= max)
			end.start++;
		else if (write(out_fd, &m, sizeof(m)) != sizeof(m))
			return;
	}
	if (f && ferror(f))
		end.pgoff = ESRCH;
	(void)!write(out_fd, &end, sizeof(end));
}

/* After n mappings. */
static int judge_end(size_t n, const struct process_map *end)
{
	if (n || !end->pgoff)
		return (int)(n + end->start);
	return end->pgoff == ENOENT ? -ESRCH : -(int)end->pgoff;
}

static int take_maps(int fd, uint64_t deadline_ns, struct process_map *ret, size_t max)
{
	size_t bytes = 0, full = max * sizeof(*ret);
	struct process_map beyond, *last;

	for (;;) {
		uint64_t now = sb_monotonic_ns();
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (now >= deadline_ns ||
		    poll(&pfd, 1, (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1) <= 0)
			return -ETIMEDOUT;
		if (bytes < full)
			n = read(fd, (char *)ret + bytes, full - bytes);
		else
			n = read(fd, (char *)&beyond + bytes - full, full + sizeof(beyond) - bytes);
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* something has ended the child */
		bytes += (size_t)n;
		last = bytes > full ? &beyond : ret + (bytes - 1) / sizeof(*ret);
		if (bytes % sizeof(*ret) == 0 && !last->len)
			return judge_end(bytes / sizeof(*ret) - 1, last);
	}
}

int process_maps_read(uint32_t pid, unsigned int timeout_ms, struct process_map *ret, size_t max)
{
	/* Of a thousand short-lived ones few are left: no child for those. */
	if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
		return -ESRCH;
	uint64_t deadline = sb_monotonic_ns() + timeout_ms * NSEC_PER_MSEC;
	int out[2], r;
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
		send_maps(pid, out[1], max);
		_exit(0);
	}
	close(out[1]);
	r = child < 0 ? -EAGAIN : take_maps(out[0], deadline, ret, max);
	close(out[0]);
	if (child < 0)
		return r;
	if (r < 0)
		kill(child, SIGKILL); /* waited for by a later call */
	else
		waitpid(child, NULL, 0);
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

static int open_below(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

int process_open_file(uint32_t pid, const char *path)
{
	char root[64];
	_cleanup_close_ int rfd = -1;
	int fd = -1;

	if (path[0] != '/')
		return -EINVAL;
	snprintf(root, sizeof(root), "/proc/%u/root", pid);
	rfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rfd >= 0)
		fd = open_below(rfd, path);
	if (fd < 0 && rfd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return only_regular(fd);
}

static bool is_mapped(int fd, const struct process_map *m)
{
	uint8_t id[32];
	struct stat st;

	if (m->build_id_len)
		return elf_build_id(fd, id, sizeof(id)) == m->build_id_len && !memcmp(id, m->build_id, m->build_id_len);
	/* Devices of layered file systems differ. */
	return m->ino && fstat(fd, &st) == 0 && st.st_ino == m->ino;
}

static int keep_mapped(int fd, const struct process_map *m)
{
	if (fd < 0 || is_mapped(fd, m))
		return fd;
	close(fd);
	return -ESTALE;
}

static int open_exe(uint32_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int process_open_mapped(uint32_t pid, const struct process_map *m)
{
	int fd = m->deleted ? -ENOENT : keep_mapped(process_open_file(pid, m->path), m);

	if (fd < 0 && !m->deleted)
		fd = keep_mapped(process_open_file((uint32_t)getpid(), m->path), m);
	return fd < 0 ? keep_mapped(open_exe(pid), m) : fd;
}

/* The lookup waits for the victim's mmap_lock, but can be killed while it does. A byte, with the file if there is one. */
static void send_map_file(uint32_t pid, const struct process_map *m, int socket)
{
	char path[96], control[CMSG_SPACE(sizeof(int))] = "", byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/map_files/%llx-%llx", pid, (unsigned long long)m->start,
		 (unsigned long long)(m->start + m->len));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (fd < 0)
		msg.msg_controllen = 0;
	(void)!sendmsg(socket, &msg, MSG_NOSIGNAL);
}

static int take_fd(int socket, unsigned int timeout_ms)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct pollfd pfd = { .fd = socket, .events = POLLIN };
	struct cmsghdr *c;
	int fd;

	if (poll(&pfd, 1, (int)timeout_ms) <= 0)
		return -ETIMEDOUT;
	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) <= 0)
		return -ENOENT;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -ENOENT;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int process_open_map_file(uint32_t pid, const struct process_map *m, unsigned int timeout_ms)
{
	int pair[2], fd;
	pid_t child;

	if (!m->len)
		return -ENOENT;
	if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
		return -ESRCH;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		send_map_file(pid, m, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	fd = child < 0 ? -EAGAIN : take_fd(pair[0], timeout_ms);
	close(pair[0]);
	if (fd == -ETIMEDOUT)
		kill(child, SIGKILL); /* waited for by a later process_maps_read() */
	else if (child > 0)
		waitpid(child, NULL, 0);
	return fd < 0 ? fd : keep_mapped(only_regular(fd), m);
}

int file_open_below(const char *root, const char *path)
{
	_cleanup_close_ int rfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return rfd < 0 ? -errno : only_regular(open_below(rfd, path));
}
