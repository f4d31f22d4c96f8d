// SPDX-License-Identifier: BSD-2-Clause
#include "triggers/host.h"

#include <errno.h>
#include <stdio.h>

/* proc(5): user nice system idle iowait irq softirq steal. */
int host_parse_stat(const char *text, struct cpu_times *ret)
{
	unsigned long long v[8];

	if (sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
		   &v[4], &v[5], &v[6], &v[7]) != 8)
		return -ENODATA;
	ret->system = v[2] + v[5] + v[6];
	ret->total = 0;
	for (int i = 0; i < 8; i++)
		ret->total += v[i];
	return 0;
}

double host_system_percent(const struct cpu_times *prev, const struct cpu_times *cur)
{
	if (cur->total <= prev->total || cur->system < prev->system)
		return 0;
	return 100.0 * (double)(cur->system - prev->system) / (double)(cur->total - prev->total);
}

uint32_t host_begun(const struct host_reading *prev, const struct host_reading *cur)
{
	uint32_t both = prev->known & cur->known, begun = 0;

	if ((both & HOST_SYSTEM) && host_system_percent(&prev->cpu, &cur->cpu) >= HOST_SYSTEM_PERCENT)
		begun |= HOST_SYSTEM;
	for (int i = 0; i < HOST_RESOURCES; i++) {
		uint64_t stalled_ns = (cur->stalled_us[i] - prev->stalled_us[i]) * NSEC_PER_USEC;

		if ((both & HOST_STALLS(i)) && stalled_ns >= (cur->ns - prev->ns) / HOST_STALL_SHARE)
			begun |= HOST_STALLS(i);
	}
	return begun;
}
