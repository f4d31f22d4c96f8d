// SPDX-License-Identifier: BSD-2-Clause
/*
 * The text of "perf script" with its default fields, one kind at a time: header, frames leaf
 * first, empty line. The period is fold's weight, which stackcollapse-perf.pl adds up.
 */
#include <errno.h>

#include "tools/export.h"

/* Readers split at white space and at brackets, but for the name of a frame. */
static void put_word(struct export *x, const char *s)
{
	char buf[2048];

	escape_copy(buf, sizeof(buf), ESCAPE_FOLDED, s);
	for (char *c = buf; *c; c++) {
		if (*c == ' ' || *c == '(' || *c == ')')
			*c = '_';
	}
	fputs(*buf ? buf : "[unknown]", x->out);
}

static void put_mark(struct export *x, const char *text)
{
	fprintf(x->out, "\t%16x %s ([unknown])\n", 0, text);
}

static void put_frames(struct export *x, uint32_t id)
{
	const struct bundle_stack *s = bundle_stack(x->b, id);
	uint32_t n = s->n, process = s->process, i = 0;
	bool cut = s->n && s->unwind >> 4 == BUNDLE_END_DEPTH;
	struct names *names = &x->fold.names;
	const uint64_t *addr = s->addr;

	while (!process && i < n && names_is_own(names_get(names, names_frame(names, 0, addr[i]))))
		i++;
	for (; i < n; i++) {
		uint32_t ids[NAMES_INLINED], k = names_frames(names, process, addr[i], ids, NAMES_INLINED), name = ids[k - 1];
		const char *module = NULL;
		uint64_t offset = 0;

		for (uint32_t in = 0; in + 1 < k; in++) {
			fprintf(x->out, "\t%16llx ", (unsigned long long)addr[i]);
			escape_put(x->out, ESCAPE_FOLDED, names_get(names, ids[in]));
			fputs(" (inlined)\n", x->out);
		}
		bundle_symbolize(x->b, process, addr[i], &module, &offset);
		fprintf(x->out, "\t%16llx ", (unsigned long long)addr[i]);
		escape_put(x->out, ESCAPE_FOLDED, names_get(names, name));
		fputs(" (", x->out);
		put_word(x, names_class(names, name) == FRAME_KERNEL ? "[kernel.kallsyms]" : module && *module ? module : "[unknown]");
		fputs(")\n", x->out);
	}
	if (cut)
		put_mark(x, "[truncated]");
}

/* A stack reads the same each time: its text is made once, as long as there is room. */
#define TEXT_MAX (64u << 20)

struct texts {
	char **of; /* by stack id */
	size_t used;
};

static void put_stack(struct export *x, struct texts *t, uint32_t id)
{
	FILE *out = x->out, *memory;
	size_t len = 0;

	if (id > bundle_n_stacks(x->b))
		return;
	if (!t->of[id] && t->used < TEXT_MAX) {
		memory = open_memstream(&t->of[id], &len);
		if (memory) {
			x->out = memory;
			put_frames(x, id);
			x->out = out;
			x->failed |= fclose(memory) != 0;
			t->used += len;
		}
	}
	if (t->of[id])
		fputs(t->of[id], out);
	else
		put_frames(x, id);
}

static void put_event(struct export *x, struct texts *texts, const struct export_event *e)
{
	const struct bundle_thread *t = bundle_thread(x->b, e->thread);
	const struct export_pair *pair = &x->pair[e->pair];

	put_word(x, t->comm);
	fprintf(x->out, " %7u/%-7u [%03u] %llu.%06llu: %10llu %s:\n", bundle_process(x->b, t->process)->pid, t->tid, e->cpu,
		(unsigned long long)(e->ts_ns / NSEC_PER_SEC), (unsigned long long)(e->ts_ns % NSEC_PER_SEC / 1000),
		(unsigned long long)e->weight,
		e->kind == BUNDLE_ON_CPU ? "cpu-clock" : fold_kind_name(export_fold_kind(e->kind)));
	put_stack(x, texts, pair->kstack);
	if (pair->lost & BUNDLE_EV_KSTACK_LOST)
		put_mark(x, "[kernel stack evicted]");
	put_stack(x, texts, pair->ustack);
	if (pair->lost & BUNDLE_EV_USTACK_LOST)
		put_mark(x, "[user stack evicted]");
	putc('\n', x->out);
}

int export_perf_script(struct export *x)
{
	struct texts texts = { .of = calloc(bundle_n_stacks(x->b) + 1u, sizeof(char *)) };
	int r = texts.of ? export_collect(x) : -ENOMEM;

	for (size_t i = 0; i < x->n && r == 0; i++)
		put_event(x, &texts, &x->event[i]);
	for (uint32_t i = 0; texts.of && i <= bundle_n_stacks(x->b); i++)
		free(texts.of[i]);
	free(texts.of);
	return r;
}
