// SPDX-License-Identifier: BSD-2-Clause
#include "upload/pyroscope.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "format/confined.h"
#include "format/reader.h"
#include "upload/key.h"

#define EXPORT_S 120		       /* a bundle of 256 MB takes 20 s */
#define EXPORT_MEMORY_BYTES (512ULL << 20) /* 12 million events with 3,000 stacks and threads: 400 MB. MemoryMax= of the unit has room for it */
#define PROFILE_BYTES (64ULL << 20) /* Pyroscope's own limits are lower */
#define TOO_OLD_S 3600

bool pyroscope_too_old(const struct timespec *mtime)
{
	return sb_realtime_ms() / 1000 > (uint64_t)mtime->tv_sec + TOO_OLD_S;
}

/* ---- the export ------------------------------------------------------------------------ */

/* As confined_run() has it. */
static int export_profile(const char *dir, const char *name, int out, const volatile sig_atomic_t *stop)
{
	char *const argv[] = { (char *)"stallbox", (char *)"export", (char *)"--format", (char *)"pprof", (char *)"--", (char *)name, NULL };
	const struct confined c = { .program = "stallbox", .argv = argv, .dir = dir, .out = out, .err = STDERR_FILENO,
				    .memory_bytes = EXPORT_MEMORY_BYTES, .output_bytes = PROFILE_BYTES, .cpu_s = EXPORT_S,
				    .limit_s = EXPORT_S, .stop = stop };

	return confined_run(&c);
}

/* ---- the request ------------------------------------------------------------------------- */

struct window {
	uint64_t from_s, until_s;
};

/* Since 1970; both 0 when the bundle does not say. */
static struct window window_of(const char *path)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	const struct bundle_header *h;
	const struct bundle_clock *c;
	struct window w = {};

	if (bundle_open(path, &b, NULL) < 0)
		return w;
	h = bundle_header(b);
	c = h && h->n_clocks ? &h->clocks[h->n_clocks - 1] : NULL;
	if (c && bundle_last_ns(b)) {
		int64_t offset = c->realtime_ns - c->monotonic_ns;

		w.from_s = (uint64_t)((int64_t)bundle_first_ns(b) + offset) / NSEC_PER_SEC;
		w.until_s = (uint64_t)((int64_t)bundle_last_ns(b) + offset) / NSEC_PER_SEC + 1;
	}
	return w;
}

/* HOST is [A-Za-z0-9._-], so that only the braces and '=' want escaping. */
static void ingest_url(const char *url, const char *path, const char *name, char *ret, size_t len)
{
	struct window w = window_of(path);
	size_t end = strlen(url);
	struct key_parts k;
	int n;

	while (end && url[end - 1] == '/')
		end--;
	if (key_parse(name, &k) < 0)
		strcpy(k.host, "unknown");
	n = snprintf(ret, len, "%.*s/ingest?name=stallbox%%7Bhost%%3D%s%%7D&format=pprof&spyName=stallbox", (int)end, url, k.host);
	if (w.until_s)
		snprintf(ret + n, len - (size_t)n, "&from=%llu&until=%llu", (unsigned long long)w.from_s, (unsigned long long)w.until_s);
}

static enum delivery send_profile(struct http *h, const char *url, int fd, struct http_answer *ret)
{
	struct http_body body = { .fd = fd };
	struct curl_slist *type = curl_slist_append(NULL, "Content-Type: binary/octet-stream");
	enum delivery d;
	struct stat st;
	CURL *c;

	if (fstat(fd, &st) == 0)
		body.len = (uint64_t)st.st_size;
	c = http_start(h, body.len);
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_POST, 1L);
	curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, type);
	d = http_perform(h, &body, ret);
	curl_slist_free_all(type);
	return d;
}

static void describe_status(int status, char *ret, size_t len)
{
	const char *what = "stallbox export --format pprof";

	if (status < 0)
		snprintf(ret, len, "%s: %s", what, strerror(-status));
	else if (WIFEXITED(status))
		snprintf(ret, len, "%s: exit status %d", what, WEXITSTATUS(status));
	else
		snprintf(ret, len, "%s: killed by signal %d", what, WTERMSIG(status));
}

enum delivery pyroscope_push(struct http *h, const char *url, const char *dir, const char *name, struct http_answer *ret)
{
	_cleanup_close_ int fd = memfd_create("profile", MFD_CLOEXEC);
	char path[600], target[700];
	int status;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	status = fd < 0 ? -errno : export_profile(dir, name, fd, h->stop);
	*ret = (struct http_answer){};
	if (*h->stop)
		return DELIVERY_STOPPED;
	if (status != 0) {
		describe_status(status, ret->text, sizeof(ret->text));
		return DELIVERY_LOCAL;
	}
	ingest_url(url, path, name, target, sizeof(target));
	return send_profile(h, target, fd, ret);
}
