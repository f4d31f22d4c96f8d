// SPDX-License-Identifier: BSD-2-Clause
/* Makes a pinned recorder look like one of another version: pinpoke BPFFS layout N */
#include <bpf/bpf.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bpf/ring.h"
#include "format/base.h"

int main(int argc, char **argv)
{
	char path[300];
	struct sb_control *c;
	int fd;

	if (argc != 4 || strcmp(argv[2], "layout")) {
		fprintf(stderr, "usage: pinpoke BPFFS layout N\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/stallbox/control", argv[1]);
	fd = bpf_obj_get(path);
	c = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED) {
		perror(path);
		return 1;
	}
	c->layout_version = (uint32_t)atoi(argv[3]);
	return 0;
}
