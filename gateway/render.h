/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bundle as a page: `stallbox html` as a process of its own, confined (format/confined.h). Bundles are read by a parser
 * that may be attacked: it can give a wrong page, which runs in a sandbox of the browser, or none.
 */
#ifndef SB_GATEWAY_RENDER_H
#define SB_GATEWAY_RENDER_H

#include <pthread.h>

#include "format/base.h"

#define RENDER_QUEUE 4 /* waiting for the one that runs */
#define RENDER_LIMIT_S 60
#define RENDER_CPU_S 60
#define RENDER_MEMORY (1ULL << 30) /* address space */
#define RENDER_PAGE (64ULL << 20)

struct render {
	const char *program; /* stallbox */
	pthread_mutex_t lock, turn;
	int waiting;
};

void render_init(struct render *r, const char *program);
/* Renders DIR/NAME into an unlinked file in memory, *ret_fd. 0; -EBUSY: too many wait already; -ETIME; else
 * a negative errno with what the program said in ret_error. */
int render_page(struct render *r, const char *dir, const char *name, int *ret_fd, char *ret_error, size_t len);

#endif
