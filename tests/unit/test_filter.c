// SPDX-License-Identifier: BSD-2-Clause
/* Known events: each filter lets exactly the right ones through, and they come in time order. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "format/writer.h"
#include "tests/unit/one_file.h"
#include "tools/timeline.h"

#define KERNEL 0xffffffff81000000ULL
#define SECOND NSEC_PER_SEC
#define TRIGGER_NS (100 * SECOND)

static const struct opt_command command = { "test", "", "", { "", "" } };

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -EIO;
}

struct made {
	struct bundle_writer *w;
	FILE *f;
	uint32_t thread[4];
};

/* Threads 0 "db" 10/10 and 1 "db-io" 10/11 in /a/b, 2 "web" 20/20 in /a/bc, 3 "kworker/0" 30/30 in /. */
static void begin(struct made *m)
{
	static const struct {
		uint32_t pid, tid;
		const char *comm, *cgroup;
	} t[] = { { 10, 10, "db", "/a/b" }, { 10, 11, "db-io", "/a/b" }, { 20, 20, "web", "/a/bc" },
		  { 30, 30, "kworker/0", "/" } };
	struct bundle_header h = { .producer = "test", .hostname = "host", .sample_period_ns = 10000000,
				   .trigger = { "t", "manual", "manual", "", "", TRIGGER_NS, 0, 0, 0 } };

	m->f = fopen(path, "w");
	assert_non_null(m->f);
	assert_int_equal(bundle_writer_new(to_file, m->f, 1, &m->w), 0);
	bundle_writer_header(m->w, &h);
	for (uint32_t i = 0; i < SB_ARRAY_SIZE(t); i++) {
		uint32_t cgroup = bundle_writer_cgroup(m->w, i + 1, t[i].cgroup);
		struct bundle_process p = { .pid = t[i].pid, .comm = t[i].comm, .cgroup = cgroup };
		struct bundle_thread th = { t[i].tid, 0, t[i].comm, cgroup };

		th.process = i == 1 ? 1 : bundle_writer_process(m->w, &p);
		m->thread[i] = bundle_writer_thread(m->w, &th);
	}
}

static struct bundle *end(struct made *m)
{
	struct bundle_footer footer = { .symbolized = true };
	struct bundle_symbol s[] = { { KERNEL, KERNEL, "__do_softirq", "" },
				     { KERNEL + 8, KERNEL + 8, "__do_softirq_not", "" } };
	struct bundle *b = NULL;

	bundle_writer_flush(m->w);
	bundle_writer_symbols(m->w, 0, "kallsyms", s, SB_ARRAY_SIZE(s));
	assert_int_equal(bundle_writer_finish(m->w, &footer), 0);
	bundle_writer_free(m->w);
	assert_int_equal(fclose(m->f), 0);
	assert_int_equal(bundle_open(path, &b, NULL), 0);
	return b;
}

static int take_id(const struct bundle_event *e, void *ctx)
{
	char *text = ctx;
	size_t n = strlen(text);

	text[n] = (char)('a' + e->order);
	text[n + 1] = '\0';
	return 0;
}

/* Letters of the events that pass, in time order; the event's letter is in "order". */
static const char *passing(struct bundle *b, struct filter *f)
{
	static char text[64];

	text[0] = '\0';
	assert_int_equal(filter_parse(f, &command), -1);
	assert_int_equal(filter_start(f, b), 0);
	assert_int_equal(timeline_each(b, f, take_id, text), 0);
	filter_done(f);
	return text;
}
#define PASS(want, ...)                                                                            \
	do {                                                                                       \
		struct filter f_ = { .trigger_ns = 0, __VA_ARGS__ };                               \
												   \
		f_.pid = f_.pid ? f_.pid : NO_NUMBER;                                              \
		f_.tid = f_.tid ? f_.tid : NO_NUMBER;                                              \
		f_.cpu = f_.cpu ? f_.cpu : NO_NUMBER;                                              \
		assert_string_equal(passing(b, &f_), want);                                        \
	} while (0)

static uint32_t stack(struct made *m, uint64_t addr)
{
	struct bundle_stack s = { &addr, 1, 0, BUNDLE_UNWIND_KERNEL };

	return bundle_writer_stack(m->w, addr, &s);
}

static void test_options(void **state)
{
	struct made m;
	struct bundle *b;

	(void)state;
	begin(&m);
	{
		struct bundle_event e[] = {
			/* a: before the reclaim span, b: in it, c: at its end, d: after it. e: of another thread */
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - 10 * SECOND, .thread = m.thread[0] },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - 8 * SECOND, .thread = m.thread[0], .cpu = 1 },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - 7 * SECOND, .thread = m.thread[0] },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - 6 * SECOND, .thread = m.thread[0] },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - 8 * SECOND, .thread = m.thread[1], .cpu = 2 },
			/* f: block that begins in the span and ends after it; g: begins before */
			{ .kind = BUNDLE_OFF_CPU, .ts_ns = TRIGGER_NS - 5 * SECOND, .thread = m.thread[0],
			  .duration_ns = 2500000000, .state = BUNDLE_TASK_UNINTERRUPTIBLE },
			{ .kind = BUNDLE_OFF_CPU, .ts_ns = TRIGGER_NS - 4 * SECOND, .thread = m.thread[0],
			  .duration_ns = 5500000000, .state = BUNDLE_TASK_INTERRUPTIBLE },
			/* h: the span, 2 s long; i: holds mmap_lock for 1 s, with the sample j inside */
			{ .kind = BUNDLE_RECLAIM, .ts_ns = TRIGGER_NS - 7 * SECOND, .thread = m.thread[0],
			  .duration_ns = 2 * SECOND },
			{ .kind = BUNDLE_LOCK_HOLD, .ts_ns = TRIGGER_NS - SECOND, .thread = m.thread[2],
			  .duration_ns = SECOND, .detail = BUNDLE_LOCK_MMAP },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - 3 * SECOND / 2, .thread = m.thread[2] },
			/* k: the kernel itself said so; l: in a softirq; m: only nearly */
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS, .thread = m.thread[3],
			  .flags = BUNDLE_EV_MMAP_LOCK | BUNDLE_EV_IN_RECLAIM },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS + 1000, .thread = m.thread[3], .kstack = stack(&m, KERNEL) },
			{ .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS + SECOND, .thread = m.thread[3],
			  .kstack = stack(&m, KERNEL + 8) },
		};

		for (uint32_t i = 0; i < SB_ARRAY_SIZE(e); i++) {
			e[i].order = i;
			assert_int_equal(bundle_writer_event(m.w, &e[i]), 0);
		}
	}
	b = end(&m);
	PASS("abechdfgjiklm", .since = { 0 });
	PASS("jiklm", .since = { true, -2 * (int64_t)SECOND });
	PASS("abechdfgjik", .until = { true, 0 });
	PASS("k", .since = { true, 0 }, .until = { true, 0 });
	PASS("", .pid = 99);
	PASS("abechdfg", .pid = 10);
	PASS("e", .tid = 11);
	PASS("b", .cpu = 1);
	PASS("ji", .comm = "web");
	PASS("abechdfg", .comm = "db*");
	PASS("klm", .comm = "kworker/0");
	PASS("abechdfg", .cgroup = "/a/b");
	PASS("abechdfg", .cgroup = "/a/b//");
	PASS("abechdfgji", .cgroup = "/a");
	PASS("abechdfgjiklm", .cgroup = "/");
	PASS("f", .kind_text = "off-cpu", .state = "D");
	PASS("fgi", .kind_text = "off-cpu,lock-hold");
	PASS("bchfk", .while_text = "reclaim");
	PASS("jik", .while_text = "mmap-lock-held");
	PASS("l", .while_text = "softirq");
	PASS("c", .while_text = "reclaim", .kind_text = "on-cpu", .since = { true, -(int64_t)(7 * SECOND) },
	     .comm = "db");
	bundle_close(b);
}

static void refused(struct filter f)
{
	f.pid = f.tid = f.cpu = NO_NUMBER;
	assert_int_equal(filter_parse(&f, &command), SB_EXIT_USAGE);
}

static void test_bad_words(void **state)
{
	(void)state;
	refused((struct filter){ .kind_text = "on-cpu,offcpu" });
	refused((struct filter){ .kind_text = "," });
	refused((struct filter){ .kind_text = "" });
	refused((struct filter){ .while_text = "locked" });
	refused((struct filter){ .while_text = "any" });
	refused((struct filter){ .state = "DX" });
	refused((struct filter){ .since = { true, 1 }, .until = { true, 0 } });
}

static void test_blocked(void **state)
{
	struct made m;
	struct bundle *b;
	const struct bundle_shot_thread *t;
	uint64_t x;
	struct filter f = FILTER_INIT;

	(void)state;
	begin(&m);
	{
		struct bundle_shot_thread shot[] = {
			{ .thread = m.thread[0], .state = 2, .reclaim_since_ns = TRIGGER_NS - SECOND },
			{ .thread = m.thread[1], .state = 1, .mmap_owner = m.thread[0],
			  .mmap_owner_flags = BUNDLE_OWNER_KNOWN, .cpu = 3 },
			{ .thread = m.thread[2], .flags = BUNDLE_SHOT_RUNNABLE },
		};
		/* Still reclaiming at the freeze: no span says so, the stackshot does. */
		struct bundle_event e = { .kind = BUNDLE_ON_CPU, .ts_ns = TRIGGER_NS - SECOND / 2, .thread = m.thread[0] };

		shot[0].mmap_owner = m.thread[0];
		shot[0].mmap_owner_flags = BUNDLE_OWNER_KNOWN;
		assert_int_equal(bundle_writer_event(m.w, &e), 0);
		bundle_writer_stackshot(m.w, TRIGGER_NS, TRIGGER_NS + 1, shot, 3, 3, 0);
	}
	b = end(&m);
	assert_int_equal(bundle_stackshot(b, &t, &x, &x, &x, &x), 3);
	PASS("a", .while_text = "reclaim");
	PASS("", .while_text = "mmap-lock-held");
#define SHOT(want0, want1, want2, set)                       \
	do {                                                 \
		f = (struct filter)FILTER_INIT;              \
		set;                                         \
		assert_int_equal(filter_start(&f, b), 0);    \
		assert_int_equal(filter_shot(&f, &t[0]), want0); \
		assert_int_equal(filter_shot(&f, &t[1]), want1); \
		assert_int_equal(filter_shot(&f, &t[2]), want2); \
		filter_done(&f);                             \
	} while (0)
	SHOT(1, 1, 1, f.since = ((struct opt_offset){ true, 5 * (int64_t)SECOND }));
	SHOT(1, 0, 0, f.state = "D");
	SHOT(0, 1, 1, f.state = "SR");
	SHOT(0, 0, 1, f.comm = "web");
	SHOT(0, 1, 0, f.cpu = 3);
	SHOT(1, 0, 0, f.during = WHILE_RECLAIM);
	SHOT(1, 0, 0, f.during = WHILE_MMAP_LOCK_HELD);
	bundle_close(b);
}

/* ---- time order of more events than fit into memory ------------------------------------------ */

struct order {
	struct bundle_event last;
	uint64_t n, sum;
};

static int check_order(const struct bundle_event *e, void *ctx)
{
	struct order *o = ctx;

	if (o->n)
		assert_true(e->ts_ns > o->last.ts_ns || (e->ts_ns == o->last.ts_ns && e->cpu >= o->last.cpu));
	o->last = *e;
	o->n++;
	o->sum += e->nr_scanned;
	return 0;
}

static void test_order(void **state)
{
	struct made m;
	struct bundle *b;
	struct filter f = FILTER_INIT;
	struct order o = {};
	uint64_t n = 2 * TIMELINE_EVENTS + 7, x = 1;

	(void)state;
	begin(&m);
	for (uint64_t i = 0; i < n; i++) {
		struct bundle_event e = { .kind = BUNDLE_RECLAIM, .cpu = (uint32_t)(i % 3), .nr_scanned = i,
					  .thread = m.thread[0] };

		x = sb_mix64(x + i);
		/* Spread over a minute, with two thirds of them in one millisecond. */
		e.ts_ns = 50 * SECOND + (i % 3 ? 7 * SECOND + x % 1000000 : x % (60 * SECOND));
		assert_int_equal(bundle_writer_event(m.w, &e), 0);
	}
	b = end(&m);
	assert_int_equal(filter_start(&f, b), 0);
	assert_int_equal(timeline_each(b, &f, check_order, &o), 0);
	assert_int_equal(o.n, n);
	assert_int_equal(o.sum, n * (n - 1) / 2);
	filter_done(&f);
	bundle_close(b);
}

/* One nanosecond holds more than memory takes, beside the first and the last there are. */
static void test_order_of_one_moment(void **state)
{
	struct made m;
	struct bundle *b;
	struct filter f = FILTER_INIT;
	struct order o = {};
	uint64_t n = TIMELINE_EVENTS + 100;

	(void)state;
	begin(&m);
	for (uint64_t i = 0; i < n; i++) {
		struct bundle_event e = { .kind = BUNDLE_RECLAIM, .nr_scanned = i, .thread = m.thread[0],
					  .ts_ns = i == 0 ? 0 : i == n - 1 ? UINT64_MAX : 5 * SECOND };

		assert_int_equal(bundle_writer_event(m.w, &e), 0);
	}
	b = end(&m);
	assert_int_equal(filter_start(&f, b), 0);
	assert_int_equal(timeline_each(b, &f, check_order, &o), 0);
	assert_int_equal(o.n, n);
	assert_int_equal(o.sum, n * (n - 1) / 2);
	filter_done(&f);
	bundle_close(b);
}

static int stop_at_two(const struct bundle_event *e, void *ctx)
{
	(void)e;
	return ++*(int *)ctx == 2 ? 42 : 0;
}

static void test_stop(void **state)
{
	struct made m;
	struct bundle *b;
	struct filter f = FILTER_INIT;
	int n = 0;

	(void)state;
	begin(&m);
	for (uint64_t i = 0; i < 5; i++) {
		struct bundle_event e = { .kind = BUNDLE_RECLAIM, .thread = m.thread[0], .ts_ns = i };

		assert_int_equal(bundle_writer_event(m.w, &e), 0);
	}
	b = end(&m);
	assert_int_equal(filter_start(&f, b), 0);
	assert_int_equal(timeline_each(b, &f, stop_at_two, &n), 42);
	assert_int_equal(n, 2);
	filter_done(&f);
	bundle_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),	  cmocka_unit_test(test_bad_words),
		cmocka_unit_test(test_blocked),	  cmocka_unit_test(test_order),
		cmocka_unit_test(test_order_of_one_moment), cmocka_unit_test(test_stop),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
