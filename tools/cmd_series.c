// SPDX-License-Identifier: BSD-2-Clause
/* stallbox series: the counters and gauges of the minutes before the freeze. */
#include <fnmatch.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/filter.h"

static const struct opt_command command = {
	"series", "BUNDLE", "Print what the host's counters and gauges did, one line each, or every value.",
	{ "stallbox series X.stall.pb.zst", "stallbox series --name 'cpu.system' --values X.stall.pb.zst" },
};

struct view {
	uint64_t trigger_ns;
	struct opt_offset since, until;
	const char *name, *scope; /* glob patterns, NULL: all */
};

static bool in_view(const struct view *v, uint64_t ts_ns)
{
	int64_t offset = (int64_t)(ts_ns - v->trigger_ns);

	return !(v->since.set && offset < v->since.ns) && !(v->until.set && offset > v->until.ns);
}

static void put(const char *s)
{
	escape_put(stdout, ESCAPE_TERMINAL, s);
}

/* Counters: how much they grew, and the most in one step. Gauges: lowest, highest, last. */
static void print_summary(const struct view *v, const struct bundle_series *s)
{
	int64_t low = INT64_MAX, high = INT64_MIN, step = 0;
	size_t first = SIZE_MAX, last = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (!in_view(v, s->ts_ns[i]))
			continue;
		if (first != SIZE_MAX && s->value[i] - s->value[last] > step)
			step = s->value[i] - s->value[last];
		first = first == SIZE_MAX ? i : first;
		last = i;
		low = SB_MIN(low, s->value[i]);
		high = SB_MAX(high, s->value[i]);
	}
	if (first == SIZE_MAX)
		return;
	put(s->name);
	if (*s->scope) {
		putchar(' ');
		put(s->scope);
	}
	if (s->counter)
		printf(": grew by %lld %s in %.0f s, at most %lld in one step\n",
		       (long long)(s->value[last] - s->value[first]), s->unit,
		       (double)(s->ts_ns[last] - s->ts_ns[first]) / 1e9, (long long)step);
	else
		printf(": %lld to %lld %s, last %lld\n", (long long)low, (long long)high, s->unit,
		       (long long)s->value[last]);
}

static void print_values(const struct view *v, const struct bundle_series *s)
{
	char off[32];

	for (size_t i = 0; i < s->n; i++) {
		if (!in_view(v, s->ts_ns[i]))
			continue;
		printf("%14s ", offset_text((int64_t)(s->ts_ns[i] - v->trigger_ns), off));
		put(s->name);
		printf(" %s", *s->scope ? "" : "-");
		put(s->scope);
		printf(" %lld %s\n", (long long)s->value[i], s->unit);
	}
}

static void print_json(const struct view *v, const struct bundle_series *s)
{
	const char *sep = "";

	printf("{\"name\":\"");
	escape_put(stdout, ESCAPE_JSON, s->name);
	printf("\",\"scope\":\"");
	escape_put(stdout, ESCAPE_JSON, s->scope);
	printf("\",\"unit\":\"");
	escape_put(stdout, ESCAPE_JSON, s->unit);
	printf("\",\"counter\":%s,\"values\":[", s->counter ? "true" : "false");
	for (size_t i = 0; i < s->n; i++) {
		if (!in_view(v, s->ts_ns[i]))
			continue;
		printf("%s[%llu,%lld]", sep, (unsigned long long)s->ts_ns[i], (long long)s->value[i]);
		sep = ",";
	}
	printf("]}\n");
}

int cmd_series(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	const struct bundle_series *s;
	bool json = false, values = false;
	struct view v = {};
	size_t n;
	int first, r;
	const struct opt opts[] = {
		{ "name", "GLOB", OPT_TEXT, &v.name, "only series of this name, such as 'vmstat.*'" },
		{ "scope", "GLOB", OPT_TEXT, &v.scope, "only this CPU or cgroup, such as cpu3 or '/system.slice/*'" },
		{ "since", "TIME", OPT_OFFSET, &v.since, "from this time on, relative to the trigger" },
		{ "until", "TIME", OPT_OFFSET, &v.until, "up to this time, such as 0 or 5s" },
		{ "values", NULL, OPT_FLAG, &values, "every value with its offset from the trigger" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object per series" },
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = open_operand(&command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	warn_damage(b);
	v.trigger_ns = bundle_header(b) ? bundle_header(b)->trigger.fired_ns : bundle_last_ns(b);
	n = bundle_series(b, &s);
	for (size_t i = 0; i < n; i++) {
		if ((v.name && fnmatch(v.name, s[i].name, 0)) || (v.scope && fnmatch(v.scope, s[i].scope, 0)))
			continue;
		(json ? print_json : values ? print_values : print_summary)(&v, &s[i]);
	}
	return SB_EXIT_OK;
}
