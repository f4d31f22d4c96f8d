// SPDX-License-Identifier: BSD-2-Clause
/* A known amount of CPU time in user mode under a known call chain. */
#include "tests/workloads/workload.h"

#include <pthread.h>

static const char usage[] =
	"usage: spinner SECONDS [THREADS]\n"
	"\n"
	"Each of THREADS threads (default 1, the main thread) uses SECONDS of CPU time, by its\n"
	"own CPU clock and nearly all of it in user mode:\n"
	"  main or spinner_thread -> spin_outer -> spin_inner\n"
	"One line per thread, then the total:\n"
	"  tid=T cpu_ns=NS on_cpu_ns=NS rounds=N\n"
	"  pid=P threads=THREADS cpu_ns=NS elapsed_ns=NS\n"
	"on_cpu_ns is what a sampler sees: time by the wall clock minus the time spent waiting\n"
	"for a CPU. It exceeds cpu_ns where a hypervisor takes the CPU away for a while.\n"
	"\n"
	"examples:\n"
	"  spinner 2\n"
	"  spinner 0.5 4\n";

/* About half a millisecond: the clock call between rounds stays below 0.1 % of the time. */
#define ROUND 300000

struct spinner {
	pthread_t thread;
	uint64_t want_ns, cpu_ns, on_cpu_ns, rounds;
	pid_t tid;
};

static WL_NOINLINE uint64_t spin_inner(uint64_t x)
{
	for (unsigned int i = 0; i < ROUND; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

/* Time the thread has waited on a run queue; 0 where the kernel does not say. */
static uint64_t run_delay_ns(void)
{
	unsigned long long run = 0, delay = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	if (f) {
		if (fscanf(f, "%llu %llu", &run, &delay) != 2)
			delay = 0;
		fclose(f);
	}
	return delay;
}

static WL_NOINLINE void spin_outer(struct spinner *s)
{
	uint64_t delay_ns = run_delay_ns(), wall_ns = now_ns();
	uint64_t start_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), x = 1;

	do {
		x = spin_inner(x);
		s->rounds++;
		s->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
	} while (s->cpu_ns < s->want_ns);
	s->on_cpu_ns = now_ns() - wall_ns - (run_delay_ns() - delay_ns);
}

static void *spinner_thread(void *arg)
{
	struct spinner *s = arg;

	s->tid = wl_gettid();
	spin_outer(s);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned int threads = 1;
	uint64_t want_ns, start_ns, total_ns = 0;
	struct spinner *s;

	check_args(argc, argv, 1, 2, usage);
	want_ns = parse_seconds("SECONDS", argv[1], 86400);
	if (argc > 2)
		threads = (unsigned int)parse_number("THREADS", argv[2], 1, WL_MAX_THREADS);

	s = calloc(threads, sizeof(*s));
	if (!s)
		die("cannot allocate %u threads", threads);
	start_ns = now_ns();
	for (unsigned int i = 0; i < threads; i++) {
		s[i].want_ns = want_ns;
		if (i && (errno = pthread_create(&s[i].thread, NULL, spinner_thread, &s[i])))
			die("cannot start thread %u", i);
	}
	s[0].tid = wl_gettid();
	spin_outer(&s[0]);

	for (unsigned int i = 0; i < threads; i++) {
		if (i)
			pthread_join(s[i].thread, NULL);
		printf("tid=%d cpu_ns=%llu on_cpu_ns=%llu rounds=%llu\n", s[i].tid,
		       (unsigned long long)s[i].cpu_ns, (unsigned long long)s[i].on_cpu_ns,
		       (unsigned long long)s[i].rounds);
		total_ns += s[i].cpu_ns;
	}
	printf("pid=%d threads=%u cpu_ns=%llu elapsed_ns=%llu\n", getpid(), threads,
	       (unsigned long long)total_ns, (unsigned long long)(now_ns() - start_ns));
	free(s);
	linger();
	return 0;
}
