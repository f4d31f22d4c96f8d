// SPDX-License-Identifier: BSD-2-Clause
/* Page faults and nothing else: each thread of one process maps memory, touches every page, unmaps. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

#define MAP_BYTES (8u << 20)

static const char usage[] =
	"usage: fault_storm SECONDS [THREADS]\n"
	"Prints how many page faults there were and what one took.\n";

static atomic_ullong faults;
static uint64_t until_ns;

static void *storm(void *arg)
{
	long page = sysconf(_SC_PAGESIZE);

	while (now_ns() < until_ns) {
		char *m = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (m == MAP_FAILED)
			die("cannot map memory");
		madvise(m, MAP_BYTES, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < MAP_BYTES; i += (size_t)page)
			m[i] = 1;
		munmap(m, MAP_BYTES);
		faults += MAP_BYTES / (size_t)page;
	}
	return arg;
}

int main(int argc, char **argv)
{
	unsigned int threads = 1;
	pthread_t t[64];
	uint64_t seconds;

	check_args(argc, argv, 1, 2, usage);
	seconds = parse_number("SECONDS", argv[1], 1, 3600);
	if (argc > 2)
		threads = (unsigned int)parse_number("THREADS", argv[2], 1, 64);
	until_ns = now_ns() + seconds * NSEC_PER_SEC;
	for (unsigned int i = 0; i < threads; i++) {
		if (pthread_create(&t[i], NULL, storm, NULL))
			die("cannot start a thread");
	}
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	printf("faults=%llu threads=%u ns_per_fault=%.1f\n", (unsigned long long)faults, threads,
	       (double)seconds * 1e9 * threads / (double)faults);
	return 0;
}
