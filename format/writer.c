// SPDX-License-Identifier: BSD-2-Clause
/* Frames, tables whose entries are written before what names them, blocks of events. */
#include "format/writer.h"

#include <errno.h>
#include <stdio.h>

#include "format/writer_impl.h"

_Static_assert((int)BUNDLE_ON_CPU == STALLBOX__V1__EVENT_KIND__ON_CPU, "kinds");
_Static_assert((int)BUNDLE_OFF_CPU == STALLBOX__V1__EVENT_KIND__OFF_CPU, "kinds");
_Static_assert((int)BUNDLE_RECLAIM == STALLBOX__V1__EVENT_KIND__RECLAIM, "kinds");
_Static_assert((int)BUNDLE_HARDIRQ == STALLBOX__V1__EVENT_KIND__HARDIRQ, "kinds");

int writer_fail(struct bundle_writer *w, int r)
{
	if (!w->error && r < 0)
		w->error = r;
	return w->error;
}

/* ---- frames ------------------------------------------------------------------ */

int writer_flush_frame(struct bundle_writer *w)
{
	size_t n;

	if (w->error || !w->frame_len)
		return w->error;
	n = ZSTD_compress2(w->zstd, w->out, w->out_cap, w->frame, w->frame_len);
	if (ZSTD_isError(n))
		return writer_fail(w, -ENOMEM);
	w->frame_len = 0;
	return writer_fail(w, w->sink(w->sink_ctx, w->out, n));
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

int writer_put(struct bundle_writer *w, Stallbox__V1__Chunk *c)
{
	uint8_t head[12] = { 0x0a };
	size_t len, head_len;

	if (w->error)
		return w->error;
	c->seq = w->seq;
	len = stallbox__v1__chunk__get_packed_size(c);
	if (len > w->packed_cap)
		return writer_fail(w, -E2BIG);
	head_len = 1 + put_varint(head + 1, len);
	if (w->frame_len + head_len + len > BUNDLE_CHUNK_TARGET)
		writer_flush_frame(w);
	if (w->error)
		return w->error;
	memcpy(w->frame + w->frame_len, head, head_len);
	stallbox__v1__chunk__pack(c, w->frame + w->frame_len + head_len);
	w->frame_len += head_len + len;
	w->seq++;
	w->chunks++;
	return 0;
}

/* ---- tables -------------------------------------------------------------------- */

void writer_flush_strings(struct bundle_writer *w)
{
	Stallbox__V1__StringTable t = STALLBOX__V1__STRING_TABLE__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(strings, STRINGS, &t);

	if (!w->np_str)
		return;
	t.first_id = w->n_strings - (uint32_t)w->np_str + 1;
	t.n_s = w->np_str;
	t.s = w->p_str;
	writer_put(w, &c);
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
	writer_put(w, &c);
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
	writer_put(w, &c);
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
	writer_put(w, &c);
	w->np_stack = w->np_addr = 0;
}

void writer_flush_tables(struct bundle_writer *w)
{
	writer_flush_strings(w);
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
		writer_flush_strings(w);
	w->p_str[w->np_str].data = malloc(len);
	if (!w->p_str[w->np_str].data || map64_put(&w->strings, key, w->n_strings + 1) < 0) {
		writer_fail(w, -ENOMEM);
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

		writer_flush_tables(w);
		t.first_id = id;
		t.n_kernel_id = t.n_path = 1;
		t.kernel_id = &kernel_id;
		t.path = &name;
		writer_put(w, &c);
		return id;
	}
	if (w->np_cgroup == PENDING_ENTRIES)
		writer_flush_tables(w);
	w->p_cgid[w->np_cgroup] = kernel_id;
	w->p_cgpath[w->np_cgroup++] = name;
	if (map64_put(&w->cgroups, kernel_id, ++w->n_cgroups) < 0)
		writer_fail(w, -ENOMEM);
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
		return writer_fail(w, -ENOMEM);
	m.id = id;
	m.pid = p->pid;
	m.ppid = p->ppid;
	m.start_ns = p->start_ns;
	m.exit_ns = p->exit_ns;
	m.comm = bundle_writer_string(w, p->comm);
	m.exe = bundle_writer_string(w, p->exe);
	m.cmdline = bundle_writer_string(w, p->cmdline ? p->cmdline : "");
	m.cmdline_bytes = p->cmdline_bytes;
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
	writer_flush_strings(w);
	flush_cgroups(w);
	writer_put(w, &c);
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
			writer_fail(w, -ENOMEM);
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
		writer_flush_tables(w);
	w->p_tid[w->np_thread] = t->tid;
	w->p_tproc[w->np_thread] = t->process;
	w->p_tcomm[w->np_thread] = comm;
	w->p_tcg[w->np_thread++] = t->cgroup;
	if (map64_put(&w->threads, key, ++w->n_threads) < 0)
		writer_fail(w, -ENOMEM);
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
		writer_flush_tables(w);
	w->p_slen[w->np_stack] = n;
	w->p_sproc[w->np_stack] = s->process;
	w->p_sunw[w->np_stack++] = s->unwind;
	for (uint32_t i = 0; i < n; i++) {
		w->p_addr[w->np_addr++] = (int64_t)(s->addr[i] - before);
		before = s->addr[i];
	}
	if (map64_put(&w->stacks, key ? key : 1, ++w->n_stacks) < 0)
		writer_fail(w, -ENOMEM);
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
	writer_flush_strings(w);
	writer_put(w, &c);
	if (map64_put(&w->binaries, key, m.id) < 0)
		writer_fail(w, -ENOMEM);
	return m.id;
}

/* ---- events --------------------------------------------------------------------- */

static void flush_block(struct bundle_writer *w, struct block *b)
{
	Stallbox__V1__EventBlock m = STALLBOX__V1__EVENT_BLOCK__INIT;
	Stallbox__V1__Chunk c = CHUNK_OF(events, EVENTS, &m);

	if (b->kind == BUNDLE_KIND_NONE)
		return;
	writer_flush_tables(w);
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
	writer_put(w, &c);
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

/* ---- begin and end ---------------------------------------------------------------- */

int bundle_writer_flush(struct bundle_writer *w)
{
	for (int i = 0; i < BLOCKS; i++)
		flush_block(w, &w->block[i]);
	writer_flush_tables(w);
	return writer_flush_frame(w);
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
	writer_put(w, &c);
	return writer_flush_frame(w);
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

void bundle_writer_resume(struct bundle_writer *w, uint32_t next_chunk, uint32_t strings,
			  const struct bundle_footer *f)
{
	w->seq = w->chunks = next_chunk;
	w->n_strings = strings;
	w->events = f->events;
	w->first_ns = f->first_event_ns;
	w->last_ns = f->last_event_ns;
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
