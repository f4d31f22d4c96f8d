// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/freeze.h"

#include "recorder/readers.h"
#include "unwind/layout.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define SHOT_BYTES (8u << 20) /* about 30,000 threads; beyond that they are counted */
#define FRAMES_BITS 8	      /* value of inline_stacks: address << 8 | frames */

int freeze_init(struct freeze *f, const struct probes *p)
{
	memset(f, 0, sizeof(*f));
	f->probes = p;
	/* Address space only: pages are touched as far as the host has threads. */
	f->shot = mmap(NULL, SHOT_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->shot == MAP_FAILED) {
		f->shot = NULL;
		return -errno;
	}
	f->shot_cap = SHOT_BYTES;
	return 0;
}

void freeze_done(struct freeze *f)
{
	map64_done(&f->inline_stacks);
	map64_done(&f->stack_ids);
	map64_done(&f->threads);
	map64_done(&f->thread_process);
	map64_done(&f->processes);
	map64_done(&f->cgroups);
	map64_done(&f->mms);
	map64_done(&f->kframes);
	map64_done(&f->uframes_seen);
	free(f->lives);
	free(f->user);
	free(f->uframe);
	if (f->shot)
		munmap(f->shot, f->shot_cap);
	memset(f, 0, sizeof(*f));
}

/* ---- who ---------------------------------------------------------------------- */

static uint32_t cgroup_id(struct freeze *f, uint64_t kernel_id)
{
	uint32_t id;

	if (!kernel_id)
		return 0;
	id = (uint32_t)map64_get(&f->cgroups, kernel_id);
	if (id)
		return id;
	id = bundle_writer_cgroup(f->w, kernel_id, "");
	map64_put(&f->cgroups, kernel_id, id);
	return id;
}

static void copy_comm(char *to, const char *from)
{
	memcpy(to, from, SB_COMM);
	to[SB_COMM] = '\0';
}

static uint32_t remember_user(struct freeze *f, uint32_t process, uint32_t pid, uint64_t start_ns, uint64_t until_ns)
{
	if (f->n_user == f->cap_user) {
		size_t cap = f->cap_user ? f->cap_user * 2 : 256;
		void *bigger = realloc(f->user, cap * sizeof(*f->user));

		if (!bigger)
			return 0;
		f->user = bigger;
		f->cap_user = cap;
	}
	f->user[f->n_user++] = (struct freeze_user){ process, pid, start_ns, until_ns };
	return (uint32_t)f->n_user;
}

struct who {
	uint32_t tid, tgid, ppid;
	bool kthread;
	uint64_t group_start_ns, exit_ns, cgroup;
	char comm[SB_COMM + 1], group_comm[SB_COMM + 1];
};

static const struct sb_task *task_of(const struct freeze *f, uint32_t tid)
{
	const struct sb_task *e = &f->probes->tasks[tid & (SB_TASKS - 1)];

	return e->tid == tid ? e : NULL;
}

/* When the process became what it is, by birth or exec; 0: not known. */
static uint64_t life_since(const struct freeze *f, uint32_t tgid)
{
	const struct sb_task *e = task_of(f, tgid);

	return e ? SB_MAX(e->group_start_ns, e->exec_ns) : 0;
}

static struct freeze_life *life_of(struct freeze *f, uint32_t tgid)
{
	uint64_t i = map64_get(&f->processes, (uint64_t)tgid + 1);

	return i ? &f->lives[i - 1] : NULL;
}

static struct freeze_life *add_life(struct freeze *f, uint32_t tgid)
{
	if (f->n_lives == f->cap_lives) {
		size_t cap = f->cap_lives ? f->cap_lives * 2 : 256;
		void *bigger = realloc(f->lives, cap * sizeof(*f->lives));

		if (!bigger)
			return NULL;
		f->lives = bigger;
		f->cap_lives = cap;
	}
	f->lives[f->n_lives] = (struct freeze_life){};
	map64_put(&f->processes, (uint64_t)tgid + 1, ++f->n_lives);
	return &f->lives[f->n_lives - 1];
}

/* The one that was there before `since_ns`: the same process until its exec, or another one that
 * had its pid. */
static uint32_t process_before(struct freeze *f, const struct who *t, struct freeze_life *life, uint64_t ts_ns)
{
	const struct sb_task *e = task_of(f, t->tgid);
	bool same = e && e->exec_ns == life->since_ns && ts_ns >= e->group_start_ns;
	uint32_t *id = same ? &life->before : &life->earlier;
	struct bundle_process p = { .pid = t->tgid, .exit_ns = life->since_ns, .comm = "?" };
	char comm[SB_COMM + 1] = "";

	if (*id)
		return *id;
	if (same) {
		copy_comm(comm, e->before_comm);
		p.comm = comm[0] ? comm : "?";
		p.ppid = e->ppid;
		p.start_ns = e->group_start_ns;
		p.cgroup = cgroup_id(f, e->cgroup_id);
	} else if (e) {
		p.exit_ns = SB_MIN(life->since_ns, e->group_start_ns);
	}
	*id = bundle_writer_process(f->w, &p);
	if (!t->kthread)
		remember_user(f, *id, t->tgid, p.start_ns, p.exit_ns);
	return *id;
}

/* Arguments as people write them, near enough. NULL: not known. */
static const char *cmdline_of(const struct freeze *f, uint32_t tgid, char text[SB_ARGS + 1])
{
	const struct sb_task *e = task_of(f, tgid);
	size_t n = e ? SB_MIN(e->args_len, (uint16_t)SB_ARGS) : 0;

	if (n)
		memcpy(text, e->args, n);
	while (n && !text[n - 1])
		n--;
	for (size_t i = 0; i < n; i++) {
		if (!text[i])
			text[i] = ' ';
	}
	text[n] = '\0';
	return n ? text : NULL;
}

/* The process that had the pid at ts_ns. */
static uint32_t process_id(struct freeze *f, const struct who *t, uint64_t ts_ns)
{
	uint64_t since = life_since(f, t->tgid);
	struct freeze_life *life = life_of(f, t->tgid);
	struct bundle_process p = {
		.pid = t->tgid,
		.ppid = t->ppid,
		.start_ns = since ? since : t->group_start_ns,
		.exit_ns = t->tid == t->tgid ? t->exit_ns : 0,
		.comm = t->group_comm,
	};
	const struct sb_task *e = task_of(f, t->tgid);
	char cmdline[SB_ARGS + 1];
	uint32_t before = 0, earlier = 0;

	if (life && life->since_ns && since > life->since_ns) {
		/* It has become another one between the two banks. */
		if (life->user)
			f->user[life->user - 1].until_ns = since;
		if (e && e->group_start_ns <= life->since_ns) { /* by an exec */
			before = life->process;
			earlier = life->earlier;
		} else {
			earlier = life->process;
		}
		life = NULL;
	}
	if (!life) {
		life = add_life(f, t->tgid);
		if (!life)
			return 0;
		life->before = before;
		life->earlier = earlier;
	}
	if (!life->since_ns)
		life->since_ns = since;
	if (ts_ns < life->since_ns)
		return process_before(f, t, life, ts_ns);
	if (life->process)
		return life->process;
	p.cgroup = cgroup_id(f, t->cgroup);
	p.cmdline = cmdline_of(f, t->tgid, cmdline);
	p.cmdline_bytes = p.cmdline && e ? e->args_all : 0;
	life->process = bundle_writer_process(f->w, &p);
	if (!t->kthread)
		life->user = remember_user(f, life->process, t->tgid, p.start_ns, 0);
	return life->process;
}

static uint32_t add_thread(struct freeze *f, const struct who *t, uint32_t process)
{
	uint64_t key = ((uint64_t)process << 32) + t->tid + 1;
	struct bundle_thread th = { .tid = t->tid, .comm = t->comm, .process = process };
	uint32_t id = (uint32_t)map64_get(&f->threads, key);

	if (id)
		return id;
	th.cgroup = cgroup_id(f, t->cgroup);
	id = bundle_writer_thread(f->w, &th);
	map64_put(&f->threads, key, id);
	map64_put(&f->thread_process, id, process);
	return id;
}

/* The bundle's id of a thread seen in the ring at ts_ns. The task table knows it unless another tid
 * took its place since; then the number is all there is. */
static uint32_t thread_id(struct freeze *f, uint32_t tid, uint32_t tgid, uint64_t ts_ns)
{
	const struct sb_task *e = task_of(f, tid);
	struct who t = { .tid = tid, .tgid = tgid, .comm = "?", .group_comm = "?" };
	uint32_t process;

	/* Another thread has its number now; the process may be the same. */
	if (e && ts_ns < e->start_ns && e->tgid != tgid)
		e = NULL;
	if (e) {
		t.ppid = e->ppid;
		t.kthread = e->flags & SB_TASK_KTHREAD;
		t.group_start_ns = e->group_start_ns;
		t.exit_ns = e->exit_ns;
		t.cgroup = e->cgroup_id;
		copy_comm(t.comm, e->comm);
		copy_comm(t.group_comm, e->group_comm);
	}
	process = process_id(f, &t, ts_ns);
	if (e && ts_ns < e->start_ns) {
		strcpy(t.comm, "?"); /* of another thread that had this number */
	} else if (e && e->exec_ns && ts_ns < e->exec_ns && e->before_comm[0]) {
		copy_comm(t.comm, e->before_comm);
	}
	return add_thread(f, &t, process);
}

/* ---- stacks -------------------------------------------------------------------- */

static void remember_kframes(struct freeze *f, const uint64_t *addr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!map64_get(&f->kframes, addr[i]))
			map64_put(&f->kframes, addr[i], FREEZE_NAMELESS);
	}
}

static void remember_uframes(struct freeze *f, uint32_t process, const uint64_t *addr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t key = sb_mix64(addr[i] ^ ((uint64_t)process << 48)) | 1;
		uint64_t seen = map64_get(&f->uframes_seen, key);

		if (seen)
			f->uframe[seen - 1].leaf |= i == 0;
		if (!addr[i] || seen)
			continue;
		if (f->n_uframe == f->cap_uframe) {
			size_t cap = f->cap_uframe ? f->cap_uframe * 2 : 4096;
			void *bigger = realloc(f->uframe, cap * sizeof(*f->uframe));

			if (!bigger)
				return;
			f->uframe = bigger;
			f->cap_uframe = cap;
		}
		f->uframe[f->n_uframe++] = (struct freeze_frame){ process, i == 0, addr[i] };
		map64_put(&f->uframes_seen, key, f->n_uframe);
	}
}

/* The bundle's own numbers, which stay. */
static uint32_t unwind_of(uint8_t uinfo)
{
	static const uint8_t ends[16] = {
		[SB_UNWIND_COMPLETE] = BUNDLE_END_COMPLETE,
		[SB_UNWIND_NO_MAPPING] = BUNDLE_END_NO_MAPPING,
		[SB_UNWIND_NO_ROWS] = BUNDLE_END_NO_ROWS,
		[SB_UNWIND_UNSUPPORTED] = BUNDLE_END_UNSUPPORTED,
		[SB_UNWIND_NOT_RESIDENT] = BUNDLE_END_NOT_RESIDENT,
		[SB_UNWIND_DEPTH] = BUNDLE_END_DEPTH,
		[SB_UNWIND_BAD_STACK] = BUNDLE_END_BAD_STACK,
		[SB_UNWIND_STALE] = BUNDLE_END_STALE,
	};

	return (uinfo & 15u) | (uint32_t)ends[uinfo >> 4] << 4;
}

static uint32_t write_stack(struct freeze *f, uint64_t hash, const uint64_t *addr, uint32_t n,
			    uint32_t process, uint32_t unwind)
{
	struct bundle_stack s = { .addr = addr, .n = n, .process = process, .unwind = unwind };
	uint32_t id = bundle_writer_stack(f->w, hash, &s);

	map64_put(&f->stack_ids, hash, id);
	if (process)
		remember_uframes(f, process, addr, n);
	else
		remember_kframes(f, addr, n);
	return id;
}

/* Id of a stack by its hash; 0 when its frames were overwritten with their segment. */
static uint32_t stack_by_hash(struct freeze *f, uint64_t hash, uint32_t process, uint32_t unwind)
{
	uint32_t id = (uint32_t)map64_get(&f->stack_ids, hash);
	uint64_t where;

	if (id)
		return id;
	where = map64_get(&f->inline_stacks, hash);
	if (!where)
		return 0;
	return write_stack(f, hash, (const uint64_t *)(uintptr_t)(where >> FRAMES_BITS),
			   where & ((1u << FRAMES_BITS) - 1), process, unwind);
}

static uint64_t hash_frames(uint64_t h, const uint64_t *addr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		h = sb_hash_step(h, addr[i]);
	return h;
}

static int note_inline(const struct sb_rec *r, void *ctx)
{
	struct freeze *f = ctx;
	const uint64_t *k = ring_kframes(r), *u = ring_uframes(r);

	/* The hash is recomputed: a torn stack must not be given to other records. */
	if (r->nk && hash_frames(SB_HASH_KERNEL, k, r->nk) == r->kstack)
		map64_put(&f->inline_stacks, r->kstack, (uint64_t)(uintptr_t)k << FRAMES_BITS | r->nk);
	if (r->nu && hash_frames(SB_HASH_USER(r->tgid), u, r->nu) == r->ustack)
		map64_put(&f->inline_stacks, r->ustack, (uint64_t)(uintptr_t)u << FRAMES_BITS | r->nu);
	return 0;
}

/* ---- records ------------------------------------------------------------------- */

/* A thread of which only the tid is known: its process is what the task table says. */
static uint32_t peer_id(struct freeze *f, uint32_t tid, uint64_t ts_ns)
{
	const struct sb_task *e = task_of(f, tid);

	return tid ? thread_id(f, tid, e ? e->tgid : 0, ts_ns) : 0;
}

static uint32_t name_id(struct freeze *f, const char *name, size_t size)
{
	char text[64];

	size = SB_MIN(size, sizeof(text) - 1);
	memcpy(text, name, size);
	text[size] = '\0';
	return text[0] ? bundle_writer_string(f->w, text) : 0;
}

static void fill_reclaim(const struct sb_reclaim *rec, struct bundle_event *e)
{
	e->nr_reclaimed = rec->nr_reclaimed;
	e->nr_scanned = rec->nr_scanned;
	e->gfp = rec->gfp;
	e->order = rec->order;
	e->reclaim_kind = rec->kind;
	e->cgroup_id = rec->cgroup_id;
	e->nr_taken = rec->nr_taken;
	e->nr_activate = rec->nr_activate;
	e->nr_ref_keep = rec->nr_ref_keep;
	e->nr_dirty = rec->nr_dirty;
	e->nr_writeback = rec->nr_writeback;
	e->slab_freed = rec->slab_freed;
	e->throttled_ns = rec->throttled_us * NSEC_PER_USEC;
	e->priority = rec->priority + 1u;
	e->throttle_reason = rec->throttle_reason;
	e->detail = rec->flags;
	e->weight = rec->weight > 1 ? rec->weight : 0;
}

static void fill_hold(const struct sb_lock_hold *h, struct bundle_event *e)
{
	e->addr = h->lock;
	e->detail = h->flags | BUNDLE_LOCK_MMAP;
	e->cpu_time_ns = h->cpu_ns;
	e->nvcsw = h->nvcsw;
	e->nivcsw = h->nivcsw;
	e->reclaims = h->reclaims;
	e->nr_scanned = h->nr_scanned;
	e->nr_reclaimed = h->nr_reclaimed;
}

static void device_name(struct freeze *f, uint32_t dev, struct bundle_event *e)
{
	char text[32];

	snprintf(text, sizeof(text), "%u:%u", dev >> 20, dev & 0xfffff);
	e->name = bundle_writer_string(f->w, text);
}

/* In whole samples: what was left out may itself have come late. */
static uint32_t thinned_weight(const struct freeze *f, uint64_t stands_ns)
{
	uint64_t period = f->probes->cfg.sample_period_ns, n = (stands_ns + period / 2) / period;

	return n > 1 ? (uint32_t)SB_MIN(n, 1u << 20) : 0;
}

static void fill_by_kind(struct freeze *f, const struct sb_rec *r, struct bundle_event *e)
{
	const void *payload = ring_payload(r);
	const struct sb_on_cpu *on = payload;
	const struct sb_off_cpu *off = payload;
	const struct sb_lock_wait *wait = payload;
	const struct sb_wakeup *wake = payload;
	const struct sb_syscall *sys = payload;
	const struct sb_softirq *irq = payload;
	const struct sb_hardirq *hard = payload;
	const struct sb_block_io *io = payload;
	const struct sb_slab *slab = payload;
	uint64_t call = 0;

	/* Every kind but these begins with its duration. */
	if (r->kind != SB_ON_CPU && r->kind != SB_OOM)
		e->duration_ns = *(const uint64_t *)payload;
	switch (r->kind) {
	case SB_ON_CPU:
		e->duration_ns = f->probes->cfg.sample_period_ns;
		if (r->flags & (SB_REC_LATE | SB_REC_THINNED))
			e->duration_ns = on->gap_ns;
		if (r->flags & SB_REC_THINNED)
			e->weight = thinned_weight(f, on->gap_ns);
		call = r->np > 1 ? on->call : 0;
		break;
	case SB_OFF_CPU:
		e->runq_delay_ns = off->runq_us * NSEC_PER_USEC;
		e->state = off->state;
		call = r->np > 2 ? off->call : 0;
		break;
	case SB_RECLAIM:
		fill_reclaim(payload, e);
		break;
	case SB_LOCK_WAIT:
		e->addr = wait->lock;
		e->detail = wait->flags;
		e->owner_flags = wait->owner_flags;
		e->peer = peer_id(f, wait->owner_tid, r->ts_ns);
		e->weight = wait->weight > 1 ? wait->weight : 0;
		break;
	case SB_WAKEUP:
		e->peer = thread_id(f, wake->woken_tid, wake->woken_tgid, r->ts_ns);
		break;
	case SB_LOCK_HOLD:
		fill_hold(payload, e);
		break;
	case SB_SYSCALL:
		e->syscall = sys->nr + 1;
		e->detail = sys->flags;
		e->arg0 = sys->arg[0];
		e->arg1 = sys->arg[1];
		e->cpu_time_ns = sys->cpu_ns;
		e->name = name_id(f, sys->name, sizeof(sys->name));
		break;
	case SB_SOFTIRQ:
		e->delay_ns = irq->delay_ns;
		e->detail = irq->vector;
		break;
	case SB_HARDIRQ:
		e->detail = hard->irq;
		e->name = name_id(f, hard->name, sizeof(hard->name));
		break;
	case SB_BLOCK_IO:
		e->bytes = io->bytes;
		e->detail = io->flags;
		device_name(f, io->dev, e);
		break;
	case SB_OOM:
		e->peer = peer_id(f, (uint32_t)((const struct sb_oom *)payload)->victim_tid, r->ts_ns);
		break;
	case SB_SLAB:
		e->addr = slab->fn;
		e->nr_scanned = slab->nr_scanned;
		e->slab_freed = slab->nr_freed;
		e->name = name_id(f, slab->name, sizeof(slab->name));
		break;
	}
	if (call) {
		e->syscall = SB_CALL_NR(call);
		e->call_site = call & 0xffffffffffffULL;
	}
}

struct bank_pass {
	struct freeze *f;
	uint32_t cpu;
};

static int write_record(const struct sb_rec *r, void *ctx)
{
	struct bank_pass *pass = ctx;
	struct freeze *f = pass->f;
	uint32_t thread = thread_id(f, r->tid, r->tgid, r->ts_ns);
	struct bundle_event e = {
		.kind = (enum bundle_kind)r->kind,
		.cpu = pass->cpu,
		.ts_ns = r->ts_ns,
		.thread = thread,
		/* The lower bits have the same meaning on both sides. */
		.flags = r->flags & (BUNDLE_EV_USER | BUNDLE_EV_LATE | BUNDLE_EV_PREEMPTED |
				     BUNDLE_EV_KTHREAD),
	};

	if (r->flags & SB_REC_MMAP_LOCK)
		e.flags |= BUNDLE_EV_MMAP_LOCK;
	if (r->flags & SB_REC_IN_RECLAIM)
		e.flags |= BUNDLE_EV_IN_RECLAIM;

	if (r->kstack) {
		e.kstack = stack_by_hash(f, r->kstack, 0, BUNDLE_UNWIND_KERNEL);
		if (!e.kstack) {
			e.flags |= BUNDLE_EV_KSTACK_LOST;
			f->stacks_evicted[0]++;
		}
	}
	if (r->ustack) {
		e.ustack = stack_by_hash(f, r->ustack,
					 (uint32_t)map64_get(&f->thread_process, thread),
					 unwind_of(r->uinfo));
		if (!e.ustack) {
			e.flags |= BUNDLE_EV_USTACK_LOST;
			f->stacks_evicted[1]++;
		}
	}
	fill_by_kind(f, r, &e);
	f->newest_ns = SB_MAX(f->newest_ns, e.ts_ns);
	return bundle_writer_event(f->w, &e);
}

int freeze_write_bank(struct freeze *f, uint32_t bank)
{
	const struct probes *p = f->probes;
	struct ring_stats ignored = {};
	int r = 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++)
		ring_each(probes_ring(p, bank, cpu), p->cfg.ring_bytes, &p->cpus[cpu].bank[bank],
			  note_inline, f, &ignored);
	for (uint32_t cpu = 0; cpu < p->cfg.cpus && r == 0; cpu++) {
		struct bank_pass pass = { f, cpu };

		r = ring_each(probes_ring(p, bank, cpu), p->cfg.ring_bytes,
			      &p->cpus[cpu].bank[bank], write_record, &pass, &f->stats[bank]);
	}
	/* The frames' addresses go with the bank: it records again after this. */
	map64_done(&f->inline_stacks);
	return r < 0 ? r : bundle_writer_flush(f->w);
}

/* ---- stackshot ------------------------------------------------------------------ */

int freeze_take_stackshot(struct freeze *f)
{
	_cleanup_close_ int fd = bpf_iter_create(f->probes->iter_link_fd);
	ssize_t n = 0;

	f->shot_len = 0;
	f->shot_begin_ns = sb_monotonic_ns();
	if (fd < 0)
		return -errno;
	for (;;) {
		if (f->shot_len == f->shot_cap) {
			f->shot_truncated = 1;
			break;
		}
		n = read(fd, f->shot + f->shot_len, f->shot_cap - f->shot_len);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			break;
		f->shot_len += (size_t)n;
	}
	f->shot_end_ns = sb_monotonic_ns();
	return n < 0 ? -errno : 0;
}

static void shot_thread(struct freeze *f, const struct sb_shot *s, struct bundle_shot_thread *t)
{
	const uint64_t *k = (const uint64_t *)(s + 1), *u = k + s->nk;
	uint32_t id, process;
	struct who who = {
		.tid = s->tid,
		.tgid = s->tgid,
		.kthread = s->kthread,
		.group_start_ns = s->group_start_ns,
		.cgroup = s->cgroup_id,
	};

	copy_comm(who.comm, s->comm);
	copy_comm(who.group_comm, s->group_comm);
	process = process_id(f, &who, f->shot_end_ns);
	id = add_thread(f, &who, process);
	*t = (struct bundle_shot_thread){
		.thread = id,
		.state = s->state,
		.cpu = s->cpu,
		.since_ns = s->since_ns,
		.flags = (s->on_cpu ? BUNDLE_SHOT_RUNNING : 0) |
			 (!s->on_cpu && s->on_rq ? BUNDLE_SHOT_RUNNABLE : 0) |
			 (s->kthread ? BUNDLE_SHOT_KTHREAD : 0),
		.wchan = s->nk ? k[0] : 0,
		.mmap_lock = s->mmap_lock,
		.mmap_owner = peer_id(f, s->mmap_owner, f->shot_end_ns),
		.mmap_owner_flags = s->mmap_owner_flags,
		.mmap_count = s->mmap_count,
		.lock = s->lock,
		.lock_since_ns = s->lock_since_ns,
		.lock_flags = s->lock_flags,
		.lock_owner = peer_id(f, s->lock_owner, f->shot_end_ns),
		.lock_owner_flags = s->lock_owner_flags,
		.syscall = s->syscall,
		.arg0 = s->arg[0],
		.arg1 = s->arg[1],
		.reclaim_since_ns = s->reclaim_since_ns,
		.nr_scanned = s->nr_scanned,
		.nr_reclaimed = s->nr_reclaimed,
	};
	if (s->mm) {
		t->mm = (uint32_t)map64_get(&f->mms, s->mm);
		if (!t->mm) {
			t->mm = ++f->n_mms;
			map64_put(&f->mms, s->mm, t->mm);
		}
	}
	if (s->nk)
		t->kstack = write_stack(f, hash_frames(SB_HASH_KERNEL, k, s->nk), k, s->nk, 0,
					BUNDLE_UNWIND_KERNEL);
	if (s->nu)
		t->ustack = write_stack(f, hash_frames(SB_HASH_USER(s->tgid), u, s->nu), u, s->nu,
					process, unwind_of(s->uinfo));
}

static bool shot_fits(const struct sb_shot *s, size_t left)
{
	return left >= sizeof(*s) && s->nk <= SB_KFRAMES && s->nu <= SB_UFRAMES &&
	       left >= sizeof(*s) + 8u * ((unsigned int)s->nk + s->nu);
}

int freeze_write_stackshot(struct freeze *f)
{
	size_t n = 0, max = f->shot_len / sizeof(struct sb_shot);
	struct bundle_shot_thread *t = calloc(max + 1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	for (size_t off = 0; off < f->shot_len;) {
		const struct sb_shot *s = (const void *)(f->shot + off);

		if (!shot_fits(s, f->shot_len - off)) {
			f->shot_truncated++;
			break;
		}
		shot_thread(f, s, &t[n++]);
		off += sizeof(*s) + 8u * ((unsigned int)s->nk + s->nu);
	}
	r = bundle_writer_stackshot(f->w, f->shot_begin_ns, f->shot_end_ns, t, n, n,
				    f->shot_truncated);
	free(t);
	return r;
}

/* ---- losses --------------------------------------------------------------------- */

static const struct {
	enum bundle_loss_cause cause;
	enum bundle_kind kind;
	const char *unit, *what;
} loss_texts[SB_LOST_COUNT] = {
	[SB_LOST_THROTTLED] = { BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, "records",
				"blocks under 10 ms beyond the budget per CPU" },
	[SB_LOST_NO_SCRATCH] = { BUNDLE_LOSS_DROPPED, BUNDLE_KIND_NONE, "records",
				 "no working memory in the kernel" },
	[SB_LOST_NO_USTACK] = { BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, "stacks",
				"user stacks not saved when the block began" },
	[SB_LOST_KSTACK_ERR] = { BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, "stacks",
				 "kernel stacks that the kernel did not give" },
	[SB_LOST_TASK_EVICTED] = { BUNDLE_LOSS_EVICTED, BUNDLE_KIND_NONE, "tasks",
				   "task table entries taken by another thread" },
	[SB_LOST_INFLIGHT_FULL] = { BUNDLE_LOSS_DROPPED, BUNDLE_KIND_NONE, "waits",
				    "waits that no in-kernel trigger watched" },
	[SB_LOST_SPAN_UNSTARTED] = { BUNDLE_LOSS_DROPPED, BUNDLE_RECLAIM, "records",
				     "reclaim spans whose beginning was not seen" },
	[SB_LOST_BUDGET] = { BUNDLE_LOSS_DROPPED, BUNDLE_KIND_NONE, "records",
			     "wakeups, lock waits under 10 ms and block I/O beyond the budget per CPU" },
	[SB_LOST_SHORT_SPANS] = { BUNDLE_LOSS_DROPPED, BUNDLE_RECLAIM, "records",
				  "short reclaim spans beyond the budget per CPU; weights stand for them" },
	[SB_LOST_LIMIT_USTACK] = { BUNDLE_LOSS_LIMITED, BUNDLE_OFF_CPU, "stacks",
				   "user stacks not taken at switch-out" },
	[SB_LOST_LIMIT_SHORT] = { BUNDLE_LOSS_LIMITED, BUNDLE_OFF_CPU, "records",
				  "blocks below the raised threshold" },
	[SB_LOST_END_UNSEEN] = { BUNDLE_LOSS_MISSED, BUNDLE_OFF_CPU, "records",
				 "blocks at whose end the kernel did not run the program" },
	[SB_LOST_LIMIT_SAMPLE] = { BUNDLE_LOSS_LIMITED, BUNDLE_ON_CPU, "records",
				   "samples left out; the durations of others stand for them" },
	[SB_LOST_TRUNCATED_K] = { BUNDLE_LOSS_TRUNCATED, BUNDLE_KIND_NONE, "stacks",
				  "kernel stacks deeper than 64 frames" },
	[SB_LOST_TRUNCATED_U] = { BUNDLE_LOSS_TRUNCATED, BUNDLE_KIND_NONE, "stacks",
				  "user stacks deeper than 64 frames" },
};

bool freeze_loss_kind(int lost, enum bundle_loss_cause *ret_cause, enum bundle_kind *ret_kind)
{
	if (!loss_texts[lost].what)
		return false;
	*ret_cause = loss_texts[lost].cause;
	*ret_kind = loss_texts[lost].kind;
	return true;
}

/* Why user stacks may not be whole. */
static size_t unwinder_losses(const struct unwinder_stats *u, struct bundle_loss *loss)
{
	const struct {
		uint64_t count;
		enum bundle_loss_cause cause;
		const char *unit, *what;
	} of[] = {
		{ u->lost, BUNDLE_LOSS_DROPPED, "records", "news of mappings, found again by a scan" },
		{ u->not_kept, BUNDLE_LOSS_DROPPED, "entries", "processes, mappings and files beyond the tables' room" },
		{ u->evicted, BUNDLE_LOSS_EVICTED, "tables", "tables for user stacks, to make room for others" },
		{ u->refused, BUNDLE_LOSS_DROPPED, "tables", "tables for user stacks that are larger than all room" },
		{ u->unreadable, BUNDLE_LOSS_MISSED, "files", "mapped files that could not be read for their tables" },
		{ u->hanging == READERS ? u->loading : 0, BUNDLE_LOSS_MISSED, "files", "mapped files that wait for readers that hang on others" },
		{ u->scan_failed, BUNDLE_LOSS_MISSED, "processes", "processes that did not tell their mappings in time" },
	};
	size_t n = 0;

	for (size_t i = 0; i < SB_ARRAY_SIZE(of); i++) {
		if (of[i].count)
			loss[n++] = (struct bundle_loss){ of[i].cause, BUNDLE_KIND_NONE, -1, of[i].count,
							  of[i].unit, of[i].what };
	}
	return n;
}

int freeze_write_losses(struct freeze *f, const uint64_t *recorded, uint64_t missed,
			const struct unwinder_stats *unwinder)
{
	const struct probes *p = f->probes;
	struct bundle_loss loss[SB_LOST_COUNT + SB_KIND_COUNT + 16];
	size_t n = 0;

	for (int i = 0; i < SB_LOST_COUNT; i++) {
		uint64_t sum = 0;

		for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++)
			sum += p->cpus[cpu].lost[i];
		if (sum && loss_texts[i].what)
			loss[n++] = (struct bundle_loss){ loss_texts[i].cause, loss_texts[i].kind, -1,
							  sum, loss_texts[i].unit,
							  loss_texts[i].what };
	}
	for (int kind = SB_ON_CPU; kind < SB_KIND_COUNT; kind++) {
		uint64_t kept = f->stats[0].by_kind[kind] + f->stats[1].by_kind[kind];

		if (recorded[kind] > kept)
			loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_OVERWRITTEN,
							  (enum bundle_kind)kind, -1,
							  recorded[kind] - kept, "records",
							  "older than the ring reaches back" };
	}
	if (f->stacks_evicted[0] + f->stacks_evicted[1])
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_EVICTED, BUNDLE_KIND_NONE, -1,
						  f->stacks_evicted[0] + f->stacks_evicted[1], "stacks",
						  "stacks overwritten before the records that name them" };
	if (f->stats[0].torn + f->stats[1].torn)
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_TORN, BUNDLE_KIND_NONE, -1,
						  f->stats[0].lost_bytes + f->stats[1].lost_bytes,
						  "bytes", "ring memory without a whole record" };
	if (f->stats[0].busy + f->stats[1].busy)
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_TORN, BUNDLE_KIND_NONE, -1,
						  f->stats[0].busy + f->stats[1].busy, "records",
						  "being written at the moment of the copy" };
	if (f->shot_truncated)
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_TRUNCATED, BUNDLE_KIND_NONE, -1,
						  f->shot_truncated, "threads",
						  "threads beyond the stackshot's memory" };
	if (probes_detached_ns(p))
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_LIMITED, BUNDLE_KIND_NONE, -1,
						  probes_detached_ns(p) / NSEC_PER_MSEC, "ms",
						  "without wakers, block I/O and pages taken by reclaim" };
	if (missed)
		loss[n++] = (struct bundle_loss){ BUNDLE_LOSS_MISSED, BUNDLE_KIND_NONE, -1, missed, "runs",
						  "program runs that the kernel left out" };
	if (unwinder)
		n += unwinder_losses(unwinder, &loss[n]);
	return n ? bundle_writer_losses(f->w, p->control->started_ns, loss, n) : 0;
}
