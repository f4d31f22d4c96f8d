/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is missing on this host, what that costs in evidence, and how to get it. Needs no agent; loads and
 * attaches the programs for a moment, as --features does. docs/control.schema.json has the JSON.
 */
#ifndef SB_RECORDER_DOCTOR_H
#define SB_RECORDER_DOCTOR_H

#include "recorder/options.h"

/* Prints on standard output. SB_EXIT_OK: stallboxd can record here, if perhaps less than elsewhere. */
int doctor(struct options *o, bool json);

#endif
