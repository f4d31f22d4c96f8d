// SPDX-License-Identifier: BSD-2-Clause
/* What is missing from a bundle, by cause. */
#include "recorder/freeze.h"
#include "recorder/readers.h"

static const struct {
	enum bundle_loss_cause cause;
	enum bundle_kind kind;
	const char *unit, *what;
} loss_texts[SB_LOST_COUNT] = {
	[SB_LOST_THROTTLED] = { BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, "records",
				"blocks under 10 ms beyond the budget per CPU" },
	[SB_LOST_LONG] = { BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, "records",
			   "blocks of 10 to 100 ms beyond the budget per CPU" },
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
