// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BIT(capability) (1ULL << (capability))

/* Load and attach programs; sampling events, and the memory of the kernel in stacks. */
#define OBSERVE (BIT(CAP_BPF) | BIT(CAP_PERFMON))
/* Names: addresses in kallsyms; maps and files of other users' processes, deleted ones too. */
#define NAMES (BIT(CAP_SYSLOG) | BIT(CAP_SYS_PTRACE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_CHECKPOINT_RESTORE))

static const struct {
	uint64_t permitted, effective;
} sets[] = {
	[PRIVILEGES_SETUP] = { OBSERVE | NAMES | BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_RESOURCE) | BIT(CAP_SYS_NICE) |
				       BIT(CAP_IPC_LOCK),
			       ~0ULL },
	[PRIVILEGES_LOOP] = { OBSERVE | NAMES | BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_RESOURCE) | BIT(CAP_IPC_LOCK),
			      OBSERVE | BIT(CAP_SYS_RESOURCE) | BIT(CAP_IPC_LOCK) },
	[PRIVILEGES_SIDEBAND] = { OBSERVE | NAMES | BIT(CAP_SYS_ADMIN) | BIT(CAP_IPC_LOCK), ~0ULL },
	[PRIVILEGES_CAPTURES] = { OBSERVE | NAMES | BIT(CAP_IPC_LOCK), ~0ULL },
	[PRIVILEGES_NAMES] = { NAMES, ~0ULL },
	[PRIVILEGES_NONE] = { 0, 0 },
};

static bool kept_back; /* CAP_SYS_ADMIN is there, and not in effect */

static uint64_t permitted_now(void)
{
	uint64_t set = 0;

	capng_get_caps_process();
	for (unsigned int c = 0; c <= CAP_LAST_CAP; c++)
		set |= capng_have_capability(CAPNG_PERMITTED, c) ? BIT(c) : 0;
	return set;
}

static void put(capng_type_t type, uint64_t set)
{
	for (unsigned int c = 0; c <= CAP_LAST_CAP; c++) {
		if (set & BIT(c))
			capng_update(CAPNG_ADD, type, c);
	}
}

int privileges_become(enum privileges_role role)
{
	uint64_t permitted = permitted_now() & sets[role].permitted;
	bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	int r = 0;

	/* A command of a health check that root runs would get back all that the bounding set allows. */
	if (role == PRIVILEGES_NONE)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	capng_clear(CAPNG_SELECT_BOTH);
	put(CAPNG_PERMITTED, permitted);
	put(CAPNG_EFFECTIVE, permitted & sets[role].effective);
	put(CAPNG_BOUNDING_SET, permitted);
	/* What cannot be taken out of the bounding set is given up all the same. */
	if (bounds && capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		r = -EPERM;
	kept_back = role == PRIVILEGES_LOOP && permitted & BIT(CAP_SYS_ADMIN);
	return capng_apply(CAPNG_SELECT_CAPS) < 0 ? -EPERM : r;
}

void privileges_join(gid_t group)
{
	gid_t groups[64];
	int n = getgroups(63, groups);

	if (n < 0 || group == (gid_t)-1 || group == getegid())
		return;
	for (int i = 0; i < n; i++) {
		if (groups[i] == group)
			return;
	}
	groups[n] = group;
	setgroups((size_t)n + 1, groups);
}

static void set_admin(capng_act_t act)
{
	if (!kept_back)
		return;
	capng_update(act, CAPNG_EFFECTIVE, CAP_SYS_ADMIN);
	capng_apply(CAPNG_SELECT_CAPS);
}

void privileges_raise(void)
{
	set_admin(CAPNG_ADD);
}

void privileges_lower(void)
{
	set_admin(CAPNG_DROP);
}
