// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/status.h"

#include <stdarg.h>
#include <stdio.h>

#include "recorder/ring.h"

static const char *const state_names[] = { "recording", "post-trigger", "freezing", "cooldown" };

struct text {
	char *p;
	size_t len, cap;
};

static void __attribute__((format(printf, 2, 3))) put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len = SB_MIN(t->len + (size_t)n, t->cap - 1);
}

static void put_json(struct text *t, const char *s)
{
	put(t, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			put(t, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			put(t, "\\u%04x", c);
		else
			put(t, "%c", c);
	}
	put(t, "\"");
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

/* The dearest programs of the last window. */
static void put_programs(struct text *t, const struct agent_view *v, const struct bundle_cost *cost)
{
	double span = (double)(cost->until_ns - cost->since_ns);
	bool shown[PROBES_MAX_PROGRAMS] = {};

	put(t, "           ");
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
		put(t, "%s %s %.0f/s x %.0f ns (%.3f %%)", k ? "," : "", cost->program[best].name,
		    (double)cost->program[best].run_cnt / span * 1e9,
		    (double)cost->program[best].run_time_ns / (double)cost->program[best].run_cnt,
		    100.0 * (double)cost->program[best].run_time_ns / (span * v->sources.cpus));
	}
	put(t, "\n");
}

static void put_cost(struct text *t, const struct agent_view *v, const struct bundle_cost *cost)
{
	double ppm = selfcost_bpf_ppm(&v->cost, v->sources.cpus), up = (double)cost->period_ns;

	put(t, "cost:       agent %.3f %% of a CPU, workers %.3f %%, %.1f wakeups/s, RSS %.1f + %.1f MiB, "
	       "kernel maps %llu MiB, %llu bytes written\n",
	    100.0 * (double)cost->agent_cpu_ns / up, 100.0 * (double)cost->worker_cpu_ns / up,
	    (double)cost->wakeups * 1e9 / up, (double)cost->agent_rss_bytes / 1048576,
	    (double)cost->worker_rss_bytes / 1048576, (unsigned long long)cost->map_bytes >> 20,
	    (unsigned long long)cost->bytes_written);
	if (ppm < 0) {
		put(t, "            BPF programs: not measured%s%s\n", v->cost.stats_error ? ": " : " yet",
		    v->cost.stats_error ? strerror(-v->cost.stats_error) : "");
		return;
	}
	put(t, "            BPF programs %.3f %% of the machine when measured %.0f s ago, %.3f %% on average "
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

	put(t, "budget:     %.4g %% of the machine over 10 s; ", v->limit.budget_ppm / 1e4);
	if (v->limit.whole)
		put(t, "%.3f %% used; ", v->limit.cost_ppm / 1e4);
	put(t, "%s", v->limit.step ? "ABOVE IT, left out: " : "nothing is left out\n");
	for (uint32_t i = 1; i <= v->limit.step; i++)
		put(t, "%s%s", limit_step_name(i), i == v->limit.step ? "\n" : ", ");
	for (uint64_t i = n > 5 ? n - 5 : 0; i < n; i++) {
		limit_note_text(&c->limit_note[i % SB_LIMIT_NOTES], text, sizeof(text));
		put(t, "            %.0f s ago: %s\n",
		    (double)(v->env_now_ns - c->limit_note[i % SB_LIMIT_NOTES].ts_ns) / 1e9, text);
	}
}

static void json_cost(struct text *t, const struct agent_view *v, const struct probes *p, const struct bundle_cost *cost)
{
	const struct sb_control *c = p->control;
	uint64_t n = c->limit_changes, first = n > SB_LIMIT_NOTES ? n - SB_LIMIT_NOTES : 0;
	bool comma = false;

	put(t, "},\"cost\":{\"agent_cpu_ns\":%llu,\"worker_cpu_ns\":%llu,\"rss_bytes\":%llu,"
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
		put(t, "%s{\"name\":", comma ? "," : "");
		put_json(t, cost->program[i].name);
		put(t, ",\"runs\":%llu,\"ns\":%llu}", (unsigned long long)cost->program[i].run_cnt,
		    (unsigned long long)cost->program[i].run_time_ns);
		comma = true;
	}
	put(t, "]},\"limit\":{\"budget_ppm\":%u,\"cost_ppm\":%lld,\"step\":%u,\"detached_ms\":%llu,"
	       "\"changes\":%llu,\"last\":[",
	    v->limit.budget_ppm, v->limit.whole ? (long long)v->limit.cost_ppm : -1, v->limit.step,
	    (unsigned long long)(probes_detached_ns(p) / NSEC_PER_MSEC), (unsigned long long)n);
	for (uint64_t i = first; i < n; i++) {
		const struct sb_limit_note *note = &c->limit_note[i % SB_LIMIT_NOTES];

		put(t, "%s{\"ts_ns\":%llu,\"from\":%u,\"to\":%u,\"cost_ppm\":%u}", i > first ? "," : "",
		    (unsigned long long)note->ts_ns, note->from, note->to, note->cost_ppm);
	}
	put(t, "]},");
}

void status_text(struct agent_view *v, const struct options *o, const struct probes *p, char *ret,
		 size_t len)
{
	struct text t = { ret, 0, len };
	uint64_t recorded[SB_KIND_SLOTS], lost[SB_LOST_COUNT], any = 0;
	struct bundle_cost cost;

	selfcost_fill(&v->cost, &v->sources, &cost);
	sums(p, recorded, lost);
	put(&t, "ok\nstate:      %s, %llu bundles, %llu triggers merged, %llu failures\n",
	    state_names[v->state], (unsigned long long)v->captures, (unsigned long long)v->merged,
	    (unsigned long long)v->failures);
	put(&t, "history:    %.1f s on the busiest CPU, ring %llu MiB in two banks\n",
	    history_s(p, v->env_now_ns),
	    (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus >> 20));
	put(&t, "recorded:  ");
	for (int k = SB_ON_CPU; k < SB_KIND_COUNT; k++) {
		if (recorded[k] || k <= SB_RECLAIM)
			put(&t, "%s %llu %s", k > SB_ON_CPU ? "," : "", (unsigned long long)recorded[k],
			    bundle_kind_name((enum bundle_kind)k));
	}
	put(&t, "\n");
	put(&t, "losses:    ");
	for (int i = 0; i < SB_LOST_COUNT; i++) {
		if (lost[i] && lost_names[i])
			put(&t, " %s=%llu", lost_names[i], (unsigned long long)lost[i]);
		any |= lost[i];
	}
	put(&t, "%s\n", any ? "" : " none");
	put_cost(&t, v, &cost);
	put_limit(&t, v, p);
	put(&t, "triggers:\n");
	for (size_t i = 0; i < o->n_triggers; i++) {
		const struct trigger *tr = o->trigger[i];

		put(&t, "  %-20s %s: value %g %s, threshold %g, fired %llu times%s%s\n", tr->name,
		    tr->spec, tr->value, tr->unit ? tr->unit : "", tr->threshold,
		    (unsigned long long)tr->fired_cnt, v->trigger_error[i] < 0 ? ", DISARMED: " : "",
		    v->trigger_error[i] < 0 ? strerror(-v->trigger_error[i]) : "");
	}
	for (size_t i = 0; i < p->n_missing; i++)
		put(&t, "missing:    %s: %s\n", p->missing[i].key, p->missing[i].value);
	if (v->captures)
		put(&t, "last:       %s, stackshot after %.1f ms, durable after %.0f ms\n",
		    v->last_path[0] ? v->last_path : v->last_file, v->shot_ms, v->pre_durable_ms);
}

void status_json(struct agent_view *v, const struct options *o, const struct probes *p, char *ret,
		 size_t len)
{
	struct text t = { ret, 0, len };
	uint64_t recorded[SB_KIND_SLOTS], lost[SB_LOST_COUNT];
	struct bundle_cost cost;
	const char *sep = "";

	selfcost_fill(&v->cost, &v->sources, &cost);
	sums(p, recorded, lost);
	put(&t, "ok\n{\"version\":\"%s\",\"state\":\"%s\",\"captures\":%llu,\"merged\":%llu,"
		"\"failures\":%llu,", SB_VERSION, state_names[v->state],
	    (unsigned long long)v->captures, (unsigned long long)v->merged,
	    (unsigned long long)v->failures);
	put(&t, "\"history_s\":%.3f,\"ring_bytes\":%llu,\"map_bytes\":%zu,\"taken_over\":%s,",
	    history_s(p, v->env_now_ns),
	    (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus), p->map_bytes,
	    p->taken_over ? "true" : "false");
	put(&t, "\"recorded\":{");
	for (int k = SB_ON_CPU; k < SB_KIND_COUNT; k++)
		put(&t, "%s\"%s\":%llu", k > SB_ON_CPU ? "," : "", bundle_kind_name((enum bundle_kind)k),
		    (unsigned long long)recorded[k]);
	put(&t, "},\"lost\":{");
	for (int i = 0; i < SB_LOST_COUNT; i++) {
		if (!lost_names[i])
			continue;
		put(&t, "%s\"%s\":%llu", sep, lost_names[i], (unsigned long long)lost[i]);
		sep = ",";
	}
	json_cost(&t, v, p, &cost);
	put(&t, "\"triggers\":[");
	for (size_t i = 0; i < o->n_triggers; i++) {
		put(&t, "%s{\"name\":", i ? "," : "");
		put_json(&t, o->trigger[i]->name);
		put(&t, ",\"spec\":");
		put_json(&t, o->trigger[i]->spec);
		put(&t, ",\"value\":%g,\"threshold\":%g,\"fired\":%llu,\"armed\":%s}",
		    o->trigger[i]->value, o->trigger[i]->threshold,
		    (unsigned long long)o->trigger[i]->fired_cnt,
		    v->trigger_error[i] < 0 ? "false" : "true");
	}
	put(&t, "],\"missing\":[");
	for (size_t i = 0; i < p->n_missing; i++) {
		put(&t, "%s", i ? "," : "");
		put_json(&t, p->missing[i].key);
	}
	put(&t, "],\"last\":{\"file\":");
	put_json(&t, v->last_file);
	put(&t, ",\"path\":");
	put_json(&t, v->last_path);
	put(&t, ",\"seal_delay_ns\":%llu,\"stackshot_ms\":%.3f,\"pre_durable_ms\":%.3f}}\n",
	    (unsigned long long)v->seal_delay_ns, v->shot_ms, v->pre_durable_ms);
}
