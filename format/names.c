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

const char *bundle_unwind_name(uint32_t unwind)
{
	static const char *const names[] = { "unknown", "kernel", "frame-pointer", "eh_frame" };

	return (unwind & 15) < SB_ARRAY_SIZE(names) ? names[unwind & 15] : "unknown";
}

const char *bundle_unwind_end_name(uint32_t unwind)
{
	static const char *const names[BUNDLE_END_COUNT] = {
		[BUNDLE_END_UNKNOWN] = "unknown",
		[BUNDLE_END_COMPLETE] = "complete",
		[BUNDLE_END_DEPTH] = "depth",
		[BUNDLE_END_NO_MAPPING] = "no mapping",
		[BUNDLE_END_NO_ROWS] = "no rows",
		[BUNDLE_END_UNSUPPORTED] = "unsupported rule",
		[BUNDLE_END_NOT_RESIDENT] = "page not resident",
		[BUNDLE_END_BAD_STACK] = "bad stack",
		[BUNDLE_END_STALE] = "table evicted",
	};

	return (unwind >> 4 & 15) < BUNDLE_END_COUNT ? names[unwind >> 4 & 15] : "unknown";
}
