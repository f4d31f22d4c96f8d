// SPDX-License-Identifier: BSD-2-Clause
/* mmap_lock held for writing by one large operation, while others of the process need it. */
#include "tests/workloads/convoy.h"

static const char usage[] =
	"usage: mmap_hold fork|munlock|mprotect|zeros|populate TIMES MIB [THREADS [GAP_MS]]\n"
	"\n"
	"Main makes one operation over MIB MiB of touched memory, TIMES times, GAP_MS\n"
	"(default 100) apart; THREADS (default 32) fault and map pages of their own all the time,\n"
	"and queue.\n"
	"  fork      copies the page tables: mmap_lock for writing, all of the time\n"
	"  munlock   unlocks every page: for writing. The same 64 MiB mapped over and over; in the\n"
	"            others anonymous memory\n"
	"  mprotect  for writing\n"
	"  zeros     mprotect over memory that was only read: needs 2 MiB of page tables a GiB.\n"
	"            A tenth of MIB first, ten tenths last; to read-only and back in turn\n"
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

static WL_NOINLINE void operate(const char *mode, char *area, size_t bytes, unsigned int i)
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
	} else if (!strcmp(mode, "zeros")) {
		mprotect(area, bytes, i % 2 ? PROT_READ | PROT_WRITE : PROT_READ);
	} else {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (p != MAP_FAILED)
			munmap(p, bytes);
	}
}

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* 5.14 */
#endif

static void read_all(char *area, size_t bytes)
{
	if (madvise(area, bytes, MADV_POPULATE_READ) == 0)
		return;
	for (size_t i = 0; i < bytes; i += 4096)
		(void)((volatile char *)area)[i];
}

/* A page table entry for each page, and no gigabytes that a virtual machine's host has to find first (21 s for 8 GiB, measured). */
static void map_again(char *area, size_t bytes)
{
	const size_t step = (size_t)64 << 20;
	int fd = memfd_create("mmap_hold", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)step) < 0)
		die("cannot make a file in memory");
	for (size_t at = 0; at < bytes; at += step) {
		if (mmap(area + at, bytes - at < step ? bytes - at : step, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED)
			die("cannot map %zu bytes", bytes);
	}
	close(fd);
}

static size_t part(size_t bytes, unsigned int i, unsigned int times)
{
	return times > 1 ? (bytes / 10 + bytes / 10 * 9 / (times - 1) * i) / 4096 * 4096 : bytes;
}

WORKLOAD_MAIN(mmap_hold)
{
	unsigned int times, mib, threads = 32, gap_ms = 100;
	size_t bytes;
	char *area;

	check_args(argc, argv, 3, 5, usage);
	times = (unsigned int)parse_number("TIMES", argv[2], 1, 10000);
	mib = (unsigned int)parse_number("MIB", argv[3], 1, 1 << 20);
	if (argc > 4)
		threads = (unsigned int)parse_number("THREADS", argv[4], 1, WL_MAX_THREADS);
	if (argc > 5)
		gap_ms = (unsigned int)parse_number("GAP_MS", argv[5], 1, 60000);
	bytes = (size_t)mib << 20;
	if (strcmp(argv[1], "fork") && strcmp(argv[1], "munlock") && strcmp(argv[1], "mprotect") &&
	    strcmp(argv[1], "zeros") && strcmp(argv[1], "populate"))
		bad_usage("unknown operation '%s'", argv[1]);
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | (!strcmp(argv[1], "zeros") || !strcmp(argv[1], "munlock") ? MAP_NORESERVE : 0), -1, 0);
	if (area == MAP_FAILED)
		die("cannot map %u MiB", mib);
	madvise(area, bytes, MADV_NOHUGEPAGE);
	if (!strcmp(argv[1], "zeros"))
		read_all(area, bytes);
	else if (!strcmp(argv[1], "munlock"))
		map_again(area, bytes);
	else if (strcmp(argv[1], "populate"))
		memset(area, 1, bytes);
	convoy_start(threads);
	for (unsigned int i = 0; i < times; i++) {
		size_t size = strcmp(argv[1], "zeros") ? bytes : part(bytes, i, times);
		uint64_t begin, end;

		if (!strcmp(argv[1], "munlock") && mlock(area, bytes) < 0)
			die("cannot lock %u MiB", mib);
		if (!strcmp(argv[1], "mprotect"))
			mprotect(area, bytes, PROT_READ | PROT_WRITE);
		sleep_ms(gap_ms);
		convoy_reset();
		begin = now_ns();
		operate(argv[1], area, size, i);
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
