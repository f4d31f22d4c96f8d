// SPDX-License-Identifier: BSD-2-Clause
/* Processes that are started, become another program, and end at once. */
#include "tests/workloads/workload.h"

static const char usage[] =
	"usage: exec_storm SECONDS [AT_A_TIME]\n"
	"\n"
	"For SECONDS keeps AT_A_TIME (default 8) processes under way, each of which is forked, executes\n"
	"/bin/true and ends. SIGTERM and SIGINT end it early. At the end:\n"
	"  pid=P processes=N elapsed_ns=NS\n"
	"\n"
	"examples:\n"
	"  exec_storm 10 16\n";

static volatile sig_atomic_t ended;

static void on_signal(int sig)
{
	(void)sig;
	ended = 1;
}

WORKLOAD_MAIN(exec_storm)
{
	uint64_t length_ns, begin_ns;
	unsigned int most = 8, alive = 0, made = 0;

	check_args(argc, argv, 1, 2, usage);
	length_ns = parse_seconds("SECONDS", argv[1], 86400);
	if (argc > 2)
		most = (unsigned int)parse_number("AT_A_TIME", argv[2], 1, 1000);
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	begin_ns = now_ns();
	while (!ended && now_ns() - begin_ns < length_ns) {
		pid_t pid = fork();

		if (pid == 0) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		made += pid > 0;
		alive += pid > 0;
		while (alive >= most && wait(NULL) > 0)
			alive--;
	}
	while (wait(NULL) > 0 || errno == EINTR)
		;
	printf("pid=%d processes=%u elapsed_ns=%llu\n", getpid(), made, (unsigned long long)(now_ns() - begin_ns));
	return 0;
}
