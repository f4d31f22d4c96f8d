// SPDX-License-Identifier: BSD-2-Clause
/* Anything at all as a bundle's file: frames found, opened, walked, every event and stack touched, and recovered. */
#include "tests/fuzz/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = file_of(data, size);
	struct bundle_damage damage;
	char path[64];
	FILE *null;

	touch_bundle(path_of(fd, path));
	null = fopen("/dev/null", "w");
	must(null != NULL, "/dev/null");
	bundle_recover(path, null, &damage, NULL);
	fclose(null);
	return 0;
}
