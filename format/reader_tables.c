// SPDX-License-Identifier: BSD-2-Clause
/* What the chunks of a bundle hold beside events - header, tables, losses, marks, series, stackshot,
 * cost, footer - is copied into the open bundle, bounded, and with every number checked. */
#include <errno.h>

#include "format/columns.h"
#include "format/reader_impl.h"

/* A lost chunk of a table leaves a hole of ids; a larger one is made up. */
#define IDS_JUMP_MAX (1u << 20)
#define FRAMES_MAX_STACKS BUNDLE_STACK_MAX_FRAMES

static const char *keep(struct bundle *b, const void *data, size_t len)
{
	char *s = arena_alloc(&b->tables, len + 1);

	if (!s) {
		b->damage.bad_references++;
		return "";
	}
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

/* Tables grow by powers of two, so that many small parts do not copy each time. */
static size_t table_capacity(uint64_t n)
{
	size_t cap = 1024;

	while (cap < n)
		cap *= 2;
	return n ? cap : 0;
}

/* Tables that grow count for the memory of all tables, as what is in the arena does. */
static bool charge(struct bundle *b, size_t n, size_t size)
{
	struct arena *a = &b->tables;

	if (n > (a->max - SB_MIN(a->total, a->max)) / size) {
		b->damage.bad_references++;
		return false;
	}
	a->total += n * size;
	return true;
}

/* Makes room for `rows` ids from `first` on in a table of elements of `size`. New ones are zero. */
static bool grow_table(struct bundle *b, void **table, uint32_t *n, uint32_t first, size_t rows, size_t size)
{
	uint64_t last = (uint64_t)first + rows - 1;

	if (!first)
		return false;
	if (last > UINT32_MAX || (first > *n && first - 1 - *n > IDS_JUMP_MAX)) {
		b->damage.bad_references++;
		return false;
	}
	if (last <= *n)
		return true;
	if (last > table_capacity(*n)) {
		size_t cap = table_capacity(last);
		void *bigger;

		if (!charge(b, cap - table_capacity(*n), size))
			return false;
		bigger = realloc(*table, cap * size);
		if (!bigger)
			return false;
		*table = bigger;
	}
	memset((char *)*table + (size_t)*n * size, 0, (size_t)(last - *n) * size);
	*n = (uint32_t)last;
	return true;
}

/* Makes room for `more` elements behind `n`. */
static bool grow_list(struct bundle *b, void **list, size_t n, size_t more, size_t size)
{
	void *bigger;

	if (!charge(b, more, size))
		return false;
	bigger = realloc(*list, (n + more + 1) * size);
	if (!bigger)
		return false;
	*list = bigger;
	return true;
}

static void take_strings(struct bundle *b, const Stallbox__V1__StringTable *t)
{
	if (!grow_table(b, (void **)&b->strings, &b->n_strings, t->first_id, t->n_s, sizeof(*b->strings)))
		return;
	for (size_t i = 0; i < t->n_s; i++)
		b->strings[t->first_id - 1 + i] = (char *)keep_bytes(b, t->s[i]);
}

static void take_threads(struct bundle *b, const Stallbox__V1__ThreadTable *t)
{
	if (!grow_table(b, (void **)&b->threads, &b->n_threads, t->first_id, t->n_tid, sizeof(*b->threads)))
		return;
	for (size_t i = 0; i < t->n_tid; i++)
		b->threads[t->first_id - 1 + i] = (struct bundle_thread){
			.tid = t->tid[i],
			.process = i < t->n_process ? t->process[i] : 0,
			.comm = bundle_string(b, i < t->n_comm ? t->comm[i] : 0),
			.cgroup = i < t->n_cgroup ? t->cgroup[i] : 0,
		};
}

static void take_process(struct bundle *b, const Stallbox__V1__Process *m)
{
	size_t n = SB_MIN(SB_MIN(m->n_map_start, m->n_map_len), SB_MIN(m->n_map_pgoff, m->n_map_binary));
	struct bundle_mapping *maps = n ? arena_alloc(&b->tables, n * sizeof(*maps)) : NULL;
	struct bundle_process *p;

	if (!grow_table(b, (void **)&b->processes, &b->n_processes, m->id, 1, sizeof(*b->processes)))
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
		.comm = m->comm || !p->comm ? bundle_string(b, m->comm) : p->comm,
		.exe = m->exe || !p->exe ? bundle_string(b, m->exe) : p->exe,
		.cmdline = m->cmdline || !p->cmdline ? bundle_string(b, m->cmdline) : p->cmdline,
		.cmdline_bytes = m->cmdline ? m->cmdline_bytes : p->cmdline_bytes,
		.cgroup = m->cgroup,
		.maps = maps,
		.n_maps = maps ? n : 0,
		.map_state = (enum bundle_map_state)m->map_state,
	};
}

static void take_stacks(struct bundle *b, const Stallbox__V1__StackTable *t)
{
	size_t at = 0;

	if (!grow_table(b, (void **)&b->stacks, &b->n_stacks, t->first_id, t->n_len, sizeof(*b->stacks)))
		return;
	for (size_t i = 0; i < t->n_len; i++) {
		struct stack_entry *s = &b->stacks[t->first_id - 1 + i];
		uint32_t n = SB_MIN(t->len[i], FRAMES_MAX_STACKS);
		uint64_t addr = 0;

		if (t->len[i] > t->n_addr_delta - at) {
			b->damage.bad_references++;
			return;
		}
		s->addr = arena_alloc(&b->tables, n * sizeof(*s->addr));
		s->n = s->addr ? n : 0;
		b->damage.bad_references += !s->addr || n < t->len[i];
		for (uint32_t k = 0; k < s->n; k++) {
			addr += (uint64_t)t->addr_delta[at + k];
			s->addr[k] = addr;
		}
		at += t->len[i];
		s->process = i < t->n_process ? t->process[i] : 0;
		s->unwind = i < t->n_unwind ? t->unwind[i] : 0;
	}
}

static void take_cgroups(struct bundle *b, const Stallbox__V1__CgroupTable *t)
{
	if (!grow_table(b, (void **)&b->cgroups, &b->n_cgroups, t->first_id, t->n_kernel_id, sizeof(*b->cgroups)))
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

		if (grow_table(b, (void **)&b->binaries, &b->n_binaries, m->id, 1, sizeof(*b->binaries))) {
			struct binary_entry *e = &b->binaries[m->id - 1];
			size_t len = SB_MIN(m->build_id.len, (size_t)BUILD_ID_MAX);
			uint8_t *id = len ? arena_alloc(&b->tables, len) : NULL;

			e->path = bundle_string(b, m->path);
			e->build_id_len = id ? len : 0;
			e->build_id = id;
			if (id)
				memcpy(id, m->build_id.data, len);
		}
	}
}

static void take_symbols(struct bundle *b, const Stallbox__V1__SymbolTable *t)
{
	for (size_t i = 0; i < t->n_addr && i < t->n_name; i++) {
		struct bundle_symbol *s = arena_alloc(&b->tables, sizeof(*s));

		if (!s) {
			b->damage.bad_references++;
			return;
		}
		*s = (struct bundle_symbol){
			.addr = t->addr[i],
			.sym_start = i < t->n_sym_start ? t->sym_start[i] : 0,
			.name = bundle_string(b, t->name[i]),
			.module = bundle_string(b, i < t->n_module ? t->module[i] : 0),
		};
		map64_put(&b->symbols, reader_symbol_key(t->binary, t->addr[i]), (uint64_t)(uintptr_t)s);
	}
}

static void take_lines(struct bundle *b, const Stallbox__V1__LineTable *t)
{
	for (size_t i = 0, end, n = t->n_addr; i < n; i = end) {
		struct line_entry *e;

		for (end = i + 1; end < n && t->addr[end] == t->addr[i];)
			end++;
		e = arena_alloc(&b->tables, sizeof(*e) + (end - i) * sizeof(e->line[0]));
		if (!e)
			return;
		*e = (struct line_entry){ .addr = t->addr[i], .binary = t->binary, .n = (uint32_t)(end - i) };
		for (size_t k = i; k < end; k++)
			e->line[k - i] = (struct bundle_line){
				.name = bundle_string(b, k < t->n_name ? t->name[k] : 0),
				.file = bundle_string(b, k < t->n_file ? t->file[k] : 0),
				.line = k < t->n_line ? t->line[k] : 0,
			};
		map64_put(&b->lines, reader_symbol_key(t->binary, t->addr[i]), (uint64_t)(uintptr_t)e);
	}
}

static void take_losses(struct bundle *b, const Stallbox__V1__LossBlock *t)
{
	if (!grow_list(b, (void **)&b->losses, b->n_losses, t->n_loss, sizeof(*b->losses)))
		return;
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
	if (!grow_list(b, (void **)&b->marks, b->n_marks, t->n_mark, sizeof(*b->marks)))
		return;
	for (size_t i = 0; i < t->n_mark; i++)
		b->marks[b->n_marks++] = (struct bundle_mark){
			t->mark[i]->ts_ns, keep_text(b, t->mark[i]->kind), keep_bytes(b, t->mark[i]->text)
		};
}

static void take_series(struct bundle *b, const Stallbox__V1__SeriesBlock *t)
{
	struct bundle_series *s;
	size_t n = SB_MIN(t->n_ts_delta, t->n_value_delta);
	uint64_t *ts = arena_alloc(&b->tables, n * sizeof(*ts)), at = t->base_ns;
	int64_t *value = arena_alloc(&b->tables, n * sizeof(*value)), v = 0;

	if (!ts || !value || !grow_list(b, (void **)&b->series, b->n_series, 1, sizeof(*b->series)))
		return;
	for (size_t i = 0; i < n; i++) {
		ts[i] = at += (uint64_t)t->ts_delta[i];
		value[i] = v = (int64_t)((uint64_t)v + (uint64_t)t->value_delta[i]);
	}
	s = &b->series[b->n_series++];
	*s = (struct bundle_series){ bundle_string(b, t->name), bundle_string(b, t->scope), keep_text(b, t->unit),
				     t->counter, ts, value, n };
}

static void take_shot(struct bundle *b, const Stallbox__V1__Stackshot *t)
{
	if (t->begin_ns != b->shot_begin_ns) /* of another moment: the last one counts */
		b->n_shot = 0;
	if (!grow_list(b, (void **)&b->shot, b->n_shot, t->n_thread, sizeof(*b->shot)))
		return;
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
		.program = p,
		.n_programs = t->n_program,
#define FIELD(field) .field = t->field,
		COST_FIELDS(FIELD)
#undef FIELD
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

	if (b->have_header)
		return 0;
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

int reader_take(struct bundle *b, const Stallbox__V1__Chunk *c)
{
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
	case STALLBOX__V1__CHUNK__BODY_SERIES:
		take_series(b, c->series);
		break;
	case STALLBOX__V1__CHUNK__BODY_LOSSES:
		take_losses(b, c->losses);
		break;
	case STALLBOX__V1__CHUNK__BODY_SYMBOLS:
		take_symbols(b, c->symbols);
		break;
	case STALLBOX__V1__CHUNK__BODY_LINES:
		take_lines(b, c->lines);
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
