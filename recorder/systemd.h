/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the agent tells the service manager and the journal: one datagram each, by the protocols of sd_notify(3) and
 * https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. Nothing here ever waits: the journal may be what is stuck, and
 * libsystemd's calls wait for it.
 */
#ifndef SB_RECORDER_SYSTEMD_H
#define SB_RECORDER_SYSTEMD_H

#include "format/base.h"

/* Lines of NAME=VALUE, as sd_notify(3) lists them. 1: told, 0: no service manager asked for it
 * ($NOTIFY_SOCKET), or a negative errno. */
int systemd_notify(const char *state);
/* How often WATCHDOG=1 is expected of this process ($WATCHDOG_USEC, $WATCHDOG_PID); 0: never. */
uint64_t systemd_watchdog_ns(void);

struct systemd_field {
	const char *name; /* [A-Z0-9_] */
	const char *value; /* any text */
};

/* One entry of the journal with these fields; the manager adds whose it is. 1: told, 0: standard error is
 * not the journal's ($JOURNAL_STREAM), so that a line there says it better, or a negative errno. */
int systemd_journal(const struct systemd_field *field, size_t n);
/* The datagram of systemd_journal(). Its length, or -EMSGSIZE. */
int systemd_journal_encode(const struct systemd_field *field, size_t n, char *ret, size_t size);

#endif
