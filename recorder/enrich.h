/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names for what the raw bundle holds as numbers: kernel and user symbols, mappings,
 * cgroup paths. Runs in the storing process once the raw bundle is durable; it may be slow
 * and may be cut off, the raw bundle stays readable.
 */
#ifndef SB_RECORDER_ENRICH_H
#define SB_RECORDER_ENRICH_H

#include "recorder/freeze.h"

/* Appends to f->w. Returns true when everything could be looked up. */
bool enrich(struct freeze *f);

#endif
