// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/counters.h"

#include "recorder/freeze.h"
#include "recorder/status.h"
#include "recorder/text.h"

/* From an in-kernel condition, sealed at once, to a bundle on a slow disk. */
static const uint32_t bound_us[COUNTERS_BUCKETS] = { 1000,   2500,   5000,    10000,   25000,	50000,	  100000,
						     250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000 };

void counters_observe(struct counters_latency *l, uint64_t ns)
{
	int i = 0;

	while (i < COUNTERS_BUCKETS && ns > bound_us[i] * NSEC_PER_USEC)
		i++;
	l->count[i]++;
	l->sum_ns += ns;
}

static void put_latency(struct text *t, const char *name, const struct counters_latency *l)
{
	text_put(t, ",\"%s\":{\"le_s\":[", name);
	for (int i = 0; i < COUNTERS_BUCKETS; i++)
		text_put(t, "%s%g", i ? "," : "", bound_us[i] / 1e6);
	text_put(t, "],\"count\":[");
	for (int i = 0; i <= COUNTERS_BUCKETS; i++)
		text_put(t, "%s%llu", i ? "," : "", (unsigned long long)l->count[i]);
	text_put(t, "],\"sum_s\":%.9f}", (double)l->sum_ns / 1e9);
}

typedef uint64_t (*per_cpu)(const struct probes *p, uint32_t cpu, int i);

static uint64_t recorded_of(const struct probes *p, uint32_t cpu, int kind)
{
	return p->cpus[cpu].recorded[kind];
}

static uint64_t lost_of(const struct probes *p, uint32_t cpu, int cause)
{
	return p->cpus[cpu].lost[cause];
}

/* Positions in the banks count up for ever. */
static uint64_t overwritten_of(const struct probes *p, uint32_t cpu, int unused)
{
	uint64_t sum = 0;

	(void)unused;

	for (uint32_t bank = 0; bank < SB_BANKS; bank++) {
		uint64_t head = p->cpus[cpu].bank[bank].head;

		sum += head > p->cfg.ring_bytes ? head - p->cfg.ring_bytes : 0;
	}
	return sum;
}

/* {"0": N, "1": N, ...} of the CPUs whose count is not zero, or of all. */
static void put_cpus(struct text *t, const struct probes *p, per_cpu count, int i, bool all)
{
	const char *sep = "";

	text_put(t, "{");
	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		uint64_t n = count(p, cpu, i);

		if (!n && !all)
			continue;
		text_put(t, "%s\"%u\":%llu", sep, cpu, (unsigned long long)n);
		sep = ",";
	}
	text_put(t, "}");
}

void counters_json(const struct agent_view *v, const struct probes *p, struct text *t)
{
	const char *sep = "";

	text_put(t, "ok\n{\"recorded\":{");
	for (int k = SB_ON_CPU; k < SB_KIND_COUNT; k++) {
		text_put(t, "%s\"%s\":", k > SB_ON_CPU ? "," : "", bundle_kind_name((enum bundle_kind)k));
		put_cpus(t, p, recorded_of, k, k <= SB_RECLAIM);
	}
	text_put(t, "},\"lost\":[");
	for (int i = 0; i < SB_LOST_COUNT; i++) {
		enum bundle_loss_cause cause;
		enum bundle_kind kind;

		if (!freeze_loss_kind(i, &cause, &kind))
			continue;
		text_put(t, "%s{\"what\":\"%s\",\"cause\":\"%s\",\"kind\":\"%s\",\"cpus\":", sep, status_lost_name(i),
			 bundle_loss_name(cause), kind == BUNDLE_KIND_NONE ? "any" : bundle_kind_name(kind));
		put_cpus(t, p, lost_of, i, false);
		text_put(t, "}");
		sep = ",";
	}
	text_put(t, "],\"overwritten_bytes\":");
	put_cpus(t, p, overwritten_of, 0, true);
	put_latency(t, "seal_latency", &v->seal_latency);
	put_latency(t, "durable_latency", &v->durable_latency);
	text_put(t, "}\n");
}
