// SPDX-License-Identifier: BSD-2-Clause
/*
 * Code made at run time, with a frame pointer as such code has, and a list of its one function for
 * perf: main calls jitted_outer, which calls block. jit perf-map|jitdump|memory SECONDS; memory: a
 * list for perf, too, of code in shared memory, as .NET has it
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline, noclone)) static void block(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	__asm__ volatile("");
}

static void write_map(const void *code, size_t len)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	f = fopen(path, "w");
	if (!f)
		exit(1);
	fprintf(f, "%lx %zx jitted_outer\n", (unsigned long)code, len);
	fclose(f);
}

/* tools/perf/Documentation/jitdump-specification.txt */
static void write_dump(const void *code, size_t len)
{
	static const char name[] = "jitted_outer";
	struct {
		uint32_t magic, version, size, mach, pad, pid;
		uint64_t time, flags;
		uint32_t id, total;
		uint64_t load_time;
		uint32_t load_pid, tid;
		uint64_t vma, addr, bytes, index;
	} h = { 0x4A695444, 1, 40, 62, 0, (uint32_t)getpid(), 0, 0, 0, 0, 0, (uint32_t)getpid(), (uint32_t)getpid(),
		(uintptr_t)code, (uintptr_t)code, len, 1 };
	char path[64];
	int fd;

	h.total = (uint32_t)(16 + 40 + sizeof(name) + len);
	snprintf(path, sizeof(path), "/tmp/jit-%d.dump", (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, &h, sizeof(h)) != sizeof(h) || write(fd, name, sizeof(name)) != sizeof(name) ||
	    write(fd, code, len) != (ssize_t)len ||
	    mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		exit(1);
}

static void *code_in_memory_file(void)
{
	int fd = memfd_create("code", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		return MAP_FAILED;
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
}

int main(int argc, char **argv)
{
#if defined(__x86_64__)
	/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
	static const uint8_t code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
	void (*outer)(void (*)(void));
	time_t end;
	void *p;

	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "memory"))
		p = code_in_memory_file();
	else
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 1;
	memcpy(p, code, sizeof(code));
	if (!strcmp(argv[1], "jitdump"))
		write_dump(p, sizeof(code));
	else
		write_map(p, sizeof(code));
	memcpy(&outer, &p, sizeof(outer));
	end = time(NULL) + atoi(argv[2]);
	while (time(NULL) < end)
		outer(block);
	return 0;
#else
	(void)argc;
	(void)argv;
	(void)write_map;
	(void)write_dump;
	(void)code_in_memory_file;
	(void)block;
	return 77;
#endif
}
