// SPDX-License-Identifier: BSD-2-Clause
/* Threads that are blocked, verifiably, until SIGTERM. */
#include "tests/workloads/workload.h"

#include <linux/futex.h>
#include <pthread.h>

static const char usage[] =
	"usage: blocker N futex|pipe|vfork\n"
	"\n"
	"Blocks N threads until SIGTERM, SIGINT or SIGHUP:\n"
	"  blocker_thread -> block_outer -> block_MODE -> system call\n"
	"  futex  waits on a futex (state S)\n"
	"  pipe   reads from an empty pipe (state S)\n"
	"  vfork  waits for a vfork child (state D)\n"
	"Prints 'ready tids=T,...' when /proc shows all of them blocked, and at the end:\n"
	"  pid=P mode=MODE threads=N blocked_ms=MS\n"
	"\n"
	"examples:\n"
	"  blocker 3 futex\n"
	"  blocker 20 vfork\n";

/* Longer than any start-up seen, also in an emulated machine. */
#define READY_TIMEOUT_MS 60000

static volatile pid_t *tids, *children;
static volatile int released;
static int pipe_fd[2];

static WL_NOINLINE void block_futex(unsigned int idx)
{
	(void)idx;
	while (!released)
		WL_SYSCALL4(SYS_futex, &released, FUTEX_WAIT_PRIVATE, 0, 0);
}

static WL_NOINLINE void block_pipe(unsigned int idx)
{
	char c;

	(void)idx;
	while (WL_SYSCALL4(SYS_read, pipe_fd[0], &c, 1, 0) == -EINTR)
		;
}

static WL_NOINLINE void block_vfork(unsigned int idx)
{
	if (WL_VFORK() == 0)
		vfork_child(&children[idx]);
}

static void release_futex(unsigned int cnt)
{
	(void)cnt;
	released = 1;
	syscall(SYS_futex, &released, FUTEX_WAKE_PRIVATE, INT_MAX);
}

static void release_pipe(unsigned int cnt)
{
	(void)cnt;
	close(pipe_fd[1]); /* every reader sees the end of the file */
}

static void release_vfork(unsigned int cnt)
{
	for (unsigned int i = 0; i < cnt; i++)
		if (children[i] > 0)
			kill(children[i], SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

static const struct mode {
	const char *name;
	char state;
	void (*block)(unsigned int idx);
	void (*release)(unsigned int cnt);
} modes[] = {
	{"futex", 'S', block_futex, release_futex},
	{"pipe", 'S', block_pipe, release_pipe},
	{"vfork", 'D', block_vfork, release_vfork},
};

static const struct mode *mode;

static WL_NOINLINE void block_outer(unsigned int idx)
{
	mode->block(idx);
	__asm__ volatile("" ::: "memory");
}

static void *blocker_thread(void *arg)
{
	unsigned int idx = (unsigned int)(uintptr_t)arg;

	tids[idx] = wl_gettid();
	block_outer(idx);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_attr_t attr;
	pthread_t *threads;
	unsigned int cnt;
	uint64_t ready_ns;
	sigset_t set;
	bool ready;
	int sig;

	check_args(argc, argv, 2, 2, usage);
	cnt = (unsigned int)parse_number("N", argv[1], 1, WL_MAX_THREADS);
	for (unsigned int i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[2], modes[i].name))
			mode = &modes[i];
	if (!mode)
		bad_usage("'%s' is not futex, pipe or vfork", argv[2]);

	set = block_signals();
	threads = calloc(cnt, sizeof(*threads));
	tids = calloc(cnt, sizeof(*tids));
	children = calloc(cnt, sizeof(*children));
	if (!threads || !tids || !children)
		die("cannot allocate %u threads", cnt);
	if (pipe(pipe_fd))
		die("cannot make a pipe");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WL_STACK_BYTES);
	for (unsigned int i = 0; i < cnt; i++) {
		errno = pthread_create(&threads[i], &attr, blocker_thread, (void *)(uintptr_t)i);
		if (errno)
			die("cannot start thread %u", i);
	}

	ready = wait_for_state(tids, cnt, mode->state, READY_TIMEOUT_MS);
	ready_ns = now_ns();
	if (ready) {
		print_tids(tids, cnt);
		while (sigwait(&set, &sig))
			;
	} else {
		fprintf(stderr, "blocker: not all of %u threads reached state %c within %d s\n", cnt,
			mode->state, READY_TIMEOUT_MS / 1000);
	}

	mode->release(cnt);
	for (unsigned int i = 0; i < cnt; i++)
		pthread_join(threads[i], NULL);
	printf("pid=%d mode=%s threads=%u blocked_ms=%llu\n", getpid(), mode->name, cnt,
	       (unsigned long long)((now_ns() - ready_ns) / NSEC_PER_MSEC));
	return ready ? 0 : 1;
}
