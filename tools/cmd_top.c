// SPDX-License-Identifier: BSD-2-Clause
/* stallbox top: who used and waited for what, before and after the trigger side by side. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/usage.h"

static const struct opt_command command = {
	"top", "BUNDLE",
	"Print who used and waited for what, before and after the trigger side by side, and the\n"
	"threads' states at the freeze.",
	{ "stallbox top --since -10s X.stall.pb.zst",
	  "stallbox top --by thread --sort d --json X.stall.pb.zst | jq -s '.[0]'" },
};

enum form { PERCENT, SECONDS, PAGES };

static const struct column {
	const char *key, *json, *title; /* of --sort; of JSON; of the table */
	enum usage_value value;
	enum form form;
	bool wide; /* only with --wide */
} columns[] = {
	{ "usr", "usr", "%USR", USAGE_USR, PERCENT, false },
	{ "sys", "sys", "%SYS", USAGE_SYS, PERCENT, false },
	{ "d", "d", "D STATE", USAGE_D, SECONDS, false },
	{ "runq", "runq", "RUN QUEUE", USAGE_RUNQ, SECONDS, false },
	{ "s", "s", "SLEEP", USAGE_S, SECONDS, false },
	{ "other", "other", "OTHER OFF", USAGE_OTHER, SECONDS, true },
	{ "reclaim", "reclaim", "RECLAIM", USAGE_RECLAIM, SECONDS, false },
	{ "scanned", "scanned", "SCANNED", USAGE_SCANNED, PAGES, false },
	{ "reclaimed", "reclaimed", "RECLAIMED", USAGE_RECLAIMED, PAGES, false },
	{ "lock-wait", "lock_wait", "LOCK WAIT", USAGE_LOCK_WAIT, SECONDS, false },
	{ "mmap-wait", "mmap_wait", "MMAP WAIT", USAGE_MMAP_WAIT, SECONDS, true },
	{ "lock-hold", "lock_hold", "MMAP HOLD", USAGE_LOCK_HOLD, SECONDS, false },
};
#define SORT_LIST "busy, usr, sys, d, runq, s, other, reclaim, scanned, reclaimed, lock-wait, mmap-wait, lock-hold"

struct row {
	uint32_t id;
	uint64_t score;
};

static uint64_t both(const struct usage *g, enum usage_value k)
{
	uint64_t a = g->v[USAGE_BEFORE][k], b = g->v[USAGE_AFTER][k];

	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* Everything but sleep that was meant: CPU time, D state, run queue; also what has not ended. */
static uint64_t busy(const struct usage *g)
{
	static const enum usage_value parts[] = { USAGE_USR, USAGE_SYS, USAGE_D, USAGE_RUNQ };
	uint64_t sum = g->longest_d_ns;

	for (size_t i = 0; i < SB_ARRAY_SIZE(parts); i++) {
		uint64_t v = both(g, parts[i]);

		sum = v > UINT64_MAX - sum ? UINT64_MAX : sum + v;
	}
	return sum;
}

static int higher(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void put_amount(char *ret, size_t len, enum form form, uint64_t v, uint64_t span_ns)
{
	static const char *const units[] = { "", "K", "M", "G", "T", "P", "E" };
	double d = (double)v;
	size_t u = 0;

	if (!v || !span_ns) {
		snprintf(ret, len, "%s", v ? "?" : "-");
	} else if (form == PERCENT) {
		d = 100.0 * d / (double)span_ns;
		snprintf(ret, len, d < 100 ? "%.1f" : "%.0f", d);
	} else if (form == SECONDS) {
		snprintf(ret, len, d < 1e9 ? "%.0fms" : d < 1e11 ? "%.1fs" : "%.0fs", d < 1e9 ? d / 1e6 : d / 1e9);
	} else {
		for (; d >= 1000 && u + 1 < SB_ARRAY_SIZE(units); d /= 1000)
			u++;
		snprintf(ret, len, u && d < 100 ? "%.1f%s" : "%.0f%s", d, units[u]);
	}
}

/* "D12 R3 S40 5.1s": threads by state, and how long the longest has been in D state. */
static void put_freeze(char *ret, size_t len, const struct usage *g)
{
	size_t at = 0;
	const struct {
		char letter;
		uint32_t n;
	} s[] = { { 'D', g->n_d }, { 'R', g->n_r }, { 'S', g->n_s }, { '+', g->n_other } };

	ret[0] = '\0';
	for (size_t i = 0; i < SB_ARRAY_SIZE(s); i++) {
		if (s[i].n && at < len)
			at += (size_t)snprintf(ret + at, len - at, "%s%c%u", at ? " " : "", s[i].letter, s[i].n);
	}
	if (g->longest_d_ns && at < len)
		snprintf(ret + at, len - at, " %.1fs", (double)g->longest_d_ns / 1e9);
	else if (!at)
		snprintf(ret, len, "gone");
}

static void put_row(const struct usages *u, const struct usage *g, const char *label, const bool *shown)
{
	char name[64], freeze[40], a[24], b[24];
	size_t n = escape_copy(name, sizeof(name), ESCAPE_TERMINAL, label);

	put_freeze(freeze, sizeof(freeze), g);
	/* The end of a path says more than its beginning. */
	printf("%-24.24s %-17s", *label == '/' && n > 24 ? name + n - 24 : name, freeze);
	for (size_t i = 0; i < SB_ARRAY_SIZE(columns); i++) {
		if (!shown[i])
			continue;
		put_amount(a, sizeof(a), columns[i].form, g->v[USAGE_BEFORE][columns[i].value], u->span_ns[USAGE_BEFORE]);
		put_amount(b, sizeof(b), columns[i].form, g->v[USAGE_AFTER][columns[i].value], u->span_ns[USAGE_AFTER]);
		printf(" |%6s %6s", a, b);
	}
	putchar('\n');
}

static void put_table(const struct usages *u, const struct row *rows, size_t n, size_t top, const char *what, bool wide)
{
	bool shown[SB_ARRAY_SIZE(columns)];

	printf("before: %.1f s up to the trigger; after: %.1f s. %% of one CPU. At the freeze: threads in state D, R, S, "
	       "others (+), and for how long the longest had been in D state\n\n", (double)u->span_ns[USAGE_BEFORE] / 1e9, (double)u->span_ns[USAGE_AFTER] / 1e9);
	printf("%-24s %-17s", "", "");
	for (size_t i = 0; i < SB_ARRAY_SIZE(columns); i++) {
		shown[i] = both(&u->total, columns[i].value) && (wide || !columns[i].wide);
		if (shown[i])
			printf(" | %-12s", columns[i].title);
	}
	printf("\n%-24s %-17s", what, "AT THE FREEZE");
	for (size_t i = 0; i < SB_ARRAY_SIZE(columns); i++)
		printf(shown[i] ? " |%6s %6s" : "", "before", "after");
	putchar('\n');
	put_row(u, &u->total, "all", shown);
	while (n && !rows[n - 1].score && !u->of[rows[n - 1].id - 1].n_d) /* neither did nor waited for anything */
		n--;
	for (size_t i = 0; i < n && i < top; i++)
		put_row(u, &u->of[rows[i].id - 1], group_label(&u->groups, rows[i].id), shown);
	if (n > top)
		printf("and %zu more\n", n - top);
}

static void put_json(const struct usages *u, const struct usage *g, const char *label)
{
	static const char *const sides[] = { "before", "after" };

	printf("{\"group\":\"");
	escape_put(stdout, ESCAPE_JSON, label);
	printf("\",\"freeze\":{\"D\":%u,\"R\":%u,\"S\":%u,\"other\":%u,\"longest_d_ns\":%llu,\"longest_r_ns\":%llu}", g->n_d,
	       g->n_r, g->n_s, g->n_other, (unsigned long long)g->longest_d_ns, (unsigned long long)g->longest_r_ns);
	for (int s = 0; s < USAGE_SIDES; s++) {
		printf(",\"%s\":{\"window_ns\":%llu,\"samples\":%llu", sides[s], (unsigned long long)u->span_ns[s],
		       (unsigned long long)g->v[s][USAGE_SAMPLES]);
		for (size_t i = 0; i < SB_ARRAY_SIZE(columns); i++)
			printf(",\"%s%s\":%llu", columns[i].json, columns[i].form == PAGES ? "_pages" : "_ns",
			       (unsigned long long)g->v[s][columns[i].value]);
		putchar('}');
	}
	printf("}\n");
}

/* -EINVAL: no column. */
static int parse_sort(const char *text, enum usage_value *ret)
{
	*ret = USAGE_VALUES;
	if (!strcmp(text, "busy"))
		return 0;
	for (size_t i = 0; i < SB_ARRAY_SIZE(columns); i++) {
		if (!strcmp(text, columns[i].key)) {
			*ret = columns[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static int show(const struct usages *u, enum usage_value sort, uint64_t top, const char *what, bool wide, bool json)
{
	_cleanup_free_ struct row *rows = calloc(u->n + 1u, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < u->n; i++)
		rows[i] = (struct row){ i + 1, sort == USAGE_VALUES ? busy(&u->of[i]) : both(&u->of[i], sort) };
	qsort(rows, u->n, sizeof(*rows), higher);
	if (!json) {
		put_table(u, rows, u->n, (size_t)top, what, wide);
		return 0;
	}
	put_json(u, &u->total, "");
	for (uint32_t i = 0; i < u->n; i++)
		put_json(u, &u->of[rows[i].id - 1], group_label(&u->groups, rows[i].id));
	return 0;
}

int cmd_top(int argc, char **argv)
{
	static const char *const titles[GROUP_KINDS] = { "THREAD NAME", "THREAD", "PROCESS", "CGROUP", "CPU" };
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	SB_CLEANUP(usages_done) struct usages u = {};
	enum group_by by = GROUP_PROCESS;
	enum usage_value sort;
	const char *by_text = "process", *sort_text = "busy";
	uint64_t top = 20;
	bool json = false, wide = false;
	int first, r;
	const struct opt opts[] = {
		{ "by", "WHAT", OPT_TEXT, &by_text, GROUP_LIST " (default process)" },
		{ "sort", "COLUMN", OPT_TEXT, &sort_text, "busy (default: CPU, D state and run queue) or a column" },
		{ "top", "N", OPT_NUMBER, &top, "rows (default 20)" },
		{ "wide", NULL, OPT_FLAG, &wide, "with the columns OTHER OFF and MMAP WAIT" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object per row, the sum of all first" },
		FILTER_OPTIONS_NO_KIND(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (group_parse(by_text, &by) < 0)
		return opt_usage(&command, "--by '%s': expected " GROUP_LIST, by_text);
	if (parse_sort(sort_text, &sort) < 0)
		return opt_usage(&command, "--sort '%s': expected " SORT_LIST, sort_text);
	r = filter_open(&filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	r = usages_count(&u, b, &filter, by);
	if (r == 0)
		r = show(&u, sort, top, titles[by], wide, json);
	if (r < 0)
		fprintf(stderr, "error: cannot count: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
