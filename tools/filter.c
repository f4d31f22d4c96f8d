// SPDX-License-Identifier: BSD-2-Clause
#include "tools/filter.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>

#include "tools/commands.h"

static char state_letter(uint32_t state)
{
	if (state & BUNDLE_TASK_UNINTERRUPTIBLE)
		return state & BUNDLE_TASK_NOLOAD ? 'I' : 'D';
	if (state & BUNDLE_TASK_INTERRUPTIBLE)
		return 'S';
	if (state & BUNDLE_TASK_STOPPED)
		return 'T';
	return state & BUNDLE_TASK_TRACED ? 't' : '?';
}

char event_state(const struct bundle_event *e)
{
	return e->flags & BUNDLE_EV_PREEMPTED ? 'R' : state_letter(e->state);
}

char shot_state(const struct bundle_shot_thread *t)
{
	return t->flags & (BUNDLE_SHOT_RUNNING | BUNDLE_SHOT_RUNNABLE) ? 'R' : state_letter(t->state);
}

/* ---- words ------------------------------------------------------------------------------------ */

static int parse_kind(const char *word)
{
	if (!strcmp(word, "blocked"))
		return BUNDLE_KIND_NONE;
	for (int k = BUNDLE_ON_CPU; k < BUNDLE_KIND_COUNT; k++) {
		if (!strcmp(word, bundle_kind_name((enum bundle_kind)k)))
			return k;
	}
	return -EINVAL;
}

static int parse_kinds(struct filter *f, const struct opt_command *cmd)
{
	char words[256], *save = NULL;

	snprintf(words, sizeof(words), "%s", f->kind_text);
	for (char *word = strtok_r(words, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		int k = parse_kind(word);

		if (k < 0)
			return opt_usage(cmd, "unknown kind '%s', expected on-cpu, off-cpu, reclaim, blocked, "
					 "lock-wait, wakeup, lock-hold, syscall, softirq, block-io, oom or slab", word);
		f->kinds |= 1u << k;
	}
	return f->kinds ? -1 : opt_usage(cmd, "--kind '%s' names no kind", f->kind_text);
}

int filter_parse(struct filter *f, const struct opt_command *cmd)
{
	static const char *const whiles[] = { "any", "mmap-lock-held", "reclaim", "softirq" };
	size_t i = 0;

	f->kinds = 0;
	if (f->kind_text) {
		int r = parse_kinds(f, cmd);

		if (r >= 0)
			return r;
	}
	if (f->while_text) {
		for (i = 1; i < SB_ARRAY_SIZE(whiles) && strcmp(f->while_text, whiles[i]); i++)
			;
		if (i == SB_ARRAY_SIZE(whiles))
			return opt_usage(cmd, "--while '%s': expected mmap-lock-held, reclaim or softirq",
					 f->while_text);
	}
	f->during = (enum filter_while)i;
	if (f->state && f->state[strspn(f->state, "DSRTtI?")])
		return opt_usage(cmd, "--state '%s': expected letters of DSRTtI?", f->state);
	if (f->since.set && f->until.set && f->since.ns > f->until.ns)
		return opt_usage(cmd, "--since is later than --until%s", "");
	return -1;
}

static void append(char *ret, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void append(char *ret, size_t len, const char *fmt, ...)
{
	size_t n = strlen(ret);
	va_list ap;

	if (n)
		n += (size_t)snprintf(ret + n, len - n, ", ");
	if (n >= len)
		return;
	va_start(ap, fmt);
	vsnprintf(ret + n, len - n, fmt, ap);
	va_end(ap);
}

void filter_describe(const struct filter *f, char *ret, size_t len)
{
	static const char *const whiles[] = { "", "holding mmap_lock", "in reclaim", "in a softirq" };

	ret[0] = '\0';
	if (f->since.set)
		append(ret, len, "from %+gs", (double)f->since.ns / 1e9);
	if (f->until.set)
		append(ret, len, "up to %+gs", (double)f->until.ns / 1e9);
	if (f->pid != NO_NUMBER)
		append(ret, len, "process %llu", (unsigned long long)f->pid);
	if (f->tid != NO_NUMBER)
		append(ret, len, "thread %llu", (unsigned long long)f->tid);
	if (f->comm)
		append(ret, len, "threads named %s", f->comm);
	if (f->cgroup)
		append(ret, len, "cgroup %s", f->cgroup);
	if (f->cpu != NO_NUMBER)
		append(ret, len, "CPU %llu", (unsigned long long)f->cpu);
	if (f->state)
		append(ret, len, "state %s", f->state);
	if (f->during != WHILE_ANY)
		append(ret, len, "while %s", whiles[f->during]);
}

/* ---- making ready -------------------------------------------------------------------------------- */

static bool below(const char *path, const char *root)
{
	size_t n = strlen(root);

	while (n > 1 && root[n - 1] == '/')
		n--;
	return !strncmp(path, root, n) && (!path[n] || path[n] == '/' || n == 1);
}

static bool thread_matches(const struct filter *f, const struct bundle *b, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(b, thread);

	if (f->tid != NO_NUMBER && t->tid != f->tid)
		return false;
	if (f->pid != NO_NUMBER && bundle_process(b, t->process)->pid != f->pid)
		return false;
	if (f->comm && strcmp(f->comm, t->comm) && fnmatch(f->comm, t->comm, 0))
		return false;
	return !f->cgroup || below(bundle_cgroup_path(b, t->cgroup), f->cgroup);
}

static int add_span(struct filter *f, uint32_t thread, uint64_t begin_ns, uint64_t end_ns)
{
	if (f->n_spans == f->cap_spans) {
		size_t cap = f->cap_spans ? f->cap_spans * 2 : 1024;
		void *bigger = realloc(f->span, cap * sizeof(*f->span));

		if (!bigger)
			return -ENOMEM;
		f->span = bigger;
		f->cap_spans = cap;
	}
	f->span[f->n_spans++] = (struct filter_span){ begin_ns, end_ns, thread };
	return 0;
}

static uint64_t begin_of(const struct bundle_event *e)
{
	return e->duration_ns < e->ts_ns ? e->ts_ns - e->duration_ns : 0;
}

static int note_span(const struct bundle_event *e, void *ctx)
{
	struct filter *f = ctx;

	if (e->kind != (f->during == WHILE_RECLAIM ? BUNDLE_RECLAIM : BUNDLE_LOCK_HOLD) ||
	    !filter_thread(f, e->thread))
		return 0;
	return add_span(f, e->thread, begin_of(e), e->ts_ns);
}

/* What had not ended at the freeze. */
static int note_open_spans(struct filter *f)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(f->b, &t, &begin, &end, &seen, &truncated);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (t[i].reclaim_since_ns)
			r = add_span(f, t[i].thread, t[i].reclaim_since_ns, SB_MAX(begin, t[i].reclaim_since_ns));
	}
	return r;
}

static int by_thread_and_begin(const void *a, const void *b)
{
	const struct filter_span *x = a, *y = b;

	if (x->thread != y->thread)
		return x->thread < y->thread ? -1 : 1;
	return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

/* Spans of one thread that touch become one, so that a search need look at one only. */
static void merge_spans(struct filter *f)
{
	size_t kept = 0;

	qsort(f->span, f->n_spans, sizeof(*f->span), by_thread_and_begin);
	for (size_t i = 0; i < f->n_spans; i++) {
		struct filter_span *last = kept ? &f->span[kept - 1] : NULL;

		if (last && last->thread == f->span[i].thread && last->end_ns >= f->span[i].begin_ns)
			last->end_ns = SB_MAX(last->end_ns, f->span[i].end_ns);
		else
			f->span[kept++] = f->span[i];
	}
	f->n_spans = kept;
}

int filter_start(struct filter *f, struct bundle *b)
{
	const struct bundle_header *h = bundle_header(b);
	uint32_t n = bundle_n_threads(b);
	int r = 0;

	filter_done(f);
	f->b = b;
	f->trigger_ns = h ? h->trigger.fired_ns : bundle_last_ns(b);
	f->by_thread = f->tid != NO_NUMBER || f->pid != NO_NUMBER || f->comm || f->cgroup;
	if (f->by_thread) {
		f->thread_ok = calloc(n + 1u, 1);
		if (!f->thread_ok)
			return -ENOMEM;
		for (uint32_t i = 0; i <= n; i++)
			f->thread_ok[i] = thread_matches(f, b, i);
	}
	f->stack_softirq = calloc(bundle_n_stacks(b) + 1u, 1);
	if (!f->stack_softirq)
		return -ENOMEM;
	if (f->during != WHILE_RECLAIM && f->during != WHILE_MMAP_LOCK_HELD)
		return 0;
	r = bundle_each_event(b, note_span, f);
	if (r == 0 && f->during == WHILE_RECLAIM)
		r = note_open_spans(f);
	if (f->n_spans)
		merge_spans(f);
	return r;
}

void filter_done(struct filter *f)
{
	free(f->thread_ok);
	free(f->stack_softirq);
	free(f->span);
	f->thread_ok = f->stack_softirq = NULL;
	f->span = NULL;
	f->n_spans = f->cap_spans = 0;
}

int filter_open(struct filter *f, const struct opt_command *cmd, int argc, char **argv, int first,
		struct bundle **ret)
{
	int r = filter_parse(f, cmd);

	if (r >= 0)
		return r;
	r = open_operand(cmd, argc, argv, first, ret);
	if (r >= 0)
		return r;
	warn_damage(*ret);
	r = filter_start(f, *ret);
	if (r < 0) {
		fprintf(stderr, "error: cannot read the events: %s\n", strerror(-r));
		return SB_EXIT_FAILURE;
	}
	return -1;
}

/* ---- events ---------------------------------------------------------------------------------------- */

static bool in_span(const struct filter *f, uint32_t thread, uint64_t ts)
{
	size_t low = 0, high = f->n_spans;

	while (low < high) { /* the first that begins later */
		size_t mid = low + (high - low) / 2;
		const struct filter_span *s = &f->span[mid];

		if (s->thread < thread || (s->thread == thread && s->begin_ns <= ts))
			low = mid + 1;
		else
			high = mid;
	}
	return low && f->span[low - 1].thread == thread && ts <= f->span[low - 1].end_ns;
}

bool filter_in_softirq(struct filter *f, uint32_t kstack)
{
	/* kernel/softirq.c; the names of 5.10, of 6.10 and later, and of ksoftirqd's own loop. */
	static const char *const names[] = { "__do_softirq", "__softirqentry_text_start", "handle_softirqs",
					     "do_softirq" };
	const struct bundle_stack *s = bundle_stack(f->b, kstack);
	const char *module, *name;
	uint64_t offset;

	if (!kstack || kstack > bundle_n_stacks(f->b))
		return false;
	if (f->stack_softirq[kstack])
		return f->stack_softirq[kstack] == 2;
	f->stack_softirq[kstack] = 1;
	for (uint32_t i = 0; i < s->n && !s->process; i++) {
		name = bundle_symbolize(f->b, 0, s->addr[i], &module, &offset);
		for (size_t k = 0; name && k < SB_ARRAY_SIZE(names); k++) {
			if (!strcmp(name, names[k]))
				f->stack_softirq[kstack] = 2;
		}
	}
	return f->stack_softirq[kstack] == 2;
}

static bool during(struct filter *f, const struct bundle_event *e)
{
	/* A sample is a moment; a block, wait or span counts by where it began. */
	uint64_t ts = e->kind == BUNDLE_ON_CPU || e->kind == BUNDLE_WAKEUP ? e->ts_ns : begin_of(e);

	switch (f->during) {
	case WHILE_MMAP_LOCK_HELD:
		return (e->flags & BUNDLE_EV_MMAP_LOCK) || e->kind == BUNDLE_LOCK_HOLD ||
		       (e->kind == BUNDLE_RECLAIM && e->detail) || in_span(f, e->thread, ts);
	case WHILE_RECLAIM:
		return (e->flags & BUNDLE_EV_IN_RECLAIM) || e->kind == BUNDLE_RECLAIM ||
		       e->kind == BUNDLE_SLAB || in_span(f, e->thread, ts);
	case WHILE_SOFTIRQ:
		return e->kind == BUNDLE_SOFTIRQ || filter_in_softirq(f, e->kstack);
	case WHILE_ANY:
		break;
	}
	return true;
}

bool filter_time(const struct filter *f, uint64_t ts_ns)
{
	int64_t offset = (int64_t)(ts_ns - f->trigger_ns);

	return !(f->since.set && offset < f->since.ns) && !(f->until.set && offset > f->until.ns);
}

bool filter_thread(const struct filter *f, uint32_t thread)
{
	return !f->by_thread || f->thread_ok[thread <= bundle_n_threads(f->b) ? thread : 0];
}

bool filter_event(struct filter *f, const struct bundle_event *e)
{
	if ((f->kinds && !(f->kinds & 1u << e->kind)) || !filter_time(f, e->ts_ns))
		return false;
	if (f->state && e->kind == BUNDLE_OFF_CPU && !strchr(f->state, event_state(e)))
		return false;
	if (f->cpu != NO_NUMBER && e->cpu != f->cpu)
		return false;
	return filter_thread(f, e->thread) && (f->during == WHILE_ANY || during(f, e));
}

bool filter_shot(struct filter *f, const struct bundle_shot_thread *t)
{
	if (f->state && !strchr(f->state, shot_state(t)))
		return false;
	if ((f->cpu != NO_NUMBER && t->cpu != f->cpu) || !filter_thread(f, t->thread))
		return false;
	switch (f->during) {
	case WHILE_MMAP_LOCK_HELD:
		return t->mmap_owner == t->thread && (t->mmap_owner_flags & BUNDLE_OWNER_KNOWN);
	case WHILE_RECLAIM:
		return t->reclaim_since_ns != 0;
	case WHILE_SOFTIRQ:
		return filter_in_softirq(f, t->kstack);
	case WHILE_ANY:
		break;
	}
	return true;
}
