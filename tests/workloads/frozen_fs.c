// SPDX-License-Identifier: BSD-2-Clause
/* Threads in D state on a file system that is frozen: an ext4 of its own on a loop device, in a mount namespace of its
 * own. A child that freezes and thaws it outlives nobody: when its parent dies it thaws and ends. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "tests/workloads/workload.h"

static const char usage[] =
	"usage: frozen_fs N SECONDS\n"
	"\n"
	"N threads write to a file system that is frozen for SECONDS, and stand in D state. SIGTERM,\n"
	"SIGINT and SIGHUP end it early. Needs root, a loop device, mkfs.ext4 and 64 MiB in /tmp.\n"
	"Prints 'ready tids=T,...' when all are in state D, and at the end, times of CLOCK_MONOTONIC:\n"
	"  pid=P threads=N begin_ns=NS end_ns=NS shortest_ms=MS longest_ms=MS\n"
	"\n"
	"examples:\n"
	"  frozen_fs 12 8\n";

#define IMAGE_BYTES (64l << 20)
#define READY_TIMEOUT_MS 60000

static struct {
	int image, loop, dir; /* dir: of the mounted file system */
	char path[64];
} fs = { -1, -1, -1, "/tmp/frozen_fs.XXXXXX" };
static volatile pid_t *tids;
static uint64_t *stalled_ns;
static atomic_bool go;

static int run(const char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The device forgets the file when its last user is gone, and the file has no name. */
static void make_device(char *device, size_t len)
{
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n;
	char image[] = "/tmp/frozen_fs_image.XXXXXX";

	fs.image = mkostemp(image, O_CLOEXEC);
	if (fs.image < 0 || unlink(image) < 0 || ftruncate(fs.image, IMAGE_BYTES) < 0)
		die("cannot make an image in /tmp");
	n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(device, len, "/dev/loop%d", n);
	fs.loop = n < 0 ? -1 : open(device, O_RDWR | O_CLOEXEC);
	if (fs.loop < 0 || ioctl(fs.loop, LOOP_SET_FD, fs.image) < 0 || ioctl(fs.loop, LOOP_SET_STATUS64, &info) < 0)
		cannot_run("there is no loop device");
	close(control);
}

static void mount_it(void)
{
	char device[32];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cannot_run("cannot make a mount namespace");
	make_device(device, sizeof(device));
	if (run((const char *const[]){ "mkfs.ext4", "-q", "-F", device, NULL })) {
		errno = ENOENT;
		cannot_run("mkfs.ext4 does not work");
	}
	if (!mkdtemp(fs.path))
		die("cannot make a directory");
	if (mount(device, fs.path, "ext4", 0, NULL) < 0) {
		int e = errno;

		rmdir(fs.path);
		errno = e;
		cannot_run("cannot mount an ext4");
	}
	fs.dir = open(fs.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	umount2(fs.path, MNT_DETACH); /* it lives on as long as the directory is open */
	rmdir(fs.path);
	close(fs.loop);
	if (fs.dir < 0)
		die("cannot open the file system");
}

static WL_NOINLINE void write_a_page(int fd)
{
	static const char page[4096];

	WL_SYSCALL4(SYS_write, fd, page, sizeof(page), 0);
}

static void *writer(void *arg)
{
	unsigned int idx = (unsigned int)(uintptr_t)arg;
	char name[16];
	uint64_t begin;
	int fd;

	snprintf(name, sizeof(name), "%u", idx);
	/* Opened for writing before it was frozen: creating a file would wait, too. */
	fd = openat(fs.dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	tids[idx] = wl_gettid();
	while (!go)
		usleep(1000);
	begin = now_ns();
	write_a_page(fd);
	stalled_ns[idx] = now_ns() - begin;
	return NULL;
}

static void on_death(int sig)
{
	(void)sig;
}

/* Frozen for as long as this process lives. The thaw comes also when its parent is killed. */
static pid_t keep_frozen(int ready[2])
{
	pid_t pid = fork();
	char c;

	if (pid)
		return pid;
	/* A parent that is killed keeps its files open for as long as its threads stand: it is its death that tells. */
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = on_death }, NULL);
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	close(ready[1]);
	c = ioctl(fs.dir, FIFREEZE, 0) == 0 ? 'y' : 'n';
	if (write(ready[0], &c, 1) == 1 && read(ready[0], &c, 1) < 0 && errno != EINTR) /* until the other end is closed */
		perror("frozen_fs");
	ioctl(fs.dir, FITHAW, 0);
	_exit(0);
}

WORKLOAD_MAIN(frozen_fs)
{
	uint64_t length_ns, begin_ns, end_ns, min_ns = UINT64_MAX, max_ns = 0;
	pthread_t *threads;
	struct timespec ts;
	unsigned int cnt;
	int ready[2];
	sigset_t set;
	bool stuck;
	pid_t child;
	char c;

	check_args(argc, argv, 2, 2, usage);
	cnt = (unsigned int)parse_number("N", argv[1], 1, 1000);
	length_ns = parse_seconds("SECONDS", argv[2], 86400);
	set = block_signals();
	mount_it();
	threads = calloc(cnt, sizeof(*threads));
	tids = calloc(cnt, sizeof(*tids));
	stalled_ns = calloc(cnt, sizeof(*stalled_ns));
	if (!threads || !tids || !stalled_ns || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ready) < 0)
		die("cannot start %u threads", cnt);
	for (unsigned int i = 0; i < cnt; i++) {
		errno = pthread_create(&threads[i], NULL, writer, (void *)(uintptr_t)i);
		if (errno)
			die("cannot start thread %u", i);
		while (!tids[i])
			usleep(100);
	}
	child = keep_frozen(ready);
	close(ready[0]);
	if (child < 0 || read(ready[1], &c, 1) != 1 || c != 'y')
		die("cannot freeze the file system");
	begin_ns = now_ns();
	go = true;
	stuck = wait_for_state(tids, cnt, 'D', READY_TIMEOUT_MS);
	if (stuck) {
		print_tids(tids, cnt);
		ts.tv_sec = (time_t)(length_ns / NSEC_PER_SEC);
		ts.tv_nsec = (long)(length_ns % NSEC_PER_SEC);
		sigtimedwait(&set, NULL, &ts);
	}
	end_ns = now_ns();
	close(ready[1]);
	waitpid(child, NULL, 0);
	for (unsigned int i = 0; i < cnt; i++) {
		pthread_join(threads[i], NULL);
		min_ns = stalled_ns[i] < min_ns ? stalled_ns[i] : min_ns;
		max_ns = stalled_ns[i] > max_ns ? stalled_ns[i] : max_ns;
	}
	printf("pid=%d threads=%u begin_ns=%llu end_ns=%llu shortest_ms=%llu longest_ms=%llu\n", getpid(), cnt, (unsigned long long)begin_ns,
	       (unsigned long long)end_ns, (unsigned long long)(min_ns / NSEC_PER_MSEC), (unsigned long long)(max_ns / NSEC_PER_MSEC));
	return stuck ? 0 : 1;
}
