// SPDX-License-Identifier: BSD-2-Clause
#include "tools/html.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <zlib.h>

#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/syscalls.h"

/* ---- JSON in a script element ----------------------------------------------------------- */

/* Of JSON that is there already: neither "</script" nor "<!--" can end or change the element. */
static void put_without_markup(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '<')
			fputs("\\u003c", out);
		else
			putc(*s, out);
	}
}

static void put_text(FILE *out, const char *s)
{
	putc('"', out);
	escape_put(out, ESCAPE_SCRIPT, s ? s : "");
	putc('"', out);
}

static void key_text(FILE *out, const char *key, const char *value)
{
	fprintf(out, ",\"%s\":", key);
	put_text(out, value);
}

static void key_number(FILE *out, const char *key, double value)
{
	if (isfinite(value))
		fprintf(out, ",\"%s\":%.15g", key, value);
	else
		fprintf(out, ",\"%s\":null", key);
}

/* Seconds from the trigger; null: not known. */
static void key_offset(const struct html *h, const char *key, uint64_t ts_ns)
{
	if (ts_ns)
		fprintf(h->x.out, ",\"%s\":%.6f", key, (double)(int64_t)(ts_ns - h->trigger_ns) / 1e9);
	else
		fprintf(h->x.out, ",\"%s\":null", key);
}

/* ---- columns ------------------------------------------------------------------------------ */

static void begin_column(struct html *h, const char *name)
{
	struct html_column *c = &h->column[SB_MIN(h->n_columns, (size_t)HTML_COLUMNS - 1)];

	snprintf(c->name, sizeof(c->name), "%s", name);
	c->offset = h->columns.len;
	c->n = 0;
}

static void put_value(struct html *h, uint64_t v)
{
	wire_varint(&h->columns, v);
	h->column[h->n_columns].n++;
}

static void put_signed(struct html *h, int64_t v)
{
	put_value(h, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static void end_column(struct html *h)
{
	h->column[h->n_columns].len = h->columns.len - h->column[h->n_columns].offset;
	h->n_columns += h->n_columns < HTML_COLUMNS - 1;
}

static uint32_t thread_at(struct html *h, uint32_t id)
{
	if (id > bundle_n_threads(h->x.b))
		id = 0;
	if (!h->thread_at[id]) {
		h->threads[h->n_threads++] = id;
		h->thread_at[id] = h->n_threads;
	}
	return h->thread_at[id] - 1;
}

enum part { PART_TIME, PART_PAIR, PART_THREAD, PART_CPU, PART_STATE, PART_WEIGHT, PART_STANDS_FOR, PART_SCANNED, PART_RECLAIMED, PARTS };

static uint64_t part_of(struct html *h, const struct export_event *e, enum part part)
{
	switch (part) {
	case PART_PAIR: return e->pair;
	case PART_THREAD: return thread_at(h, e->thread);
	case PART_CPU: return e->cpu;
	case PART_STATE: return e->kind == BUNDLE_ON_CPU ? e->flags & BUNDLE_EV_USER : (unsigned char)e->state;
	case PART_WEIGHT: return SB_MIN(e->weight, 1ULL << 53); /* what a double holds */
	case PART_STANDS_FOR: return e->stands_for;
	case PART_SCANNED: return e->scanned;
	case PART_RECLAIMED: return e->reclaimed;
	default: return (e->ts_ns - h->base_ns) / HTML_TICK_NS;
	}
}

/* One kind of events, in time order: a column for each part. */
static void put_events(struct html *h, enum fold_kind kind, const uint32_t *events, size_t n)
{
	static const char *const names[PARTS] = { "t", "pair", "thread", "cpu", "x", "w", "many", "scanned", "reclaimed" };
	bool one_each = kind == FOLD_ON_CPU;
	char name[32];

	for (size_t i = 0; i < n && one_each; i++)
		one_each = h->x.event[events[i]].weight == 1;
	for (enum part part = 0; part < PARTS; part++) {
		uint64_t last = 0;

		if (part == PART_WEIGHT && one_each)
			continue;
		if (part == PART_STANDS_FOR && kind != FOLD_RECLAIM && kind != FOLD_LOCK_WAIT)
			continue;
		if (part >= PART_SCANNED && kind != FOLD_RECLAIM)
			continue;
		snprintf(name, sizeof(name), "%s.%s", fold_kind_name(kind), names[part]);
		begin_column(h, name);
		for (size_t i = 0; i < n; i++) {
			uint64_t v = part_of(h, &h->x.event[events[i]], part);

			put_value(h, v - last);
			if (part == PART_TIME)
				last = v;
		}
		end_column(h);
	}
}

static int put_kinds(struct html *h)
{
	_cleanup_free_ uint32_t *order = calloc(h->x.n + 1, sizeof(*order));
	size_t begin[FOLD_KINDS + 2] = {};

	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < h->x.n; i++)
		begin[export_fold_kind(h->x.event[i].kind) + 1]++;
	for (int k = 0; k <= FOLD_KINDS; k++)
		begin[k + 1] += begin[k];
	for (size_t i = 0; i < h->x.n; i++)
		order[begin[export_fold_kind(h->x.event[i].kind)]++] = (uint32_t)i;
	for (int k = 0; k < FOLD_KINDS; k++) { /* begin has moved on by one kind */
		size_t first = k ? begin[k - 1] : 0;

		if (k != FOLD_BLOCKED)
			put_events(h, (enum fold_kind)k, order + first, begin[k] - first);
	}
	return 0;
}

static void put_stacks(struct html *h)
{
	uint32_t ids[FOLD_MAX_FRAMES];

	begin_column(h, "depth");
	for (uint32_t i = 0; i < h->x.n_pairs; i++)
		put_value(h, export_frames(&h->x, i, ids, FOLD_MAX_FRAMES));
	end_column(h);
	begin_column(h, "frame"); /* root first; names from 1 on */
	for (uint32_t i = 0; i < h->x.n_pairs; i++) {
		uint32_t n = export_frames(&h->x, i, ids, FOLD_MAX_FRAMES);

		for (uint32_t k = 0; k < n; k++)
			put_value(h, ids[k]);
	}
	end_column(h);
}

/* ---- facts ---------------------------------------------------------------------------- */

static void put_header(struct html *h)
{
	static const struct bundle_header none = { .trigger = { .name = "" } };
	const struct bundle_header *head = bundle_header(h->x.b) ? bundle_header(h->x.b) : &none;
	const struct bundle_damage *d = bundle_damage(h->x.b);
	const struct bundle_footer *f = bundle_footer(h->x.b);
	FILE *out = h->x.out;

	fprintf(out, "{\"version\":\"" SB_VERSION "\",\"tick\":%.6f,\"cpus\":%zu", (double)HTML_TICK_NS / 1e9, head->n_cpu_online);
	key_offset(h, "base", h->base_ns);
	key_text(out, "host", head->hostname ? head->hostname : "unknown host");
	key_text(out, "kernel", head->kernel_release);
	key_text(out, "arch", head->arch);
	key_text(out, "producer", head->producer);
	key_number(out, "memory", (double)head->mem_total_bytes);
	key_number(out, "period", (double)head->sample_period_ns / 1e9);
	key_number(out, "threshold", (double)head->offcpu_threshold_ns / 1e9);
	fprintf(out, ",\"trigger\":{\"wall\":%.3f", (double)export_realtime(&h->x, h->trigger_ns) / 1e9);
	key_text(out, "name", head->trigger.name);
	key_text(out, "spec", head->trigger.spec);
	key_text(out, "unit", head->trigger.unit);
	key_text(out, "detail", head->trigger.detail);
	key_number(out, "value", head->trigger.value);
	key_number(out, "threshold", head->trigger.threshold);
	fprintf(out, "},\"missing\":[");
	for (size_t i = 0; i < head->n_missing; i++) {
		fputs(i ? ",[" : "[", out);
		put_text(out, head->missing[i].key);
		putc(',', out);
		put_text(out, head->missing[i].value);
		putc(']', out);
	}
	fprintf(out, "],\"complete\":%s,\"bad\":%" PRIu64, d->complete ? "true" : "false",
		d->bad_frames + d->missing_chunks + d->bad_references + (d->skipped_bytes != 0));
	key_offset(h, "first", bundle_first_ns(h->x.b));
	key_offset(h, "last", bundle_last_ns(h->x.b));
	key_offset(h, "durable", f ? f->raw_durable_ns : 0);
	key_offset(h, "preDurable", f ? f->pre_durable_ns : 0);
}

/* The report prints; here it prints into memory. */
static int put_report(struct html *h)
{
	_cleanup_free_ char *text = NULL;
	FILE *saved = stdout, *memory;
	size_t len = 0;
	int r;

	memory = open_memstream(&text, &len);
	if (!memory)
		return -ENOMEM;
	stdout = memory;
	r = report_json(h->x.b, h->path);
	stdout = saved;
	if (fclose(memory) && r == 0)
		r = -ENOMEM;
	if (r == 0) {
		fputs(",\"report\":", h->x.out);
		put_without_markup(h->x.out, text);
	}
	return r;
}

static void put_losses(struct html *h)
{
	const struct bundle_cost *c = bundle_cost(h->x.b);
	const struct bundle_loss *l;
	const struct bundle_mark *m;
	FILE *out = h->x.out;
	size_t n = bundle_losses(h->x.b, &l);
	uint64_t run = 0, runs = 0;

	fputs(",\"losses\":[", out);
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s{\"count\":%" PRIu64 ",\"cause\":\"%s\",\"kind\":\"%s\"", i ? "," : "", l[i].count,
			bundle_loss_name(l[i].cause), l[i].kind == BUNDLE_KIND_NONE ? "" : bundle_kind_name(l[i].kind));
		key_text(out, "unit", l[i].unit);
		key_text(out, "what", l[i].what);
		putc('}', out);
	}
	fputs("],\"marks\":[", out);
	n = bundle_marks(h->x.b, &m);
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s{\"at\":%.6f", i ? "," : "", (double)(int64_t)(m[i].ts_ns - h->trigger_ns) / 1e9);
		key_text(out, "kind", m[i].kind);
		key_text(out, "text", m[i].text);
		putc('}', out);
	}
	putc(']', out);
	key_offset(h, "lossesSince", bundle_losses_since_ns(h->x.b));
	for (size_t i = 0; c && i < c->n_programs; i++) {
		run += c->program[i].run_time_ns;
		runs += c->program[i].run_cnt;
	}
	if (c)
		fprintf(out, ",\"cost\":{\"run\":%.9f,\"runs\":%" PRIu64 ",\"span\":%.6f,\"agent\":%.6f,\"rss\":%" PRIu64 ",\"maps\":%" PRIu64 "}",
			(double)run / 1e9, runs, (double)(c->until_ns - c->since_ns) / 1e9, (double)c->agent_cpu_ns / 1e9,
			c->agent_rss_bytes, c->map_bytes);
}

static void put_series(struct html *h)
{
	const struct bundle_series *s;
	size_t n = bundle_series(h->x.b, &s);
	FILE *out = h->x.out;

	fputs(",\"series\":[", out);
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s{\"n\":%zu,\"counter\":%s", i ? "," : "", s[i].n, s[i].counter ? "true" : "false");
		key_text(out, "name", s[i].name);
		key_text(out, "scope", s[i].scope);
		key_text(out, "unit", s[i].unit);
		putc('}', out);
	}
	putc(']', out);
	begin_column(h, "series.t"); /* milliseconds from the trigger */
	for (size_t i = 0; i < n; i++) {
		int64_t last = 0;

		for (size_t k = 0; k < s[i].n; k++) {
			int64_t t = (int64_t)(s[i].ts_ns[k] - h->trigger_ns) / 1000000;

			put_signed(h, t - last);
			last = t;
		}
	}
	end_column(h);
	begin_column(h, "series.v");
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < s[i].n; k++)
			put_signed(h, (int64_t)((uint64_t)s[i].value[k] - (uint64_t)(k ? s[i].value[k - 1] : 0)));
	}
	end_column(h);
}

/* Seconds since; null when not known. */
static void put_age(FILE *out, const char *key, uint64_t now_ns, uint64_t since_ns)
{
	if (since_ns && since_ns <= now_ns)
		fprintf(out, ",\"%s\":%.6f", key, (double)(now_ns - since_ns) / 1e9);
}

static void put_shot(struct html *h, const struct bundle_shot_thread *t, uint64_t now_ns)
{
	const struct bundle_header *head = bundle_header(h->x.b);
	FILE *out = h->x.out;
	char buf[32];

	fprintf(out, "{\"t\":%u,\"s\":\"%s\",\"cpu\":%u,\"p\":%u", thread_at(h, t->thread),
		t->flags & BUNDLE_SHOT_RUNNING ? "run" : (char[]){ shot_state(t), '\0' }, t->cpu,
		export_pair_of(&h->x, t->kstack, t->ustack, 0));
	put_age(out, "for", now_ns, t->since_ns);
	put_age(out, "reclaim", now_ns, t->reclaim_since_ns);
	if (t->lock) {
		fprintf(out, ",\"lock\":\"%s %s\"", lock_class(t->lock_flags), lock_mode(t->lock_flags));
		put_age(out, "lockFor", now_ns, t->lock_since_ns);
	}
	if (t->syscall)
		key_text(out, "call", syscall_name(head && head->arch ? head->arch : "", t->syscall - 1, buf));
	putc('}', out);
}

static void put_lock(struct html *h, const struct blame *r, const struct blame_lock *l)
{
	FILE *out = h->x.out;

	fprintf(out, "{\"addr\":\"0x%" PRIx64 "\",\"name\":\"%s\",\"mmap\":%s,\"waiters\":[", l->addr,
		l->mm ? "mmap_lock" : lock_class(l->flags), l->mm ? "true" : "false");
	for (size_t i = 0; i < l->n_waiters; i++)
		fprintf(out, "%s%u", i ? "," : "", l->waiter[i]);
	fputs("],\"chain\":[", out);
	for (size_t i = 0; i < l->n_chain; i++) {
		const struct blame_hop *hop = &l->chain[i];
		uint32_t kstack, ustack;
		uint64_t sampled;

		fprintf(out, "%s{\"how\":\"%s\",\"known\":%s,\"free\":%s", i ? "," : "", blame_how_text(hop->how),
			hop->how == BLAME_NOBODY ? "false" : "true", hop->how == BLAME_WOKEN ? "true" : "false");
		if (hop->how != BLAME_NOBODY)
			fprintf(out, ",\"t\":%u", thread_at(h, hop->thread_id));
		if (hop->why)
			key_text(out, "why", hop->why);
		if (hop->how != BLAME_NOBODY && hop->thread != UINT32_MAX) {
			blame_stacks(r, hop->thread, &kstack, &ustack, &sampled);
			fprintf(out, ",\"shot\":%u,\"p\":%u", hop->thread, export_pair_of(&h->x, kstack, ustack, 0));
			if (sampled && sampled < r->begin_ns)
				fprintf(out, ",\"sampled\":%.6f", (double)(r->begin_ns - sampled) / 1e9);
		}
		putc('}', out);
	}
	fputs("]}", out);
}

static int put_stackshot(struct html *h)
{
	const struct bundle_shot_thread *t;
	uint64_t begin, end, seen, truncated;
	size_t n = bundle_stackshot(h->x.b, &t, &begin, &end, &seen, &truncated);
	FILE *out = h->x.out;
	struct blame found;
	int r = blame_find(&found, h->x.b, &h->x.fold.names);

	if (r < 0)
		return r;
	fputs(",\"shot\":[", out);
	for (size_t i = 0; i < n; i++) {
		fputs(i ? ",\n" : "", out);
		put_shot(h, &t[i], begin);
	}
	fprintf(out, "],\"shotSeen\":%" PRIu64 ",\"shotTruncated\":%" PRIu64, n ? seen : 0, n ? truncated : 0);
	key_offset(h, "shotAt", n ? begin : 0);
	fputs(",\"locks\":[", out);
	for (size_t i = 0; i < found.n_locks; i++) {
		fputs(i ? ",\n" : "", out);
		put_lock(h, &found, &found.lock[i]);
	}
	putc(']', out);
	blame_done(&found);
	return 0;
}

static int put_usage(struct html *h, const char *key, enum group_by by)
{
	FILE *out = h->x.out;
	struct usages u = {};
	int r = usages_count(&u, h->x.b, h->x.filter, by);

	if (r == 0) {
		fprintf(out, ",\"%s\":[", key);
		for (uint32_t i = 0; i < u.n; i++) {
			const struct usage *of = &u.of[i];

			fputs(i ? ",\n[" : "[", out);
			put_text(out, group_label(&u.groups, i + 1));
			for (int side = 0; side < USAGE_SIDES; side++) {
				for (int v = 0; v < USAGE_VALUES; v++)
					fprintf(out, ",%" PRIu64, of->v[side][v]);
			}
			fprintf(out, ",%u,%u,%u,%u]", of->n_d, of->n_r, of->n_s, of->n_other);
		}
		fprintf(out, "],\"usageSpan\":[%.6f,%.6f]", (double)u.span_ns[0] / 1e9, (double)u.span_ns[1] / 1e9);
	}
	usages_done(&u);
	return r;
}

static void put_names(struct html *h)
{
	static const char classes[] = "kuxcjm"; /* as enum frame_class */
	const struct names *names = &h->x.fold.names;
	FILE *out = h->x.out;

	fputs(",\"names\":[", out);
	for (uint32_t i = 0; i < names->n; i++) {
		fputs(i ? "," : "", out);
		put_text(out, names->list[i].text);
	}
	fputs("],\"classes\":\"", out);
	for (uint32_t i = 0; i < names->n; i++)
		putc(classes[names->list[i].class], out);
	fputs("\",\"threads\":[", out);
	for (uint32_t i = 0; i < h->n_threads; i++) {
		const struct bundle_thread *t = bundle_thread(h->x.b, h->threads[i]);
		const struct bundle_process *p = bundle_process(h->x.b, t->process);

		fprintf(out, "%s[%u,%u,", i ? "," : "", t->tid, p->pid);
		put_text(out, *t->comm ? t->comm : "[unknown]");
		putc(',', out);
		put_text(out, *p->comm ? p->comm : t->comm);
		putc(']', out);
	}
	putc(']', out);
}

int html_put_facts(struct html *h)
{
	FILE *out = h->x.out;
	int r;

	put_header(h);
	put_losses(h);
	put_series(h);
	r = put_report(h);
	if (r == 0)
		r = put_kinds(h);
	if (r == 0)
		r = put_stackshot(h);
	if (r == 0)
		r = put_usage(h, "byProcess", GROUP_PROCESS);
	if (r == 0)
		r = put_usage(h, "byThread", GROUP_THREAD);
	if (r == 0)
		r = put_usage(h, "byCgroup", GROUP_CGROUP);
	put_stacks(h);
	put_names(h); /* after all that names something */
	fputs(",\"kinds\":[", out);
	for (int k = 0; k < FOLD_KINDS; k++)
		fprintf(out, "%s[\"%s\",\"%s\"]", k ? "," : "", fold_kind_name((enum fold_kind)k), export_unit((enum fold_kind)k));
	fputs("],\"columns\":{", out);
	for (size_t i = 0; i < h->n_columns; i++)
		fprintf(out, "%s\"%s\":[%zu,%zu,%zu]", i ? "," : "", h->column[i].name, h->column[i].offset, h->column[i].len,
			h->column[i].n);
	fputs("}}", out);
	return r < 0 ? r : h->columns.failed || h->x.failed ? -ENOMEM : 0;
}

/* ---- columns to text ------------------------------------------------------------------ */

struct base64 {
	FILE *out;
	uint32_t bits;
	unsigned int n; /* bytes in bits */
};

static void put_digits(struct base64 *b, unsigned int n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned int i = 0; i < 4; i++)
		putc_unlocked(i < n ? digits[b->bits >> (18 - 6 * i) & 63] : '=', b->out);
	b->bits = 0;
	b->n = 0;
}

static void put_base64(struct base64 *b, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		b->bits |= (uint32_t)data[i] << (16 - 8 * b->n);
		if (++b->n == 3)
			put_digits(b, 4);
	}
}

int html_put_columns(struct html *h)
{
	z_stream z = { .next_in = h->columns.data, .avail_in = (unsigned int)h->columns.len };
	struct base64 b64 = { .out = h->x.out };
	uint8_t buf[16384];
	int r;

	if (h->columns.len > UINT32_MAX)
		return -EFBIG;
	if (deflateInit(&z, 4) != Z_OK)
		return -ENOMEM;
	do {
		z.next_out = buf;
		z.avail_out = sizeof(buf);
		r = deflate(&z, Z_FINISH);
		put_base64(&b64, buf, sizeof(buf) - z.avail_out);
	} while (r == Z_OK);
	deflateEnd(&z);
	if (b64.n)
		put_digits(&b64, b64.n + 1);
	return r == Z_STREAM_END ? 0 : -EIO;
}

/* ---- all of it ------------------------------------------------------------------------ */

/* Frequent stacks get small numbers, which deflate likes. */
static int by_frequency(const void *a, const void *b, void *counts)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	const uint32_t *count = counts;

	if (count[x] != count[y])
		return count[x] > count[y] ? -1 : 1;
	return x < y ? -1 : x > y;
}

static int sort_pairs(struct export *x)
{
	uint32_t n = x->n_pairs;
	_cleanup_free_ uint32_t *count = calloc(n + 1u, sizeof(*count)), *order = calloc(n + 1u, sizeof(*order)),
				*place = calloc(n + 1u, sizeof(*place));
	_cleanup_free_ struct export_pair *old = NULL;

	if (!count || !order || !place)
		return -ENOMEM;
	for (size_t i = 0; i < x->n; i++)
		count[x->event[i].pair]++;
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	qsort_r(order, n, sizeof(*order), by_frequency, count);
	old = x->pair;
	x->pair = calloc(x->cap_pairs + 1u, sizeof(*x->pair));
	if (!x->pair)
		return -ENOMEM;
	map64_done(&x->pairs); /* what comes later gets numbers of its own */
	x->pairs = (struct map64){};
	for (uint32_t i = 0; i < n; i++) {
		x->pair[i] = old[order[i]];
		place[order[i]] = i;
	}
	for (size_t i = 0; i < x->n; i++)
		x->event[i].pair = place[x->event[i].pair];
	return 0;
}

int html_read(struct html *h, struct bundle *b, struct filter *filter, const char *path, FILE *out)
{
	int r;

	memset(h, 0, sizeof(*h));
	export_init(&h->x, b, filter, out);
	h->path = path;
	h->trigger_ns = filter->trigger_ns;
	h->thread_at = calloc(bundle_n_threads(b) + 1u, sizeof(*h->thread_at));
	h->threads = calloc(bundle_n_threads(b) + 2u, sizeof(*h->threads));
	if (!h->thread_at || !h->threads)
		return -ENOMEM;
	r = export_collect(&h->x);
	h->base_ns = h->x.n ? h->x.event[0].ts_ns : h->trigger_ns;
	return r < 0 ? r : sort_pairs(&h->x);
}

void html_done(struct html *h)
{
	export_done(&h->x);
	wire_done(&h->columns);
	free(h->thread_at);
	free(h->threads);
}
