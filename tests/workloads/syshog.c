// SPDX-License-Identifier: BSD-2-Clause
/* CPU time in the kernel: %system without a wait. */
#include "tests/workloads/workload.h"

#include <pthread.h>
#include <sys/resource.h>

static const char usage[] =
	"usage: syshog SECONDS [THREADS]\n"
	"\n"
	"Each of THREADS threads (default 1) fills a buffer with getrandom() for SECONDS of real\n"
	"time; nearly all its CPU time is %system, in chacha_permute and its callers:\n"
	"  main or syshog_thread -> hog_outer -> hog_inner -> getrandom\n"
	"At the end:\n"
	"  pid=P threads=THREADS begin_ns=NS elapsed_ms=MS user_ms=MS system_ms=MS calls=N mib=N\n"
	"\n"
	"examples:\n"
	"  syshog 5\n"
	"  syshog 3 4\n";

/* Large enough that entering the kernel does not count, small enough to stay in the L2 cache. */
#define BUFFER_BYTES (64 * 1024)

static uint64_t end_ns;

static WL_NOINLINE long hog_inner(char *buf)
{
	return WL_SYSCALL4(SYS_getrandom, buf, BUFFER_BYTES, 0, 0);
}

static WL_NOINLINE uint64_t hog_outer(char *buf)
{
	uint64_t calls = 0;

	while (now_ns() < end_ns) {
		long n = hog_inner(buf);

		if (n < 0 && n != -EINTR) {
			errno = (int)-n;
			die("getrandom of %d bytes", BUFFER_BYTES);
		}
		calls++;
	}
	return calls;
}

static void *syshog_thread(void *arg)
{
	char *buf = malloc(BUFFER_BYTES);

	if (!buf)
		die("cannot allocate %d bytes", BUFFER_BYTES);
	*(uint64_t *)arg = hog_outer(buf);
	free(buf);
	return NULL;
}

static unsigned long long tv_ms(struct timeval tv)
{
	return (unsigned long long)tv.tv_sec * 1000 + (unsigned long long)tv.tv_usec / 1000;
}

WORKLOAD_MAIN(syshog)
{
	static uint64_t calls[WL_MAX_THREADS];
	static pthread_t threads[WL_MAX_THREADS];
	unsigned int cnt = 1;
	uint64_t start_ns, length_ns, total = 0;
	struct rusage ru;

	check_args(argc, argv, 1, 2, usage);
	length_ns = parse_seconds("SECONDS", argv[1], 86400);
	if (argc > 2)
		cnt = (unsigned int)parse_number("THREADS", argv[2], 1, WL_MAX_THREADS);

	start_ns = now_ns();
	end_ns = start_ns + length_ns;
	for (unsigned int i = 1; i < cnt; i++) {
		errno = pthread_create(&threads[i], NULL, syshog_thread, &calls[i]);
		if (errno)
			die("cannot start thread %u", i);
	}
	syshog_thread(&calls[0]);
	for (unsigned int i = 0; i < cnt; i++) {
		if (i)
			pthread_join(threads[i], NULL);
		total += calls[i];
	}
	getrusage(RUSAGE_SELF, &ru);
	printf("pid=%d threads=%u begin_ns=%llu elapsed_ms=%llu user_ms=%llu system_ms=%llu calls=%llu mib=%llu\n",
	       getpid(), cnt, (unsigned long long)start_ns, (unsigned long long)((now_ns() - start_ns) / NSEC_PER_MSEC),
	       tv_ms(ru.ru_utime), tv_ms(ru.ru_stime), (unsigned long long)total,
	       (unsigned long long)(total * BUFFER_BYTES >> 20));
	return 0;
}
