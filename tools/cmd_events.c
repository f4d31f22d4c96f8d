// SPDX-License-Identifier: BSD-2-Clause
/* stallbox events: every event in time order with its offset from the trigger. */
#include <stdio.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/escape.h"
#include "tools/names.h"
#include "tools/timeline.h"

static const struct opt_command command = {
	"events", "BUNDLE", "Print the events in time order, with their offset from the trigger.",
	{ "stallbox events --since -1s --until 1s X.stall.pb.zst",
	  "stallbox events --kind reclaim --json X.stall.pb.zst | jq .duration_ns" },
};

struct list {
	const struct bundle *b;
	const struct filter *filter;
	struct names names;
	bool json, stacks, lines;
};

static void print_stack(struct names *names, uint32_t id, const char *suffix)
{
	const struct bundle_stack *s = bundle_stack(names->b, id);
	uint32_t n = s->n, process = s->process;
	const uint64_t *addr = s->addr;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t ids[NAMES_INLINED], k = names_frames(names, process, addr[i], ids, NAMES_INLINED);

		for (uint32_t j = 0; j < k; j++) {
			printf("        ");
			escape_put(stdout, ESCAPE_TERMINAL, names_get(names, ids[j]));
			printf("%s\n", j + 1 < k ? " (inlined)" : suffix);
		}
	}
}

static void print_text(struct names *names, const struct list *l, const struct bundle_event *e,
		       bool stacks)
{
	const struct bundle_thread *t = bundle_thread(l->b, e->thread);
	char off[32];

	printf("%14s cpu %-3u %-9s ", offset_text((int64_t)(e->ts_ns - l->filter->trigger_ns), off),
	       e->cpu, bundle_kind_name(e->kind));
	escape_put(stdout, ESCAPE_TERMINAL, t->comm);
	printf(" %u/%u", bundle_process(l->b, t->process)->pid, t->tid);
	describe_text(l->b, e);
	if (e->flags & (BUNDLE_EV_KSTACK_LOST | BUNDLE_EV_USTACK_LOST))
		printf(" (stack evicted)");
	putchar('\n');
	if (!stacks)
		return;
	print_stack(names, e->kstack, "_[k]");
	print_stack(names, e->ustack, "");
}

static void json_stack(struct names *names, const char *key, uint32_t id)
{
	const struct bundle_stack *s = bundle_stack(names->b, id);
	uint32_t n = s->n, process = s->process;
	const uint64_t *addr = s->addr;

	printf(",\"%s\":[", key);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t ids[NAMES_INLINED], k = names_frames(names, process, addr[i], ids, NAMES_INLINED);

		for (uint32_t j = 0; j < k; j++) {
			printf("%s\"", i || j ? "," : "");
			escape_put(stdout, ESCAPE_JSON, names_get(names, ids[j]));
			putchar('"');
		}
	}
	putchar(']');
}

static void print_json(struct names *names, const struct list *l, const struct bundle_event *e,
		       bool stacks)
{
	const struct bundle_thread *t = bundle_thread(l->b, e->thread);

	printf("{\"ts_ns\":%llu,\"offset_ns\":%lld,\"cpu\":%u,\"kind\":\"%s\",\"comm\":\"",
	       (unsigned long long)e->ts_ns, (long long)(e->ts_ns - l->filter->trigger_ns), e->cpu,
	       bundle_kind_name(e->kind));
	escape_put(stdout, ESCAPE_JSON, t->comm);
	printf("\",\"pid\":%u,\"tid\":%u,\"duration_ns\":%llu,\"flags\":%u",
	       bundle_process(l->b, t->process)->pid, t->tid, (unsigned long long)e->duration_ns,
	       e->flags);
	describe_json(l->b, e);
	if (stacks) {
		json_stack(names, "kstack", e->kstack);
		json_stack(names, "ustack", e->ustack);
		if (e->ustack)
			printf(",\"ustack_by\":\"%s\",\"ustack_end\":\"%s\"",
			       bundle_unwind_name(bundle_stack(l->b, e->ustack)->unwind),
			       bundle_unwind_end_name(bundle_stack(l->b, e->ustack)->unwind));
	}
	printf("}\n");
}

static int print(const struct bundle_event *e, void *ctx)
{
	struct list *l = ctx;

	(l->json ? print_json : print_text)(&l->names, l, e, l->stacks);
	return 0;
}

int cmd_events(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	struct list l = { .filter = &filter };
	bool no_stacks = false;
	int first, r;
	const struct opt opts[] = {
		{ "no-stacks", NULL, OPT_FLAG, &no_stacks, "one line per event" },
		{ "lines", NULL, OPT_FLAG, &l.lines, "source lines in the names of frames, where symbolize found them" },
		{ "json", NULL, OPT_FLAG, &l.json, "one JSON object per line" },
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
		return opt_usage(&command, "blocked threads are no events, try 'stallbox %s'",
				 "fold --kind blocked");
	r = filter_open(&filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	l.b = b;
	l.stacks = !no_stacks;
	names_init(&l.names, b);
	l.names.lines = l.lines;
	r = timeline_each(b, &filter, print, &l);
	names_done(&l.names);
	if (r < 0)
		fprintf(stderr, "error: cannot list the events: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
