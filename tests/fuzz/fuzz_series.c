// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's counters: any text in the files of /proc and of a cgroup that are read every second. The first byte says
 * whether the cgroup is of v1 (bit 0); a NUL ends a file, in the order of files[].
 */
#include "recorder/series.c"
#include "tests/fuzz/target.h"

#define CPUS 3
#define READINGS 3
#define FILES 13

static void each_file(struct reader *r, void (*fn)(struct source *, const char **text), const char **text)
{
	struct group *g = &r->group[0];
	struct source *const files[FILES] = {
		&r->stat, &r->loadavg, &r->vmstat, &r->meminfo, &r->psi[0], &r->psi[1], &r->psi[2],
		&g->cpu, &g->throttle, &g->current, &g->max, &g->events, &g->pressure,
	};

	for (size_t i = 0; i < FILES; i++)
		fn(files[i], text);
}

/* The next text of all; the last one stands for those that are missing. */
static void fill(struct source *f, const char **text)
{
	f->fd = file_of(*text, strlen(*text));
	if ((*text)[strlen(*text) + 1])
		*text += strlen(*text) + 1;
}

static void empty(struct source *f, const char **text)
{
	(void)text;
	source_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct reader r;
	static char buffer[TEXT];
	struct series *s;
	const char *at;
	char *text;

	if (size < 1 || size > 8 * TEXT)
		return 0;
	text = malloc(size + 1);
	must(text != NULL, "memory for texts");
	memcpy(text, data + 1, size - 1);
	text[size - 1] = text[size] = '\0';
	at = text;
	must(series_new(CPUS, data[0] & 1, NULL, 0, &s) == 0, "memory for series");
	r = (struct reader){ .s = s, .text = buffer };
	strcpy(r.group[0].path, "/g");
	each_file(&r, fill, &at);
	for (int i = 0; i < READINGS; i++) {
		take_watched(&r);
		take_host(&r);
		take_group(&r, &r.group[0]);
		s->n++;
	}
	each_file(&r, empty, &at);
	series_free(s);
	free(text);
	return 0;
}
