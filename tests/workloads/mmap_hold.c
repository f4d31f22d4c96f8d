// SPDX-License-Identifier: BSD-2-Clause
/* mmap_lock held for writing by one large operation, while others of the process need it. */
#include "tests/workloads/workload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

static const char usage[] =
	"usage: mmap_hold fork|munlock|mprotect|populate TIMES MIB [THREADS]\n"
	"\n"
	"Main makes one operation over MIB MiB of touched anonymous memory, TIMES times, 100 ms\n"
	"apart; THREADS (default 32) fault and map pages of their own all the time, and queue.\n"
	"  fork      copies the page tables: mmap_lock for writing, all of the time\n"
	"  munlock   unlocks every page: for writing\n"
	"  mprotect  for writing\n"
	"  populate  mmap(MAP_POPULATE): for reading, for long stretches\n"
	"One line per operation, times of CLOCK_MONOTONIC in ns, then the total:\n"
	"  tid=T begin_ns=NS end_ns=NS waiters=N longest_wait_ns=NS\n"
	"  pid=P tid=T times=N\n"
	"waiters: threads one of whose page faults or mappings overlapped the operation for at\n"
	"least half of it.\n"
	"\n"
	"examples:\n"
	"  mmap_hold fork 5 2048\n"
	"  mmap_hold munlock 1 4096 16\n";

struct worker {
	pthread_t thread;
	_Atomic uint64_t begin_ns; /* of the fault or mapping under way; 0 none */
	/* The longest one that ended since main looked, and what it overlapped. */
	_Atomic uint64_t longest_begin_ns, longest_end_ns;
	pid_t tid;
};

static atomic_bool stop;
static struct worker *worker;
static unsigned int threads = 32;

static WL_NOINLINE void touch(volatile char *p)
{
	*p = 1;
}

static void *fault(void *arg)
{
	struct worker *w = arg;

	w->tid = wl_gettid();
	while (!atomic_load(&stop)) {
		uint64_t begin = now_ns(), end;
		char *p;

		atomic_store(&w->begin_ns, begin);
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p != MAP_FAILED) {
			touch(p);
			munmap(p, 4096);
		}
		end = now_ns();
		atomic_store(&w->begin_ns, 0);
		if (end - begin > atomic_load(&w->longest_end_ns) - atomic_load(&w->longest_begin_ns)) {
			atomic_store(&w->longest_begin_ns, begin);
			atomic_store(&w->longest_end_ns, end);
		}
		usleep(2000);
	}
	return NULL;
}

static WL_NOINLINE void operate(const char *mode, char *area, size_t bytes)
{
	pid_t child;
	char *p;

	if (!strcmp(mode, "fork")) {
		child = fork();
		if (child == 0)
			_exit(0);
		waitpid(child, NULL, 0);
	} else if (!strcmp(mode, "munlock")) {
		munlock(area, bytes);
	} else if (!strcmp(mode, "mprotect")) {
		mprotect(area, bytes, PROT_READ);
	} else {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (p != MAP_FAILED)
			munmap(p, bytes);
	}
}

static uint64_t overlap(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t from = a > c ? a : c, to = b < d ? b : d;

	return to > from ? to - from : 0;
}

static void report(uint64_t begin, uint64_t end)
{
	uint64_t longest = 0;
	unsigned int n = 0;

	for (unsigned int i = 0; i < threads; i++) {
		uint64_t b = atomic_load(&worker[i].longest_begin_ns), e = atomic_load(&worker[i].longest_end_ns);

		if (overlap(b, e, begin, end) >= (end - begin) / 2) {
			n++;
			if (e - b > longest)
				longest = e - b;
		}
	}
	printf("tid=%d begin_ns=%llu end_ns=%llu waiters=%u longest_wait_ns=%llu\n", wl_gettid(),
	       (unsigned long long)begin, (unsigned long long)end, n, (unsigned long long)longest);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned int times, mib;
	size_t bytes;
	char *area;

	check_args(argc, argv, 3, 4, usage);
	times = (unsigned int)parse_number("TIMES", argv[2], 1, 10000);
	mib = (unsigned int)parse_number("MIB", argv[3], 1, 1 << 20);
	if (argc > 4)
		threads = (unsigned int)parse_number("THREADS", argv[4], 1, WL_MAX_THREADS);
	bytes = (size_t)mib << 20;
	if (strcmp(argv[1], "fork") && strcmp(argv[1], "munlock") && strcmp(argv[1], "mprotect") &&
	    strcmp(argv[1], "populate"))
		die("unknown operation '%s'", argv[1]);
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		die("cannot map %u MiB", mib);
	madvise(area, bytes, MADV_NOHUGEPAGE);
	if (strcmp(argv[1], "populate"))
		memset(area, 1, bytes);
	worker = calloc(threads, sizeof(*worker));
	if (!worker)
		die("cannot allocate %u threads", threads);
	for (unsigned int i = 0; i < threads; i++) {
		if ((errno = pthread_create(&worker[i].thread, NULL, fault, &worker[i])))
			die("cannot start thread %u", i);
	}
	for (unsigned int i = 0; i < times; i++) {
		uint64_t begin, end;

		if (!strcmp(argv[1], "munlock") && mlock(area, bytes) < 0)
			die("cannot lock %u MiB", mib);
		if (!strcmp(argv[1], "mprotect"))
			mprotect(area, bytes, PROT_READ | PROT_WRITE);
		usleep(100000);
		for (unsigned int k = 0; k < threads; k++) {
			atomic_store(&worker[k].longest_begin_ns, 0);
			atomic_store(&worker[k].longest_end_ns, 0);
		}
		begin = now_ns();
		operate(argv[1], area, bytes);
		end = now_ns();
		usleep(50000); /* the queue drains */
		report(begin, end);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(worker[i].thread, NULL);
	printf("pid=%d tid=%d times=%u\n", getpid(), wl_gettid(), times);
	linger();
	return 0;
}
