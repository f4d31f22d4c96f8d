/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which bundles of a directory an uploader has delivered. The recorder's retention asks before it deletes,
 * where bundles are kept until they are uploaded.
 *
 * The mark of DIRECTORY/NAME is the file DIRECTORY/.uploaded/NAME: not an extended attribute, which tmpfs has
 * since Linux 6.6 only and which whoever uploads would need the right to write to the bundle for. It holds the
 * size and the time of the last change of what was delivered, in text: "SIZE MTIME_NS\n". A bundle that has
 * changed since is not uploaded. The recorder creates the directory, writable for its group, and removes
 * the marks of bundles that are gone. Whoever may enter the directory may read them: they belong to another user than
 * those who look, and say nothing that the directory of bundles does not say.
 */
#ifndef SB_FORMAT_UPLOADED_H
#define SB_FORMAT_UPLOADED_H

#include <sys/stat.h>

#include "format/base.h"

#define UPLOADED_DIR ".uploaded"
/* What the uploader has counted, in the Prometheus text format; renewed once a minute at least. */
#define UPLOAD_STATUS "/run/stallbox-upload/status.prom"

/* dirfd: the directory of the bundle; st: of the bundle. */
bool uploaded_is(int dirfd, const char *name, const struct stat *st);
/* When, in seconds of CLOCK_REALTIME; -1: it is not. */
int64_t uploaded_at(int dirfd, const char *name, const struct stat *st);

/* st: as fstat() gave it when the bundle was opened for its upload. Durable on return. 0 or a negative errno. */
int uploaded_mark(int dirfd, const char *name, const struct stat *st);

/* The bundle is gone, or is to be uploaded again. */
void uploaded_forget(int dirfd, const char *name);

#endif
