// SPDX-License-Identifier: BSD-2-Clause
#include "format/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <zstd.h>

#include "format/capture.pb-c.h"
#include "format/columns.h"
#include "format/map64.h"

#define ZSTD_MAGIC_LE 0xFD2FB528u
/* What a frame may claim: a little more than any writer makes. */
#define FRAME_PLAIN_MAX (1u << 20)
#define FRAME_PACKED_MAX (2u << 20)
#define WINDOW_LOG_MAX 21
/* protobuf-c needs up to 60 times the wire size for hostile messages: bounded per chunk. */
#define CHUNK_DECODE_MAX (64u << 20)
#define TABLES_MAX (1ULL << 30)
#define IDS_MAX (64u << 20)
#define FRAMES_MAX_STACKS BUNDLE_STACK_MAX_FRAMES

/* ---- a bounded allocator: everything of one chunk, or of the tables ------------------------ */

struct arena_part {
	struct arena_part *next;
	size_t used, cap;
	char data[] __attribute__((aligned(16)));
};
struct arena {
	struct arena_part *part;
	size_t total, max;
};

static void *arena_alloc(void *ctx, size_t size)
{
	struct arena *a = ctx;
	struct arena_part *p = a->part;
	void *ret;

	size = (size + 15) & ~(size_t)15;
	if (size > a->max || a->total + size > a->max)
		return NULL;
	if (!p || p->cap - p->used < size) {
		size_t cap = SB_MAX(size, (size_t)256 << 10);

		p = malloc(sizeof(*p) + cap);
		if (!p)
			return NULL;
		*p = (struct arena_part){ .next = a->part, .cap = cap };
		a->part = p;
	}
	ret = p->data + p->used;
	p->used += size;
	a->total += size;
	return ret;
}

static void arena_free_one(void *ctx, void *p)
{
	(void)ctx;
	(void)p; /* all at once, by arena_reset() */
}

static void arena_reset(struct arena *a)
{
	while (a->part) {
		struct arena_part *next = a->part->next;

		free(a->part);
		a->part = next;
	}
	a->total = 0;
}

/* ---- the bundle ---------------------------------------------------------------------------- */

struct stack_entry {
	uint64_t *addr;
	uint32_t n, process, unwind;
};

struct bundle {
	int fd;
	uint64_t size;
	uint8_t *packed, *plain;
	ZSTD_DCtx *zstd;
	struct arena chunk, tables;
	ProtobufCAllocator alloc;
	struct bundle_damage damage;
	bool have_header, have_footer, too_new;
	uint32_t next_seq, seen_major;
	struct bundle_header header;
	struct bundle_footer footer;
	char **strings;
	uint32_t n_strings;
	struct bundle_thread *threads;
	uint32_t n_threads;
	struct bundle_process *processes;
	uint32_t n_processes;
	struct stack_entry *stacks;
	uint32_t n_stacks;
	struct {
		uint64_t kernel_id;
		uint32_t path;
	} *cgroups;
	uint32_t n_cgroups;
	const char **binaries;
	uint32_t n_binaries;
	struct bundle_loss *losses;
	uint64_t losses_since_ns;
	size_t n_losses;
	struct bundle_mark *marks;
	size_t n_marks;
	struct bundle_series *series;
	size_t n_series;
	struct bundle_shot_thread *shot;
	size_t n_shot;
	uint64_t shot_begin_ns, shot_end_ns, shot_seen, shot_truncated;
	bool have_cost;
	struct bundle_cost cost;
	struct map64 symbols; /* (binary, address) -> struct bundle_symbol * */
	uint64_t n_events[BUNDLE_KIND_COUNT], first_ns, last_ns;
};

typedef int (*frame_fn)(struct bundle *b, const uint8_t *plain, size_t len, uint64_t offset, void *ctx);

static void note_damage(struct bundle *b, uint64_t offset, const char *what)
{
	if (b->damage.first_what[0])
		return;
	b->damage.first_offset = offset;
	strncpy(b->damage.first_what, what, sizeof(b->damage.first_what) - 1);
}

static uint64_t get_varint(const uint8_t **p, const uint8_t *end, bool *ok)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64 && *p < end; shift += 7) {
		uint8_t c = *(*p)++;

		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return v;
	}
	*ok = false;
	return 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static ssize_t read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* One frame at the start of buf. >0: its packed size, *ret_plain set; 0: the buffer ends
 * inside it; <0: not a frame that we accept. */
static ssize_t decode_frame(struct bundle *b, const uint8_t *buf, size_t len, size_t *ret_plain,
			    const char **ret_what)
{
	unsigned long long claim = ZSTD_getFrameContentSize(buf, len);
	size_t packed, plain;

	*ret_what = "not a zstd frame";
	if (claim == ZSTD_CONTENTSIZE_ERROR)
		return len < 18 && (len < 4 || !memcmp(buf, "\x28\xb5\x2f\xfd", 4)) ? 0 : -EBADMSG;
	if (claim == ZSTD_CONTENTSIZE_UNKNOWN || claim > FRAME_PLAIN_MAX) {
		*ret_what = "frame claims more plain bytes than any bundle has";
		return -EBADMSG;
	}
	/* Frame_Header_Descriptor (RFC 8878, 3.1.1.1.1): checksum on, reserved bits zero. Without
	 * a checksum a damaged frame could pass for a whole one. */
	if ((buf[4] & 0x1c) != 0x04) {
		*ret_what = "frame without a checksum";
		return -EBADMSG;
	}
	packed = ZSTD_findFrameCompressedSize(buf, len);
	if (ZSTD_isError(packed)) {
		*ret_what = "damaged frame";
		return len >= FRAME_PACKED_MAX ? -EBADMSG : 0;
	}
	plain = ZSTD_decompressDCtx(b->zstd, b->plain, FRAME_PLAIN_MAX, buf, packed);
	if (ZSTD_isError(plain)) {
		*ret_what = "frame does not decompress (checksum or contents)";
		return -EBADMSG;
	}
	*ret_plain = plain;
	return (ssize_t)packed;
}

/* Offset of the next zstd magic after the first byte, or len. */
static size_t next_magic(const uint8_t *buf, size_t len)
{
	for (size_t i = 1; i + 4 <= len; i++) {
		if (buf[i] == 0x28 && buf[i + 1] == 0xb5 && buf[i + 2] == 0x2f && buf[i + 3] == 0xfd)
			return i;
	}
	return len > 3 ? len - 3 : len;
}

/* Calls fn for every whole frame. count: also fills b->damage. */
static int each_frame(struct bundle *b, bool count, frame_fn fn, void *ctx)
{
	uint64_t off = 0;
	bool in_damage = false;
	int r;

	while (off < b->size) {
		ssize_t n = read_at(b->fd, b->packed, FRAME_PACKED_MAX, off), used;
		const char *what = "";
		size_t plain = 0;

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		used = decode_frame(b, b->packed, (size_t)n, &plain, &what);
		if (used > 0) {
			in_damage = false;
			if (count)
				b->damage.frames++;
			r = fn(b, b->plain, plain, off, ctx);
			if (r)
				return r;
			off += (uint64_t)used;
			continue;
		}
		if (count) {
			if (!in_damage)
				b->damage.bad_frames += used < 0;
			note_damage(b, off, used == 0 ? "the file ends in the middle of a frame" : what);
		}
		in_damage = true;
		{
			size_t skip = next_magic(b->packed, (size_t)n);
			bool at_end = off + (uint64_t)n >= b->size;

			if (at_end && skip + 3 >= (size_t)n)
				skip = (size_t)n;
			if (count) {
				b->damage.skipped_bytes += skip;
				b->damage.truncated |= used == 0 && off + skip >= b->size;
			}
			off += skip;
		}
	}
	return 0;
}

/* ---- chunks ------------------------------------------------------------------------------------ */

typedef int (*chunk_fn)(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx);

struct chunk_pass {
	chunk_fn fn;
	void *ctx;
	bool count;
};

/* A frame's plain text: field 1 of Capture, over and over. Other fields are of a newer minor. */
static int split_chunks(struct bundle *b, const uint8_t *p, size_t len, uint64_t offset, void *ctx)
{
	const struct chunk_pass *pass = ctx;
	const uint8_t *end = p + len;

	while (p < end) {
		bool ok = true;
		uint64_t tag = get_varint(&p, end, &ok), n = get_varint(&p, end, &ok);
		Stallbox__V1__Chunk *c;
		int r;

		if (!ok || (tag & 7) != 2 || n > (uint64_t)(end - p)) {
			if (pass->count) {
				b->damage.bad_frames++;
				note_damage(b, offset, "frame holds no whole chunks");
			}
			return 0;
		}
		if (tag >> 3 != 1) {
			p += n;
			continue;
		}
		c = stallbox__v1__chunk__unpack(&b->alloc, n, p);
		p += n;
		if (!c) {
			if (pass->count) {
				b->damage.bad_frames++;
				note_damage(b, offset, "chunk is no message of this format, or too large");
			}
			arena_reset(&b->chunk);
			continue;
		}
		r = pass->fn(b, c, pass->ctx);
		arena_reset(&b->chunk);
		if (r)
			return r;
	}
	return 0;
}

static int each_chunk(struct bundle *b, bool count, chunk_fn fn, void *ctx)
{
	struct chunk_pass pass = { fn, ctx, count };

	return each_frame(b, count, split_chunks, &pass);
}

/* ---- tables --------------------------------------------------------------------------------------- */

static const char *keep(struct bundle *b, const void *data, size_t len)
{
	char *s = arena_alloc(&b->tables, len + 1);

	if (!s)
		return "";
	if (len)
		memcpy(s, data, len);
	s[len] = '\0';
	return s;
}

static const char *keep_bytes(struct bundle *b, ProtobufCBinaryData d)
{
	return keep(b, d.data, d.len);
}

static const char *keep_text(struct bundle *b, const char *s)
{
	return keep(b, s, strlen(s));
}

static const char *string(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_strings && b->strings[id - 1] ? b->strings[id - 1] : "";
}

/* Tables grow by powers of two, so that many small parts do not copy each time. */
static size_t table_capacity(uint64_t n)
{
	size_t cap = 1024;

	while (cap < n)
		cap *= 2;
	return n ? cap : 0;
}

/* Makes room for ids up to `last` in a table of elements of `size`. New ones are zero. */
static bool grow_table(struct bundle *b, void **table, uint32_t *n, uint64_t last, size_t size)
{
	if (last > IDS_MAX || last * size > TABLES_MAX) {
		b->damage.bad_references++;
		return false;
	}
	if (last <= *n)
		return true;
	if (last > table_capacity(*n)) {
		void *bigger = realloc(*table, table_capacity(last) * size);

		if (!bigger)
			return false;
		*table = bigger;
	}
	memset((char *)*table + (size_t)*n * size, 0, (size_t)(last - *n) * size);
	*n = (uint32_t)last;
	return true;
}

static void take_strings(struct bundle *b, const Stallbox__V1__StringTable *t)
{
	if (!t->first_id || !grow_table(b, (void **)&b->strings, &b->n_strings,
					(uint64_t)t->first_id - 1 + t->n_s, sizeof(*b->strings)))
		return;
	for (size_t i = 0; i < t->n_s; i++)
		b->strings[t->first_id - 1 + i] = (char *)keep_bytes(b, t->s[i]);
}

static void take_threads(struct bundle *b, const Stallbox__V1__ThreadTable *t)
{
	if (!t->first_id || !grow_table(b, (void **)&b->threads, &b->n_threads,
					(uint64_t)t->first_id - 1 + t->n_tid, sizeof(*b->threads)))
		return;
	for (size_t i = 0; i < t->n_tid; i++)
		b->threads[t->first_id - 1 + i] = (struct bundle_thread){
			.tid = t->tid[i],
			.process = i < t->n_process ? t->process[i] : 0,
			.comm = string(b, i < t->n_comm ? t->comm[i] : 0),
			.cgroup = i < t->n_cgroup ? t->cgroup[i] : 0,
		};
}

static void take_process(struct bundle *b, const Stallbox__V1__Process *m)
{
	size_t n = SB_MIN(SB_MIN(m->n_map_start, m->n_map_len), SB_MIN(m->n_map_pgoff, m->n_map_binary));
	struct bundle_mapping *maps = n ? arena_alloc(&b->tables, n * sizeof(*maps)) : NULL;
	struct bundle_process *p;

	if (!m->id || !grow_table(b, (void **)&b->processes, &b->n_processes, m->id,
				  sizeof(*b->processes)))
		return;
	for (size_t i = 0; maps && i < n; i++)
		maps[i] = (struct bundle_mapping){ m->map_start[i], m->map_len[i], m->map_pgoff[i],
						   m->map_binary[i] };
	p = &b->processes[m->id - 1];
	*p = (struct bundle_process){
		.id = m->id,
		.pid = m->pid,
		.ppid = m->ppid,
		.start_ns = m->start_ns,
		.exit_ns = m->exit_ns,
		.comm = m->comm || !p->comm ? string(b, m->comm) : p->comm,
		.exe = string(b, m->exe),
		.cgroup = m->cgroup,
		.maps = maps,
		.n_maps = maps ? n : 0,
		.map_state = (enum bundle_map_state)m->map_state,
	};
}

static void take_stacks(struct bundle *b, const Stallbox__V1__StackTable *t)
{
	size_t at = 0;

	if (!t->first_id || !grow_table(b, (void **)&b->stacks, &b->n_stacks,
					(uint64_t)t->first_id - 1 + t->n_len, sizeof(*b->stacks)))
		return;
	for (size_t i = 0; i < t->n_len; i++) {
		struct stack_entry *s = &b->stacks[t->first_id - 1 + i];
		uint32_t n = t->len[i];
		uint64_t addr = 0;

		if (n > FRAMES_MAX_STACKS || n > t->n_addr_delta - at) {
			b->damage.bad_references++;
			return;
		}
		s->addr = arena_alloc(&b->tables, n * sizeof(*s->addr));
		s->n = s->addr ? n : 0;
		for (uint32_t k = 0; k < n; k++) {
			addr += (uint64_t)t->addr_delta[at++];
			if (s->addr)
				s->addr[k] = addr;
		}
		s->process = i < t->n_process ? t->process[i] : 0;
		s->unwind = i < t->n_unwind ? t->unwind[i] : 0;
	}
}

static void take_cgroups(struct bundle *b, const Stallbox__V1__CgroupTable *t)
{
	if (!t->first_id || !grow_table(b, (void **)&b->cgroups, &b->n_cgroups,
					(uint64_t)t->first_id - 1 + t->n_kernel_id,
					sizeof(*b->cgroups)))
		return;
	for (size_t i = 0; i < t->n_kernel_id; i++) {
		b->cgroups[t->first_id - 1 + i].kernel_id = t->kernel_id[i];
		b->cgroups[t->first_id - 1 + i].path = i < t->n_path ? t->path[i] : 0;
	}
}

static void take_binaries(struct bundle *b, const Stallbox__V1__BinaryTable *t)
{
	for (size_t i = 0; i < t->n_binary; i++) {
		const Stallbox__V1__Binary *m = t->binary[i];

		if (m->id && grow_table(b, (void **)&b->binaries, &b->n_binaries, m->id,
					sizeof(*b->binaries)))
			b->binaries[m->id - 1] = string(b, m->path);
	}
}

static uint64_t symbol_key(uint32_t binary, uint64_t addr)
{
	return sb_mix64(addr + 0x9E3779B97F4A7C15ULL * ((uint64_t)binary + 1)) | 1;
}

static void take_symbols(struct bundle *b, const Stallbox__V1__SymbolTable *t)
{
	for (size_t i = 0; i < t->n_addr && i < t->n_name; i++) {
		struct bundle_symbol *s = arena_alloc(&b->tables, sizeof(*s));

		if (!s)
			return;
		*s = (struct bundle_symbol){
			.addr = t->addr[i],
			.sym_start = i < t->n_sym_start ? t->sym_start[i] : 0,
			.name = string(b, t->name[i]),
			.module = string(b, i < t->n_module ? t->module[i] : 0),
		};
		map64_put(&b->symbols, symbol_key(t->binary, t->addr[i]), (uint64_t)(uintptr_t)s);
	}
}

static void take_losses(struct bundle *b, const Stallbox__V1__LossBlock *t)
{
	struct bundle_loss *bigger = realloc(b->losses, (b->n_losses + t->n_loss + 1) * sizeof(*bigger));

	if (!bigger)
		return;
	b->losses = bigger;
	b->losses_since_ns = t->since_ns;
	for (size_t i = 0; i < t->n_loss; i++)
		b->losses[b->n_losses++] = (struct bundle_loss){
			.cause = (enum bundle_loss_cause)t->loss[i]->cause,
			.kind = (enum bundle_kind)t->loss[i]->kind,
			.cpu = t->loss[i]->cpu,
			.count = t->loss[i]->count,
			.unit = keep_text(b, t->loss[i]->unit),
			.what = keep_text(b, t->loss[i]->what),
		};
}

static void take_marks(struct bundle *b, const Stallbox__V1__MarkBlock *t)
{
	struct bundle_mark *bigger = realloc(b->marks, (b->n_marks + t->n_mark + 1) * sizeof(*bigger));

	if (!bigger)
		return;
	b->marks = bigger;
	for (size_t i = 0; i < t->n_mark; i++)
		b->marks[b->n_marks++] = (struct bundle_mark){
			t->mark[i]->ts_ns, keep_text(b, t->mark[i]->kind), keep_bytes(b, t->mark[i]->text)
		};
}

static void take_series(struct bundle *b, const Stallbox__V1__SeriesBlock *t)
{
	struct bundle_series *bigger = realloc(b->series, (b->n_series + 1) * sizeof(*bigger)), *s;
	size_t n = SB_MIN(t->n_ts_delta, t->n_value_delta);
	uint64_t *ts = arena_alloc(&b->tables, n * sizeof(*ts)), at = t->base_ns;
	int64_t *value = arena_alloc(&b->tables, n * sizeof(*value)), v = 0;

	if (!bigger)
		return;
	b->series = bigger;
	if (!ts || !value)
		return;
	for (size_t i = 0; i < n; i++) {
		ts[i] = at += (uint64_t)t->ts_delta[i];
		value[i] = v = (int64_t)((uint64_t)v + (uint64_t)t->value_delta[i]);
	}
	s = &b->series[b->n_series++];
	*s = (struct bundle_series){ string(b, t->name), string(b, t->scope), keep_text(b, t->unit),
				     t->counter, ts, value, n };
}

static void take_shot(struct bundle *b, const Stallbox__V1__Stackshot *t)
{
	struct bundle_shot_thread *bigger;

	if (t->begin_ns != b->shot_begin_ns) /* of another moment: the last one counts */
		b->n_shot = 0;
	bigger = realloc(b->shot, (b->n_shot + t->n_thread + 1) * sizeof(*bigger));
	if (!bigger)
		return;
	b->shot = bigger;
	b->shot_begin_ns = t->begin_ns;
	b->shot_end_ns = t->end_ns;
	b->shot_seen = t->threads_seen;
	b->shot_truncated = t->truncated;
#define COLUMN(field) .field = i < t->n_##field ? t->field[i] : 0,
	for (size_t i = 0; i < t->n_thread; i++)
		b->shot[b->n_shot++] = (struct bundle_shot_thread){
			SHOT_COLUMNS32(COLUMN) SHOT_COLUMNS64(COLUMN) SHOT_COLUMNS_SIGNED(COLUMN)
		};
#undef COLUMN
}

static void take_cost(struct bundle *b, const Stallbox__V1__SelfCost *t)
{
	struct bundle_program_cost *p = arena_alloc(&b->tables, (t->n_program + 1) * sizeof(*p));

	if (!p)
		return;
	for (size_t i = 0; i < t->n_program; i++)
		p[i] = (struct bundle_program_cost){ keep_text(b, t->program[i]->name),
						     t->program[i]->run_cnt, t->program[i]->run_time_ns,
						     t->program[i]->recursion_misses };
	b->have_cost = true;
	b->cost = (struct bundle_cost){
		.since_ns = t->since_ns,
		.until_ns = t->until_ns,
		.program = p,
		.n_programs = t->n_program,
		.agent_cpu_ns = t->agent_cpu_ns,
		.agent_rss_bytes = t->agent_rss_bytes,
		.map_bytes = t->map_bytes,
		.wakeups = t->wakeups,
		.bytes_written = t->bytes_written,
		.worker_cpu_ns = t->worker_cpu_ns,
		.worker_rss_bytes = t->worker_rss_bytes,
		.bpf_time_ns = t->bpf_time_ns,
		.period_ns = t->period_ns,
		.windows = t->windows,
		.budget_ppm = t->budget_ppm,
		.limit_step = t->limit_step,
		.limit_changes = t->limit_changes,
	};
}

static const struct bundle_kv *keep_kv(struct bundle *b, Stallbox__V1__KeyValue **kv, size_t n)
{
	struct bundle_kv *list = arena_alloc(&b->tables, (n + 1) * sizeof(*list));

	for (size_t i = 0; list && i < n; i++)
		list[i] = (struct bundle_kv){ keep_bytes(b, kv[i]->key), keep_bytes(b, kv[i]->value) };
	return list;
}

static void take_trigger(struct bundle *b, const Stallbox__V1__Trigger *t)
{
	b->header.trigger = (struct bundle_trigger){
		.name = keep_text(b, t->name),
		.kind = keep_text(b, t->kind),
		.spec = keep_text(b, t->spec),
		.unit = keep_text(b, t->unit),
		.detail = keep_bytes(b, t->detail),
		.fired_ns = t->fired_ns,
		.value = t->value,
		.threshold = t->threshold,
		.target_tid = t->target_tid,
	};
}

static int take_header(struct bundle *b, const Stallbox__V1__Header *m)
{
	struct bundle_header *h = &b->header;
	struct bundle_clock *clocks = arena_alloc(&b->tables, (m->n_clocks + 1) * sizeof(*clocks));
	uint32_t *online = arena_alloc(&b->tables, (m->n_cpu_online + 1) * sizeof(*online));

	b->seen_major = m->format_major;
	if (m->format_major != BUNDLE_FORMAT_MAJOR)
		return -EPROTO;
	b->have_header = true;
	*h = (struct bundle_header){
		.format_major = m->format_major,
		.format_minor = m->format_minor,
		.producer = keep_text(b, m->producer),
		.hostname = keep_bytes(b, m->hostname),
		.machine_id_hash = keep_bytes(b, m->machine_id_hash),
		.boot_id = keep_bytes(b, m->boot_id),
		.kernel_release = keep_bytes(b, m->kernel_release),
		.kernel_version = keep_bytes(b, m->kernel_version),
		.arch = keep_text(b, m->arch),
		.page_size = m->page_size,
		.cpus_possible = m->cpus_possible,
		.mem_total_bytes = m->mem_total_bytes,
		.sample_period_ns = m->sample_period_ns,
		.offcpu_threshold_ns = m->offcpu_threshold_ns,
		.ring_bytes = m->ring_bytes,
	};
	if (m->capture_id.len)
		memcpy(h->capture_id, m->capture_id.data,
		       SB_MIN(m->capture_id.len, sizeof(h->capture_id)));
	h->kernel_build_id_len = SB_MIN(m->kernel_build_id.len, sizeof(h->kernel_build_id));
	if (h->kernel_build_id_len)
		memcpy(h->kernel_build_id, m->kernel_build_id.data, h->kernel_build_id_len);
	for (size_t i = 0; clocks && i < m->n_clocks; i++)
		clocks[i] = (struct bundle_clock){ m->clocks[i]->monotonic_ns, m->clocks[i]->realtime_ns,
						   m->clocks[i]->boottime_ns };
	h->clocks = clocks;
	h->n_clocks = clocks ? m->n_clocks : 0;
	if (online && m->n_cpu_online)
		memcpy(online, m->cpu_online, m->n_cpu_online * sizeof(*online));
	h->cpu_online = online;
	h->n_cpu_online = online ? m->n_cpu_online : 0;
	h->config = keep_kv(b, m->config, m->n_config);
	h->n_config = h->config ? m->n_config : 0;
	h->missing = keep_kv(b, m->missing, m->n_missing);
	h->n_missing = h->missing ? m->n_missing : 0;
	b->header.trigger = (struct bundle_trigger){ "", "", "", "", "", 0, 0, 0, 0 };
	if (m->trigger)
		take_trigger(b, m->trigger);
	return 0;
}

static void take_footer(struct bundle *b, const Stallbox__V1__Footer *m)
{
	b->have_footer = b->damage.complete = true;
	b->footer = (struct bundle_footer){ m->chunks, m->events, m->closed_ns, m->first_event_ns,
					    m->last_event_ns, m->raw_durable_ns, m->pre_durable_ns,
					    m->symbolized };
}

/* ---- events ------------------------------------------------------------------------------------------ */

static bool column_ok(size_t n, size_t want)
{
	return n == 0 || n == want;
}

static bool block_ok(const Stallbox__V1__EventBlock *m)
{
	size_t n = m->n_ts_delta;

#define COLUMN(field, member) &&column_ok(m->n_##field, n)
	return m->kind > 0 && (int)m->kind < BUNDLE_KIND_COUNT COLUMNS32(COLUMN) COLUMNS64(COLUMN)
		COLUMNS_TIME(COLUMN);
#undef COLUMN
}

static uint32_t valid_id(uint32_t id, uint32_t n, uint64_t *bad)
{
	if (id <= n)
		return id;
	++*bad;
	return 0;
}

static int each_in_block(struct bundle *b, const Stallbox__V1__EventBlock *m, bundle_event_fn fn,
			 void *ctx, uint64_t *bad)
{
	uint64_t unit = m->time_unit_ns ? m->time_unit_ns : 1, ts = m->base_ns;

	for (size_t i = 0; i < m->n_ts_delta; i++) {
		struct bundle_event e;
		int r;

		ts += (uint64_t)m->ts_delta[i] * unit;
		e = (struct bundle_event){
			.kind = (enum bundle_kind)m->kind,
			.cpu = m->cpu,
			.ts_ns = ts,
#define COLUMN(field, member) .member = m->n_##field ? m->field[i] : 0,
			COLUMNS32(COLUMN) COLUMNS64(COLUMN)
#undef COLUMN
#define COLUMN(field, member) .member = m->n_##field ? m->field[i] * unit : 0,
			COLUMNS_TIME(COLUMN)
#undef COLUMN
		};
		e.thread = valid_id(e.thread, b->n_threads, bad);
		e.peer = valid_id(e.peer, b->n_threads, bad);
		e.kstack = valid_id(e.kstack, b->n_stacks, bad);
		e.ustack = valid_id(e.ustack, b->n_stacks, bad);
		if (e.kind == BUNDLE_ON_CPU && !e.duration_ns)
			e.duration_ns = b->header.sample_period_ns;
		r = fn(&e, ctx);
		if (r)
			return r;
	}
	return 0;
}

static int count_event(const struct bundle_event *e, void *ctx)
{
	struct bundle *b = ctx;

	b->n_events[e->kind]++;
	if (!b->first_ns || e->ts_ns < b->first_ns)
		b->first_ns = e->ts_ns;
	if (e->ts_ns > b->last_ns)
		b->last_ns = e->ts_ns;
	return 0;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static int take_chunk(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx)
{
	(void)ctx;
	if (c->seq > b->next_seq)
		b->damage.missing_chunks += c->seq - b->next_seq;
	b->next_seq = c->seq + 1;
	switch (c->body_case) {
	case STALLBOX__V1__CHUNK__BODY_HEADER:
		return take_header(b, c->header);
	case STALLBOX__V1__CHUNK__BODY_STRINGS:
		take_strings(b, c->strings);
		break;
	case STALLBOX__V1__CHUNK__BODY_BINARIES:
		take_binaries(b, c->binaries);
		break;
	case STALLBOX__V1__CHUNK__BODY_PROCESSES:
		for (size_t i = 0; i < c->processes->n_process; i++)
			take_process(b, c->processes->process[i]);
		break;
	case STALLBOX__V1__CHUNK__BODY_THREADS:
		take_threads(b, c->threads);
		break;
	case STALLBOX__V1__CHUNK__BODY_STACKS:
		take_stacks(b, c->stacks);
		break;
	case STALLBOX__V1__CHUNK__BODY_EVENTS:
		if (block_ok(c->events))
			each_in_block(b, c->events, count_event, b, &b->damage.bad_references);
		else
			b->damage.bad_references++;
		break;
	case STALLBOX__V1__CHUNK__BODY_SERIES:
		take_series(b, c->series);
		break;
	case STALLBOX__V1__CHUNK__BODY_LOSSES:
		take_losses(b, c->losses);
		break;
	case STALLBOX__V1__CHUNK__BODY_SYMBOLS:
		take_symbols(b, c->symbols);
		break;
	case STALLBOX__V1__CHUNK__BODY_STACKSHOT:
		take_shot(b, c->stackshot);
		break;
	case STALLBOX__V1__CHUNK__BODY_CGROUPS:
		take_cgroups(b, c->cgroups);
		break;
	case STALLBOX__V1__CHUNK__BODY_MARKS:
		take_marks(b, c->marks);
		break;
	case STALLBOX__V1__CHUNK__BODY_SELF_COST:
		take_cost(b, c->self_cost);
		break;
	case STALLBOX__V1__CHUNK__BODY_FOOTER:
		take_footer(b, c->footer);
		break;
	default:
		break; /* of a newer minor version */
	}
	return 0;
}

static int set_error(struct bundle_error *err, uint64_t offset, int r, const char *what,
		     const char *hint)
{
	if (err) {
		*err = (struct bundle_error){ .offset = offset };
		snprintf(err->what, sizeof(err->what), "%s", what);
		snprintf(err->hint, sizeof(err->hint), "%s", hint);
	}
	return r;
}

/* Standard input cannot be read twice: it goes to an unlinked temporary file. */
static int spool_stdin(void)
{
	char path[] = "/tmp/stallbox-stdin.XXXXXX", buf[65536];
	int fd = mkostemp(path, O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	unlink(path);
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0) {
		for (ssize_t done = 0; done < n;) {
			ssize_t k = write(fd, buf + done, (size_t)(n - done));

			if (k < 0) {
				int r = -errno;

				close(fd);
				return r;
			}
			done += k;
		}
	}
	return fd;
}

static int open_raw(const char *path, struct bundle **ret, struct bundle_error *err)
{
	struct bundle *b = calloc(1, sizeof(*b));
	struct stat st;

	if (!b)
		return -ENOMEM;
	b->fd = !strcmp(path, "-") ? spool_stdin() : open(path, O_RDONLY | O_CLOEXEC);
	if (b->fd < 0) {
		int r = !strcmp(path, "-") ? b->fd : -errno;

		free(b);
		return set_error(err, 0, r, strerror(-r), "");
	}
	if (fstat(b->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(b->fd);
		free(b);
		return set_error(err, 0, -EINVAL, "not a regular file",
				 "name a .stall.pb.zst file, or - for standard input");
	}
	b->size = (uint64_t)st.st_size;
	b->packed = malloc(FRAME_PACKED_MAX);
	b->plain = malloc(FRAME_PLAIN_MAX);
	b->zstd = ZSTD_createDCtx();
	b->chunk.max = CHUNK_DECODE_MAX;
	b->tables.max = TABLES_MAX;
	b->alloc = (ProtobufCAllocator){ arena_alloc, arena_free_one, &b->chunk };
	if (!b->packed || !b->plain || !b->zstd) {
		bundle_close(b);
		return -ENOMEM;
	}
	ZSTD_DCtx_setParameter(b->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	*ret = b;
	return 0;
}

int bundle_open(const char *path, struct bundle **ret, struct bundle_error *err)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	char text[160];
	int r = open_raw(path, &b, err);

	if (r < 0)
		return r;
	if (!b->size)
		return set_error(err, 0, -EBADMSG, "the file is empty",
				 "expected a stallbox bundle; was the disk full when it was written?");
	r = each_chunk(b, true, take_chunk, NULL);
	if (r == -EPROTO) {
		snprintf(text, sizeof(text), "format version %u, this program reads version %u",
			 b->seen_major, BUNDLE_FORMAT_MAJOR);
		return set_error(err, 0, r, text, "use a newer stallbox");
	}
	if (r < 0)
		return set_error(err, 0, r, strerror(-r), "");
	if (!b->damage.frames)
		return set_error(err, b->damage.first_offset, -EBADMSG, "not a stallbox bundle: no whole "
				 "zstd frame in it", "expected a file written by stallboxd (.stall.pb.zst)");
	if (!b->next_seq && !b->have_header)
		return set_error(err, 0, -EBADMSG, "not a stallbox bundle: zstd data of another format",
				 "expected a file written by stallboxd (.stall.pb.zst)");
	*ret = TAKE_PTR(b);
	return 0;
}

void bundle_close(struct bundle *b)
{
	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	free(b->packed);
	free(b->plain);
	ZSTD_freeDCtx(b->zstd);
	arena_reset(&b->chunk);
	arena_reset(&b->tables);
	free(b->strings);
	free(b->threads);
	free(b->processes);
	free(b->stacks);
	free(b->cgroups);
	free(b->binaries);
	free(b->losses);
	free(b->marks);
	free(b->series);
	free(b->shot);
	map64_done(&b->symbols);
	free(b);
}

struct event_pass {
	bundle_event_fn fn;
	void *ctx;
};

static int give_events(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx)
{
	const struct event_pass *pass = ctx;
	uint64_t ignored = 0;

	if (c->body_case != STALLBOX__V1__CHUNK__BODY_EVENTS || !block_ok(c->events))
		return 0;
	return each_in_block(b, c->events, pass->fn, pass->ctx, &ignored);
}

int bundle_each_event(struct bundle *b, bundle_event_fn fn, void *ctx)
{
	struct event_pass pass = { fn, ctx };

	return each_chunk(b, false, give_events, &pass);
}

/* ---- recovery ---------------------------------------------------------------------------------------------- */

static int copy_frame(struct bundle *b, const uint8_t *plain, size_t len, uint64_t offset, void *ctx)
{
	size_t packed = ZSTD_findFrameCompressedSize(b->packed, FRAME_PACKED_MAX);

	(void)plain;
	(void)len;
	(void)offset;
	if (ZSTD_isError(packed))
		return -EIO;
	return fwrite(b->packed, 1, packed, ctx) == packed ? 0 : -errno;
}

int bundle_recover(const char *in, FILE *out, struct bundle_damage *ret_damage, struct bundle_error *err)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	int r = open_raw(in, &b, err);

	if (r < 0)
		return r;
	r = each_frame(b, true, copy_frame, out);
	*ret_damage = b->damage;
	if (r < 0)
		return set_error(err, 0, r, strerror(-r), "");
	if (!b->damage.frames)
		return set_error(err, b->damage.first_offset, -EBADMSG, "no whole frame to recover", "");
	return fflush(out) ? set_error(err, 0, -errno, strerror(errno), "") : 0;
}

/* ---- asking --------------------------------------------------------------------------------------------------- */

const struct bundle_header *bundle_header(const struct bundle *b)
{
	return b->have_header ? &b->header : NULL;
}

const struct bundle_footer *bundle_footer(const struct bundle *b)
{
	return b->have_footer ? &b->footer : NULL;
}

const struct bundle_damage *bundle_damage(const struct bundle *b)
{
	return &b->damage;
}

uint32_t bundle_n_threads(const struct bundle *b)
{
	return b->n_threads;
}

uint32_t bundle_n_processes(const struct bundle *b)
{
	return b->n_processes;
}

uint32_t bundle_n_stacks(const struct bundle *b)
{
	return b->n_stacks;
}

uint32_t bundle_n_cgroups(const struct bundle *b)
{
	return b->n_cgroups;
}

uint32_t bundle_n_binaries(const struct bundle *b)
{
	return b->n_binaries;
}

const struct bundle_thread *bundle_thread(const struct bundle *b, uint32_t id)
{
	static const struct bundle_thread none = { .comm = "" };

	return id && id <= b->n_threads && b->threads[id - 1].comm ? &b->threads[id - 1] : &none;
}

const struct bundle_process *bundle_process(const struct bundle *b, uint32_t id)
{
	static const struct bundle_process none = { .comm = "", .exe = "" };

	return id && id <= b->n_processes && b->processes[id - 1].comm ? &b->processes[id - 1] : &none;
}

const struct bundle_stack *bundle_stack(const struct bundle *b, uint32_t id)
{
	/* Same fields in another order: handed out by value through one slot per caller. */
	static _Thread_local struct bundle_stack slot[4];
	static _Thread_local unsigned int next;
	struct bundle_stack *s = &slot[next++ & 3];

	*s = (struct bundle_stack){};
	if (id && id <= b->n_stacks) {
		const struct stack_entry *e = &b->stacks[id - 1];

		*s = (struct bundle_stack){ e->addr, e->n, e->process, e->unwind };
	}
	return s;
}

const char *bundle_cgroup_path(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_cgroups ? string(b, b->cgroups[id - 1].path) : "";
}

uint64_t bundle_cgroup_kernel_id(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_cgroups ? b->cgroups[id - 1].kernel_id : 0;
}

const char *bundle_binary_path(const struct bundle *b, uint32_t id)
{
	return id && id <= b->n_binaries && b->binaries[id - 1] ? b->binaries[id - 1] : "";
}

const char *bundle_symbolize(const struct bundle *b, uint32_t process, uint64_t addr,
			     const char **ret_module, uint64_t *ret_offset)
{
	const struct bundle_process *p = bundle_process(b, process);
	const struct bundle_symbol *s;
	uint32_t binary = 0;

	*ret_module = NULL;
	*ret_offset = addr;
	if (process) {
		for (size_t i = 0; i < p->n_maps; i++) {
			if (addr < p->maps[i].start || addr - p->maps[i].start >= p->maps[i].len)
				continue;
			binary = p->maps[i].binary;
			*ret_offset = addr - p->maps[i].start + p->maps[i].pgoff;
			*ret_module = bundle_binary_path(b, binary);
			break;
		}
		if (!binary)
			return NULL;
	}
	s = (const void *)(uintptr_t)map64_get(&b->symbols, symbol_key(binary, *ret_offset));
	if (!s || s->addr != *ret_offset)
		return NULL;
	if (!process && s->module[0])
		*ret_module = s->module;
	*ret_offset -= s->sym_start;
	return s->name;
}

const char *bundle_string(const struct bundle *b, uint32_t id)
{
	return string(b, id);
}

uint64_t bundle_losses_since_ns(const struct bundle *b)
{
	return b->losses_since_ns;
}

size_t bundle_losses(const struct bundle *b, const struct bundle_loss **ret)
{
	*ret = b->losses;
	return b->n_losses;
}

size_t bundle_marks(const struct bundle *b, const struct bundle_mark **ret)
{
	*ret = b->marks;
	return b->n_marks;
}

size_t bundle_series(const struct bundle *b, const struct bundle_series **ret)
{
	*ret = b->series;
	return b->n_series;
}

const struct bundle_cost *bundle_cost(const struct bundle *b)
{
	return b->have_cost ? &b->cost : NULL;
}

size_t bundle_stackshot(const struct bundle *b, const struct bundle_shot_thread **ret,
			uint64_t *ret_begin_ns, uint64_t *ret_end_ns, uint64_t *ret_seen,
			uint64_t *ret_truncated)
{
	*ret = b->shot;
	*ret_begin_ns = b->shot_begin_ns;
	*ret_end_ns = b->shot_end_ns;
	*ret_seen = b->shot_seen;
	*ret_truncated = b->shot_truncated;
	return b->n_shot;
}

uint64_t bundle_n_events(const struct bundle *b, enum bundle_kind kind)
{
	return (unsigned int)kind < BUNDLE_KIND_COUNT ? b->n_events[kind] : 0;
}

uint64_t bundle_first_ns(const struct bundle *b)
{
	return b->first_ns;
}

uint64_t bundle_last_ns(const struct bundle *b)
{
	return b->last_ns;
}
