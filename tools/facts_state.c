// SPDX-License-Identifier: BSD-2-Clause
/* What the stackshot, the series and the losses say: who was stuck at the freeze and where, who held
 * what, what the host's counters did, and what is missing. */
#include <errno.h>
#include <stdio.h>

#include "tools/blame.h"
#include "tools/describe.h"
#include "tools/facts.h"
#include "tools/syscalls.h"
#include "tools/tally.h"

static bool starts(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!strncmp(name, list[i], strlen(list[i])))
			return true;
	}
	return false;
}
#define STARTS(name, list) starts(name, list, SB_ARRAY_SIZE(list))

const char *facts_where(const struct facts_input *in, uint32_t kstack)
{
	/* They wait for whatever their caller wants. */
	static const char *const generic[] = { "schedule", "__schedule", "io_schedule", "rwsem_", "__mutex_lock", "mutex_lock", "down_",
					       "__down", "percpu_rwsem_wait", "percpu_down", "__percpu_down", "wait_for_completion",
					       "__wait_for", "do_wait", "preempt_schedule", "native_queued_spin", "_raw_spin", "queued_spin",
					       "osq_lock", "mutex_spin", "__cond_resched", "rt_mutex", "contention_", "lock_" };
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], n = names_leaf_first(in->names, kstack, ids, SB_ARRAY_SIZE(ids));

	for (uint32_t i = 0; i < n; i++) {
		if (!STARTS(names_get(in->names, ids[i]), generic))
			return names_get(in->names, ids[i]);
	}
	return n ? names_get(in->names, ids[0]) : "";
}

/* Frames of waiting for a device or a filesystem. */
static bool is_storage(const struct facts_input *in, uint32_t kstack)
{
	static const char *const names[] = {
		"folio_wait", "wait_on_page", "wait_on_buffer", "__wait_on_buffer", "bio_", "submit_bio", "blk_", "blkdev_", "__block_",
		"jbd2_", "ext4_", "xfs_", "btrfs_", "f2fs_", "nfs", "fuse_", "cifs_", "rpc_", "sb_start", "__sb_start", "mnt_want_write",
		"iomap_", "sync_", "do_fsync", "vfs_fsync", "scsi_", "nvme_", "dm_", "md_", "raid", "wbt_wait", "rq_qos", "io_schedule",
		"balance_dirty_pages", "filemap_",
	};
	/* Who wants to change a frozen file system waits for its per-CPU semaphore right below these, where sb_start_write() is
	 * inlined. */
	static const char *const percpu[] = { "percpu_rwsem_wait", "__percpu_down_read" };
	static const char *const changes[] = { "vfs_", "do_iter_", "do_splice", "do_sendfile", "do_sys_ftruncate", "ksys_fallocate" };
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], n = names_leaf_first(in->names, kstack, ids, SB_ARRAY_SIZE(ids)), i = 0;

	while (i < n && STARTS(names_get(in->names, ids[i]), percpu))
		i++;
	if (i && i < n && STARTS(names_get(in->names, ids[i]), changes))
		return true;
	for (i = 0; i < n; i++) {
		if (STARTS(names_get(in->names, ids[i]), names))
			return true;
	}
	return false;
}

/* ---- stuck threads --------------------------------------------------------------------------------- */

struct shot {
	const struct facts_input *in;
	const struct bundle_shot_thread *t;
	size_t n;
	uint64_t now;
};

static uint64_t age(const struct shot *s, size_t i)
{
	return s->t[i].since_ns && s->t[i].since_ns < s->now ? s->now - s->t[i].since_ns : 0;
}

static void top_where(struct facts *f, const struct facts_input *in, const struct tally *t, const char *where_key,
		      const char *count_key)
{
	const struct tally_item *best = tally_most(t);

	if (!best)
		return;
	facts_text(f, where_key, facts_where(in, (uint32_t)best->note));
	facts_set(f, count_key, FACT_COUNT, (double)best->count);
}

static void name_process(struct facts *f, const struct facts_input *in, const char *key, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(in->b, thread);
	const struct bundle_process *p = bundle_process(in->b, t->process);
	char text[64];

	snprintf(text, sizeof(text), "%s[%u]", *p->comm ? p->comm : *t->comm ? t->comm : "unknown", p->pid);
	facts_text(f, key, text);
}

/* D state: all, and those that wait for a device or filesystem and for no reclaim or mmap_lock. */
static int dstate_facts(struct facts *f, const struct shot *s)
{
	struct tally where = {}, process = {}, every = {};
	const struct tally_item *top;
	uint64_t all = 0, storage = 0, longest = 0, longest_storage = 0;
	bool failed = false;

	for (size_t i = 0; i < s->n; i++) {
		const struct bundle_shot_thread *t = &s->t[i];
		const char *text, *comm;

		if (shot_state(t) != 'D' || !filter_thread(s->in->filter, t->thread))
			continue;
		all++;
		text = facts_where(s->in, t->kstack);
		failed |= !tally_add(&every, sb_hash_bytes(text, strlen(text)), 1, 0, t->kstack);
		longest = SB_MAX(longest, age(s, i));
		if (t->reclaim_since_ns || (t->lock && t->lock == t->mmap_lock) || (t->lock_flags & BUNDLE_LOCK_MMAP) ||
		    !is_storage(s->in, t->kstack))
			continue;
		storage++;
		longest_storage = SB_MAX(longest_storage, age(s, i));
		comm = bundle_thread(s->in->b, t->thread)->comm;
		failed |= !tally_add(&where, sb_hash_bytes(text, strlen(text)), 1, 0, t->kstack);
		failed |= !tally_add(&process, sb_hash_bytes(comm, strlen(comm)), 1, 0, t->thread);
	}
	facts_set(f, "dstate.threads", FACT_COUNT, (double)all);
	facts_set(f, "dstate.longest", FACT_SECONDS, (double)longest / 1e9);
	facts_set(f, "storage.threads", FACT_COUNT, (double)storage);
	facts_set(f, "storage.longest", FACT_SECONDS, (double)longest_storage / 1e9);
	top_where(f, s->in, &where, "storage.where", "storage.where_threads");
	top = tally_top(&process);
	if (top) {
		facts_text(f, "storage.comm", bundle_thread(s->in->b, (uint32_t)top->note)->comm);
		facts_set(f, "storage.comm_threads", FACT_COUNT, (double)top->count);
	}
	top_where(f, s->in, &every, "dstate.where", "dstate.where_threads");
	tally_done(&every);
	tally_done(&where);
	tally_done(&process);
	return failed ? -ENOMEM : 0;
}

static void other_facts(struct facts *f, const struct shot *s)
{
	uint64_t runnable = 0, longest_runnable = 0, reclaiming = 0, oldest = 0, scanned = 0, reclaimed = 0;
	uint32_t oldest_thread = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct bundle_shot_thread *t = &s->t[i];

		if (!filter_thread(s->in->filter, t->thread))
			continue;
		if (t->flags & BUNDLE_SHOT_RUNNABLE) {
			runnable++;
			longest_runnable = SB_MAX(longest_runnable, age(s, i));
		}
		if (t->reclaim_since_ns && t->reclaim_since_ns < s->now) {
			reclaiming++;
			scanned += t->nr_scanned;
			reclaimed += t->nr_reclaimed;
			if (s->now - t->reclaim_since_ns > oldest) {
				oldest = s->now - t->reclaim_since_ns;
				oldest_thread = t->thread;
			}
		}
	}
	facts_set(f, "freeze.threads", FACT_COUNT, (double)s->n);
	facts_set(f, "freeze.runnable", FACT_COUNT, (double)runnable);
	facts_set(f, "freeze.longest_runnable", FACT_SECONDS, (double)longest_runnable / 1e9);
	facts_set(f, "freeze.reclaiming", FACT_COUNT, (double)reclaiming);
	if (!reclaiming)
		return;
	facts_set(f, "freeze.reclaim_oldest", FACT_SECONDS, (double)oldest / 1e9);
	facts_set(f, "freeze.reclaim_scanned", FACT_COUNT, (double)scanned);
	facts_set(f, "freeze.reclaim_reclaimed", FACT_COUNT, (double)reclaimed);
	name_process(f, s->in, "freeze.reclaim_process", oldest_thread);
	/* Pages of spans that have ended and of those that had not. */
	scanned += (uint64_t)facts_value(f, "reclaim.scanned");
	reclaimed += (uint64_t)facts_value(f, "reclaim.reclaimed");
	facts_set(f, "reclaim.scanned", FACT_COUNT, (double)scanned);
	facts_set(f, "reclaim.reclaimed", FACT_COUNT, (double)reclaimed);
	if (scanned)
		facts_set(f, "reclaim.yield_percent", FACT_PERCENT, 100.0 * (double)reclaimed / (double)scanned);
}

/* ---- locks at the freeze ----------------------------------------------------------------------------- */

static void doing(const struct blame *r, const struct blame_hop *hop, char *ret, size_t len)
{
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], kstack, ustack, n;
	uint64_t sampled;

	ret[0] = '\0';
	if (hop->thread == UINT32_MAX)
		return;
	blame_stacks(r, hop->thread, &kstack, &ustack, &sampled);
	n = names_leaf_first(r->names, kstack, ids, SB_ARRAY_SIZE(ids));
	for (uint32_t i = 0; i < n && i < 3; i++) {
		size_t at = strlen(ret);

		snprintf(ret + at, len - at, "%s%s", i ? " < " : "", names_get(r->names, ids[i]));
	}
}

static bool in_page_fault(const struct blame *r, const struct blame_hop *hop)
{
	static const char *const faults[] = { "handle_mm_fault", "do_user_addr_fault", "exc_page_fault", "do_page_fault" };
	uint32_t ids[BUNDLE_STACK_MAX_FRAMES], kstack, ustack, n;
	uint64_t sampled;

	blame_stacks(r, hop->thread, &kstack, &ustack, &sampled);
	n = names_leaf_first(r->names, kstack, ids, SB_ARRAY_SIZE(ids));
	for (uint32_t i = 0; i < n; i++) {
		if (STARTS(names_get(r->names, ids[i]), faults))
			return true;
	}
	return false;
}

static const char *state_words(const struct blame *r, const struct blame_hop *hop)
{
	const struct bundle_shot_thread *t = hop->thread == UINT32_MAX ? NULL : &r->shot[hop->thread];

	return !t ? "not in the stackshot" : t->flags & BUNDLE_SHOT_RUNNING ? "running" :
	       t->flags & BUNDLE_SHOT_RUNNABLE ? "runnable but not running" : "blocked itself";
}

static void hop_name(const struct blame *r, const struct blame_hop *hop, char *ret, size_t len)
{
	const struct bundle_thread *t = bundle_thread(r->b, hop->thread_id);

	if (!hop->thread_id && hop->thread == UINT32_MAX)
		snprintf(ret, len, "unknown");
	else
		snprintf(ret, len, "%s[%u] tid %u", *t->comm ? t->comm : "unknown", bundle_process(r->b, t->process)->pid, t->tid);
}

static const char *known_by(enum blame_how how)
{
	switch (how) {
	case BLAME_OWNER: return "the lock's owner field";
	case BLAME_STACK: return "its kernel stack";
	case BLAME_READER: return "the owner field, as the last of its readers";
	case BLAME_WOKEN: /* holds nothing yet */
	case BLAME_NOBODY: break;
	}
	return "nobody is named";
}

/* ---- the call that a holder is in -------------------------------------------------------------------- */

/* The last call of one thread that was told before the stackshot, and its last sample outside of it. */
struct last_call {
	uint64_t freeze_ns;
	uint32_t thread;
	struct bundle_event call; /* kind 0: none */
	struct { uint64_t ts_ns; uint32_t syscall; } sample;
};

static int take_last_call(const struct bundle_event *e, void *ctx)
{
	struct last_call *c = ctx;

	if (e->thread != c->thread || e->ts_ns > c->freeze_ns)
		return 0;
	if (e->kind == BUNDLE_SYSCALL && (!c->call.kind || e->ts_ns >= c->call.ts_ns))
		c->call = *e;
	if (e->kind == BUNDLE_ON_CPU && e->ts_ns >= c->sample.ts_ns) {
		c->sample.ts_ns = e->ts_ns;
		c->sample.syscall = e->flags & BUNDLE_EV_USER ? 0 : e->syscall;
	}
	return 0;
}

/* Calls whose second argument is a number of bytes of the address space. */
static bool takes_bytes(const char *name)
{
	static const char *const names[] = { "mmap", "munmap", "mremap", "mprotect", "pkey_mprotect", "madvise", "mlock", "mlock2", "munlock",
					     "mbind", "msync" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return true;
	}
	return false;
}

/* The call that the holder has not returned from: by the stackshot, or of one that was running then by the record that
 * its samples made once the call was long. */
static int holder_call(struct facts *f, const struct facts_input *in, const struct blame *r, const struct blame_hop *hop)
{
	const struct bundle_shot_thread *t = hop->thread == UINT32_MAX ? NULL : &r->shot[hop->thread];
	struct last_call c = { .freeze_ns = r->begin_ns, .thread = hop->thread_id };
	const struct bundle_header *h = bundle_header(in->b);
	const struct bundle_event *e = &c.call;
	uint64_t begin_ns = 0;
	char text[128], buf[32], bytes[32];
	const char *name;
	int err;

	if (!hop->thread_id)
		return 0;
	err = bundle_each_event(in->b, take_last_call, &c);
	if (err < 0)
		return err;
	if (e->kind && (e->detail & BUNDLE_SYSCALL_OPEN) && (c.sample.ts_ns <= e->ts_ns || c.sample.syscall == e->syscall))
		begin_ns = e->ts_ns - SB_MIN(e->ts_ns, e->duration_ns);
	else if (t && t->syscall)
		c.call = (struct bundle_event){ .syscall = t->syscall, .arg1 = t->arg1 };
	if (!e->syscall || (!begin_ns && !(t && t->syscall)))
		return 0;
	name = syscall_name(h ? h->arch : "", e->syscall - 1, buf);
	snprintf(text, sizeof(text), "%s()", name);
	if (takes_bytes(name) && e->arg1) {
		fact_print(&(struct fact){ .form = FACT_BYTES, .value = (double)e->arg1 }, bytes, sizeof(bytes));
		snprintf(text, sizeof(text), "%s() of %s", name, bytes);
		facts_set(f, "mmap.holder_call_bytes", FACT_COUNT, (double)e->arg1);
	}
	facts_text(f, "mmap.holder_call", text);
	/* Blocked in it since then, if not longer. */
	if (!begin_ns && t->since_ns && !(t->flags & (BUNDLE_SHOT_RUNNING | BUNDLE_SHOT_RUNNABLE)))
		begin_ns = t->since_ns;
	if (begin_ns && begin_ns < r->begin_ns)
		facts_set(f, "mmap.holder_call_age", FACT_SECONDS, (double)(r->begin_ns - begin_ns) / 1e9);
	return 0;
}

static void mmap_lock_facts(struct facts *f, const struct blame *r, const struct blame_lock *l)
{
	const struct blame_hop *first = &l->chain[0], *last = &l->chain[l->n_chain - 1];
	const struct bundle_shot_thread *w = &r->shot[l->waiter[0]], *whose = w, *end;
	uint64_t since = w->lock_since_ns ? w->lock_since_ns : w->since_ns;
	char text[400];

	facts_set(f, "mmap.freeze_waiters", FACT_COUNT, (double)l->n_waiters);
	facts_set(f, "mmap.freeze_longest", FACT_SECONDS, since && since < r->begin_ns ? (double)(r->begin_ns - since) / 1e9 : 0);
	facts_text(f, "mmap.freeze_mode", w->mmap_count & 1 ? "writing" : "reading");
	/* The first in the queue may be khugepaged or a reader of /proc: whose lock it is says its address space. */
	for (size_t i = 0; i < r->n_shot && whose == w; i++) {
		if (r->shot[i].mm == l->mm && !(r->shot[i].flags & BUNDLE_SHOT_KTHREAD))
			whose = &r->shot[i];
	}
	name_process(f, &(struct facts_input){ .b = r->b }, "mmap.freeze_process", whose->thread);
	hop_name(r, first, text, sizeof(text));
	facts_text(f, "mmap.holder", first->how == BLAME_NOBODY || first->how == BLAME_WOKEN ? "" : text);
	facts_text(f, "mmap.woken", first->how == BLAME_WOKEN ? text : "");
	facts_text(f, "mmap.holder_known_by", known_by(first->how));
	facts_text(f, "mmap.holder_state", state_words(r, first));
	doing(r, first, text, sizeof(text));
	facts_text(f, "mmap.holder_doing", text);
	facts_set(f, "mmap.chain", FACT_COUNT, (double)l->n_chain);
	if (l->n_chain > 1) {
		hop_name(r, last, text, sizeof(text));
		facts_text(f, "mmap.chain_end", text);
		facts_text(f, "mmap.chain_end_state", state_words(r, last));
		doing(r, last, text, sizeof(text));
		facts_text(f, "mmap.chain_end_doing", text);
	}
	end = last->thread == UINT32_MAX ? NULL : &r->shot[last->thread];
	if (!end || !end->reclaim_since_ns || end->reclaim_since_ns >= r->begin_ns)
		return;
	facts_set(f, "mmap.chain_end_reclaim", FACT_SECONDS, (double)(r->begin_ns - end->reclaim_since_ns) / 1e9);
	facts_set(f, "mmap.reclaim_scanned", FACT_COUNT, end->nr_scanned);
	facts_set(f, "mmap.reclaim_reclaimed", FACT_COUNT, end->nr_reclaimed);
	hop_name(r, last, text, sizeof(text));
	facts_text(f, "mmap.reclaimer", text);
	facts_text(f, "mmap.reclaim_cgroup", bundle_cgroup_path(r->b, bundle_thread(r->b, end->thread)->cgroup));
	facts_set(f, "mmap.reclaim_in_fault", FACT_COUNT, in_page_fault(r, last));
}

static int blame_facts(struct facts *f, const struct facts_input *in)
{
	bool mmap = false, other = false;
	struct blame r;
	int e = blame_find(&r, in->b, in->names);

	facts_set(f, "mmap.freeze_waiters", FACT_COUNT, 0);
	facts_set(f, "lock.freeze_waiters", FACT_COUNT, 0);
	for (size_t i = 0; i < r.n_locks && e == 0; i++) {
		const struct blame_lock *l = &r.lock[i];
		char text[80];

		if (l->mm && !mmap) {
			mmap_lock_facts(f, &r, l);
			e = l->chain[0].how == BLAME_OWNER ? holder_call(f, in, &r, &l->chain[0]) : 0;
		}
		if (!l->mm && !other) {
			facts_set(f, "lock.freeze_waiters", FACT_COUNT, (double)l->n_waiters);
			hop_name(&r, &l->chain[0], text, sizeof(text));
			facts_text(f, "lock.freeze_holder", l->chain[0].how == BLAME_NOBODY || l->chain[0].how == BLAME_WOKEN ? "" : text);
			facts_text(f, "lock.freeze_class", lock_class(l->flags));
			facts_text(f, "lock.freeze_where", facts_where(in, r.shot[l->waiter[0]].kstack));
		}
		mmap |= l->mm != 0;
		other |= l->mm == 0;
	}
	blame_done(&r);
	return e;
}

int facts_from_stackshot(struct facts *f, const struct facts_input *in)
{
	uint64_t end, seen, truncated;
	struct shot s = { .in = in };
	int r;

	s.n = bundle_stackshot(in->b, &s.t, &s.now, &end, &seen, &truncated);
	if (!s.n)
		return 0; /* nothing of this is known */
	r = dstate_facts(f, &s);
	if (r < 0)
		return r;
	other_facts(f, &s);
	return blame_facts(f, in);
}

/* ---- series -------------------------------------------------------------------------------------------- */

/* The values in [from, to]: the first and the last. False: fewer than two. */
static bool ends(const struct bundle_series *s, uint64_t from, uint64_t to, double *ret_first, double *ret_last, double *ret_s)
{
	size_t first = SIZE_MAX, last = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (s->ts_ns[i] < from || s->ts_ns[i] > to)
			continue;
		first = SB_MIN(first, i);
		last = i;
	}
	if (first == SIZE_MAX || last == first)
		return false;
	*ret_first = (double)s->value[first];
	*ret_last = (double)s->value[last];
	*ret_s = (double)(s->ts_ns[last] - s->ts_ns[first]) / 1e9;
	return *ret_s > 0;
}

/* Growth per second of a counter, all scopes together. */
static bool rate(const struct facts_input *in, const char *name, uint64_t from, uint64_t to, double *ret)
{
	const struct bundle_series *s;
	size_t n = bundle_series(in->b, &s);
	double a, b, seconds;
	bool any = false;

	*ret = 0;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(s[i].name, name) || !ends(&s[i], from, to, &a, &b, &seconds))
			continue;
		*ret += (b - a) / seconds;
		any = true;
	}
	return any;
}

static void throttle_facts(struct facts *f, const struct facts_input *in)
{
	const struct bundle_series *s;
	size_t n = bundle_series(in->b, &s);
	double a, b, seconds, best = 0;
	const char *scope = NULL;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(s[i].name, "cgroup.cpu.throttled") || !ends(&s[i], in->begin_ns, in->end_ns, &a, &b, &seconds))
			continue;
		if (!scope || (b - a) / seconds > best) {
			best = (b - a) / seconds;
			scope = s[i].scope;
		}
	}
	if (!scope)
		return;
	facts_set(f, "throttle.seconds_per_second", FACT_DECIMAL, best / 1e6);
	facts_text(f, "throttle.cgroup", scope);
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(s[i].scope, scope) && !strcmp(s[i].name, "cgroup.cpu.nr_throttled") &&
		    ends(&s[i], in->begin_ns, in->end_ns, &a, &b, &seconds))
			facts_set(f, "throttle.periods_per_second", FACT_DECIMAL, (b - a) / seconds);
	}
}

/* Limit and use of the cgroup that reclaims most. */
static void memory_facts(struct facts *f, const struct facts_input *in)
{
	const struct fact *cgroup = facts_get(f, "reclaim.cgroup");
	const struct bundle_series *s;
	size_t n = bundle_series(in->b, &s);

	for (size_t i = 0; cgroup && cgroup->text && i < n; i++) {
		double last = 0;
		bool any = false;

		if (strcmp(s[i].scope, cgroup->text))
			continue;
		for (size_t k = 0; k < s[i].n; k++) {
			if (s[i].ts_ns[k] <= in->filter->trigger_ns || !any) {
				last = (double)s[i].value[k];
				any = true;
			}
		}
		if (any && !strcmp(s[i].name, "cgroup.memory.current"))
			facts_set(f, "reclaim.cgroup_usage", FACT_BYTES, last);
		if (any && !strcmp(s[i].name, "cgroup.memory.max") && last < 1e18)
			facts_set(f, "reclaim.cgroup_limit", FACT_BYTES, last);
	}
	if (facts_value(f, "reclaim.cgroup_limit") > 0 && facts_get(f, "reclaim.cgroup_usage"))
		facts_set(f, "reclaim.cgroup_full_percent", FACT_PERCENT,
			  100 * facts_value(f, "reclaim.cgroup_usage") / facts_value(f, "reclaim.cgroup_limit"));
}

void facts_from_series(struct facts *f, const struct facts_input *in)
{
	static const struct {
		const char *name, *key;
	} pressure[] = { { "pressure.memory.some", "pressure.memory_some" }, { "pressure.memory.full", "pressure.memory_full" },
			 { "pressure.io.some", "pressure.io_some" }, { "pressure.io.full", "pressure.io_full" },
			 { "pressure.cpu.some", "pressure.cpu_some" } };
	const struct bundle_series *s;
	double v;

	facts_set(f, "series.n", FACT_COUNT, (double)bundle_series(in->b, &s));
	for (size_t i = 0; i < SB_ARRAY_SIZE(pressure); i++) {
		if (rate(in, pressure[i].name, in->begin_ns, in->end_ns, &v))
			facts_set(f, pressure[i].key, FACT_PERCENT, v / 1e4);
	}
	if (rate(in, "stat.processes", in->begin_ns, in->end_ns, &v))
		facts_set(f, "fork.rate", FACT_DECIMAL, v);
	if (rate(in, "stat.processes", 0, in->begin_ns, &v))
		facts_set(f, "fork.rate_before", FACT_DECIMAL, v);
	throttle_facts(f, in);
	memory_facts(f, in);
}

/* ---- what is missing ------------------------------------------------------------------------------------ */

void facts_from_losses(struct facts *f, const struct facts_input *in)
{
	const struct bundle_header *h = bundle_header(in->b);
	const struct bundle_damage *d = bundle_damage(in->b);
	const struct bundle_loss *l;
	const struct bundle_mark *m;
	size_t n = bundle_losses(in->b, &l);
	double lost[BUNDLE_KIND_COUNT] = {}, stacks = 0, all = 0, gaps = 0;
	bool locks = true;

	for (size_t i = 0; i < n; i++) {
		if (l[i].cause == BUNDLE_LOSS_OVERWRITTEN || l[i].cause == BUNDLE_LOSS_TRUNCATED)
			continue; /* says how far the history goes; a cut stack is still one */
		if (l[i].cause == BUNDLE_LOSS_EVICTED || !strcmp(l[i].unit, "stacks")) {
			stacks += (double)l[i].count;
			continue;
		}
		all += (double)l[i].count;
		if ((unsigned int)l[i].kind < BUNDLE_KIND_COUNT)
			lost[l[i].kind] += (double)l[i].count;
	}
	facts_set(f, "loss.records", FACT_COUNT, all);
	facts_set(f, "loss.reclaim", FACT_COUNT, lost[BUNDLE_RECLAIM]);
	facts_set(f, "loss.offcpu", FACT_COUNT, lost[BUNDLE_OFF_CPU]);
	facts_set(f, "loss.samples", FACT_COUNT, lost[BUNDLE_ON_CPU]);
	facts_set(f, "loss.locks", FACT_COUNT, lost[BUNDLE_LOCK_WAIT]);
	facts_set(f, "loss.stacks", FACT_COUNT, stacks);
	n = bundle_marks(in->b, &m);
	for (size_t i = 0; i < n; i++)
		gaps += !strcmp(m[i].kind, "agent-gap") && m[i].ts_ns >= in->begin_ns && m[i].ts_ns <= in->end_ns;
	facts_set(f, "loss.gaps", FACT_COUNT, gaps);
	facts_set(f, "loss.damage", FACT_COUNT,
		  (double)d->bad_frames + (double)d->missing_chunks + (double)d->bad_references + (double)(d->skipped_bytes != 0));
	facts_set(f, "loss.unfinished", FACT_COUNT, !d->complete);
	for (size_t i = 0; h && i < h->n_missing; i++)
		locks &= !strstr(h->missing[i].key, "lock");
	if (locks)
		facts_set(f, "evidence.locks", FACT_COUNT, 1);
}
