// SPDX-License-Identifier: BSD-2-Clause
#include "upload/queue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "format/file_name.h"
#include "format/reader.h"
#include "format/uploaded.h"

void queue_init(struct queue *q, const char *directory, const char *fallback)
{
	*q = (struct queue){ .fd = { -1, -1 } };
	snprintf(q->dir[0], sizeof(q->dir[0]), "%s", directory);
	snprintf(q->dir[1], sizeof(q->dir[1]), "%s", fallback);
}

void queue_done(struct queue *q)
{
	for (unsigned int i = 0; i < QUEUE_DIRS; i++)
		sb_closep(&q->fd[i]);
	free(q->item);
}

static struct queue_item *find(struct queue *q, unsigned int dir, const char *name)
{
	for (size_t i = 0; i < q->n; i++) {
		if (q->item[i].dir == dir && !strcmp(q->item[i].name, name))
			return &q->item[i];
	}
	return NULL;
}

static int later(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec > b->tv_sec ? 1 : -1;
	return a->tv_nsec == b->tv_nsec ? 0 : a->tv_nsec > b->tv_nsec ? 1 : -1;
}

static int by_age(const void *a, const void *b)
{
	const struct queue_item *x = a, *y = b;
	int order = later(&x->mtime, &y->mtime);

	return order ? order : strcmp(x->name, y->name);
}

static int grow(struct queue *q)
{
	size_t cap = SB_MAX(q->cap * 2, (size_t)16);
	struct queue_item *bigger = realloc(q->item, cap * sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	q->item = bigger;
	q->cap = cap;
	return 0;
}

bool queue_renew(struct queue_item *item, const struct stat *st)
{
	if (item->size == (uint64_t)st->st_size && !later(&item->mtime, &st->st_mtim))
		return false;
	item->size = (uint64_t)st->st_size;
	item->mtime = st->st_mtim;
	item->looked = item->whole = item->stored = item->pushed = false;
	item->retry = (struct backoff){};
	return true;
}

static int take(struct queue *q, unsigned int dir, const char *name, const struct stat *st)
{
	struct queue_item *item = find(q, dir, name);

	q->pending_bytes += (uint64_t)st->st_size;
	if (!item) {
		if (q->n == QUEUE_MAX) {
			q->left_out++;
			return 0;
		}
		if (q->n == q->cap && grow(q) < 0)
			return -ENOMEM;
		item = &q->item[q->n++];
		*item = (struct queue_item){ .dir = dir };
		snprintf(item->name, sizeof(item->name), "%s", name);
	}
	item->seen = true;
	queue_renew(item, st);
	return 0;
}

static int scan_one(struct queue *q, unsigned int dir)
{
	struct dirent *e = NULL;
	int r = 0;
	DIR *d;

	sb_closep(&q->fd[dir]);
	q->fd[dir] = open(q->dir[dir], O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	d = q->fd[dir] < 0 ? NULL : fdopendir(fcntl(q->fd[dir], F_DUPFD_CLOEXEC, 0));
	q->error[dir] = d ? 0 : -errno;
	while (d && r == 0 && (errno = 0, e = readdir(d))) {
		struct stat st;

		if (!bundle_is_file_name(e->d_name)) {
			q->foreign += bundle_looks_like_file(e->d_name);
			continue;
		}
		if (fstatat(q->fd[dir], e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    !uploaded_is(q->fd[dir], e->d_name, &st))
			r = take(q, dir, e->d_name, &st);
	}
	if (d && !e)
		q->error[dir] = -errno; /* cannot be read to its end */
	if (d)
		closedir(d);
	return r;
}

int queue_scan(struct queue *q)
{
	size_t kept = 0;
	int r = 0;

	q->pending_bytes = q->left_out = q->foreign = 0;
	for (size_t i = 0; i < q->n; i++)
		q->item[i].seen = false;
	for (unsigned int i = 0; i < QUEUE_DIRS && r == 0; i++) {
		if (q->dir[i][0])
			r = scan_one(q, i);
	}
	for (size_t i = 0; i < q->n; i++) {
		if (q->item[i].seen)
			q->item[kept++] = q->item[i];
	}
	q->n = kept;
	if (q->n)
		qsort(q->item, q->n, sizeof(*q->item), by_age);
	return r;
}

int queue_error(const struct queue *q, unsigned int dir)
{
	return !q->dir[dir][0] || (dir && q->error[dir] == -ENOENT) ? 0 : q->error[dir];
}

static bool has_footer(const struct queue *q, const struct queue_item *item)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	char path[sizeof(q->dir[0]) + sizeof(item->name)];

	snprintf(path, sizeof(path), "%s/%s", q->dir[item->dir], item->name);
	return bundle_open(path, &b, NULL) == 0 && bundle_damage(b)->complete;
}

static uint64_t gate_of(const struct queue_gates *g, const struct queue_item *item)
{
	if (item->stored && item->pushed)
		return 0;
	return SB_MIN(item->stored ? UINT64_MAX : g->store_ns, item->pushed ? UINT64_MAX : g->pyroscope_ns);
}

/* 0: it is whole, or will not become so; else when it has settled. */
static uint64_t settled_at(struct queue *q, struct queue_item *item, uint64_t now_ns, uint64_t realtime_ns)
{
	uint64_t changed = (uint64_t)item->mtime.tv_sec * NSEC_PER_SEC + (uint64_t)item->mtime.tv_nsec;
	uint64_t settled = changed + QUEUE_SETTLED_S * NSEC_PER_SEC;

	if (!item->looked) {
		item->whole = has_footer(q, item);
		item->looked = true;
	}
	/* A change in the future is one from before the clock was set back. */
	if (item->whole || realtime_ns >= settled || changed > realtime_ns + NSEC_PER_SEC)
		return 0;
	return now_ns + (settled - realtime_ns);
}

struct queue_item *queue_next(struct queue *q, const struct queue_gates *gates, uint64_t now_ns, uint64_t realtime_ns,
			      uint64_t *ret_due_ns)
{
	struct queue_item *best = NULL;
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < q->n && !(best && !best->retry.tries); i++) {
		struct queue_item *item = &q->item[i];
		uint64_t due = SB_MAX(item->retry.due_ns, gate_of(gates, item));

		if (best && item->retry.tries >= best->retry.tries)
			continue;
		if (due <= now_ns)
			due = settled_at(q, item, now_ns, realtime_ns);
		if (!due)
			best = item;
		next = SB_MIN(next, due);
	}
	*ret_due_ns = next;
	return best;
}

void queue_remove(struct queue *q, struct queue_item *item)
{
	size_t i = (size_t)(item - q->item);

	q->pending_bytes -= SB_MIN(q->pending_bytes, item->size);
	memmove(item, item + 1, (--q->n - i) * sizeof(*item));
}
