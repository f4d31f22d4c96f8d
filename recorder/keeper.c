// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "format/uploaded.h"
#include "recorder/dirwalk.h"
#include "recorder/quarantine.h"
#include "recorder/retention.h"

/* A directory that cannot be prepared in this time is on a file system that hangs; a cold disk takes 100 ms. */
#define PREPARE_MS 5000
#define SWEEP_AGE_S 60

/* ---- at start ---------------------------------------------------------------------- */

struct prepared {
	int32_t error;
	uint64_t newest;
};

static int fork_preparer(const char *dir, gid_t gid, uint64_t limit_ms, pid_t *ret_pid)
{
	struct prepared done;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	*ret_pid = fork();
	if (*ret_pid == 0) {
		done.error = spool_prepare(dir, gid);
		done.newest = spool_newest(dir, limit_ms);
		_exit(write(fd[1], &done, sizeof(done)) == sizeof(done) ? 0 : 1);
	}
	close(fd[1]);
	if (*ret_pid < 0) {
		close(fd[0]);
		return -EAGAIN;
	}
	return fd[0];
}

static struct prepared await_preparer(int fd, pid_t pid, uint64_t due_ns)
{
	struct prepared done = { .error = -ETIMEDOUT };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = sb_monotonic_ns();

	if (poll(&p, 1, now < due_ns ? (int)((due_ns - now) / NSEC_PER_MSEC) : 0) > 0) {
		if (read(fd, &done, sizeof(done)) != sizeof(done))
			done = (struct prepared){ .error = -ECHILD };
		waitpid(pid, NULL, 0);
	} else {
		kill(pid, SIGKILL); /* it ends when its disk lets it */
	}
	close(fd);
	return done;
}

int keeper_prepare(const struct spool *s, struct storage *st, uint64_t limit_ms, uint64_t *ret_newest)
{
	uint64_t due = sb_monotonic_ns() + PREPARE_MS * NSEC_PER_MSEC, newest = 0;
	gid_t gid = spool_gid(s);
	pid_t pid[SPOOL_DIRS];
	int fd[SPOOL_DIRS], r = -ENOENT;

	for (int d = 0; d < SPOOL_DIRS; d++)
		fd[d] = *spool_dir(s, d) ? fork_preparer(spool_dir(s, d), gid, limit_ms, &pid[d]) : -ENOENT;
	for (int d = 0; d < SPOOL_DIRS; d++) {
		struct prepared done = { .error = fd[d] };

		if (fd[d] >= 0)
			done = await_preparer(fd[d], pid[d], due);
		if (*spool_dir(s, d)) {
			st->dir[d].error = done.error;
			st->dir[d].tried_ns = sb_monotonic_ns();
		}
		newest = SB_MAX(newest, done.newest);
		if (d == 0 || done.error == 0 || (r < 0 && done.error == -ETIMEDOUT))
			r = done.error;
	}
	*ret_newest = newest;
	return r == -ETIMEDOUT ? 0 : r;
}

/* ---- later ------------------------------------------------------------------------- */

/* Those of bundles that are gone, deleted by a person perhaps. */
static void forget_marks(int dfd, int marks)
{
	struct dirwalk w = { .fd = marks };
	const char *name;

	while ((name = dirwalk_next(&w))) {
		if (bundle_is_file_name(name) && faccessat(dfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			unlinkat(marks, name, 0);
	}
}

/* Writable for the group: whoever uploads is another user. Returns how many halves of marks are gone. */
static unsigned int keep_marks(const char *dir, gid_t gid, bool wanted)
{
	_cleanup_close_ int dfd = spool_open_dir(dir), marks = -1;

	if (dfd < 0)
		return 0;
	if (wanted && mkdirat(dfd, UPLOADED_DIR, 0770) == 0) {
		(void)!fchownat(dfd, UPLOADED_DIR, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW);
		(void)!fchmodat(dfd, UPLOADED_DIR, 0770, 0);
	}
	marks = openat(dfd, UPLOADED_DIR, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (marks >= 0)
		forget_marks(dfd, marks);
	return spool_sweep_in(marks, SWEEP_AGE_S);
}

/* A directory that could not be written kept the half of a bundle that is whole in the other one. No two bundles
 * have the same name. Of two as long as each other one may be in its disk's cache alone, and which of them is its
 * writer knows: it removes that one when the disk lets it. */
static void remove_halves(const struct spool *s)
{
	_cleanup_close_ int first = spool_open_dir(s->dir), other = spool_open_dir(s->fallback);
	struct dirwalk w = { .fd = other };
	const char *name;

	while (first >= 0 && other >= 0 && (name = dirwalk_next(&w))) {
		struct stat a, b;

		if (!bundle_is_file_name(name) || fstatat(first, name, &a, AT_SYMLINK_NOFOLLOW) < 0 ||
		    fstatat(other, name, &b, AT_SYMLINK_NOFOLLOW) < 0 || a.st_size == b.st_size ||
		    (a.st_dev == b.st_dev && a.st_ino == b.st_ino)) /* one file, which is being written */
			continue;
		unlinkat(a.st_size < b.st_size ? first : other, name, 0);
	}
}

/* The next bundle fits without anything being deleted first. */
static uint64_t reserve(const struct storage *st)
{
	return SB_MIN(storage_get(st->limits.max_use_bytes) / 4, 2 * storage_get(st->last_bytes));
}

static void keep_order(const struct spool *s, gid_t gid, struct storage *st)
{
	remove_halves(s);
	retention_enforce(s, reserve(st), st);
	for (int d = 0; d < SPOOL_DIRS; d++) {
		if (*spool_dir(s, d))
			storage_add(st->swept, spool_sweep(spool_dir(s, d), SWEEP_AGE_S));
		storage_add(st->swept, keep_marks(spool_dir(s, d), gid, st->limits.mark_uploads));
		quarantine_check(s, d, st);
	}
	storage_set(st->kept_ns, sb_monotonic_ns());
}

void keeper_run(const struct spool *s, gid_t gid, struct storage *st)
{
	do {
		storage_set(st->keep_again, 0);
		keep_order(s, gid, st);
	} while (storage_get(st->keep_again));
}
