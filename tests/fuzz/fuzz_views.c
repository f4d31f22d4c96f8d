// SPDX-License-Identifier: BSD-2-Clause
/* Views of a bundle. The first byte says which one, 255 all; the rest is the plain text of the bundle's one frame. */
#include "tests/fuzz/bundle.h"
#include "tests/helpers/views.h"

#define ALL 255

static void look(const struct view *v, const char *path)
{
	int r = view_run(v, path);

	must(r >= SB_EXIT_OK && r <= SB_EXIT_NOT_FOUND, "an exit code of ours");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	int fd;

	if (size < 2 || size > PUT_MAX)
		return 0;
	fd = file_of_frame(data + 1, size - 1);
	path_of(fd, path);
	for (size_t i = 0; i < SB_ARRAY_SIZE(views); i++) {
		if (data[0] % SB_ARRAY_SIZE(views) == i || data[0] == ALL)
			look(&views[i], path);
	}
	close(fd);
	return 0;
}
