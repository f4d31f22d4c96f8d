// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/announce.h"

#include <stdio.h>

#include "format/log.h"
#include "recorder/systemd.h"

#define COMPLETE_ID "71480b73a7064c6993e3a6946c71086a"
#define LOST_ID "2106eab6f1dd454095add19cd961043f"

struct texts {
	char value[32], threshold[32], bytes[24], events[24];
};

/* The fields of both entries from `at` on. How many. */
static size_t add_cause(struct systemd_field *at, const struct capture_cause *c, struct texts *t)
{
	snprintf(t->value, sizeof(t->value), "%g", c->value);
	snprintf(t->threshold, sizeof(t->threshold), "%g", c->threshold);
	at[0] = (struct systemd_field){ "STALLBOX_TRIGGER", c->name };
	at[1] = (struct systemd_field){ "STALLBOX_KIND", c->kind };
	at[2] = (struct systemd_field){ "STALLBOX_SPEC", c->spec };
	at[3] = (struct systemd_field){ "STALLBOX_DETAIL", c->detail };
	at[4] = (struct systemd_field){ "STALLBOX_VALUE", t->value };
	at[5] = (struct systemd_field){ "STALLBOX_THRESHOLD", t->threshold };
	at[6] = (struct systemd_field){ "STALLBOX_UNIT", c->unit };
	return 7;
}

void announce_complete(const struct capture_cause *cause, const struct capture_report *r)
{
	struct texts t = {};
	char message[BUNDLE_FILE_MAX + 400];
	struct systemd_field f[16] = { { "MESSAGE_ID", COMPLETE_ID }, { "PRIORITY", "5" },
				       { "SYSLOG_IDENTIFIER", "stallboxd" }, { "MESSAGE", message } };
	size_t n = 4;

	snprintf(message, sizeof(message), "complete: %s, %llu KiB, %llu events", r->path,
		 (unsigned long long)(r->value >> 10), (unsigned long long)r->events);
	snprintf(t.bytes, sizeof(t.bytes), "%llu", (unsigned long long)r->value);
	snprintf(t.events, sizeof(t.events), "%llu", (unsigned long long)r->events);
	n += add_cause(&f[n], cause, &t);
	f[n++] = (struct systemd_field){ "STALLBOX_BUNDLE", r->path };
	f[n++] = (struct systemd_field){ "STALLBOX_BYTES", t.bytes };
	f[n++] = (struct systemd_field){ "STALLBOX_EVENTS", t.events };
	if (systemd_journal(f, n) <= 0)
		log_info("%s", message);
}

void announce_lost(const struct capture_cause *cause, const char *file, const char *why)
{
	struct texts t = {};
	char message[BUNDLE_FILE_MAX + 400];
	struct systemd_field f[16] = { { "MESSAGE_ID", LOST_ID }, { "PRIORITY", "3" },
				       { "SYSLOG_IDENTIFIER", "stallboxd" }, { "MESSAGE", message } };
	size_t n = 4;

	snprintf(message, sizeof(message), "%s", why);
	n += add_cause(&f[n], cause, &t);
	f[n++] = (struct systemd_field){ "STALLBOX_FILE", file };
	if (systemd_journal(f, n) <= 0)
		log_err("%s", message);
}
