/* SPDX-License-Identifier: BSD-2-Clause */
/* What the agent tells about itself, for people and as JSON. */
#ifndef SB_RECORDER_STATUS_H
#define SB_RECORDER_STATUS_H

#include "recorder/counters.h"
#include "recorder/limit.h"
#include "recorder/options.h"
#include "recorder/reload.h"
#include "recorder/selfcost.h"
#include "recorder/storage.h"
#include "recorder/text.h"
#include "recorder/unwinder.h"

enum agent_state { AGENT_RECORDING, AGENT_POST_TRIGGER, AGENT_FREEZING, AGENT_COOLDOWN };

struct agent_view {
	enum agent_state state;
	uint32_t capture_id;
	uint64_t captures, merged, kept_back, failures, events;
	uint64_t clients_dropped; /* of the control socket */
	uint64_t fired_ns, seal_delay_ns, env_now_ns, cooldown_end_ns;
	double shot_ms, pre_durable_ms;
	uint64_t held, dropped; /* bundles in memory that no directory takes; those lost because there were more */
	const struct storage *storage;
	char last_file[BUNDLE_FILE_MAX], last_path[BUNDLE_FILE_MAX + 256];
	struct counters_latency seal_latency, durable_latency;
	int trigger_error[OPTIONS_MAX_TRIGGERS];
	struct selfcost cost;
	const struct unwinder_stats *unwinder; /* NULL: none */
	struct selfcost_sources sources;
	struct limit limit;
	struct reload_view reload;
};

/* All answer the control socket: the first line is "ok". */
void status_text(struct agent_view *v, const struct options *o, const struct probes *p, struct text *t);
void status_json(struct agent_view *v, const struct options *o, const struct probes *p, struct text *t);
/* The triggers: what they see, why they do not fire, what became of them. docs/control.schema.json has the JSON. */
void status_triggers_text(const struct agent_view *v, const struct options *o, struct text *t);
void status_triggers_json(const struct agent_view *v, const struct options *o, struct text *t);
const char *status_state_name(enum agent_state s);
/* "short_blocks_over_budget" ... of enum sb_lost; NULL: counts nothing. */
const char *status_lost_name(int cause);

#endif
