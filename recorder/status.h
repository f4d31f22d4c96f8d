/* SPDX-License-Identifier: BSD-2-Clause */
/* What the agent tells about itself, for people and as JSON. */
#ifndef SB_RECORDER_STATUS_H
#define SB_RECORDER_STATUS_H

#include "recorder/limit.h"
#include "recorder/options.h"
#include "recorder/selfcost.h"

enum agent_state { AGENT_RECORDING, AGENT_POST_TRIGGER, AGENT_FREEZING, AGENT_COOLDOWN };

struct agent_view {
	enum agent_state state;
	uint32_t capture_id;
	uint64_t captures, merged, failures, events;
	uint64_t fired_ns, seal_delay_ns, env_now_ns, cooldown_end_ns;
	double shot_ms, pre_durable_ms;
	char last_file[SPOOL_NAME_MAX], last_path[SPOOL_NAME_MAX + 256];
	int trigger_error[OPTIONS_MAX_TRIGGERS];
	struct selfcost cost;
	struct selfcost_sources sources;
	struct limit limit;
};

/* Both answer the control socket: the first line is "ok". */
void status_text(struct agent_view *v, const struct options *o, const struct probes *p, char *ret,
		 size_t len);
void status_json(struct agent_view *v, const struct options *o, const struct probes *p, char *ret,
		 size_t len);

#endif
