/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prometheus text format 0.0.4. What the agent tells is mapped by one table (metrics.c): a field that it tells
 * from some version on is a row more. Names follow https://prometheus.io/docs/practices/naming/.
 */
#ifndef SB_GATEWAY_METRICS_H
#define SB_GATEWAY_METRICS_H

#include <stdio.h>

#include "gateway/agent_client.h"
#include "gateway/stats.h"
#include "gateway/survey.h"

/* Every row of the agent's answers; all NULL: there is no agent. */
void metrics_put_agent(FILE *f, json_t *const answer[AGENT_ANSWERS]);
void metrics_put_storage(FILE *f, const struct survey_result *s);
/* Of the gateway itself: its requests, and what the process uses. */
void metrics_put_gateway(FILE *f, const struct stats *s);
/* What another program has written in this format: its own metrics, stallbox_upload_* and stallbox_pyroscope_*,
 * whatever else may be in the file. No file: nothing. */
void metrics_put_upload(FILE *f, const char *path);

#endif
