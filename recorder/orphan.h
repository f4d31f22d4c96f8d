/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bank that the kernel froze while no agent ran. The next agent exports it under the condition
 * that froze it; stallboxd --export-pinned does so without an agent.
 */
#ifndef SB_RECORDER_ORPHAN_H
#define SB_RECORDER_ORPHAN_H

#include "recorder/capture.h"
#include "recorder/options.h"

/* Why it was frozen; c->trigger[] is still of that time. */
struct capture_cause orphan_cause(const struct sb_control *c);

/* Writes the frozen bank, and what was recorded since, as one bundle and arms the kernel's
 * conditions again. Logs what goes wrong. ret_path: BUNDLE_FILE_MAX + 256 bytes. Returns 0,
 * -ENOENT (nothing is pinned, or nothing frozen), -EBUSY (an agent runs) or another
 * negative errno. */
int orphan_export(struct options *o, char *ret_path, size_t len);

#endif
