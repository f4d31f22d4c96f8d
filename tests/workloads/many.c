// SPDX-License-Identifier: BSD-2-Clause
/* A known number of processes that wait, or one after the other that end at once. */
#include "tests/workloads/workload.h"

#include <sys/wait.h>

static const char usage[] =
	"usage: many N | many storm N\n"
	"\n"
	"N processes that wait: prints 'ready pids=N' when all are there; SIGTERM ends them.\n"
	"storm: N processes, at most 64 at a time, each of which ends at once; prints 'done pids=N'.\n"
	"\n"
	"examples:\n"
	"  many 10000\n"
	"  many storm 40000\n";

static volatile sig_atomic_t ended;

static void on_end(int sig)
{
	(void)sig;
	ended = 1;
}

static int storm(long n)
{
	long alive = 0, made = 0;

	while (made < n) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		made += pid > 0;
		alive += pid > 0;
		while (alive >= 64 || (alive && made == n)) {
			if (wait(NULL) > 0)
				alive--;
		}
	}
	printf("done pids=%ld\n", made);
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_end };
	int storming = argc == 3 && !strcmp(argv[1], "storm");
	long n = argc > 1 ? atol(argv[argc - 1]) : 0, made = 0;

	if (n <= 0 || (argc != 2 && !storming)) {
		fputs(usage, stderr);
		return 2;
	}
	if (storming)
		return storm(n);
	setpgid(0, 0);
	sigaction(SIGTERM, &sa, NULL);
	for (; made < n && !ended; made++) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (pid == 0) {
			signal(SIGTERM, SIG_DFL);
			for (;;)
				pause();
		}
	}
	printf("ready pids=%ld\n", made);
	fflush(stdout);
	while (!ended)
		pause();
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	return made == n ? 0 : 1;
}
