// SPDX-License-Identifier: BSD-2-Clause
/* stallbox hist: power-of-two histograms of how long things took, as bpftrace prints them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/escape.h"
#include "tools/fold.h"
#include "tools/syscalls.h"

static const struct opt_command command = {
	"hist", "WHAT BUNDLE",
	"Print power-of-two histograms in microseconds. WHAT: reclaim, mmap-lock-hold, mmap-lock-wait,\n"
	"lock-wait, offcpu, runq, syscall, softirq, softirq-delay, block-io, wakeup or slab.",
	{ "stallbox hist reclaim X.stall.pb.zst",
	  "stallbox hist syscall --by what --since -10s --until 0 X.stall.pb.zst" },
};

#define BUCKETS 65 /* 0, then one per power of two */

struct hist {
	char *label;
	uint64_t bucket[BUCKETS], count, total_ns, longest_ns;
};

static uint64_t duration(const struct bundle_event *e)
{
	return e->duration_ns;
}

/* The part of a block spent runnable; all of it where the thread was preempted. */
static uint64_t runq(const struct bundle_event *e)
{
	return e->flags & BUNDLE_EV_PREEMPTED ? e->duration_ns : SB_MIN(e->runq_delay_ns, e->duration_ns);
}

static uint64_t delay(const struct bundle_event *e)
{
	return e->delay_ns;
}

static const struct what {
	const char *name;
	enum bundle_kind kind;
	uint64_t (*ns)(const struct bundle_event *e);
	uint32_t detail; /* only events with one of these bits; 0: all */
	bool skip_zero;
} whats[] = {
	{ "reclaim", BUNDLE_RECLAIM, duration, 0, false },
	{ "mmap-lock-hold", BUNDLE_LOCK_HOLD, duration, BUNDLE_LOCK_MMAP, false },
	{ "mmap-lock-wait", BUNDLE_LOCK_WAIT, duration, BUNDLE_LOCK_MMAP, false },
	{ "lock-wait", BUNDLE_LOCK_WAIT, duration, 0, false },
	{ "offcpu", BUNDLE_OFF_CPU, duration, 0, false },
	{ "runq", BUNDLE_OFF_CPU, runq, 0, true },
	{ "syscall", BUNDLE_SYSCALL, duration, 0, false },
	{ "softirq", BUNDLE_SOFTIRQ, duration, 0, false },
	{ "softirq-delay", BUNDLE_SOFTIRQ, delay, 0, false },
	{ "block-io", BUNDLE_BLOCK_IO, duration, 0, false },
	{ "wakeup", BUNDLE_WAKEUP, duration, 0, false },
	{ "slab", BUNDLE_SLAB, duration, 0, false },
};

struct view {
	struct bundle *b;
	struct filter *filter;
	const struct what *what;
	bool grouped, by_what, json;
	struct groups groups;
	struct map64 by_key; /* --by what: hash of the label -> index + 1 */
	struct hist *hist;
	size_t n, cap;
};

/* What kind of reclaim, call, softirq, lock ... it was: static text or in buf. */
static const char *sort_of(const struct view *v, const struct bundle_event *e, char buf[64])
{
	const struct bundle_header *h = bundle_header(v->b);

	switch (e->kind) {
	case BUNDLE_RECLAIM:
		return reclaim_name(e->reclaim_kind);
	case BUNDLE_LOCK_WAIT:
	case BUNDLE_LOCK_HOLD:
		snprintf(buf, 64, "%s%s%s", lock_class(e->detail), *lock_mode(e->detail) ? " " : "", lock_mode(e->detail));
		return buf;
	case BUNDLE_OFF_CPU:
		snprintf(buf, 64, "%c", event_state(e));
		return buf;
	case BUNDLE_SYSCALL:
		return syscall_name(h ? h->arch : "", e->syscall - 1, buf);
	case BUNDLE_SOFTIRQ:
		return softirq_name(e->detail);
	case BUNDLE_BLOCK_IO:
	case BUNDLE_SLAB:
		return e->name ? bundle_string(v->b, e->name) : "?";
	default:
		return "all";
	}
}

static struct hist *add_hist(struct view *v, const char *label)
{
	if (v->n == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 16;
		struct hist *bigger = realloc(v->hist, cap * sizeof(*bigger));

		if (!bigger)
			return NULL;
		v->hist = bigger;
		v->cap = cap;
	}
	v->hist[v->n] = (struct hist){ .label = strdup(label) };
	return v->hist[v->n].label ? &v->hist[v->n++] : NULL;
}

/* Group ids count up from 1, as they are first seen: they are places in v->hist. */
static struct hist *hist_of(struct view *v, const struct bundle_event *e)
{
	char buf[64];
	const char *label;
	uint64_t key, at;
	uint32_t id;

	if (!v->grouped && !v->by_what)
		return v->n ? v->hist : add_hist(v, "");
	if (v->grouped) {
		id = group_of(&v->groups, e->thread, e->cpu);
		if (!id)
			return NULL;
		return id <= v->n ? &v->hist[id - 1] : add_hist(v, group_label(&v->groups, id));
	}
	label = sort_of(v, e, buf);
	key = sb_hash_bytes(label, strlen(label)) | 1;
	at = map64_get(&v->by_key, key);
	if (at)
		return &v->hist[at - 1];
	return map64_put(&v->by_key, key, v->n + 1) < 0 ? NULL : add_hist(v, label);
}

static uint64_t add_to(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

static int take(const struct bundle_event *e, void *ctx)
{
	struct view *v = ctx;
	uint64_t ns, us, all, weight = e->weight > 1 ? e->weight : 1;
	struct hist *h;

	if (e->kind != v->what->kind || (v->what->detail && !(e->detail & v->what->detail)) ||
	    !filter_event(v->filter, e))
		return 0;
	ns = v->what->ns(e);
	if (!ns && v->what->skip_zero)
		return 0;
	h = hist_of(v, e);
	if (!h)
		return -ENOMEM;
	us = ns / 1000;
	h->bucket[us ? 64 - __builtin_clzll(us) : 0] += weight;
	h->count += weight;
	h->total_ns = add_to(h->total_ns, __builtin_mul_overflow(ns, weight, &all) ? UINT64_MAX : all);
	h->longest_ns = SB_MAX(h->longest_ns, ns);
	return 0;
}

static int longest_total(const void *a, const void *b)
{
	const struct hist *x = a, *y = b;

	if (x->total_ns != y->total_ns)
		return x->total_ns > y->total_ns ? -1 : 1;
	return strcmp(x->label, y->label);
}

/* What is beyond the first `top` goes into one, so that nothing is left out. */
static int merge_rest(struct view *v, uint64_t top)
{
	struct hist rest = {};
	char label[64];

	if (v->n <= top + 1)
		return 0;
	for (size_t i = (size_t)top; i < v->n; i++) {
		struct hist *h = &v->hist[i];

		for (int k = 0; k < BUCKETS; k++)
			rest.bucket[k] += h->bucket[k];
		rest.count += h->count;
		rest.total_ns = add_to(rest.total_ns, h->total_ns);
		rest.longest_ns = SB_MAX(rest.longest_ns, h->longest_ns);
		free(h->label);
	}
	snprintf(label, sizeof(label), "%llu others", (unsigned long long)(v->n - top));
	rest.label = strdup(label);
	v->n = (size_t)top;
	if (!rest.label)
		return -ENOMEM;
	v->hist[v->n++] = rest;
	return 0;
}

/* 1, 2, 4 ... 512, 1K ... as bpftrace has them. */
static void put_bound(char *ret, size_t len, int power)
{
	static const char units[] = " KMGTPE";

	if (power < 10)
		snprintf(ret, len, "%u", 1u << power);
	else
		snprintf(ret, len, "%u%c", 1u << power % 10, units[power / 10]);
}

static void put_bucket(int k, uint64_t n, uint64_t most)
{
	static const char bar[] = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@";
	int width = most ? (int)((double)n / (double)most * 52.0) : 0;
	char low[16], high[16], range[40];

	if (k < 2) {
		snprintf(range, sizeof(range), "[%d]", k);
	} else {
		put_bound(low, sizeof(low), k - 1);
		put_bound(high, sizeof(high), k);
		snprintf(range, sizeof(range), "[%s, %s)", low, high);
	}
	printf("%-16s %10" PRIu64 " |%-52.*s|\n", range, n, width, bar);
}

static void put_hist(const struct view *v, const struct hist *h)
{
	uint64_t most = 0;
	int first = BUCKETS, last = 0;

	for (int k = 0; k < BUCKETS; k++) {
		most = SB_MAX(most, h->bucket[k]);
		if (h->bucket[k]) {
			first = SB_MIN(first, k);
			last = k;
		}
	}
	printf("@%s_us", v->what->name);
	if (*h->label) {
		putchar('[');
		escape_put(stdout, ESCAPE_TERMINAL, h->label);
		putchar(']');
	}
	printf(": count %" PRIu64 ", total %.6f s, mean %.3f ms, longest %.3f ms\n", h->count, (double)h->total_ns / 1e9,
	       h->count ? (double)h->total_ns / (double)h->count / 1e6 : 0.0, (double)h->longest_ns / 1e6);
	for (int k = first; k <= last; k++)
		put_bucket(k, h->bucket[k], most);
	putchar('\n');
}

static void put_json(const struct view *v, const struct hist *h)
{
	bool any = false;

	printf("{\"what\":\"%s\",\"group\":\"", v->what->name);
	escape_put(stdout, ESCAPE_JSON, h->label);
	printf("\",\"count\":%" PRIu64 ",\"total_ns\":%" PRIu64 ",\"longest_ns\":%" PRIu64 ",\"buckets\":[", h->count,
	       h->total_ns, h->longest_ns);
	for (int k = 0; k < BUCKETS; k++) {
		if (!h->bucket[k])
			continue;
		printf("%s{\"from_us\":%" PRIu64 ",\"count\":%" PRIu64 "}", any ? "," : "", k ? (uint64_t)1 << (k - 1) : 0,
		       h->bucket[k]);
		any = true;
	}
	printf("]}\n");
}

static void view_done(struct view *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->hist[i].label);
	free(v->hist);
	groups_done(&v->groups);
	map64_done(&v->by_key);
}

/* Where the kernel could not tell, an empty answer does not mean that nothing happened. */
static void say_empty(const struct view *v)
{
	printf("no %s event matches", v->what->name);
	if (v->what->kind == BUNDLE_LOCK_HOLD || v->what->kind == BUNDLE_SOFTIRQ)
		printf("; the recorder notes them from the trigger to the end of the post window, unless asked to do "
		       "so all the time");
	putchar('\n');
}

static int show(struct view *v, uint64_t top)
{
	int r = bundle_each_event(v->b, take, v);

	if (r == 0 && v->n) {
		qsort(v->hist, v->n, sizeof(*v->hist), longest_total);
		r = merge_rest(v, top);
	}
	for (size_t i = 0; r == 0 && i < v->n; i++)
		(v->json ? put_json : put_hist)(v, &v->hist[i]);
	if (r == 0 && !v->n && !v->json)
		say_empty(v);
	return r;
}

/* The word before the bundle. -1 to go on, or the exit code. */
static int parse_what(struct view *v, int argc, char **argv, int first)
{
	if (first >= argc)
		return opt_usage(&command, "say what, such as 'stallbox hist %s'", "reclaim X.stall.pb.zst");
	for (size_t i = 0; i < SB_ARRAY_SIZE(whats); i++) {
		if (!strcmp(argv[first], whats[i].name))
			v->what = &whats[i];
	}
	if (!v->what)
		return opt_usage(&command, "unknown '%s', expected reclaim, mmap-lock-hold, mmap-lock-wait, lock-wait, offcpu, "
				 "runq, syscall, softirq, softirq-delay, block-io, wakeup or slab", argv[first]);
	return -1;
}

int cmd_hist(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	SB_CLEANUP(view_done) struct view v = { .filter = &filter };
	const char *by_text = NULL;
	enum group_by by = GROUP_COMM;
	uint64_t top = 10;
	int first, r;
	const struct opt opts[] = {
		{ "by", "WHAT", OPT_TEXT, &by_text, GROUP_LIST ", or what (kind, state, call, device)" },
		{ "top", "N", OPT_NUMBER, &top, "so many groups, the others in one (default 10)" },
		{ "json", NULL, OPT_FLAG, &v.json, "one JSON object per histogram" },
		FILTER_OPTIONS_NO_KIND(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = parse_what(&v, argc, argv, first);
	if (r >= 0)
		return r;
	v.by_what = by_text && !strcmp(by_text, "what");
	v.grouped = by_text && !v.by_what;
	if (v.grouped && group_parse(by_text, &by) < 0)
		return opt_usage(&command, "--by '%s': expected " GROUP_LIST ", or what", by_text);
	r = filter_open(&filter, &command, argc, argv, first + 1, &b);
	if (r >= 0)
		return r;
	v.b = b;
	r = groups_init(&v.groups, b, by);
	if (r == 0)
		r = show(&v, top);
	if (r < 0)
		fprintf(stderr, "error: cannot make the histogram: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
