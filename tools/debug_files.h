/* SPDX-License-Identifier: BSD-2-Clause */
/* Files with symbols by their build-id: below a directory as distributions install them, on this host, of debuginfod. */
#ifndef SB_TOOLS_DEBUG_FILES_H
#define SB_TOOLS_DEBUG_FILES_H

#include "format/base.h"

struct debug_sources {
	const char *dir;     /* symbols below it; then below / */
	bool debuginfod;     /* at last the servers of DEBUGINFOD_URLS are asked, once for each build-id */
	bool servers_failed; /* they did not answer, which was said, and are not asked any more */
	struct debug_answer *answers;
};

void debug_sources_done(struct debug_sources *s);

/* true: that was it. detached: symbols without the code. The descriptor stays the caller's. */
typedef bool debug_take(void *ctx, int fd, bool detached);

/* Hands files of this build-id to take() until it takes one. path: where the file lay on its own host. */
bool debug_find(struct debug_sources *sources, const uint8_t *id, size_t len, const char *path, debug_take *take, void *ctx);

#endif
