// SPDX-License-Identifier: BSD-2-Clause
#include "format/writer.h"

#include <errno.h>
#include <stdio.h>
#include <zstd.h>

#include "format/capture.pb-c.h"
#include "format/columns.h"
#include "format/map64.h"

/* Microseconds: nanoseconds of noise would be a third of the file (measured). */
#define TIME_UNIT_NS 1000
/* The widest kind, RECLAIM, has 17 columns of at most 5 bytes and 6 of at most 10: the worst
 * block still fits BUNDLE_CHUNK_MAX. */
#define BLOCK_EVENTS 1400
#define BLOCKS 16
#define PENDING_FRAMES 12000
#define PENDING_ENTRIES 2048
#define PENDING_STRING_BYTES 65536
#define STRING_MAX 4096

_Static_assert((int)BUNDLE_ON_CPU == STALLBOX__V1__EVENT_KIND__ON_CPU, "kinds");
_Static_assert((int)BUNDLE_OFF_CPU == STALLBOX__V1__EVENT_KIND__OFF_CPU, "kinds");
_Static_assert((int)BUNDLE_RECLAIM == STALLBOX__V1__EVENT_KIND__RECLAIM, "kinds");
_Static_assert((int)BUNDLE_LOSS_LIMITED == STALLBOX__V1__LOSS_CAUSE__LOSS_LIMITED, "causes");

_Static_assert((int)BUNDLE_HARDIRQ == STALLBOX__V1__EVENT_KIND__HARDIRQ, "kinds");

#define COLUMN_ID(field, member) C_##field,
enum column { COLUMNS32(COLUMN_ID) C32_COUNT };
enum column64 { COLUMNS64(COLUMN_ID) COLUMNS_TIME(COLUMN_ID) C64_COUNT };
#undef COLUMN_ID

struct block {
	uint32_t cpu;
	enum bundle_kind kind; /* BUNDLE_KIND_NONE: free */
	uint64_t used, base_ns, last_unit;
	size_t n;
	int64_t ts[BLOCK_EVENTS];
	uint32_t c32[C32_COUNT][BLOCK_EVENTS];
	uint64_t c64[C64_COUNT][BLOCK_EVENTS];
	bool any32[C32_COUNT], any64[C64_COUNT];
};

struct bundle_writer {
	bundle_sink_fn sink;
	void *sink_ctx;
	int error;
	ZSTD_CCtx *zstd;
	uint8_t *frame; /* plain bytes of the frame being filled */
	size_t frame_len;
	uint8_t *packed; /* one chunk */
	size_t packed_cap;
	void *out;
	size_t out_cap;
	uint32_t seq, chunks;
	uint64_t events, first_ns, last_ns, tick;

	struct map64 strings, threads, processes, cgroups, stacks, binaries;
	/* Ids handed out so far. */
	uint32_t n_strings, n_threads, n_processes, n_cgroups, n_stacks, n_binaries;

	/* Entries not written yet. */
	ProtobufCBinaryData p_str[PENDING_ENTRIES];
	size_t np_str, p_str_bytes;
	uint32_t p_tid[PENDING_ENTRIES], p_tproc[PENDING_ENTRIES], p_tcomm[PENDING_ENTRIES],
		p_tcg[PENDING_ENTRIES];
	size_t np_thread;
	uint64_t p_cgid[PENDING_ENTRIES];
	uint32_t p_cgpath[PENDING_ENTRIES];
	size_t np_cgroup;
	uint32_t p_slen[PENDING_ENTRIES], p_sproc[PENDING_ENTRIES], p_sunw[PENDING_ENTRIES];
	int64_t p_addr[PENDING_FRAMES];
	size_t np_stack, np_addr;

	struct block block[BLOCKS];
};

static int fail(struct bundle_writer *w, int r)
{
	if (!w->error && r < 0)
		w->error = r;
	return w->error;
}

/* ---- frames ------------------------------------------------------------------ */

static int flush_frame(struct bundle_writer *w)
{
	size_t n;

	if (w->error || !w->frame_len)
		return w->error;
	n = ZSTD_compress2(w->zstd, w->out, w->out_cap, w->frame, w->frame_len);
	if (ZSTD_isError(n))
		return fail(w, -ENOMEM);
	w->frame_len = 0;
	return fail(w, w->sink(w->sink_ctx, w->out, n));
}

static size_t put_varint(uint8_t *p, uint64_t v)
{
	size_t n = 0;

	while (v >= 0x80) {
		p[n++] = (uint8_t)v | 0x80;
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	return n;
}

/* Appends one chunk as field 1 of Capture. */
static int put_chunk(struct bundle_writer *w, Stallbox__V1__Chunk *c)
{
	uint8_t head[12] = { 0x0a };
	size_t len, head_len;

	if (w->error)
		return w->error;
	c->seq = w->seq;
	len = stallbox__v1__chunk__get_packed_size(c);
	if (len > w->packed_cap)
		return fail(w, -E2BIG);
	head_len = 1 + put_varint(head + 1, len);
	if (w->frame_len + head_len + len > BUNDLE_CHUNK_TARGET)
		flush_frame(w);
	if (w->error)
		return w->error;
	memcpy(w->frame + w->frame_len, head, head_len);
	stallbox__v1__chunk__pack(c, w->frame + w->frame_len + head_len);
	w->frame_len += head_len + len;
	w->seq++;
	w->chunks++;
	return 0;
}

#define CHUNK_OF(name, NAME, ptr)                                             \
	{                                                                     \
		.base = PROTOBUF_C_MESSAGE_INIT(&stallbox__v1__chunk__descriptor), \
		.body_case = STALLBOX__V1__CHUNK__BODY_##NAME, .name = (ptr)  \
	}

/* ---- tables -------------------------------------------------------------------- */

static void flush_strings(struct bundle_writer *w)
{
	Stallbox__V1__StringTable t = STALLBOX__V1__STRING_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(strings, STRINGS, &t);

	if (!w->np_str)
		return;
	t.first_id = w->n_strings - (uint32_t)w->np_str + 1;
	t.n_s = w->np_str;
	t.s = w->p_str;
	put_chunk(w, &c);
	for (size_t i = 0; i < w->np_str; i++)
		free(w->p_str[i].data);
	w->np_str = w->p_str_bytes = 0;
}

static void flush_cgroups(struct bundle_writer *w)
{
	Stallbox__V1__CgroupTable t = STALLBOX__V1__CGROUP_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(cgroups, CGROUPS, &t);

	if (!w->np_cgroup)
		return;
	t.first_id = w->n_cgroups - (uint32_t)w->np_cgroup + 1;
	t.n_kernel_id = t.n_path = w->np_cgroup;
	t.kernel_id = w->p_cgid;
	t.path = w->p_cgpath;
	put_chunk(w, &c);
	w->np_cgroup = 0;
}

static void flush_threads(struct bundle_writer *w)
{
	Stallbox__V1__ThreadTable t = STALLBOX__V1__THREAD_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(threads, THREADS, &t);

	if (!w->np_thread)
		return;
	t.first_id = w->n_threads - (uint32_t)w->np_thread + 1;
	t.n_tid = t.n_process = t.n_comm = t.n_cgroup = w->np_thread;
	t.tid = w->p_tid;
	t.process = w->p_tproc;
	t.comm = w->p_tcomm;
	t.cgroup = w->p_tcg;
	put_chunk(w, &c);
	w->np_thread = 0;
}

static void flush_stacks(struct bundle_writer *w)
{
	Stallbox__V1__StackTable t = STALLBOX__V1__STACK_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(stacks, STACKS, &t);

	if (!w->np_stack)
		return;
	t.first_id = w->n_stacks - (uint32_t)w->np_stack + 1;
	t.n_len = t.n_process = t.n_unwind = w->np_stack;
	t.len = w->p_slen;
	t.process = w->p_sproc;
	t.unwind = w->p_sunw;
	t.n_addr_delta = w->np_addr;
	t.addr_delta = w->p_addr;
	put_chunk(w, &c);
	w->np_stack = w->np_addr = 0;
}

static void flush_tables(struct bundle_writer *w)
{
	flush_strings(w);
	flush_cgroups(w);
	flush_threads(w);
	flush_stacks(w);
}

uint32_t bundle_writer_string(struct bundle_writer *w, const char *s)
{
	size_t len = s ? strnlen(s, STRING_MAX) : 0;
	uint64_t key = sb_hash_bytes(s, len) | 1;
	uint32_t id;

	if (!len || w->error)
		return 0;
	id = (uint32_t)map64_get(&w->strings, key);
	if (id)
		return id;
	if (w->np_str == PENDING_ENTRIES || w->p_str_bytes + len > PENDING_STRING_BYTES)
		flush_strings(w);
	w->p_str[w->np_str].data = malloc(len);
	if (!w->p_str[w->np_str].data || map64_put(&w->strings, key, w->n_strings + 1) < 0) {
		fail(w, -ENOMEM);
		return 0;
	}
	memcpy(w->p_str[w->np_str].data, s, len);
	w->p_str[w->np_str++].len = len;
	w->p_str_bytes += len;
	return ++w->n_strings;
}

uint32_t bundle_writer_cgroup(struct bundle_writer *w, uint64_t kernel_id, const char *path)
{
	uint32_t id = (uint32_t)map64_get(&w->cgroups, kernel_id), name;

	if (!kernel_id || w->error)
		return 0;
	if (id && (!path || !*path))
		return id;
	name = bundle_writer_string(w, path);
	if (id) { /* the path is known by now: the entry is written once more */
		Stallbox__V1__CgroupTable t = STALLBOX__V1__CGROUP_TABLE__INIT;
		Stallbox__V1__Chunk c = CHUNK_OF(cgroups, CGROUPS, &t);

		flush_tables(w);
		t.first_id = id;
		t.n_kernel_id = t.n_path = 1;
		t.kernel_id = &kernel_id;
		t.path = &name;
		put_chunk(w, &c);
		return id;
	}
	if (w->np_cgroup == PENDING_ENTRIES)
		flush_tables(w);
	w->p_cgid[w->np_cgroup] = kernel_id;
	w->p_cgpath[w->np_cgroup++] = name;
	if (map64_put(&w->cgroups, kernel_id, ++w->n_cgroups) < 0)
		fail(w, -ENOMEM);
	return w->n_cgroups;
}

static int put_process(struct bundle_writer *w, const struct bundle_process *p, uint32_t id)
{
	Stallbox__V1__Process m = STALLBOX__V1__PROCESS__INIT, *list[1] = { &m };
	Stallbox__V1__ProcessTable t = STALLBOX__V1__PROCESS_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(processes, PROCESSES, &t);
	size_t n = SB_MIN(p->n_maps, (size_t)4096);
	uint64_t *col = n ? malloc(n * sizeof(*col) * 4) : NULL;
	uint32_t *bin = (uint32_t *)(col ? col + 3 * n : NULL);

	if (n && !col)
		return fail(w, -ENOMEM);
	m.id = id;
	m.pid = p->pid;
	m.ppid = p->ppid;
	m.start_ns = p->start_ns;
	m.exit_ns = p->exit_ns;
	m.comm = bundle_writer_string(w, p->comm);
	m.exe = bundle_writer_string(w, p->exe);
	m.cgroup = p->cgroup;
	m.map_state = p->map_state;
	for (size_t i = 0; i < n; i++) {
		col[i] = p->maps[i].start;
		col[n + i] = p->maps[i].len;
		col[2 * n + i] = p->maps[i].pgoff;
		bin[i] = p->maps[i].binary;
	}
	m.n_map_start = m.n_map_len = m.n_map_pgoff = m.n_map_binary = n;
	m.map_start = col;
	m.map_len = col + n;
	m.map_pgoff = col + 2 * n;
	m.map_binary = bin;
	t.n_process = 1;
	t.process = list;
	flush_strings(w);
	flush_cgroups(w);
	put_chunk(w, &c);
	free(col);
	return w->error;
}

uint32_t bundle_writer_process(struct bundle_writer *w, const struct bundle_process *p)
{
	uint64_t key = sb_mix64(p->pid ^ p->start_ns << 20) | 1;
	uint32_t id = p->id;

	if (w->error)
		return 0;
	if (!id) {
		id = (uint32_t)map64_get(&w->processes, key);
		if (id)
			return id;
		id = ++w->n_processes;
		if (map64_put(&w->processes, key, id) < 0) {
			fail(w, -ENOMEM);
			return 0;
		}
	}
	return put_process(w, p, id) < 0 ? 0 : id;
}

uint32_t bundle_writer_thread(struct bundle_writer *w, const struct bundle_thread *t)
{
	uint32_t comm = bundle_writer_string(w, t->comm), id;
	uint32_t ident[4] = { t->tid, t->process, comm, t->cgroup };
	uint64_t key = sb_hash_bytes(ident, sizeof(ident)) | 1;

	if (w->error)
		return 0;
	id = (uint32_t)map64_get(&w->threads, key);
	if (id)
		return id;
	if (w->np_thread == PENDING_ENTRIES)
		flush_tables(w);
	w->p_tid[w->np_thread] = t->tid;
	w->p_tproc[w->np_thread] = t->process;
	w->p_tcomm[w->np_thread] = comm;
	w->p_tcg[w->np_thread++] = t->cgroup;
	if (map64_put(&w->threads, key, ++w->n_threads) < 0)
		fail(w, -ENOMEM);
	return w->n_threads;
}

uint32_t bundle_writer_find_stack(const struct bundle_writer *w, uint64_t key)
{
	return (uint32_t)map64_get(&w->stacks, key ? key : 1);
}

uint32_t bundle_writer_stack(struct bundle_writer *w, uint64_t key, const struct bundle_stack *s)
{
	uint32_t id = bundle_writer_find_stack(w, key), n = SB_MIN(s->n, BUNDLE_STACK_MAX_FRAMES);
	uint64_t before = 0;

	if (id || w->error || !n)
		return id;
	if (w->np_stack == PENDING_ENTRIES || w->np_addr + n > PENDING_FRAMES)
		flush_tables(w);
	w->p_slen[w->np_stack] = n;
	w->p_sproc[w->np_stack] = s->process;
	w->p_sunw[w->np_stack++] = s->unwind;
	for (uint32_t i = 0; i < n; i++) {
		w->p_addr[w->np_addr++] = (int64_t)(s->addr[i] - before);
		before = s->addr[i];
	}
	if (map64_put(&w->stacks, key ? key : 1, ++w->n_stacks) < 0)
		fail(w, -ENOMEM);
	return w->n_stacks;
}

uint32_t bundle_writer_binary(struct bundle_writer *w, const char *path, const void *build_id,
			      size_t build_id_len, uint32_t kind)
{
	uint64_t key = (sb_hash_bytes(path, strlen(path)) ^ sb_hash_bytes(build_id, build_id_len)) | 1;
	Stallbox__V1__Binary m = STALLBOX__V1__BINARY__INIT, *list[1] = { &m };
	Stallbox__V1__BinaryTable t = STALLBOX__V1__BINARY_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(binaries, BINARIES, &t);
	uint32_t id = build_id_len ? (uint32_t)map64_get(&w->binaries, key) : 0;
	uint8_t copy[64];

	if (id || w->error)
		return id;
	build_id_len = SB_MIN(build_id_len, sizeof(copy));
	if (build_id_len)
		memcpy(copy, build_id, build_id_len);
	m.id = ++w->n_binaries;
	m.path = bundle_writer_string(w, path);
	m.build_id = (ProtobufCBinaryData){ build_id_len, copy };
	m.kind = kind;
	t.n_binary = 1;
	t.binary = list;
	flush_strings(w);
	put_chunk(w, &c);
	if (map64_put(&w->binaries, key, m.id) < 0)
		fail(w, -ENOMEM);
	return m.id;
}

/* ---- events --------------------------------------------------------------------- */

static void flush_block(struct bundle_writer *w, struct block *b)
{
	Stallbox__V1__EventBlock m = STALLBOX__V1__EVENT_BLOCK__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(events, EVENTS, &m);

	if (b->kind == BUNDLE_KIND_NONE)
		return;
	flush_tables(w);
	m.cpu = b->cpu;
	m.kind = (Stallbox__V1__EventKind)b->kind;
	m.base_ns = b->base_ns;
	m.time_unit_ns = TIME_UNIT_NS;
	m.n_ts_delta = b->n;
	m.ts_delta = b->ts;
#define COLUMN(field, member)                               \
	m.n_##field = b->any32[C_##field] ? b->n : 0;       \
	m.field = b->c32[C_##field];
	COLUMNS32(COLUMN)
#undef COLUMN
#define COLUMN(field, member)                               \
	m.n_##field = b->any64[C_##field] ? b->n : 0;       \
	m.field = b->c64[C_##field];
	COLUMNS64(COLUMN)
	COLUMNS_TIME(COLUMN)
#undef COLUMN
	put_chunk(w, &c);
	b->kind = BUNDLE_KIND_NONE;
	b->n = 0;
}

static struct block *block_for(struct bundle_writer *w, const struct bundle_event *e)
{
	struct block *oldest = &w->block[0];

	for (int i = 0; i < BLOCKS; i++) {
		struct block *b = &w->block[i];

		if (b->kind == e->kind && b->cpu == e->cpu) {
			if (b->n < BLOCK_EVENTS)
				return b;
			oldest = b;
			break;
		}
		if (b->kind == BUNDLE_KIND_NONE) {
			oldest = b;
		} else if (oldest->kind != BUNDLE_KIND_NONE && b->used < oldest->used) {
			oldest = b;
		}
	}
	flush_block(w, oldest);
	oldest->kind = e->kind;
	oldest->cpu = e->cpu;
	oldest->n = 0;
	oldest->base_ns = e->ts_ns / TIME_UNIT_NS * TIME_UNIT_NS;
	oldest->last_unit = e->ts_ns / TIME_UNIT_NS;
	memset(oldest->any32, 0, sizeof(oldest->any32));
	memset(oldest->any64, 0, sizeof(oldest->any64));
	return oldest;
}

/* A column costs nothing until its first value that is not 0. */
static void set32(struct block *b, enum column c, uint32_t v)
{
	if (!b->any32[c]) {
		if (!v)
			return;
		memset(b->c32[c], 0, b->n * sizeof(v));
		b->any32[c] = true;
	}
	b->c32[c][b->n] = v;
}

static void set64(struct block *b, enum column64 c, uint64_t v)
{
	if (!b->any64[c]) {
		if (!v)
			return;
		memset(b->c64[c], 0, b->n * sizeof(v));
		b->any64[c] = true;
	}
	b->c64[c][b->n] = v;
}

int bundle_writer_event(struct bundle_writer *w, const struct bundle_event *e)
{
	struct block *b;

	if (w->error)
		return w->error;
	if (e->kind <= BUNDLE_KIND_NONE || e->kind >= BUNDLE_KIND_COUNT)
		return -EINVAL;
	b = block_for(w, e);
	b->used = ++w->tick;
	b->ts[b->n] = (int64_t)(e->ts_ns / TIME_UNIT_NS - b->last_unit);
	b->last_unit = e->ts_ns / TIME_UNIT_NS;
#define COLUMN(field, member) set32(b, C_##field, e->member);
	COLUMNS32(COLUMN)
#undef COLUMN
#define COLUMN(field, member) set64(b, C_##field, e->member);
	COLUMNS64(COLUMN)
#undef COLUMN
#define COLUMN(field, member) set64(b, C_##field, (e->member + TIME_UNIT_NS / 2) / TIME_UNIT_NS);
	COLUMNS_TIME(COLUMN)
#undef COLUMN
	b->n++;
	w->events++;
	if (!w->first_ns || e->ts_ns < w->first_ns)
		w->first_ns = e->ts_ns;
	if (e->ts_ns > w->last_ns)
		w->last_ns = e->ts_ns;
	return 0;
}

/* ---- everything else --------------------------------------------------------------- */

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
		return fail(w, -ENOMEM);
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
	put_chunk(w, &c);
	free(config);
	free(missing);
	/* A frame of its own: damage elsewhere must not take what fired and when. */
	return flush_frame(w);
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
		return fail(w, -ENOMEM);
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
	put_chunk(w, &c);
	free(c64);
	free(c32);
	return w->error;
}

int bundle_writer_stackshot(struct bundle_writer *w, uint64_t begin_ns, uint64_t end_ns,
			    const struct bundle_shot_thread *t, size_t n, uint64_t threads_seen,
			    uint64_t truncated)
{
	size_t done = 0;

	flush_tables(w);
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
	put_chunk(w, &c);
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
	put_chunk(w, &c);
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
		return fail(w, -ENOMEM);
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
	flush_strings(w);
	put_chunk(w, &c);
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
		flush_strings(w);
		m.binary = binary;
		m.source = text_of(source);
		m.n_addr = m.n_sym_start = m.n_name = m.n_module = batch;
		m.addr = addr;
		m.sym_start = start;
		m.name = name;
		m.module = module;
		put_chunk(w, &c);
	}
	return w->error;
}

int bundle_writer_cost(struct bundle_writer *w, const struct bundle_cost *s)
{
	Stallbox__V1__SelfCost m = STALLBOX__V1__SELF_COST__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(self_cost, SELF_COST, &m);
	Stallbox__V1__ProgramCost prog[64], *list[64];

	m.since_ns = s->since_ns;
	m.until_ns = s->until_ns;
	m.agent_cpu_ns = s->agent_cpu_ns;
	m.agent_rss_bytes = s->agent_rss_bytes;
	m.map_bytes = s->map_bytes;
	m.wakeups = s->wakeups;
	m.bytes_written = s->bytes_written;
	m.worker_cpu_ns = s->worker_cpu_ns;
	m.worker_rss_bytes = s->worker_rss_bytes;
	m.bpf_time_ns = s->bpf_time_ns;
	m.period_ns = s->period_ns;
	m.windows = s->windows;
	m.budget_ppm = s->budget_ppm;
	m.limit_step = s->limit_step;
	m.limit_changes = s->limit_changes;
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
	return put_chunk(w, &c);
}

int bundle_writer_flush(struct bundle_writer *w)
{
	for (int i = 0; i < BLOCKS; i++)
		flush_block(w, &w->block[i]);
	flush_tables(w);
	return flush_frame(w);
}

int bundle_writer_finish(struct bundle_writer *w, const struct bundle_footer *f)
{
	Stallbox__V1__Footer m = STALLBOX__V1__FOOTER__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(footer, FOOTER, &m);

	bundle_writer_flush(w);
	m.chunks = w->chunks;
	m.events = w->events;
	m.first_event_ns = w->first_ns;
	m.last_event_ns = w->last_ns;
	m.closed_ns = f->closed_ns;
	m.raw_durable_ns = f->raw_durable_ns;
	m.pre_durable_ns = f->pre_durable_ns;
	m.symbolized = f->symbolized;
	put_chunk(w, &c);
	return flush_frame(w);
}

int bundle_writer_new(bundle_sink_fn sink, void *ctx, int level, struct bundle_writer **ret)
{
	struct bundle_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->sink = sink;
	w->sink_ctx = ctx;
	w->zstd = ZSTD_createCCtx();
	w->packed_cap = BUNDLE_CHUNK_MAX - 16;
	w->frame = malloc(BUNDLE_CHUNK_TARGET + BUNDLE_CHUNK_MAX);
	w->out_cap = ZSTD_compressBound(BUNDLE_CHUNK_TARGET + BUNDLE_CHUNK_MAX);
	w->out = malloc(w->out_cap);
	if (!w->zstd || !w->frame || !w->out) {
		bundle_writer_free(w);
		return -ENOMEM;
	}
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_contentSizeFlag, 1);
	*ret = w;
	return 0;
}

void bundle_writer_free(struct bundle_writer *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->np_str; i++)
		free(w->p_str[i].data);
	map64_done(&w->strings);
	map64_done(&w->threads);
	map64_done(&w->processes);
	map64_done(&w->cgroups);
	map64_done(&w->stacks);
	map64_done(&w->binaries);
	ZSTD_freeCCtx(w->zstd);
	free(w->frame);
	free(w->out);
	free(w);
}

void bundle_writer_set_sink(struct bundle_writer *w, bundle_sink_fn sink, void *ctx)
{
	w->sink = sink;
	w->sink_ctx = ctx;
}

int bundle_writer_error(const struct bundle_writer *w)
{
	return w->error;
}

uint64_t bundle_writer_events(const struct bundle_writer *w)
{
	return w->events;
}
