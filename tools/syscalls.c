// SPDX-License-Identifier: BSD-2-Clause
#include "tools/syscalls.h"

#include <stdio.h>

/* Numbers from <asm/unistd_64.h> and <asm-generic/unistd.h>, made into tables by the build. */
static const char *const x86_64[] = {
#include "tools/syscalls-x86_64.inc"
};
static const char *const generic[] = {
#include "tools/syscalls-generic.inc"
};

const char *syscall_name(const char *arch, uint32_t nr, char buf[32])
{
	const char *const *names = !strcmp(arch, "x86_64") ? x86_64 : generic;
	size_t n = !strcmp(arch, "x86_64") ? SB_ARRAY_SIZE(x86_64) : SB_ARRAY_SIZE(generic);

	if (nr < n && names[nr])
		return names[nr];
	snprintf(buf, 32, "syscall_%u", nr);
	return buf;
}
