// SPDX-License-Identifier: BSD-2-Clause
/*
 * Firefox Profiler: its "processed profile" JSON, version 60 (newer readers upgrade it). Each
 * thread has its on-CPU samples; waits and spans are markers with their stack, as long as the one
 * that was recorded, with the weight of all that it stands for as a field; the host's
 * counters and gauges are counters. Times are milliseconds since the first of all.
 */
#include <errno.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/export.h"
#include "tools/syscalls.h"

#define PROCESSED_VERSION 60
enum { CATEGORY_OTHER, CATEGORY_KERNEL, CATEGORY_USER };

struct firefox {
	struct export *x;
	uint64_t base_ns;
	struct map64 children; /* (prefix, name) -> stack + 1 */
	struct stack {
		uint32_t prefix, name; /* prefix: UINT32_MAX none */
	} *stack;
	uint32_t n_stacks, cap_stacks;
	uint32_t *stack_of; /* by pair; UINT32_MAX: empty */
	uint32_t *order;    /* events by thread, each in time order */
	uint32_t *begin;    /* by thread id: first in order; one more than threads */
	uint32_t n_threads; /* of the bundle, id 0 included */
};

static double ms(const struct firefox *f, uint64_t ts_ns)
{
	return (double)(int64_t)(ts_ns - f->base_ns) / 1e6;
}

/* ---- stacks -------------------------------------------------------------------------- */

static int child(struct firefox *f, uint32_t prefix, uint32_t name, uint32_t *ret)
{
	uint64_t key = sb_mix64((uint64_t)prefix << 32 | name) | 1, at = map64_get(&f->children, key);

	if (!at) {
		if (f->n_stacks == f->cap_stacks) {
			uint32_t cap = f->cap_stacks ? f->cap_stacks * 2 : 4096;
			void *bigger = realloc(f->stack, cap * sizeof(*f->stack));

			if (!bigger)
				return -ENOMEM;
			f->stack = bigger;
			f->cap_stacks = cap;
		}
		f->stack[f->n_stacks++] = (struct stack){ prefix, name };
		at = f->n_stacks;
		if (map64_put(&f->children, key, at) < 0)
			return -ENOMEM;
	}
	*ret = (uint32_t)at - 1;
	return 0;
}

static int make_stacks(struct firefox *f)
{
	uint32_t ids[FOLD_MAX_FRAMES];

	f->stack_of = calloc(f->x->n_pairs + 1u, sizeof(*f->stack_of));
	if (!f->stack_of)
		return -ENOMEM;
	for (uint32_t pair = 0; pair < f->x->n_pairs; pair++) {
		uint32_t n = export_frames(f->x, pair, ids, FOLD_MAX_FRAMES), at = UINT32_MAX;

		for (uint32_t i = 0; i < n; i++) {
			if (child(f, at, ids[i] ? ids[i] - 1 : 0, &at) < 0)
				return -ENOMEM;
		}
		f->stack_of[pair] = at;
	}
	return 0;
}

static int by_thread(struct firefox *f)
{
	struct export *x = f->x;

	f->n_threads = bundle_n_threads(x->b) + 1;
	f->begin = calloc(f->n_threads + 2u, sizeof(*f->begin));
	f->order = calloc(x->n + 1, sizeof(*f->order));
	if (!f->begin || !f->order)
		return -ENOMEM;
	for (size_t i = 0; i < x->n; i++)
		f->begin[SB_MIN(x->event[i].thread, f->n_threads - 1) + 2]++;
	for (uint32_t i = 2; i < f->n_threads + 2; i++)
		f->begin[i] += f->begin[i - 1];
	for (size_t i = 0; i < x->n; i++)
		f->order[f->begin[SB_MIN(x->event[i].thread, f->n_threads - 1) + 1]++] = (uint32_t)i;
	return 0;
}

/* ---- columns ------------------------------------------------------------------------- */

static void put_index(FILE *out, bool first, uint32_t i)
{
	if (i == UINT32_MAX)
		fputs(first ? "null" : ",null", out);
	else
		fprintf(out, "%s%u", first ? "" : ",", i);
}

/* The same value n times. */
static void put_fill(FILE *out, const char *key, const char *value, uint32_t n)
{
	fprintf(out, ",\"%s\":[", key);
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, "%s%s", i ? "," : "", value);
	putc(']', out);
}

/* 0, 1, 2 ... plus an offset. */
static void put_count(FILE *out, const char *key, uint32_t first, uint32_t n)
{
	fprintf(out, "\"%s\":[", key);
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, "%s%u", i ? "," : "", first + i);
	putc(']', out);
}

static void put_shared(struct firefox *f)
{
	struct names *names = &f->x->fold.names;
	FILE *out = f->x->out;
	uint32_t n = names->n;

	fputs("\"shared\":{\"stackTable\":{\"frame\":[", out);
	for (uint32_t i = 0; i < f->n_stacks; i++)
		put_index(out, !i, f->stack[i].name);
	fputs("],\"prefix\":[", out);
	for (uint32_t i = 0; i < f->n_stacks; i++)
		put_index(out, !i, f->stack[i].prefix);
	fprintf(out, "],\"length\":%u},\n\"frameTable\":{", f->n_stacks);
	put_count(out, "func", 0, n);
	fputs(",\"category\":[", out);
	for (uint32_t i = 0; i < n; i++)
		put_index(out, !i, names->list[i].class == FRAME_KERNEL ? CATEGORY_KERNEL : CATEGORY_USER);
	putc(']', out);
	put_fill(out, "subcategory", "0", n);
	put_fill(out, "address", "-1", n);
	put_fill(out, "inlineDepth", "0", n);
	put_fill(out, "nativeSymbol", "null", n);
	put_fill(out, "innerWindowID", "0", n);
	put_fill(out, "line", "null", n);
	put_fill(out, "column", "null", n);
	fprintf(out, ",\"length\":%u},\n\"funcTable\":{", n);
	put_count(out, "name", BUNDLE_KIND_COUNT, n);
	put_fill(out, "isJS", "false", n);
	put_fill(out, "relevantForJS", "false", n);
	put_fill(out, "resource", "-1", n);
	put_fill(out, "source", "null", n);
	put_fill(out, "lineNumber", "null", n);
	put_fill(out, "columnNumber", "null", n);
	fprintf(out, ",\"length\":%u},\n\"resourceTable\":{\"lib\":[],\"name\":[],\"host\":[],\"type\":[],\"length\":0},"
		"\"nativeSymbols\":{\"libIndex\":[],\"address\":[],\"name\":[],\"functionSize\":[],\"length\":0},"
		"\"sources\":{\"id\":[],\"filename\":[],\"length\":0},\n\"stringArray\":[", n);
	for (int k = 0; k < BUNDLE_KIND_COUNT; k++) /* of the markers; the names of frames follow */
		fprintf(out, "%s\"%s\"", k ? "," : "", bundle_kind_name((enum bundle_kind)k));
	for (uint32_t id = 1; id <= n; id++)
		fprintf(out, ",\"%s\"", export_name(f->x, id));
	fputs("]}", out);
}

/* ---- threads ------------------------------------------------------------------------- */

/* The next on-CPU sample from *i on, which moves behind it; NULL: none is left. */
static const struct export_event *next_sample(const struct firefox *f, uint32_t *i, uint32_t last)
{
	while (*i < last) {
		const struct export_event *e = &f->x->event[f->order[(*i)++]];

		if (e->kind == BUNDLE_ON_CPU)
			return e;
	}
	return NULL;
}

static void put_samples(struct firefox *f, uint32_t first, uint32_t last)
{
	const struct export_event *e;
	FILE *out = f->x->out;
	uint32_t n = 0;

	fputs("\"samples\":{\"stack\":[", out);
	for (uint32_t i = first; (e = next_sample(f, &i, last));)
		put_index(out, !n++, f->stack_of[e->pair]);
	fputs("],\"time\":[", out);
	n = 0;
	for (uint32_t i = first; (e = next_sample(f, &i, last));)
		fprintf(out, "%s%.6f", n++ ? "," : "", ms(f, e->ts_ns));
	fputs("],\"threadCPUDelta\":[", out);
	n = 0;
	for (uint32_t i = first; (e = next_sample(f, &i, last));)
		fprintf(out, "%s%llu", n++ ? "," : "", (unsigned long long)e->duration_ns);
	fputs("],\"weight\":[", out);
	n = 0;
	for (uint32_t i = first; (e = next_sample(f, &i, last));)
		fprintf(out, "%s%llu", n++ ? "," : "", (unsigned long long)e->weight);
	fprintf(out, "],\"weightType\":\"samples\",\"length\":%u}", n);
}

static void put_what(struct firefox *f, const struct export_event *e)
{
	const struct bundle_header *h = bundle_header(f->x->b);
	const char *what = "";
	char buf[300];

	switch (e->kind) {
	case BUNDLE_OFF_CPU:
		snprintf(buf, sizeof(buf), "state %c", e->state);
		what = buf;
		break;
	case BUNDLE_RECLAIM:
		what = reclaim_name(e->what);
		break;
	case BUNDLE_LOCK_WAIT:
	case BUNDLE_LOCK_HOLD:
		snprintf(buf, sizeof(buf), "%s %s", lock_class(e->what), lock_mode(e->what));
		what = buf;
		break;
	case BUNDLE_SYSCALL:
		what = e->what ? syscall_name(h ? h->arch : "", e->what - 1, buf) : "";
		break;
	case BUNDLE_SOFTIRQ:
		what = softirq_name(e->what);
		break;
	case BUNDLE_HARDIRQ:
		snprintf(buf, sizeof(buf), "%u %s", e->irq, bundle_string(f->x->b, e->what));
		what = buf;
		break;
	case BUNDLE_BLOCK_IO:
	case BUNDLE_SLAB:
		what = bundle_string(f->x->b, e->what);
		break;
	case BUNDLE_WAKEUP:
	case BUNDLE_OOM:
		what = bundle_thread(f->x->b, e->what)->comm;
		break;
	}
	export_json(f->x->out, what);
}

static void put_marker(struct firefox *f, const struct export_event *e)
{
	FILE *out = f->x->out;

	fputs("{\"type\":\"stallbox\",\"what\":", out);
	put_what(f, e);
	fprintf(out, ",\"cpu\":%u,\"us\":%llu", e->cpu, (unsigned long long)(e->weight ? e->weight : e->duration_ns / 1000));
	if (export_is_sampled(e->kind))
		fprintf(out, ",\"weight\":%u", e->stands_for);
	if (f->stack_of[e->pair] != UINT32_MAX)
		fprintf(out, ",\"cause\":{\"time\":%.6f,\"stack\":%u}", ms(f, e->ts_ns), f->stack_of[e->pair]);
	putc('}', out);
}

static bool is_marker(const struct export_event *e)
{
	return e->kind != BUNDLE_ON_CPU && e->kind != BUNDLE_KIND_NONE;
}

/* One column of the markers of a thread. */
static void put_markers(struct firefox *f, uint32_t first, uint32_t last)
{
	static const char *const columns[] = { "data", "name", "startTime", "endTime", "phase", "category" };
	FILE *out = f->x->out;
	uint32_t n = 0;

	fputs("\"markers\":{", out);
	for (size_t c = 0; c < SB_ARRAY_SIZE(columns); c++) {
		fprintf(out, "\"%s\":[", columns[c]);
		n = 0;
		for (uint32_t i = first; i < last; i++) {
			const struct export_event *e = &f->x->event[f->order[i]];
			bool instant = e->kind == BUNDLE_WAKEUP || e->kind == BUNDLE_OOM;

			if (!is_marker(e))
				continue;
			if (n++)
				putc(',', out);
			if (c == 0)
				put_marker(f, e);
			else if (c == 1)
				fprintf(out, "%u", e->kind);
			else if (c == 2)
				fprintf(out, "%.6f", ms(f, e->ts_ns - (instant ? 0 : SB_MIN(e->ts_ns, e->duration_ns))));
			else if (c == 3 && instant)
				fputs("null", out);
			else if (c == 3)
				fprintf(out, "%.6f", ms(f, e->ts_ns));
			else
				fputs(c == 4 && instant ? "0" : "1", out);
		}
		fputs("],", out);
	}
	fprintf(out, "\"length\":%u}", n);
}

static void put_thread(struct firefox *f, uint32_t id)
{
	const struct bundle_thread *t = bundle_thread(f->x->b, id);
	const struct bundle_process *p = bundle_process(f->x->b, t->process);
	FILE *out = f->x->out;

	fputs("{\"processType\":\"default\",\"processStartupTime\":0,\"processShutdownTime\":null,\"registerTime\":0,"
	      "\"unregisterTime\":null,\"pausedRanges\":[],\"showMarkersInTimeline\":true,\"name\":", out);
	export_json(out, *t->comm ? t->comm : "[unknown]");
	fprintf(out, ",\"isMainThread\":%s,\"processName\":", t->tid == p->pid ? "true" : "false");
	export_json(out, *p->comm ? p->comm : t->comm);
	fprintf(out, ",\"pid\":\"%u\",\"tid\":%u,\n", p->pid, t->tid);
	put_samples(f, f->begin[id], f->begin[id + 1]);
	fputs(",\n", out);
	put_markers(f, f->begin[id], f->begin[id + 1]);
	putc('}', out);
}

/* ---- the rest ------------------------------------------------------------------------ */

static void put_meta(struct firefox *f)
{
	const struct bundle_header *h = bundle_header(f->x->b);
	FILE *out = f->x->out;
	char title[1200], losses[600];

	export_title(f->x, title, sizeof(title));
	losses_line(f->x->b, losses, sizeof(losses));
	fprintf(out, "{\"meta\":{\"interval\":%.6f,\"startTime\":%.6f,\"processType\":0,\"stackwalk\":1,\"debug\":0,"
		"\"gcpoison\":0,\"asyncstack\":0,\"version\":30,\"preprocessedProfileVersion\":%d,\"symbolicated\":true,"
		"\"symbolicationNotSupported\":true,\"usesOnlyOneStackType\":true,\"sourceCodeIsNotOnSearchfox\":true,"
		"\"importedFrom\":\"stallbox " SB_VERSION "\",\"extensions\":{\"id\":[],\"name\":[],\"baseURL\":[],\"length\":0},"
		"\"logicalCPUs\":%zu,\"platform\":\"Linux\",\"toolkit\":\"\",\"misc\":\"\",\"abi\":\"\",\"appBuildID\":\"\","
		"\"sampleUnits\":{\"time\":\"ms\",\"eventDelay\":\"ms\",\"threadCPUDelta\":\"ns\"},\"oscpu\":",
		h && h->sample_period_ns ? (double)h->sample_period_ns / 1e6 : 1.0,
		(double)export_realtime(f->x, f->base_ns) / 1e6, PROCESSED_VERSION, h ? h->n_cpu_online : 0);
	export_json(out, h ? h->kernel_release : "");
	fprintf(out, ",\"profilingStartTime\":%.6f,\"profilingEndTime\":%.6f,\"product\":",
		ms(f, f->x->n ? f->x->first_ns : f->base_ns), ms(f, f->x->n ? f->x->last_ns : f->base_ns) + 0.001);
	export_json(out, title);
	fputs(",\n\"categories\":[{\"name\":\"Other\",\"color\":\"grey\",\"subcategories\":[\"Other\"]},"
	      "{\"name\":\"Kernel\",\"color\":\"blue\",\"subcategories\":[\"Other\"]},"
	      "{\"name\":\"User\",\"color\":\"orange\",\"subcategories\":[\"Other\"]}],\n"
	      "\"markerSchema\":[{\"name\":\"stallbox\",\"tooltipLabel\":\"{marker.name}: {marker.data.what}\","
	      "\"tableLabel\":\"{marker.data.what}\",\"chartLabel\":\"{marker.name}: {marker.data.what}\","
	      "\"display\":[\"marker-chart\",\"marker-table\",\"timeline-overview\"],\"fields\":["
	      "{\"key\":\"what\",\"label\":\"What\",\"format\":\"string\"},{\"key\":\"cpu\",\"label\":\"CPU\",\"format\":\"integer\"},"
	      "{\"key\":\"us\",\"label\":\"Microseconds of all it stands for\",\"format\":\"integer\"},"
	      "{\"key\":\"weight\",\"label\":\"Stands for so many\",\"format\":\"integer\"}]}],\n"
	      "\"extra\":[{\"label\":\"stallbox\",\"entries\":[{\"label\":\"Losses\",\"format\":\"string\",\"value\":", out);
	export_json(out, losses);
	fputs("}]}]},\n\"libs\":[],\"pages\":[],\n", out);
}

static void put_counter(struct firefox *f, const struct bundle_series *s, const char *pid)
{
	FILE *out = f->x->out;

	fputs("{\"name\":", out);
	export_json(out, s->name);
	fputs(",\"category\":\"stallbox\",\"description\":", out);
	export_json(out, s->unit);
	fprintf(out, ",\"pid\":\"%s\",\"mainThreadIndex\":0,\"samples\":{\"time\":[", pid);
	for (size_t i = 0; i < s->n; i++)
		fprintf(out, "%s%.6f", i ? "," : "", ms(f, s->ts_ns[i]));
	fputs("],\"count\":[", out);
	for (size_t i = 0; i < s->n; i++)
		fprintf(out, "%s%lld", i ? "," : "",
			s->counter ? i ? (long long)(s->value[i] - s->value[i - 1]) : 0 : (long long)s->value[i]);
	fprintf(out, "],\"length\":%zu}}", s->n);
}

static void put_counters(struct firefox *f, uint32_t first_thread)
{
	const struct bundle_series *s;
	size_t n = bundle_series(f->x->b, &s);
	const char *sep = "";
	char pid[16];

	snprintf(pid, sizeof(pid), "%u", bundle_process(f->x->b, bundle_thread(f->x->b, first_thread)->process)->pid);
	fputs(",\n\"counters\":[", f->x->out);
	for (size_t i = 0; i < n; i++) {
		if (*s[i].scope || !s[i].n)
			continue;
		fputs(sep, f->x->out);
		put_counter(f, &s[i], pid);
		sep = ",\n";
	}
	putc(']', f->x->out);
}

static void set_base(struct firefox *f)
{
	const struct bundle_series *s;
	size_t n = bundle_series(f->x->b, &s);

	f->base_ns = f->x->n ? f->x->first_ns : bundle_first_ns(f->x->b);
	for (size_t i = 0; i < n; i++) {
		if (s[i].n)
			f->base_ns = SB_MIN(f->base_ns, s[i].ts_ns[0]);
	}
}

int export_firefox(struct export *x)
{
	struct firefox f = { .x = x };
	uint32_t first = UINT32_MAX;
	int r = export_collect(x);

	if (r == 0)
		r = make_stacks(&f);
	if (r == 0)
		r = by_thread(&f);
	if (r == 0) {
		set_base(&f);
		put_meta(&f);
		fputs("\"threads\":[", x->out);
		for (uint32_t id = 0; id < f.n_threads; id++) {
			if (f.begin[id] == f.begin[id + 1])
				continue;
			if (first == UINT32_MAX)
				first = id;
			else
				fputs(",\n", x->out);
			put_thread(&f, id);
		}
		fputs("],\n", x->out);
		put_shared(&f);
		if (first != UINT32_MAX)
			put_counters(&f, first);
		fputs("}\n", x->out);
	}
	map64_done(&f.children);
	free(f.stack);
	free(f.stack_of);
	free(f.begin);
	free(f.order);
	return r;
}
