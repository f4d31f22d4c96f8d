// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/survey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>

struct survey {
	struct captures *captures;
	pthread_mutex_t lock;
	pthread_cond_t asked, done;
	uint64_t wanted_ns; /* 0: no look is wanted */
	struct survey_result last;
};

/* Its mount's number in mountinfo; -1. The device is none: files of btrfs have another one than their mount. */
static int mount_of(const char *path)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	char name[32], line[64];
	int id = -1;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	f = fopen(name, "re");
	while (f && id < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "mnt_id: %d", &id) != 1)
			id = -1;
	}
	if (f)
		fclose(f);
	return id;
}

/* By the options of its file system, the last field of its mount: a unit or a pod may give us what it gives the
 * recorder to write as one to read. */
static bool is_read_only(const char *path)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	int mount = mount_of(path), id;
	size_t size = 0;
	bool is = false;

	while (f && !is && getline(&line, &size, f) > 0) {
		const char *options = strstr(line, " - ");
		char of[3];

		is = options && sscanf(line, "%d", &id) == 1 && id == mount &&
		     sscanf(options, " - %*s %*s %2[^,\n]", of) == 1 && !strcmp(of, "ro");
	}
	if (f)
		fclose(f);
	return is;
}

static void look_at_dir(const struct captures *c, size_t i, struct survey_dir *ret)
{
	struct statvfs fs;

	ret->path = captures_dir(c, i);
	if (!*ret->path || statvfs(ret->path, &fs) < 0)
		return;
	ret->known = true;
	ret->size_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
	ret->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	ret->free_inodes = fs.f_favail;
	ret->no_inodes = fs.f_files && !fs.f_favail;
	ret->read_only = (fs.f_flag & ST_RDONLY) && is_read_only(ret->path);
}

static struct survey_result look(struct captures *c)
{
	struct survey_result r = {};
	struct capture_list list;

	for (size_t i = 0; i < CAPTURES_DIRS; i++)
		look_at_dir(c, i, &r.dir[i]);
	r.error = captures_list(c, &list);
	if (r.error == 0) {
		r.error = list.error;
		r.captures = list.total;
		r.bytes = list.bytes;
		r.odd = list.odd;
		r.newest_s = list.n ? list.item[0].st.st_mtim.tv_sec : 0;
		captures_list_done(&list);
	}
	r.realtime_ms = sb_realtime_ms();
	r.looked_ns = sb_monotonic_ns();
	return r;
}

static void *run(void *arg)
{
	struct survey *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct survey_result r;

		while (!s->wanted_ns)
			pthread_cond_wait(&s->asked, &s->lock);
		pthread_mutex_unlock(&s->lock);
		r = look(s->captures);
		pthread_mutex_lock(&s->lock);
		s->last = r;
		s->wanted_ns = 0;
		pthread_cond_broadcast(&s->done);
	}
	return NULL;
}

int survey_start(struct captures *c, struct survey **ret)
{
	_cleanup_free_ struct survey *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	pthread_t thread;
	int r;

	if (!s)
		return -ENOMEM;
	s->captures = c;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->asked, NULL);
	pthread_cond_init(&s->done, &attr);
	pthread_condattr_destroy(&attr);
	r = pthread_create(&thread, NULL, run, s);
	if (r)
		return -r;
	pthread_detach(thread);
	*ret = TAKE_PTR(s);
	return 0;
}

struct survey_result survey_get(struct survey *s)
{
	uint64_t now = sb_monotonic_ns(), until = now + SURVEY_WAIT_NS;
	struct timespec ts = { (time_t)(until / NSEC_PER_SEC), (long)(until % NSEC_PER_SEC) };
	struct survey_result r;

	pthread_mutex_lock(&s->lock);
	if (!s->last.looked_ns || now - s->last.looked_ns >= SURVEY_FRESH_NS) {
		s->wanted_ns = s->wanted_ns ? s->wanted_ns : now;
		pthread_cond_signal(&s->asked);
		while (s->wanted_ns && pthread_cond_timedwait(&s->done, &s->lock, &ts) == 0)
			;
	}
	r = s->last;
	r.wanted_ns = s->wanted_ns;
	pthread_mutex_unlock(&s->lock);
	return r;
}

int survey_dir_refuses(const struct survey_dir *d)
{
	if (!d->known)
		return ENOENT;
	if (d->read_only)
		return EROFS;
	/* Some file systems, in memory or of a process of its own, have no size that they tell. */
	return (d->free_bytes || !d->size_bytes) && !d->no_inodes ? 0 : ENOSPC;
}

bool survey_answers(const struct survey_result *r, uint64_t now_ns)
{
	return r->looked_ns && (!r->wanted_ns || now_ns - r->wanted_ns < SURVEY_HANGS_NS);
}
