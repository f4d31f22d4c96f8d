// SPDX-License-Identifier: BSD-2-Clause
/* Names of the enumerations, the same in every output. */
#include "format/bundle.h"

const char *bundle_kind_name(enum bundle_kind kind)
{
	static const char *const names[BUNDLE_KIND_COUNT] = {
		"", "on-cpu", "off-cpu", "reclaim", "lock-wait", "wakeup", "lock-hold", "syscall", "softirq",
		"block-io", "oom", "slab", "hardirq",
	};

	return (unsigned int)kind < BUNDLE_KIND_COUNT && names[kind][0] ? names[kind] : "?";
}

const char *bundle_loss_name(enum bundle_loss_cause cause)
{
	static const char *const names[] = { "?",	  "overwritten", "dropped", "evicted",
					     "truncated", "torn",	 "missed", "limited" };

	return (unsigned int)cause < SB_ARRAY_SIZE(names) ? names[cause] : "?";
}
