// SPDX-License-Identifier: BSD-2-Clause
/*
 * A program with a call chain that is known, built many ways by tests/unit/test_unwind_walk.c.
 *
 *     unwind_victim stop FILE    writes what backtrace() says to FILE, then blocks below that
 *     unwind_victim dump FILE    is interrupted by a signal and writes registers, its mappings,
 *                                what backtrace() says in the handler, and its stack
 */
#include <alloca.h>
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define FAR static __attribute__((noinline))
#ifdef __aarch64__
#define PC(uc) ((uc)->uc_mcontext.pc)
#define SP(uc) ((uc)->uc_mcontext.sp)
#define FP(uc) ((uc)->uc_mcontext.regs[29])
#define LR(uc) ((uc)->uc_mcontext.regs[30])
#else
#define PC(uc) ((uc)->uc_mcontext.gregs[REG_RIP])
#define SP(uc) ((uc)->uc_mcontext.gregs[REG_RSP])
#define FP(uc) ((uc)->uc_mcontext.gregs[REG_RBP])
#define LR(uc) 0
#endif

static const char *file;
static int dump, on_other_stack;
static volatile int sink;

static void write_frames(FILE *f)
{
	void *frames[128];
	int n = backtrace(frames, 128);

	for (int i = 0; i < n; i++)
		fprintf(f, "frame %llx\n", (unsigned long long)(uintptr_t)frames[i]);
}

static void write_maps(FILE *f)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096];

	while (maps && fgets(line, sizeof(line), maps))
		fprintf(f, "map %s", line);
	if (maps)
		fclose(maps);
}

/* Words from the stack pointer to the end of that mapping. */
static void write_stack(FILE *f, unsigned long long from)
{
	unsigned long long start, end;
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%llx", &start, &end) == 2 && from >= start && from < end) {
			fprintf(f, "stack %llx\n", from & ~7ULL);
			for (unsigned long long at = from & ~7ULL; at < end; at += 8)
				fprintf(f, "%llx\n", *(unsigned long long *)(uintptr_t)at);
		}
	}
	if (maps)
		fclose(maps);
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	FILE *f;

	(void)signal;
	(void)info;
	if (!dump)
		return;
	f = fopen(file, "w");
	fprintf(f, "regs %llx %llx %llx %llx\n", (unsigned long long)PC(uc), (unsigned long long)SP(uc),
		(unsigned long long)FP(uc), (unsigned long long)LR(uc));
	write_frames(f);
	write_maps(f);
	write_stack(f, SP(uc));
	fprintf(f, "end\n");
	fclose(f);
	_exit(0);
}

static void stop_here(void)
{
	FILE *f = fopen(file, "w");

	write_frames(f);
	fprintf(f, "end\n");
	fclose(f);
	for (;;)
		pause();
}

static void in_handler(int signal)
{
	sink = signal;
	stop_here();
}

FAR int leaf(int x)
{
	if (dump)
		raise(SIGUSR1);
	else if (on_other_stack)
		raise(SIGUSR2);
	else
		stop_here();
	return x + sink;
}

FAR int compare_ints(const void *a, const void *b)
{
	return leaf(*(const int *)a) - *(const int *)b;
}

FAR int through_libc(int n)
{
	int v[] = { 3, n, 2 };

	qsort(v, 3, sizeof(*v), compare_ints);
	return v[0] + sink;
}

FAR int with_alloca(int n)
{
	char *p = alloca((size_t)n * 16);

	memset(p, n, (size_t)n * 16);
	sink = p[n];
	return through_libc(n) + p[n / 2];
}

FAR int aligned(int n)
{
	__attribute__((aligned(64))) char p[256];

	memset(p, n, sizeof(p));
	sink = p[n];
	return with_alloca(n) + p[n];
}

FAR int huge(int n)
{
	char p[40000];

	memset(p, n, sizeof(p));
	sink = p[n];
	return aligned(n) + p[n];
}

FAR int many(int n, int b, int c, int d, int e, int f, int g, int h)
{
	return huge(n) + b + c + d + e + f + g + h + sink;
}

FAR int again(int n)
{
	return n > 5 ? again(n - 1) + sink : many(n, 2, 3, 4, 5, 6, 7, 8) + sink;
}

int main(int argc, char **argv)
{
	struct sigaction on = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	struct sigaction other = { .sa_handler = in_handler, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_size = 1 << 18 };

	if (argc != 3)
		return 2;
	file = argv[2];
	dump = !strcmp(argv[1], "dump");
	on_other_stack = !strcmp(argv[1], "handler");
	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &on, NULL);
	sigaction(SIGUSR2, &other, NULL);
	return again(9) == 12345;
}
