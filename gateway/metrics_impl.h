/* SPDX-License-Identifier: BSD-2-Clause */
/* What gateway/metrics*.c share. */
#ifndef SB_GATEWAY_METRICS_IMPL_H
#define SB_GATEWAY_METRICS_IMPL_H

#include <stdio.h>

#include "format/base.h"

struct labels {
	char text[512];
	size_t n;
};

void metrics_put_head(FILE *f, const char *name, const char *type, const char *help);
/* The labels before and another one. Values may come from a configuration, by way of the agent, and hold anything that
 * UTF-8 can; one that does not fit is cut. */
struct labels metrics_label(const struct labels *before, const char *label, size_t label_len, const char *value);

#endif
