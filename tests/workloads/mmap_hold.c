// SPDX-License-Identifier: BSD-2-Clause
/* mmap_lock held for writing by one large operation, while others of the process need it. */
#include "tests/workloads/convoy.h"

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

int main(int argc, char **argv)
{
	unsigned int times, mib, threads = 32;
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
	convoy_start(threads);
	for (unsigned int i = 0; i < times; i++) {
		uint64_t begin, end;

		if (!strcmp(argv[1], "munlock") && mlock(area, bytes) < 0)
			die("cannot lock %u MiB", mib);
		if (!strcmp(argv[1], "mprotect"))
			mprotect(area, bytes, PROT_READ | PROT_WRITE);
		usleep(100000);
		convoy_reset();
		begin = now_ns();
		operate(argv[1], area, bytes);
		end = now_ns();
		usleep(50000); /* the queue drains */
		printf("tid=%d ", wl_gettid());
		convoy_report(begin, end);
	}
	convoy_stop();
	printf("pid=%d tid=%d times=%u\n", getpid(), wl_gettid(), times);
	linger();
	return 0;
}
