/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of system calls by number and architecture. */
#ifndef SB_TOOLS_SYSCALLS_H
#define SB_TOOLS_SYSCALLS_H

#include "format/base.h"

/* arch as in the bundle's header (uname -m). Static text, or "syscall_N" in buf. */
const char *syscall_name(const char *arch, uint32_t nr, char buf[32]);

#endif
