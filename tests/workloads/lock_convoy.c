// SPDX-License-Identifier: BSD-2-Clause
/* A lock convoy in the kernel: threads write large blocks to one file, one after the other, because each write holds the
 * lock of the inode. The file is in memory and has no name. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

static const char usage[] =
	"usage: lock_convoy SECONDS [THREADS]\n"
	"\n"
	"For SECONDS each of THREADS threads (default 16) writes 16 MiB to the same file in memory,\n"
	"again and again: one has the lock of its inode, the others wait. SIGTERM and SIGINT end it\n"
	"early. At the end:\n"
	"  pid=P threads=N writes=N longest_write_ns=NS wait_ns=NS\n"
	"wait_ns: what all writes took, without the time that one of them takes alone.\n"
	"\n"
	"examples:\n"
	"  lock_convoy 10\n";

#define BLOCK_BYTES ((size_t)16 << 20)

static int fd;
static char *block;
static atomic_bool stop;
static _Atomic uint64_t writes, all_ns, longest_ns;

static uint64_t write_block(void)
{
	uint64_t begin = now_ns();

	if (pwrite(fd, block, BLOCK_BYTES, 0) < 0)
		die("cannot write");
	return now_ns() - begin;
}

static void *writer(void *arg)
{
	while (!stop) {
		uint64_t ns = write_block(), longest = longest_ns;

		writes++;
		all_ns += ns;
		while (ns > longest && !atomic_compare_exchange_weak(&longest_ns, &longest, ns))
			;
	}
	return arg;
}

WORKLOAD_MAIN(lock_convoy)
{
	static pthread_t thread[WL_MAX_THREADS];
	unsigned int threads = 16;
	uint64_t length_ns, alone_ns;
	struct timespec ts;
	sigset_t set;

	check_args(argc, argv, 1, 2, usage);
	length_ns = parse_seconds("SECONDS", argv[1], 86400);
	if (argc > 2)
		threads = (unsigned int)parse_number("THREADS", argv[2], 2, WL_MAX_THREADS);
	set = block_signals();
	fd = memfd_create("lock_convoy", MFD_CLOEXEC);
	block = malloc(BLOCK_BYTES);
	if (fd < 0 || !block)
		die("cannot make a file in memory");
	memset(block, 1, BLOCK_BYTES);
	write_block();
	alone_ns = write_block();
	for (unsigned int i = 0; i < threads; i++) {
		errno = pthread_create(&thread[i], NULL, writer, NULL);
		if (errno)
			die("cannot start thread %u", i);
	}
	ts.tv_sec = (time_t)(length_ns / NSEC_PER_SEC);
	ts.tv_nsec = (long)(length_ns % NSEC_PER_SEC);
	sigtimedwait(&set, NULL, &ts);
	stop = true;
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	printf("pid=%d threads=%u writes=%llu longest_write_ns=%llu wait_ns=%llu\n", getpid(), threads, (unsigned long long)writes,
	       (unsigned long long)longest_ns, (unsigned long long)(all_ns > writes * alone_ns ? all_ns - writes * alone_ns : 0));
	return 0;
}
