// SPDX-License-Identifier: BSD-2-Clause
#include "upload/watch.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

volatile sig_atomic_t watch_stop;
static int wake_fd = -1;

static void on_signal(int sig)
{
	(void)sig;
	watch_stop = 1;
	(void)!write(wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

int watch_init(struct watch *w)
{
	const struct sigaction end = { .sa_handler = on_signal }, ignore = { .sa_handler = SIG_IGN };

	w->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	w->stop_fd = wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->inotify_fd < 0 || w->stop_fd < 0)
		return -errno;
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	return 0;
}

void watch_done(struct watch *w)
{
	sb_closep(&w->inotify_fd);
	sb_closep(&w->stop_fd);
}

void watch_directories(struct watch *w, const struct queue *q)
{
	for (unsigned int i = 0; i < QUEUE_DIRS; i++) {
		if (q->dir[i][0])
			inotify_add_watch(w->inotify_fd, q->dir[i], IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR);
	}
}

void watch_wait(struct watch *w, uint64_t until_ns)
{
	struct pollfd p[] = { { w->inotify_fd, POLLIN, 0 }, { w->stop_fd, POLLIN, 0 } };
	uint64_t now = sb_monotonic_ns(), ms = until_ns > now ? (until_ns - now) / NSEC_PER_MSEC + 1 : 0;
	char events[4096];

	poll(p, SB_ARRAY_SIZE(p), (int)SB_MIN(ms, (uint64_t)3600000));
	while (read(w->inotify_fd, events, sizeof(events)) > 0)
		;
}
