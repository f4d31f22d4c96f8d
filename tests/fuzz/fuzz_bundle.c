// SPDX-License-Identifier: BSD-2-Clause
/* Anything at all as a bundle: opened, walked, every event and stack touched. */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include "format/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int touch(const struct bundle_event *e, void *ctx)
{
	struct bundle *b = ctx;
	const struct bundle_stack *s = bundle_stack(b, e->kstack);
	const char *module;
	uint64_t offset;

	for (uint32_t i = 0; i < s->n; i++)
		bundle_symbolize(b, s->process, s->addr[i], &module, &offset);
	return bundle_thread(b, e->thread)->comm[0] == 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bundle *b = NULL;
	char path[64];
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (bundle_open(path, &b, NULL) == 0)
		bundle_each_event(b, touch, b);
	bundle_close(b);
	close(fd);
	return 0;
}
