// SPDX-License-Identifier: BSD-2-Clause
/* Runs a fuzz target over every file of the directories named: a regression test, as TAP. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	static uint8_t data[1 << 22];
	int n = 0;

	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		struct dirent *e;

		while (d && (e = readdir(d))) {
			char path[4096];
			uint8_t *copy;
			size_t len;
			FILE *f;

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			f = fopen(path, "r");
			if (!f)
				continue;
			len = fread(data, 1, sizeof(data), f);
			fclose(f);
			copy = malloc(len ? len : 1); /* a sanitizer sees who reads behind its end */
			if (!copy)
				return 1;
			memcpy(copy, data, len);
			LLVMFuzzerTestOneInput(copy, len);
			free(copy);
			printf("ok %d - %s\n", ++n, e->d_name);
		}
		if (d)
			closedir(d);
	}
	printf("1..%d\n", n);
	return n ? 0 : 1;
}
