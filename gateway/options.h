/* SPDX-License-Identifier: BSD-2-Clause */
/* The gateway's settings: the configuration file, and over it the command line. */
#ifndef SB_GATEWAY_OPTIONS_H
#define SB_GATEWAY_OPTIONS_H

#include "config/config.h"

struct gateway_options {
	struct config config;
	const char *renderer; /* stallbox */
	bool verbose;
};

/* Returns -1 to go on, or the exit code (after --help, --version, or an error that it has printed). */
int gateway_options_read(struct gateway_options *o, int argc, char **argv);

#endif
