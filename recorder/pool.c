// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/pool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

/* On a host that makes hardly any progress, too; systemd waits three minutes. */
#define FIRST_MS 30000
#define END_MS   60000

static unsigned int count(const struct pool *p, enum pool_use use)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < POOL_SLOTS; i++)
		n += p->slot[i].use == use;
	return n;
}

static struct pool_slot *find(struct pool *p, enum pool_use use)
{
	for (unsigned int i = 0; i < POOL_SLOTS; i++) {
		if (p->slot[i].use == use)
			return &p->slot[i];
	}
	return NULL;
}

static void ask(struct pool *p)
{
	while (count(p, POOL_WAITING) + p->asked < POOL_READY && p->asked < count(p, POOL_FREE)) {
		if (capture_ask(&p->starter) < 0)
			return;
		p->asked++;
	}
}

static int start_starter(struct pool *p)
{
	int not_for_it[POOL_SLOTS + 1];
	size_t n = 0;

	for (unsigned int i = 0; i < POOL_SLOTS; i++) {
		if (p->slot[i].use)
			not_for_it[n++] = p->slot[i].p.fd;
	}
	if (*p->control_fd >= 0)
		not_for_it[n++] = *p->control_fd;
	return capture_starter(p->c, not_for_it, n, &p->starter);
}

int pool_fill(struct pool *p)
{
	int begun = 0;

	if (p->starter.fd < 0) {
		begun = start_starter(p);
		if (begun < 0)
			return begun;
		begun = 1;
	}
	ask(p);
	return begun;
}

int pool_start(struct pool *p, const struct capture_config *c, const int *control_fd)
{
	struct pollfd pfd = { .events = POLLIN };
	int r;

	*p = (struct pool){ .c = c, .control_fd = control_fd, .starter.fd = -1 };
	r = pool_fill(p);
	if (r < 0)
		return r;
	pfd.fd = p->starter.fd;
	if (poll(&pfd, 1, FIRST_MS) <= 0)
		return -ETIMEDOUT;
	r = pool_take(p);
	return r < 0 ? r : 0;
}

void pool_stop(struct pool *p)
{
	struct pool_slot *s = pool_capturing(p);
	struct capture_report r = {};

	if (s) {
		struct pollfd pfd = { .fd = s->p.fd, .events = POLLIN };

		shutdown(s->p.fd, SHUT_WR);
		while (poll(&pfd, 1, END_MS) > 0 && capture_receive(&s->p, &r) >= 0 && r.type != CAPTURE_BANK_READ)
			r.type = 0;
	}
	for (unsigned int i = 0; i < POOL_SLOTS; i++) {
		if (p->slot[i].use)
			close(p->slot[i].p.fd);
		p->slot[i].use = POOL_FREE;
	}
	/* Not waited for: it may be in a fork that waits for others. */
	close(p->starter.fd);
	if (p->starter.pid > 0)
		kill(p->starter.pid, SIGKILL);
}

/* The capture goes to a process that waits, or to the next one that comes. */
static void begin(struct pool *p)
{
	struct pool_slot *s = find(p, POOL_WAITING);
	const struct capture_order *o = &p->order;

	p->due = !s;
	if (!s)
		return;
	s->use = POOL_CAPTURING;
	s->id = o->id;
	s->cause = o->cause;
	snprintf(s->file, sizeof(s->file), "%s", o->file);
	/* It may have been killed a moment ago: then its descriptor tells, too. */
	(void)capture_send(&s->p, o);
}

int pool_order(struct pool *p, struct capture_order *o)
{
	struct pool_slot *s = pool_capturing(p);
	unsigned int naming = 0;

	if (o->type == CAPTURE_FREEZE) {
		p->order = *o;
		p->tries = POOL_TRIES;
		begin(p);
		return 0;
	}
	if (!s)
		return -ESRCH;
	for (unsigned int i = 0; i < POOL_SLOTS; i++)
		naming += p->slot[i].use == POOL_STORING && p->slot[i].names &&
			  !p->slot[i].told && !p->slot[i].held_ns;
	s->names = naming < POOL_NAMING;
	o->no_names = !s->names;
	return capture_send(&s->p, o);
}

bool pool_again(struct pool *p)
{
	if (!p->tries)
		return false;
	p->tries--;
	begin(p);
	return true;
}

void pool_give_up(struct pool *p)
{
	p->due = false;
}

int pool_take(struct pool *p)
{
	struct pool_slot *s = find(p, POOL_FREE);
	struct capture_process process;
	int r = capture_accept(&p->starter, &process);

	if (r < 0) {
		capture_stop(&p->starter);
		p->asked = 0;
	}
	if (r <= 0)
		return r < 0 ? r : -EAGAIN;
	if (p->asked)
		p->asked--;
	*s = (struct pool_slot){ .p = process, .use = POOL_WAITING };
	if (p->due) {
		begin(p);
		ask(p);
	}
	return (int)(s - p->slot);
}

unsigned int pool_held(struct pool *p, struct pool_slot **ret_oldest)
{
	unsigned int n = 0;

	*ret_oldest = NULL;
	for (unsigned int i = 0; i < POOL_SLOTS; i++) {
		struct pool_slot *s = &p->slot[i];

		if (s->use != POOL_STORING || !s->held_ns)
			continue;
		n++;
		if (!*ret_oldest || s->id < (*ret_oldest)->id)
			*ret_oldest = s;
	}
	return n;
}

struct pool_slot *pool_capturing(struct pool *p)
{
	return find(p, POOL_CAPTURING);
}

void pool_captured(struct pool *p, struct pool_slot *s)
{
	s->use = POOL_STORING;
	ask(p);
}

void pool_drop(struct pool_slot *s)
{
	close(s->p.fd);
	s->use = POOL_FREE;
}
