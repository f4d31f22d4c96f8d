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
	[FOLD_HARDIRQ] = { "hardirq", BUNDLE_HARDIRQ },
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

int fold_parse_weight(const char *s, enum fold_weight *ret)
{
	static const char *const words[] = { "duration", "count", "us", "ns" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(words); i++) {
		if (!strcmp(s, words[i])) {
			*ret = (enum fold_weight)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *fold_unit(const struct fold *f)
{
	if (f->kind == FOLD_BLOCKED)
		return "threads";
	if (f->weight == FOLD_COUNT)
		return f->kind == FOLD_ON_CPU ? "samples" : "events";
	return f->weight == FOLD_NS ? "nanoseconds" : "microseconds";
}

uint64_t fold_unit_ns(const struct fold *f)
{
	return f->weight == FOLD_US ? 1000 : f->weight == FOLD_NS ? 1 : 0;
}

/* The names id of a group: looked up once. 0: no memory. */
static uint32_t name_of(struct fold *f, const struct groups *g, uint32_t id, uint32_t **list, uint32_t *cap)
{
	if (id > *cap || !*list) {
		uint32_t n = SB_MAX(id * 2, 256u);
		uint32_t *bigger = realloc(*list, n * sizeof(*bigger));

		if (!bigger)
			return 0;
		memset(bigger + *cap, 0, (n - *cap) * sizeof(*bigger));
		*list = bigger;
		*cap = n;
	}
	if (!(*list)[id - 1])
		(*list)[id - 1] = names_text(&f->names, group_label(g, id), FRAME_COMM);
	return (*list)[id - 1];
}

/* The outermost frames of an event. -ENOMEM. */
static int roots(struct fold *f, uint32_t thread, uint32_t cpu, struct fold_row *ret)
{
	uint32_t id;

	ret->group = ret->comm = 0;
	if (f->by != GROUP_COMM) {
		id = group_of(&f->groups, thread, cpu);
		ret->group = id ? name_of(f, &f->groups, id, &f->group_name, &f->group_cap) : 0;
		if (!ret->group)
			return -ENOMEM;
	}
	if (f->by == GROUP_THREAD) /* says the name already */
		return 0;
	id = group_of(&f->comms, thread, 0);
	ret->comm = id ? name_of(f, &f->comms, id, &f->comm_name, &f->comm_cap) : 0;
	return ret->comm ? 0 : -ENOMEM;
}

static struct fold_row *row_of(struct fold *f, const struct fold_row *like)
{
	uint64_t key = sb_mix64((uint64_t)like->kstack << 32 | like->ustack) ^
		       ((uint64_t)like->group << 32 | like->comm) * 0x9E3779B97F4A7C15ULL ^ (uint64_t)like->lost << 32;
	uint64_t at;

	key |= 1;
	at = map64_get(&f->rows_by_key, key);
	if (at)
		return &f->row[at - 1];
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 1024;
		void *bigger = realloc(f->row, cap * sizeof(*f->row));

		if (!bigger)
			return NULL;
		f->row = bigger;
		f->cap = cap;
	}
	if (map64_put(&f->rows_by_key, key, f->n + 1) < 0)
		return NULL;
	f->row[f->n] = *like;
	return &f->row[f->n++];
}

static int add(struct fold *f, const struct fold_row *like, uint64_t weight, uint64_t count, uint64_t ns)
{
	struct fold_row *row = row_of(f, like);

	if (!row)
		return -ENOMEM;
	/* Made-up durations must not wrap around: the parts still add up to the whole. */
	weight = SB_MIN(weight, UINT64_MAX - f->total);
	row->weight += weight;
	row->count += count;
	row->ns += SB_MIN(ns, UINT64_MAX - row->ns);
	f->total += weight;
	f->events++;
	return 0;
}

/* A sample that stands for several has the time of all of them. */
static uint64_t times(uint64_t v, const struct bundle_event *e)
{
	if (e->weight > 1 && e->kind != BUNDLE_ON_CPU && __builtin_mul_overflow(v, e->weight, &v))
		v = UINT64_MAX;
	return v;
}

uint64_t event_total_ns(const struct bundle_event *e)
{
	return times(e->duration_ns, e);
}

uint64_t fold_microseconds(const struct bundle_event *e)
{
	return times(e->duration_ns / 1000 + (e->duration_ns % 1000 >= 500), e);
}

uint64_t span_after(uint64_t end_ns, uint64_t ns, uint64_t moment_ns)
{
	uint64_t begin = ns < end_ns ? end_ns - ns : 0;

	return end_ns <= moment_ns ? 0 : SB_MIN(ns, end_ns - SB_MAX(begin, moment_ns));
}

/* What of the event lies on the side asked for. False: nothing. */
static bool on_side(const struct fold *f, const struct bundle_event *e, uint64_t *ret_ns, uint64_t *ret_count)
{
	uint64_t count = e->weight > 1 ? e->weight : 1, after;
	bool ended_after = e->ts_ns > f->filter->trigger_ns;

	*ret_ns = e->duration_ns;
	*ret_count = count;
	if (f->side == FOLD_BOTH)
		return true;
	after = span_after(e->ts_ns, e->duration_ns, f->filter->trigger_ns);
	*ret_ns = f->side == FOLD_AFTER ? after : e->duration_ns - after;
	*ret_count = ended_after == (f->side == FOLD_AFTER) ? count : 0;
	return *ret_ns || *ret_count;
}

static int fold_event(const struct bundle_event *e, void *ctx)
{
	struct fold *f = ctx;
	struct fold_row like;
	uint64_t ns, count, weight;
	int r;

	if (e->kind != kinds[f->kind].event || !filter_event(f->filter, e) || !on_side(f, e, &ns, &count))
		return 0;
	like = (struct fold_row){ .kstack = e->kstack, .ustack = e->ustack,
				  .lost = e->flags & (BUNDLE_EV_KSTACK_LOST | BUNDLE_EV_USTACK_LOST) };
	r = roots(f, e->thread, e->cpu, &like);
	if (r < 0)
		return r;
	weight = f->weight == FOLD_COUNT ? count : f->weight == FOLD_NS ? times(ns, e) :
		 times(ns / 1000 + (ns % 1000 >= 500), e);
	return add(f, &like, weight, count, times(ns, e));
}

static int fold_blocked(struct fold *f)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(f->b, &t, &begin, &end, &seen, &truncated);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		struct fold_row like = { .kstack = t[i].kstack, .ustack = t[i].ustack };

		if ((t[i].flags & BUNDLE_SHOT_RUNNING) || !filter_shot(f->filter, &t[i]))
			continue;
		r = roots(f, t[i].thread, t[i].cpu, &like);
		if (r == 0)
			r = add(f, &like, 1, 1, 0);
	}
	return r;
}

int fold_bundle_as(struct fold *f, struct bundle *b, struct filter *filter, const struct fold_options *o)
{
	int r;

	*f = (struct fold){ .b = b, .filter = filter, .kind = o->kind, .weight = o->weight, .by = o->by,
			    .side = o->side };
	if (o->kind == FOLD_BLOCKED || (o->kind == FOLD_ON_CPU && f->weight == FOLD_DEFAULT))
		f->weight = FOLD_COUNT;
	else if (f->weight == FOLD_DEFAULT)
		f->weight = FOLD_US;
	names_init(&f->names, b);
	f->names.lines = o->lines;
	r = groups_init(&f->comms, b, GROUP_COMM);
	if (r == 0)
		r = groups_init(&f->groups, b, o->by);
	if (r < 0)
		return r;
	return o->kind == FOLD_BLOCKED ? fold_blocked(f) : bundle_each_event(b, fold_event, f);
}

int fold_bundle(struct fold *f, struct bundle *b, struct filter *filter, enum fold_kind kind,
		bool by_count)
{
	struct fold_options o = { kind, by_count ? FOLD_COUNT : FOLD_DEFAULT, GROUP_COMM, FOLD_BOTH, false };

	return fold_bundle_as(f, b, filter, &o);
}

void fold_done(struct fold *f)
{
	names_done(&f->names);
	map64_done(&f->rows_by_key);
	groups_done(&f->groups);
	groups_done(&f->comms);
	free(f->group_name);
	free(f->comm_name);
	free(f->row);
}

static uint32_t put_stack(struct fold *f, uint32_t id, uint32_t *ret, uint32_t n, uint32_t max)
{
	const struct bundle_stack *s = bundle_stack(f->b, id);
	uint32_t first = n;

	if (s->n && s->unwind >> 4 == BUNDLE_END_DEPTH && n < max)
		ret[n++] = names_text(&f->names, "[truncated]", FRAME_MARK);
	for (uint32_t i = s->n; i > 0 && n < max; i--) { /* stored leaf first, as the frames of an address are */
		uint32_t ids[NAMES_INLINED], room = max - n > i - 1 ? max - n - (i - 1) : 1;
		uint32_t k = names_frames(&f->names, s->process, s->addr[i - 1], ids, room);

		while (k)
			ret[n++] = ids[--k];
	}
	while (!s->process && n > first && names_is_own(names_get(&f->names, ret[n - 1])))
		n--;
	return n;
}

uint32_t fold_frames(struct fold *f, const struct fold_row *r, uint32_t *ret_ids, uint32_t max)
{
	uint32_t n = 0;

	if (r->group)
		ret_ids[n++] = r->group;
	if (r->comm)
		ret_ids[n++] = r->comm;
	if (r->lost & BUNDLE_EV_USTACK_LOST)
		ret_ids[n++] = names_text(&f->names, "[user stack evicted]", FRAME_MARK);
	/* Inlined frames do not take the room of the kernel's. */
	n = put_stack(f, r->ustack, ret_ids, n, r->kstack && max >= FOLD_MAX_FRAMES ? max - BUNDLE_STACK_MAX_FRAMES : max);
	if ((r->lost & BUNDLE_EV_KSTACK_LOST) && n < max)
		ret_ids[n++] = names_text(&f->names, "[kernel stack evicted]", FRAME_MARK);
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
			f->row[at - 1].ns += f->row[i].ns;
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
	if (f->n)
		qsort(f->row, f->n, sizeof(*f->row), heavier);
}
