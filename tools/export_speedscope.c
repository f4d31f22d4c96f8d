// SPDX-License-Identifier: BSD-2-Clause
/*
 * speedscope: https://www.speedscope.app/file-format-schema.json. One "sampled" profile per
 * kind with equal stacks merged, then one per CPU with its on-CPU samples in time order.
 */
#include <errno.h>

#include "tools/export.h"

struct speedscope {
	struct export *x;
	struct map64 rows; /* (name of the thread, pair) -> row + 1 */
	struct row {
		uint32_t comm, pair;
		uint64_t weight;
	} *row;
	size_t n, cap;
	bool first; /* profile in the list */
};

static uint32_t comm_of(struct export *x, uint32_t thread)
{
	const char *comm = bundle_thread(x->b, thread)->comm;

	return names_text(&x->fold.names, *comm ? comm : "[unknown]", FRAME_COMM);
}

static int merge(struct speedscope *s, const struct export_event *e)
{
	uint32_t comm = comm_of(s->x, e->thread);
	uint64_t key = sb_mix64((uint64_t)comm << 32 | e->pair) | 1, at = map64_get(&s->rows, key);

	if (at) {
		s->row[at - 1].weight += e->weight;
		return 0;
	}
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 1024;
		void *bigger = realloc(s->row, cap * sizeof(*s->row));

		if (!bigger)
			return -ENOMEM;
		s->row = bigger;
		s->cap = cap;
	}
	s->row[s->n++] = (struct row){ comm, e->pair, e->weight };
	return map64_put(&s->rows, key, s->n);
}

static void put_stack(struct export *x, uint32_t comm, uint32_t pair, const char *sep)
{
	uint32_t ids[FOLD_MAX_FRAMES], n = export_frames(x, pair, ids, FOLD_MAX_FRAMES);

	fprintf(x->out, "%s[%u", sep, comm - 1);
	for (uint32_t i = 0; i < n; i++)
		fprintf(x->out, ",%u", ids[i] ? ids[i] - 1 : 0);
	putc(']', x->out);
}

static void begin_profile(struct speedscope *s, const char *name, const char *unit, uint64_t total)
{
	fprintf(s->x->out, "%s{\"type\":\"sampled\",\"name\":\"%s\",\"unit\":\"%s\",\"startValue\":0,\"endValue\":%llu,"
		"\"samples\":[", s->first ? "" : ",\n", name, strcmp(unit, "microseconds") ? "none" : unit,
		(unsigned long long)total);
	s->first = false;
}

static int put_kind(struct speedscope *s, enum fold_kind kind)
{
	struct export *x = s->x;
	uint64_t total = 0;
	char name[64];
	int r = 0;

	s->n = 0;
	map64_done(&s->rows);
	s->rows = (struct map64){};
	for (size_t i = 0; i < x->n && r == 0; i++) {
		if (export_fold_kind(x->event[i].kind) == kind) {
			r = merge(s, &x->event[i]);
			total += x->event[i].weight;
		}
	}
	if (r < 0 || !s->n)
		return r;
	snprintf(name, sizeof(name), "%s (%s)", fold_kind_name(kind), export_unit(kind));
	begin_profile(s, name, export_unit(kind), total);
	for (size_t i = 0; i < s->n; i++)
		put_stack(x, s->row[i].comm, s->row[i].pair, i ? "," : "");
	fputs("],\"weights\":[", x->out);
	for (size_t i = 0; i < s->n; i++)
		fprintf(x->out, "%s%llu", i ? "," : "", (unsigned long long)s->row[i].weight);
	fputs("]}", x->out);
	return 0;
}

static void put_cpu(struct speedscope *s, uint32_t cpu, uint64_t samples)
{
	struct export *x = s->x;
	const char *sep = "";
	char name[64];

	snprintf(name, sizeof(name), "on-cpu, CPU %u, in time order", cpu);
	begin_profile(s, name, "samples", samples);
	for (size_t i = 0; i < x->n; i++) {
		if (x->event[i].kind != BUNDLE_ON_CPU || x->event[i].cpu != cpu)
			continue;
		put_stack(x, comm_of(x, x->event[i].thread), x->event[i].pair, sep);
		sep = ",";
	}
	fputs("],\"weights\":[", x->out);
	sep = "";
	for (size_t i = 0; i < x->n; i++) {
		if (x->event[i].kind != BUNDLE_ON_CPU || x->event[i].cpu != cpu)
			continue;
		fprintf(x->out, "%s%llu", sep, (unsigned long long)x->event[i].weight);
		sep = ",";
	}
	fputs("]}", x->out);
}

static int put_cpus(struct speedscope *s)
{
	_cleanup_free_ uint64_t *samples = calloc(UINT16_MAX + 1u, sizeof(*samples));

	if (!samples)
		return -ENOMEM;
	for (size_t i = 0; i < s->x->n; i++) {
		if (s->x->event[i].kind == BUNDLE_ON_CPU)
			samples[s->x->event[i].cpu] += s->x->event[i].weight;
	}
	for (uint32_t cpu = 0; cpu <= UINT16_MAX; cpu++) {
		if (samples[cpu])
			put_cpu(s, cpu, samples[cpu]);
	}
	return 0;
}

int export_speedscope(struct export *x)
{
	struct speedscope s = { .x = x, .first = true };
	char title[1200];
	int r = export_collect(x);

	if (r < 0)
		return r;
	export_title(x, title, sizeof(title));
	fputs("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"exporter\":\"stallbox " SB_VERSION
	      "\",\"name\":", x->out);
	export_json(x->out, title);
	fputs(",\"activeProfileIndex\":0,\"profiles\":[\n", x->out);
	for (int k = 0; k < FOLD_KINDS && r == 0; k++)
		r = put_kind(&s, (enum fold_kind)k);
	if (r == 0)
		r = put_cpus(&s);
	/* The names are known once every stack has been written. */
	fputs("],\n\"shared\":{\"frames\":[", x->out);
	for (uint32_t id = 1; id <= x->fold.names.n; id++)
		fprintf(x->out, "%s{\"name\":\"%s%s\"}", id > 1 ? "," : "", export_name(x, id),
			names_class(&x->fold.names, id) == FRAME_KERNEL ? "_[k]" : "");
	fputs("]}}\n", x->out);
	map64_done(&s.rows);
	free(s.row);
	return r;
}
