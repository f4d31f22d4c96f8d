// SPDX-License-Identifier: BSD-2-Clause
/* stallbox events: every event in time order with its offset from the trigger. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/escape.h"
#include "tools/filter.h"
#include "tools/fold.h"

static const struct opt_command command = {
	"events", "BUNDLE", "Print the events in time order, with their offset from the trigger.",
	{ "stallbox events --since -1s --until 1s X.stall.pb.zst",
	  "stallbox events --kind reclaim --json X.stall.pb.zst | jq .duration_ns" },
};

struct list {
	const struct bundle *b;
	const struct filter *filter;
	unsigned int kinds; /* bit mask, 0: all */
	struct bundle_event *e;
	size_t n, cap;
};

static int collect(const struct bundle_event *e, void *ctx)
{
	struct list *l = ctx;

	if ((l->kinds && !(l->kinds & 1u << e->kind)) || !filter_event(l->filter, l->b, e))
		return 0;
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 4096;
		void *bigger = realloc(l->e, cap * sizeof(*l->e));

		if (!bigger)
			return -ENOMEM;
		l->e = bigger;
		l->cap = cap;
	}
	l->e[l->n++] = *e;
	return 0;
}

static int in_time(const void *a, const void *b)
{
	const struct bundle_event *x = a, *y = b;

	if (x->ts_ns != y->ts_ns)
		return x->ts_ns < y->ts_ns ? -1 : 1;
	return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

static void print_stack(struct names *names, uint32_t id, const char *suffix)
{
	const struct bundle_stack *s = bundle_stack(names->b, id);
	uint32_t n = s->n, process = s->process;
	const uint64_t *addr = s->addr;

	for (uint32_t i = 0; i < n; i++) {
		printf("        ");
		escape_put(stdout, ESCAPE_TERMINAL, names_get(names, names_frame(names, process, addr[i])));
		printf("%s\n", suffix);
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
		printf("%s\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, names_get(names, names_frame(names, process, addr[i])));
		putchar('"');
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
	}
	printf("}\n");
}

/* "off-cpu,lock-wait"; *ret_bad: the word that is no kind. */
static int add_kinds(struct list *l, char *words, const char **ret_bad)
{
	for (char *word = strtok(words, ","); word; word = strtok(NULL, ",")) {
		int k = BUNDLE_ON_CPU;

		while (k < BUNDLE_KIND_COUNT && strcmp(word, bundle_kind_name((enum bundle_kind)k)))
			k++;
		*ret_bad = word;
		if (k == BUNDLE_KIND_COUNT)
			return -EINVAL;
		l->kinds |= 1u << k;
	}
	return 0;
}

int cmd_events(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	struct filter filter = FILTER_INIT;
	struct list l = { .filter = &filter };
	const char *kind = NULL;
	bool json = false, no_stacks = false;
	struct names names;
	char words[256];
	int first, r;
	const struct opt opts[] = {
		{ "kind", "KIND", OPT_TEXT, &kind, "only these kinds, such as off-cpu or lock-wait,wakeup" },
		{ "no-stacks", NULL, OPT_FLAG, &no_stacks, "one line per event" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object per line" },
		FILTER_OPTIONS(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	snprintf(words, sizeof(words), "%s", kind ? kind : "");
	if (add_kinds(&l, words, &kind) < 0)
		return opt_usage(&command, "unknown kind '%s', expected on-cpu, off-cpu, reclaim, lock-wait, wakeup, "
				 "lock-hold, syscall, softirq, block-io, oom, slab or hardirq", kind);
	r = open_operand(&command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	warn_damage(b);
	filter_start(&filter, b);
	l.b = b;
	r = bundle_each_event(b, collect, &l);
	if (r < 0) {
		fprintf(stderr, "error: cannot list the events: %s\n", strerror(-r));
		free(l.e);
		return SB_EXIT_FAILURE;
	}
	qsort(l.e, l.n, sizeof(*l.e), in_time);
	names_init(&names, b);
	for (size_t i = 0; i < l.n; i++)
		(json ? print_json : print_text)(&names, &l, &l.e[i], !no_stacks);
	names_done(&names);
	free(l.e);
	return SB_EXIT_OK;
}
