// SPDX-License-Identifier: BSD-2-Clause
/* A person or a program asks: `stallbox freeze` and SIGUSR1. There is nothing to watch; the
 * agent makes the hit. The ops exist so that a bundle's trigger always has a kind. */
#include "triggers/parse.h"

const struct trigger_ops trigger_manual = { .kind = "manual", .syntax = "manual" };
