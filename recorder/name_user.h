/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of user functions, once the raw bundle is durable. Who had what mapped is asked of the
 * mapping process (f->known); only of processes that it does not know /proc/PID/maps is read, with
 * a deadline. Files are opened through the process's own root and are hostile.
 */
#ifndef SB_RECORDER_NAME_USER_H
#define SB_RECORDER_NAME_USER_H

#include "recorder/freeze.h"

/* true: nothing was given up for lack of time. */
bool name_user(struct freeze *f);

/* Who had which file mapped, of what is known without asking or reading anything: with it
 * "stallbox symbolize" can give the names later. */
void map_user(struct freeze *f);

#endif
