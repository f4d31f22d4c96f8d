// SPDX-License-Identifier: BSD-2-Clause
/* N threads in state D for a known time, then all released together. */
#include "tests/workloads/workload.h"

#include <pthread.h>

static const char usage[] =
	"usage: dstall N SECONDS\n"
	"\n"
	"Puts N threads in state D (each waits for its vfork child) for SECONDS, then releases all:\n"
	"  dstall_thread -> stall_outer -> stall_inner -> vfork\n"
	"SIGTERM, SIGINT and SIGHUP end it early. Prints 'ready tids=T,...' when /proc shows all\n"
	"in state D, and at the end:\n"
	"  pid=P threads=N shortest_ms=MS longest_ms=MS\n"
	"\n"
	"examples:\n"
	"  dstall 1 3\n"
	"  dstall 40 10\n";

/* Longer than any start-up seen, also in an emulated machine. */
#define READY_TIMEOUT_MS 60000

static volatile pid_t *tids, *children;
static uint64_t *stalled_ns;

static WL_NOINLINE void stall_inner(unsigned int idx)
{
	if (WL_VFORK() == 0)
		vfork_child(&children[idx]);
}

static WL_NOINLINE void stall_outer(unsigned int idx)
{
	stall_inner(idx);
	__asm__ volatile("" ::: "memory");
}

static void *dstall_thread(void *arg)
{
	unsigned int idx = (unsigned int)(uintptr_t)arg;
	uint64_t start_ns = now_ns();

	tids[idx] = wl_gettid();
	stall_outer(idx);
	stalled_ns[idx] = now_ns() - start_ns;
	return NULL;
}

WORKLOAD_MAIN(dstall)
{
	uint64_t length_ns, min_ns = UINT64_MAX, max_ns = 0;
	pthread_attr_t attr;
	struct timespec ts;
	pthread_t *threads;
	unsigned int cnt;
	sigset_t set;
	bool ready;

	check_args(argc, argv, 2, 2, usage);
	cnt = (unsigned int)parse_number("N", argv[1], 1, WL_MAX_THREADS);
	length_ns = parse_seconds("SECONDS", argv[2], 86400);

	set = block_signals();
	threads = calloc(cnt, sizeof(*threads));
	tids = calloc(cnt, sizeof(*tids));
	children = calloc(cnt, sizeof(*children));
	stalled_ns = calloc(cnt, sizeof(*stalled_ns));
	if (!threads || !tids || !children || !stalled_ns)
		die("cannot allocate %u threads", cnt);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WL_STACK_BYTES);
	for (unsigned int i = 0; i < cnt; i++) {
		errno = pthread_create(&threads[i], &attr, dstall_thread, (void *)(uintptr_t)i);
		if (errno)
			die("cannot start thread %u", i);
	}

	ready = wait_for_state(tids, cnt, 'D', READY_TIMEOUT_MS);
	if (ready) {
		print_tids(tids, cnt);
		ts.tv_sec = (time_t)(length_ns / NSEC_PER_SEC);
		ts.tv_nsec = (long)(length_ns % NSEC_PER_SEC);
		sigtimedwait(&set, NULL, &ts);
	} else {
		fprintf(stderr, "dstall: not all of %u threads reached state D within %d s\n", cnt,
			READY_TIMEOUT_MS / 1000);
	}

	for (unsigned int i = 0; i < cnt; i++)
		if (children[i] > 0)
			kill(children[i], SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	for (unsigned int i = 0; i < cnt; i++) {
		pthread_join(threads[i], NULL);
		if (stalled_ns[i] < min_ns)
			min_ns = stalled_ns[i];
		if (stalled_ns[i] > max_ns)
			max_ns = stalled_ns[i];
	}
	printf("pid=%d threads=%u shortest_ms=%llu longest_ms=%llu\n", getpid(), cnt,
	       (unsigned long long)(min_ns / NSEC_PER_MSEC),
	       (unsigned long long)(max_ns / NSEC_PER_MSEC));
	return ready ? 0 : 1;
}
