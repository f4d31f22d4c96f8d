// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/connections.h"

#include <errno.h>
#include <sys/socket.h>

/* Its thread sees the end and closes. */
static void end(struct connection *one)
{
	one->deadline_ns = UINT64_MAX;
	one->waiting = false;
	shutdown(one->fd, SHUT_RDWR);
}

static void end_expired(struct connections *c, uint64_t now)
{
	for (struct connection *one = c->first; one; one = one->next) {
		if (now < one->deadline_ns)
			continue;
		stats_add(c->stats->expired, 1); /* first: who sees the end may look at the counter */
		end(one);
	}
}

/* By the one that has been waiting longest. A request takes a moment: the new one goes where none has had that. */
static void make_room(struct connections *c, struct connection *newest)
{
	struct connection *longest = newest;

	for (struct connection *one = c->first; one; one = one->next) {
		if (one->waiting && one->deadline_ns < longest->deadline_ns)
			longest = one;
	}
	if (newest->deadline_ns - longest->deadline_ns < CONNECTIONS_PATIENCE_NS) {
		if (c->n <= connections_limit(c->max))
			return;
		longest = newest;
	}
	stats_add(c->stats->displaced, 1);
	end(longest);
}

static void *watch(void *arg)
{
	struct connections *c = arg;
	struct timespec second = { 1, 0 };

	for (;;) {
		pthread_mutex_lock(&c->lock);
		while (!c->first)
			pthread_cond_wait(&c->more, &c->lock);
		end_expired(c, sb_monotonic_ns());
		pthread_mutex_unlock(&c->lock);
		nanosleep(&second, NULL);
	}
	return NULL;
}

int connections_start(struct connections *c, size_t max, uint64_t timeout_ns, struct stats *stats)
{
	pthread_t thread;
	int r;

	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	c->max = max;
	c->timeout_ns = timeout_ns;
	c->stats = stats;
	r = pthread_create(&thread, NULL, watch, c);
	if (r)
		return -r;
	pthread_detach(thread);
	return 0;
}

struct connection *connections_add(struct connections *c, int fd)
{
	struct connection *one = calloc(1, sizeof(*one));

	if (!one)
		return NULL;
	one->fd = fd;
	one->deadline_ns = sb_monotonic_ns() + c->timeout_ns;
	one->waiting = true;
	pthread_mutex_lock(&c->lock);
	one->next = c->first;
	if (c->first)
		c->first->prev = one;
	c->first = one;
	c->n++;
	if (c->n > c->max)
		make_room(c, one);
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	stats_add(c->stats->connections, 1);
	return one;
}

void connections_remove(struct connections *c, struct connection *one)
{
	pthread_mutex_lock(&c->lock);
	if (one->next)
		one->next->prev = one->prev;
	if (one->prev)
		one->prev->next = one->next;
	else
		c->first = one->next;
	c->n--;
	pthread_mutex_unlock(&c->lock);
	stats_add(c->stats->connections, -1);
	free(one);
}

static void set_deadline(struct connections *c, struct connection *one, uint64_t deadline_ns, bool waiting)
{
	pthread_mutex_lock(&c->lock);
	one->deadline_ns = deadline_ns;
	one->waiting = waiting;
	pthread_mutex_unlock(&c->lock);
}

void connections_await(struct connections *c, struct connection *one)
{
	set_deadline(c, one, sb_monotonic_ns() + c->timeout_ns, true);
}

void connections_expect(struct connections *c, struct connection *one, uint64_t bytes)
{
	set_deadline(c, one, sb_monotonic_ns() + c->timeout_ns + bytes / CONNECTIONS_MIN_RATE * NSEC_PER_SEC, false);
}

void connections_suspend(struct connections *c, struct connection *one)
{
	set_deadline(c, one, UINT64_MAX, false);
}
