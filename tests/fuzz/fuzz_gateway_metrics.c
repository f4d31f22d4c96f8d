// SPDX-License-Identifier: BSD-2-Clause
/*
 * Answers of an agent of any version, and metrics that another program has written, as what /metrics tells. The first
 * byte says which: s status, c counters, t triggers, u the uploader's file.
 */
#include "gateway/metrics.h"
#include "tests/fuzz/target.h"

/* Lines of the text format: a comment, or a name, labels and a value, and nothing that a terminal obeys. */
static void check_lines(char *text)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		if (!*line || *line == '#')
			continue;
		must(!strncmp(line, "stallbox", 8), "names are ours");
		must(strchr(line, ' ') && strrchr(line, ' ')[1], "a line has a value");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *answer[AGENT_ANSWERS] = {};
	char *text = NULL, path[64];
	int which, fd = -1;
	size_t len;
	FILE *f;

	if (size < 1 || size > 65536)
		return 0;
	f = open_memstream(&text, &len);
	must(f != NULL, "a stream");
	which = data[0] == 's' ? AGENT_STATUS : data[0] == 'c' ? AGENT_COUNTERS : data[0] == 't' ? AGENT_TRIGGERS : -1;
	if (data[0] == 'u') {
		fd = file_of(data + 1, size - 1);
		metrics_put_upload(f, path_of(fd, path));
		close(fd);
	} else if (which >= 0) {
		answer[which] = json_loadb((const char *)data + 1, size - 1, 0, NULL);
		metrics_put_agent(f, answer);
		json_decref(answer[which]);
	}
	fclose(f);
	check_lines(text);
	free(text);
	return 0;
}
