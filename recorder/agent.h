/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The agent: one epoll loop that waits for triggers, reports and requests. It touches no
 * disk and no /proc/PID; what may block happens in other processes.
 *
 *   RECORDING --hit--> POST_TRIGGER --post window over, first bank read--> FREEZING
 *       ^                                                                     |
 *       +------------------ cooldown over --- COOLDOWN <----second bank read--+
 */
#ifndef SB_RECORDER_AGENT_H
#define SB_RECORDER_AGENT_H

#include "recorder/options.h"

/* Runs until SIGTERM or SIGINT. ready_fd >= 0: one byte is written there once recording.
 * Returns an exit code; has printed what went wrong. */
int agent_run(struct options *o, int ready_fd);
/* --features: what this kernel can give. */
int agent_list_features(struct options *o);

#endif
