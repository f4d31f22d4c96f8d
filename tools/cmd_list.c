// SPDX-License-Identifier: BSD-2-Clause
/* stallbox list: the bundles of a directory, newest first. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/commands.h"
#include "tools/escape.h"

#define DEFAULT_DIR "/var/lib/stallbox/captures"
#define SUFFIX ".stall.pb.zst"

static const struct opt_command command = {
	"list", "[DIR]", "List the bundles of a directory (default " DEFAULT_DIR "), newest first.",
	{ "stallbox list", "stallbox list --json /srv/bundles" },
};

static int is_bundle(const struct dirent *e)
{
	size_t n = strlen(e->d_name), s = strlen(SUFFIX);

	return e->d_name[0] != '.' && n > s && !strcmp(e->d_name + n - s, SUFFIX);
}

static void list_one(const char *dir, const char *name, bool json)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	const struct bundle_header *h;
	const struct bundle_damage *d;
	struct bundle_error err = {};
	char path[4096], when[32] = "?";
	const char *state;
	uint64_t events = 0;
	struct stat st = {};
	struct tm tm;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (stat(path, &st) == 0)
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&st.st_mtime, &tm));
	if (bundle_open(path, &b, &err) < 0) {
		state = "unreadable";
		h = NULL;
	} else {
		h = bundle_header(b);
		d = bundle_damage(b);
		state = d->bad_frames || d->missing_chunks || d->bad_references ? "damaged" :
			d->complete ? "complete" : "unfinished";
		for (int k = BUNDLE_ON_CPU; k < BUNDLE_KIND_COUNT; k++)
			events += bundle_n_events(b, (enum bundle_kind)k);
	}
	if (json) {
		printf("{\"file\":\"");
		escape_put(stdout, ESCAPE_JSON, name);
		printf("\",\"time\":\"%s\",\"bytes\":%lld,\"state\":\"%s\",\"events\":%llu,\"trigger\":\"", when,
		       (long long)st.st_size, state, (unsigned long long)events);
		escape_put(stdout, ESCAPE_JSON, h ? h->trigger.name : "");
		printf("\"}\n");
		return;
	}
	printf("%-20s  %-10s %8.1f KiB %9llu events  ", when, state, (double)st.st_size / 1024,
	       (unsigned long long)events);
	escape_put(stdout, ESCAPE_TERMINAL, h ? h->trigger.name : "-");
	printf("  ");
	escape_put(stdout, ESCAPE_TERMINAL, name);
	putchar('\n');
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
	/* HOST-TIME-TRIGGER: the stamp sorts; hosts may differ, so compare from the stamp on. */
	const char *x = strchr((*a)->d_name, '-'), *y = strchr((*b)->d_name, '-');
	int r = strcmp(y ? y : (*b)->d_name, x ? x : (*a)->d_name);

	return r ? r : strcmp((*a)->d_name, (*b)->d_name);
}

int cmd_list(int argc, char **argv)
{
	const char *dir = NULL;
	struct dirent **names;
	bool json = false;
	int first, n, r;
	const struct opt opts[] = {
		{ "dir", "DIR", OPT_TEXT, &dir, "the directory" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object per line" },
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first + 1 < argc)
		return opt_usage(&command, "more than one directory: '%s'", argv[first + 1]);
	if (first < argc)
		dir = argv[first];
	if (!dir)
		dir = DEFAULT_DIR;
	n = scandir(dir, &names, is_bundle, newest_first);
	if (n < 0) {
		fprintf(stderr, "error: cannot list '%s': %s\n", dir, strerror(errno));
		return errno == ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
	}
	for (int i = 0; i < n; i++) {
		list_one(dir, names[i]->d_name, json);
		free(names[i]);
	}
	free(names);
	if (!n)
		fprintf(stderr, "no bundles in '%s'\n", dir);
	return n ? SB_EXIT_OK : SB_EXIT_NOT_FOUND;
}
