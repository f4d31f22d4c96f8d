// SPDX-License-Identifier: BSD-2-Clause
/*
 * The stall of a process that lives at the limit of its memory cgroup: threads that keep a
 * mapped file hot and threads that grow their heap, together more than fits. Every page in
 * sight has just been used, so a thread that must make room searches for seconds, and all who
 * need mmap_lock (ps and top among them, for this process) wait for it.
 */
#include "tests/workloads/cgroup.h"
#include "tests/workloads/workload.h"

#include <getopt.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

static const char usage[] =
	"usage: reclaim_storm [OPTION]...\n"
	"\n"
	"Runs a memory reclaim stall in a memory cgroup of its own (version 1 or 2).\n"
	"\n"
	"  --seconds S       length of the run, 1 to 3600 (default 30)\n"
	"  --limit SIZE      limit of the cgroup, 64M or more (default 256M)\n"
	"  --file-threads N  threads that keep slices of the mapped file hot (default 256)\n"
	"  --anon-threads N  threads that grow (default 64)\n"
	"  --file PERCENT    size of the file in percent of the limit (default 80)\n"
	"  --anon PERCENT    memory of the growing threads, the same way (default 55)\n"
	"  --ramp S          seconds until they have grown to that (default 5)\n"
	"  --dir DIR         where the file is made, on a real disk: pages of a tmpfs cannot\n"
	"                    be reclaimed (default: current directory)\n"
	"  --help\n"
	"\n"
	"Prints 'ready pid=P cgroup=PATH' when the threads run (P is the process that stalls) and\n"
	"at the end, where a touch is one access to one page:\n"
	"  pid=P limit_mib=N elapsed_ms=MS touches=N slow_touches=N first_slow_ms=MS\n"
	"  longest_touch_ms=MS limit_hits=N oom_kills=N user_ms=MS system_ms=MS\n"
	"A touch is slow from 500 ms; first_slow_ms is counted from the start, -1 if there was none.\n"
	"\n"
	"examples:\n"
	"  reclaim_storm --seconds 20\n"
	"  reclaim_storm --limit 512M --file-threads 32 --anon-threads 8 --dir /var/tmp\n";

#define PAGE_BYTES ((size_t)4096)
#define SLOW_NS    (500 * NSEC_PER_MSEC)

/* Growing goes by small mappings, as an allocator does: each takes mmap_lock for writing. */
#define GROW_BYTES (16 * PAGE_BYTES)

/* A process in the middle of a stall needs up to a second or two to die. */
#define KILL_AFTER_MS 2000

/* Written by one thread, read by the parent process. */
struct thread_stats {
	uint64_t touches, slow, longest_ns, first_slow_ns;
	uint64_t pending_ns; /* start of the touch under way, 0 between touches */
} __attribute__((aligned(64)));

struct shared {
	uint64_t start_ns;
	volatile int stop;
	volatile unsigned int running;
	struct thread_stats stats[];
};

static struct {
	uint64_t seconds, limit_bytes, file_threads, anon_threads, file_percent, anon_percent, ramp;
	const char *dir;
} opt = {
	.seconds = 30,
	.limit_bytes = UINT64_C(256) << 20,
	.file_threads = 256,
	.anon_threads = 64,
	.file_percent = 80,
	.anon_percent = 55,
	.ramp = 5,
	.dir = ".",
};

static struct shared *shared;
static char *file_map;
static size_t file_bytes;

static WL_NOINLINE void touch_page(struct thread_stats *st, volatile char *page, bool write)
{
	uint64_t ns, start_ns = now_ns();

	*(volatile uint64_t *)&st->pending_ns = start_ns;
	if (write)
		*page = 1;
	else
		(void)*page;
	*(volatile uint64_t *)&st->pending_ns = 0;
	ns = now_ns() - start_ns;
	st->touches++;
	if (ns > st->longest_ns)
		st->longest_ns = ns;
	if (ns >= SLOW_NS) {
		st->slow++;
		if (!st->first_slow_ns)
			st->first_slow_ns = start_ns + ns;
	}
}

static WL_NOINLINE void read_file(struct thread_stats *st, size_t start, size_t len)
{
	while (!shared->stop)
		for (size_t off = 0; off < len && !shared->stop; off += PAGE_BYTES)
			touch_page(st, file_map + start + off, false);
}

static void *file_thread(void *arg)
{
	size_t idx = (size_t)(uintptr_t)arg;
	size_t slice = file_bytes / opt.file_threads / PAGE_BYTES * PAGE_BYTES;

	__atomic_fetch_add(&shared->running, 1, __ATOMIC_RELAXED);
	read_file(&shared->stats[idx], idx * slice, slice);
	return NULL;
}

/* Grows to share bytes along a straight line, then lets go of everything and begins anew. */
static WL_NOINLINE void grow_heap(struct thread_stats *st, size_t share)
{
	size_t cnt = share / GROW_BYTES;
	char **chunk = calloc(cnt, sizeof(*chunk));

	if (!chunk)
		die("cannot allocate %zu pointers", cnt);
	while (!shared->stop) {
		uint64_t start_ns = now_ns();
		size_t n;

		for (n = 0; n < cnt && !shared->stop; n++) {
			uint64_t due_ns = start_ns + opt.ramp * NSEC_PER_SEC * n / cnt;

			while (now_ns() < due_ns && !shared->stop)
				sleep_ms(1);
			chunk[n] = mmap(NULL, GROW_BYTES, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (chunk[n] == MAP_FAILED)
				die("cannot map %zu bytes", GROW_BYTES);
			for (size_t off = 0; off < GROW_BYTES; off += PAGE_BYTES)
				touch_page(st, chunk[n] + off, true);
		}
		while (n)
			munmap(chunk[--n], GROW_BYTES);
	}
	free(chunk);
	return;
}

static void *anon_thread(void *arg)
{
	size_t idx = (size_t)(uintptr_t)arg;

	__atomic_fetch_add(&shared->running, 1, __ATOMIC_RELAXED);
	grow_heap(&shared->stats[opt.file_threads + idx],
		  opt.limit_bytes / 100 * opt.anon_percent / opt.anon_threads);
	return NULL;
}
