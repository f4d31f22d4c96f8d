/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of a capture, one entry in the journal with fields for machines (service/stallbox.catalog), or
 * one line where there is no journal. */
#ifndef SB_RECORDER_ANNOUNCE_H
#define SB_RECORDER_ANNOUNCE_H

#include "recorder/capture.h"

/* The bundle is whole: r is its last report. */
void announce_complete(const struct capture_cause *cause, const struct capture_report *r);
/* There is none, or not all of it: why, for people. */
void announce_lost(const struct capture_cause *cause, const char *file, const char *why);

#endif
