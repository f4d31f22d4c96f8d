// SPDX-License-Identifier: BSD-2-Clause
/*
 * The third story on demand: somebody reads a big file of /proc on one CPU while packets come in
 * there. The read does not leave the kernel for long; until 6.5 the softirqs that ksoftirqd has
 * taken over wait for the CPU meanwhile.
 *
 * Prints each read of 1 ms and longer with its times, and how late the latest packet came.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "tests/workloads/workload.h"

#define READ_BYTES (4u << 20)
#define SLOW_NS	   NSEC_PER_MSEC

static const char usage[] =
	"usage: slow_read SECONDS CPU FILE\n"
	"Reads FILE on CPU for SECONDS, 4 MiB at a time, while packets are sent to CPU over loopback.\n";

static atomic_bool stop;
static atomic_ullong latest_ns;

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int open_socket(struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	*a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0 || bind(fd, (struct sockaddr *)a, sizeof(*a)) < 0 || getsockname(fd, (struct sockaddr *)a, &len) < 0)
		die("cannot open a socket");
	return fd;
}

static void *sender(void *arg)
{
	const struct sockaddr_in *to = arg;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t packet[128] = { 0 };

	pin(0);
	while (!stop) {
		packet[0] = now_ns();
		sendto(fd, packet, sizeof(packet), 0, (const struct sockaddr *)to, sizeof(*to));
	}
	close(fd);
	return NULL;
}

static void *receiver(void *arg)
{
	int fd = *(int *)arg;
	uint64_t packet[128];

	pin(0);
	while (!stop) {
		if (recv(fd, packet, sizeof(packet), 0) == (ssize_t)sizeof(packet)) {
			unsigned long long late = now_ns() - packet[0];

			if (late > latest_ns)
				latest_ns = late;
		}
	}
	return NULL;
}

/* Packets of loopback are handled on the CPU that they were sent from, unless steered. */
static int steer(unsigned int mask)
{
	int fd = open("/sys/class/net/lo/queues/rx-0/rps_cpus", O_WRONLY | O_CLOEXEC);
	int r = fd < 0 || dprintf(fd, "%x", mask) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return r;
}

static void read_once(int fd, char *buf)
{
	uint64_t begin = now_ns(), end;

	if (pread(fd, buf, READ_BYTES, 0) <= 0)
		die("cannot read");
	end = now_ns();
	if (end - begin < SLOW_NS)
		return;
	printf("tid=%d begin_ns=%llu end_ns=%llu duration_ns=%llu\n", wl_gettid(), (unsigned long long)begin,
	       (unsigned long long)end, (unsigned long long)(end - begin));
}

int main(int argc, char **argv)
{
	uint64_t seconds, until;
	struct sockaddr_in to;
	pthread_t tx, rx;
	unsigned int cpu;
	int fd, file, r;
	char *buf;

	check_args(argc, argv, 3, 3, usage);
	seconds = parse_number("SECONDS", argv[1], 1, 3600);
	cpu = (unsigned int)parse_number("CPU", argv[2], 1, 31);
	file = open(argv[3], O_RDONLY | O_CLOEXEC);
	buf = malloc(READ_BYTES);
	if (file < 0 || !buf) {
		fprintf(stderr, "cannot open '%s': %s\n", argv[3], strerror(errno));
		return 77;
	}
	memset(buf, 1, READ_BYTES);
	r = steer(1u << cpu);
	if (r < 0) {
		fprintf(stderr, "packets of loopback cannot be steered to a CPU: %s\n", strerror(-r));
		return 77;
	}
	fd = open_socket(&to);
	pthread_create(&rx, NULL, receiver, &fd);
	pthread_create(&tx, NULL, sender, &to);
	pin((int)cpu);
	for (until = now_ns() + seconds * NSEC_PER_SEC; now_ns() < until;)
		read_once(file, buf);
	stop = true;
	pthread_join(tx, NULL);
	shutdown(fd, SHUT_RDWR);
	pthread_join(rx, NULL);
	steer(0);
	printf("cpu=%u latest_packet_ns=%llu\n", cpu, (unsigned long long)latest_ns);
	return 0;
}
