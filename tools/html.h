/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The data of the HTML page: one JSON object of facts and tables, and one block of columns,
 * deflated and in base64, that holds what there is a million of. A column is a run of varints;
 * the JSON says where each begins. An event is a handful of small numbers, never text.
 */
#ifndef SB_TOOLS_HTML_H
#define SB_TOOLS_HTML_H

#include "tools/blame.h"
#include "tools/export.h"
#include "tools/usage.h"
#include "tools/wire.h"

#define HTML_COLUMNS 128
/* Ticks of the times of events. Finer ones would cost half of the page. */
#define HTML_TICK_NS 100000ULL

struct html {
	struct export x;
	struct wire columns;
	struct html_column {
		char name[32];
		size_t offset, len, n;
	} column[HTML_COLUMNS];
	size_t n_columns;
	const char *path; /* for the commands that the verdict names */
	uint64_t base_ns, trigger_ns;
	uint32_t *thread_at; /* by thread id: place in the page's list + 1 */
	uint32_t *threads;   /* the list: thread ids */
	uint32_t n_threads;
};

/* Reads what the page needs; html_done() either way. 0 or negative errno. */
int html_read(struct html *h, struct bundle *b, struct filter *filter, const char *path, FILE *out);
void html_done(struct html *h);
/* The JSON object, safe inside a script element; columns go to h->columns meanwhile. */
int html_put_facts(struct html *h);
/* Base64 of the deflated columns. */
int html_put_columns(struct html *h);

#endif
