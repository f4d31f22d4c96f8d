// SPDX-License-Identifier: BSD-2-Clause
/*
 * The third story on demand: a read() of a file of /proc does not leave the kernel for long, and what is raised on its
 * CPU meanwhile waits. /proc/net/arp keeps softirqs off while it looks for the place to go on reading at: in a network
 * namespace of our own with many neighbours that is as long as we like.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "tests/workloads/workload.h"

static const char usage[] =
	"usage: slow_proc MS SECONDS [CPU]\n"
	"\n"
	"For SECONDS reads behind the end of /proc/net/arp of a network namespace of its own on CPU\n"
	"(default 1, or the last there is), each read() of MS ms and more with softirqs off, 250 ms\n"
	"apart; packets are sent to that CPU over loopback all the time. Needs CAP_NET_ADMIN,\n"
	"CAP_SYS_ADMIN, /dev/net/tun and a kernel that steers packets to a CPU (RPS).\n"
	"One line per read, the shorter ones with which it finds out how many neighbours that takes\n"
	"too, times of CLOCK_MONOTONIC in ns, then the total; the latest packet is\n"
	"the one that came in at the latest during or after that read, waited_ns how long of\n"
	"the time from begin to end the thread waited for the CPU, as the kernel counts it:\n"
	"  cpu=C tid=T begin_ns=NS end_ns=NS latest_packet_ns=NS waited_ns=NS\n"
	"  pid=P tid=T reads=N neighbours=N\n"
	"\n"
	"examples:\n"
	"  slow_proc 150 5\n";

#define LINE_BYTES 78u /* of the file */
#define FIRST	   50000u
#define MOST	   4000000u /* half a KiB of the kernel's memory each */

static struct {
	int netlink, device; /* index */
	unsigned int neighbours;
} net;
static int schedstat_fd;
static atomic_bool stop;
static _Atomic uint64_t latest_ns;

static void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		die("cannot run on CPU %u", cpu);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		cannot_run("cannot write '%s'", path);
	close(fd);
}

/* ---- the namespace: it ends with us ------------------------------------------------- */

static void up(const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		die("cannot bring '%s' up", name);
	close(fd);
}

static void make_namespace(unsigned int cpu)
{
	struct ifreq tap = { .ifr_name = "arp0", .ifr_flags = IFF_TAP | IFF_NO_PI };
	char mask[32];
	int fd;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cannot_run("cannot make namespaces of networks and mounts");
	/* The one that is there shows the devices of the namespace that it was mounted in. */
	if (mount("sysfs", "/sys", "sysfs", 0, NULL) < 0)
		cannot_run("cannot mount sysfs");
	fd = open("/dev/net/tun", O_RDWR); /* stays open: the device goes with it */
	if (fd < 0 || ioctl(fd, TUNSETIFF, &tap) < 0)
		cannot_run("cannot make a network device of /dev/net/tun");
	net.device = (int)if_nametoindex("arp0");
	net.netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (net.netlink < 0 || !net.device)
		die("cannot ask for neighbours");
	up("lo");
	/* Words of 32 bits, the highest first. */
	snprintf(mask, sizeof(mask), "%x", 1u << (cpu % 32));
	for (unsigned int i = 0; i < cpu / 32; i++)
		strcat(mask, ",00000000");
	write_text("/sys/class/net/lo/queues/rx-0/rps_cpus", mask);
}

struct neighbour {
	struct nlmsghdr h;
	struct ndmsg m;
	struct rtattr to;
	uint32_t address;
	struct rtattr at;
	unsigned char mac[8]; /* six of them */
};

static void add_neighbours(unsigned int up_to)
{
	static struct neighbour batch[256];
	unsigned int n = 0;

	while (net.neighbours < up_to) {
		batch[n] = (struct neighbour){
			.h = { .nlmsg_len = sizeof(batch[0]), .nlmsg_type = RTM_NEWNEIGH, .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE },
			.m = { .ndm_family = AF_INET, .ndm_ifindex = net.device, .ndm_state = NUD_PERMANENT },
			.to = { RTA_LENGTH(4), NDA_DST },
			.address = htonl(0x0a000001 + net.neighbours),
			.at = { RTA_LENGTH(6), NDA_LLADDR },
			.mac = { 2, 0, 0, 0, 0, 1 },
		};
		net.neighbours++;
		if (++n == 256 || net.neighbours == up_to) {
			if (send(net.netlink, batch, n * sizeof(batch[0]), 0) < 0)
				die("cannot add neighbours");
			n = 0;
		}
	}
}

/* ---- packets ------------------------------------------------------------------------ */

struct path {
	struct sockaddr_in to;
	int in, out;
	unsigned int cpu; /* that they are sent and received on: not the one that handles them */
};

static void open_path(struct path *p)
{
	struct timeval tv = { .tv_usec = 100000 };
	socklen_t len = sizeof(p->to);

	p->to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	p->in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	p->out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p->in < 0 || p->out < 0 || bind(p->in, (struct sockaddr *)&p->to, len) < 0 ||
	    getsockname(p->in, (struct sockaddr *)&p->to, &len) < 0 || setsockopt(p->in, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0)
		die("cannot open sockets");
}

/* Beside other threads a packet would also be late because whoever sends or takes it waits for a CPU. */
static void run_first(void)
{
	(void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
}

static void *send_packets(void *arg)
{
	struct path *p = arg;

	pin(p->cpu);
	run_first();
	while (!stop) {
		uint64_t now = now_ns();

		sendto(p->out, &now, sizeof(now), 0, (const struct sockaddr *)&p->to, sizeof(p->to));
		usleep(1000);
	}
	return NULL;
}

static void *receive_packets(void *arg)
{
	struct path *p = arg;
	uint64_t sent;

	pin(p->cpu);
	run_first();
	while (!stop) {
		if (recv(p->in, &sent, sizeof(sent), 0) == (ssize_t)sizeof(sent)) {
			uint64_t late = now_ns() - sent;

			if (late > atomic_load(&latest_ns))
				atomic_store(&latest_ns, late);
		}
	}
	return NULL;
}

/* ---- the file ----------------------------------------------------------------------- */

static WL_NOINLINE long read_lines(int fd, char *buf, size_t size)
{
	return WL_SYSCALL4(SYS_read, fd, buf, size, 0);
}

/* A file behind its end. A read of its beginning in between makes the next one look for that place again, line by line. */
static int open_at_end(void)
{
	int fd = open("/proc/self/net/arp", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		cannot_run("cannot open '/proc/self/net/arp'");
	if (lseek(fd, (off_t)MOST * 2 * LINE_BYTES, SEEK_SET) < 0)
		die("cannot seek in '/proc/self/net/arp'");
	return fd;
}

/* How long this thread has waited for a CPU since it began (Documentation/scheduler/sched-stats.rst). */
static uint64_t waited_ns(void)
{
	unsigned long long waited;
	char text[96];
	ssize_t n = pread(schedstat_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		die("cannot read '/proc/thread-self/schedstat'");
	text[n] = '\0';
	if (sscanf(text, "%*u %llu", &waited) != 1) {
		errno = EBADMSG;
		die("'/proc/thread-self/schedstat' is '%s'", text);
	}
	return waited;
}

/* How long it took. */
static uint64_t read_once(int fd, unsigned int cpu)
{
	uint64_t begin, end, waited;
	char c[LINE_BYTES];

	sleep_ms(200);
	atomic_store(&latest_ns, 0);
	if (pread(fd, c, 1, 0) < 0)
		die("cannot read '/proc/self/net/arp'");
	waited = waited_ns();
	begin = now_ns();
	if (read_lines(fd, c, sizeof(c)) < 0)
		die("cannot read '/proc/self/net/arp'");
	end = now_ns();
	waited = waited_ns() - waited;
	sleep_ms(50);
	printf("cpu=%u tid=%d begin_ns=%llu end_ns=%llu latest_packet_ns=%llu waited_ns=%llu\n", cpu, wl_gettid(),
	       (unsigned long long)begin, (unsigned long long)end, (unsigned long long)atomic_load(&latest_ns),
	       (unsigned long long)waited);
	fflush(stdout);
	return end - begin;
}

/* So many neighbours that a read takes that long, also one that does not wait for its CPU. */
static void grow_to(int fd, uint64_t want_ns, unsigned int cpu, unsigned int other)
{
	unsigned int n = FIRST;

	for (;;) {
		uint64_t ns, again, next;

		pin(other); /* that takes its time, too, and is not what is to be seen */
		add_neighbours(n);
		pin(cpu);
		ns = read_once(fd, cpu);
		again = read_once(fd, cpu);
		ns = again < ns ? again : ns;
		if (ns >= want_ns)
			return;
		next = (uint64_t)n * want_ns / (ns ? ns : 1);
		next = next > 4ull * n ? 4ull * n : next + next / 8;
		if (n == MOST) {
			errno = ENOMEM;
			cannot_run("a read of %u lines takes %llu ms only", n, (unsigned long long)(ns / NSEC_PER_MSEC));
		}
		n = next > MOST ? MOST : (unsigned int)next;
	}
}

WORKLOAD_MAIN(slow_proc)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int cpu = cpus > 1 ? 1 : 0, reads = 0;
	uint64_t want_ns, until, length_ns;
	pthread_t tx, rx;
	struct path path;
	int fd;

	check_args(argc, argv, 2, 3, usage);
	want_ns = parse_number("MS", argv[1], 1, 10000) * NSEC_PER_MSEC;
	length_ns = parse_seconds("SECONDS", argv[2], 3600);
	if (argc > 3)
		cpu = (unsigned int)parse_number("CPU", argv[3], 0, 1023);
	schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	if (schedstat_fd < 0)
		cannot_run("cannot open '/proc/thread-self/schedstat'");
	make_namespace(cpu);
	open_path(&path);
	path.cpu = cpu ? 0 : (unsigned int)(cpus - 1);
	fd = open_at_end(); /* as long as the list is short: to seek is as much work as to read */
	pthread_create(&rx, NULL, receive_packets, &path);
	pthread_create(&tx, NULL, send_packets, &path);
	grow_to(fd, want_ns, cpu, path.cpu);
	for (until = now_ns() + length_ns; now_ns() < until; reads++)
		read_once(fd, cpu);
	stop = true;
	pthread_join(tx, NULL);
	pthread_join(rx, NULL);
	printf("pid=%d tid=%d reads=%u neighbours=%u\n", getpid(), wl_gettid(), reads, net.neighbours);
	linger();
	return 0;
}
