/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the workloads share: argument checks, clocks, thread states, and system calls made from
 * the caller's own frame, so that a frame pointer walk sees the whole chain up to main().
 */
#pragma once

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WL_UNUSED   __attribute__((unused))
#define WL_NOINLINE __attribute__((noinline))

/* Each workload is a program of the tests; some are commands of stallbox-workload, too. */
#ifdef STALLBOX_WORKLOAD
#define WORKLOAD_MAIN(name)                  \
	int name##_main(int argc, char **argv); \
	int name##_main(int argc, char **argv)
#define WORKLOAD_PREFIX "stallbox-workload "
#else
#define WORKLOAD_MAIN(name) int main(int argc, char **argv)
#define WORKLOAD_PREFIX ""
#endif

#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC  UINT64_C(1000000000)

/* Small stacks let a thousand threads start on a small machine. */
#define WL_STACK_BYTES (64 * 1024)
#define WL_MAX_THREADS 4096

/* Expanded where it is used: a function of libc has no frame pointer and would break the chain. */
#if defined(__x86_64__)
#define WL_SYSCALL4(nr, a, b, c, d)                                                                \
	__extension__({                                                                            \
		long ret_ = (nr);                                                                  \
		register long r10_ __asm__("r10") = (long)(d);                                     \
		__asm__ volatile("syscall"                                                         \
				 : "+a"(ret_)                                                      \
				 : "D"((long)(a)), "S"((long)(b)), "d"((long)(c)), "r"(r10_)       \
				 : "rcx", "r11", "memory");                                        \
		ret_;                                                                              \
	})
#elif defined(__aarch64__)
#define WL_SYSCALL4(nr, a, b, c, d)                                                                \
	__extension__({                                                                            \
		register long x8_ __asm__("x8") = (nr);                                            \
		register long x0_ __asm__("x0") = (long)(a);                                       \
		register long x1_ __asm__("x1") = (long)(b);                                       \
		register long x2_ __asm__("x2") = (long)(c);                                       \
		register long x3_ __asm__("x3") = (long)(d);                                       \
		__asm__ volatile("svc 0"                                                           \
				 : "+r"(x0_)                                                       \
				 : "r"(x8_), "r"(x1_), "r"(x2_), "r"(x3_)                          \
				 : "memory");                                                      \
		x0_;                                                                               \
	})
#else
#error "WL_SYSCALL4 is not written for this architecture"
#endif

#if defined(SYS_vfork)
#define WL_VFORK() WL_SYSCALL4(SYS_vfork, 0, 0, 0, 0)
#else
/* CLONE_VM | CLONE_VFORK | SIGCHLD, on the caller's stack */
#define WL_VFORK() WL_SYSCALL4(SYS_clone, 0x00000100 | 0x00004000 | SIGCHLD, 0, 0, 0)
#endif

/* Says what and errno's text. */
WL_UNUSED __attribute__((noreturn, format(printf, 2, 0))) static void end_with(va_list ap, const char *fmt, int status)
{
	int err = errno;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(status);
}

WL_UNUSED __attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end_with(ap, fmt, 1);
}

WL_UNUSED __attribute__((noreturn, format(printf, 1, 2))) static void bad_usage(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nhint: try --help\n");
	exit(2);
}

/* --help anywhere prints the text and exits 0; a wrong number of arguments exits 2. */
WL_UNUSED static void check_args(int argc, char **argv, int min, int max, const char *usage)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			/* every text begins with "usage: NAME" */
			printf("usage: " WORKLOAD_PREFIX "%s", usage + strlen("usage: "));
			exit(0);
		}
	if (argc - 1 < min || argc - 1 > max)
		bad_usage("%d arguments, expected %d to %d", argc - 1, min, max);
}

/* Neither a failure nor a success: this host lacks something. Tests skip. */
WL_UNUSED __attribute__((noreturn, format(printf, 1, 2))) static void cannot_run(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end_with(ap, fmt, 77);
}

WL_UNUSED static uint64_t parse_number(const char *what, const char *s, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (!isdigit((unsigned char)*s) || *end || errno || v < min || v > max)
		bad_usage("%s '%s' is not a number from %llu to %llu", what, s,
			  (unsigned long long)min, (unsigned long long)max);
	return v;
}

/* Seconds with a fraction, as nanoseconds. */
WL_UNUSED static uint64_t parse_seconds(const char *what, const char *s, double max)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(s, &end);
	if (!isdigit((unsigned char)*s) || *end || errno || !(v > 0) || v > max)
		bad_usage("%s '%s' is not a number of seconds up to %.0f", what, s, max);
	return (uint64_t)(v * 1e9);
}

WL_UNUSED static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

WL_UNUSED static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

WL_UNUSED static void sleep_ms(unsigned int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

WL_UNUSED static pid_t wl_gettid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

/* The letter in /proc/self/task/TID/stat, 0 when the thread is gone. */
WL_UNUSED static char thread_state(pid_t tid)
{
	char path[64], buf[256], *p;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = 0;
	p = strrchr(buf, ')'); /* the name before it may hold anything */
	return p && p[1] == ' ' ? p[2] : 0;
}

/*
 * Waits until each of cnt threads has published its tid and shows the state. One look can catch a
 * thread in a short sleep on its way, so two in a row, 10 ms apart, must agree.
 */
WL_UNUSED static bool wait_for_state(const volatile pid_t *tids, unsigned int cnt, char state,
				     unsigned int timeout_ms)
{
	uint64_t end_ns = now_ns() + timeout_ms * NSEC_PER_MSEC;
	unsigned int agreed = 0;

	while (now_ns() < end_ns) {
		unsigned int n = 0;

		while (n < cnt && tids[n] && thread_state(tids[n]) == state)
			n++;
		agreed = n == cnt ? agreed + 1 : 0;
		if (agreed == 2)
			return true;
		sleep_ms(10);
	}
	return false;
}

WL_UNUSED static void print_tids(const volatile pid_t *tids, unsigned int cnt)
{
	printf("ready tids=");
	for (unsigned int i = 0; i < cnt; i++)
		printf("%s%d", i ? "," : "", tids[i]);
	printf("\n");
	fflush(stdout);
}

/* SIGTERM, SIGINT and SIGHUP are taken by sigtimedwait() in main() alone; threads inherit the mask. */
WL_UNUSED static sigset_t block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return set;
}

/* Runs in a vfork child on the stack and in the memory of its waiting parent thread. */
WL_UNUSED __attribute__((noreturn)) static void vfork_child(volatile pid_t *ret_child)
{
	/* If the thread that waits dies, so do we: nothing is left behind by kill -9. */
	WL_SYSCALL4(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
	WL_SYSCALL4(SYS_prctl, PR_SET_NAME, "vfork-child", 0, 0);
	*ret_child = (pid_t)WL_SYSCALL4(SYS_getpid, 0, 0, 0, 0);
	for (;;)
		WL_SYSCALL4(SYS_ppoll, 0, 0, 0, 0);
}

/* With WL_LINGER set, stays after the work is done and reported, until it is ended: the names of
 * its frames can then still be looked up. */
WL_UNUSED static void linger(void)
{
	fflush(stdout);
	if (getenv("WL_LINGER"))
		pause();
}
