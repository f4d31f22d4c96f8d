// SPDX-License-Identifier: BSD-2-Clause
/* stallbox list: the bundles of a directory, newest first. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/client.h"
#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/places.h"

static const struct opt_command command = {
	"list", "[DIR]", "List the bundles of a directory, or of those that the agent keeps, newest first.",
	{ "stallbox list", "stallbox list --json /srv/bundles" },
};

static int is_bundle(const struct dirent *e)
{
	return bundle_looks_like_file(e->d_name);
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
		printf("\",\"directory\":\"");
		escape_put(stdout, ESCAPE_JSON, dir);
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

/* HOST-TIME-TRIGGER: the stamp sorts; hosts may differ, so compare from the stamp on. */
static int compare(const char *a, const char *b)
{
	const char *x = strchr(a, '-'), *y = strchr(b, '-');
	int r = strcmp(y ? y : b, x ? x : a);

	return r ? r : strcmp(a, b);
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
	return compare((*a)->d_name, (*b)->d_name);
}

struct listing {
	struct dirent **names;
	int n, next;
};

/* What all directories have, in one order. */
static int list_all(const struct places *p, struct listing *l, bool json)
{
	int count = 0;

	for (;;) {
		size_t best = p->n;

		for (size_t i = 0; i < p->n; i++) {
			if (l[i].next < l[i].n &&
			    (best == p->n || compare(l[i].names[l[i].next]->d_name, l[best].names[l[best].next]->d_name) < 0))
				best = i;
		}
		if (best == p->n)
			return count;
		list_one(p->dir[best], l[best].names[l[best].next]->d_name, json);
		free(l[best].names[l[best].next++]);
		count++;
	}
}

/* 0, or the exit code when the directory cannot be read. A fallback that is not there has none. */
static int scan(const struct places *p, size_t i, struct listing *ret)
{
	ret->n = scandir(p->dir[i], &ret->names, is_bundle, newest_first);
	if (ret->n >= 0)
		return 0;
	ret->n = 0;
	if (i && errno == ENOENT)
		return 0;
	fprintf(stderr, "error: cannot list '%s': %s\n", p->dir[i], strerror(errno));
	return errno == ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
}

int cmd_list(int argc, char **argv)
{
	const char *dir = NULL, *socket = NULL;
	struct listing l[PLACES_MAX] = {};
	int first, n, r, worst = 0;
	struct places p;
	bool json = false;
	const struct opt opts[] = {
		{ "dir", "DIR", OPT_TEXT, &dir, "the directory" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object per line" },
		CLIENT_SOCKET_OPT(&socket),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first + 1 < argc)
		return opt_usage(&command, "more than one directory: '%s'", argv[first + 1]);
	places_of(&p, first < argc ? argv[first] : dir, socket);
	for (size_t i = 0; i < p.n; i++) {
		r = scan(&p, i, &l[i]);
		worst = SB_MAX(worst, r);
	}
	n = list_all(&p, l, json);
	for (size_t i = 0; i < p.n; i++)
		free(l[i].names);
	if (!n && !worst)
		fprintf(stderr, "no bundles in '%s'\n", p.dir[0]);
	return worst ? worst : n ? SB_EXIT_OK : SB_EXIT_NOT_FOUND;
}
