// SPDX-License-Identifier: BSD-2-Clause
/* The parts of a bundle that are written as they come, a chunk each: header, stackshot, losses, marks,
 * series, symbols, cost. */
#include <errno.h>

#include "format/writer_impl.h"

_Static_assert((int)BUNDLE_LOSS_LIMITED == STALLBOX__V1__LOSS_CAUSE__LOSS_LIMITED, "causes");

static ProtobufCBinaryData bytes_of(const char *s)
{
	return (ProtobufCBinaryData){ s ? strlen(s) : 0, (uint8_t *)(s ? s : "") };
}

static char *text_of(const char *s)
{
	return (char *)(s ? s : "");
}

static Stallbox__V1__KeyValue **key_values(const struct bundle_kv *kv, size_t n)
{
	Stallbox__V1__KeyValue **list = calloc(n + 1, sizeof(*list) + sizeof(**list)), *m;

	if (!list)
		return NULL;
	m = (Stallbox__V1__KeyValue *)(list + n + 1);
	for (size_t i = 0; i < n; i++) {
		stallbox__v1__key_value__init(&m[i]);
		m[i].key = bytes_of(kv[i].key);
		m[i].value = bytes_of(kv[i].value);
		list[i] = &m[i];
	}
	return list;
}

static void fill_header(Stallbox__V1__Header *m, const struct bundle_header *h)
{
	m->format_major = BUNDLE_FORMAT_MAJOR;
	m->format_minor = BUNDLE_FORMAT_MINOR;
	m->capture_id = (ProtobufCBinaryData){ sizeof(h->capture_id), (uint8_t *)h->capture_id };
	m->producer = text_of(h->producer);
	m->hostname = bytes_of(h->hostname);
	m->machine_id_hash = bytes_of(h->machine_id_hash);
	m->boot_id = bytes_of(h->boot_id);
	m->kernel_release = bytes_of(h->kernel_release);
	m->kernel_version = bytes_of(h->kernel_version);
	m->kernel_build_id =
		(ProtobufCBinaryData){ h->kernel_build_id_len, (uint8_t *)h->kernel_build_id };
	m->arch = text_of(h->arch);
	m->page_size = h->page_size;
	m->cpus_possible = h->cpus_possible;
	m->n_cpu_online = h->n_cpu_online;
	m->cpu_online = (uint32_t *)h->cpu_online;
	m->mem_total_bytes = h->mem_total_bytes;
	m->sample_period_ns = h->sample_period_ns;
	m->offcpu_threshold_ns = h->offcpu_threshold_ns;
	m->ring_bytes = h->ring_bytes;
}

static void fill_trigger(Stallbox__V1__Trigger *m, const struct bundle_trigger *t)
{
	m->name = text_of(t->name);
	m->kind = text_of(t->kind);
	m->spec = text_of(t->spec);
	m->fired_ns = t->fired_ns;
	m->value = t->value;
	m->threshold = t->threshold;
	m->unit = text_of(t->unit);
	m->detail = bytes_of(t->detail);
	m->target_tid = t->target_tid;
}

int bundle_writer_header(struct bundle_writer *w, const struct bundle_header *h)
{
	Stallbox__V1__Header m = STALLBOX__V1__HEADER__INIT;
	Stallbox__V1__Trigger trigger = STALLBOX__V1__TRIGGER__INIT;
	Stallbox__V1__ClockPoint clock[8], *clocks[8];
	Stallbox__V1__Chunk c = CHUNK_OF(header, HEADER, &m);
	Stallbox__V1__KeyValue **config = key_values(h->config, h->n_config);
	Stallbox__V1__KeyValue **missing = key_values(h->missing, h->n_missing);

	if (!config || !missing) {
		free(config);
		free(missing);
		return writer_fail(w, -ENOMEM);
	}
	fill_header(&m, h);
	fill_trigger(&trigger, &h->trigger);
	m.trigger = &trigger;
	m.n_clocks = SB_MIN(h->n_clocks, SB_ARRAY_SIZE(clock));
	for (size_t i = 0; i < m.n_clocks; i++) {
		stallbox__v1__clock_point__init(&clock[i]);
		clock[i].monotonic_ns = h->clocks[i].monotonic_ns;
		clock[i].realtime_ns = h->clocks[i].realtime_ns;
		clock[i].boottime_ns = h->clocks[i].boottime_ns;
		clocks[i] = &clock[i];
	}
	m.clocks = clocks;
	m.n_config = h->n_config;
	m.config = config;
	m.n_missing = h->n_missing;
	m.missing = missing;
	writer_put(w, &c);
	free(config);
	free(missing);
	/* A frame of its own: damage elsewhere must not take what fired and when. */
	return writer_flush_frame(w);
}

/* 15 columns of at most 5 bytes, 7 of at most 10. */
#define SHOT_BATCH 1600

static int put_shot(struct bundle_writer *w, Stallbox__V1__Stackshot *m,
		    const struct bundle_shot_thread *t, size_t n)
{
	Stallbox__V1__Chunk c = CHUNK_OF(stackshot, STACKSHOT, m);
#define COLUMN(field) S_##field,
	enum { SHOT_COLUMNS64(COLUMN) SHOT_COLUMNS_SIGNED(COLUMN) S64_COUNT };
	enum { SHOT_COLUMNS32(COLUMN) S32_COUNT };
#undef COLUMN
	uint64_t *c64 = calloc(n + 1, S64_COUNT * sizeof(*c64));
	uint32_t *c32 = calloc(n + 1, S32_COUNT * sizeof(*c32));

	if (!c64 || !c32) {
		free(c64);
		free(c32);
		return writer_fail(w, -ENOMEM);
	}
	/* A column of zeros stays out. */
#define FILL(field, col, type)                     \
	m->field = (type *)(col) + S_##field * n;         \
	for (size_t i = 0; i < n; i++) {                  \
		m->field[i] = t[i].field;                 \
		if (t[i].field)                           \
			m->n_##field = n;                 \
	}
#define COLUMN(field) FILL(field, c32, uint32_t)
	SHOT_COLUMNS32(COLUMN)
#undef COLUMN
#define COLUMN(field) FILL(field, c64, uint64_t)
	SHOT_COLUMNS64(COLUMN)
#undef COLUMN
#define COLUMN(field) FILL(field, c64, int64_t)
	SHOT_COLUMNS_SIGNED(COLUMN)
#undef COLUMN
#undef FILL
	writer_put(w, &c);
	free(c64);
	free(c32);
	return w->error;
}

int bundle_writer_stackshot(struct bundle_writer *w, uint64_t begin_ns, uint64_t end_ns,
			    const struct bundle_shot_thread *t, size_t n, uint64_t threads_seen,
			    uint64_t truncated)
{
	size_t done = 0;

	writer_flush_tables(w);
	/* A stackshot of many threads is several chunks with the same begin_ns. */
	do {
		Stallbox__V1__Stackshot m = STALLBOX__V1__STACKSHOT__INIT;
		size_t batch = SB_MIN(n - done, (size_t)SHOT_BATCH);

		m.begin_ns = begin_ns;
		m.end_ns = end_ns;
		m.threads_seen = threads_seen;
		m.truncated = truncated;
		put_shot(w, &m, t + done, batch);
		done += batch;
	} while (done < n && !w->error);
	return w->error;
}

int bundle_writer_losses(struct bundle_writer *w, uint64_t since_ns, const struct bundle_loss *l,
			 size_t n)
{
	Stallbox__V1__LossBlock m = STALLBOX__V1__LOSS_BLOCK__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(losses, LOSSES, &m);
	Stallbox__V1__Loss loss[64], *list[64];

	m.n_loss = SB_MIN(n, SB_ARRAY_SIZE(loss));
	m.loss = list;
	m.since_ns = since_ns;
	for (size_t i = 0; i < m.n_loss; i++) {
		stallbox__v1__loss__init(&loss[i]);
		loss[i].cause = (Stallbox__V1__LossCause)l[i].cause;
		loss[i].kind = (Stallbox__V1__EventKind)l[i].kind;
		loss[i].cpu = l[i].cpu;
		loss[i].count = l[i].count;
		loss[i].unit = text_of(l[i].unit);
		loss[i].what = text_of(l[i].what);
		list[i] = &loss[i];
	}
	writer_put(w, &c);
	return n > SB_ARRAY_SIZE(loss) ? bundle_writer_losses(w, since_ns, l + SB_ARRAY_SIZE(loss),
							       n - SB_ARRAY_SIZE(loss)) : w->error;
}

int bundle_writer_marks(struct bundle_writer *w, const struct bundle_mark *k, size_t n)
{
	Stallbox__V1__MarkBlock m = STALLBOX__V1__MARK_BLOCK__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(marks, MARKS, &m);
	Stallbox__V1__Mark mark[64], *list[64];

	m.n_mark = SB_MIN(n, SB_ARRAY_SIZE(mark));
	m.mark = list;
	for (size_t i = 0; i < m.n_mark; i++) {
		stallbox__v1__mark__init(&mark[i]);
		mark[i].ts_ns = k[i].ts_ns;
		mark[i].kind = text_of(k[i].kind);
		mark[i].text = bytes_of(k[i].text);
		list[i] = &mark[i];
	}
	writer_put(w, &c);
	return n > SB_ARRAY_SIZE(mark) ? bundle_writer_marks(w, k + SB_ARRAY_SIZE(mark),
							      n - SB_ARRAY_SIZE(mark)) : w->error;
}

int bundle_writer_series(struct bundle_writer *w, const struct bundle_series *s)
{
	Stallbox__V1__SeriesBlock m = STALLBOX__V1__SERIES_BLOCK__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(series, SERIES, &m);
	size_t n = SB_MIN(s->n, (size_t)8192);
	int64_t *col = calloc(n + 1, 2 * sizeof(*col));

	if (!col)
		return writer_fail(w, -ENOMEM);
	m.name = bundle_writer_string(w, s->name);
	m.scope = bundle_writer_string(w, s->scope);
	m.unit = text_of(s->unit);
	m.counter = s->counter;
	m.base_ns = n ? s->ts_ns[0] : 0;
	for (size_t i = 0; i < n; i++) {
		col[i] = (int64_t)(s->ts_ns[i] - (i ? s->ts_ns[i - 1] : m.base_ns));
		col[n + i] = (int64_t)((uint64_t)s->value[i] - (i ? (uint64_t)s->value[i - 1] : 0));
	}
	m.n_ts_delta = m.n_value_delta = n;
	m.ts_delta = col;
	m.value_delta = col + n;
	writer_flush_strings(w);
	writer_put(w, &c);
	free(col);
	return w->error;
}

#define SYMBOL_BATCH 1024

int bundle_writer_symbols(struct bundle_writer *w, uint32_t binary, const char *source,
			  const struct bundle_symbol *s, size_t n)
{
	uint64_t addr[SYMBOL_BATCH], start[SYMBOL_BATCH];
	uint32_t name[SYMBOL_BATCH], module[SYMBOL_BATCH];

	for (size_t done = 0; done < n && !w->error; done += SYMBOL_BATCH) {
		Stallbox__V1__SymbolTable m = STALLBOX__V1__SYMBOL_TABLE__INIT;
		Stallbox__V1__Chunk c = CHUNK_OF(symbols, SYMBOLS, &m);
		size_t batch = SB_MIN(n - done, (size_t)SYMBOL_BATCH);

		for (size_t i = 0; i < batch; i++) {
			addr[i] = s[done + i].addr;
			start[i] = s[done + i].sym_start;
			name[i] = bundle_writer_string(w, s[done + i].name);
			module[i] = bundle_writer_string(w, s[done + i].module);
		}
		writer_flush_strings(w);
		m.binary = binary;
		m.source = text_of(source);
		m.n_addr = m.n_sym_start = m.n_name = m.n_module = batch;
		m.addr = addr;
		m.sym_start = start;
		m.name = name;
		m.module = module;
		writer_put(w, &c);
	}
	return w->error;
}

int bundle_writer_lines(struct bundle_writer *w, uint32_t binary, const uint64_t *addr, const struct bundle_line *s,
			size_t n)
{
	uint32_t name[SYMBOL_BATCH], file[SYMBOL_BATCH], line[SYMBOL_BATCH];

	for (size_t done = 0, batch; done < n && !w->error; done += batch) {
		Stallbox__V1__LineTable m = STALLBOX__V1__LINE_TABLE__INIT;
		Stallbox__V1__Chunk c = CHUNK_OF(lines, LINES, &m);

		batch = SB_MIN(n - done, (size_t)SYMBOL_BATCH);
		/* An address is not divided. */
		for (size_t cut = batch; done + batch < n && cut; cut--) {
			if (addr[done + cut] != addr[done + cut - 1]) {
				batch = cut;
				break;
			}
		}
		for (size_t i = 0; i < batch; i++) {
			name[i] = bundle_writer_string(w, s[done + i].name);
			file[i] = bundle_writer_string(w, s[done + i].file);
			line[i] = s[done + i].line;
		}
		writer_flush_strings(w);
		m.binary = binary;
		m.n_addr = m.n_name = m.n_file = m.n_line = batch;
		m.addr = (uint64_t *)(uintptr_t)(addr + done);
		m.name = name;
		m.file = file;
		m.line = line;
		writer_put(w, &c);
	}
	return w->error;
}

int bundle_writer_cost(struct bundle_writer *w, const struct bundle_cost *s)
{
	Stallbox__V1__SelfCost m = STALLBOX__V1__SELF_COST__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(self_cost, SELF_COST, &m);
	Stallbox__V1__ProgramCost prog[64], *list[64];

#define FIELD(field) m.field = s->field;
	COST_FIELDS(FIELD)
#undef FIELD
	m.n_program = SB_MIN(s->n_programs, SB_ARRAY_SIZE(prog));
	m.program = list;
	for (size_t i = 0; i < m.n_program; i++) {
		stallbox__v1__program_cost__init(&prog[i]);
		prog[i].name = text_of(s->program[i].name);
		prog[i].run_cnt = s->program[i].run_cnt;
		prog[i].run_time_ns = s->program[i].run_time_ns;
		prog[i].recursion_misses = s->program[i].recursion_misses;
		list[i] = &prog[i];
	}
	return writer_put(w, &c);
}
