/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The keeper: an ordinary process, forked by the starter when the agent asks (after each bundle, and every
 * hour), that keeps the directories in order and ends. It may hang on a stalled disk; another one is not
 * started meanwhile, and nothing waits for it.
 */
#ifndef SB_RECORDER_KEEPER_H
#define SB_RECORDER_KEEPER_H

#include "recorder/storage.h"

/*
 * At start: prepares both directories, each in a process of its own that is given up after a few seconds.
 * *ret_newest: spool_newest() of both with this limit. 0: one can be written, or whether it can is not known yet
 * (-ETIMEDOUT in st->dir[].error); else the error of the first.
 */
int keeper_prepare(const struct spool *s, struct storage *st, uint64_t limit_ms, uint64_t *ret_newest);

/* Temporaries, limits, what is no bundle, marks of uploads; again if that was asked for meanwhile. */
void keeper_run(const struct spool *s, gid_t gid, struct storage *st);

#endif
