// SPDX-License-Identifier: BSD-2-Clause
/* stallbox-workload: one named stall on demand. Its commands are the workloads of the tests, whose truths the tests of
 * the recorder are measured against. */
#include <stdio.h>
#include <string.h>

#define COMMANDS                                                                                               \
	COMMAND(reclaim_storm, "threads in a small memory cgroup take pages from each other")                  \
	COMMAND(mmap_hold, "one big mapping operation holds mmap_lock, many threads want it")                  \
	COMMAND(fuse_fault, "a page fault, or an mmap(), that does not return holds mmap_lock")         \
	COMMAND(slow_proc, "a read() in /proc keeps softirqs off on its CPU for long")                         \
	COMMAND(bh_stall, "system calls that keep softirqs off on their CPU")                                  \
	COMMAND(dstall, "threads in D state")                                                           \
	COMMAND(frozen_fs, "threads in D state on a frozen file system")                                \
	COMMAND(cpu_quota, "threads of a cgroup that is throttled by its CPU quota")                    \
	COMMAND(lock_convoy, "threads queue again and again for one lock of the kernel")                \
	COMMAND(exec_storm, "processes are started and ended at a high rate")                           \
	COMMAND(runq, "more threads want to run than there are CPUs")                                   \
	COMMAND(syshog, "CPU time in the kernel: %system")

#define COMMAND(name, what) int name##_main(int argc, char **argv);
COMMANDS
#undef COMMAND

static const struct command {
	const char *name, *what;
	int (*run)(int argc, char **argv);
} commands[] = {
#define COMMAND(name, what) { #name, what, name##_main },
	COMMANDS
#undef COMMAND
};
#define COMMAND_CNT (sizeof(commands) / sizeof(commands[0]))

static void help(void)
{
	printf("Usage: stallbox-workload COMMAND ...\n"
	       "Make this host stall in one known way, and say what has happened.\n\n");
	for (size_t i = 0; i < COMMAND_CNT; i++)
		printf("  %-14s %s\n", commands[i].name, commands[i].what);
	printf("\n'stallbox-workload COMMAND --help' says more. What a command prints are its truths: threads,\n"
	       "times of CLOCK_MONOTONIC in ns, counts. Exit status 77: this host lacks what it needs.\n"
	       "It does stall the host; SIGINT and SIGTERM end it, and nothing stays behind.\n\n"
	       "examples:\n"
	       "  stallbox-workload fuse_fault mmap 1 3\n"
	       "  stallbox-workload dstall 12 8\n");
}

/* mmap-hold is mmap_hold. */
static const struct command *find(const char *name)
{
	char plain[32];

	snprintf(plain, sizeof(plain), "%s", name);
	for (char *p = plain; *p; p++)
		*p = *p == '-' ? '_' : *p;
	for (size_t i = 0; i < COMMAND_CNT; i++) {
		if (!strcmp(plain, commands[i].name))
			return &commands[i];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const struct command *c = argc > 1 ? find(argv[1]) : NULL;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		help();
		return 0;
	}
	if (!c) {
		if (argc > 1)
			fprintf(stderr, "stallbox-workload: there is no '%s'\nhint: try --help\n", argv[1]);
		else
			fprintf(stderr, "stallbox-workload: which stall?\nhint: try --help\n");
		return 2;
	}
	return c->run(argc - 1, argv + 1);
}
