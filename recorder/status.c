// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/status.h"

#include <stdio.h>

#include "recorder/readers.h"
#include "recorder/retention.h"
#include "recorder/ring.h"
#include "unwind/layout.h"

const char *status_state_name(enum agent_state s)
{
	static const char *const names[] = { "recording", "post-trigger", "freezing", "cooldown" };

	return names[s];
}

/* Time of the oldest whole segment of one CPU's bank; 0 when it is empty. */
static uint64_t oldest_ns(const struct probes *p, uint32_t bank, uint32_t cpu)
{
	const struct sb_bank *b = &p->cpus[cpu].bank[bank];
	uint64_t n = p->cfg.ring_bytes >> SB_SEG_SHIFT, last = b->head >> SB_SEG_SHIFT;
	/* One more than the reader skips: the next segment may be overwritten while we look. */
	uint64_t segment = last + 2 > n ? last + 2 - n : 0, pos;
	const struct sb_rec *r;

	if (!b->head)
		return 0;
	pos = segment ? b->seg_first[segment & (n - 1)] : 0;
	r = (const void *)(probes_ring(p, bank, cpu) + (pos & (p->cfg.ring_bytes - 8)));
	return r->pos == (uint32_t)(pos >> 3) ? r->ts_ns : 0;
}

/* How far back the busiest CPU's ring reaches, in seconds. */
static double history_s(const struct probes *p, uint64_t now)
{
	uint64_t newest_start = 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		uint64_t a = oldest_ns(p, 0, cpu), b = oldest_ns(p, 1, cpu);
		uint64_t start = a && b ? SB_MIN(a, b) : a | b;

		if (start > newest_start)
			newest_start = start;
	}
	return newest_start && newest_start < now ? (double)(now - newest_start) / 1e9 : 0;
}

static void sums(const struct probes *p, uint64_t recorded[SB_KIND_SLOTS], uint64_t lost[SB_LOST_COUNT])
{
	memset(recorded, 0, SB_KIND_SLOTS * sizeof(*recorded));
	memset(lost, 0, SB_LOST_COUNT * sizeof(*lost));
	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		for (int k = 0; k < (int)SB_KIND_SLOTS; k++)
			recorded[k] += p->cpus[cpu].recorded[k];
		for (int k = 0; k < SB_LOST_COUNT; k++)
			lost[k] += p->cpus[cpu].lost[k];
	}
}

static const char *const lost_names[SB_LOST_COUNT] = {
	[SB_LOST_THROTTLED] = "short_blocks_over_budget",
	[SB_LOST_LONG] = "long_blocks_over_budget",
	[SB_LOST_NO_SCRATCH] = "no_memory",
	[SB_LOST_NO_USTACK] = "user_stacks_not_saved",
	[SB_LOST_KSTACK_ERR] = "kernel_stacks_not_given",
	[SB_LOST_TASK_EVICTED] = "tasks_evicted",
	[SB_LOST_INFLIGHT_FULL] = "waits_not_watched",
	[SB_LOST_SPAN_UNSTARTED] = "spans_without_begin",
	[SB_LOST_BUDGET] = "over_budget",
	[SB_LOST_SHORT_SPANS] = "short_spans_over_budget",
	[SB_LOST_LIMIT_USTACK] = "limited_user_stacks",
	[SB_LOST_LIMIT_SHORT] = "limited_short_blocks",
	[SB_LOST_LIMIT_SAMPLE] = "limited_samples",
	[SB_LOST_END_UNSEEN] = "block_ends_not_seen",
	[SB_LOST_TRUNCATED_K] = "kernel_stacks_truncated",
	[SB_LOST_TRUNCATED_U] = "user_stacks_truncated",
};

static const char *const walk_ends[SB_UNWIND_END_COUNT] = {
	[SB_UNWIND_GOES_ON] = "unknown",
	[SB_UNWIND_COMPLETE] = "complete",
	[SB_UNWIND_NO_MAPPING] = "no_mapping",
	[SB_UNWIND_NO_ROWS] = "no_rows",
	[SB_UNWIND_UNSUPPORTED] = "unsupported",
	[SB_UNWIND_NOT_RESIDENT] = "not_resident",
	[SB_UNWIND_DEPTH] = "depth",
	[SB_UNWIND_BAD_STACK] = "bad_stack",
	[SB_UNWIND_STALE] = "stale",
};

static const char *how_unwound(const struct probes *p)
{
	return p->cfg.user_unwind == SB_USER_UNWIND_EH_FRAME ? "eh_frame" :
	       p->cfg.user_unwind == SB_USER_UNWIND_FP ? "frame-pointer" : "off";
}

static uint64_t walks(const struct probes *p, int end)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++)
		sum += p->cpus[cpu].unwind_end[end];
	return sum;
}

/* of_user, else of the kernel */
static uint64_t found_again(const struct probes *p, bool of_user)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++)
		sum += of_user ? p->cpus[cpu].ust_again : p->cpus[cpu].kst_again;
	return sum;
}

#ifdef SB_CHECK_AGAIN
static uint64_t found_wrong(const struct probes *p, bool of_user)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++)
		sum += of_user ? p->cpus[cpu].ust_wrong : p->cpus[cpu].kst_wrong;
	return sum;
}
#endif

static void put_unwind(struct text *t, const struct probes *p, const struct unwinder_stats *u)
{
	text_put(t, "user stacks: by %s", how_unwound(p));
	for (int i = 0; i < SB_UNWIND_END_COUNT && u; i++) {
		if (walks(p, i))
			text_put(t, ", %llu %s", (unsigned long long)walks(p, i), walk_ends[i]);
	}
	if (found_again(p, true))
		text_put(t, "; %llu as before, without a walk", (unsigned long long)found_again(p, true));
	text_put(t, "\n");
	if (found_again(p, false))
		text_put(t, "kernel stacks: %llu of blocks as others before, without a walk\n", (unsigned long long)found_again(p, false));
	if (!u)
		return;
	if (u->waiting)
		text_put(t, "            no tables: the mapping process ended%s%s; another one will begin\n", u->error ? ": " : "",
		    u->error ? strerror((int)-u->error) : "");
	if (u->hanging)
		text_put(t, "            %llu of %u readers of files hang on one%s; %llu files wait\n", (unsigned long long)u->hanging,
		    READERS, u->hanging == READERS ? ", so no other is read" : "", (unsigned long long)u->loading);
	text_put(t, "tables:     %.1f of %.1f MiB for %llu files in %.0f MiB of memory, %llu evicted, %llu unreadable; %llu mappings of %llu "
	    "processes, %llu not kept\n", (double)u->table_bytes / 1048576, (double)u->table_max_bytes / 1048576,
	    (unsigned long long)u->tables, (double)u->room_bytes / 1048576, (unsigned long long)u->evicted, (unsigned long long)u->unreadable,
	    (unsigned long long)u->mappings, (unsigned long long)u->processes, (unsigned long long)u->not_kept);
	text_put(t, "            %llu programs that have ended are known, %llu were forgotten to make room\n",
	    (unsigned long long)u->past, (unsigned long long)u->forgotten);
	text_put(t, "            sideband: %llu records lost, %llu scans of all processes after that, %llu processes "
	    "scanned, %llu gave no answer\n", (unsigned long long)u->lost, (unsigned long long)u->rescans,
	    (unsigned long long)u->scanned, (unsigned long long)u->scan_failed);
}

static void put_unwind_json(struct text *t, const struct probes *p, const struct unwinder_stats *u)
{
	text_put(t, "],\"unwind\":{\"method\":\"%s\",\"ends\":{", how_unwound(p));
	for (int i = 0; i < SB_UNWIND_END_COUNT; i++)
		text_put(t, "%s\"%s\":%llu", i ? "," : "", walk_ends[i], (unsigned long long)walks(p, i));
	text_put(t, "},\"again\":%llu,\"kernel_again\":%llu", (unsigned long long)found_again(p, true),
	    (unsigned long long)found_again(p, false));
#ifdef SB_CHECK_AGAIN
	text_put(t, ",\"wrong\":%llu,\"kernel_wrong\":%llu", (unsigned long long)found_wrong(p, true),
	    (unsigned long long)found_wrong(p, false));
#endif
	if (u)
		text_put(t, ",\"processes\":%llu,\"mappings\":%llu,\"files\":%llu,\"not_kept\":%llu,\"tables\":%llu,"
		    "\"table_bytes\":%llu,\"table_max_bytes\":%llu,\"room_bytes\":%llu,\"evicted\":%llu,\"refused\":%llu,\"unreadable\":%llu,\"lost\":%llu,"
		    "\"scanned\":%llu,\"scan_failed\":%llu,\"rescans\":%llu,\"scanning\":%s,\"loading\":%llu,"
		    "\"stuck\":%llu,\"hanging\":%llu,\"restarts\":%llu,\"waiting\":%s,\"past\":%llu,\"forgotten\":%llu,\"ksyms\":%llu,\"cpu_ns\":%llu,\"build_ids\":%s,\"error\":%lld",
		    (unsigned long long)u->processes, (unsigned long long)u->mappings, (unsigned long long)u->files,
		    (unsigned long long)u->not_kept, (unsigned long long)u->tables, (unsigned long long)u->table_bytes,
		    (unsigned long long)u->table_max_bytes, (unsigned long long)u->room_bytes,
		    (unsigned long long)u->evicted, (unsigned long long)u->refused, (unsigned long long)u->unreadable,
		    (unsigned long long)u->lost, (unsigned long long)u->scanned, (unsigned long long)u->scan_failed,
		    (unsigned long long)u->rescans, u->scanning ? "true" : "false", (unsigned long long)u->loading,
		    (unsigned long long)u->stuck, (unsigned long long)u->hanging, (unsigned long long)u->restarts,
		    u->waiting ? "true" : "false", (unsigned long long)u->past, (unsigned long long)u->forgotten,
		    (unsigned long long)u->ksyms, (unsigned long long)u->cpu_ns, u->build_ids ? "true" : "false",
		    (long long)u->error);
	text_put(t, "}");
}

const char *status_lost_name(int cause)
{
	return lost_names[cause];
}

/* The dearest programs of the last window. */
static void put_programs(struct text *t, const struct agent_view *v, const struct bundle_cost *cost)
{
	double span = (double)(cost->until_ns - cost->since_ns);
	bool shown[PROBES_MAX_PROGRAMS] = {};

	text_put(t, "           ");
	for (int k = 0; k < 5; k++) {
		size_t best = cost->n_programs;

		for (size_t i = 0; i < cost->n_programs; i++) {
			if (!shown[i] && cost->program[i].run_cnt &&
			    (best == cost->n_programs || cost->program[i].run_time_ns > cost->program[best].run_time_ns))
				best = i;
		}
		if (best == cost->n_programs)
			break;
		shown[best] = true;
		text_put(t, "%s %s %.0f/s x %.0f ns (%.3f %%)", k ? "," : "", cost->program[best].name,
		    (double)cost->program[best].run_cnt / span * 1e9,
		    (double)cost->program[best].run_time_ns / (double)cost->program[best].run_cnt,
		    100.0 * (double)cost->program[best].run_time_ns / (span * v->sources.cpus));
	}
	text_put(t, "\n");
}

static void put_cost(struct text *t, const struct agent_view *v, const struct bundle_cost *cost)
{
	double ppm = selfcost_bpf_ppm(&v->cost, v->sources.cpus), up = (double)cost->period_ns;

	text_put(t, "cost:       agent %.3f %% of a CPU, workers %.3f %%, %.1f wakeups/s, RSS %.1f + %.1f MiB, "
	       "kernel maps %llu MiB, %llu bytes written\n",
	    100.0 * (double)cost->agent_cpu_ns / up, 100.0 * (double)cost->worker_cpu_ns / up,
	    (double)cost->wakeups * 1e9 / up, (double)cost->agent_rss_bytes / 1048576,
	    (double)cost->worker_rss_bytes / 1048576, (unsigned long long)cost->map_bytes >> 20,
	    (unsigned long long)cost->bytes_written);
	if (ppm < 0) {
		text_put(t, "            BPF programs: not measured%s%s\n", v->cost.stats_error ? ": " : " yet",
		    v->cost.stats_error ? strerror(-v->cost.stats_error) : "");
		return;
	}
	text_put(t, "            BPF programs %.3f %% of the machine when measured %.0f s ago, %.3f %% on average "
	       "(%u windows of 1 s, estimated in between)\n", ppm / 1e4,
	    (double)(v->env_now_ns - cost->until_ns) / 1e9,
	    100.0 * (double)cost->bpf_time_ns / (up * v->sources.cpus), cost->windows);
	put_programs(t, v, cost);
}

static void put_limit(struct text *t, const struct agent_view *v, const struct probes *p)
{
	const struct sb_control *c = p->control;
	uint64_t n = c->limit_changes;
	char text[256];

	text_put(t, "budget:     %.4g %% of the machine over 10 s; ", v->limit.budget_ppm / 1e4);
	if (v->limit.whole)
		text_put(t, "%.3f %% used; ", v->limit.cost_ppm / 1e4);
	text_put(t, "%s", v->limit.step ? "ABOVE IT, left out: " : "nothing is left out\n");
	for (uint32_t i = 1; i <= v->limit.step; i++)
		text_put(t, "%s%s", limit_step_name(i), i == v->limit.step ? "\n" : ", ");
	for (uint64_t i = n > 5 ? n - 5 : 0; i < n; i++) {
		limit_note_text(&c->limit_note[i % SB_LIMIT_NOTES], text, sizeof(text));
		text_put(t, "            %.0f s ago: %s\n",
		    (double)(v->env_now_ns - c->limit_note[i % SB_LIMIT_NOTES].ts_ns) / 1e9, text);
	}
}

static void json_cost(struct text *t, const struct agent_view *v, const struct probes *p, const struct bundle_cost *cost)
{
	const struct sb_control *c = p->control;
	uint64_t n = c->limit_changes, first = n > SB_LIMIT_NOTES ? n - SB_LIMIT_NOTES : 0;
	bool comma = false;

	text_put(t, "},\"cost\":{\"agent_cpu_ns\":%llu,\"worker_cpu_ns\":%llu,\"rss_bytes\":%llu,"
	       "\"worker_rss_bytes\":%llu,\"wakeups\":%llu,\"bytes_written\":%llu,\"uptime_ns\":%llu,"
	       "\"bpf_ppm\":%.1f,\"bpf_time_ns\":%llu,\"windows\":%u,\"window_ns\":%llu,\"programs\":[",
	    (unsigned long long)cost->agent_cpu_ns, (unsigned long long)cost->worker_cpu_ns,
	    (unsigned long long)cost->agent_rss_bytes, (unsigned long long)cost->worker_rss_bytes,
	    (unsigned long long)cost->wakeups, (unsigned long long)cost->bytes_written,
	    (unsigned long long)cost->period_ns, selfcost_bpf_ppm(&v->cost, v->sources.cpus),
	    (unsigned long long)cost->bpf_time_ns, cost->windows,
	    (unsigned long long)(cost->until_ns - cost->since_ns));
	for (size_t i = 0; i < cost->n_programs; i++) {
		if (!cost->program[i].run_cnt)
			continue;
		text_put(t, "%s{\"name\":", comma ? "," : "");
		text_json(t, cost->program[i].name);
		text_put(t, ",\"runs\":%llu,\"ns\":%llu}", (unsigned long long)cost->program[i].run_cnt,
		    (unsigned long long)cost->program[i].run_time_ns);
		comma = true;
	}
	text_put(t, "]},\"limit\":{\"budget_ppm\":%u,\"cost_ppm\":%lld,\"step\":%u,\"detached_ms\":%llu,"
	       "\"changes\":%llu,\"last\":[",
	    v->limit.budget_ppm, v->limit.whole ? (long long)v->limit.cost_ppm : -1, v->limit.step,
	    (unsigned long long)(probes_detached_ns(p) / NSEC_PER_MSEC), (unsigned long long)n);
	for (uint64_t i = first; i < n; i++) {
		const struct sb_limit_note *note = &c->limit_note[i % SB_LIMIT_NOTES];

		text_put(t, "%s{\"ts_ns\":%llu,\"from\":%u,\"to\":%u,\"cost_ppm\":%u}", i > first ? "," : "",
		    (unsigned long long)note->ts_ns, note->from, note->to, note->cost_ppm);
	}
	text_put(t, "]},");
}

static void put_config(struct text *t, const struct options *o, const struct reload_view *v)
{
	text_put(t, "config:     %zu files, %llu reloads, %llu failed\n", o->config.n_files, (unsigned long long)v->reloads,
	    (unsigned long long)v->failures);
	if (v->failed)
		text_put(t, "            THE LAST RELOAD FAILED, the configuration before it is in force: %s\n", v->error);
	if (v->failed && v->n_errors > 1)
		text_put(t, "            and %zu more errors: 'stallbox check-config'\n", v->n_errors - 1);
	if (v->restart[0])
		text_put(t, "            changed, needs a restart: %s\n", v->restart);
}

static void json_config(struct text *t, const struct options *o, const struct reload_view *v)
{
	text_put(t, "\"config\":{\"files\":%zu,\"reloads\":%llu,\"reload_failures\":%llu,\"last_reload_successful\":%s,"
	       "\"last_reload_ms\":%llu,\"errors\":%zu,\"error\":", o->config.n_files,
	    (unsigned long long)v->reloads, (unsigned long long)v->failures,
	    v->failed ? "false" : "true", (unsigned long long)v->last_ms, v->n_errors);
	text_json(t, v->error);
	text_put(t, ",\"needs_restart\":");
	text_json(t, v->restart);
	text_put(t, "},");
}

static unsigned int stuck(const struct storage_dir *d)
{
	unsigned int n = 0;

	for (size_t i = 0; i < STORAGE_STUCK; i++)
		n += storage_get(d->stuck[i]) != 0;
	return n;
}

static void put_directory(struct text *t, const struct storage_dir *d, const char *path)
{
	int error = storage_get(d->error);

	text_put(t, "            %s: %llu bundles, %llu KiB, %llu MiB free; %llu stored, %llu attempts failed, %llu not in time%s%s\n",
	    path, (unsigned long long)d->bundles, (unsigned long long)retention_used(d) >> 10,
	    (unsigned long long)d->free_bytes >> 20, (unsigned long long)d->stored, (unsigned long long)d->failed,
	    (unsigned long long)d->timeouts, error < 0 ? ", LAST: " : "", error < 0 ? strerror(-error) : "");
}

static void put_storage(struct text *t, const struct agent_view *v, const struct options *o)
{
	const struct storage *s = v->storage;

	text_put(t, "storage:    deleted %llu for MaxUse, %llu for KeepFree, %llu for MaxAge, %llu for DeleteAfter; %llu in quarantine; "
	       "%llu held in memory, %llu lost there\n",
	    (unsigned long long)s->deleted[STORAGE_MAX_USE], (unsigned long long)s->deleted[STORAGE_KEEP_FREE],
	    (unsigned long long)s->deleted[STORAGE_MAX_AGE], (unsigned long long)s->deleted[STORAGE_UPLOADED], (unsigned long long)s->quarantined,
	    (unsigned long long)v->held, (unsigned long long)v->dropped);
	for (int i = 0; i < SPOOL_DIRS; i++) {
		if (*spool_dir(&o->spool, i))
			put_directory(t, &s->dir[i], spool_dir(&o->spool, i));
	}
}

static void json_directory(struct text *t, const struct storage_dir *d, const char *path)
{
	text_put(t, "{\"path\":");
	text_json(t, path);
	text_put(t, ",\"bundles\":%llu,\"used_bytes\":%llu,\"free_bytes\":%llu,\"stored\":%llu,\"stored_bytes\":%llu,"
	       "\"failed\":%llu,\"timeouts\":%llu,\"error\":%d,\"tried_ns\":%llu,\"stuck\":%u}",
	    (unsigned long long)d->bundles, (unsigned long long)retention_used(d), (unsigned long long)d->free_bytes,
	    (unsigned long long)d->stored, (unsigned long long)d->stored_bytes, (unsigned long long)d->failed,
	    (unsigned long long)d->timeouts, -storage_get(d->error), (unsigned long long)storage_get(d->tried_ns), stuck(d));
}

static void json_storage(struct text *t, const struct agent_view *v, const struct options *o)
{
	const struct storage *s = v->storage;

	text_put(t, "\"storage\":{\"held\":%llu,\"dropped\":%llu,\"retries\":%llu,\"deleted\":{\"max_use\":%llu,"
	       "\"keep_free\":%llu,\"max_age\":%llu,\"delete_after\":%llu},\"deleted_bytes\":%llu,\"swept\":%llu,\"quarantined\":%llu,"
	       "\"quarantine_deleted\":%llu,\"max_use_bytes\":%llu,\"kept_ns\":%llu,\"directories\":[",
	    (unsigned long long)v->held, (unsigned long long)v->dropped, (unsigned long long)s->retries,
	    (unsigned long long)s->deleted[STORAGE_MAX_USE], (unsigned long long)s->deleted[STORAGE_KEEP_FREE],
	    (unsigned long long)s->deleted[STORAGE_MAX_AGE], (unsigned long long)s->deleted[STORAGE_UPLOADED], (unsigned long long)s->deleted_bytes,
	    (unsigned long long)s->swept, (unsigned long long)s->quarantined,
	    (unsigned long long)s->quarantine_deleted, (unsigned long long)s->limits.max_use_bytes,
	    (unsigned long long)s->kept_ns);
	for (int i = 0; i < SPOOL_DIRS; i++) {
		if (!*spool_dir(&o->spool, i))
			continue;
		text_put(t, "%s", i ? "," : "");
		json_directory(t, &s->dir[i], spool_dir(&o->spool, i));
	}
	text_put(t, "]},");
}

void status_text(struct agent_view *v, const struct options *o, const struct probes *p, struct text *t)
{
	uint64_t recorded[SB_KIND_SLOTS], lost[SB_LOST_COUNT], any = 0;
	struct bundle_cost cost;

	selfcost_fill(&v->cost, &v->sources, &cost);
	sums(p, recorded, lost);
	text_put(t, "ok\nstate:      %s, %llu bundles, %llu triggers merged, %llu kept back, %llu failures\n",
	    status_state_name(v->state), (unsigned long long)v->captures, (unsigned long long)v->merged,
	    (unsigned long long)v->kept_back, (unsigned long long)v->failures);
	text_put(t, "history:    %.1f s on the busiest CPU, ring %llu MiB in two banks\n",
	    history_s(p, v->env_now_ns),
	    (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus >> 20));
	text_put(t, "samples:    %.0f Hz, by %s\n", 1e9 / (double)p->cfg.sample_period_ns,
		 p->cfg.tick_ns ? "the scheduler's tick" : "a timer on each CPU");
	text_put(t, "recorded:  ");
	for (int k = SB_ON_CPU; k < SB_KIND_COUNT; k++) {
		if (recorded[k] || k <= SB_RECLAIM)
			text_put(t, "%s %llu %s", k > SB_ON_CPU ? "," : "", (unsigned long long)recorded[k],
			    bundle_kind_name((enum bundle_kind)k));
	}
	text_put(t, "\n");
	text_put(t, "losses:    ");
	for (int i = 0; i < SB_LOST_COUNT; i++) {
		if (lost[i] && lost_names[i])
			text_put(t, " %s=%llu", lost_names[i], (unsigned long long)lost[i]);
		any |= lost[i];
	}
	text_put(t, "%s\n", any ? "" : " none");
	put_cost(t, v, &cost);
	put_limit(t, v, p);
	put_unwind(t, p, v->unwinder);
	put_config(t, o, &v->reload);
	text_put(t, "triggers:\n");
	for (size_t i = 0; i < o->n_triggers; i++) {
		const struct trigger *tr = o->trigger[i];

		text_put(t, "  %-20s %s: value %g %s, threshold %g, fired %llu times%s%s\n", tr->name,
		    tr->spec, tr->value, tr->unit ? tr->unit : "", tr->threshold,
		    (unsigned long long)tr->fired_cnt, v->trigger_error[i] < 0 ? ", DISARMED: " : "",
		    v->trigger_error[i] < 0 ? strerror(-v->trigger_error[i]) : "");
	}
	for (size_t i = 0; i < p->n_missing; i++)
		text_put(t, "missing:    %s: %s\n", p->missing[i].key, p->missing[i].value);
	put_storage(t, v, o);
	if (v->clients_dropped)
		text_put(t, "requests:   %llu connections closed without an answer\n",
			 (unsigned long long)v->clients_dropped);
	if (v->captures)
		text_put(t, "last:       %s, stackshot after %.1f ms, durable after %.0f ms\n",
		    v->last_path[0] ? v->last_path : v->last_file, v->shot_ms, v->pre_durable_ms);
}

void status_json(struct agent_view *v, const struct options *o, const struct probes *p, struct text *t)
{
	uint64_t recorded[SB_KIND_SLOTS], lost[SB_LOST_COUNT];
	struct bundle_cost cost;
	const char *sep = "";

	selfcost_fill(&v->cost, &v->sources, &cost);
	sums(p, recorded, lost);
	text_put(t, "ok\n{\"version\":\"%s\",\"state\":\"%s\",\"captures\":%llu,\"merged\":%llu,"
		"\"kept_back\":%llu,\"failures\":%llu,\"clients_dropped\":%llu,", SB_VERSION, status_state_name(v->state),
	    (unsigned long long)v->captures, (unsigned long long)v->merged,
	    (unsigned long long)v->kept_back, (unsigned long long)v->failures,
	    (unsigned long long)v->clients_dropped);
	text_put(t, "\"history_s\":%.3f,\"ring_bytes\":%llu,\"map_bytes\":%llu,\"taken_over\":%s,",
	    history_s(p, v->env_now_ns),
	    (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus), (unsigned long long)probes_memory(p),
	    p->taken_over ? "true" : "false");
	text_put(t, "\"sampler\":{\"clock\":\"%s\",\"period_ns\":%llu,\"tick_ns\":%llu},", p->cfg.tick_ns ? "tick" : "timer",
		 (unsigned long long)p->cfg.sample_period_ns, (unsigned long long)p->cfg.tick_ns);
	text_put(t, "\"recorded\":{");
	for (int k = SB_ON_CPU; k < SB_KIND_COUNT; k++)
		text_put(t, "%s\"%s\":%llu", k > SB_ON_CPU ? "," : "", bundle_kind_name((enum bundle_kind)k),
		    (unsigned long long)recorded[k]);
	text_put(t, "},\"lost\":{");
	for (int i = 0; i < SB_LOST_COUNT; i++) {
		if (!lost_names[i])
			continue;
		text_put(t, "%s\"%s\":%llu", sep, lost_names[i], (unsigned long long)lost[i]);
		sep = ",";
	}
	json_cost(t, v, p, &cost);
	json_config(t, o, &v->reload);
	text_put(t, "\"triggers\":[");
	for (size_t i = 0; i < o->n_triggers; i++) {
		text_put(t, "%s{\"name\":", i ? "," : "");
		text_json(t, o->trigger[i]->name);
		text_put(t, ",\"spec\":");
		text_json(t, o->trigger[i]->spec);
		text_put(t, ",\"value\":%g,\"threshold\":%g,\"fired\":%llu,\"armed\":%s}",
		    o->trigger[i]->value, o->trigger[i]->threshold,
		    (unsigned long long)o->trigger[i]->fired_cnt,
		    v->trigger_error[i] < 0 ? "false" : "true");
	}
	put_unwind_json(t, p, v->unwinder);
	text_put(t, ",");
	json_storage(t, v, o);
	text_put(t, "\"missing\":[");
	for (size_t i = 0; i < p->n_missing; i++) {
		text_put(t, "%s", i ? "," : "");
		text_json(t, p->missing[i].key);
	}
	text_put(t, "],\"last\":{\"file\":");
	text_json(t, v->last_file);
	text_put(t, ",\"path\":");
	text_json(t, v->last_path);
	text_put(t, ",\"seal_delay_ns\":%llu,\"stackshot_ms\":%.3f,\"pre_durable_ms\":%.3f}}\n",
	    (unsigned long long)v->seal_delay_ns, v->shot_ms, v->pre_durable_ms);
}
