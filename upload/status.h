/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the uploader has done, in a file that everybody may read: the gateway's /metrics, the textfile collector of
 * node_exporter. Prometheus text format; the last error is a comment: "# last error: ...".
 */
#ifndef SB_UPLOAD_STATUS_H
#define SB_UPLOAD_STATUS_H

#include "upload/upload.h"

/* By a temporary file and rename. 0 or a negative errno. */
int status_write(const struct upload *u, const char *path);

#endif
