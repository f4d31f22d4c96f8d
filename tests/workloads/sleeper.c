// SPDX-License-Identifier: BSD-2-Clause
/* A counted number of sleeps of known length under a known call chain. */
#include "tests/workloads/workload.h"

#include <pthread.h>

static const char usage[] =
	"usage: sleeper N MS [THREADS]\n"
	"\n"
	"Each of THREADS threads (default 1, the main thread) sleeps N times for MS ms:\n"
	"  main or sleeper_thread -> chain_outer -> chain_middle -> chain_inner -> nanosleep\n"
	"One line per thread, then the total:\n"
	"  tid=T count=N total_ns=NS shortest_ns=NS longest_ns=NS\n"
	"  pid=P threads=THREADS count=N ms=MS total_ns=NS\n"
	"\n"
	"examples:\n"
	"  sleeper 23 50\n"
	"  sleeper 7 200 3\n";

struct sleeper {
	pthread_t thread;
	unsigned int count;
	struct timespec length;
	pid_t tid;
	uint64_t total_ns, shortest_ns, longest_ns;
};

static WL_NOINLINE void chain_inner(const struct timespec *length)
{
	struct timespec left = *length;

	while (WL_SYSCALL4(SYS_nanosleep, &left, &left, 0, 0) == -EINTR)
		;
}

static WL_NOINLINE void chain_middle(const struct timespec *length)
{
	chain_inner(length);
	__asm__ volatile("" ::: "memory");
}

static WL_NOINLINE void chain_outer(const struct timespec *length)
{
	chain_middle(length);
	__asm__ volatile("" ::: "memory");
}

static void measure(struct sleeper *s, uint64_t start_ns)
{
	uint64_t ns = now_ns() - start_ns;

	s->total_ns += ns;
	if (ns < s->shortest_ns)
		s->shortest_ns = ns;
	if (ns > s->longest_ns)
		s->longest_ns = ns;
}

static void *sleeper_thread(void *arg)
{
	struct sleeper *s = arg;

	s->tid = wl_gettid();
	for (unsigned int i = 0; i < s->count; i++) {
		uint64_t start_ns = now_ns();

		chain_outer(&s->length);
		measure(s, start_ns);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned int count, ms, threads = 1;
	struct sleeper *s;
	uint64_t total_ns = 0;

	check_args(argc, argv, 2, 3, usage);
	count = (unsigned int)parse_number("N", argv[1], 1, 10000000);
	ms = (unsigned int)parse_number("MS", argv[2], 0, 3600000);
	if (argc > 3)
		threads = (unsigned int)parse_number("THREADS", argv[3], 1, WL_MAX_THREADS);

	s = calloc(threads, sizeof(*s));
	if (!s)
		die("cannot allocate %u threads", threads);
	for (unsigned int i = 0; i < threads; i++) {
		s[i].count = count;
		s[i].length.tv_sec = ms / 1000;
		s[i].length.tv_nsec = (ms % 1000) * 1000000L;
		s[i].shortest_ns = UINT64_MAX;
		if (i && (errno = pthread_create(&s[i].thread, NULL, sleeper_thread, &s[i])))
			die("cannot start thread %u", i);
	}

	s[0].tid = wl_gettid();
	for (unsigned int i = 0; i < count; i++) {
		uint64_t start_ns = now_ns();

		chain_outer(&s[0].length);
		measure(&s[0], start_ns);
	}

	for (unsigned int i = 0; i < threads; i++) {
		if (i)
			pthread_join(s[i].thread, NULL);
		printf("tid=%d count=%u total_ns=%llu shortest_ns=%llu longest_ns=%llu\n", s[i].tid,
		       count, (unsigned long long)s[i].total_ns,
		       (unsigned long long)s[i].shortest_ns, (unsigned long long)s[i].longest_ns);
		total_ns += s[i].total_ns;
	}
	printf("pid=%d threads=%u count=%u ms=%u total_ns=%llu\n", getpid(), threads, count, ms,
	       (unsigned long long)total_ns);
	free(s);
	linger();
	return 0;
}
