/* SPDX-License-Identifier: BSD-2-Clause */
/* The directories that stallboxd keeps bundles in, and a bundle of them by its name. */
#ifndef SB_TOOLS_PLACES_H
#define SB_TOOLS_PLACES_H

#include "config/config.h"
#include "format/file_name.h"

#define PLACES_MAX 2

/* Not to be copied: dir may point into it. */
struct places {
	const char *dir[PLACES_MAX];
	size_t n; /* at least 1 */
	char text[PLACES_MAX][CONFIG_TEXT_MAX];
};

/* dir, which has to live as long; or where it is NULL what the agent that answers on the socket says, else the
 * configuration. socket: as of client_ask(). */
void places_of(struct places *ret, const char *dir, const char *socket);
/* The first that has a regular file of this name, as *ret_dirfd, and the file itself as *ret_fd. An index into p->dir;
 * -EINVAL: no name of a bundle, -ENOENT: none has it, or why the first that may have it cannot be looked at. */
int places_open(const struct places *p, const char *name, int *ret_dirfd, int *ret_fd);
/* Where it lies: as places_open(). */
int places_find(const struct places *p, const char *name);

#endif
