/* SPDX-License-Identifier: BSD-2-Clause */
/* What the gateway counts of itself. Any thread counts; nothing is ever taken back. */
#ifndef SB_GATEWAY_STATS_H
#define SB_GATEWAY_STATS_H

#include "format/base.h"

enum stats_route {
	ROUTE_NONE, /* no such page */
	ROUTE_HEALTHY,
	ROUTE_READY,
	ROUTE_PAGE,
	ROUTE_METRICS,
	ROUTE_LIST,
	ROUTE_CAPTURE,
	ROUTE_HTML,
	ROUTE_FREEZE,
	ROUTE_WEBHOOK,
	ROUTES
};

enum stats_webhook {
	WEBHOOK_FROZEN,
	WEBHOOK_MERGED,	  /* into the capture under way */
	WEBHOOK_SEEN_BEFORE,
	WEBHOOK_RESOLVED, /* nothing fires */
	WEBHOOK_HELD_BACK, /* the agent is in its cooldown */
	WEBHOOK_FAILED,
	WEBHOOK_RESULTS
};

#define STATS_CODES 600

struct stats {
	uint64_t request[ROUTES][STATS_CODES]; /* by status */
	uint64_t webhook[WEBHOOK_RESULTS];
	uint64_t expired;     /* connections ended at their deadline */
	uint64_t displaced;   /* connections without a request that gave way to others, or found no room */
	uint64_t connections; /* open now */
	uint64_t sent_bytes;  /* of bundles, as far as they were asked for */
};

#define stats_add(field, n) __atomic_fetch_add(&(field), (n), __ATOMIC_RELAXED)
#define stats_read(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

#endif
