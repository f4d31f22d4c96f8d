// SPDX-License-Identifier: BSD-2-Clause
#include "upload/status.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

static void metric(FILE *f, const char *name, const char *type, const char *help, uint64_t value)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name, (unsigned long long)value);
}

/* A series for every cause there can be, so that a rate exists before the first failure. */
static void failures(FILE *f, const char *name, const char *help, const uint64_t counts[DELIVERIES])
{
	fprintf(f, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);
	for (int d = DELIVERY_UNREACHABLE; d <= DELIVERY_LOCAL; d++)
		fprintf(f, "%s{cause=\"%s\"} %llu\n", name, delivery_name((enum delivery)d), (unsigned long long)counts[d]);
}

static void write_counts(FILE *f, const struct upload_counts *c)
{
	fputs("# HELP stallbox_upload_captures_total Captures that are in the store, by how they came there.\n"
	      "# TYPE stallbox_upload_captures_total counter\n", f);
	fprintf(f, "stallbox_upload_captures_total{result=\"stored\"} %llu\n", (unsigned long long)c->stored);
	fprintf(f, "stallbox_upload_captures_total{result=\"present\"} %llu\n", (unsigned long long)c->present);
	metric(f, "stallbox_upload_bytes_total", "counter", "Bytes of the captures stored.", c->bytes);
	metric(f, "stallbox_upload_renamed_total", "counter", "Captures stored with their hash in the key: another object had it.", c->renamed);
	metric(f, "stallbox_upload_unfinished_total", "counter", "Captures stored without a footer: their writer was stopped.", c->unfinished);
	failures(f, "stallbox_upload_failures_total", "Attempts to store a capture that failed; all are repeated.", c->failed);
	metric(f, "stallbox_upload_mark_failures_total", "counter", "Marks of delivered captures that could not be written.", c->marks_failed);
	metric(f, "stallbox_pyroscope_pushed_total", "counter", "Profiles pushed to Pyroscope.", c->pushed);
	failures(f, "stallbox_pyroscope_failures_total", "Attempts to push a profile that failed.", c->push_failed);
	metric(f, "stallbox_pyroscope_turned_away_total", "counter", "Profiles that are not pushed any more: refused, or too old.", c->push_turned_away);
}

static uint64_t oldest_pending_s(const struct queue *q)
{
	return q->n ? (uint64_t)q->item[0].mtime.tv_sec : 0;
}

static void write_queue(FILE *f, const struct upload *u)
{
	const struct queue *q = &u->queue;
	uint64_t unreadable = 0;

	for (unsigned int i = 0; i < QUEUE_DIRS; i++)
		unreadable += queue_error(q, i) < 0;
	metric(f, "stallbox_upload_pending", "gauge", "Captures that wait to be delivered.", q->n + q->left_out);
	metric(f, "stallbox_upload_pending_bytes", "gauge", "Bytes of the captures that wait to be delivered.", q->pending_bytes);
	metric(f, "stallbox_upload_oldest_pending_timestamp_seconds", "gauge", "When the oldest waiting capture was written; 0: none.", oldest_pending_s(q));
	metric(f, "stallbox_upload_foreign_files", "gauge", "Files that are not named like a capture and are left alone.", q->foreign);
	metric(f, "stallbox_upload_unreadable_directories", "gauge", "Capture directories that cannot be read.", unreadable);
	metric(f, "stallbox_upload_last_delivered_timestamp_seconds", "gauge", "0: not since the uploader started.", u->last_delivered_s);
	metric(f, "stallbox_upload_last_failure_timestamp_seconds", "gauge", "0: not since the uploader started.", u->last_failed_s);
	metric(f, "stallbox_upload_last_seen_timestamp_seconds", "gauge", "When the uploader last wrote this.", sb_realtime_ms() / 1000);
}

int status_write(const struct upload *u, const char *path)
{
	char tmp[512];
	FILE *f;
	int r;

	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp", path) >= sizeof(tmp))
		return -ENAMETOOLONG;
	f = fopen(tmp, "we");
	if (!f)
		return -errno;
	write_counts(f, &u->counts);
	write_queue(f, u);
	if (u->last_error[0])
		fprintf(f, "# last error: %s\n", u->last_error);
	r = ferror(f) ? -EIO : fchmod(fileno(f), 0644) < 0 ? -errno : 0; /* whatever the mask: its readers are other users */
	if (fclose(f) != 0 || (r == 0 && rename(tmp, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(tmp);
	return r;
}
