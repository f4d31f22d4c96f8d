// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/readers.h"

#include <errno.h>
#include <pthread.h>

static void *reader_main(void *arg)
{
	struct reader *me = arg;
	const struct readers *r = me->of;
	void *job;

	while (!__atomic_load_n(&me->given_up, __ATOMIC_ACQUIRE) && (job = r->take(r->ctx))) {
		__atomic_store_n(&me->busy_ns, sb_monotonic_ns(), __ATOMIC_RELEASE);
		r->work(r->ctx, job);
		__atomic_store_n(&me->busy_ns, 0, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&me->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

static int begin_another(struct readers *r)
{
	for (uint32_t i = 0; i < READERS; i++) {
		struct reader *l = &r->reader[i];
		pthread_t thread;

		if (l->of && !__atomic_load_n(&l->ended, __ATOMIC_ACQUIRE))
			continue;
		*l = (struct reader){ .of = r };
		if (pthread_create(&thread, NULL, reader_main, l) != 0) {
			l->of = NULL;
			return -EAGAIN;
		}
		pthread_detach(thread);
		r->current = l;
		return 0;
	}
	return -EAGAIN;
}

int readers_start(struct readers *r)
{
	return begin_another(r);
}

static bool hangs(const struct reader *l, uint64_t now_ns)
{
	uint64_t busy_ns = __atomic_load_n(&l->busy_ns, __ATOMIC_ACQUIRE);

	return busy_ns && now_ns > busy_ns && now_ns - busy_ns >= READER_HANGS_NS;
}

uint32_t readers_watch(struct readers *r, uint64_t now_ns, uint64_t *ret_given_up)
{
	struct reader *was = r->current;
	uint32_t n = 0;

	for (uint32_t i = 0; i < READERS; i++)
		n += hangs(&r->reader[i], now_ns);
	if (hangs(was, now_ns) && begin_another(r) == 0) {
		__atomic_store_n(&was->given_up, true, __ATOMIC_RELEASE);
		++*ret_given_up;
	}
	return n;
}
