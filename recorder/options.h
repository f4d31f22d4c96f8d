/* SPDX-License-Identifier: BSD-2-Clause */
/* Settings of the agent: defaults, configuration file, command line, from one table. */
#ifndef SB_RECORDER_OPTIONS_H
#define SB_RECORDER_OPTIONS_H

#include "recorder/probes.h"
#include "recorder/spool.h"
#include "triggers/trigger.h"

#define OPTIONS_MAX_TRIGGERS 32
#define OPTIONS_MAX_CONFIG 32

struct options {
	struct probes_options probes;
	struct spool spool;
	char socket[108];
	char bpffs[108];
	uint64_t memory_bytes, threshold_ns, irq_threshold_ns, syscall_threshold_ns, post_ns, cooldown_ns;
	uint64_t frequency, cpu_budget_ppm;
	char escalate[16]; /* trigger, always, never */
	bool foreground, realtime, pin, unload, export_pinned, verbose, list;
	struct trigger *trigger[OPTIONS_MAX_TRIGGERS];
	size_t n_triggers;
	/* The settings in force as text, for the bundle's header. */
	struct bundle_kv config[OPTIONS_MAX_CONFIG];
	char config_text[OPTIONS_MAX_CONFIG][128];
	size_t n_config;
};

/* Reads the command line and the configuration file. Returns -1 to go on, or the exit code
 * (after --help, --version, or an error that it has printed). */
int options_read(struct options *o, int argc, char **argv);
void options_done(struct options *o);

#endif
