// SPDX-License-Identifier: BSD-2-Clause
/* A system call that keeps softirqs off on its CPU: the kernel's test run of an XDP program with
 * live packets disables them for a batch. */
#include "tests/workloads/workload.h"

#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/time.h>

static const char usage[] =
	"usage: bh_stall MS TIMES [CPU]\n"
	"\n"
	"TIMES times, 100 ms apart, one bpf(BPF_PROG_TEST_RUN) of MS ms or somewhat longer, or as long as\n"
	"one batch of packets takes, on CPU (default: the one it runs on), after three short ones that\n"
	"measure how long a packet takes. Needs CAP_BPF and CAP_NET_ADMIN.\n"
	"A thread there sleeps 10 ms at a time by a kernel timer, which is a softirq: one that waits.\n"
	"One line per call, times of CLOCK_MONOTONIC in ns, then the total:\n"
	"  cpu=C begin_ns=NS end_ns=NS\n"
	"  pid=P tid=T times=N\n"
	"\n"
	"examples:\n"
	"  bh_stall 100 5\n"
	"  bh_stall 200 1 2\n";

/* A loop of a million instructions, the most that a verifier walks through, and most of them slow: one batch is to last
 * for hundreds of milliseconds. */
#define ROUNDS_OF_TEN 95000
#define MEASURED 8
#define BATCH 256 /* packets that are run with softirqs off, at most (net/bpf/test_run.c) */

static int load(void)
{
	struct bpf_insn insn[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 }, /* XDP_DROP */
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_DIV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 1, .imm = 1 },
		{ .code = BPF_JMP | BPF_JLT | BPF_K, .dst_reg = 1, .off = -10, .imm = ROUNDS_OF_TEN },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (uint64_t)(uintptr_t)insn,
		.insn_cnt = sizeof(insn) / sizeof(insn[0]),
		.license = (uint64_t)(uintptr_t)"GPL",
	};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* One batch of live packets. Returns what it took, ns. */
static uint64_t run(int fd, uint32_t packets, unsigned int cpu)
{
	static char packet[64];
	union bpf_attr attr = { .test = { .prog_fd = (uint32_t)fd, .repeat = packets,
					  .data_size_in = sizeof(packet),
					  .data_in = (uint64_t)(uintptr_t)packet,
					  .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = packets } };
	uint64_t begin = now_ns(), end;

	if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)) < 0)
		die("cannot run live packets (5.18)");
	end = now_ns();
	printf("cpu=%u begin_ns=%llu end_ns=%llu\n", cpu, (unsigned long long)begin, (unsigned long long)end);
	fflush(stdout);
	return end - begin;
}

/* On a quiet CPU no softirq might be raised while the call lasts. The time-out of a socket is on the timer wheel, whose
 * timers are handled in a softirq of the CPU that set them; those of sleeps and poll() are not. */
static void *neighbour(void *unused)
{
	struct timeval timeout = { .tv_usec = 10000 };
	int fd[2];
	char c;

	(void)unused;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd) < 0 ||
	    setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		die("cannot make a socket with a time-out");
	for (;;)
		(void)!recv(fd[0], &c, sizeof(c), 0);
}

WORKLOAD_MAIN(bh_stall)
{
	pthread_t thread;
	unsigned int ms, times, cpu;
	uint64_t base, ns, packet_ns = UINT64_MAX;
	uint32_t packets = MEASURED;
	cpu_set_t set;
	int fd;

	check_args(argc, argv, 2, 3, usage);
	ms = (unsigned int)parse_number("MS", argv[1], 1, 10000);
	times = (unsigned int)parse_number("TIMES", argv[2], 1, 10000);
	cpu = argc > 3 ? (unsigned int)parse_number("CPU", argv[3], 0, CPU_SETSIZE - 1) : (unsigned int)sched_getcpu();
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		die("cannot run on CPU %u", cpu);
	fd = load();
	if (fd < 0)
		die("cannot load an XDP program");
	/* Setting up takes milliseconds by itself, the first time more. A CPU that is stolen or emulated takes longer now and
	 * then: the least of all calls is nearest to what the next one takes at least. */
	run(fd, 1, cpu);
	base = run(fd, 1, cpu);
	if (pthread_create(&thread, NULL, neighbour, NULL))
		die("cannot start a thread");
	for (unsigned int i = 0; i <= times; i++) {
		usleep(100000);
		ns = run(fd, packets, cpu);
		ns = ns > base + packets ? (ns - base) / packets : 1;
		packet_ns = ns < packet_ns ? ns : packet_ns;
		packets = (uint32_t)(ms * NSEC_PER_MSEC / packet_ns + 1 < BATCH ? ms * NSEC_PER_MSEC / packet_ns + 1 : BATCH);
	}
	printf("pid=%d tid=%d times=%u\n", getpid(), wl_gettid(), times);
	linger();
	return 0;
}
