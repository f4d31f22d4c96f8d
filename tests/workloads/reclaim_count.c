// SPDX-License-Identifier: BSD-2-Clause
/* Memcg reclaim on demand: one thread reads a file larger than its memory cgroup, so that the
 * kernel reclaims in a countable number of short spans. With "holes" it is read without being
 * written first, page by page: as many spans a second as the kernel can do. */
#include <stdbool.h>
#include <stdlib.h>

#include "tests/workloads/cgroup.h"

int main(int argc, char **argv)
{
	unsigned long mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	unsigned long limit = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	bool holes = argc > 4 && !strcmp(argv[4], "holes");
	const char *dir = argc > 3 ? argv[3] : ".";
	char path[512], *block = malloc(1 << 20);
	struct wl_cgroup cg;
	unsigned long long sum = 0;
	int fd, r;

	if (!mib || !limit || !block) {
		fprintf(stderr, "usage: reclaim_count MIB LIMIT_MIB [DIR on a real disk [holes]]\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/.reclaim_count.%d", dir, getpid());
	r = wl_cgroup_enter(&cg, "stallbox-count", (unsigned long long)limit << 20);
	if (r < 0) {
		fprintf(stderr, "error: cannot make a memory cgroup: %s\n", strerror(-r));
		return 77;
	}
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		fprintf(stderr, "error: cannot create '%s': %s\n", path, strerror(errno));
		wl_cgroup_leave(&cg);
		return 1;
	}
	unlink(path);
	memset(block, 3, 1 << 20);
	if (holes && (ftruncate(fd, (off_t)mib << 20) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM))) {
		fprintf(stderr, "error: cannot make a file of %lu MiB of holes\n", mib);
		wl_cgroup_leave(&cg);
		return 1;
	}
	for (unsigned long i = 0; i < mib && !holes; i++)
		sum += (unsigned long long)write(fd, block, 1 << 20);
	fsync(fd);
	for (unsigned long i = 0; i < mib; i++)
		sum += (unsigned long long)pread(fd, block, 1 << 20, (off_t)i << 20);
	close(fd);
	wl_cgroup_leave(&cg);
	printf("tid=%d bytes=%llu\n", getpid(), sum);
	return 0;
}
