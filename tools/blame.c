// SPDX-License-Identifier: BSD-2-Clause
#include "tools/blame.h"

#include <errno.h>
#include <stdio.h>

/* Kernel functions that only run, or only wait, while their caller holds mmap_lock of its own
 * mm. A thread inside one of them, and not waiting for mmap_lock itself, holds it. */
static const char *const holds_for_writing[] = {
	"vm_mmap_pgoff", "do_mmap", "__vm_munmap", "do_vmi_munmap", "do_munmap", "do_mprotect_pkey",
	"mprotect_fixup", "__do_sys_mremap", "do_mremap", "move_vma", "dup_mmap", "dup_mm", "do_brk_flags",
	"do_mlock", "apply_vma_lock_flags", "exit_mmap", "khugepaged_scan_mm_slot",
};
/* A page fault holds it for reading, or (6.4 and later) the lock of its VMA. */
static const char *const in_fault[] = { "handle_mm_fault", "__handle_mm_fault" };
/* These hold mmap_lock for reading, on every kernel. */
static const char *const holds_for_reading[] = { "populate_vma_page_range", "__get_user_pages" };
/* This one up to 6.16. From 6.17 on ("mm: use per_vma lock for MADV_DONTNEED") it may hold the lock of its VMA instead. */
static const char *const in_madvise[] = { "do_madvise" };
/* A writer that has taken the mapping apart goes on as a reader while it frees the pages. */
static const char *const unmapping[] = { "unmap_region", "unmap_vmas", "free_pgtables", "tlb_finish_mmu",
					 "do_mas_align_munmap", "do_vmi_align_munmap", "vms_complete_munmap_vmas",
					 "__do_munmap" };
/* Took mmap_lock for a page fault, and lost the CPU before the fault itself began. */
static const char *const before_fault[] = { "lock_mm_and_find_vma", "mmap_read_lock_maybe_expand" };
/* Where a page fault lets go of its lock when the page has to be read, at its first try. */
static const char *const may_let_go[] = { "filemap_fault", "__folio_lock_or_retry", "__lock_page_or_retry",
					  "shmem_fault", "handle_userfault" };
/* Waiting for a VMA whose lock a page fault holds (per-VMA locks). */
static const char *const waits_for_vma[] = { "vma_start_write", "__vma_start_write", "vma_mark_detached",
					     "__vma_enter_locked", "vma_lock_mm", "vma_expand" };
/* Waiting for an rwsem or a mutex; where the kernel has no lock tracepoints. */
static const char *const waits_for_lock[] = { "rwsem_down_read_slowpath", "rwsem_down_write_slowpath",
					      "down_read", "down_write", "down_read_killable",
					      "down_write_killable", "__mutex_lock", "mutex_lock" };
static const char *const waits_for_mmap_lock[] = { "lock_mm_and_find_vma", "mmap_read_lock_maybe_expand",
						   "mmap_write_lock_killable", "mmap_read_lock_killable" };
static const char *const reclaiming[] = { "shrink_lruvec", "shrink_node", "do_try_to_free_pages",
					  "try_to_free_mem_cgroup_pages", "try_to_free_pages" };

/* Samples older than this say nothing about what a running thread does at the freeze. */
#define SAMPLE_AGE_NS NSEC_PER_SEC

void blame_stacks(const struct blame *r, uint32_t i, uint32_t *ret_kstack, uint32_t *ret_ustack,
		  uint64_t *ret_sample_ns)
{
	const struct blame_sample *s = &r->sample[i];

	*ret_kstack = r->shot[i].kstack;
	*ret_ustack = r->shot[i].ustack;
	*ret_sample_ns = 0;
	if (*ret_kstack || !s->ts_ns || s->ts_ns + SAMPLE_AGE_NS < r->begin_ns)
		return;
	*ret_kstack = s->kstack;
	*ret_ustack = s->ustack;
	*ret_sample_ns = s->ts_ns;
}

static int note_sample(const struct bundle_event *e, void *ctx)
{
	struct blame *r = ctx;
	uint64_t i = map64_get(&r->by_thread, (uint64_t)e->thread + 1);

	if (e->kind != BUNDLE_ON_CPU || !i || e->ts_ns > r->begin_ns || e->ts_ns < r->sample[i - 1].ts_ns)
		return 0;
	r->sample[i - 1] = (struct blame_sample){ e->ts_ns, e->kstack, e->ustack };
	return 0;
}

static bool stack_has(struct blame *r, const struct bundle_shot_thread *t, const char *const *list, size_t n)
{
	const struct bundle_stack *s;
	uint32_t kstack, ustack;
	uint64_t sampled;

	blame_stacks(r, (uint32_t)(t - r->shot), &kstack, &ustack, &sampled);
	s = bundle_stack(r->b, kstack);
	for (uint32_t i = 0; i < s->n; i++) {
		const char *name = names_get(r->names, names_frame(r->names, 0, s->addr[i]));

		for (size_t k = 0; k < n; k++) {
			if (!strcmp(name, list[k]))
				return true;
		}
	}
	return false;
}
#define HAS(r, t, list) stack_has(r, t, list, SB_ARRAY_SIZE(list))

static bool running(const struct bundle_shot_thread *t)
{
	return t->flags & (BUNDLE_SHOT_RUNNING | BUNDLE_SHOT_RUNNABLE);
}

/* The lock that a thread waits for: what the tracepoint noted, else what its stack says. */
static uint64_t wanted(struct blame *r, const struct bundle_shot_thread *t)
{
	if (t->lock)
		return t->lock;
	if (t->mmap_lock && !running(t) && (t->state & BUNDLE_TASK_UNINTERRUPTIBLE) &&
	    (HAS(r, t, waits_for_mmap_lock) ||
	     (HAS(r, t, waits_for_lock) && (HAS(r, t, in_fault) || HAS(r, t, holds_for_writing)))))
		return t->mmap_lock;
	return 0;
}

static struct blame_lock *lock_of(struct blame *r, uint64_t addr)
{
	struct blame_lock *bigger;

	for (size_t i = 0; i < r->n_locks; i++) {
		if (r->lock[i].addr == addr)
			return &r->lock[i];
	}
	bigger = realloc(r->lock, (r->n_locks + 1) * sizeof(*bigger));
	if (!bigger)
		return NULL;
	r->lock = bigger;
	r->lock[r->n_locks] = (struct blame_lock){ .addr = addr };
	return &r->lock[r->n_locks++];
}

static int add_waiter(struct blame *r, uint32_t i, uint64_t addr)
{
	struct blame_lock *l = lock_of(r, addr);
	uint32_t *bigger = l ? realloc(l->waiter, (l->n_waiters + 1) * sizeof(*bigger)) : NULL;

	if (!bigger)
		return -ENOMEM;
	l->waiter = bigger;
	l->waiter[l->n_waiters++] = i;
	l->flags |= r->shot[i].lock_flags;
	for (size_t k = 0; k < r->n_shot && !l->mm; k++) {
		if (r->shot[k].mmap_lock == addr) {
			l->mm = r->shot[k].mm;
			l->of = r->shot[k].thread;
		}
	}
	return 0;
}

static uint32_t find_thread(const struct blame *r, uint32_t id)
{
	uint64_t i = id ? map64_get(&r->by_thread, (uint64_t)id + 1) : 0;

	return i ? (uint32_t)i - 1 : UINT32_MAX;
}

static bool waits(struct blame *r, uint32_t i, uint64_t addr)
{
	return wanted(r, &r->shot[i]) == addr;
}

static uint64_t waiting_since(const struct bundle_shot_thread *t)
{
	return t->lock_since_ns ? t->lock_since_ns : t->since_ns;
}

/* rw_semaphore.count (kernel/locking/rwsem.c): bit 0 a writer, bit 1 waiters, readers from
 * bit 8 on. */
#define RWSEM_WRITER 1
#define RWSEM_WAITERS 2
#define RWSEM_READERS_SHIFT 8

static uint32_t readers_of(const struct bundle_shot_thread *t)
{
	if (t->mmap_count <= 0 || (t->mmap_count & RWSEM_WRITER))
		return 0;
	return (uint32_t)(t->mmap_count >> RWSEM_READERS_SHIFT);
}

/* Waiters, and neither a reader nor a writer when this thread was looked at. */
static bool mmap_lock_free(const struct bundle_shot_thread *t)
{
	return t->mmap_count > 0 && (t->mmap_count & RWSEM_WAITERS) && !(t->mmap_count & RWSEM_WRITER) &&
	       !readers_of(t);
}

/* Who holds a lock for reading, or the lock of a VMA, by the stacks. */
struct reader_hunt {
	uint32_t mm;
	uint64_t mmap_lock; /* of that mm: whoever waits for it is inside no fault */
	uint64_t first_wait_ns; /* the holder was there before its first waiter */
	uint32_t last_reader; /* thread that the owner field names, 0: none */
	bool vma; /* hunts the holder of a VMA's lock, not of mmap_lock */
	bool before; /* who may just have taken mmap_lock: the last resort */
};

static bool kernel_since_6(const struct blame *r, unsigned int since_minor)
{
	const struct bundle_header *h = bundle_header(r->b);
	unsigned int major = 0, minor = 0;

	return h && sscanf(h->kernel_release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= since_minor));
}

/* Kernels that take the lock of the VMA in page faults instead (0bff0aaea03e, x86 in 6.4). */
static bool per_vma_locks(const struct blame *r)
{
	return kernel_since_6(r, 4);
}

/* How well this thread fits, 0: not at all. What weighs most is that its stack cannot stand
 * there without the lock; then that it was there before the queue was. */
static unsigned int reader_score(struct blame *r, const struct reader_hunt *h, uint32_t i)
{
	const struct bundle_shot_thread *t = &r->shot[i];
	bool fault = HAS(r, t, in_fault), sure;
	bool advises = HAS(r, t, in_madvise), perhaps = advises && kernel_since_6(r, 17);
	/* madvise() frees pages, too, with whichever lock it has. */
	bool other = !h->vma && (HAS(r, t, holds_for_reading) || (advises ? !perhaps : HAS(r, t, unmapping)));
	bool before = h->before && running(t) && HAS(r, t, before_fault);
	uint32_t kstack, ustack;
	uint64_t sampled;
	unsigned int score = 1;

	if (t->mm != h->mm || !(fault || other || perhaps || before) || waits(r, i, h->mmap_lock) ||
	    (!h->vma && mmap_lock_free(t)))
		return 0;
	blame_stacks(r, i, &kstack, &ustack, &sampled);
	/* A sample of an earlier slice of a running thread: it may be elsewhere by now. */
	sure = !(sampled && sampled < t->since_ns) && !HAS(r, t, may_let_go) && !before &&
	       (h->vma || other || !per_vma_locks(r));
	if (sure)
		score += 16;
	if ((!running(t) && t->since_ns && t->since_ns <= h->first_wait_ns) ||
	    (t->reclaim_since_ns && t->reclaim_since_ns <= h->first_wait_ns))
		score += 8;
	if (h->last_reader == t->thread)
		score += 4;
	if (t->reclaim_since_ns || HAS(r, t, reclaiming))
		score += 2;
	return score;
}

/* 1 with *ret, 0: nobody fits. */
static int find_reader(struct blame *r, const struct reader_hunt *h, struct blame_hop *ret)
{
	uint32_t best = UINT32_MAX, candidates = 0;
	unsigned int best_score = 0;

	for (uint32_t i = 0; i < r->n_shot; i++) {
		unsigned int score = reader_score(r, h, i);

		candidates += score != 0;
		/* There the longest; who has just taken it lost the CPU just before the queue began. */
		if (score > best_score || (score && score == best_score &&
		     (r->shot[i].since_ns < r->shot[best].since_ns) != (h->before && r->shot[i].since_ns <= h->first_wait_ns))) {
			best = i;
			best_score = score;
		}
	}
	if (best == UINT32_MAX)
		return 0;
	*ret = (struct blame_hop){
		.thread = best,
		.thread_id = r->shot[best].thread,
		.how = BLAME_STACK,
		.candidates = candidates,
		.readers = h->vma ? 0 : readers_of(&r->shot[best]),
		.last_reader = h->last_reader == r->shot[best].thread,
	};
	return 1;
}

/* A thread of this address space inside an operation that holds mmap_lock for writing, unless
 * the lock says that no writer has it. Prefers the one that has been there the longest. */
static int find_writer(struct blame *r, const struct blame_lock *l, struct blame_hop *ret)
{
	uint32_t best = UINT32_MAX, candidates = 0;

	for (uint32_t i = 0; i < r->n_shot; i++) {
		const struct bundle_shot_thread *t = &r->shot[i];

		if (t->mm != l->mm || (t->mmap_count && !(t->mmap_count & RWSEM_WRITER)) || waits(r, i, l->addr) ||
		    !HAS(r, t, holds_for_writing))
			continue;
		candidates++;
		if (best == UINT32_MAX || t->since_ns < r->shot[best].since_ns)
			best = i;
	}
	if (best == UINT32_MAX)
		return 0;
	*ret = (struct blame_hop){ .thread = best, .thread_id = r->shot[best].thread, .how = BLAME_STACK,
				   .candidates = candidates };
	return 1;
}

/* The owner field as the stackshot read it: of the mm for mmap_lock, else as the first waiter
 * met it. */
static void owner_field(const struct blame *r, const struct blame_lock *l, uint32_t *ret_id, uint32_t *ret_flags)
{
	uint64_t newest = 0;

	*ret_id = *ret_flags = 0;
	for (size_t k = 0; l->mm && k < r->n_shot; k++) {
		if (r->shot[k].mm == l->mm && r->shot[k].mmap_owner) {
			*ret_id = r->shot[k].mmap_owner;
			*ret_flags = r->shot[k].mmap_owner_flags;
			return;
		}
	}
	/* Of mmap_lock the field itself was read: what the waiters remember is older. */
	for (size_t k = 0; !l->mm && k < l->n_waiters; k++) {
		const struct bundle_shot_thread *t = &r->shot[l->waiter[k]];

		if (t->lock_owner && t->lock_since_ns >= newest) {
			newest = t->lock_since_ns;
			*ret_id = t->lock_owner;
			*ret_flags = t->lock_owner_flags;
		}
	}
}

/* Whoever lets go wakes the first of the queue; readers have the lock from then on, a writer takes
 * it when it runs. Until it runs it counts as a waiter, and everybody else waits for it. */
static int find_woken(const struct blame *r, const struct blame_lock *l, struct blame_hop *ret)
{
	for (size_t k = 0; k < l->n_waiters; k++) {
		const struct bundle_shot_thread *t = &r->shot[l->waiter[k]];

		if (!running(t))
			continue;
		*ret = (struct blame_hop){ .thread = l->waiter[k], .thread_id = t->thread, .how = BLAME_WOKEN };
		return 1;
	}
	return 0;
}

static struct blame_hop holder_of(struct blame *r, const struct blame_lock *l)
{
	struct blame_hop hop = { .thread = UINT32_MAX };
	uint32_t flags;

	owner_field(r, l, &hop.thread_id, &flags);
	if ((flags & BUNDLE_OWNER_KNOWN) && !(flags & BUNDLE_OWNER_READER)) {
		hop.thread = find_thread(r, hop.thread_id);
		hop.how = BLAME_OWNER;
		return hop;
	}
	if (l->mm) {
		struct reader_hunt hunt = { .mm = l->mm, .mmap_lock = l->addr,
					    .first_wait_ns = waiting_since(&r->shot[l->waiter[0]]),
					    .last_reader = flags ? hop.thread_id : 0 };
		struct blame_hop found;

		if (find_writer(r, l, &found) || find_reader(r, &hunt, &found) || find_woken(r, l, &found))
			return found;
		hunt.before = true;
		if (find_reader(r, &hunt, &found))
			return found;
	}
	hop.thread = find_thread(r, hop.thread_id);
	/* The last reader may be gone already; waiting for the same lock it cannot hold it. */
	if (flags && (hop.thread == UINT32_MAX ||
		      (!waits(r, hop.thread, l->addr) && !(l->mm && mmap_lock_free(&r->shot[hop.thread])))))
		hop.how = BLAME_READER;
	else
		hop.thread_id = 0;
	return hop;
}

/* The holder of a VMA's lock. What waits for it is a writer of mmap_lock; the lock is an rwsem
 * up to 6.14, and names its last reader. */
static bool vma_hop(struct blame *r, const struct bundle_shot_thread *t, struct blame_hop *ret)
{
	struct reader_hunt hunt = { .mm = t->mm, .mmap_lock = t->mmap_lock, .vma = true,
				    .first_wait_ns = waiting_since(t),
				    .last_reader = t->lock && t->lock != t->mmap_lock ? t->lock_owner : 0 };

	if (!find_reader(r, &hunt, ret) || ret->thread_id == t->thread)
		return false;
	ret->why = "holds the VMA that it waits for, in a page fault";
	return true;
}

static bool lock_hop(struct blame *r, uint64_t lock, struct blame_hop *ret)
{
	for (size_t i = 0; i < r->n_locks; i++) {
		if (r->lock[i].addr != lock)
			continue;
		*ret = holder_of(r, &r->lock[i]);
		ret->why = "holds what it waits for";
		return ret->how != BLAME_NOBODY;
	}
	return false;
}

/* Whom the last of the chain waits for; false at its end. */
static bool next_hop(struct blame *r, const struct blame_lock *l, const struct blame_hop *last,
		     struct blame_hop *ret)
{
	const struct bundle_shot_thread *t = last->thread == UINT32_MAX ? NULL : &r->shot[last->thread];
	struct blame_hop other = { .how = BLAME_NOBODY };
	uint64_t lock;

	if (!t || running(t))
		return false;
	lock = wanted(r, t);
	if (lock != l->addr)
		lock_hop(r, lock, &other);
	/* The wait for a VMA is often inlined into what changes the mapping; then it shows as an
	 * rwsem that somebody in a page fault of this address space has read last. */
	if (other.how != BLAME_OWNER && t->mm &&
	    ((HAS(r, t, waits_for_vma) && vma_hop(r, t, ret)) ||
	     (other.how == BLAME_READER && t->mm == l->mm && per_vma_locks(r) && vma_hop(r, t, ret) && ret->last_reader)))
		return true;
	*ret = other;
	return other.how != BLAME_NOBODY;
}

static void follow(struct blame *r, struct blame_lock *l)
{
	struct blame_hop hop = holder_of(r, l);

	l->chain[l->n_chain++] = hop;
	while (l->n_chain < BLAME_CHAIN && next_hop(r, l, &l->chain[l->n_chain - 1], &hop)) {
		for (size_t i = 0; i < l->n_chain; i++) {
			if (l->chain[i].thread_id == hop.thread_id)
				return; /* a circle: a deadlock, or two looks at different moments */
		}
		l->chain[l->n_chain++] = hop;
	}
}

static int more_waiters(const void *a, const void *b)
{
	const struct blame_lock *x = a, *y = b;

	if (x->n_waiters != y->n_waiters)
		return x->n_waiters > y->n_waiters ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static void sort_waiters(const struct blame *r, struct blame_lock *l)
{
	for (size_t i = 1; i < l->n_waiters; i++) {
		uint32_t w = l->waiter[i];
		size_t k = i;

		for (; k && waiting_since(&r->shot[l->waiter[k - 1]]) > waiting_since(&r->shot[w]); k--)
			l->waiter[k] = l->waiter[k - 1];
		l->waiter[k] = w;
	}
}

int blame_find(struct blame *r, struct bundle *b, struct names *names)
{
	uint64_t end, seen, truncated;
	int e = 0;

	memset(r, 0, sizeof(*r));
	r->b = b;
	r->names = names;
	r->n_shot = bundle_stackshot(b, &r->shot, &r->begin_ns, &end, &seen, &truncated);
	r->sample = calloc(r->n_shot + 1, sizeof(*r->sample));
	if (!r->sample)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->n_shot && e == 0; i++)
		e = map64_put(&r->by_thread, (uint64_t)r->shot[i].thread + 1, i + 1);
	if (e == 0)
		e = bundle_each_event(b, note_sample, r);
	for (uint32_t i = 0; i < r->n_shot && e == 0; i++) {
		uint64_t addr = wanted(r, &r->shot[i]);

		if (addr)
			e = add_waiter(r, i, addr);
	}
	if (r->n_locks)
		qsort(r->lock, r->n_locks, sizeof(*r->lock), more_waiters);
	for (size_t i = 0; i < r->n_locks && e == 0; i++)
		sort_waiters(r, &r->lock[i]);
	for (size_t i = 0; i < r->n_locks && e == 0; i++)
		follow(r, &r->lock[i]);
	return e;
}

void blame_done(struct blame *r)
{
	for (size_t i = 0; i < r->n_locks; i++)
		free(r->lock[i].waiter);
	free(r->lock);
	free(r->sample);
	map64_done(&r->by_thread);
	r->lock = NULL;
	r->n_locks = 0;
}

const char *blame_how_text(enum blame_how how)
{
	switch (how) {
	case BLAME_OWNER: return "owner";
	case BLAME_STACK: return "holder by its stack";
	case BLAME_READER: return "last reader, perhaps one of several";
	case BLAME_WOKEN: return "let go: woken to take it, has not run yet";
	case BLAME_NOBODY: break;
	}
	return "unknown";
}
