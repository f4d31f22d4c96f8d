// SPDX-License-Identifier: BSD-2-Clause
/*
 * LD_PRELOAD=count.so BENCH_COUNTER=FILE COMMAND: how far a load has come, while it runs. Every read() or recv() that
 * brought something is one answer or one message; FILE, 4096 bytes, has a number for each CPU, modulo 64, a cache line
 * apart, and their sum is what counts. For all processes that COMMAND starts.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS 64
#define WORDS_APART 8

static uint64_t *slot;
static ssize_t (*next_read)(int fd, void *buf, size_t len);
static ssize_t (*next_recv)(int fd, void *buf, size_t len, int flags);

__attribute__((constructor)) static void find(void)
{
	const char *path = getenv("BENCH_COUNTER");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *m = fd < 0 ? MAP_FAILED :
		  mmap(NULL, SLOTS * WORDS_APART * sizeof(*slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	next_read = dlsym(RTLD_NEXT, "read");
	next_recv = dlsym(RTLD_NEXT, "recv");
	if (fd >= 0)
		close(fd);
	if (m != MAP_FAILED)
		slot = m;
}

static ssize_t count(ssize_t got)
{
	if (got > 0 && slot)
		__atomic_add_fetch(&slot[(sched_getcpu() & (SLOTS - 1)) * WORDS_APART], 1, __ATOMIC_RELAXED);
	return got;
}

ssize_t read(int fd, void *buf, size_t len)
{
	if (!next_read) /* some library's constructor comes before ours */
		find();
	return count(next_read(fd, buf, len));
}

ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	if (!next_recv)
		find();
	return count(next_recv(fd, buf, len, flags));
}
