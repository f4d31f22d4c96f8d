// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "format/log.h"
#include "format/reader.h"
#include "recorder/dirwalk.h"

/* The oldest file but `keep`. false: all are within the limits. */
static bool too_much(int fd, const char *keep, char ret_oldest[NAME_MAX + 1])
{
	struct dirwalk w = { .fd = fd };
	uint64_t bytes = 0, files = 0, oldest = UINT64_MAX;
	const char *name;

	while ((name = dirwalk_next(&w))) {
		struct stat st;
		uint64_t since;

		if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bytes += (uint64_t)st.st_size;
		files++;
		since = (uint64_t)st.st_ctim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_ctim.tv_nsec;
		if (since < oldest && strcmp(name, keep)) {
			oldest = since;
			memccpy(ret_oldest, name, '\0', NAME_MAX + 1);
		}
	}
	return files > QUARANTINE_FILES || (bytes > QUARANTINE_BYTES && files > 1);
}

static int move_away(int dfd, const char *name, struct storage *st)
{
	_cleanup_close_ int fd = -1;
	char oldest[NAME_MAX + 1];

	if (mkdirat(dfd, QUARANTINE_DIR, 0750) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dfd, QUARANTINE_DIR, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || renameat(dfd, name, fd, name) < 0)
		return -errno;
	storage_add(st->quarantined, 1);
	while (too_much(fd, name, oldest) && unlinkat(fd, oldest, 0) == 0)
		storage_add(st->quarantine_deleted, 1);
	return 0;
}

/* Why nothing can be had of it; "" there is something, or it cannot be told. */
static void find_fault(const char *dir, const char *name, char *suspect, char *ret, size_t len)
{
	struct bundle_error err = {};
	char path[sizeof(((struct spool *)0)->dir) + NAME_MAX + 2];

	*ret = '\0';
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(suspect, NAME_MAX + 1, "%s", name);
	if (bundle_probe(path, &err) == -EBADMSG)
		snprintf(ret, len, "%s", err.what);
	*suspect = '\0';
}

struct findings {
	unsigned int n;
	int error;
	char fault[160]; /* of the first */
};

static void check_one(int dfd, const char *dir, const char *name, const char *deadly, struct findings *f,
		      struct storage *st, enum spool_which which)
{
	char fault[160] = "reading it has killed a process";
	int r;

	if (strcmp(name, deadly))
		find_fault(dir, name, st->dir[which].suspect, fault, sizeof(fault));
	if (!fault[0])
		return;
	r = move_away(dfd, name, st);
	if (r < 0)
		f->error = r;
	else if (!f->n++)
		memcpy(f->fault, fault, sizeof(fault));
}

void quarantine_check(const struct spool *s, enum spool_which which, struct storage *st)
{
	const char *dir = spool_dir(s, which);
	_cleanup_close_ int dfd = spool_open_dir(dir);
	struct storage_dir *d = &st->dir[which];
	struct dirwalk w = { .fd = dfd };
	/* Times of files may lag behind the clock by a tick. */
	int64_t since = (int64_t)d->checked_s - 2, now = (int64_t)(sb_realtime_ms() / 1000);
	struct findings found = {};
	char deadly[NAME_MAX + 1];
	const char *name;

	memcpy(deadly, d->suspect, sizeof(deadly));
	d->suspect[0] = '\0';
	while (dfd >= 0 && (name = dirwalk_next(&w))) {
		struct stat f;

		if (bundle_is_file_name(name) && fstatat(dfd, name, &f, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(f.st_mode) &&
		    f.st_ctim.tv_sec >= since)
			check_one(dfd, dir, name, deadly, &found, st, which);
	}
	d->checked_s = (uint64_t)now;
	if (found.n)
		log_warn("%u files that are no bundles are now in %s/" QUARANTINE_DIR ", the first: %s", found.n, dir, found.fault);
	if (found.error)
		log_errno(found.error, "cannot move a file that is no bundle to %s/" QUARANTINE_DIR, dir);
}
