/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that need mmap_lock of their process all the time, one small mapping after the other,
 * and what they measured: how many of them waited for an operation of another thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

struct convoy_worker {
	pthread_t thread;
	/* The longest mapping or fault that ended since convoy_reset(); 0: none. */
	_Atomic uint64_t begin_ns, end_ns;
	_Atomic uint64_t last_ns; /* the newest ended then */
};

static struct {
	struct convoy_worker *worker;
	unsigned int threads;
	/* Between two mappings of one thread. 2 ms keep the lock busy; so many threads on few slow
	 * CPUs then wait for each other even where nobody stalls them. */
	unsigned int pause_us;
	atomic_bool stop;
} convoy = { .pause_us = 2000 };

WL_UNUSED static WL_NOINLINE void convoy_touch(volatile char *p)
{
	*p = 1;
}

WL_UNUSED static void *convoy_thread(void *arg)
{
	struct convoy_worker *w = arg;

	while (!atomic_load(&convoy.stop)) {
		uint64_t begin = now_ns(), end;
		char *p;

		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p != MAP_FAILED) {
			convoy_touch(p);
			munmap(p, 4096);
		}
		end = now_ns();
		if (end - begin > atomic_load(&w->end_ns) - atomic_load(&w->begin_ns)) {
			atomic_store(&w->begin_ns, begin);
			atomic_store(&w->end_ns, end);
		}
		atomic_store(&w->last_ns, end);
		usleep(convoy.pause_us);
	}
	return NULL;
}

WL_UNUSED static void convoy_start(unsigned int threads)
{
	convoy.worker = calloc(threads, sizeof(*convoy.worker));
	if (!convoy.worker)
		die("cannot allocate %u threads", threads);
	for (unsigned int i = 0; i < threads; i++) {
		if ((errno = pthread_create(&convoy.worker[i].thread, NULL, convoy_thread, &convoy.worker[i])))
			die("cannot start thread %u", i);
		convoy.threads++;
	}
}

WL_UNUSED static void convoy_reset(void)
{
	for (unsigned int i = 0; i < convoy.threads; i++) {
		atomic_store(&convoy.worker[i].begin_ns, 0);
		atomic_store(&convoy.worker[i].end_ns, 0);
	}
}

WL_UNUSED static uint64_t convoy_overlap(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t from = a > c ? a : c, to = b < d ? b : d;

	return to > from ? to - from : 0;
}

/* The queue drains: each thread has ended a mapping after that time. On a busy host each waits for its CPU, too. */
WL_UNUSED static void convoy_drain(uint64_t after)
{
	uint64_t until = now_ns() + 60 * NSEC_PER_SEC;

	for (unsigned int i = 0; i < convoy.threads; i++)
		while (atomic_load(&convoy.worker[i].last_ns) <= after && now_ns() < until)
			sleep_ms(1);
}

/* "begin_ns=B end_ns=E waiters=N longest_wait_ns=NS": threads whose longest mapping overlapped
 * the time from begin to end for at least half of it. */
WL_UNUSED static void convoy_report(uint64_t begin, uint64_t end)
{
	uint64_t longest = 0;
	unsigned int n = 0;

	for (unsigned int i = 0; i < convoy.threads; i++) {
		uint64_t b = atomic_load(&convoy.worker[i].begin_ns), e = atomic_load(&convoy.worker[i].end_ns);

		if (convoy_overlap(b, e, begin, end) >= (end - begin) / 2) {
			n++;
			if (e - b > longest)
				longest = e - b;
		}
	}
	printf("begin_ns=%llu end_ns=%llu waiters=%u longest_wait_ns=%llu\n", (unsigned long long)begin,
	       (unsigned long long)end, n, (unsigned long long)longest);
	fflush(stdout);
}

WL_UNUSED static void convoy_stop(void)
{
	atomic_store(&convoy.stop, true);
	for (unsigned int i = 0; i < convoy.threads; i++)
		pthread_join(convoy.worker[i].thread, NULL);
}
