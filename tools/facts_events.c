// SPDX-License-Identifier: BSD-2-Clause
/* What the events of the window add up to: reclaim, locks, softirqs and the calls before them, forks,
 * block requests. */
#include <errno.h>
#include <stdio.h>

#include "tools/describe.h"
#include "tools/facts.h"
#include "tools/fold.h"
#include "tools/syscalls.h"
#include "tools/tally.h"

/* What counts as late or long here; the recorder's own thresholds are lower or equal. */
#define LATE_NS (10 * NSEC_PER_MSEC)
#define LONG_CALL_NS (20 * NSEC_PER_MSEC)
/* Softirqs run at the end of the call that kept them waiting, or in ksoftirqd right after it. */
#define AFTER_CALL_NS (25 * NSEC_PER_MSEC)
#define LIST_MAX 65536u
#define RUN_CPUS 4096u
/* Whether CPUs were busy while threads waited for one: the window in bins, as neither fills all of it. */
#define BINS 4096u
#define BIN_NS (100 * NSEC_PER_MSEC)

struct call {
	uint64_t begin_ns, end_ns;
	uint32_t cpu, thread, syscall, name;
};

/* Samples in a row of one call on one CPU. */
struct run {
	uint64_t begin_ns, last_ns, call_site;
	uint32_t thread, syscall;
};

struct late {
	uint64_t raise_ns, run_ns; /* raise_ns = run_ns: not known how late */
	uint32_t cpu, vector;
};

struct pass {
	const struct facts_input *in;
	bool failed;
	struct tally reclaim_process, reclaim_cgroup, reclaim_kind;
	uint64_t scanned, reclaimed, reclaim_longest_ns, reclaim_samples, kernel_samples;
	struct tally mmap_process, mmap_owner, mmap_writer, lock, lock_owner;
	uint64_t mmap_longest_ns;
	struct tally hold;
	struct call *call;
	struct run *run; /* by CPU, RUN_CPUS of them */
	struct late *late;
	size_t n_calls, n_late;
	struct tally fork_parent; /* new processes by parent's pid */
	uint64_t fork_samples, oom, samples;
	uint8_t *stack_forks; /* by stack id: 0 not looked at, 1 no, 2 yes */
	struct tally io;
	double *waiting, *busy; /* ns of each bin, all CPUs */
	uint64_t bin_ns;
};

/* What of the event lies in the window, in ns. */
static uint64_t inside(const struct pass *p, const struct bundle_event *e)
{
	uint64_t begin = e->duration_ns < e->ts_ns ? e->ts_ns - e->duration_ns : 0;

	begin = SB_MAX(begin, p->in->begin_ns);
	return e->ts_ns > begin ? SB_MIN(e->ts_ns, p->in->end_ns) - SB_MIN(begin, p->in->end_ns) : 0;
}

/* Spins are sampled, in a storm short reclaim spans are, and above the CPU budget samples are left out. */
static uint64_t weight_of(const struct bundle_event *e)
{
	return e->weight > 1 ? e->weight : 1;
}

/* Bounded so that sums of it cannot wrap around. */
static uint64_t times(uint64_t v, uint64_t weight)
{
	return __builtin_mul_overflow(v, weight, &v) || v >> 40 ? (uint64_t)1 << 40 : v;
}

static uint64_t pid_of(const struct pass *p, uint32_t thread)
{
	return bundle_process(p->in->b, bundle_thread(p->in->b, thread)->process)->pid;
}

/* Tallies by process keep a thread of it, for its name. */
static void by_process(struct pass *p, struct tally *t, const struct bundle_event *e, uint64_t count, uint64_t ns)
{
	uint64_t pid = pid_of(p, e->thread);

	p->failed |= !tally_add(t, pid, count, ns, e->thread) || tally_member(t, pid, e->thread) < 0;
}

static void take_reclaim(struct pass *p, const struct bundle_event *e)
{
	uint64_t weight = weight_of(e), ns = times(inside(p, e), weight);

	by_process(p, &p->reclaim_process, e, weight, ns);
	p->failed |= !tally_add(&p->reclaim_cgroup, bundle_thread(p->in->b, e->thread)->cgroup, weight, ns, 0);
	p->failed |= !tally_add(&p->reclaim_kind, e->reclaim_kind, weight, ns, 0);
	p->scanned += times(e->nr_scanned, weight);
	p->reclaimed += times(e->nr_reclaimed, weight);
	p->reclaim_longest_ns = SB_MAX(p->reclaim_longest_ns, e->duration_ns);
}

static void take_lock_wait(struct pass *p, const struct bundle_event *e)
{
	uint64_t weight = weight_of(e), ns = times(inside(p, e), weight);

	if (e->detail & BUNDLE_LOCK_MMAP) {
		by_process(p, &p->mmap_process, e, weight, ns);
		p->mmap_longest_ns = SB_MAX(p->mmap_longest_ns, e->duration_ns);
		if (e->owner_flags & BUNDLE_OWNER_KNOWN)
			p->failed |= !tally_add(&p->mmap_owner, e->peer, 1, ns, 0);
		if ((e->owner_flags & BUNDLE_OWNER_KNOWN) && !(e->owner_flags & BUNDLE_OWNER_READER))
			p->failed |= !tally_add(&p->mmap_writer, e->peer, 1, ns, 0);
		return;
	}
	/* note: kstack and kind of the longest wait */
	p->failed |= !tally_add(&p->lock, e->addr, weight, ns, (uint64_t)e->kstack << 32 | e->detail) ||
		     tally_member(&p->lock, e->addr, e->thread) < 0;
	if (e->owner_flags & BUNDLE_OWNER_KNOWN)
		p->failed |= !tally_add(&p->lock_owner, e->addr, 1, ns, 0) || tally_member(&p->lock_owner, e->addr, e->peer) < 0;
}

static void add_call(struct pass *p, const struct call *c)
{
	if (p->n_calls < LIST_MAX)
		p->call[p->n_calls++] = *c;
}

static void take_call(struct pass *p, const struct bundle_event *e)
{
	/* A call that slept keeps nothing from running. */
	if (e->duration_ns >= LONG_CALL_NS && e->cpu_time_ns >= e->duration_ns / 2)
		add_call(p, &(struct call){ e->ts_ns - SB_MIN(e->ts_ns, e->duration_ns), e->ts_ns, e->cpu, e->thread,
					    e->syscall, e->name });
}

static void end_run(struct pass *p, uint32_t cpu)
{
	struct run *r = &p->run[cpu];

	if (r->syscall && r->last_ns - r->begin_ns >= LONG_CALL_NS)
		add_call(p, &(struct call){ r->begin_ns, r->last_ns, cpu, r->thread, r->syscall, 0 });
	*r = (struct run){};
}

/* Calls that no SYSCALL event tells of, such as those before the trigger of less than its threshold: the samples of
 * one call site in the kernel, with no gap. */
static void follow_run(struct pass *p, const struct bundle_event *e)
{
	uint64_t begin = e->ts_ns - SB_MIN(e->ts_ns, e->duration_ns);
	struct run *r;

	if (e->cpu >= RUN_CPUS)
		return;
	r = &p->run[e->cpu];
	if (r->syscall && (r->thread != e->thread || r->call_site != e->call_site || r->syscall != e->syscall ||
			   (e->flags & BUNDLE_EV_USER) || e->ts_ns < r->last_ns || begin > r->last_ns + e->duration_ns))
		end_run(p, e->cpu);
	if (!e->syscall || !e->call_site || (e->flags & BUNDLE_EV_USER))
		return;
	if (!r->syscall)
		*r = (struct run){ begin, e->ts_ns, e->call_site, e->thread, e->syscall };
	r->last_ns = e->ts_ns;
}

static void add_late(struct pass *p, uint32_t cpu, uint64_t raise_ns, uint64_t run_ns, uint32_t vector)
{
	if (p->n_late < LIST_MAX)
		p->late[p->n_late++] = (struct late){ raise_ns, run_ns, cpu, vector };
}

static void take_softirq(struct pass *p, const struct bundle_event *e)
{
	uint64_t run = e->ts_ns - SB_MIN(e->ts_ns, e->duration_ns);

	if (e->delay_ns >= LATE_NS)
		add_late(p, e->cpu, run - SB_MIN(run, e->delay_ns), run, e->detail);
}

static bool forks(struct pass *p, uint32_t kstack)
{
	static const char *const names[] = { "copy_process", "kernel_clone", "begin_new_exec", "load_elf_binary", "bprm_execve",
					     "do_exit", "exit_mmap", "dup_mm", "dup_mmap", "release_task", "do_execveat_common" };
	const struct bundle_stack *s = bundle_stack(p->in->b, kstack);

	if (!kstack)
		return false;
	if (p->stack_forks[kstack])
		return p->stack_forks[kstack] == 2;
	p->stack_forks[kstack] = 1;
	for (uint32_t i = 0; i < s->n; i++) {
		const char *name = names_get(p->in->names, names_frame(p->in->names, 0, s->addr[i]));

		for (size_t k = 0; k < SB_ARRAY_SIZE(names); k++) {
			if (!strncmp(name, names[k], strlen(names[k])))
				p->stack_forks[kstack] = 2;
		}
	}
	return p->stack_forks[kstack] == 2;
}

/* Adds what of [end - ns, end] lies in each bin. */
static void add_bins(const struct pass *p, double *bin, uint64_t end_ns, uint64_t ns)
{
	uint64_t at = end_ns - SB_MIN(ns, end_ns), end = SB_MIN(end_ns, p->in->end_ns);

	at = SB_MAX(at, p->in->begin_ns);
	while (at < end) {
		uint64_t i = (at - p->in->begin_ns) / p->bin_ns;
		uint64_t next = SB_MIN(p->in->begin_ns + (i + 1) * p->bin_ns, end);

		if (i >= BINS)
			return;
		bin[i] += (double)(next - at);
		at = next;
	}
}

static void contested_facts(const struct pass *p, struct facts *f)
{
	double width = (double)p->bin_ns, waiting = 0, busy = 0;
	uint32_t n = 0, all = (uint32_t)SB_MIN((p->in->end_ns - p->in->begin_ns) / p->bin_ns, BINS);

	for (uint32_t i = 0; i < all; i++) {
		if (p->waiting[i] < width) /* less than one thread on average */
			continue;
		n++;
		waiting += p->waiting[i];
		busy += p->busy[i];
	}
	facts_set(f, "runq.contested_percent", FACT_PERCENT, all ? 100.0 * n / all : 0);
	if (!n)
		return;
	facts_set(f, "runq.contested_waiting", FACT_DECIMAL, waiting / (n * width));
	facts_set(f, "runq.contested_busy_percent", FACT_PERCENT, SB_MIN(100.0, 100 * busy / (n * width * p->in->cpus)));
}

static bool is_ksoftirqd(const struct pass *p, uint32_t thread)
{
	return !strncmp(bundle_thread(p->in->b, thread)->comm, "ksoftirqd/", 10);
}

static void take_sample(struct pass *p, const struct bundle_event *e)
{
	uint64_t weight = weight_of(e), kernel = e->flags & BUNDLE_EV_USER ? 0 : weight;

	p->samples += weight;
	p->kernel_samples += kernel;
	p->reclaim_samples += e->flags & BUNDLE_EV_IN_RECLAIM ? kernel : 0;
	p->fork_samples += forks(p, e->kstack) ? weight : 0;
	follow_run(p, e);
	add_bins(p, p->busy, e->ts_ns, e->duration_ns);
	if (is_ksoftirqd(p, e->thread))
		add_late(p, e->cpu, e->ts_ns, e->ts_ns, UINT32_MAX);
}

static int take(const struct bundle_event *e, void *ctx)
{
	struct pass *p = ctx;

	if (!filter_event(p->in->filter, e))
		return 0;
	switch (e->kind) {
	case BUNDLE_ON_CPU:
		take_sample(p, e);
		break;
	case BUNDLE_OFF_CPU:
		add_bins(p, p->waiting, e->ts_ns, e->flags & BUNDLE_EV_PREEMPTED ? e->duration_ns :
			 SB_MIN(e->runq_delay_ns, e->duration_ns));
		if (is_ksoftirqd(p, e->thread) && e->runq_delay_ns >= LATE_NS)
			add_late(p, e->cpu, e->ts_ns - SB_MIN(e->ts_ns, e->runq_delay_ns), e->ts_ns, UINT32_MAX);
		break;
	case BUNDLE_RECLAIM:
		take_reclaim(p, e);
		break;
	case BUNDLE_LOCK_WAIT:
		take_lock_wait(p, e);
		break;
	case BUNDLE_LOCK_HOLD:
		p->failed |= !tally_add(&p->hold, e->thread, 1, e->duration_ns, e->detail);
		break;
	case BUNDLE_SYSCALL:
		take_call(p, e);
		break;
	case BUNDLE_SOFTIRQ:
		take_softirq(p, e);
		break;
	case BUNDLE_BLOCK_IO:
		p->failed |= !tally_add(&p->io, e->name, 1, e->duration_ns, e->detail);
		break;
	case BUNDLE_OOM:
		p->oom++;
		break;
	default:
		break;
	}
	return p->failed ? -ENOMEM : 0;
}

/* ---- facts out of them --------------------------------------------------------------------------- */

static void who(const struct pass *p, struct facts *f, const char *key, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(p->in->b, thread);
	const struct bundle_process *pr = bundle_process(p->in->b, t->process);
	char text[64];

	snprintf(text, sizeof(text), "%s[%u]", *pr->comm ? pr->comm : *t->comm ? t->comm : "unknown", pr->pid);
	facts_text(f, key, text);
}

static void who_thread(const struct pass *p, struct facts *f, const char *key, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(p->in->b, thread);
	char text[80];

	snprintf(text, sizeof(text), "%s[%llu] tid %u", *t->comm ? t->comm : "unknown", (unsigned long long)pid_of(p, thread),
		 t->tid);
	facts_text(f, key, text);
}

static double share(uint64_t part, uint64_t all)
{
	return all ? 100.0 * (double)part / (double)all : 0;
}

static uint64_t members(const struct tally *t)
{
	uint64_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += t->item[i].members;
	return n;
}

static void reclaim_facts(struct pass *p, struct facts *f)
{
	const struct tally_item *top = tally_top(&p->reclaim_process);

	facts_set(f, "reclaim.spans", FACT_COUNT, (double)p->reclaim_process.count);
	facts_set(f, "reclaim.avg_threads", FACT_DECIMAL,
		  p->in->seconds > 0 ? (double)p->reclaim_process.ns / 1e9 / p->in->seconds : 0);
	if (p->kernel_samples)
		facts_set(f, "reclaim.system_percent", FACT_PERCENT, share(p->reclaim_samples, p->kernel_samples));
	facts_set(f, "reclaim.scanned", FACT_COUNT, (double)p->scanned);
	facts_set(f, "reclaim.reclaimed", FACT_COUNT, (double)p->reclaimed);
	facts_set(f, "oom.kills", FACT_COUNT, (double)p->oom);
	if (!top)
		return;
	facts_set(f, "reclaim.seconds", FACT_SECONDS, (double)p->reclaim_process.ns / 1e9);
	facts_set(f, "reclaim.longest", FACT_SECONDS, (double)p->reclaim_longest_ns / 1e9);
	facts_set(f, "reclaim.threads", FACT_COUNT, (double)members(&p->reclaim_process));
	if (p->scanned)
		facts_set(f, "reclaim.yield_percent", FACT_PERCENT, share(p->reclaimed, p->scanned));
	who(p, f, "reclaim.process", (uint32_t)top->note);
	facts_set(f, "reclaim.process_percent", FACT_PERCENT, share(top->ns, p->reclaim_process.ns));
	top = tally_top(&p->reclaim_kind);
	facts_text(f, "reclaim.kind", reclaim_name((uint32_t)top->key));
	top = tally_top(&p->reclaim_cgroup);
	facts_text(f, "reclaim.cgroup", bundle_cgroup_path(p->in->b, (uint32_t)top->key));
	facts_set(f, "reclaim.cgroup_percent", FACT_PERCENT, share(top->ns, p->reclaim_cgroup.ns));
}

/* A field that names a writer is right; one that names a reader may be what an earlier one left. */
static bool owned_by_writer(const struct pass *p, const struct tally_item *owner)
{
	for (size_t i = 0; i < p->mmap_writer.n; i++) {
		if (p->mmap_writer.item[i].key == owner->key)
			return p->mmap_writer.item[i].ns >= owner->ns / 10;
	}
	return false;
}

static void mmap_facts(struct pass *p, struct facts *f)
{
	const struct tally_item *top = tally_top(&p->mmap_process);

	facts_set(f, "mmap.wait_events", FACT_COUNT, (double)p->mmap_process.count);
	if (top) {
		facts_set(f, "mmap.wait_seconds", FACT_SECONDS, (double)p->mmap_process.ns / 1e9);
		facts_set(f, "mmap.wait_longest", FACT_SECONDS, (double)p->mmap_longest_ns / 1e9);
		facts_set(f, "mmap.wait_threads", FACT_COUNT, (double)top->members);
		who(p, f, "mmap.process", (uint32_t)top->note);
	}
	top = tally_top(&p->mmap_owner);
	if (top) {
		who_thread(p, f, "mmap.owner", (uint32_t)top->key);
		facts_set(f, "mmap.owner_percent", FACT_PERCENT, share(top->ns, p->mmap_process.ns));
		facts_text(f, "mmap.owner_mode", owned_by_writer(p, top) ? "writing" : "reading, perhaps with others");
	}
	top = tally_top(&p->hold);
	if (top) {
		who_thread(p, f, "mmap.hold_thread", (uint32_t)top->key);
		facts_set(f, "mmap.hold_longest", FACT_SECONDS, (double)top->longest_ns / 1e9);
	}
}

static void lock_facts(struct pass *p, struct facts *f)
{
	const struct tally_item *top = tally_top(&p->lock), *owner = NULL;
	uint32_t detail = top ? (uint32_t)top->note : 0;

	facts_set(f, "lock.wait_events", FACT_COUNT, (double)p->lock.count);
	if (!top)
		return;
	for (size_t i = 0; i < p->lock_owner.n; i++) {
		if (p->lock_owner.item[i].key == top->key)
			owner = &p->lock_owner.item[i];
	}
	facts_set(f, "lock.seconds", FACT_SECONDS, (double)top->ns / 1e9);
	facts_set(f, "lock.avg_waiters", FACT_DECIMAL, p->in->seconds > 0 ? (double)top->ns / 1e9 / p->in->seconds : 0);
	facts_set(f, "lock.waits", FACT_COUNT, (double)top->count);
	facts_set(f, "lock.threads", FACT_COUNT, (double)top->members);
	facts_set(f, "lock.longest", FACT_SECONDS, (double)top->longest_ns / 1e9);
	facts_set(f, "lock.owners", FACT_COUNT, owner ? (double)owner->members : 0);
	facts_text(f, "lock.class", lock_class(detail));
	facts_text(f, "lock.where", facts_where(p->in, (uint32_t)(top->note >> 32)));
}

static int by_cpu_and_begin(const void *a, const void *b)
{
	const struct call *x = a, *y = b;

	if (x->cpu != y->cpu)
		return x->cpu < y->cpu ? -1 : 1;
	return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

/* The call on that CPU that the softirq had to wait for, or NULL. */
static const struct call *call_before(const struct pass *p, const struct late *l)
{
	size_t low = 0, high = p->n_calls;

	while (low < high) { /* the first that begins after the softirq ran */
		size_t mid = low + (high - low) / 2;
		const struct call *c = &p->call[mid];

		if (c->cpu < l->cpu || (c->cpu == l->cpu && c->begin_ns <= l->run_ns))
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || p->call[low - 1].cpu != l->cpu || p->call[low - 1].end_ns + AFTER_CALL_NS < l->run_ns)
		return NULL;
	/* It was raised while the call ran, or that is not known. */
	return p->call[low - 1].end_ns >= l->raise_ns || l->raise_ns == l->run_ns ? &p->call[low - 1] : NULL;
}

/* Sorted; the same call out of samples and out of an event becomes one. */
static void merge_calls(struct pass *p)
{
	size_t kept = 0;

	if (!p->n_calls)
		return;
	qsort(p->call, p->n_calls, sizeof(*p->call), by_cpu_and_begin);
	for (size_t i = 0; i < p->n_calls; i++) {
		struct call *last = kept ? &p->call[kept - 1] : NULL, *c = &p->call[i];

		if (last && last->cpu == c->cpu && last->thread == c->thread && last->syscall == c->syscall &&
		    c->begin_ns < last->end_ns) {
			last->end_ns = SB_MAX(last->end_ns, c->end_ns);
			last->name = last->name ? last->name : c->name;
		} else {
			p->call[kept++] = *c;
		}
	}
	p->n_calls = kept;
}

static void softirq_facts(struct pass *p, struct facts *f)
{
	struct tally by_call = {}, vectors = {};
	const struct tally_item *top;
	uint64_t late = 0, longest = 0, after = 0, longest_call = 0;
	const struct bundle_header *h = bundle_header(p->in->b);
	char text[160], buf[32];

	for (uint32_t cpu = 0; cpu < RUN_CPUS; cpu++)
		end_run(p, cpu);
	merge_calls(p);
	for (size_t i = 0; i < p->n_calls; i++)
		longest_call = SB_MAX(longest_call, p->call[i].end_ns - p->call[i].begin_ns);
	for (size_t i = 0; i < p->n_late; i++) {
		const struct late *l = &p->late[i];
		const struct call *c = call_before(p, l);

		late += l->run_ns > l->raise_ns;
		longest = SB_MAX(longest, l->run_ns - l->raise_ns);
		if (l->vector != UINT32_MAX)
			tally_add(&vectors, l->vector, 1, l->run_ns - l->raise_ns, 0);
		if (c) {
			after++;
			tally_add(&by_call, (uint64_t)c->thread << 32 | c->syscall, 1, c->end_ns - c->begin_ns, (uint64_t)(c - p->call));
		}
	}
	facts_set(f, "syscall.long_calls", FACT_COUNT, (double)p->n_calls);
	facts_set(f, "syscall.longest", FACT_SECONDS, (double)longest_call / 1e9);
	facts_set(f, "softirq.late", FACT_COUNT, (double)late);
	facts_set(f, "softirq.longest", FACT_SECONDS, (double)longest / 1e9);
	facts_set(f, "softirq.after_call", FACT_COUNT, (double)after);
	facts_set(f, "softirq.seen", FACT_COUNT, (double)p->n_late);
	top = tally_top(&vectors);
	if (top)
		facts_text(f, "softirq.vector", softirq_name((uint32_t)top->key));
	top = tally_most(&by_call);
	if (top) {
		const struct call *c = &p->call[top->note];

		snprintf(text, sizeof(text), "%s%s%.60s%s", syscall_name(h ? h->arch : "", c->syscall - 1, buf), c->name ? "() of " : "()",
			 bundle_string(p->in->b, c->name), "");
		facts_text(f, "syscall.call", text);
		who_thread(p, f, "syscall.thread", c->thread);
		facts_set(f, "syscall.blamed", FACT_COUNT, (double)top->count);
		facts_set(f, "syscall.blamed_longest", FACT_SECONDS, (double)top->longest_ns / 1e9);
		facts_set(f, "syscall.cpu", FACT_COUNT, c->cpu);
	}
	tally_done(&by_call);
	tally_done(&vectors);
}

static void fork_facts(struct pass *p, struct facts *f)
{
	const struct tally_item *top;
	const struct bundle_process *parent = NULL;
	char text[64];

	if (p->samples)
		facts_set(f, "fork.samples_percent", FACT_PERCENT, share(p->fork_samples, p->samples));
	for (uint32_t i = 1; i <= bundle_n_processes(p->in->b); i++) {
		const struct bundle_process *x = bundle_process(p->in->b, i);

		if (x->pid && x->start_ns >= p->in->begin_ns && x->start_ns <= p->in->end_ns)
			p->failed |= !tally_add(&p->fork_parent, x->ppid, 1, 0, i);
	}
	facts_set(f, "fork.new_processes", FACT_COUNT, (double)p->fork_parent.count);
	facts_set(f, "fork.seen_rate", FACT_DECIMAL, p->in->seconds > 0 ? (double)p->fork_parent.count / p->in->seconds : 0);
	top = tally_top(&p->fork_parent);
	if (!top)
		return;
	for (uint32_t i = 1; i <= bundle_n_processes(p->in->b) && !parent; i++) {
		if (bundle_process(p->in->b, i)->pid == top->key)
			parent = bundle_process(p->in->b, i);
	}
	snprintf(text, sizeof(text), "%s[%llu]", parent && *parent->comm ? parent->comm : "process", (unsigned long long)top->key);
	facts_text(f, "fork.parent", text);
	facts_set(f, "fork.parent_percent", FACT_PERCENT, share(top->count, p->fork_parent.count));
	facts_text(f, "fork.child", bundle_process(p->in->b, (uint32_t)top->note)->comm);
}

static void io_facts(struct pass *p, struct facts *f)
{
	const struct tally_item *top = tally_top(&p->io);

	facts_set(f, "io.slow", FACT_COUNT, (double)p->io.count);
	if (!top)
		return;
	facts_set(f, "io.longest", FACT_SECONDS, (double)top->longest_ns / 1e9);
	facts_text(f, "io.device", top->key ? bundle_string(p->in->b, (uint32_t)top->key) : "unknown");
	facts_set(f, "io.device_slow", FACT_COUNT, (double)top->count);
}

int facts_from_events(struct facts *f, const struct facts_input *in)
{
	struct pass p = { .in = in, .bin_ns = SB_MAX((in->end_ns - in->begin_ns) / BINS + 1, BIN_NS) };
	int r = -ENOMEM;

	p.call = malloc(LIST_MAX * sizeof(*p.call));
	p.late = malloc(LIST_MAX * sizeof(*p.late));
	p.run = calloc(RUN_CPUS, sizeof(*p.run));
	p.waiting = calloc(BINS, sizeof(*p.waiting));
	p.busy = calloc(BINS, sizeof(*p.busy));
	p.stack_forks = calloc(bundle_n_stacks(in->b) + 1u, 1);
	if (p.call && p.late && p.run && p.stack_forks && p.waiting && p.busy)
		r = bundle_each_event(in->b, take, &p);
	if (r == 0) {
		reclaim_facts(&p, f);
		mmap_facts(&p, f);
		lock_facts(&p, f);
		softirq_facts(&p, f);
		fork_facts(&p, f);
		io_facts(&p, f);
		contested_facts(&p, f);
		if (p.n_calls == LIST_MAX || p.n_late == LIST_MAX)
			facts_set(f, "softirq.list_full", FACT_COUNT, 1);
	}
	free(p.call);
	free(p.late);
	free(p.run);
	free(p.waiting);
	free(p.busy);
	free(p.stack_forks);
	tally_done(&p.reclaim_process);
	tally_done(&p.reclaim_cgroup);
	tally_done(&p.reclaim_kind);
	tally_done(&p.mmap_process);
	tally_done(&p.mmap_owner);
	tally_done(&p.mmap_writer);
	tally_done(&p.lock);
	tally_done(&p.lock_owner);
	tally_done(&p.hold);
	tally_done(&p.fork_parent);
	tally_done(&p.io);
	return r == 0 && p.failed ? -ENOMEM : r;
}
