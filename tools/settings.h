/* SPDX-License-Identifier: BSD-2-Clause */
/* What stallbox.conf(5) says on this host: where the agent listens, and keeps bundles if it does not say so itself. */
#ifndef SB_TOOLS_SETTINGS_H
#define SB_TOOLS_SETTINGS_H

#include "config/config.h"

/* Read when it is first asked for. Of a configuration that is wrong the defaults, after a warning on standard error. */
const struct config *settings(void);

#endif
