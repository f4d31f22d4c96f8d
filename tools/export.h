/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the exports share: the events that pass the filter, one by one or in time order and small, the
 * distinct pairs of user and kernel stack, and names that are safe to write.
 *
 * Weights are those of fold: samples, threads, else microseconds. Every export of a bundle
 * therefore has the totals of "stallbox fold"; what is drawn as a span is as long as the one that was
 * recorded, and says for how many it stands.
 */
#ifndef SB_TOOLS_EXPORT_H
#define SB_TOOLS_EXPORT_H

#include "tools/escape.h"
#include "tools/fold.h"

struct export_event {
	uint64_t ts_ns; /* end of a span, moment of a sample */
	uint64_t duration_ns;
	uint64_t weight; /* as fold counts it, for all that it stands for; 0 for kinds that fold does not know */
	uint32_t thread, pair, flags;
	uint32_t what; /* by kind: peer, lock flags, system call, name ... */
	uint32_t stands_for; /* spans, 1 unless sampled: duration_ns and the pages are of one */
	union {
		uint32_t scanned; /* reclaim: pages */
		uint32_t irq;	  /* hardirq: its number */
	};
	uint32_t reclaimed; /* reclaim: pages */
	uint16_t cpu;
	uint8_t kind; /* enum bundle_kind; BUNDLE_KIND_NONE: a thread of the stackshot */
	char state;   /* off-CPU and stackshot: as ps(1) has it, else 0 */
};

struct export_pair {
	uint32_t kstack, ustack;
	uint32_t lost; /* as fold_row.lost */
};

struct export {
	struct bundle *b;
	struct filter *filter; /* its kinds are those that are written */
	FILE *out;
	uint64_t first_ns, last_ns; /* of the events given so far, spans from their begin on; 0: none */

	struct export_event *event; /* export_collect(): in time order */
	size_t n, cap;
	struct export_pair *pair; /* index: export_event.pair */
	uint32_t n_pairs, cap_pairs;
	struct map64 pairs;
	struct fold fold; /* its names and frames only */
	char **text;	  /* export_name(), by names id - 1 */
	uint32_t n_text;
	enum escape_form form;
	bool failed; /* no memory */
};

/* "folded", "pprof", ... */
struct export_format {
	const char *name;
	int (*write)(struct export *x);
	unsigned int kinds; /* as filter.kinds; when none is asked for */
	bool one_kind, weights; /* one sample type; nothing but stacks with weights */
	enum escape_form form;
};

/* Sets up; the bundle, the filter and the stream are borrowed. */
void export_init(struct export *x, struct bundle *b, struct filter *filter, FILE *out);
void export_done(struct export *x);
/* Calls fn for what the filter lets through: events in the order of the file, then threads of the stackshot.
 * A non-zero return of fn stops and is returned; else 0 or negative errno. */
typedef int (*export_fn)(const struct export_event *e, void *ctx);
int export_each(struct export *x, export_fn fn, void *ctx);
/* Reads them all into memory, in time order. 0 or negative errno. */
int export_collect(struct export *x);
/* Of two stacks; flags as an event's. Sets failed without memory. */
uint32_t export_pair_of(struct export *x, uint32_t kstack, uint32_t ustack, uint32_t flags);
/* Frames of a pair, root first: user frames, kernel frames. Returns how many names ids. */
uint32_t export_frames(struct export *x, uint32_t pair, uint32_t *ret_ids, uint32_t max);
/* A name in the form of the output; valid until export_done(). */
const char *export_name(struct export *x, uint32_t id);
enum fold_kind export_fold_kind(uint8_t kind); /* FOLD_KINDS: none (oom) */
/* Kinds of which one event may stand for several. */
bool export_is_sampled(uint8_t kind);
/* "samples", "threads" or "microseconds". */
const char *export_unit(enum fold_kind kind);
/* Wall clock of a time, ns since 1970; 0 unknown. */
int64_t export_realtime(const struct export *x, uint64_t ts_ns);
/* "host: trigger ..., losses ..." for people, not escaped. */
void export_title(const struct export *x, char *ret, size_t len);

/* A JSON string with its quotes. */
void export_json(FILE *out, const char *s);

int export_folded(struct export *x);
int export_pprof(struct export *x);
int export_speedscope(struct export *x);
int export_firefox(struct export *x);
int export_perfetto(struct export *x);
int export_perf_script(struct export *x);
int export_ndjson(struct export *x);

#endif
