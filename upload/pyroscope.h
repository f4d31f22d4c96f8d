/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The profile of a bundle for a Pyroscope-compatible server: what `stallbox export --format pprof` writes, sent to
 * URL/ingest?name=stallbox{host=...}&from=&until=&format=pprof, which Pyroscope of every age and Grafana Alloy take.
 */
#ifndef SB_UPLOAD_PYROSCOPE_H
#define SB_UPLOAD_PYROSCOPE_H

#include "upload/http.h"

/* Runs the export in a process of its own that is confined (format/confined.h). */
enum delivery pyroscope_push(struct http *h, const char *url, const char *dir, const char *name, struct http_answer *ret);

/* Pyroscope takes profiles of the last hour only, unless it is told otherwise. */
bool pyroscope_too_old(const struct timespec *mtime);

#endif
