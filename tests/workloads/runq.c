// SPDX-License-Identifier: BSD-2-Clause
/* More threads want to run than there are CPUs. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/workloads/workload.h"

static const char usage[] =
	"usage: runq SECONDS [PER_CPU]\n"
	"\n"
	"For SECONDS PER_CPU threads (default 24) a CPU want to run. SIGTERM and SIGINT end it early.\n"
	"At the end, cpu_ns of all of them together:\n"
	"  pid=P threads=N elapsed_ns=NS cpu_ns=NS\n"
	"\n"
	"examples:\n"
	"  runq 10\n"
	"  runq 60 300\n";

static atomic_bool stop;

static void *spin(void *arg)
{
	while (!stop)
		;
	return arg;
}

WORKLOAD_MAIN(runq)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int per_cpu = 24, threads;
	uint64_t length_ns, begin_ns;
	pthread_attr_t attr;
	struct timespec ts;
	pthread_t *thread;
	sigset_t set;

	check_args(argc, argv, 1, 2, usage);
	length_ns = parse_seconds("SECONDS", argv[1], 86400);
	if (argc > 2)
		per_cpu = (unsigned int)parse_number("PER_CPU", argv[2], 1, 1000);
	set = block_signals();
	threads = per_cpu * (unsigned int)(cpus > 0 ? cpus : 1);
	thread = calloc(threads, sizeof(*thread));
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WL_STACK_BYTES);
	begin_ns = now_ns();
	for (unsigned int i = 0; thread && i < threads; i++) {
		errno = pthread_create(&thread[i], &attr, spin, NULL);
		if (errno)
			die("cannot start thread %u", i);
	}
	ts.tv_sec = (time_t)(length_ns / NSEC_PER_SEC);
	ts.tv_nsec = (long)(length_ns % NSEC_PER_SEC);
	sigtimedwait(&set, NULL, &ts);
	stop = true;
	for (unsigned int i = 0; thread && i < threads; i++)
		pthread_join(thread[i], NULL);
	printf("pid=%d threads=%u elapsed_ns=%llu cpu_ns=%llu\n", getpid(), threads, (unsigned long long)(now_ns() - begin_ns),
	       (unsigned long long)clock_ns(CLOCK_PROCESS_CPUTIME_ID));
	free(thread);
	return 0;
}
