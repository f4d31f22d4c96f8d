// SPDX-License-Identifier: BSD-2-Clause
/* stallbox order: one line per sample, CPU by CPU, in time order; and what ran on a CPU before
 * something did. */
#include <errno.h>
#include <regex.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/escape.h"
#include "tools/names.h"
#include "tools/syscalls.h"
#include "tools/timeline.h"

static const struct opt_command command = {
	"order", "BUNDLE",
	"Print one line per sample, CPU by CPU in time order. With --before: what ran on that CPU\n"
	"in the time before each occurrence of a thread or function.",
	{ "stallbox order --since -200ms --until 0 X.stall.pb.zst",
	  "stallbox order --before ksoftirqd --window 100ms X.stall.pb.zst" },
};

/* More lines than anybody reads; a window of time that holds more says how many it left out. */
#define WINDOW_EVENTS 4096u
#define MATCH_NO 1
#define MATCH_YES 2

/* What ran before the occurrences, summed up. */
struct culprit {
	uint32_t comm; /* names id */
	uint32_t pid, syscall, file; /* file: string, 0 not known */
	uint64_t occurrences, samples, last; /* last: number of the occurrence counted last */
};

struct order {
	struct bundle *b;
	struct filter *filter;
	bool lines;
	struct names names;
	uint64_t frames;
	bool json, mixed;
	uint32_t cpu; /* of the line before */
	bool any;
	/* --before */
	bool before, kinds_given;
	regex_t pattern;
	uint8_t *thread_match, *stack_match; /* 0: not looked at */
	uint64_t window_ns;
	struct bundle_event *ring; /* WINDOW_EVENTS, the newest of this CPU */
	uint64_t seen;		   /* on this CPU; those from seen - WINDOW_EVENTS on are kept */
	bool last_matched;
	uint64_t last_match_ns;
	uint64_t occurrences, cpus, left_out;
	struct culprit *culprit;
	size_t n_culprits;
	struct map64 culprit_by_key;
};

/* ---- a line -------------------------------------------------------------------------------------- */

static void put_frames(struct order *o, const uint32_t *ids, uint32_t n, uint32_t *left, const char *join)
{
	for (uint32_t i = 0; i < n && *left; i++, --*left) {
		fputs(i ? " < " : join, stdout);
		escape_put(stdout, ESCAPE_TERMINAL, names_get(&o->names, ids[i]));
	}
}

static void put_stack_line(struct order *o, const struct bundle_event *e)
{
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], left = o->frames ? (uint32_t)SB_MIN(o->frames, 1024u) : 1024;
	uint32_t k = names_leaf_first(&o->names, e->kstack, ids, SB_ARRAY_SIZE(ids)), all = k;

	put_frames(o, ids, k, &left, "  ");
	k = names_leaf_first(&o->names, e->ustack, ids, SB_ARRAY_SIZE(ids));
	put_frames(o, ids, k, &left, all ? " | " : "  ");
	all += k;
	if (o->frames && all > o->frames)
		printf(" < %llu more", (unsigned long long)(all - o->frames));
	if (e->flags & BUNDLE_EV_KSTACK_LOST)
		printf(" (kernel stack evicted)");
	if (e->flags & BUNDLE_EV_USTACK_LOST)
		printf(" (user stack evicted)");
}

static void put_thread(const struct order *o, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(o->b, thread);

	escape_put(stdout, ESCAPE_TERMINAL, *t->comm ? t->comm : "[unknown]");
	printf(" %u/%u", bundle_process(o->b, t->process)->pid, t->tid);
}

static void put_what(struct order *o, const struct bundle_event *e)
{
	if (e->kind != BUNDLE_ON_CPU)
		printf(" %s", bundle_kind_name(e->kind));
	describe_text(o->b, e);
	put_stack_line(o, e);
	putchar('\n');
}

static void json_frames(struct order *o, const char *key, uint32_t stack)
{
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], n = names_leaf_first(&o->names, stack, ids, SB_ARRAY_SIZE(ids));

	printf(",\"%s\":[", key);
	for (uint32_t i = 0; i < n; i++) {
		printf("%s\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, names_get(&o->names, ids[i]));
		putchar('"');
	}
	putchar(']');
}

static void json_event(struct order *o, const struct bundle_event *e)
{
	const struct bundle_thread *t = bundle_thread(o->b, e->thread);

	printf("{\"offset_ns\":%lld,\"cpu\":%u,\"kind\":\"%s\",\"comm\":\"", (long long)(e->ts_ns - o->filter->trigger_ns),
	       e->cpu, bundle_kind_name(e->kind));
	escape_put(stdout, ESCAPE_JSON, t->comm);
	printf("\",\"pid\":%u,\"tid\":%u,\"user\":%s,\"duration_ns\":%llu", bundle_process(o->b, t->process)->pid, t->tid,
	       e->flags & BUNDLE_EV_USER ? "true" : "false", (unsigned long long)e->duration_ns);
	describe_json(o->b, e);
	json_frames(o, "kstack", e->kstack);
	json_frames(o, "ustack", e->ustack);
	putchar('}');
}

static int one_line(const struct bundle_event *e, void *ctx)
{
	struct order *o = ctx;
	char off[32];

	if (o->json) {
		json_event(o, e);
		putchar('\n');
		return 0;
	}
	if (!o->mixed && (!o->any || e->cpu != o->cpu))
		printf("%sCPU %u\n", o->any ? "\n" : "", e->cpu);
	o->any = true;
	o->cpu = e->cpu;
	printf("%14s ", offset_text((int64_t)(e->ts_ns - o->filter->trigger_ns), off));
	if (o->mixed)
		printf("cpu %-3u ", e->cpu);
	put_thread(o, e->thread);
	put_what(o, e);
	return 0;
}

/* ---- --before -------------------------------------------------------------------------------------- */

static bool text_matches(const struct order *o, const char *s)
{
	return regexec(&o->pattern, s, 0, NULL, 0) == 0;
}

static bool stack_matches(struct order *o, uint32_t stack)
{
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], n;

	if (!stack)
		return false;
	if (!o->stack_match[stack]) {
		o->stack_match[stack] = MATCH_NO;
		n = names_leaf_first(&o->names, stack, ids, SB_ARRAY_SIZE(ids));
		for (uint32_t i = 0; i < n && o->stack_match[stack] == MATCH_NO; i++) {
			if (text_matches(o, names_get(&o->names, ids[i])))
				o->stack_match[stack] = MATCH_YES;
		}
	}
	return o->stack_match[stack] == MATCH_YES;
}

static bool matches(struct order *o, const struct bundle_event *e)
{
	if (!o->thread_match[e->thread])
		o->thread_match[e->thread] = text_matches(o, bundle_thread(o->b, e->thread)->comm) ? MATCH_YES : MATCH_NO;
	return o->thread_match[e->thread] == MATCH_YES || stack_matches(o, e->kstack) || stack_matches(o, e->ustack);
}

/* Who gets on a CPU again is an occurrence, but not something that ran before one. */
static bool ran(const struct order *o, const struct bundle_event *e)
{
	return o->kinds_given || e->kind != BUNDLE_OFF_CPU;
}

static int blame_for(struct order *o, const struct bundle_event *e)
{
	const struct bundle_thread *t = bundle_thread(o->b, e->thread);
	uint32_t comm = names_text(&o->names, *t->comm ? t->comm : "[unknown]", FRAME_COMM);
	uint32_t pid = bundle_process(o->b, t->process)->pid;
	uint64_t key = (sb_mix64((uint64_t)comm << 32 | pid) ^ sb_mix64(e->syscall + 1ULL)) | 1;
	uint64_t at = map64_get(&o->culprit_by_key, key);
	struct culprit *c;

	if (!at) {
		struct culprit *bigger = realloc(o->culprit, (o->n_culprits + 1) * sizeof(*bigger));

		if (!bigger || map64_put(&o->culprit_by_key, key, o->n_culprits + 1) < 0)
			return -ENOMEM;
		o->culprit = bigger;
		o->culprit[o->n_culprits++] = (struct culprit){ .comm = comm, .pid = pid, .syscall = e->syscall };
		at = o->n_culprits;
	}
	c = &o->culprit[at - 1];
	c->samples += e->kind == BUNDLE_ON_CPU;
	if (e->kind == BUNDLE_SYSCALL && e->name)
		c->file = e->name;
	c->occurrences += c->last != o->occurrences;
	c->last = o->occurrences;
	return 0;
}

static int occurrence(struct order *o, const struct bundle_event *e)
{
	uint64_t first = o->seen > WINDOW_EVENTS ? o->seen - WINDOW_EVENTS : 0, i = o->seen, shown = 0;
	char off[32];
	int r = 0;

	o->occurrences++;
	if (o->json) {
		printf("{\"occurrence\":");
		json_event(o, e);
		printf(",\"before\":[");
	} else {
		printf("%sCPU %u %s ", o->any ? "\n" : "", e->cpu,
		       offset_text((int64_t)(e->ts_ns - o->filter->trigger_ns), off));
		put_thread(o, e->thread);
		put_what(o, e);
	}
	o->any = true;
	while (i > first && o->ring[(i - 1) % WINDOW_EVENTS].ts_ns + o->window_ns >= e->ts_ns)
		i--;
	/* As far back as the ring goes, and not yet at the window's edge: there was more. */
	o->left_out += i == first && first > 0;
	for (; i < o->seen && r == 0; i++) {
		const struct bundle_event *was = &o->ring[i % WINDOW_EVENTS];

		if (!ran(o, was))
			continue;
		if (o->json) {
			fputs(shown ? "," : "", stdout);
			json_event(o, was);
		} else {
			printf("  %9.3f ms  ", -(double)(e->ts_ns - was->ts_ns) / 1e6);
			put_thread(o, was->thread);
			put_what(o, was);
		}
		shown++;
		r = blame_for(o, was);
	}
	if (o->json)
		printf("]}\n");
	else if (!shown)
		printf("   no sample on this CPU in that time: it was idle, or none was taken\n");
	return r;
}

static int look_before(const struct bundle_event *e, void *ctx)
{
	struct order *o = ctx;
	bool match;
	int r = 0;

	if (!o->cpus || e->cpu != o->cpu) {
		o->cpus++;
		o->cpu = e->cpu;
		o->seen = 0;
		o->last_matched = false;
	}
	match = matches(o, e);
	/* One that goes on is one occurrence, until something else ran or the window has passed. */
	if (match && (!o->last_matched || e->ts_ns - o->last_match_ns > o->window_ns))
		r = occurrence(o, e);
	if (match)
		o->last_match_ns = e->ts_ns;
	if (match || ran(o, e))
		o->last_matched = match;
	o->ring[o->seen++ % WINDOW_EVENTS] = *e;
	return r;
}

static int more_often(const void *a, const void *b)
{
	const struct culprit *x = a, *y = b;

	if (x->occurrences != y->occurrences)
		return x->occurrences > y->occurrences ? -1 : 1;
	if (x->samples != y->samples)
		return x->samples > y->samples ? -1 : 1;
	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static void sum_up(struct order *o, uint64_t top)
{
	const struct bundle_header *h = bundle_header(o->b);
	char buf[32];

	if (o->left_out)
		fprintf(stderr, "warning: %llu windows hold more than %u events; the newest are shown\n",
			(unsigned long long)o->left_out, WINDOW_EVENTS);
	if (o->json)
		return;
	if (!o->occurrences) {
		printf("nothing in %s matches\n", o->filter->since.set || o->filter->until.set ? "that time" : "this bundle");
		return;
	}
	if (o->n_culprits)
		qsort(o->culprit, o->n_culprits, sizeof(*o->culprit), more_often);
	printf("\n%llu occurrences; what ran in the %g ms before them:\n", (unsigned long long)o->occurrences,
	       (double)o->window_ns / 1e6);
	for (size_t i = 0; i < o->n_culprits && i < top; i++) {
		const struct culprit *c = &o->culprit[i];

		printf("  %5llu of %-5llu %7llu samples  ", (unsigned long long)c->occurrences,
		       (unsigned long long)o->occurrences, (unsigned long long)c->samples);
		escape_put(stdout, ESCAPE_TERMINAL, names_get(&o->names, c->comm));
		printf(" %u", c->pid);
		if (c->syscall)
			printf(" in %s", syscall_name(h ? h->arch : "", c->syscall - 1, buf));
		if (c->file) {
			printf(" of ");
			escape_put(stdout, ESCAPE_TERMINAL, bundle_string(o->b, c->file));
		}
		putchar('\n');
	}
	if (o->n_culprits > top)
		printf("  and %zu more\n", o->n_culprits - (size_t)top);
}

/* -1 to go on, or the exit code. */
static int prepare_before(struct order *o, const char *pattern)
{
	char text[128];
	int r = regcomp(&o->pattern, pattern, REG_EXTENDED | REG_NOSUB);

	if (r) {
		regerror(r, &o->pattern, text, sizeof(text));
		return opt_usage(&command, "--before '%s': no regular expression: %s", pattern, text);
	}
	o->before = true;
	return -1;
}

static int run(struct order *o)
{
	o->thread_match = calloc(bundle_n_threads(o->b) + 1u, 1);
	o->stack_match = calloc(bundle_n_stacks(o->b) + 1u, 1);
	o->ring = o->before ? malloc(WINDOW_EVENTS * sizeof(*o->ring)) : NULL;
	if (!o->thread_match || !o->stack_match || (o->before && !o->ring))
		return -ENOMEM;
	if (o->before)
		return timeline_each_cpu(o->b, o->filter, look_before, o);
	return (o->mixed ? timeline_each : timeline_each_cpu)(o->b, o->filter, one_line, o);
}

static void order_done(struct order *o)
{
	names_done(&o->names);
	map64_done(&o->culprit_by_key);
	free(o->culprit);
	free(o->ring);
	free(o->thread_match);
	free(o->stack_match);
	if (o->before)
		regfree(&o->pattern);
}

int cmd_order(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	SB_CLEANUP(order_done) struct order o = { .filter = &filter, .frames = 8, .window_ns = 100 * NSEC_PER_MSEC };
	struct opt_offset window = {};
	const char *pattern = NULL;
	uint64_t top = 10;
	int first, r;
	const struct opt opts[] = {
		{ "before", "PATTERN", OPT_TEXT, &pattern, "occurrences of a thread name or frame (regular expression)" },
		{ "window", "TIME", OPT_OFFSET, &window, "how long before each occurrence (default 100ms)" },
		{ "frames", "N", OPT_NUMBER, &o.frames, "innermost frames to print (default 8, 0 all)" },
		{ "mixed", NULL, OPT_FLAG, &o.mixed, "all CPUs in one list, not one after the other" },
		{ "top", "N", OPT_NUMBER, &top, "--before: how many to name in the sum (default 10)" },
		{ "lines", NULL, OPT_FLAG, &o.lines, "source lines in the names of frames, where symbolize found them" },
		{ "json", NULL, OPT_FLAG, &o.json, "one JSON object per line" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = filter_parse(&filter, &command);
	if (r >= 0)
		return r;
	if (filter.kinds & FILTER_BLOCKED)
		return opt_usage(&command, "blocked threads have no order in time, try 'stallbox %s'", "blame");
	if (window.set && (window.ns <= 0 || !pattern))
		return opt_usage(&command, "--window %s", pattern ? "must be longer than 0" : "goes with --before");
	if (pattern) {
		r = prepare_before(&o, pattern);
		if (r >= 0)
			return r;
	}
	o.window_ns = window.set ? (uint64_t)window.ns : o.window_ns;
	o.kinds_given = filter.kinds != 0;
	if (!filter.kind_text)
		filter.kind_text = pattern ? "on-cpu,off-cpu,syscall,softirq" : "on-cpu";
	r = filter_open(&filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	o.b = b;
	names_init(&o.names, b);
	o.names.lines = o.lines;
	r = run(&o);
	if (r < 0)
		fprintf(stderr, "error: cannot order the events: %s\n", strerror(-r));
	else if (pattern)
		sum_up(&o, top);
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
