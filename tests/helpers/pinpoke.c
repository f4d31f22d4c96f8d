// SPDX-License-Identifier: BSD-2-Clause
/*
 * Changes the words of a pinned recorder as somebody else would:
 *
 *   pinpoke BPFFS layout N   it is one of another version
 *   pinpoke BPFFS seal       a condition in the kernel has sealed the bank, and its message was lost
 *   pinpoke BPFFS args PID   the process's arguments are another's, and its exec was not seen
 */
#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bpf/ring.h"
#include "format/base.h"

static int other_args(const char *bpffs, uint32_t pid)
{
	char path[300];
	uint32_t i = pid & (SB_TASKS - 1);
	struct sb_task e;
	int fd;

	snprintf(path, sizeof(path), "%s/stallbox/tasks", bpffs);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_map_lookup_elem(fd, &i, &e)) {
		perror(path);
		return 1;
	}
	if (e.tid != pid || !e.args_len) {
		fprintf(stderr, "%s: no arguments of %u\n", path, pid);
		return 1;
	}
	memset(e.args, 'x', e.args_len);
	e.execs++;
	return bpf_map_update_elem(fd, &i, &e, BPF_EXIST) ? 1 : 0;
}

int main(int argc, char **argv)
{
	char path[300];
	struct sb_control *c;
	int fd;

	if (argc == 4 && !strcmp(argv[2], "args"))
		return other_args(argv[1], (uint32_t)atoi(argv[3]));
	if (!(argc == 4 && !strcmp(argv[2], "layout")) && !(argc == 3 && !strcmp(argv[2], "seal"))) {
		fprintf(stderr, "usage: pinpoke BPFFS layout N | args PID | seal\n");
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
