// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/dirwalk.h"

#include <dirent.h>
#include <errno.h>

const char *dirwalk_next(struct dirwalk *w)
{
	const struct dirent64 *e;

	if (!w->begun && lseek(w->fd, 0, SEEK_SET) < 0)
		return NULL;
	w->begun = true;
	do {
		if (w->pos >= w->len) {
			w->len = TEMP_FAILURE_RETRY(getdents64(w->fd, w->buf, sizeof(w->buf)));
			w->pos = 0;
			if (w->len <= 0)
				return NULL;
		}
		e = (const void *)(w->buf + w->pos);
		w->pos += e->d_reclen;
	} while (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."));
	return e->d_name;
}
