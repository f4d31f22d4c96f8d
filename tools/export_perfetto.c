// SPDX-License-Identifier: BSD-2-Clause
/*
 * Perfetto: perfetto.protos.Trace of github.com/google/perfetto. Packets follow the order of the
 * bundle (the readers sort them) and texts are interned: no event is kept, none is longer than it has
 * to be. On-CPU samples are perf samples; a track per CPU shows which thread they met; waits and spans are slices on tracks
 * of their threads, with the stack as callstack and in words; counters and gauges of the
 * context are counter tracks. A slice that covers a wait is measured, a slice on a CPU track
 * is drawn from samples and says how many. Where waits or spans were sampled, the slice is the one that
 * was recorded; its argument "weight" says how many it stands for.
 */
#include <errno.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/export.h"
#include "tools/syscalls.h"
#include "tools/wire.h"

enum {
	TRACE_PACKET = 1,
	PACKET_CLOCK_SNAPSHOT = 6, PACKET_TIMESTAMP = 8, PACKET_SEQUENCE_ID = 10, PACKET_TRACK_EVENT = 11,
	PACKET_INTERNED_DATA = 12, PACKET_SEQUENCE_FLAGS = 13, PACKET_TIMESTAMP_CLOCK_ID = 58, PACKET_DEFAULTS = 59,
	PACKET_TRACK_DESCRIPTOR = 60, PACKET_PERF_SAMPLE = 66,
	CLOCK_SNAPSHOT_CLOCKS = 1, CLOCK_SNAPSHOT_PRIMARY = 2, CLOCK_ID = 1, CLOCK_TIMESTAMP = 2,
	TRACK_UUID = 1, TRACK_NAME = 2, TRACK_PROCESS = 3, TRACK_THREAD = 4, TRACK_PARENT = 5, TRACK_COUNTER = 8,
	PROCESS_PID = 1, PROCESS_NAME = 6,
	THREAD_PID = 1, THREAD_TID = 2, THREAD_NAME = 5,
	COUNTER_UNIT_NAME = 6,
	EVENT_CATEGORY_IID = 3, EVENT_DEBUG = 4, EVENT_TYPE = 9, EVENT_NAME_IID = 10, EVENT_TRACK = 11, EVENT_NAME = 23,
	EVENT_COUNTER = 30,
	EVENT_CALLSTACK_IID = 56,
	DEBUG_NAME_IID = 1, DEBUG_UINT = 3, DEBUG_STRING = 6, DEBUG_STRING_IID = 17,
	INTERNED_CATEGORIES = 1, INTERNED_EVENT_NAMES = 2, INTERNED_DEBUG_NAMES = 3, INTERNED_FUNCTION_NAMES = 5, INTERNED_FRAMES = 6, INTERNED_CALLSTACKS = 7, INTERNED_MAPPING_PATHS = 17,
	INTERNED_MAPPINGS = 19, INTERNED_DEBUG_STRINGS = 29,
	IID = 1, STRING_STR = 2, FRAME_FUNCTION = 2, FRAME_MAPPING = 3, FRAME_REL_PC = 4, CALLSTACK_FRAMES = 2,
	MAPPING_END = 5, MAPPING_PATH = 7,
	SAMPLE_CPU = 1, SAMPLE_PID = 2, SAMPLE_TID = 3, SAMPLE_CALLSTACK = 4, SAMPLE_MODE = 5,
	MODE_KERNEL = 1, MODE_USER = 2,
	SLICE_BEGIN = 1, SLICE_END = 2, INSTANT = 3, COUNTER = 4,
	BUILTIN_REALTIME = 1, BUILTIN_MONOTONIC = 3, BUILTIN_BOOTTIME = 6,
	STATE_CLEARED = 1, NEEDS_STATE = 2,
	PATH_USER = 1, PATH_KERNEL = 2,
	ARG_CPU = 1, ARG_MICROSECONDS, ARG_WEIGHT, ARG_STACK, ARG_SAMPLES, ARG_DETAIL, ARG_LOSSES,
	CATEGORY_SAMPLED = BUNDLE_KIND_COUNT,
};
static const char *const arg_names[] = {
	[ARG_CPU] = "cpu", [ARG_MICROSECONDS] = "microseconds", [ARG_WEIGHT] = "weight", [ARG_STACK] = "stack",
	[ARG_SAMPLES] = "samples", [ARG_DETAIL] = "detail", [ARG_LOSSES] = "losses",
};
#define SEQUENCE 1
/* Track uuids: a kind in the upper half, an id in the lower. */
enum { TRACK_OF_PROCESS = 1, TRACK_OF_THREAD, TRACK_OF_CPU, TRACK_OF_SERIES, TRACK_OF_TRIGGER, TRACK_OF_KIND };

/* Samples that met the same thread on one CPU. */
struct run {
	uint64_t begin, last, samples;
	uint32_t thread;
};
#define CPUS (UINT16_MAX + 1u)

struct perfetto {
	struct export *x;
	uint64_t period;
	struct run *runs; /* by CPU: those that may go on */
	struct wire packet, body, inner, deep;
	bool *named;	   /* names ids whose function, frame are written */
	uint32_t cap_named;
	bool *stacked;	   /* pairs whose callstack and words are written */
	uint32_t cap_stacked;
	struct map64 tracks; /* uuids that are described */
	struct map64 event_names; /* interning ids */
	bool failed;
};

static uint64_t uuid(uint32_t kind, uint32_t id)
{
	return (uint64_t)kind << 32 | id;
}

static void end_packet(struct perfetto *p)
{
	wire_number(&p->packet, PACKET_SEQUENCE_ID, SEQUENCE);
	wire_message(&p->body, TRACE_PACKET, &p->packet);
	p->failed |= p->body.failed;
	fwrite(p->body.data, 1, p->body.len, p->x->out);
	wire_clear(&p->body);
}

static void text(struct wire *w, uint32_t field, const char *s)
{
	char buf[2048];

	escape_copy(buf, sizeof(buf), ESCAPE_TERMINAL, s);
	wire_text(w, field, buf);
}

/* ---- clocks, tracks ---------------------------------------------------------------- */

static void put_clock(struct perfetto *p, uint32_t id, int64_t ns)
{
	wire_number(&p->deep, CLOCK_ID, id);
	wire_number(&p->deep, CLOCK_TIMESTAMP, (uint64_t)ns);
	wire_message(&p->inner, CLOCK_SNAPSHOT_CLOCKS, &p->deep);
}

static void put_interned(struct perfetto *p, uint32_t field, uint64_t iid, const char *s)
{
	wire_number(&p->deep, IID, iid);
	text(&p->deep, STRING_STR, s);
	wire_message(&p->inner, field, &p->deep);
}

static void put_begin(struct perfetto *p)
{
	const struct bundle_header *h = bundle_header(p->x->b);

	wire_number(&p->packet, PACKET_SEQUENCE_FLAGS, STATE_CLEARED | NEEDS_STATE);
	wire_number(&p->inner, PACKET_TIMESTAMP_CLOCK_ID, BUILTIN_MONOTONIC);
	wire_message(&p->packet, PACKET_DEFAULTS, &p->inner);
	for (uint32_t i = 1; i < CATEGORY_SAMPLED; i++)
		put_interned(p, INTERNED_CATEGORIES, i, bundle_kind_name((enum bundle_kind)i));
	put_interned(p, INTERNED_CATEGORIES, CATEGORY_SAMPLED, "sampled");
	for (uint32_t i = 1; i < SB_ARRAY_SIZE(arg_names); i++)
		put_interned(p, INTERNED_DEBUG_NAMES, i, arg_names[i]);
	for (uint32_t i = PATH_USER; i <= PATH_KERNEL; i++) {
		put_interned(p, INTERNED_MAPPING_PATHS, i, i == PATH_USER ? "[user]" : "[kernel.kallsyms]");
		wire_number(&p->deep, IID, i);
		wire_number(&p->deep, MAPPING_END, UINT32_MAX);
		wire_number(&p->deep, MAPPING_PATH, i);
		wire_message(&p->inner, INTERNED_MAPPINGS, &p->deep);
	}
	wire_message(&p->packet, PACKET_INTERNED_DATA, &p->inner);
	end_packet(p);
	if (!h || !h->n_clocks)
		return;
	put_clock(p, BUILTIN_MONOTONIC, h->clocks[0].monotonic_ns);
	put_clock(p, BUILTIN_REALTIME, h->clocks[0].realtime_ns);
	put_clock(p, BUILTIN_BOOTTIME, h->clocks[0].boottime_ns);
	wire_number(&p->inner, CLOCK_SNAPSHOT_PRIMARY, BUILTIN_MONOTONIC);
	wire_message(&p->packet, PACKET_CLOCK_SNAPSHOT, &p->inner);
	end_packet(p);
}

/* True the first time. */
static bool new_track(struct perfetto *p, uint64_t id)
{
	if (map64_get(&p->tracks, id))
		return false;
	if (map64_put(&p->tracks, id, 1) < 0)
		p->failed = true;
	return true;
}

/* The inner buffer holds the track's descriptor but for its uuid and parent. */
static void end_track(struct perfetto *p, uint64_t id, uint64_t parent)
{
	wire_number(&p->inner, TRACK_UUID, id);
	if (parent)
		wire_number(&p->inner, TRACK_PARENT, parent);
	wire_message(&p->packet, PACKET_TRACK_DESCRIPTOR, &p->inner);
	end_packet(p);
}

static uint64_t named_track(struct perfetto *p, uint64_t id, uint64_t parent, const char *name)
{
	if (new_track(p, id)) {
		text(&p->inner, TRACK_NAME, name);
		end_track(p, id, parent);
	}
	return id;
}

static uint64_t thread_track(struct perfetto *p, uint32_t thread)
{
	const struct bundle_thread *t = bundle_thread(p->x->b, thread);
	const struct bundle_process *process = bundle_process(p->x->b, t->process);
	uint64_t id = uuid(TRACK_OF_THREAD, thread), parent = uuid(TRACK_OF_PROCESS, t->process);

	if (!new_track(p, id))
		return id;
	if (new_track(p, parent)) {
		wire_number(&p->deep, PROCESS_PID, process->pid);
		text(&p->deep, PROCESS_NAME, process->comm);
		wire_message(&p->inner, TRACK_PROCESS, &p->deep);
		end_track(p, parent, 0);
	}
	wire_number(&p->deep, THREAD_PID, process->pid);
	wire_number(&p->deep, THREAD_TID, t->tid);
	text(&p->deep, THREAD_NAME, t->comm);
	wire_message(&p->inner, TRACK_THREAD, &p->deep);
	end_track(p, id, parent);
	return id;
}

/* Spans of one kind and thread do not overlap, those of two kinds may: a track for each. */
static uint64_t span_track(struct perfetto *p, const struct export_event *e)
{
	uint64_t thread = thread_track(p, e->thread);

	if (e->kind == BUNDLE_OFF_CPU)
		return thread;
	return named_track(p, uuid(TRACK_OF_KIND + e->kind, e->thread), thread,
			   bundle_kind_name((enum bundle_kind)e->kind));
}

/* ---- stacks ------------------------------------------------------------------------ */

/* Room for `needed` marks. NULL without memory. */
static bool *grow_marks(struct perfetto *p, bool **marks, uint32_t *cap, uint32_t needed)
{
	uint32_t more = needed + needed / 2 + 1024;
	bool *bigger;

	if (needed <= *cap)
		return *marks;
	bigger = realloc(*marks, more);
	if (!bigger) {
		p->failed = true;
		return NULL;
	}
	memset(bigger + *cap, 0, more - *cap);
	*marks = bigger;
	*cap = more;
	return bigger;
}

static void put_function(struct perfetto *p, uint32_t id)
{
	bool kernel = names_class(&p->x->fold.names, id) == FRAME_KERNEL;
	bool *named = grow_marks(p, &p->named, &p->cap_named, id + 1);

	if (!named || named[id])
		return;
	named[id] = true;
	wire_number(&p->deep, IID, id);
	wire_text(&p->deep, STRING_STR, export_name(p->x, id));
	wire_message(&p->inner, INTERNED_FUNCTION_NAMES, &p->deep);
	wire_number(&p->deep, IID, id);
	wire_number(&p->deep, FRAME_FUNCTION, id);
	wire_number(&p->deep, FRAME_MAPPING, kernel ? PATH_KERNEL : PATH_USER);
	wire_number(&p->deep, FRAME_REL_PC, id);
	wire_message(&p->inner, INTERNED_FRAMES, &p->deep);
}

static void put_words(struct perfetto *p, uint32_t pair, const uint32_t *ids, uint32_t n)
{
	char line[2048];
	size_t at = 0;

	for (uint32_t i = n; i > 0 && at < sizeof(line) - 1; i--) {
		int k = snprintf(line + at, sizeof(line) - at, "%s%s", i < n ? " < " : "",
				 names_get(&p->x->fold.names, ids[i - 1]));

		at += k > 0 ? (size_t)k : 0;
	}
	put_interned(p, INTERNED_DEBUG_STRINGS, pair + 1, line);
}

/* Into the packet's interned data, as a callstack and in words. Returns the interning id; 0: no stack. */
static uint32_t intern_stack(struct perfetto *p, uint32_t pair)
{
	uint32_t ids[FOLD_MAX_FRAMES], n;
	bool *stacked = grow_marks(p, &p->stacked, &p->cap_stacked, pair + 1);

	if (!stacked)
		return 0;
	if (stacked[pair])
		return pair + 1;
	n = export_frames(p->x, pair, ids, FOLD_MAX_FRAMES);
	if (!n)
		return 0;
	stacked[pair] = true;
	for (uint32_t i = 0; i < n; i++) {
		if (ids[i])
			put_function(p, ids[i]);
	}
	wire_number(&p->deep, IID, pair + 1);
	for (uint32_t i = 0; i < n; i++)
		wire_number(&p->deep, CALLSTACK_FRAMES, ids[i]);
	wire_message(&p->inner, INTERNED_CALLSTACKS, &p->deep);
	put_words(p, pair, ids, n);
	return pair + 1;
}

/* What was interned for an event goes out before what refers to it. */
static void end_interned(struct perfetto *p)
{
	if (p->inner.len)
		wire_message(&p->packet, PACKET_INTERNED_DATA, &p->inner);
}

/* ---- events ------------------------------------------------------------------------ */

static void put_text(struct perfetto *p, uint32_t arg, const char *value)
{
	wire_number(&p->deep, DEBUG_NAME_IID, arg);
	text(&p->deep, DEBUG_STRING, value);
	wire_message(&p->inner, EVENT_DEBUG, &p->deep);
}

static void put_number(struct perfetto *p, uint32_t arg, uint64_t value)
{
	wire_number(&p->deep, DEBUG_NAME_IID, arg);
	wire_number(&p->deep, DEBUG_UINT, value);
	wire_message(&p->inner, EVENT_DEBUG, &p->deep);
}

static void put_sample(struct perfetto *p, const struct export_event *e)
{
	const struct bundle_thread *t = bundle_thread(p->x->b, e->thread);
	uint32_t stack = intern_stack(p, e->pair);

	end_interned(p);
	wire_number(&p->packet, PACKET_TIMESTAMP, e->ts_ns);
	wire_number(&p->inner, SAMPLE_CPU, e->cpu);
	wire_number(&p->inner, SAMPLE_PID, bundle_process(p->x->b, t->process)->pid);
	wire_number(&p->inner, SAMPLE_TID, t->tid);
	if (stack)
		wire_number(&p->inner, SAMPLE_CALLSTACK, stack);
	wire_number(&p->inner, SAMPLE_MODE, e->flags & BUNDLE_EV_USER ? MODE_USER : MODE_KERNEL);
	wire_message(&p->packet, PACKET_PERF_SAMPLE, &p->inner);
	end_packet(p);
}

static const char *state_name(char state)
{
	switch (state) {
	case 'D': return "uninterruptible";
	case 'S': return "sleeping";
	case 'R': return "waiting for a CPU";
	case 'I': return "idle kernel thread";
	case 'T': return "stopped";
	case 't': return "traced";
	default: return "off CPU";
	}
}

static void event_name(const struct perfetto *p, const struct export_event *e, char *ret, size_t len)
{
	const struct bundle_header *h = bundle_header(p->x->b);
	char buf[32];

	switch (e->kind) {
	case BUNDLE_OFF_CPU:
		snprintf(ret, len, "%c: %s", e->state, state_name(e->state));
		break;
	case BUNDLE_RECLAIM:
		snprintf(ret, len, "%s reclaim", reclaim_name(e->what));
		break;
	case BUNDLE_LOCK_WAIT:
	case BUNDLE_LOCK_HOLD:
		snprintf(ret, len, "%s %s%s%s", e->kind == BUNDLE_LOCK_WAIT ? "wait for" : "hold", lock_class(e->what),
			 *lock_mode(e->what) ? " " : "", lock_mode(e->what));
		break;
	case BUNDLE_SYSCALL:
		snprintf(ret, len, "%s", e->what ? syscall_name(h ? h->arch : "", e->what - 1, buf) : "syscall");
		break;
	case BUNDLE_SOFTIRQ:
		snprintf(ret, len, "softirq %s", softirq_name(e->what));
		break;
	case BUNDLE_HARDIRQ:
		snprintf(ret, len, "hardirq %u %s", e->irq, bundle_string(p->x->b, e->what));
		break;
	case BUNDLE_BLOCK_IO:
	case BUNDLE_SLAB:
		snprintf(ret, len, "%s %s", bundle_kind_name((enum bundle_kind)e->kind), bundle_string(p->x->b, e->what));
		break;
	case BUNDLE_WAKEUP:
	case BUNDLE_OOM:
		snprintf(ret, len, "%s %s %u", e->kind == BUNDLE_OOM ? "OOM kills" : "wakes",
			 bundle_thread(p->x->b, e->what)->comm, bundle_thread(p->x->b, e->what)->tid);
		break;
	default:
		snprintf(ret, len, "%s", bundle_kind_name((enum bundle_kind)e->kind));
	}
}

/* The interning id of an event's name. */
static uint64_t intern_event_name(struct perfetto *p, const struct export_event *e)
{
	uint64_t key = sb_mix64((uint64_t)e->kind << 32 | e->what);
	char name[400];
	uint64_t iid;

	key ^= sb_mix64((uint64_t)(uint8_t)e->state << 32 | (e->kind == BUNDLE_HARDIRQ ? e->irq : 0));
	iid = map64_get(&p->event_names, key | 1);
	if (iid)
		return iid;
	iid = p->event_names.n + 1;
	if (map64_put(&p->event_names, key | 1, iid) < 0)
		p->failed = true;
	event_name(p, e, name, sizeof(name));
	put_interned(p, INTERNED_EVENT_NAMES, iid, name);
	return iid;
}

/* A wakeup's duration is the other thread's wait. */
static bool is_span(const struct export_event *e)
{
	return e->kind != BUNDLE_WAKEUP && e->kind != BUNDLE_OOM && e->duration_ns;
}

static void put_span(struct perfetto *p, const struct export_event *e)
{
	uint64_t track = is_span(e) ? span_track(p, e) : thread_track(p, e->thread);
	uint64_t begin = e->ts_ns - (is_span(e) ? SB_MIN(e->ts_ns, e->duration_ns) : 0);
	uint32_t stack = intern_stack(p, e->pair);
	uint64_t name = intern_event_name(p, e);

	end_interned(p);
	wire_number(&p->packet, PACKET_TIMESTAMP, begin);
	wire_number(&p->inner, EVENT_TYPE, is_span(e) ? SLICE_BEGIN : INSTANT);
	wire_number(&p->inner, EVENT_TRACK, track);
	wire_number(&p->inner, EVENT_CATEGORY_IID, e->kind);
	wire_number(&p->inner, EVENT_NAME_IID, name);
	put_number(p, ARG_CPU, e->cpu);
	put_number(p, ARG_MICROSECONDS, e->duration_ns / 1000);
	if (export_is_sampled(e->kind))
		put_number(p, ARG_WEIGHT, e->stands_for);
	if (stack) {
		wire_number(&p->deep, DEBUG_NAME_IID, ARG_STACK);
		wire_number(&p->deep, DEBUG_STRING_IID, stack);
		wire_message(&p->inner, EVENT_DEBUG, &p->deep);
		wire_number(&p->inner, EVENT_CALLSTACK_IID, stack);
	}
	wire_message(&p->packet, PACKET_TRACK_EVENT, &p->inner);
	end_packet(p);
	if (!is_span(e))
		return;
	wire_number(&p->packet, PACKET_TIMESTAMP, e->ts_ns);
	wire_number(&p->inner, EVENT_TYPE, SLICE_END);
	wire_number(&p->inner, EVENT_TRACK, track);
	wire_message(&p->packet, PACKET_TRACK_EVENT, &p->inner);
	end_packet(p);
}

/* ---- CPU tracks: runs of samples that met the same thread ----------------------------- */

/* It lasts until `after` its last sample. */
static void put_run(struct perfetto *p, uint32_t cpu, const struct run *run, uint64_t after)
{
	const struct bundle_thread *t = bundle_thread(p->x->b, run->thread);
	char name[100];
	uint64_t track;

	if (!run->samples)
		return;
	snprintf(name, sizeof(name), "CPU %u (sampled)", cpu);
	track = named_track(p, uuid(TRACK_OF_CPU, cpu), 0, name);
	wire_number(&p->packet, PACKET_TIMESTAMP, run->begin);
	wire_number(&p->inner, EVENT_TYPE, SLICE_BEGIN);
	wire_number(&p->inner, EVENT_TRACK, track);
	wire_number(&p->inner, EVENT_CATEGORY_IID, CATEGORY_SAMPLED);
	snprintf(name, sizeof(name), "%s %u", t->comm, t->tid);
	text(&p->inner, EVENT_NAME, name);
	put_number(p, ARG_SAMPLES, run->samples);
	wire_message(&p->packet, PACKET_TRACK_EVENT, &p->inner);
	end_packet(p);
	wire_number(&p->packet, PACKET_TIMESTAMP, run->last + after);
	wire_number(&p->inner, EVENT_TYPE, SLICE_END);
	wire_number(&p->inner, EVENT_TRACK, track);
	wire_message(&p->packet, PACKET_TRACK_EVENT, &p->inner);
	end_packet(p);
}

static void add_to_run(struct perfetto *p, const struct export_event *e)
{
	struct run *run = &p->runs[e->cpu];

	if (run->samples && run->thread == e->thread && e->ts_ns - run->last < (e->weight + 1) * p->period) {
		run->last = e->ts_ns;
		run->samples += e->weight;
		return;
	}
	/* The next run must not begin inside this one, which ends a period after its last sample. */
	put_run(p, e->cpu, run, run->samples ? SB_MIN(p->period, e->ts_ns - run->last) : 0);
	*run = (struct run){ e->ts_ns, e->ts_ns, e->weight, e->thread };
}

/* ---- counters, marks ------------------------------------------------------------------ */

static void put_series(struct perfetto *p)
{
	const struct bundle_series *s;
	size_t n = bundle_series(p->x->b, &s);
	char name[600];

	for (size_t i = 0; i < n; i++) {
		uint64_t track = uuid(TRACK_OF_SERIES, (uint32_t)i);

		snprintf(name, sizeof(name), "%s%s%s", s[i].name, *s[i].scope ? " " : "", s[i].scope);
		text(&p->deep, COUNTER_UNIT_NAME, s[i].unit);
		wire_message(&p->inner, TRACK_COUNTER, &p->deep);
		text(&p->inner, TRACK_NAME, name);
		end_track(p, track, 0);
		for (size_t k = 0; k < s[i].n; k++) {
			wire_number(&p->packet, PACKET_TIMESTAMP, s[i].ts_ns[k]);
			wire_number(&p->inner, EVENT_TYPE, COUNTER);
			wire_number(&p->inner, EVENT_TRACK, track);
			wire_number(&p->inner, EVENT_COUNTER, (uint64_t)s[i].value[k]);
			wire_message(&p->packet, PACKET_TRACK_EVENT, &p->inner);
			end_packet(p);
		}
	}
}

static void put_mark(struct perfetto *p, uint64_t ts_ns, const char *name, const char *detail, const char *losses)
{
	uint64_t track = named_track(p, uuid(TRACK_OF_TRIGGER, 0), 0, "trigger and marks");

	wire_number(&p->packet, PACKET_TIMESTAMP, ts_ns);
	wire_number(&p->inner, EVENT_TYPE, INSTANT);
	wire_number(&p->inner, EVENT_TRACK, track);
	text(&p->inner, EVENT_NAME, name);
	put_text(p, ARG_DETAIL, detail);
	if (losses)
		put_text(p, ARG_LOSSES, losses);
	wire_message(&p->packet, PACKET_TRACK_EVENT, &p->inner);
	end_packet(p);
}

static void put_marks(struct perfetto *p)
{
	const struct bundle_header *h = bundle_header(p->x->b);
	const struct bundle_mark *m;
	size_t n = bundle_marks(p->x->b, &m);
	char name[300], losses[600];

	losses_line(p->x->b, losses, sizeof(losses));
	if (h) {
		snprintf(name, sizeof(name), "trigger %s", h->trigger.name);
		put_mark(p, h->trigger.fired_ns, name, h->trigger.detail, losses);
	}
	for (size_t i = 0; i < n; i++)
		put_mark(p, m[i].ts_ns, m[i].kind, m[i].text, NULL);
}

static int put_event(const struct export_event *e, void *ctx)
{
	struct perfetto *p = ctx;

	if (e->kind == BUNDLE_ON_CPU) {
		add_to_run(p, e);
		put_sample(p, e);
	} else if (e->kind != BUNDLE_KIND_NONE) {
		put_span(p, e);
	}
	return p->failed ? -ENOMEM : 0;
}

int export_perfetto(struct export *x)
{
	const struct bundle_header *h = bundle_header(x->b);
	struct perfetto p = { .x = x, .period = h && h->sample_period_ns ? h->sample_period_ns : 10 * NSEC_PER_MSEC };
	int r = -ENOMEM;

	p.runs = calloc(CPUS, sizeof(*p.runs));
	if (p.runs) {
		put_begin(&p);
		put_marks(&p);
		put_series(&p);
		r = export_each(x, put_event, &p);
		for (uint32_t cpu = 0; cpu < CPUS; cpu++)
			put_run(&p, cpu, &p.runs[cpu], p.period);
	}
	if (r == 0 && p.failed)
		r = -ENOMEM;
	wire_done(&p.packet);
	wire_done(&p.body);
	wire_done(&p.inner);
	wire_done(&p.deep);
	map64_done(&p.tracks);
	map64_done(&p.event_names);
	free(p.named);
	free(p.stacked);
	free(p.runs);
	return r;
}
