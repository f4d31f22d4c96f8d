// SPDX-License-Identifier: BSD-2-Clause
/* stallbox info: what fired and why, what the bundle holds, what it does not. */
#include <math.h>
#include <stdio.h>

#include "format/columns.h"
#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/fold.h"

static const struct opt_command command = {
	"info", "BUNDLE", "Say what fired and why, and what the bundle holds and lost.",
	{ "stallbox info X.stall.pb.zst", "stallbox info --json X.stall.pb.zst | jq .losses" },
};

static void put(const char *label, const char *text)
{
	printf("%-12s", label);
	escape_put(stdout, ESCAPE_TERMINAL, text);
	putchar('\n');
}

static void show_trigger(const struct bundle_header *h)
{
	const struct bundle_trigger *t = &h->trigger;
	char when[64] = "unknown time", line[700];
	struct tm tm;
	time_t s;

	if (h->n_clocks) {
		s = (time_t)((h->clocks[0].realtime_ns - h->clocks[0].monotonic_ns +
			      (int64_t)t->fired_ns) / (int64_t)NSEC_PER_SEC);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&s, &tm));
	}
	if (strcmp(t->name, t->spec))
		snprintf(line, sizeof(line), "%s (%s), %s", t->name, t->spec, when);
	else
		snprintf(line, sizeof(line), "%s, %s", t->name, when);
	put("trigger", line);
	if (t->threshold > 0) {
		snprintf(line, sizeof(line), "value %g %s, threshold %g %s%s%s", t->value, t->unit,
			 t->threshold, t->unit, t->detail[0] ? ": " : "", t->detail);
		put("why", line);
	} else {
		put("why", t->detail[0] ? t->detail : "somebody asked");
	}
	snprintf(line, sizeof(line), "%s, kernel %s %s, %zu CPUs online, %.1f GiB", h->hostname,
		 h->kernel_release, h->arch, h->n_cpu_online,
		 (double)h->mem_total_bytes / 1073741824.0);
	put("host", line);
}

static void show_counts(const struct bundle *b, uint64_t trigger_ns)
{
	uint64_t first = bundle_first_ns(b), last = bundle_last_ns(b);
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated, blocked = 0, runnable = 0, uninterruptible = 0;
	size_t n = bundle_stackshot(b, &t, &begin, &end, &seen, &truncated);

	printf("%-12s%.1f s before the trigger, %.1f s after\n", "history",
	       first && first < trigger_ns ? (double)(trigger_ns - first) / 1e9 : 0.0,
	       last > trigger_ns ? (double)(last - trigger_ns) / 1e9 : 0.0);
	printf("%-12s", "events");
	for (int k = BUNDLE_ON_CPU; k < BUNDLE_KIND_COUNT; k++) {
		if (k <= BUNDLE_RECLAIM || bundle_n_events(b, (enum bundle_kind)k))
			printf("%s%llu %s", k > BUNDLE_ON_CPU ? ", " : "",
			       (unsigned long long)bundle_n_events(b, (enum bundle_kind)k),
			       bundle_kind_name((enum bundle_kind)k));
	}
	putchar('\n');
	for (size_t i = 0; i < n; i++) {
		runnable += (t[i].flags & BUNDLE_SHOT_RUNNABLE) != 0;
		uninterruptible += (t[i].state & BUNDLE_TASK_UNINTERRUPTIBLE) &&
				   !(t[i].state & BUNDLE_TASK_NOLOAD);
		blocked += !(t[i].flags & (BUNDLE_SHOT_RUNNABLE | BUNDLE_SHOT_RUNNING));
	}
	if (n)
		printf("%-12s%zu threads in %.2f ms: %llu blocked (%llu in D state), %llu waiting for a "
		       "CPU\n", "stackshot", n, (double)(end - begin) / 1e6, (unsigned long long)blocked,
		       (unsigned long long)uninterruptible, (unsigned long long)runnable);
}

#define MAX_CPUS 8192u /* Linux has no more; a bundle may say anything */

/* Run queues at the freeze, by the stackshot: who had each CPU, how many waited for it. */
struct run_queue {
	uint32_t cpu, running, waiting; /* running: thread id, 0 none */
};

/* By CPU, in *ret, malloced; those on which nobody ran or waited are left out. */
static size_t run_queues(const struct bundle_shot_thread *t, size_t n, struct run_queue **ret)
{
	uint32_t cpus = 0;
	size_t used = 0;
	struct run_queue *q;

	*ret = NULL;
	for (size_t i = 0; i < n; i++)
		cpus = SB_MAX(cpus, SB_MIN(t[i].cpu, MAX_CPUS - 1) + 1);
	q = calloc(cpus + 1, sizeof(*q));
	if (!q)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (t[i].cpu >= cpus)
			continue;
		if (t[i].flags & BUNDLE_SHOT_RUNNING)
			q[t[i].cpu].running = t[i].thread;
		else if (t[i].flags & BUNDLE_SHOT_RUNNABLE)
			q[t[i].cpu].waiting++;
	}
	for (uint32_t cpu = 0; cpu < cpus; cpu++) {
		if (q[cpu].running || q[cpu].waiting)
			q[used++] = (struct run_queue){ cpu, q[cpu].running, q[cpu].waiting };
	}
	*ret = q;
	return used;
}

/* Only those on which somebody waited: of 128 CPUs the others say nothing. */
static void show_run_queues(const struct bundle *b)
{
	const struct bundle_shot_thread *t;
	uint64_t ignored;
	size_t n = bundle_stackshot(b, &t, &ignored, &ignored, &ignored, &ignored), shown = 0;
	struct run_queue *q;

	n = run_queues(t, n, &q);
	for (size_t i = 0; i < n; i++) {
		const struct bundle_thread *running = q[i].running ? bundle_thread(b, q[i].running) : NULL;

		if (!q[i].waiting)
			continue;
		printf("%-12sCPU %u: %u waiting%s", shown++ ? "" : "run queues", q[i].cpu, q[i].waiting,
		       running ? " behind " : "");
		if (running) {
			escape_put(stdout, ESCAPE_TERMINAL, running->comm);
			printf(" %u", running->tid);
		}
		putchar('\n');
	}
	free(q);
}

static void show_series(const struct bundle *b, uint64_t trigger_ns)
{
	const struct bundle_series *s;
	size_t n = bundle_series(b, &s), values = 0;
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < n; i++) {
		values += s[i].n;
		if (s[i].n)
			first = SB_MIN(first, s[i].ts_ns[0]);
	}
	if (values)
		printf("%-12s%zu counters and gauges, %zu values, from %.0f s before the trigger on\n", "series", n,
		       values, first < trigger_ns ? (double)(trigger_ns - first) / 1e9 : 0.0);
}

static void show_losses(const struct bundle *b, uint64_t trigger_ns)
{
	uint64_t since = bundle_losses_since_ns(b);
	const struct bundle_loss *l;
	size_t n = bundle_losses(b, &l);

	if (!n) {
		put("losses", bundle_footer(b) ? "none" : "unknown: the bundle was cut short");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		printf("%-12s%llu ", i ? "" : "losses", (unsigned long long)l[i].count);
		if (l[i].kind != BUNDLE_KIND_NONE)
			printf("%s ", bundle_kind_name(l[i].kind));
		escape_put(stdout, ESCAPE_TERMINAL, l[i].unit);
		printf(" %s: ", bundle_loss_name(l[i].cause));
		escape_put(stdout, ESCAPE_TERMINAL, l[i].what);
		putchar('\n');
	}
	if (since && since < trigger_ns)
		printf("%-12s(counted since recording began, %.0f s before the trigger)\n", "",
		       (double)(trigger_ns - since) / 1e9);
}

static void json_text(const char *key, const char *value)
{
	printf("\"%s\":\"", key);
	escape_put(stdout, ESCAPE_JSON, value);
	printf("\",");
}

static int by_time(const void *a, const void *b)
{
	const struct bundle_program_cost *x = a, *y = b;

	return (x->run_time_ns < y->run_time_ns) - (x->run_time_ns > y->run_time_ns);
}

/* One line each, the dearest first; those that did not run are left out. */
static void show_programs(const struct bundle_cost *c, double cpus)
{
	struct bundle_program_cost *p = calloc(c->n_programs + 1, sizeof(*p));
	double span = (double)(c->until_ns - c->since_ns);

	if (p && c->n_programs && c->until_ns > c->since_ns) {
		memcpy(p, c->program, c->n_programs * sizeof(*p));
		qsort(p, c->n_programs, sizeof(*p), by_time);
		for (size_t i = 0; i < c->n_programs && p[i].run_cnt; i++) {
			printf("%-14s", "");
			escape_put(stdout, ESCAPE_TERMINAL, p[i].name);
			printf(": %.0f/s, %.0f ns each, %.3f %%\n", (double)p[i].run_cnt / span * 1e9,
			       (double)p[i].run_time_ns / (double)p[i].run_cnt,
			       100.0 * (double)p[i].run_time_ns / (span * cpus));
		}
	}
	free(p);
}

static void json_cost(const struct bundle *b)
{
	const struct bundle_cost *c = bundle_cost(b);

	if (!c)
		return;
	printf("\"own_cost\":{");
#define FIELD(field) printf("\"" #field "\":%llu,", (unsigned long long)c->field);
	COST_FIELDS(FIELD)
#undef FIELD
	printf("\"programs\":[");
	for (size_t i = 0; i < c->n_programs; i++) {
		printf("%s{", i ? "," : "");
		json_text("name", c->program[i].name);
		printf("\"runs\":%llu,\"ns\":%llu}", (unsigned long long)c->program[i].run_cnt,
		       (unsigned long long)c->program[i].run_time_ns);
	}
	printf("]},");
}

static void show_cost(const struct bundle *b, const struct bundle_header *h)
{
	const struct bundle_cost *c = bundle_cost(b);
	double cpus = h && h->n_cpu_online ? (double)h->n_cpu_online : 1;
	uint64_t ns = 0, runs = 0, span;

	if (!c)
		return;
	span = c->until_ns - c->since_ns;
	for (size_t i = 0; i < c->n_programs; i++) {
		ns += c->program[i].run_time_ns;
		runs += c->program[i].run_cnt;
	}
	printf("%-12s", "own cost");
	if (c->until_ns > c->since_ns)
		printf("BPF %.3f %% of the machine (%llu runs, %.0f ns each, in a window of %.1f s); ",
		       100.0 * (double)ns / ((double)span * cpus),
		       (unsigned long long)runs, runs ? (double)ns / (double)runs : 0,
		       (double)span / 1e9);
	printf("agent %.0f ms CPU since it records, RSS %.1f MiB, kernel maps %.0f MiB\n",
	       (double)c->agent_cpu_ns / 1e6, (double)c->agent_rss_bytes / 1048576,
	       (double)c->map_bytes / 1048576);
	if (!c->period_ns) /* written before these were kept */
		return;
	printf("%-12sBPF %.3f s and workers %.0f ms CPU in %.0f s (%u windows measured), workers' RSS %.1f MiB, "
	       "%.1f wakeups/s, %llu bytes written\n", "", (double)c->bpf_time_ns / 1e9,
	       (double)c->worker_cpu_ns / 1e6, (double)c->period_ns / 1e9, c->windows,
	       (double)c->worker_rss_bytes / 1048576, (double)c->wakeups * 1e9 / (double)c->period_ns,
	       (unsigned long long)c->bytes_written);
	show_programs(c, cpus);
	printf("%-12s%.4g %% of the machine; ", "cpu budget", c->budget_ppm / 1e4);
	if (c->limit_step)
		printf("limited, step %u of 4, see marks and losses\n", c->limit_step);
	else
		printf("nothing left out at the end%s\n", c->limit_changes ? ", but see marks and losses" : "");
}

static void show_marks(const struct bundle *b, uint64_t trigger_ns)
{
	const struct bundle_mark *m;
	size_t n = bundle_marks(b, &m);
	char off[32];

	for (size_t i = 0; i < n; i++) {
		printf("%-12s%s ", i ? "" : "marks", offset_text((int64_t)(m[i].ts_ns - trigger_ns), off));
		escape_put(stdout, ESCAPE_TERMINAL, m[i].kind);
		printf(": ");
		escape_put(stdout, ESCAPE_TERMINAL, m[i].text);
		putchar('\n');
	}
}

/* The hottest stacks are those of the incident, not of the last quarter of an hour. */
#define HOT_WINDOW_NS ((int64_t)(30 * NSEC_PER_SEC))

/* A name for a stack in one line: its innermost frames. */
static void show_hottest(struct bundle *b, enum fold_kind kind, uint64_t top)
{
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	struct fold f;
	uint32_t ids[FOLD_MAX_FRAMES];

	if (filter_start(&filter, b) < 0)
		return;
	filter.since = (struct opt_offset){ true, -HOT_WINDOW_NS };
	if (kind == FOLD_OFF_CPU)
		filter.state = "DR"; /* a thread that sleeps on purpose is no news */
	if (fold_bundle(&f, b, &filter, kind, false) < 0 || fold_merge(&f) < 0 || !f.n) {
		fold_done(&f);
		return;
	}
	fold_sort(&f);
	if (fold_frames(&f, &f.row[0], ids, FOLD_MAX_FRAMES) < 2) {
		fold_done(&f); /* a kind without stacks */
		return;
	}
	printf("\nhottest %s stacks%s:\n", fold_kind_name(kind),
	       kind == FOLD_BLOCKED ? " at the freeze" :
	       kind == FOLD_OFF_CPU ? " from 30 s before the trigger on, in D state or waiting for a CPU" :
				      " from 30 s before the trigger on");
	for (size_t i = 0; i < f.n && i < top; i++) {
		uint32_t n = fold_frames(&f, &f.row[i], ids, FOLD_MAX_FRAMES), shown = 0;

		if (!strcmp(fold_unit(&f), "microseconds"))
			printf("  %10.3f ms ", (double)f.row[i].weight / 1e3);
		else
			printf("  %10llu   ", (unsigned long long)f.row[i].weight);
		printf("%5.1f %%  ", f.total ? 100.0 * (double)f.row[i].weight / (double)f.total : 0.0);
		escape_put(stdout, ESCAPE_TERMINAL, names_get(&f.names, ids[0]));
		printf(": ");
		for (uint32_t k = n; k > 1 && shown < 8; k--, shown++) {
			printf("%s", shown ? " < " : "");
			escape_put(stdout, ESCAPE_TERMINAL, names_get(&f.names, ids[k - 1]));
		}
		printf("%s\n", n > 9 ? " < ..." : "");
	}
	fold_done(&f);
}

/* ---- how whole user stacks are ------------------------------------------------------ */

#define PROGRAMS 1024u
#define PROGRAMS_SHOWN 8u

struct program {
	const char *comm;
	uint64_t stacks, complete;
};

struct wholeness {
	struct bundle *b;
	uint64_t known; /* stacks of which the recorder knows why they end */
	struct program all, other, program[PROGRAMS]; /* other: beyond the table */
	size_t n;
};

static void count_stack(struct wholeness *w, uint32_t process, uint32_t ustack)
{
	const char *comm = bundle_process(w->b, process)->comm;
	struct program *p = &w->other;
	uint64_t complete;
	size_t i = 0;

	if (!ustack)
		return;
	w->known += (bundle_stack(w->b, ustack)->unwind >> 4) != BUNDLE_END_UNKNOWN;
	complete = (bundle_stack(w->b, ustack)->unwind >> 4) == BUNDLE_END_COMPLETE;
	while (i < w->n && strcmp(w->program[i].comm, comm))
		i++;
	if (i < PROGRAMS) {
		p = &w->program[i];
		p->comm = comm;
		w->n = SB_MAX(w->n, i + 1);
	}
	p->stacks++;
	p->complete += complete;
	w->all.stacks++;
	w->all.complete += complete;
}

static int count_event(const struct bundle_event *e, void *ctx)
{
	struct wholeness *w = ctx;

	count_stack(w, bundle_thread(w->b, e->thread)->process, e->ustack);
	return 0;
}

static int by_stacks(const void *a, const void *b)
{
	const struct program *x = a, *y = b;

	return x->stacks < y->stacks ? 1 : x->stacks > y->stacks ? -1 : strcmp(x->comm, y->comm);
}

/* Of the records and of the stackshot. NULL: no memory. */
static struct wholeness *wholeness_of(struct bundle *b)
{
	struct wholeness *w = calloc(1, sizeof(*w));
	const struct bundle_shot_thread *t;
	uint64_t ignored;
	size_t n;

	if (!w)
		return NULL;
	w->b = b;
	bundle_each_event(b, count_event, w);
	n = bundle_stackshot(b, &t, &ignored, &ignored, &ignored, &ignored);
	for (size_t i = 0; i < n; i++)
		count_stack(w, bundle_thread(b, t[i].thread)->process, t[i].ustack);
	qsort(w->program, w->n, sizeof(w->program[0]), by_stacks);
	return w;
}

static void show_wholeness(struct bundle *b)
{
	struct wholeness *w = wholeness_of(b);

	if (w && w->known) {
		printf("%-12s%.1f %% of %llu are complete:", "user stacks",
		       100.0 * (double)w->all.complete / (double)w->all.stacks, (unsigned long long)w->all.stacks);
		for (size_t i = 0; i < w->n && i < PROGRAMS_SHOWN; i++) {
			printf("%s", i ? ", " : " ");
			escape_put(stdout, ESCAPE_TERMINAL, w->program[i].comm);
			printf(" %.0f %% of %llu", 100.0 * (double)w->program[i].complete / (double)w->program[i].stacks,
			       (unsigned long long)w->program[i].stacks);
		}
		printf("%s\n", w->n > PROGRAMS_SHOWN ? ", ..." : "");
	}
	free(w);
}

static void json_wholeness(struct bundle *b)
{
	struct wholeness *w = wholeness_of(b);

	printf("\"user_stacks\":{\"stacks\":%llu,\"complete\":%llu,\"programs\":[",
	       w ? (unsigned long long)w->all.stacks : 0, w ? (unsigned long long)w->all.complete : 0);
	for (size_t i = 0; w && i < w->n; i++) {
		printf("%s{\"comm\":\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, w->program[i].comm);
		printf("\",\"stacks\":%llu,\"complete\":%llu}", (unsigned long long)w->program[i].stacks,
		       (unsigned long long)w->program[i].complete);
	}
	printf("],\"of_other_programs\":%llu},", w ? (unsigned long long)w->other.stacks : 0);
	free(w);
}

static void show(struct bundle *b, uint64_t top)
{
	const struct bundle_header *h = bundle_header(b);
	const struct bundle_footer *foot = bundle_footer(b);
	uint64_t trigger_ns = h ? h->trigger.fired_ns : bundle_last_ns(b);

	if (h)
		show_trigger(h);
	else
		put("header", "lost");
	show_counts(b, trigger_ns);
	show_run_queues(b);
	show_marks(b, trigger_ns);
	show_series(b, trigger_ns);
	show_losses(b, trigger_ns);
	show_wholeness(b);
	for (size_t i = 0; h && i < h->n_missing; i++) {
		printf("%-12s", i ? "" : "missing");
		escape_put(stdout, ESCAPE_TERMINAL, h->missing[i].key);
		printf(": ");
		escape_put(stdout, ESCAPE_TERMINAL, h->missing[i].value);
		putchar('\n');
	}
	show_cost(b, h);
	if (foot && !foot->raw_durable_ns)
		put("file", "complete; no disk had taken it when this was written");
	else if (foot)
		printf("%-12scomplete; history durable %.0f ms after the trigger, all of it after %.1f s\n",
		       "file", foot->pre_durable_ns ? (double)(foot->pre_durable_ns - trigger_ns) / 1e6 : 0,
		       (double)(foot->raw_durable_ns - trigger_ns) / 1e9);
	else
		put("file", "no footer: still being written, or cut short");
	for (int k = 0; top && k < FOLD_KINDS; k++)
		show_hottest(b, (enum fold_kind)k, top);
}

/* JSON knows neither nan nor inf. */
static void json_number(const char *key, double v)
{
	if (isfinite(v))
		printf("\"%s\":%.15g", key, v);
	else
		printf("\"%s\":null", key);
}

static void json_run_queues(const struct bundle *b, const struct bundle_shot_thread *t, size_t n)
{
	struct run_queue *q;

	n = run_queues(t, n, &q);
	for (size_t i = 0; i < n; i++) {
		const struct bundle_thread *running = q[i].running ? bundle_thread(b, q[i].running) : NULL;

		printf("%s{\"cpu\":%u,\"waiting\":%u", i ? "," : "", q[i].cpu, q[i].waiting);
		if (running) {
			printf(",\"tid\":%u,\"comm\":\"", running->tid);
			escape_put(stdout, ESCAPE_JSON, running->comm);
			putchar('"');
		}
		putchar('}');
	}
	free(q);
}

static void show_json(struct bundle *b)
{
	static const struct bundle_header none = { .hostname = "", .kernel_release = "", .arch = "",
						   .producer = "",
						   .trigger = { "", "", "", "", "", 0, 0, 0, 0 } };
	const struct bundle_header *h = bundle_header(b) ? bundle_header(b) : &none;
	const struct bundle_damage *d = bundle_damage(b);
	const struct bundle_loss *l;
	const struct bundle_mark *m;
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n;

	printf("{");
	json_text("producer", h->producer);
	json_text("hostname", h->hostname);
	json_text("kernel", h->kernel_release);
	printf("\"trigger\":{");
	json_text("name", h->trigger.name);
	json_text("kind", h->trigger.kind);
	json_text("spec", h->trigger.spec);
	json_text("detail", h->trigger.detail);
	json_text("unit", h->trigger.unit);
	printf("\"fired_ns\":%llu,", (unsigned long long)h->trigger.fired_ns);
	json_number("value", h->trigger.value);
	putchar(',');
	json_number("threshold", h->trigger.threshold);
	printf("},");
	printf("\"first_ns\":%llu,\"last_ns\":%llu,\"events\":{",
	       (unsigned long long)bundle_first_ns(b), (unsigned long long)bundle_last_ns(b));
	for (int k = BUNDLE_ON_CPU; k < BUNDLE_KIND_COUNT; k++)
		printf("%s\"%s\":%llu", k > BUNDLE_ON_CPU ? "," : "", bundle_kind_name((enum bundle_kind)k),
		       (unsigned long long)bundle_n_events(b, (enum bundle_kind)k));
	n = bundle_stackshot(b, &t, &begin, &end, &seen, &truncated);
	printf("},\"stackshot_begin_ns\":%llu,\"stackshot_end_ns\":%llu,\"stackshot_threads\":%zu,\"run_queues\":[",
	       (unsigned long long)begin, (unsigned long long)end, n);
	json_run_queues(b, t, n);
	printf("],\"losses_since_ns\":%llu,\"losses\":[", (unsigned long long)bundle_losses_since_ns(b));
	n = bundle_losses(b, &l);
	for (size_t i = 0; i < n; i++) {
		printf("%s{", i ? "," : "");
		json_text("cause", bundle_loss_name(l[i].cause));
		json_text("kind", bundle_kind_name(l[i].kind));
		json_text("unit", l[i].unit);
		json_text("what", l[i].what);
		printf("\"count\":%llu}", (unsigned long long)l[i].count);
	}
	printf("],\"marks\":[");
	n = bundle_marks(b, &m);
	for (size_t i = 0; i < n; i++) {
		printf("%s{", i ? "," : "");
		json_text("kind", m[i].kind);
		json_text("text", m[i].text);
		printf("\"ts_ns\":%llu}", (unsigned long long)m[i].ts_ns);
	}
	printf("],");
	json_cost(b);
	printf("\"missing\":[");
	for (size_t i = 0; i < h->n_missing; i++) {
		printf("%s\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, h->missing[i].key);
		putchar('"');
	}
	printf("],");
	json_wholeness(b);
	printf("\"complete\":%s,\"bad_frames\":%llu,\"missing_chunks\":%llu,\"bad_references\":%llu}\n",
	       d->complete ? "true" : "false", (unsigned long long)d->bad_frames,
	       (unsigned long long)d->missing_chunks, (unsigned long long)d->bad_references);
}

int cmd_info(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	uint64_t top = 3;
	bool json = false;
	int first, r;
	const struct opt opts[] = {
		{ "top", "N", OPT_NUMBER, &top, "hottest stacks to show of each kind (default 3)" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object" },
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = open_operand(&command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	warn_damage(b);
	if (json)
		show_json(b);
	else
		show(b, top);
	return SB_EXIT_OK;
}
