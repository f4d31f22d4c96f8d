// SPDX-License-Identifier: BSD-2-Clause
/* stallbox-upload: an unprivileged process of its own. What hangs here, on a disk or on a network, hangs nothing else. */
#include <stdio.h>

#include "format/log.h"
#include "upload/options.h"
#include "upload/status.h"
#include "upload/watch.h"

/* Without any sign from inotify: it may have overflowed, a directory may have been replaced. */
#define RESCAN_NS (60 * NSEC_PER_SEC)

static const struct http_limits default_limits = { .connect_s = 10, .stall_s = 20 };

static void tell(const struct upload *u, const char *path)
{
	static int said;
	int r = status_write(u, path);

	if (r != said && r < 0)
		log_errno(r, "cannot write the status %s", path);
	said = r;
}

/* Whatever can be delivered now. Returns when the next one can. */
static uint64_t deliver_all(struct upload *u, const char *status)
{
	uint64_t due = UINT64_MAX;

	while (!watch_stop) {
		const struct queue_gates gates = { u->store.due_ns, u->pyroscope.due_ns };
		struct queue_item *item = queue_next(&u->queue, &gates, sb_monotonic_ns(), sb_realtime_ms() * NSEC_PER_MSEC, &due);

		if (!item)
			break;
		upload_deliver(u, item);
		tell(u, status);
	}
	return due;
}

static int scan(struct upload *u)
{
	static int said[QUEUE_DIRS];
	int r = queue_scan(&u->queue);

	if (r < 0)
		log_errno(r, "cannot look for captures");
	for (unsigned int i = 0; r == 0 && i < QUEUE_DIRS; i++) {
		int error = queue_error(&u->queue, i);

		if (error < 0 && error != said[i])
			log_errno(error, "cannot look for captures in %s", u->queue.dir[i]);
		said[i] = error;
	}
	return r;
}

static bool any_unreadable(const struct queue *q)
{
	return queue_error(q, 0) < 0 || queue_error(q, 1) < 0;
}

static bool any_failed(const struct upload_counts *c)
{
	uint64_t n = c->marks_failed;

	for (int d = 0; d < DELIVERIES; d++)
		n += c->failed[d] + c->push_failed[d];
	return n;
}

static int run_once(struct upload *u, const char *status)
{
	int r = scan(u);

	if (r == 0)
		deliver_all(u, status);
	tell(u, status);
	if (u->queue.n + u->queue.left_out)
		log_warn("%llu captures are still to be delivered", (unsigned long long)(u->queue.n + u->queue.left_out));
	return r < 0 || watch_stop || any_unreadable(&u->queue) || any_failed(&u->counts) ? SB_EXIT_FAILURE : SB_EXIT_OK;
}

static int run(struct upload *u, struct watch *w, const char *status)
{
	while (!watch_stop) {
		uint64_t due = UINT64_MAX;

		watch_directories(w, &u->queue);
		if (scan(u) == 0)
			due = deliver_all(u, status);
		tell(u, status);
		watch_wait(w, SB_MIN(due, sb_monotonic_ns() + RESCAN_NS));
	}
	return SB_EXIT_OK;
}

int main(int argc, char **argv)
{
	static struct config config;
	static struct upload u;
	struct upload_options o;
	struct http_limits limits = default_limits;
	struct watch w;
	int r = upload_options(&o, argc, argv);

	if (r >= 0)
		return r;
	if (o.verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	r = upload_config(&o, &config);
	if (r > 0)
		return r;
	limits.max_bytes_per_s = o.max_bytes_per_s;
	u.config = &config.upload;
	u.s3 = (struct s3){ config.upload.endpoint, config.upload.bucket, config.upload.region, config.upload.path_style, {} };
	queue_init(&u.queue, config.storage.directory, config.storage.fallback);
	r = watch_init(&w);
	if (r == 0)
		r = http_init(&u.http, &limits, &watch_stop);
	if (r < 0)
		return log_errno(r, "cannot start"), SB_EXIT_FAILURE;
	r = o.once ? run_once(&u, o.status) : run(&u, &w, o.status);
	http_done(&u.http);
	queue_done(&u.queue);
	watch_done(&w);
	return r;
}
