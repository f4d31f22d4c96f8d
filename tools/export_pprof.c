// SPDX-License-Identifier: BSD-2-Clause
/*
 * pprof: profile.proto of github.com/google/pprof, gzip. Every kind is a sample type, so that
 * one file answers all of them; a thread's name and ids are labels ("pprof -tagroot thread").
 */
#include <errno.h>
#include <zlib.h>

#include "tools/commands.h"
#include "tools/export.h"
#include "tools/wire.h"

/* Field numbers of perftools.profiles. */
enum {
	PROFILE_SAMPLE_TYPE = 1, PROFILE_SAMPLE = 2, PROFILE_MAPPING = 3, PROFILE_LOCATION = 4, PROFILE_FUNCTION = 5,
	PROFILE_STRING_TABLE = 6, PROFILE_TIME_NANOS = 9, PROFILE_DURATION_NANOS = 10, PROFILE_PERIOD_TYPE = 11,
	PROFILE_PERIOD = 12, PROFILE_COMMENT = 13, PROFILE_DEFAULT_SAMPLE_TYPE = 14,
	VALUE_TYPE_TYPE = 1, VALUE_TYPE_UNIT = 2,
	SAMPLE_LOCATION_ID = 1, SAMPLE_VALUE = 2, SAMPLE_LABEL = 3,
	LABEL_KEY = 1, LABEL_STR = 2, LABEL_NUM = 3,
	MAPPING_ID = 1, MAPPING_MEMORY_START = 2, MAPPING_MEMORY_LIMIT = 3, MAPPING_FILENAME = 5, MAPPING_HAS_FUNCTIONS = 7,
	LOCATION_ID = 1, LOCATION_MAPPING_ID = 2, LOCATION_ADDRESS = 3, LOCATION_LINE = 4,
	LINE_FUNCTION_ID = 1,
	FUNCTION_ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3,
};
enum { MAP_USER = 1, MAP_KERNEL = 2 };
/* The mappings stand for all programs and for the kernel. Their addresses are made up, one per
 * name: without an address of its own a location is not told from others. */
#define USER_BASE 0x1000000ULL
#define KERNEL_BASE 0xffffffff80000000ULL
#define MAP_SIZE 0x10000000ULL

/* Of one kind, thread and pair of stacks: all that is kept of the events. */
struct row {
	uint64_t value;
	uint32_t thread, pair;
	uint8_t kind; /* enum fold_kind */
};

/* The string table: 0 is "", then the names of frames by their ids, then the rest. */
struct pprof {
	struct export *x;
	struct wire out, sample, packed, inner;
	const char *words[64]; /* known before, ids 1 ... */
	uint32_t n_words;
	unsigned int kinds; /* that occur */
	struct row *row;
	size_t n, cap;
	uint32_t *thread_text; /* string ids by thread id */
	uint32_t n_threads, n_frames;
	z_stream z;
	int status; /* of z */
};

/* What is in the buffer goes out; flush: Z_NO_FLUSH, or Z_FINISH at the end. */
static void deflate_out(struct pprof *p, int flush)
{
	uint8_t buf[16384];

	p->z.next_in = p->out.data;
	p->z.avail_in = (unsigned int)p->out.len;
	do {
		p->z.next_out = buf;
		p->z.avail_out = sizeof(buf);
		p->status = deflate(&p->z, flush);
		fwrite(buf, 1, sizeof(buf) - p->z.avail_out, p->x->out);
	} while (!p->z.avail_out);
	wire_clear(&p->out);
}

#define OUT_BYTES 65536
static void keep_small(struct pprof *p)
{
	if (p->out.len > OUT_BYTES)
		deflate_out(p, Z_NO_FLUSH);
}

static uint32_t word(struct pprof *p, const char *s)
{
	for (uint32_t i = 0; i < p->n_words; i++) {
		if (!strcmp(p->words[i], s))
			return i + 1;
	}
	if (p->n_words == SB_ARRAY_SIZE(p->words))
		return 0;
	p->words[p->n_words++] = s;
	return p->n_words;
}

static void put_value_type(struct pprof *p, uint32_t field, enum fold_kind kind)
{
	wire_number(&p->inner, VALUE_TYPE_TYPE, word(p, fold_kind_name(kind)));
	wire_number(&p->inner, VALUE_TYPE_UNIT,
		    word(p, kind == FOLD_ON_CPU || kind == FOLD_BLOCKED ? "count" : "microseconds"));
	wire_message(&p->out, field, &p->inner);
}

static void put_label(struct pprof *p, const char *key, uint32_t text, uint64_t number)
{
	wire_number(&p->inner, LABEL_KEY, word(p, key));
	if (text)
		wire_number(&p->inner, LABEL_STR, text);
	else
		wire_number(&p->inner, LABEL_NUM, number);
	wire_message(&p->sample, SAMPLE_LABEL, &p->inner);
}

/* One thread on one stack, with a value for each kind. */
static void put_sample(struct pprof *p, uint32_t thread, uint32_t pair, const uint64_t value[FOLD_KINDS])
{
	const struct bundle_thread *t = bundle_thread(p->x->b, thread);
	uint32_t ids[FOLD_MAX_FRAMES], n = export_frames(p->x, pair, ids, FOLD_MAX_FRAMES);

	for (uint32_t i = n; i > 0; i--) /* leaf first */
		wire_varint(&p->packed, ids[i - 1]);
	wire_message(&p->sample, SAMPLE_LOCATION_ID, &p->packed);
	for (int k = 0; k < FOLD_KINDS; k++) {
		if (p->kinds & 1u << k)
			wire_varint(&p->packed, SB_MIN(value[k], (uint64_t)INT64_MAX));
	}
	wire_message(&p->sample, SAMPLE_VALUE, &p->packed);
	put_label(p, "thread", p->thread_text[thread < p->n_threads ? thread : 0], 0);
	put_label(p, "tid", 0, t->tid);
	put_label(p, "pid", 0, bundle_process(p->x->b, t->process)->pid);
	wire_message(&p->out, PROFILE_SAMPLE, &p->sample);
	keep_small(p);
}

static int by_stack(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->thread != y->thread)
		return x->thread < y->thread ? -1 : 1;
	return x->pair < y->pair ? -1 : x->pair > y->pair;
}

static int by_stack_and_kind(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int r = by_stack(a, b);

	return r ? r : x->kind - y->kind;
}

/* Rows that count the same become one, in order. */
static void merge_rows(struct pprof *p)
{
	size_t n = 0;

	if (p->n)
		qsort(p->row, p->n, sizeof(*p->row), by_stack_and_kind);
	for (size_t i = 0; i < p->n; i++) {
		if (!n || by_stack_and_kind(&p->row[n - 1], &p->row[i]))
			p->row[n++] = p->row[i];
		else if (__builtin_add_overflow(p->row[n - 1].value, p->row[i].value, &p->row[n - 1].value))
			p->row[n - 1].value = UINT64_MAX;
	}
	p->n = n;
}

static int make_room(struct pprof *p)
{
	size_t cap = p->cap ? p->cap * 2 : 4096;
	void *bigger;

	merge_rows(p);
	if (p->n < p->cap / 2)
		return 0;
	bigger = realloc(p->row, cap * sizeof(*p->row));
	if (!bigger)
		return -ENOMEM;
	p->row = bigger;
	p->cap = cap;
	return 0;
}

static int add_event(const struct export_event *e, void *ctx)
{
	struct pprof *p = ctx;
	enum fold_kind kind = export_fold_kind(e->kind);

	if (p->n == p->cap && make_room(p) < 0)
		return -ENOMEM;
	p->row[p->n++] = (struct row){ e->weight, e->thread, e->pair, (uint8_t)kind };
	p->kinds |= 1u << kind;
	return 0;
}

static void put_samples(struct pprof *p)
{
	uint64_t value[FOLD_KINDS] = {};

	merge_rows(p);
	for (size_t i = 0; i < p->n; i++) {
		value[p->row[i].kind] = p->row[i].value;
		if (i + 1 < p->n && !by_stack(&p->row[i], &p->row[i + 1]))
			continue;
		put_sample(p, p->row[i].thread, p->row[i].pair, value);
		memset(value, 0, sizeof(value));
	}
}

static void put_mapping(struct pprof *p, uint32_t id, uint64_t start, const char *name)
{
	wire_number(&p->inner, MAPPING_ID, id);
	wire_number(&p->inner, MAPPING_MEMORY_START, start);
	wire_number(&p->inner, MAPPING_MEMORY_LIMIT, start + MAP_SIZE);
	wire_number(&p->inner, MAPPING_FILENAME, word(p, name));
	wire_number(&p->inner, MAPPING_HAS_FUNCTIONS, 1);
	wire_message(&p->out, PROFILE_MAPPING, &p->inner);
}

static void put_functions(struct pprof *p, const bool *used, uint32_t first_text)
{
	struct names *names = &p->x->fold.names;

	for (uint32_t id = 1; id <= p->n_frames; id++) {
		bool kernel = names_class(names, id) == FRAME_KERNEL;

		if (!used[id])
			continue;
		wire_number(&p->inner, FUNCTION_ID, id);
		wire_number(&p->inner, FUNCTION_NAME, first_text + id - 1);
		wire_number(&p->inner, FUNCTION_SYSTEM_NAME, first_text + id - 1);
		wire_message(&p->out, PROFILE_FUNCTION, &p->inner);
		wire_number(&p->packed, LINE_FUNCTION_ID, id);
		wire_number(&p->inner, LOCATION_ID, id);
		wire_number(&p->inner, LOCATION_MAPPING_ID, kernel ? MAP_KERNEL : MAP_USER);
		wire_number(&p->inner, LOCATION_ADDRESS, (kernel ? KERNEL_BASE : USER_BASE) + id);
		wire_message(&p->inner, LOCATION_LINE, &p->packed);
		wire_message(&p->out, PROFILE_LOCATION, &p->inner);
		keep_small(p);
	}
}

static void put_text(struct pprof *p, const char *s)
{
	char buf[2048];

	escape_copy(buf, sizeof(buf), ESCAPE_TERMINAL, s);
	wire_text(&p->out, PROFILE_STRING_TABLE, buf);
}

/* Strings: "", words, frames, threads' names. All words have to be known by now. */
static void put_strings(struct pprof *p)
{
	wire_text(&p->out, PROFILE_STRING_TABLE, "");
	for (uint32_t i = 0; i < SB_ARRAY_SIZE(p->words); i++)
		put_text(p, i < p->n_words ? p->words[i] : "");
	for (uint32_t id = 1; id <= p->x->fold.names.n; id++) {
		wire_text(&p->out, PROFILE_STRING_TABLE, export_name(p->x, id));
		keep_small(p);
	}
}

static void put_head(struct pprof *p, const char *title)
{
	const struct bundle_header *h = bundle_header(p->x->b);
	int64_t begin = export_realtime(p->x, p->x->first_ns);

	for (int k = 0; k < FOLD_KINDS; k++) {
		if (p->kinds & 1u << k)
			put_value_type(p, PROFILE_SAMPLE_TYPE, (enum fold_kind)k);
	}
	if (begin > 0)
		wire_number(&p->out, PROFILE_TIME_NANOS, (uint64_t)begin);
	wire_number(&p->out, PROFILE_DURATION_NANOS, p->x->last_ns - p->x->first_ns);
	if (h && h->sample_period_ns && p->kinds & 1u << FOLD_ON_CPU) {
		wire_number(&p->inner, VALUE_TYPE_TYPE, word(p, "cpu"));
		wire_number(&p->inner, VALUE_TYPE_UNIT, word(p, "nanoseconds"));
		wire_message(&p->out, PROFILE_PERIOD_TYPE, &p->inner);
		wire_number(&p->out, PROFILE_PERIOD, h->sample_period_ns);
	}
	wire_number(&p->out, PROFILE_COMMENT, word(p, title));
	wire_number(&p->out, PROFILE_DEFAULT_SAMPLE_TYPE,
		    word(p, fold_kind_name((enum fold_kind)__builtin_ctz(p->kinds))));
}

static int name_all(struct pprof *p, bool **ret_used)
{
	struct names *names = &p->x->fold.names;
	uint32_t ids[FOLD_MAX_FRAMES];
	bool *used;

	for (uint32_t i = 0; i < p->x->n_pairs; i++)
		export_frames(p->x, i, ids, FOLD_MAX_FRAMES);
	p->n_frames = names->n;
	used = calloc(names->n + 1u, 1);
	p->n_threads = bundle_n_threads(p->x->b) + 1;
	p->thread_text = calloc(p->n_threads, sizeof(*p->thread_text));
	if (!used || !p->thread_text) {
		free(used);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < p->x->n_pairs; i++) {
		for (uint32_t n = export_frames(p->x, i, ids, FOLD_MAX_FRAMES); n > 0; n--)
			used[ids[n - 1]] = true;
	}
	used[0] = false;
	*ret_used = used;
	return 0;
}

static int build(struct pprof *p)
{
	const uint32_t first_text = 1 + SB_ARRAY_SIZE(p->words);
	_cleanup_free_ bool *used = NULL;
	char title[1200];
	int r = name_all(p, &used);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < p->n_threads; i++) {
		const char *comm = bundle_thread(p->x->b, i)->comm;

		p->thread_text[i] = first_text + names_text(&p->x->fold.names, *comm ? comm : "[unknown]", FRAME_COMM) - 1;
	}
	export_title(p->x, title, sizeof(title));
	put_head(p, title);
	put_samples(p);
	put_mapping(p, MAP_USER, USER_BASE, "[user]");
	put_mapping(p, MAP_KERNEL, KERNEL_BASE, "[kernel]");
	put_functions(p, used, first_text);
	put_strings(p);
	return p->out.failed || p->sample.failed ? -ENOMEM : 0;
}

int export_pprof(struct export *x)
{
	struct pprof p = { .x = x, .kinds = x->filter->kinds & 1u << BUNDLE_ON_CPU ? 1u << FOLD_ON_CPU : 0 };
	int r = export_each(x, add_event, &p);

	if (!p.kinds)
		p.kinds = 1u << export_fold_kind((uint8_t)__builtin_ctz(x->filter->kinds));
	if (r == 0 && deflateInit2(&p.z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		r = -ENOMEM;
	if (r == 0) {
		r = build(&p);
		deflate_out(&p, Z_FINISH);
		deflateEnd(&p.z);
		if (r == 0 && p.status != Z_STREAM_END)
			r = -EIO;
	}
	wire_done(&p.out);
	wire_done(&p.sample);
	wire_done(&p.packed);
	wire_done(&p.inner);
	free(p.thread_text);
	free(p.row);
	return r;
}
