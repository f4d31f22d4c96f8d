// SPDX-License-Identifier: BSD-2-Clause
/*
 * A page fault that does not return, because the FUSE server of the mapped file does not answer:
 * it keeps the lock of its address space, and everybody else of the process queues.
 *
 * Raw protocol of /dev/fuse (include/uapi/linux/fuse.h): one file, no library.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/workloads/convoy.h"

static const char usage[] =
	"usage: fuse_fault read|write|mmap TIMES SECONDS [THREADS [GAP_MS]]\n"
	"\n"
	"One thread faults on a page of a file whose server answers SECONDS later, TIMES times,\n"
	"GAP_MS (default 100) apart; THREADS (default 32) map and fault pages of their own all the\n"
	"time, and queue, as does one writer that changes the mapping of the file itself.\n"
	"  read   the first READ of the page fails, the second gets no answer: a fault lets go\n"
	"         of mmap_lock for its first try alone, so the second is made with it held for\n"
	"         reading, on every kernel\n"
	"  write  the page is being written back, and WRITE gets no answer: page_mkwrite waits\n"
	"         with mmap_lock held for reading, or with the lock of the VMA alone (6.4 and\n"
	"         later); then the writer holds mmap_lock and waits for the VMA\n"
	"  mmap   not a fault: one thread maps 1 GiB of the file, opened for direct I/O, while a page\n"
	"         of it is dirty, and WRITE gets no answer: mmap() waits for the page to be written\n"
	"         back, with mmap_lock held for writing, on every kernel\n"
	"One line per fault, times of CLOCK_MONOTONIC in ns, then the total:\n"
	"  tid=T writer=T bytes=S begin_ns=NS end_ns=NS waiters=N longest_wait_ns=NS\n"
	"  pid=P times=N\n"
	"Exit status 77: this kernel has no FUSE, or no right to mount.\n"
	"\n"
	"examples:\n"
	"  fuse_fault read 1 2\n"
	"  fuse_fault write 5 0.5 8\n";

#define PAGE	  4096u
#define FILE_NODE 2
#define MAX_TIMES 1000
#define MAP_BYTES (1ul << 30)

static struct shared {
	/* The page whose request is to be kept waiting, 0: none; and how often it was read. */
	_Atomic uint64_t page;
	_Atomic unsigned int reads;
	_Atomic uint64_t begin_ns, end_ns; /* while the server kept it waiting */
} *shared;

static struct {
	bool write, maps; /* mode; maps: mmap, whose server waits as for write */
	uint64_t hold_ns;
	unsigned int gap_ms;
	uint64_t bytes;
	int fd, direct_fd; /* the file; maps: the same, of which the kernel keeps no pages */
	char *map;
	_Atomic int writer_tid, holder_tid;
} o;

/* ---- the server: a process of its own ----------------------------------------------- */

static void reply(int fd, uint64_t unique, int error, const void *data, size_t len)
{
	char buf[sizeof(struct fuse_out_header) + PAGE];
	struct fuse_out_header h = { .len = (uint32_t)(sizeof(h) + len), .error = error, .unique = unique };

	memcpy(buf, &h, sizeof(h));
	if (len)
		memcpy(buf + sizeof(h), data, len);
	/* ENOENT: whoever asked is gone. */
	if (write(fd, buf, h.len) < 0 && errno != ENOENT)
		die("cannot answer request %llu", (unsigned long long)unique);
}

static struct fuse_attr attr_of(uint64_t node)
{
	struct fuse_attr a = { .ino = node, .nlink = 1, .blksize = PAGE };

	a.mode = node == FILE_NODE ? S_IFREG | 0600 : S_IFDIR | 0700;
	a.size = node == FILE_NODE ? o.bytes : 0;
	return a;
}

static void keep_waiting(void)
{
	atomic_store(&shared->page, 0);
	atomic_store(&shared->begin_ns, now_ns());
	sleep_ms((unsigned int)(o.hold_ns / NSEC_PER_MSEC));
	atomic_store(&shared->end_ns, now_ns());
}

static void serve_read(int fd, const struct fuse_in_header *in, const struct fuse_read_in *arg)
{
	static const char zero[PAGE];
	uint64_t page = atomic_load(&shared->page);

	if (!o.write && page && arg->offset == page) {
		if (atomic_fetch_add(&shared->reads, 1) == 0) {
			reply(fd, in->unique, -EIO, NULL, 0);
			return;
		}
		keep_waiting();
	}
	reply(fd, in->unique, 0, zero, arg->size < PAGE ? arg->size : PAGE);
}

static void serve_write(int fd, const struct fuse_in_header *in, const struct fuse_write_in *arg)
{
	struct fuse_write_out out = { .size = arg->size };
	uint64_t page = atomic_load(&shared->page);

	if (o.write && page && arg->offset <= page && page < arg->offset + arg->size)
		keep_waiting();
	reply(fd, in->unique, 0, &out, sizeof(out));
}

static void serve_one(int fd, const struct fuse_in_header *in)
{
	const struct fuse_init_in *kernel = (const void *)(in + 1);
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = PAGE };
	struct fuse_entry_out entry = { .nodeid = FILE_NODE, .entry_valid = 3600, .attr_valid = 3600,
					.attr = attr_of(FILE_NODE) };
	struct fuse_attr_out attr = { .attr_valid = 3600, .attr = attr_of(in->nodeid) };
	static uint64_t opened;
	struct fuse_open_out open_out = { .fh = 1 };

	switch (in->opcode) {
	case FUSE_INIT:
		if (kernel->minor < init.minor)
			init.minor = kernel->minor;
		reply(fd, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP: reply(fd, in->unique, 0, &entry, sizeof(entry)); break;
	case FUSE_GETATTR:
	case FUSE_SETATTR: reply(fd, in->unique, 0, &attr, sizeof(attr)); break;
	case FUSE_OPEN:
		open_out.open_flags = opened++ ? FOPEN_DIRECT_IO : 0; /* direct_fd */
		reply(fd, in->unique, 0, &open_out, sizeof(open_out));
		break;
	case FUSE_READ: serve_read(fd, in, (const void *)(in + 1)); break;
	case FUSE_WRITE: serve_write(fd, in, (const void *)(in + 1)); break;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE: reply(fd, in->unique, 0, NULL, 0); break;
	case FUSE_FORGET: /* these want no answer */
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT: break;
	default: reply(fd, in->unique, -ENOSYS, NULL, 0); break;
	}
}

static void serve(int fd)
{
	static char buf[FUSE_MIN_READ_BUFFER + 16 * PAGE] __attribute__((aligned(8)));

	/* When the victim dies, so do we, and the kernel ends all that still waits for an answer. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "fuse-server");
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			_exit(errno == ENODEV ? 0 : 1); /* unmounted */
		serve_one(fd, (const void *)buf);
	}
}

/* ---- the victim --------------------------------------------------------------------- */

/* Over a directory that there is, in a namespace of our own, for as long as it takes to open the file: nothing is made that
 * could stay behind when we are ended in the middle. */
#define MOUNT_POINT "/tmp"

/* Of a new file system the kernel writes the first dirty page at once, in the middle of the touch that made it so: its
 * share of all dirty pages is small. Half of them is enough for ours to stay dirty. */
static void let_stay_dirty(int fd)
{
	static const char *const file[] = { "max_ratio", "min_ratio" }, *const value[] = { "100", "50" };
	char path[64];
	struct stat st;

	if (fstat(fd, &st) < 0)
		die("cannot look at the file");
	for (unsigned int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/%s", major(st.st_dev), minor(st.st_dev), file[i]);
		int ratio = open(path, O_WRONLY | O_CLOEXEC);

		if (ratio < 0 || write(ratio, value[i], strlen(value[i])) < 0)
			cannot_run("cannot write '%s'", path);
		close(ratio);
	}
}

static void mount_file(void)
{
	char options[96];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	pid_t child;

	if (fd < 0)
		cannot_run("cannot open '/dev/fuse'");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cannot_run("cannot make a mount namespace");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("fuse_fault", MOUNT_POINT, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		cannot_run("cannot mount a FUSE file system");
	child = fork();
	if (child < 0)
		die("cannot start the server");
	if (child == 0)
		serve(fd);
	close(fd);
	o.fd = open(MOUNT_POINT "/data", O_RDWR | O_CLOEXEC);
	o.direct_fd = o.maps ? open(MOUNT_POINT "/data", O_RDWR | O_CLOEXEC) : o.fd;
	if (o.fd < 0 || o.direct_fd < 0)
		die("cannot open '%s'", MOUNT_POINT "/data");
	if (o.maps)
		let_stay_dirty(o.fd);
	/* It lives on as long as the file is open. */
	umount2(MOUNT_POINT, MNT_DETACH);
	o.map = mmap(NULL, o.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, o.fd, 0);
	if (o.map == MAP_FAILED)
		die("cannot map '%s'", MOUNT_POINT "/data");
}

static bool wait_until_set(const _Atomic uint64_t *v)
{
	uint64_t end = now_ns() + 60 * NSEC_PER_SEC;

	while (!atomic_load(v)) {
		if (now_ns() > end)
			return false;
		sleep_ms(1);
	}
	return true;
}

/* To write: dirties the page and has it written back, and touches it again. The kernel may be
 * faster and write it back in the middle of the first touch; then that one waits. */
static WL_NOINLINE void fault_on(volatile char *p)
{
	if (!o.write) {
		(void)*p;
		return;
	}
	while (!atomic_load(&shared->begin_ns)) {
		*p = 1;
		if (sync_file_range(o.fd, (char *)p - o.map, PAGE, SYNC_FILE_RANGE_WRITE) < 0)
			die("cannot write back a page");
		sleep_ms(1);
	}
	*p = 2;
}

/* The page is dirty by one touch; the kernel is in no hurry to write it back. Before it maps the file for direct I/O it
 * forgets all pages of it, and this one has to be written first. (Up to 6.15 nothing else of an mmap() waits: pages are
 * copied before they are written back.) */
static WL_NOINLINE void map_direct(volatile char *page)
{
	char *area;

	*page = 1;
	area = mmap(NULL, MAP_BYTES, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, o.direct_fd, 0);
	if (area == MAP_FAILED)
		die("cannot map the file for direct I/O");
	munmap(area, MAP_BYTES);
}

static void *holder(void *arg)
{
	atomic_store(&o.holder_tid, wl_gettid());
	if (o.maps)
		map_direct(arg);
	else
		fault_on(arg);
	return NULL;
}

/* Does the holder stand in its fault? On its way there it may wait for the lock for a moment. */
static bool holder_is_stuck(void)
{
	for (unsigned int looks = 0; looks < 5; looks++) {
		pid_t tid = atomic_load(&o.holder_tid);
		char state = tid ? thread_state(tid) : 0;

		if (state != 'S' && state != 'D')
			return false;
		sleep_ms(10);
	}
	return true;
}

/* Changes the mapping of the file, as soon as the server keeps the fault waiting. */
static void *writer(void *arg)
{
	atomic_store(&o.writer_tid, wl_gettid());
	if (!wait_until_set(&shared->begin_ns))
		return NULL;
	/* Not to be one of those who wait: a thread that ends gives back its stack. */
	if (o.maps) {
		wait_until_set(&shared->end_ns);
		return NULL;
	}
	while (!holder_is_stuck() && !atomic_load(&shared->end_ns))
		sleep_ms(1);
	mprotect(arg, PAGE, PROT_READ);
	return NULL;
}

static void one_fault(unsigned int i)
{
	/* No page has been asked for before. The writer cuts the mapping at the page in front, so
	 * pages are taken from the end: both lie in the same mapping. */
	uint64_t at = o.bytes - (uint64_t)(i + 1) * 2 * PAGE;
	char *before = o.map + at - PAGE;
	pthread_t h, w;

	atomic_store(&shared->begin_ns, 0);
	atomic_store(&shared->end_ns, 0);
	atomic_store(&shared->reads, 0);
	atomic_store(&o.holder_tid, 0);
	sleep_ms(o.gap_ms);
	convoy_reset();
	atomic_store(&shared->page, at);
	if (pthread_create(&w, NULL, writer, before))
		die("cannot start the writer");
	if (pthread_create(&h, NULL, holder, o.map + at))
		die("cannot start the holder");
	if (!wait_until_set(&shared->end_ns))
		die("the server was not asked");
	pthread_join(h, NULL);
	pthread_join(w, NULL);
	mprotect(before, PAGE, PROT_READ | PROT_WRITE);
	convoy_drain(atomic_load(&shared->end_ns));
	printf("tid=%d writer=%d bytes=%lu ", atomic_load(&o.holder_tid), atomic_load(&o.writer_tid), o.maps ? MAP_BYTES : PAGE);
	convoy_report(atomic_load(&shared->begin_ns), atomic_load(&shared->end_ns));
}

WORKLOAD_MAIN(fuse_fault)
{
	unsigned int times, threads = 32;

	check_args(argc, argv, 3, 5, usage);
	if (strcmp(argv[1], "read") && strcmp(argv[1], "write") && strcmp(argv[1], "mmap"))
		bad_usage("mode '%s' is none of read, write and mmap", argv[1]);
	o.maps = !strcmp(argv[1], "mmap");
	o.write = o.maps || !strcmp(argv[1], "write");
	times = (unsigned int)parse_number("TIMES", argv[2], 1, MAX_TIMES);
	o.hold_ns = parse_seconds("SECONDS", argv[3], 3600);
	if (argc > 4)
		threads = (unsigned int)parse_number("THREADS", argv[4], 1, WL_MAX_THREADS);
	o.gap_ms = argc > 5 ? (unsigned int)parse_number("GAP_MS", argv[5], 1, 60000) : 100;
	o.bytes = ((uint64_t)times * 2 + 4) * PAGE;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("cannot map shared memory");
	mount_file();
	convoy.pause_us = 20000;
	convoy_start(threads);
	for (unsigned int i = 0; i < times; i++)
		one_fault(i);
	convoy_stop();
	printf("pid=%d times=%u\n", getpid(), times);
	linger();
	return 0;
}
