/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The events that a filter lets through, in time order over all CPUs and kinds, in bounded
 * memory: the bundle is read once to see how the events are spread over time, then once for
 * every window of time that holds TIMELINE_EVENTS of them or fewer.
 */
#ifndef SB_TOOLS_TIMELINE_H
#define SB_TOOLS_TIMELINE_H

#include "tools/filter.h"

#define TIMELINE_EVENTS (128u << 10)

/* Calls fn by time, then CPU, kind and place in the file. A non-zero return of fn stops and is
 * returned; else 0 or a negative errno. */
int timeline_each(struct bundle *b, struct filter *filter, bundle_event_fn fn, void *ctx);
/* The same CPU by CPU, each in time order. filter->cpu is left as it was. */
int timeline_each_cpu(struct bundle *b, struct filter *filter, bundle_event_fn fn, void *ctx);

#endif
