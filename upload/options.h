/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line of stallbox-upload, and whether the configuration tells it enough. */
#ifndef SB_UPLOAD_OPTIONS_H
#define SB_UPLOAD_OPTIONS_H

#include "config/config.h"

#define UPLOAD_BYTES_PER_S (10u << 20) /* a tenth of a gigabit link */
/* Below it our own limit would look like a store that is too slow (upload/http.c). */
#define UPLOAD_RATE_MIN 4096u
#define UPLOAD_RATE_MAX (1ULL << 40)

struct upload_options {
	const char *config, *status;
	uint64_t max_bytes_per_s; /* 0: as fast as it goes */
	bool config_given, once, verbose;
};

/* -1 to go on, or the exit code after --help, --version or a usage error. */
int upload_options(struct upload_options *o, int argc, char **argv);

/* Logs every error; 0, or SB_EXIT_CONFIG. */
int upload_config(const struct upload_options *o, struct config *c);

#endif
