// SPDX-License-Identifier: BSD-2-Clause
/*
 * Every record as one JSON object per line, in the order of the bundle; docs/ndjson.schema.json
 * is its schema. Stacks, threads, processes and cgroups come before the events that name them.
 */
#include <inttypes.h>
#include <math.h>

#include "format/columns.h"
#include "tools/describe.h"
#include "tools/export.h"

static void text(const char *key, const char *value)
{
	printf(",\"%s\":", key);
	export_json(stdout, value);
}

static void number(const char *key, uint64_t value)
{
	printf(",\"%s\":%" PRIu64, key, value);
}

/* JSON knows neither nan nor inf. */
static void real(const char *key, double value)
{
	if (isfinite(value))
		printf(",\"%s\":%.17g", key, value);
	else
		printf(",\"%s\":null", key);
}

static void put_pairs(const char *key, const struct bundle_kv *kv, size_t n)
{
	printf(",\"%s\":[", key);
	for (size_t i = 0; i < n; i++) {
		printf("%s{\"key\":", i ? "," : "");
		export_json(stdout, kv[i].key);
		text("value", kv[i].value);
		putchar('}');
	}
	putchar(']');
}

static void put_header(const struct bundle *b)
{
	const struct bundle_header *h = bundle_header(b);

	if (!h)
		return;
	printf("{\"type\":\"header\",\"schema\":1,\"format\":\"%u.%u\"", h->format_major, h->format_minor);
	text("producer", h->producer);
	text("hostname", h->hostname);
	text("kernel", h->kernel_release);
	text("kernel_version", h->kernel_version);
	text("arch", h->arch);
	text("boot_id", h->boot_id);
	number("cpus_online", h->n_cpu_online);
	number("cpus_possible", h->cpus_possible);
	number("page_size", h->page_size);
	number("mem_total_bytes", h->mem_total_bytes);
	number("sample_period_ns", h->sample_period_ns);
	number("offcpu_threshold_ns", h->offcpu_threshold_ns);
	number("ring_bytes", h->ring_bytes);
	printf(",\"clocks\":[");
	for (size_t i = 0; i < h->n_clocks; i++)
		printf("%s{\"monotonic_ns\":%" PRId64 ",\"realtime_ns\":%" PRId64 ",\"boottime_ns\":%" PRId64 "}",
		       i ? "," : "", h->clocks[i].monotonic_ns, h->clocks[i].realtime_ns, h->clocks[i].boottime_ns);
	printf("],\"trigger\":{\"fired_ns\":%" PRIu64, h->trigger.fired_ns);
	text("name", h->trigger.name);
	text("kind", h->trigger.kind);
	text("spec", h->trigger.spec);
	text("unit", h->trigger.unit);
	text("detail", h->trigger.detail);
	real("value", h->trigger.value);
	real("threshold", h->trigger.threshold);
	number("target_tid", h->trigger.target_tid);
	putchar('}');
	put_pairs("config", h->config, h->n_config);
	put_pairs("missing", h->missing, h->n_missing);
	printf("}\n");
}

static const char *maps_name(uint32_t state)
{
	static const char *const names[] = { "none", "read", "timed-out", "exited", "denied", "known" };

	return state < SB_ARRAY_SIZE(names) ? names[state] : "?";
}

static void put_tables(const struct bundle *b)
{
	for (uint32_t id = 1; id <= bundle_n_cgroups(b); id++) {
		printf("{\"type\":\"cgroup\",\"id\":%u", id);
		number("kernel_id", bundle_cgroup_kernel_id(b, id));
		text("path", bundle_cgroup_path(b, id));
		printf("}\n");
	}
	for (uint32_t id = 1; id <= bundle_n_processes(b); id++) {
		const struct bundle_process *p = bundle_process(b, id);

		printf("{\"type\":\"process\",\"id\":%u,\"pid\":%u,\"ppid\":%u,\"cgroup\":%u", id, p->pid, p->ppid, p->cgroup);
		text("comm", p->comm);
		text("exe", p->exe);
		if (p->cmdline[0]) {
			text("cmdline", p->cmdline);
			number("cmdline_bytes", p->cmdline_bytes);
		}
		number("start_ns", p->start_ns);
		number("exit_ns", p->exit_ns);
		text("maps", maps_name(p->map_state));
		printf("}\n");
	}
	for (uint32_t id = 1; id <= bundle_n_threads(b); id++) {
		const struct bundle_thread *t = bundle_thread(b, id);

		printf("{\"type\":\"thread\",\"id\":%u,\"tid\":%u,\"process\":%u,\"cgroup\":%u", id, t->tid, t->process, t->cgroup);
		text("comm", t->comm);
		printf("}\n");
	}
}

static void put_frame(struct export *x, uint32_t process, uint64_t addr, const char *comma)
{
	const struct bundle_line *line;
	uint32_t ids[NAMES_INLINED], k = names_frames(&x->fold.names, process, addr, ids, NAMES_INLINED);
	size_t n = bundle_lines(x->b, process, addr, &line), first = n > k ? n - k : 0;

	printf("%s{\"addr\":\"0x%" PRIx64 "\",\"name\":\"%s\"", comma, addr,
	       export_name(x, ids[k - 1]));
	for (size_t i = first; i < n; i++) {
		printf("%s{\"name\":\"%s\",", i > first ? "," : ",\"source\":[", export_name(x, ids[i - first]));
		printf("\"file\":\"");
		escape_put(stdout, ESCAPE_JSON, line[i].file);
		printf("\",\"line\":%u}", line[i].line);
	}
	printf("%s}", n ? "]" : "");
}

static void put_stacks(struct export *x)
{
	for (uint32_t id = 1; id <= bundle_n_stacks(x->b); id++) {
		const struct bundle_stack *s = bundle_stack(x->b, id);
		uint32_t n = s->n, process = s->process;
		const uint64_t *addr = s->addr;

		printf("{\"type\":\"stack\",\"id\":%u,\"space\":\"%s\",\"process\":%u,\"frames\":[", id,
		       process ? "user" : "kernel", process);
		for (uint32_t i = 0; i < n; i++)
			put_frame(x, process, addr[i], i ? "," : "");
		printf("]}\n");
	}
}

static int put_event(const struct bundle_event *e, void *ctx)
{
	struct export *x = ctx;
	const struct bundle_thread *t = bundle_thread(x->b, e->thread);

	if (!filter_event(x->filter, e))
		return 0;
	printf("{\"type\":\"event\",\"kind\":\"%s\",\"ts_ns\":%" PRIu64 ",\"offset_ns\":%" PRId64 ",\"cpu\":%u,\"thread\":%u,"
	       "\"pid\":%u,\"tid\":%u", bundle_kind_name(e->kind), e->ts_ns, (int64_t)(e->ts_ns - x->filter->trigger_ns),
	       e->cpu, e->thread, bundle_process(x->b, t->process)->pid, t->tid);
	text("comm", t->comm);
	printf(",\"duration_ns\":%" PRIu64 ",\"flags\":%u,\"kstack\":%u,\"ustack\":%u", e->duration_ns, e->flags, e->kstack,
	       e->ustack);
	describe_json(x->b, e);
	printf("}\n");
	return ferror(stdout) ? -1 : 0;
}

static void put_stackshot(struct export *x)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(x->b, &t, &begin, &end, &seen, &truncated);

	if (n)
		printf("{\"type\":\"stackshot\",\"begin_ns\":%" PRIu64 ",\"end_ns\":%" PRIu64 ",\"seen\":%" PRIu64
		       ",\"truncated\":%" PRIu64 "}\n", begin, end, seen, truncated);
	for (size_t i = 0; i < n; i++) {
		if (!filter_shot(x->filter, &t[i]))
			continue;
		printf("{\"type\":\"shot\",\"thread\":%u,\"state\":%u,\"cpu\":%u,\"running\":%s,\"runnable\":%s,\"since_ns\":%" PRIu64
		       ",\"kstack\":%u,\"ustack\":%u,\"wchan\":\"0x%" PRIx64 "\",\"mm\":%u", t[i].thread, t[i].state, t[i].cpu,
		       t[i].flags & BUNDLE_SHOT_RUNNING ? "true" : "false",
		       t[i].flags & BUNDLE_SHOT_RUNNABLE ? "true" : "false", t[i].since_ns, t[i].kstack, t[i].ustack,
		       t[i].wchan, t[i].mm);
		printf(",\"lock\":\"0x%" PRIx64 "\",\"lock_since_ns\":%" PRIu64 ",\"lock_flags\":%u,\"lock_owner\":%u,"
		       "\"reclaim_since_ns\":%" PRIu64 "}\n", t[i].lock, t[i].lock_since_ns, t[i].lock_flags, t[i].lock_owner,
		       t[i].reclaim_since_ns);
	}
}

static void put_series(const struct bundle *b)
{
	const struct bundle_series *s;
	size_t n = bundle_series(b, &s);

	for (size_t i = 0; i < n; i++) {
		printf("{\"type\":\"series\"");
		text("name", s[i].name);
		text("scope", s[i].scope);
		text("unit", s[i].unit);
		printf(",\"counter\":%s,\"values\":[", s[i].counter ? "true" : "false");
		for (size_t k = 0; k < s[i].n; k++)
			printf("%s[%" PRIu64 ",%" PRId64 "]", k ? "," : "", s[i].ts_ns[k], s[i].value[k]);
		printf("]}\n");
	}
}

static void put_rest(const struct bundle *b)
{
	const struct bundle_damage *d = bundle_damage(b);
	const struct bundle_cost *c = bundle_cost(b);
	const struct bundle_mark *m;
	const struct bundle_loss *l;
	size_t n = bundle_marks(b, &m);

	for (size_t i = 0; i < n; i++) {
		printf("{\"type\":\"mark\",\"ts_ns\":%" PRIu64, m[i].ts_ns);
		text("kind", m[i].kind);
		text("text", m[i].text);
		printf("}\n");
	}
	n = bundle_losses(b, &l);
	for (size_t i = 0; i < n; i++) {
		printf("{\"type\":\"loss\",\"cause\":\"%s\",\"kind\":\"%s\",\"cpu\":%d,\"count\":%" PRIu64 ",\"since_ns\":%" PRIu64,
		       bundle_loss_name(l[i].cause), bundle_kind_name(l[i].kind), l[i].cpu, l[i].count,
		       bundle_losses_since_ns(b));
		text("unit", l[i].unit);
		text("what", l[i].what);
		printf("}\n");
	}
	for (size_t i = 0; c && i < c->n_programs; i++) {
		printf("{\"type\":\"program\",\"runs\":%" PRIu64 ",\"run_time_ns\":%" PRIu64 ",\"recursion_misses\":%" PRIu64,
		       c->program[i].run_cnt, c->program[i].run_time_ns, c->program[i].recursion_misses);
		text("name", c->program[i].name);
		printf("}\n");
	}
	if (c) {
		printf("{\"type\":\"cost\"");
#define FIELD(field) number(#field, c->field);
		COST_FIELDS(FIELD)
#undef FIELD
		printf("}\n");
	}
	printf("{\"type\":\"end\",\"complete\":%s,\"bad_frames\":%" PRIu64 ",\"missing_chunks\":%" PRIu64
	       ",\"bad_references\":%" PRIu64 "}\n", d->complete ? "true" : "false", d->bad_frames, d->missing_chunks,
	       d->bad_references);
}

int export_ndjson(struct export *x)
{
	int r;

	put_header(x->b);
	put_tables(x->b);
	put_stacks(x);
	r = bundle_each_event(x->b, put_event, x);
	if (r < 0 && !ferror(stdout))
		return r;
	if (x->filter->kinds & FILTER_BLOCKED)
		put_stackshot(x);
	put_series(x->b);
	put_rest(x->b);
	return 0;
}
