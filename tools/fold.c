// SPDX-License-Identifier: BSD-2-Clause
#include "tools/fold.h"

#include <errno.h>

static const struct {
	const char *name;
	enum bundle_kind event; /* BUNDLE_KIND_NONE: the stackshot */
} kinds[FOLD_KINDS] = {
	[FOLD_ON_CPU] = { "on-cpu", BUNDLE_ON_CPU },
	[FOLD_OFF_CPU] = { "off-cpu", BUNDLE_OFF_CPU },
	[FOLD_RECLAIM] = { "reclaim", BUNDLE_RECLAIM },
	[FOLD_BLOCKED] = { "blocked", BUNDLE_KIND_NONE },
	[FOLD_LOCK_WAIT] = { "lock-wait", BUNDLE_LOCK_WAIT },
	[FOLD_WAKEUP] = { "wakeup", BUNDLE_WAKEUP },
	[FOLD_LOCK_HOLD] = { "lock-hold", BUNDLE_LOCK_HOLD },
	[FOLD_SYSCALL] = { "syscall", BUNDLE_SYSCALL },
	[FOLD_SOFTIRQ] = { "softirq", BUNDLE_SOFTIRQ },
	[FOLD_BLOCK_IO] = { "block-io", BUNDLE_BLOCK_IO },
	[FOLD_SLAB] = { "slab", BUNDLE_SLAB },
};

int fold_parse_kind(const char *s, enum fold_kind *ret)
{
	for (int i = 0; i < FOLD_KINDS; i++) {
		if (!strcmp(s, kinds[i].name)) {
			*ret = (enum fold_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

int fold_filter_kind(struct filter *f, const struct opt_command *cmd, enum fold_kind *ret)
{
	int r = filter_parse(f, cmd);

	if (r >= 0)
		return r;
	*ret = FOLD_ON_CPU;
	for (int i = 0; i < FOLD_KINDS && f->kinds; i++) {
		if (f->kinds == 1u << kinds[i].event) {
			*ret = (enum fold_kind)i;
			return -1;
		}
	}
	return f->kinds ? opt_usage(cmd, "--kind '%s': stacks of one kind at a time, and not of oom", f->kind_text) : -1;
}

const char *fold_kind_name(enum fold_kind kind)
{
	return kinds[kind].name;
}

const char *fold_unit(const struct fold *f)
{
	if (f->kind == FOLD_BLOCKED)
		return "threads";
	if (f->kind == FOLD_ON_CPU)
		return "samples";
	return f->by_count ? "events" : "microseconds";
}

static uint32_t comm_of(struct fold *f, uint32_t thread)
{
	uint32_t id = (uint32_t)map64_get(&f->comm_by_thread, (uint64_t)thread + 1);
	const char *comm = bundle_thread(f->b, thread)->comm;

	if (id)
		return id;
	id = names_text(&f->names, *comm ? comm : "[unknown]", FRAME_COMM);
	if (map64_put(&f->comm_by_thread, (uint64_t)thread + 1, id) < 0)
		f->failed = true;
	return id;
}

static int add(struct fold *f, uint32_t comm, uint32_t kstack, uint32_t ustack, uint64_t weight)
{
	uint64_t key = sb_mix64((uint64_t)kstack << 32 | ustack) ^ (uint64_t)comm * 0x9E3779B97F4A7C15ULL;
	uint64_t at;

	/* Made-up durations must not wrap around: the parts still add up to the whole. */
	weight = SB_MIN(weight, UINT64_MAX - f->total);
	key |= 1;
	at = map64_get(&f->rows_by_key, key);
	if (!at) {
		if (f->n == f->cap) {
			size_t cap = f->cap ? f->cap * 2 : 1024;
			void *bigger = realloc(f->row, cap * sizeof(*f->row));

			if (!bigger)
				return -ENOMEM;
			f->row = bigger;
			f->cap = cap;
		}
		f->row[f->n++] = (struct fold_row){ .comm = comm, .kstack = kstack, .ustack = ustack };
		at = f->n;
		if (map64_put(&f->rows_by_key, key, at) < 0)
			return -ENOMEM;
	}
	f->row[at - 1].weight += weight;
	f->row[at - 1].count++;
	f->total += weight;
	f->events++;
	return 0;
}

uint64_t fold_microseconds(const struct bundle_event *e)
{
	uint64_t us = e->duration_ns / 1000 + (e->duration_ns % 1000 >= 500);

	if (e->weight > 1 && __builtin_mul_overflow(us, e->weight, &us))
		us = UINT64_MAX;
	return us;
}

static int fold_event(const struct bundle_event *e, void *ctx)
{
	struct fold *f = ctx;
	uint64_t weight = 1;

	if (e->kind != kinds[f->kind].event || !filter_event(f->filter, e))
		return 0;
	if (f->kind != FOLD_ON_CPU && !f->by_count)
		weight = fold_microseconds(e);
	return add(f, comm_of(f, e->thread), e->kstack, e->ustack, weight);
}

static int fold_blocked(struct fold *f)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(f->b, &t, &begin, &end, &seen, &truncated);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (!(t[i].flags & BUNDLE_SHOT_RUNNING) && filter_shot(f->filter, &t[i]))
			r = add(f, comm_of(f, t[i].thread), t[i].kstack, t[i].ustack, 1);
	}
	return r;
}

int fold_bundle(struct fold *f, struct bundle *b, struct filter *filter, enum fold_kind kind,
		bool by_count)
{
	int r;

	memset(f, 0, sizeof(*f));
	f->b = b;
	f->filter = filter;
	f->kind = kind;
	f->by_count = by_count;
	names_init(&f->names, b);
	r = kind == FOLD_BLOCKED ? fold_blocked(f) : bundle_each_event(b, fold_event, f);
	return f->failed ? -ENOMEM : r;
}

void fold_done(struct fold *f)
{
	names_done(&f->names);
	map64_done(&f->rows_by_key);
	map64_done(&f->comm_by_thread);
	free(f->row);
}

/* The recorder's own programs, and what calls them, stand at the leaf of stacks that a
 * tracepoint took. They say nothing about the host. */
bool fold_is_own_frame(const char *name)
{
	return !strncmp(name, "bpf_prog_", 9) || !strncmp(name, "bpf_trace_run", 13) ||
	       !strncmp(name, "__bpf_trace_", 12) || !strncmp(name, "__traceiter_", 12) ||
	       !strncmp(name, "bpf_trampoline_", 15);
}

static uint32_t put_stack(struct fold *f, uint32_t id, uint32_t *ret, uint32_t n, uint32_t max)
{
	const struct bundle_stack *s = bundle_stack(f->b, id);
	uint32_t first = n;

	for (uint32_t i = s->n; i > 0 && n < max; i--) /* stored leaf first */
		ret[n++] = names_frame(&f->names, s->process, s->addr[i - 1]);
	while (!s->process && n > first && fold_is_own_frame(names_get(&f->names, ret[n - 1])))
		n--;
	return n;
}

uint32_t fold_frames(struct fold *f, const struct fold_row *r, uint32_t *ret_ids, uint32_t max)
{
	uint32_t n = 0;

	ret_ids[n++] = r->comm;
	n = put_stack(f, r->ustack, ret_ids, n, max);
	return put_stack(f, r->kstack, ret_ids, n, max);
}

int fold_merge(struct fold *f)
{
	struct map64 seen = {};
	uint32_t ids[FOLD_MAX_FRAMES];
	size_t kept = 0;

	for (size_t i = 0; i < f->n; i++) {
		uint32_t n = fold_frames(f, &f->row[i], ids, FOLD_MAX_FRAMES);
		uint64_t key = sb_hash_bytes(ids, n * sizeof(*ids)) | 1, at = map64_get(&seen, key);

		if (at) {
			f->row[at - 1].weight += f->row[i].weight;
			f->row[at - 1].count += f->row[i].count;
			continue;
		}
		f->row[kept++] = f->row[i];
		if (map64_put(&seen, key, kept) < 0) {
			map64_done(&seen);
			return -ENOMEM;
		}
	}
	f->n = kept;
	map64_done(&seen);
	return 0;
}

static int heavier(const void *a, const void *b)
{
	const struct fold_row *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	if (x->kstack != y->kstack)
		return x->kstack < y->kstack ? -1 : 1;
	return x->ustack < y->ustack ? -1 : x->ustack > y->ustack;
}

void fold_sort(struct fold *f)
{
	qsort(f->row, f->n, sizeof(*f->row), heavier);
}
