// SPDX-License-Identifier: BSD-2-Clause
/* Records of a bank, as events of the bundle. */
#include <stdio.h>

#include "recorder/freeze_impl.h"

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
		e->peer = freeze_peer_id(f, wait->owner_tid, r->ts_ns);
		e->weight = wait->weight > 1 ? wait->weight : 0;
		break;
	case SB_WAKEUP:
		e->peer = freeze_thread_id(f, wake->woken_tid, wake->woken_tgid, r->ts_ns);
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
		e->peer = freeze_peer_id(f, (uint32_t)((const struct sb_oom *)payload)->victim_tid, r->ts_ns);
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
	uint32_t thread = freeze_thread_id(f, r->tid, r->tgid, r->ts_ns);
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
		e.kstack = freeze_stack_by_hash(f, r->kstack, 0, BUNDLE_UNWIND_KERNEL);
		if (!e.kstack) {
			e.flags |= BUNDLE_EV_KSTACK_LOST;
			f->stacks_evicted[0]++;
		}
	}
	if (r->ustack) {
		e.ustack = freeze_stack_by_hash(f, r->ustack,
					 (uint32_t)map64_get(&f->thread_process, thread),
					 freeze_unwind_of(r->uinfo));
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
			  freeze_note_inline, f, &ignored);
	for (uint32_t cpu = 0; cpu < p->cfg.cpus && r == 0; cpu++) {
		struct bank_pass pass = { f, cpu };

		r = ring_each(probes_ring(p, bank, cpu), p->cfg.ring_bytes,
			      &p->cpus[cpu].bank[bank], write_record, &pass, &f->stats[bank]);
	}
	/* The frames' addresses go with the bank: it records again after this. */
	map64_done(&f->inline_stacks);
	return r < 0 ? r : bundle_writer_flush(f->w);
}
