/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Facts about an incident: named numbers and texts that rules (tools/rules) judge by. All are of
 * one window around the trigger. A fact that the bundle cannot tell is absent, not 0.
 */
#ifndef SB_TOOLS_FACTS_H
#define SB_TOOLS_FACTS_H

#include "tools/filter.h"
#include "tools/names.h"

enum fact_form {
	FACT_COUNT,
	FACT_DECIMAL, /* such as an average number of threads */
	FACT_PERCENT,
	FACT_SECONDS,
	FACT_BYTES,
	FACT_TEXT,
};

struct fact {
	const char *key; /* "reclaim.yield_percent"; static */
	enum fact_form form;
	double value;
	char *text; /* FACT_TEXT; not escaped */
};

struct facts {
	struct fact *list;
	size_t n, cap;
	bool failed; /* no memory */
};

/* Everything that is known. The filter is started. 0 or a negative errno; facts_done() either way. */
int facts_collect(struct facts *f, struct bundle *b, struct filter *filter);
void facts_done(struct facts *f);

/* A later value takes the place of an earlier one. */
void facts_set(struct facts *f, const char *key, enum fact_form form, double value);
void facts_text(struct facts *f, const char *key, const char *text);
const struct fact *facts_get(const struct facts *f, const char *key);
static inline double facts_value(const struct facts *f, const char *key)
{
	const struct fact *x = facts_get(f, key);

	return x ? x->value : 0;
}
/* "12", "3.4", "97.1 %", "5.1 s", "4.0 GiB", the text. Returns how much it wrote. */
size_t fact_print(const struct fact *x, char *ret, size_t len);

/* The parts of facts_collect(). */
struct facts_input {
	struct bundle *b;
	struct filter *filter;
	struct names *names;
	uint64_t begin_ns, end_ns; /* the window, within what the bundle reaches over */
	double seconds, cpus;
};
int facts_from_events(struct facts *f, const struct facts_input *in);
int facts_from_stackshot(struct facts *f, const struct facts_input *in);
void facts_from_series(struct facts *f, const struct facts_input *in);
void facts_from_losses(struct facts *f, const struct facts_input *in);
/* The first frame that says what a thread waits for, such as jbd2_log_wait_commit; "". */
const char *facts_where(const struct facts_input *in, uint32_t kstack);

#endif
