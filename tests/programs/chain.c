// SPDX-License-Identifier: BSD-2-Clause
/*
 * A call chain that is known: main, chain_outer, chain_middle, chain_inner, and a call at its end
 * that blocks or spins. Built without frame pointers at every level of optimization.
 *
 *   chain sleep|short|turns|read|futex|spin|dlopen LIB|dlclose LIB|fork|signal|exec PROGRAM SECONDS
 * turns waits by chain_left and chain_right in turn, whose frames are the same.
 * dlclose takes the library away at the end and goes on without it; exec becomes PROGRAM, another chain.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile int sink;
static double until;
static void (*plugin)(void (*)(void));

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Blocks of 20 ms, again and again, so that each is recorded. */
static void block_sleep(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* As often as each of them has its user stack saved: for measurements. */
static void block_short(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1200000 }, NULL);
}

/* Two callers with the same frame: only one word of the stack tells whose wait it is. */
static NOINLINE void chain_left(void)
{
	block_sleep();
	sink++;
}
static NOINLINE void chain_right(void)
{
	block_sleep();
	sink--;
}
static NOINLINE void block_turns(void)
{
	chain_left();
	chain_right();
}

static int pipe_fd[2];
static void block_read(void)
{
	char c;

	if (read(pipe_fd[0], &c, 1) != 1)
		until = 0;
}

static void block_futex(void)
{
	static uint32_t word;
	struct timespec ts = { .tv_nsec = 20000000 };

	syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ts, NULL, 0);
}

static void spin(void)
{
	double end = now() + 0.02;

	while (now() < end)
		for (int i = 0; i < 100000; i++)
			sink++;
}

NOINLINE static void chain_inner(void (*end)(void))
{
	char *some = alloca((size_t)(sink & 15) + 16);

	memset(some, sink, 16);
	end();
	sink += some[3];
}

NOINLINE static void chain_middle(void (*end)(void), int a, int b, int c)
{
	int keep = a * b + c + sink;

	if (plugin)
		plugin(end);
	else
		chain_inner(end);
	sink += keep;
}

static void chain_outer(void (*end)(void));

/* So many frames more. */
NOINLINE static void chain_deeper(void (*end)(void), int depth)
{
	if (depth)
		chain_deeper(end, depth - 1);
	else
		chain_outer(end);
	sink += depth;
}

NOINLINE static void chain_outer(void (*end)(void))
{
	while (now() < until) {
		chain_middle(end, sink, 2, 3);
		sink++;
	}
}

static void (*signal_end)(void);
NOINLINE static void on_signal(int number)
{
	(void)number;
	chain_outer(signal_end);
	sink++;
}

/* The chain stands on the stack of a signal. */
NOINLINE static void in_signal(void (*end)(void))
{
	signal_end = end;
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	sink++;
}

/* Somebody has to wake the reader. */
static void feed(void)
{
	if (pipe(pipe_fd) < 0)
		exit(1);
	if (fork() == 0) {
		close(pipe_fd[0]);
		prctl(PR_SET_NAME, "feeder");
		while (write(pipe_fd[1], "x", 1) == 1)
			usleep(20000);
		_exit(0);
	}
	close(pipe_fd[1]);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";
	void (*end)(void) = block_sleep;
	void *lib = NULL;
	int status;

	if (argc < 3)
		return 2;
	until = now() + atof(argv[argc - 1]);
	if (!strcmp(mode, "read")) {
		feed();
		end = block_read;
	} else if (!strcmp(mode, "futex")) {
		end = block_futex;
	} else if (!strcmp(mode, "short")) {
		end = block_short;
	} else if (!strcmp(mode, "turns")) {
		end = block_turns;
	} else if (!strcmp(mode, "spin")) {
		end = spin;
	} else if (!strcmp(mode, "dlopen") || !strcmp(mode, "dlclose")) {

		usleep(300000); /* the program itself is known before */
		lib = dlopen(argv[2], RTLD_NOW);
		plugin = lib ? (void (*)(void (*)(void)))dlsym(lib, "chain_plugin") : NULL;
		if (!plugin)
			return 1;
	} else if (!strcmp(mode, "fork")) {
		usleep(300000);
		if (fork() > 0) {
			wait(&status);
			return 0;
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	if (getenv("CHAIN_DEPTH"))
		chain_deeper(end, atoi(getenv("CHAIN_DEPTH")));
	else if (!strcmp(mode, "signal"))
		in_signal(end);
	else
		chain_outer(end);
	if (!strcmp(mode, "dlclose")) {
		plugin = NULL;
		dlclose(lib);
		pause();
	}
	if (!strcmp(mode, "exec"))
		execl(argv[2], argv[2], "sleep", "600", NULL);
	return 0;
}
