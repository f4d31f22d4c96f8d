// SPDX-License-Identifier: BSD-2-Clause
#include "tools/export.h"

#include <errno.h>

#include "tools/commands.h"

void export_init(struct export *x, struct bundle *b, struct filter *filter, FILE *out)
{
	memset(x, 0, sizeof(*x));
	x->b = b;
	x->filter = filter;
	x->out = out;
	x->fold.b = b;
	names_init(&x->fold.names, b);
}

void export_done(struct export *x)
{
	for (uint32_t i = 0; i < x->n_text; i++)
		free(x->text[i]);
	free(x->text);
	free(x->event);
	free(x->pair);
	map64_done(&x->pairs);
	fold_done(&x->fold);
}

enum fold_kind export_fold_kind(uint8_t kind)
{
	switch ((enum bundle_kind)kind) {
	case BUNDLE_KIND_NONE: return FOLD_BLOCKED;
	case BUNDLE_ON_CPU: return FOLD_ON_CPU;
	case BUNDLE_OFF_CPU: return FOLD_OFF_CPU;
	case BUNDLE_RECLAIM: return FOLD_RECLAIM;
	case BUNDLE_LOCK_WAIT: return FOLD_LOCK_WAIT;
	case BUNDLE_WAKEUP: return FOLD_WAKEUP;
	case BUNDLE_LOCK_HOLD: return FOLD_LOCK_HOLD;
	case BUNDLE_SYSCALL: return FOLD_SYSCALL;
	case BUNDLE_SOFTIRQ: return FOLD_SOFTIRQ;
	case BUNDLE_BLOCK_IO: return FOLD_BLOCK_IO;
	case BUNDLE_SLAB: return FOLD_SLAB;
	case BUNDLE_HARDIRQ: return FOLD_HARDIRQ;
	case BUNDLE_OOM:
	case BUNDLE_KIND_COUNT: break;
	}
	return FOLD_KINDS;
}

bool export_is_sampled(uint8_t kind)
{
	return kind == BUNDLE_RECLAIM || kind == BUNDLE_LOCK_WAIT;
}

const char *export_unit(enum fold_kind kind)
{
	struct fold f = { .kind = kind, .weight = kind == FOLD_ON_CPU || kind == FOLD_BLOCKED ? FOLD_COUNT : FOLD_US };

	return fold_unit(&f);
}

uint32_t export_pair_of(struct export *x, uint32_t kstack, uint32_t ustack, uint32_t flags)
{
	uint32_t lost = flags & (BUNDLE_EV_KSTACK_LOST | BUNDLE_EV_USTACK_LOST);
	uint64_t key = (sb_mix64((uint64_t)kstack << 32 | ustack) ^ sb_mix64(lost)) | 1;
	uint32_t at = (uint32_t)map64_get(&x->pairs, key);

	if (at)
		return at - 1;
	if (x->n_pairs == x->cap_pairs) {
		uint32_t cap = x->cap_pairs ? x->cap_pairs * 2 : 1024;
		void *bigger = realloc(x->pair, cap * sizeof(*x->pair));

		if (!bigger) {
			x->failed = true;
			return 0;
		}
		x->pair = bigger;
		x->cap_pairs = cap;
	}
	x->pair[x->n_pairs++] = (struct export_pair){ kstack, ustack, lost };
	if (map64_put(&x->pairs, key, x->n_pairs) < 0)
		x->failed = true;
	return x->n_pairs - 1;
}

static uint32_t what_of(const struct bundle_event *e)
{
	switch (e->kind) {
	case BUNDLE_LOCK_WAIT:
	case BUNDLE_LOCK_HOLD:
	case BUNDLE_SOFTIRQ: return e->detail;
	case BUNDLE_WAKEUP:
	case BUNDLE_OOM: return e->peer;
	case BUNDLE_RECLAIM: return e->reclaim_kind;
	case BUNDLE_BLOCK_IO:
	case BUNDLE_SLAB:
	case BUNDLE_HARDIRQ: return e->name;
	case BUNDLE_ON_CPU:
	case BUNDLE_OFF_CPU:
	case BUNDLE_SYSCALL: return e->syscall;
	case BUNDLE_KIND_NONE:
	case BUNDLE_KIND_COUNT: break;
	}
	return 0;
}

struct pass {
	struct export *x;
	export_fn fn;
	void *ctx;
};

static int give(const struct pass *p, const struct export_event *e)
{
	struct export *x = p->x;
	uint64_t begin = e->ts_ns - SB_MIN(e->ts_ns, e->kind == BUNDLE_ON_CPU ? 0 : e->duration_ns);

	if (x->failed)
		return -ENOMEM;
	if (!x->last_ns || begin < x->first_ns)
		x->first_ns = begin;
	if (e->ts_ns > x->last_ns)
		x->last_ns = e->ts_ns;
	return p->fn(e, p->ctx);
}

static int give_event(const struct bundle_event *e, void *ctx)
{
	struct pass *p = ctx;
	enum fold_kind kind = export_fold_kind((uint8_t)e->kind);
	struct export_event out;

	if (!filter_event(p->x->filter, e))
		return 0;
	out = (struct export_event){
		.ts_ns = e->ts_ns, .duration_ns = e->duration_ns, .thread = e->thread, .flags = e->flags,
		.pair = export_pair_of(p->x, e->kstack, e->ustack, e->flags), .what = what_of(e), .cpu = (uint16_t)e->cpu,
		.scanned = (uint32_t)SB_MIN(e->nr_scanned, (uint64_t)UINT32_MAX),
		.reclaimed = (uint32_t)SB_MIN(e->nr_reclaimed, (uint64_t)UINT32_MAX),
		.kind = (uint8_t)e->kind, .state = e->kind == BUNDLE_OFF_CPU ? event_state(e) : 0,
		.weight = kind == FOLD_KINDS ? 0 : kind == FOLD_ON_CPU ? SB_MAX(e->weight, 1u) :
			  fold_microseconds(e),
		.stands_for = export_is_sampled((uint8_t)e->kind) ? SB_MAX(e->weight, 1u) : 1,
	};
	if (e->kind == BUNDLE_HARDIRQ)
		out.irq = e->detail;
	return give(p, &out);
}

static int give_blocked(const struct pass *p)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(p->x->b, &t, &begin, &end, &seen, &truncated);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		struct export_event out = {
			.ts_ns = begin, .thread = t[i].thread, .cpu = (uint16_t)t[i].cpu, .weight = 1, .stands_for = 1,
			.pair = export_pair_of(p->x, t[i].kstack, t[i].ustack, 0), .state = shot_state(&t[i]),
		};

		if (!(t[i].flags & BUNDLE_SHOT_RUNNING) && filter_shot(p->x->filter, &t[i]))
			r = give(p, &out);
	}
	return r;
}

int export_each(struct export *x, export_fn fn, void *ctx)
{
	struct pass p = { x, fn, ctx };
	int r = bundle_each_event(x->b, give_event, &p);

	return r == 0 && x->filter->kinds & FILTER_BLOCKED ? give_blocked(&p) : r;
}

static int keep(const struct export_event *e, void *ctx)
{
	struct export *x = ctx;

	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 4096;
		void *bigger = realloc(x->event, cap * sizeof(*x->event));

		if (!bigger)
			return -ENOMEM;
		x->event = bigger;
		x->cap = cap;
	}
	x->event[x->n++] = *e;
	return 0;
}

static int in_time(const void *a, const void *b)
{
	const struct export_event *x = a, *y = b;

	if (x->ts_ns != y->ts_ns)
		return x->ts_ns < y->ts_ns ? -1 : 1;
	if (x->cpu != y->cpu)
		return x->cpu < y->cpu ? -1 : 1;
	return x->thread < y->thread ? -1 : x->thread > y->thread;
}

int export_collect(struct export *x)
{
	int r = export_each(x, keep, x);

	if (r == 0 && x->n)
		qsort(x->event, x->n, sizeof(*x->event), in_time);
	return r;
}

uint32_t export_frames(struct export *x, uint32_t pair, uint32_t *ret_ids, uint32_t max)
{
	struct fold_row row = { .kstack = x->pair[pair].kstack, .ustack = x->pair[pair].ustack, .lost = x->pair[pair].lost };

	return fold_frames(&x->fold, &row, ret_ids, max);
}

const char *export_name(struct export *x, uint32_t id)
{
	char buf[2048];

	if (!id)
		return "?";
	if (id > x->n_text) {
		uint32_t n = x->fold.names.n + x->fold.names.n / 2 + 64;
		char **bigger = realloc(x->text, n * sizeof(*bigger));

		if (!bigger) {
			x->failed = true;
			return "?";
		}
		memset(bigger + x->n_text, 0, (n - x->n_text) * sizeof(*bigger));
		x->text = bigger;
		x->n_text = n;
	}
	if (!x->text[id - 1]) {
		escape_copy(buf, sizeof(buf), x->form, names_get(&x->fold.names, id));
		x->text[id - 1] = strdup(buf);
		if (!x->text[id - 1]) {
			x->failed = true;
			return "?";
		}
	}
	return x->text[id - 1];
}

int64_t export_realtime(const struct export *x, uint64_t ts_ns)
{
	const struct bundle_header *h = bundle_header(x->b);

	if (!h || !h->n_clocks)
		return 0;
	return h->clocks[0].realtime_ns - h->clocks[0].monotonic_ns + (int64_t)ts_ns;
}

void export_title(const struct export *x, char *ret, size_t len)
{
	const struct bundle_header *h = bundle_header(x->b);
	char losses[600];

	losses_line(x->b, losses, sizeof(losses));
	snprintf(ret, len, "%s: trigger %s%s%s; losses: %s", h ? h->hostname : "unknown host",
		 h ? h->trigger.name : "unknown", h && h->trigger.detail[0] ? ": " : "",
		 h ? h->trigger.detail : "", losses);
}

void export_json(FILE *out, const char *s)
{
	putc('"', out);
	escape_put(out, ESCAPE_JSON, s);
	putc('"', out);
}
