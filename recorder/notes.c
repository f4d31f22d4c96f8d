// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/notes.h"

#include <fcntl.h>

size_t notes_build_id(const char *path, uint8_t *ret, size_t len)
{
	uint8_t buf[4096];
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf));
	size_t off = 0;

	while (n > 0 && off + 12 <= (size_t)n) {
		uint32_t h[3];
		size_t name, desc;

		memcpy(h, buf + off, sizeof(h));
		name = (h[0] + 3u) & ~3u;
		desc = (h[1] + 3u) & ~3u;
		if (h[0] > (size_t)n || h[1] > (size_t)n || off + 12 + name + desc > (size_t)n)
			break;
		if (h[2] == 3 && h[0] == 4 && !memcmp(buf + off + 12, "GNU", 4) && h[1] <= len) {
			memcpy(ret, buf + off + 12 + name, h[1]);
			return h[1];
		}
		off += 12 + name + desc;
	}
	return 0;
}
