// SPDX-License-Identifier: BSD-2-Clause
/*
 * Changes the words of a pinned recorder as somebody else would:
 *
 *   pinpoke BPFFS layout N   it is one of another version
 *   pinpoke BPFFS seal       a condition in the kernel has sealed the bank, and its message was lost
 */
#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bpf/ring.h"
#include "format/base.h"

int main(int argc, char **argv)
{
	char path[300];
	struct sb_control *c;
	int fd;

	if (!(argc == 4 && !strcmp(argv[2], "layout")) && !(argc == 3 && !strcmp(argv[2], "seal"))) {
		fprintf(stderr, "usage: pinpoke BPFFS layout N | pinpoke BPFFS seal\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/stallbox/control", argv[1]);
	fd = bpf_obj_get(path);
	c = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED) {
		perror(path);
		return 1;
	}
	if (argc == 4) {
		c->layout_version = (uint32_t)atoi(argv[3]);
		return 0;
	}
	if (c->armed != 1) {
		fprintf(stderr, "%s: not armed\n", path);
		return 1;
	}
	c->armed = 0;
	c->freeze_ns = sb_monotonic_ns();
	c->generation = c->armed_generation + 1;
	return 0;
}
