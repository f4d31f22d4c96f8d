// SPDX-License-Identifier: BSD-2-Clause
/*
 * A real stall: many threads in one small memory cgroup keep slices of a mapped file hot while
 * others grow anonymous memory beside them. Together they want more than the limit, so faults
 * end in memcg reclaim, and reclaim takes the pages that the next thread needs.
 *
 * With --writers, threads that map and unmap a page wait for whoever holds mmap_lock, or a VMA,
 * in such a fault. Then every long page access and every long wait is told, times of
 * CLOCK_MONOTONIC in ns. With --starved, one thread that hardly gets a CPU reclaims in such a fault:
 *   fault tid=T begin_ns=NS end_ns=NS
 *   wait tid=T begin_ns=NS end_ns=NS
 */
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/workloads/cgroup.h"
#include "tests/workloads/workload.h"

#define MIB (1ULL << 20)
#define PAGE 4096u

static const char usage[] =
	"usage: " WORKLOAD_PREFIX "reclaim_storm [--limit MIB] [--file-threads N] [--anon-threads N]\n"
	"       [--file-percent P] [--anon-percent P] [--seconds S] [--ramp S] [--writers N]\n"
	"       [--starved N] [--dir DIR on a real disk]\n"
	"\n"
	"Threads in a memory cgroup of MIB (256) MiB cycle over a mapped file of P (80) percent of it\n"
	"while others take P (55) percent as anonymous memory, growing for S (5) seconds.\n"
	"  --writers N   N threads also map and unmap, and wait for whoever holds mmap_lock; long page\n"
	"                accesses and waits are told: fault|wait tid=T begin_ns=NS end_ns=NS\n"
	"  --starved N   one thread faults below memory that grows down, which holds mmap_lock on every\n"
	"                kernel, on a CPU that N spinning threads want, too\n"
	"SIGTERM and SIGINT end it early. Needs root and the memory controller. At the end:\n"
	"  pid=P seconds=S touches=N\n"
	"\n"
	"examples:\n"
	"  reclaim_storm --seconds 20 --dir /var/tmp\n";

static struct {
	unsigned long limit_mib, file_threads, anon_threads, file_percent, anon_percent, seconds, ramp, writers, starved;
	const char *dir;
} o = { .limit_mib = 256, .file_threads = 256, .anon_threads = 64, .file_percent = 80, .anon_percent = 55, .seconds = 30, .ramp = 5, .dir = "." };

#define LONG_NS (20 * NSEC_PER_MSEC)

static atomic_bool stop;
static atomic_ullong touches;
static char *file_map;
static size_t file_bytes;
static struct timespec started;

static double elapsed(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) / 1e9;
}

static void tell(const char *what, uint64_t begin)
{
	uint64_t end = now_ns();

	if (o.writers && end - begin >= LONG_NS)
		printf("%s tid=%d begin_ns=%llu end_ns=%llu\n", what, wl_gettid(), (unsigned long long)begin,
		       (unsigned long long)end);
}

static void *writer_thread(void *arg)
{
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t begin = now_ns();
		void *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		tell("wait", begin);
		begin = now_ns();
		if (p != MAP_FAILED)
			munmap(p, PAGE);
		tell("wait", begin);
		usleep(10000);
	}
	return arg;
}

static void *file_thread(void *arg)
{
	size_t slice = file_bytes / o.file_threads / PAGE * PAGE, at = (size_t)(uintptr_t)arg * slice;
	volatile char *p = file_map + at;
	unsigned int sum = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (size_t i = 0; i < slice; i += PAGE) {
			uint64_t begin = now_ns();

			sum += (unsigned char)p[i];
			tell("fault", begin);
		}
		atomic_fetch_add_explicit(&touches, slice / PAGE, memory_order_relaxed);
	}
	return (void *)(uintptr_t)sum;
}

static void *anon_thread(void *arg)
{
	size_t share = o.limit_mib * MIB * o.anon_percent / 100 / o.anon_threads / PAGE * PAGE, size;
	char *p = mmap(NULL, share, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	if (p == MAP_FAILED)
		return NULL;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		double part = o.ramp ? elapsed() / (double)o.ramp : 1;

		size = part < 1 ? (size_t)((double)share * part) / PAGE * PAGE : share;
		for (size_t i = 0; i < size; i += PAGE) {
			uint64_t begin = now_ns();

			p[i]++;
			tell("fault", begin);
		}
		if (part >= 1) /* give some back and take it again: charges go on */
			madvise(p, share / 4 / PAGE * PAGE, MADV_DONTNEED);
	}
	return NULL;
}

/* On the last CPU many threads spin; beside them another one gets a few ms at a time, and faults. Below memory that grows down: such a fault holds mmap_lock itself, on every kernel. Most of its time is
 * reclaim, so that is where it stands, runnable, when its few ms are over. */
static void pin_to_last(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *spinning_thread(void *arg)
{
	pin_to_last();
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		;
	return arg;
}

/* Far below where the kernel puts mappings: nothing else comes to lie there. */
#define GROWS_FROM ((char *)(1ull << 40))

static void *starved_thread(void *arg)
{
	const size_t bytes = o.limit_mib * MIB / 4 / PAGE * PAGE;

	pin_to_last();
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (mmap(GROWS_FROM, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == MAP_FAILED)
			return arg;
		for (size_t i = 0; i < bytes && !atomic_load_explicit(&stop, memory_order_relaxed); i += PAGE) {
			uint64_t begin = now_ns();

			((volatile char *)GROWS_FROM)[-(ssize_t)i] = 1;
			tell("fault", begin);
		}
		munmap(GROWS_FROM - bytes, bytes + PAGE);
	}
	return arg;
}

static int make_file(void)
{
	char path[512], block[65536];
	int fd;

	file_bytes = o.limit_mib * MIB * o.file_percent / 100 / PAGE * PAGE;
	snprintf(path, sizeof(path), "%s/.reclaim_storm.%d", o.dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		fprintf(stderr, "error: cannot create '%s': %s\n", path, strerror(errno));
		return -1;
	}
	unlink(path);
	memset(block, 7, sizeof(block));
	for (size_t done = 0; done < file_bytes; done += sizeof(block)) {
		if (write(fd, block, sizeof(block)) < 0) {
			fprintf(stderr, "error: cannot fill '%s': %s\n", path, strerror(errno));
			return -1;
		}
	}
	fsync(fd);
	file_map = mmap(NULL, file_bytes, PROT_READ, MAP_SHARED, fd, 0);
	return file_map == MAP_FAILED ? -1 : 0;
}

static void on_signal(int sig)
{
	(void)sig;
	atomic_store(&stop, true);
}

static int start_thread(pthread_t *t, const pthread_attr_t *attr, unsigned long i)
{
	const unsigned long workers = o.file_threads + o.anon_threads, others = workers + o.writers;
	void *(*run)(void *) = i < o.file_threads ? file_thread : i < workers ? anon_thread : writer_thread;

	if (i >= others)
		run = i == others ? starved_thread : spinning_thread;
	return pthread_create(t, attr, run, (void *)(uintptr_t)i);
}

static int storm(void)
{
	unsigned long n = o.file_threads + o.anon_threads + o.writers + (o.starved ? 1 + o.starved : 0);
	pthread_t *t = calloc(n, sizeof(*t));
	pthread_attr_t attr;

	if (!t || make_file() < 0)
		return 1;
	setrlimit(RLIMIT_STACK, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY }); /* of memory that grows down */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	clock_gettime(CLOCK_MONOTONIC, &started);
	for (unsigned long i = 0; i < n; i++) {
		int r = start_thread(&t[i], &attr, i);

		if (r) {
			fprintf(stderr, "error: cannot start thread %lu: %s\n", i, strerror(r));
			atomic_store(&stop, true);
			n = i;
		}
	}
	while (!atomic_load(&stop) && elapsed() < (double)o.seconds)
		usleep(100000);
	atomic_store(&stop, true);
	for (unsigned long i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	printf("pid=%d seconds=%.1f touches=%llu\n", getpid(), elapsed(),
	       (unsigned long long)atomic_load(&touches));
	return 0;
}

static unsigned long number(const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (*end || !*s || v > 100000) {
		fprintf(stderr, "error: '%s': expected a number up to 100000\n", s);
		exit(2);
	}
	return v;
}

static void parse(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "limit", 1, NULL, 'l' }, { "file-threads", 1, NULL, 'F' },
		{ "anon-threads", 1, NULL, 'A' }, { "file-percent", 1, NULL, 'f' },
		{ "anon-percent", 1, NULL, 'a' }, { "seconds", 1, NULL, 's' },
		{ "ramp", 1, NULL, 'r' }, { "writers", 1, NULL, 'w' }, { "starved", 1, NULL, 'S' }, { "dir", 1, NULL, 'd' },
		{ "help", 0, NULL, 'h' }, {}
	};
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case 'l': o.limit_mib = number(optarg); break;
		case 'F': o.file_threads = number(optarg); break;
		case 'A': o.anon_threads = number(optarg); break;
		case 'f': o.file_percent = number(optarg); break;
		case 'a': o.anon_percent = number(optarg); break;
		case 's': o.seconds = number(optarg); break;
		case 'r': o.ramp = number(optarg); break;
		case 'w': o.writers = number(optarg); break;
		case 'S': o.starved = number(optarg); break;
		case 'd': o.dir = optarg; break;
		case 'h': fputs(usage, stdout); exit(0);
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (!o.limit_mib || !o.file_threads || !o.anon_threads)
		exit(2);
}

/* The parent stays outside the cgroup, so that it can always clean up. */
WORKLOAD_MAIN(reclaim_storm)
{
	struct wl_cgroup cg;
	int status = 0, r;
	pid_t child;

	parse(argc, argv);
	/* No SA_RESTART: waitpid() below must return, so that the signal is passed on. */
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		r = wl_cgroup_enter(&cg, "stallbox-storm", o.limit_mib * MIB);
		if (r < 0) {
			fprintf(stderr, "error: cannot make a memory cgroup: %s\n", strerror(-r));
			_exit(77);
		}
		r = storm();
		fflush(stdout);
		wl_cgroup_leave(&cg);
		_exit(r);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		kill(child, SIGTERM);
	/* The kernel's OOM killer may have taken the child: its group is still to be removed. */
	snprintf(cg.path, sizeof(cg.path), "/sys/fs/cgroup/memory/stallbox-storm.%d", child);
	rmdir(cg.path);
	snprintf(cg.path, sizeof(cg.path), "/sys/fs/cgroup/stallbox-storm.%d", child);
	rmdir(cg.path);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
