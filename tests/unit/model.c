// SPDX-License-Identifier: BSD-2-Clause
/* What a test of the BPF programs need not give itself: no stack has frames, nobody is woken, no
 * timer runs. A test's own functions of these names take their place. */
#include "bpf/bpf_helpers.h"

_Thread_local uint32_t model_cpu;
_Thread_local uint64_t model_pid_tgid;

__weak long model_stack(void *buf, uint32_t bytes, uint64_t flags)
{
	(void)buf, (void)bytes, (void)flags;
	return 0;
}

__weak void model_hit(const void *hit)
{
	(void)hit;
}

__weak void model_timer(const void *timer, uint64_t ns)
{
	(void)timer, (void)ns;
}
