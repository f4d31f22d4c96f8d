// SPDX-License-Identifier: BSD-2-Clause
/* Metrics that the gateway knows by itself: the directories, its own requests, the uploader's file. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "gateway/metrics.h"
#include "gateway/metrics_impl.h"

/* ---- storage ------------------------------------------------------------------------ */

static void put_one(FILE *f, const char *name, const char *type, const char *help, double value)
{
	metrics_put_head(f, name, type, help);
	fprintf(f, "%s %.15g\n", name, value);
}

static void put_dirs(FILE *f, const struct survey_result *s, const char *name, const char *help, size_t field)
{
	static const struct labels none;

	metrics_put_head(f, name, "gauge", help);
	for (size_t i = 0; i < CAPTURES_DIRS; i++) {
		struct labels l = metrics_label(&none, "directory", strlen("directory"), s->dir[i].path ? s->dir[i].path : "");
		uint64_t value;

		memcpy(&value, (const char *)&s->dir[i] + field, sizeof(value));
		if (s->dir[i].known)
			fprintf(f, "%s{%s} %llu\n", name, l.text, (unsigned long long)value);
	}
}

void metrics_put_storage(FILE *f, const struct survey_result *s)
{
	put_one(f, "stallbox_storage_readable", "gauge", "0: a directory of bundles cannot be read.",
		s->looked_ns && s->error == 0);
	if (!s->looked_ns)
		return;
	put_one(f, "stallbox_storage_looked_timestamp_seconds", "gauge",
		"When the directories were looked at; older than a minute: they do not answer.",
		(double)s->realtime_ms / 1e3);
	put_one(f, "stallbox_storage_captures", "gauge", "Bundles in all directories.", (double)s->captures);
	put_one(f, "stallbox_storage_captures_bytes", "gauge", "Their size.", (double)s->bytes);
	put_one(f, "stallbox_storage_odd_files", "gauge", "Files with the suffix of bundles that no bundle is like.",
		(double)s->odd);
	if (s->newest_s)
		put_one(f, "stallbox_storage_newest_capture_timestamp_seconds", "gauge", "Last change of the newest bundle.",
			(double)s->newest_s);
	put_dirs(f, s, "stallbox_storage_size_bytes", "Size of the file system.", offsetof(struct survey_dir, size_bytes));
	put_dirs(f, s, "stallbox_storage_free_bytes", "Free for ordinary users.", offsetof(struct survey_dir, free_bytes));
	put_dirs(f, s, "stallbox_storage_free_inodes", "Inodes that are free.", offsetof(struct survey_dir, free_inodes));
}

/* ---- the gateway itself ------------------------------------------------------------- */

static const char *const route_names[ROUTES] = { "none", "healthy", "ready", "page", "metrics",
						 "list", "capture", "html", "freeze", "webhook" };
static const char *const webhook_names[WEBHOOK_RESULTS] = { "frozen", "merged", "seen-before",
							    "resolved", "held-back", "failed" };

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f || fscanf(f, "%*u %lu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
	struct rusage u = {};

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static unsigned int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", ".." and the directory itself */
}

void metrics_put_gateway(FILE *f, const struct stats *s)
{
	metrics_put_head(f, "stallbox_gateway_build_info", "gauge", "Version of the gateway.");
	fprintf(f, "stallbox_gateway_build_info{version=\"%s\"} 1\n", SB_VERSION);
	metrics_put_head(f, "stallbox_gateway_requests_total", "counter", "Requests answered.");
	for (int r = 0; r < ROUTES; r++) {
		for (int code = 0; code < STATS_CODES; code++) {
			uint64_t n = stats_read(s->request[r][code]);

			if (n)
				fprintf(f, "stallbox_gateway_requests_total{route=\"%s\",code=\"%d\"} %llu\n", route_names[r],
					code, (unsigned long long)n);
		}
	}
	metrics_put_head(f, "stallbox_gateway_webhooks_total", "counter", "Notifications of Alertmanager, by what came of them.");
	for (int i = 0; i < WEBHOOK_RESULTS; i++)
		fprintf(f, "stallbox_gateway_webhooks_total{result=\"%s\"} %llu\n", webhook_names[i],
			(unsigned long long)stats_read(s->webhook[i]));
	put_one(f, "stallbox_gateway_expired_connections_total", "counter", "Connections ended at their deadline.",
		(double)stats_read(s->expired));
	put_one(f, "stallbox_gateway_displaced_connections_total", "counter",
		"Connections without a request that gave way to others, or found no room.", (double)stats_read(s->displaced));
	put_one(f, "stallbox_gateway_connections", "gauge", "Open connections.", (double)stats_read(s->connections));
	put_one(f, "stallbox_gateway_sent_bytes_total", "counter", "Bytes of bundles that were asked for.",
		(double)stats_read(s->sent_bytes));
	put_one(f, "process_cpu_seconds_total", "counter", "CPU time of the gateway.", cpu_seconds());
	put_one(f, "process_resident_memory_bytes", "gauge", "Resident memory of the gateway.", (double)resident_bytes());
	put_one(f, "process_open_fds", "gauge", "Open files of the gateway.", open_fds());
}

/* ---- the uploader's ------------------------------------------------------------------ */

/* "# HELP NAME ...", "# TYPE NAME ...", "NAME ..." of a name that is the uploader's. */
static bool is_uploads(const char *line)
{
	if (!strncmp(line, "# HELP ", 7) || !strncmp(line, "# TYPE ", 7))
		line += 7;
	return !strncmp(line, "stallbox_upload_", 16) || !strncmp(line, "stallbox_pyroscope_", 19);
}

void metrics_put_upload(FILE *f, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *text = calloc(1, 65536);
	char *line, *rest = text;
	struct stat st;

	if (fd < 0 || !text || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || read(fd, text, 65535) <= 0)
		return;
	while ((line = strsep(&rest, "\n"))) {
		if (rest && is_uploads(line)) /* a line that is cut has no end */
			fprintf(f, "%s\n", line);
	}
}
