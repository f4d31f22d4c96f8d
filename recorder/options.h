/* SPDX-License-Identifier: BSD-2-Clause */
/* Settings of the agent: the configuration, what the command line says instead, and what only that can say. */
#ifndef SB_RECORDER_OPTIONS_H
#define SB_RECORDER_OPTIONS_H

#include "config/config.h"
#include "recorder/capture.h"
#include "recorder/probes.h"
#include "recorder/spool.h"
#include "triggers/trigger.h"

#define OPTIONS_MAX_TRIGGERS CONFIG_MAX_TRIGGERS

struct options {
	struct config config; /* of the files, over it the command line */
	char config_file[CONFIG_TEXT_MAX];
	bool config_required; /* --config: it has to be there */
	const char *flag_trigger[OPTIONS_MAX_TRIGGERS]; /* --trigger, of argv */
	size_t n_flag_triggers;
	bool foreground, unload, export_pinned, verbose, list, doctor, doctor_json;
	bool config_bad; /* --doctor goes on with the defaults */
	/* What follows from that. */
	struct probes_options probes;
	struct spool spool;
	struct trigger *trigger[OPTIONS_MAX_TRIGGERS];
	size_t n_triggers;
};

/* Reads the command line and the configuration file. Returns -1 to go on, or the exit code
 * (after --help, --version, or an error that it has printed). */
int options_read(struct options *o, int argc, char **argv);
void options_done(struct options *o);

/* The files once more, over them what the command line of o says. Touches disks. Nothing is logged. */
void options_load_again(const struct options *o, struct config *ret, struct config_errors *e);
/* Makes c the configuration of o, its triggers aside. */
void options_adopt(struct options *o, const struct config *c);
/* It as text, for the processes of captures. */
void options_settings(const struct options *o, struct capture_settings *ret);
/* The specifications of the triggers to arm: of the command line, else of c, else the default set. Returns how many. */
size_t options_trigger_specs(const struct options *o, const struct config *c,
			     char ret[OPTIONS_MAX_TRIGGERS][TRIGGER_SPEC_MAX]);

#endif
