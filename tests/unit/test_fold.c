// SPDX-License-Identifier: BSD-2-Clause
/* Known stacks and durations, written as a bundle, must fold to known rows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "format/writer.h"
#include "tests/unit/one_file.h"
#include "tools/escape.h"
#include "tools/fold.h"

#define KERNEL 0xffffffff81000000ULL
#define TEXT 0x400000ULL
#define TRIGGER_NS (100 * NSEC_PER_SEC)

/* ---- a bundle ---------------------------------------------------------------------- */

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -EIO;
}

/* Kernel and user functions 0x100 apart; every second address of a function has an entry of
 * its own, as frames of one function at two call sites have. */
static const char *const kernel_names[] = { "schedule", "io_schedule", "vfs_read", "bpf_trace_run2",
					    "bpf_prog_1234_sched_switch", "__traceiter_sched_switch" };
static const char *const user_names[] = { "main", "work;er", "bpf_prog_of_mine", "x\ny" };

#define SITES 2

static void write_symbols(struct bundle_writer *w, uint32_t binary, uint64_t base,
			  const char *const *names, size_t n)
{
	struct bundle_symbol s[32];

	for (size_t i = 0; i < n * SITES; i++) {
		uint64_t start = base + 0x100 * (i / SITES);

		s[i] = (struct bundle_symbol){ start + 8 * (i % SITES), start, names[i / SITES], "" };
	}
	bundle_writer_symbols(w, binary, binary ? "symtab" : "kallsyms", s, n * SITES);
}

/* Leaf first, as digits of function numbers; a capital X is an address without a name. */
static uint32_t put_stack(struct bundle_writer *w, uint32_t process, const char *text, int site)
{
	static uint64_t key;
	uint64_t addr[32];
	struct bundle_stack s = { addr, 0, process, process ? BUNDLE_UNWIND_FP : BUNDLE_UNWIND_KERNEL };

	for (; *text; text++)
		addr[s.n++] = (process ? TEXT : KERNEL) +
			      (*text == 'X' ? 0x7f00 : 0x100ULL * (unsigned int)(*text - '0') + 8u * (unsigned int)site);
	return bundle_writer_stack(w, ++key, &s);
}

struct made {
	struct bundle_writer *w;
	FILE *f;
	uint64_t now;
	uint32_t thread[4]; /* "db", "db" of another tid, "we;b", "" */
};

static void begin(struct made *m)
{
	static const char *const comms[] = { "db", "db", "we;b", "" };
	struct bundle_header h = { .producer = "test", .hostname = "host",
				   .trigger = { "t", "manual", "manual", "", "", TRIGGER_NS, 0, 0, 0 } };
	struct bundle_mapping map = { TEXT, 0x10000, 0x1000, 1 };
	struct bundle_process p = { .pid = 42, .comm = "db", .maps = &map, .n_maps = 1 };

	m->f = fopen(path, "w");
	assert_non_null(m->f);
	assert_int_equal(bundle_writer_new(to_file, m->f, 1, &m->w), 0);
	bundle_writer_header(m->w, &h);
	assert_int_equal(bundle_writer_binary(m->w, "/usr/bin/db", "", 0, 0), 1);
	p.id = bundle_writer_process(m->w, &p);
	for (uint32_t i = 0; i < SB_ARRAY_SIZE(comms); i++) {
		struct bundle_thread t = { 42 + i, p.id, comms[i], 0 };

		m->thread[i] = bundle_writer_thread(m->w, &t);
	}
	m->now = NSEC_PER_SEC;
}

static void put_event(struct made *m, enum bundle_kind kind, int thread, uint32_t kstack,
		      uint32_t ustack, uint64_t duration_ns)
{
	struct bundle_event e = { .kind = kind, .ts_ns = m->now++, .thread = m->thread[thread],
				  .kstack = kstack, .ustack = ustack, .duration_ns = duration_ns };

	assert_int_equal(bundle_writer_event(m->w, &e), 0);
}

static struct bundle *end(struct made *m)
{
	struct bundle_footer footer = { .symbolized = true };
	struct bundle *b = NULL;

	bundle_writer_flush(m->w);
	write_symbols(m->w, 0, KERNEL, kernel_names, SB_ARRAY_SIZE(kernel_names));
	write_symbols(m->w, 1, 0x1000, user_names, SB_ARRAY_SIZE(user_names));
	assert_int_equal(bundle_writer_finish(m->w, &footer), 0);
	bundle_writer_free(m->w);
	assert_int_equal(fclose(m->f), 0);
	assert_int_equal(bundle_open(path, &b, NULL), 0);
	assert_true(bundle_damage(b)->complete);
	return b;
}

/* ---- what came out ------------------------------------------------------------------ */

/* "name;frame;...;leaf WEIGHT/COUNT" of row i. */
static const char *line(struct fold *f, size_t i)
{
	static char text[4096];
	uint32_t ids[FOLD_MAX_FRAMES], n = fold_frames(f, &f->row[i], ids, FOLD_MAX_FRAMES);
	size_t at = 0;

	for (uint32_t k = 0; k < n; k++) {
		if (k)
			text[at++] = ';';
		at += escape_copy(text + at, 256, ESCAPE_FOLDED, names_get(&f->names, ids[k]));
	}
	snprintf(text + at, 64, " %llu/%llu", (unsigned long long)f->row[i].weight,
		 (unsigned long long)f->row[i].count);
	return text;
}

static void expect(struct bundle *b, struct filter *filter, enum fold_kind kind, bool by_count,
		   const char *const *lines)
{
	uint64_t weight = 0, count = 0;
	struct fold f;
	size_t n = 0;

	assert_int_equal(fold_bundle(&f, b, filter, kind, by_count), 0);
	assert_int_equal(fold_merge(&f), 0);
	fold_sort(&f);
	for (; lines[n]; n++) {
		assert_true(n < f.n);
		assert_string_equal(line(&f, n), lines[n]);
		weight += f.row[n].weight;
		count += f.row[n].count;
	}
	assert_int_equal(f.n, n);
	assert_true(f.total == weight);
	assert_true(f.events == count);
	fold_done(&f);
}

static struct filter everything(struct bundle *b)
{
	struct filter f = FILTER_INIT;

	assert_int_equal(filter_start(&f, b), 0);
	return f;
}

/* ---- tests -------------------------------------------------------------------------- */

static void test_kinds(void **state)
{
	static const char *const on_cpu[] = { "db;main;vfs_read 3/3", "db;vfs_read 1/1", NULL };
	static const char *const off_cpu[] = { "db;main;vfs_read;schedule 3002/3", "we:b;io_schedule 2000/1", NULL };
	static const char *const off_cpu_count[] = { "db;main;vfs_read;schedule 3/3", "we:b;io_schedule 1/1", NULL };
	static const char *const reclaim[] = { "db;vfs_read 7000000/2", NULL };
	struct made m;
	struct bundle *b;
	struct filter all;
	uint32_t k_sched, k_read, u_main, k_io;

	(void)state;
	begin(&m);
	k_sched = put_stack(m.w, 0, "02", 0); /* schedule called by vfs_read */
	k_read = put_stack(m.w, 0, "2", 0);
	k_io = put_stack(m.w, 0, "1", 0);
	u_main = put_stack(m.w, 1, "0", 0);
	for (int i = 0; i < 3; i++)
		put_event(&m, BUNDLE_ON_CPU, i % 2, k_read, u_main, 10101010);
	put_event(&m, BUNDLE_ON_CPU, 0, k_read, 0, 10101010);
	/* Each one is rounded to microseconds: 1000 + 1001 + 1001. */
	put_event(&m, BUNDLE_OFF_CPU, 0, k_sched, u_main, 1000499);
	put_event(&m, BUNDLE_OFF_CPU, 0, k_sched, u_main, 1000500);
	put_event(&m, BUNDLE_OFF_CPU, 1, k_sched, u_main, 1000999);
	put_event(&m, BUNDLE_OFF_CPU, 2, k_io, 0, 2000000);
	put_event(&m, BUNDLE_RECLAIM, 0, k_read, 0, 3 * NSEC_PER_SEC);
	put_event(&m, BUNDLE_RECLAIM, 1, k_read, 0, 4 * NSEC_PER_SEC);
	b = end(&m);
	all = everything(b);
	expect(b, &all, FOLD_ON_CPU, false, on_cpu);
	expect(b, &all, FOLD_OFF_CPU, false, off_cpu);
	expect(b, &all, FOLD_OFF_CPU, true, off_cpu_count);
	expect(b, &all, FOLD_RECLAIM, false, reclaim);
	all.comm = "we;b";
	assert_int_equal(filter_start(&all, b), 0);
	expect(b, &all, FOLD_OFF_CPU, false, off_cpu + 1);
	expect(b, &all, FOLD_ON_CPU, false, (const char *const[]){ NULL });
	filter_done(&all);
	bundle_close(b);
}

static void test_blocked(void **state)
{
	static const char *const blocked[] = { "db;main;vfs_read;schedule 2/2", "we:b;schedule 1/1", NULL };
	struct bundle_shot_thread shot[5] = {};
	struct made m;
	struct bundle *b;
	struct filter all;

	(void)state;
	begin(&m);
	shot[0] = (struct bundle_shot_thread){ .thread = m.thread[0], .kstack = put_stack(m.w, 0, "02", 0),
					       .ustack = put_stack(m.w, 1, "0", 0) };
	shot[1] = shot[2] = shot[3] = shot[0];
	shot[1].thread = m.thread[1];
	shot[2].flags = BUNDLE_SHOT_RUNNING; /* on a CPU: not blocked, its stack is none */
	shot[3].thread = m.thread[2];
	shot[3].kstack = put_stack(m.w, 0, "0", 0);
	shot[3].ustack = 0;
	bundle_writer_stackshot(m.w, 1, 2, shot, 4, 4, 0);
	b = end(&m);
	all = everything(b);
	expect(b, &all, FOLD_BLOCKED, false, blocked);
	filter_done(&all);
	bundle_close(b);
}

/* Frames that read alike are one, wherever in the function they stand and whoever ran them. */
static void test_merge(void **state)
{
	static const char *const lines[] = { "db;main;vfs_read 5/5", NULL };
	struct made m;
	struct bundle *b;
	struct filter all;

	(void)state;
	begin(&m);
	for (int i = 0; i < 4; i++)
		put_event(&m, BUNDLE_ON_CPU, i % 2, put_stack(m.w, 0, "2", i % 2), put_stack(m.w, 1, "0", i / 2), 1);
	put_event(&m, BUNDLE_ON_CPU, 0, put_stack(m.w, 0, "32", 0), put_stack(m.w, 1, "0", 0), 1);
	b = end(&m);
	all = everything(b);
	expect(b, &all, FOLD_ON_CPU, false, lines);
	filter_done(&all);
	bundle_close(b);
}

/* The recorder's own frames go from the leaf of a kernel stack, and from nowhere else. */
static void test_own_frames(void **state)
{
	static const char *const lines[] = { "db;bpf_prog_of_mine;vfs_read;bpf_trace_run2;schedule 4/4",
					     "db;bpf_prog_of_mine 3/3", "db 2/2", NULL };
	struct made m;
	struct bundle *b;
	struct filter all;
	uint32_t k, own, u;

	(void)state;
	begin(&m);
	k = put_stack(m.w, 0, "435032", 0);
	own = put_stack(m.w, 0, "435", 0);
	u = put_stack(m.w, 1, "2", 0);
	for (int i = 0; i < 4; i++)
		put_event(&m, BUNDLE_ON_CPU, 0, k, u, 1);
	for (int i = 0; i < 3; i++)
		put_event(&m, BUNDLE_ON_CPU, 0, own, u, 1);
	put_event(&m, BUNDLE_ON_CPU, 0, own, 0, 1);
	put_event(&m, BUNDLE_ON_CPU, 0, 0, 0, 1); /* no stack at all */
	b = end(&m);
	all = everything(b);
	expect(b, &all, FOLD_ON_CPU, false, lines);
	filter_done(&all);
	bundle_close(b);
}

/* A frame is one frame, whatever its name; every thread has a name to stand under. */
static void test_names(void **state)
{
	static const char *const lines[] = { "we:b;main;work:er;x\\x0ay 3/3", "[unknown];db+0x8f00;0xffffffff81007f00 2/2",
					     NULL };
	struct made m;
	struct bundle *b;
	struct filter all;

	(void)state;
	begin(&m);
	for (int i = 0; i < 3; i++)
		put_event(&m, BUNDLE_ON_CPU, 2, 0, put_stack(m.w, 1, "310", 0), 1);
	for (int i = 0; i < 2; i++)
		put_event(&m, BUNDLE_ON_CPU, 3, put_stack(m.w, 0, "X", 0), put_stack(m.w, 1, "X", 0), 1);
	b = end(&m);
	all = everything(b);
	expect(b, &all, FOLD_ON_CPU, false, lines);
	filter_done(&all);
	bundle_close(b);
}

/* Durations that no clock gave: no sum wraps around, and the parts still make up the whole. */
static void test_hostile_durations(void **state)
{
	struct made m;
	struct bundle *b;
	struct filter all;
	struct fold f;
	uint64_t sum = 0;

	(void)state;
	begin(&m);
	for (int i = 0; i < 1200; i++)
		put_event(&m, BUNDLE_OFF_CPU, i % 3, put_stack(m.w, 0, i % 2 ? "0" : "2", 0), 0,
			  UINT64_MAX - 1000 * (uint64_t)(1 + i % 5));
	b = end(&m);
	all = everything(b);
	assert_int_equal(fold_bundle(&f, b, &all, FOLD_OFF_CPU, false), 0);
	assert_int_equal(f.events, 1200);
	assert_true(f.total == UINT64_MAX);
	for (size_t i = 0; i < f.n; i++) {
		assert_true(f.row[i].weight <= f.total - sum);
		sum += f.row[i].weight;
	}
	assert_true(sum == f.total);
	fold_done(&f);
	filter_done(&all);
	bundle_close(b);
}

/* Where frames are missing a mark says so, and what is made at run time is told apart. */
static void test_marks(void **state)
{
	static const char *const lines[] = { "db;[user stack evicted];[kernel stack evicted] 3/3",
					     "db;[truncated];main;vfs_read 2/2", NULL };
	uint64_t addr[1] = { TEXT };
	struct bundle_stack cut = { addr, 1, 1, BUNDLE_UNWIND_FP | BUNDLE_END_DEPTH << 4 };
	struct bundle_event lost = { .kind = BUNDLE_ON_CPU,
				     .flags = BUNDLE_EV_KSTACK_LOST | BUNDLE_EV_USTACK_LOST };
	struct made m;
	struct bundle *b;
	struct filter all;
	struct fold f;
	uint32_t ids[FOLD_MAX_FRAMES];

	(void)state;
	begin(&m);
	for (int i = 0; i < 2; i++)
		put_event(&m, BUNDLE_ON_CPU, 0, put_stack(m.w, 0, "2", 0), bundle_writer_stack(m.w, 77, &cut), 1);
	for (int i = 0; i < 3; i++) {
		lost.ts_ns = m.now++;
		lost.thread = m.thread[0];
		assert_int_equal(bundle_writer_event(m.w, &lost), 0);
	}
	b = end(&m);
	all = everything(b);
	expect(b, &all, FOLD_ON_CPU, false, lines);
	assert_int_equal(fold_bundle(&f, b, &all, FOLD_ON_CPU, false), 0);
	fold_sort(&f);
	assert_int_equal(fold_frames(&f, &f.row[1], ids, FOLD_MAX_FRAMES), 4);
	assert_int_equal(names_class(&f.names, ids[0]), FRAME_COMM);
	assert_int_equal(names_class(&f.names, ids[1]), FRAME_MARK);
	assert_int_equal(names_class(&f.names, ids[2]), FRAME_USER);
	assert_int_equal(names_class(&f.names, ids[3]), FRAME_KERNEL);
	fold_done(&f);
	filter_done(&all);
	bundle_close(b);
}

static void test_jit(void **state)
{
	static const char *const paths[] = { "/tmp/perf-42.map", "/root/.debug/jit-7.dump", "[anon]", "//anon", "/usr/bin/perf-map", "/a/jit" };
	static const enum frame_class want[] = { FRAME_JIT, FRAME_JIT, FRAME_JIT, FRAME_JIT, FRAME_USER, FRAME_USER };
	struct bundle_mapping maps[SB_ARRAY_SIZE(paths)];
	struct bundle_process p = { .pid = 43, .comm = "java", .maps = maps, .n_maps = SB_ARRAY_SIZE(paths) };
	struct made m;
	struct bundle *b;
	struct names names;

	(void)state;
	begin(&m);
	for (uint32_t i = 0; i < SB_ARRAY_SIZE(paths); i++)
		maps[i] = (struct bundle_mapping){ 0x10000u * (i + 1), 0x1000, 0, bundle_writer_binary(m.w, paths[i], "", 0, 0) };
	p.id = bundle_writer_process(m.w, &p);
	b = end(&m);
	names_init(&names, b);
	for (uint32_t i = 0; i < SB_ARRAY_SIZE(paths); i++)
		assert_int_equal(names_class(&names, names_frame(&names, p.id, 0x10000u * (i + 1) + 5)), want[i]);
	assert_int_equal(names_class(&names, names_frame(&names, p.id, 0x99999999)), FRAME_UNKNOWN);
	/* bpf_prog_1234_sched_switch of the test's kernel symbols */
	assert_int_equal(names_class(&names, names_frame(&names, 0, KERNEL + 0x400)), FRAME_JIT);
	assert_int_equal(names_class(&names, names_frame(&names, 0, KERNEL)), FRAME_KERNEL);
	names_done(&names);
	bundle_close(b);
}

/* Both sides of the trigger add up, to the nanosecond, also of what reaches over it. */
static void test_sides(void **state)
{
	static const uint64_t want[3][2] = { { 7000000, 3 }, { 4500000, 1 }, { 2500000, 2 } };
	struct made m;
	struct bundle *b;
	struct filter all;
	uint32_t k;

	(void)state;
	begin(&m);
	k = put_stack(m.w, 0, "0", 0);
	m.now = TRIGGER_NS - NSEC_PER_SEC;
	put_event(&m, BUNDLE_OFF_CPU, 0, k, 0, 4000000); /* before */
	m.now = TRIGGER_NS + 1500000;
	put_event(&m, BUNDLE_OFF_CPU, 0, k, 0, 2000000); /* 0.5 ms before, 1.5 ms after */
	m.now = TRIGGER_NS + NSEC_PER_SEC;
	put_event(&m, BUNDLE_OFF_CPU, 0, k, 0, 1000000); /* after */
	b = end(&m);
	all = everything(b);
	for (int s = 0; s < 3; s++) {
		struct fold_options o = { .kind = FOLD_OFF_CPU, .weight = FOLD_NS, .side = (enum fold_side)s };
		struct fold f;

		assert_int_equal(fold_bundle_as(&f, b, &all, &o), 0);
		assert_int_equal(f.total, want[s][0]);
		assert_int_equal(f.n, 1);
		assert_int_equal(f.row[0].count, want[s][1]);
		fold_done(&f);
	}
	filter_done(&all);
	bundle_close(b);
}

/* These and no others; the last is NULL. */
static void expect_lines(struct bundle *b, struct filter *all, enum group_by by, const char *const *lines)
{
	struct fold_options o = { .kind = FOLD_OFF_CPU, .by = by };
	struct fold f;
	size_t n = 0;

	assert_int_equal(fold_bundle_as(&f, b, all, &o), 0);
	assert_int_equal(fold_merge(&f), 0);
	fold_sort(&f);
	for (; lines[n]; n++)
		assert_string_equal(line(&f, n), lines[n]);
	assert_int_equal(f.n, n);
	fold_done(&f);
}

static void test_groups(void **state)
{
	static const struct {
		enum group_by by;
		const char *lines[4];
	} cases[] = {
		{ GROUP_THREAD, { "db 42/42;schedule 2000/1", "db 42/43;schedule 1000/1", "we:b 42/44;schedule 500/1", NULL } },
		{ GROUP_PROCESS, { "db 42;db;schedule 3000/2", "db 42;we:b;schedule 500/1", NULL } },
		{ GROUP_CGROUP, { "[no cgroup known];db;schedule 3000/2", "[no cgroup known];we:b;schedule 500/1", NULL } },
		{ GROUP_CPU, { "CPU 0;db;schedule 3000/2", "CPU 0;we:b;schedule 500/1", NULL } },
	};
	struct made m;
	struct bundle *b;
	struct filter all;
	uint32_t k;

	(void)state;
	begin(&m);
	k = put_stack(m.w, 0, "0", 0);
	put_event(&m, BUNDLE_OFF_CPU, 0, k, 0, 2000000);
	put_event(&m, BUNDLE_OFF_CPU, 1, k, 0, 1000000);
	put_event(&m, BUNDLE_OFF_CPU, 2, k, 0, 500000);
	b = end(&m);
	all = everything(b);
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++)
		expect_lines(b, &all, cases[i].by, cases[i].lines);
	filter_done(&all);
	bundle_close(b);
}

/* The name that a pid has had for a moment is not that of what it did afterwards. */
static void test_exec(void **state)
{
	static const struct {
		enum group_by by;
		const char *lines[3];
	} cases[] = {
		{ GROUP_THREAD, { "db 42/42;schedule 2000/1", "sh 42/42;schedule 1/1", NULL } },
		{ GROUP_PROCESS, { "db 42;db;schedule 2000/1", "sh 42;sh;schedule 1/1", NULL } },
	};
	struct bundle_process before = { .pid = 42, .comm = "sh", .start_ns = 1 };
	struct bundle_thread t = { .tid = 42, .comm = "sh" };
	struct made m;
	struct bundle *b;
	struct filter all;
	uint32_t k, db;

	(void)state;
	begin(&m);
	db = m.thread[0];
	t.process = bundle_writer_process(m.w, &before);
	m.thread[0] = bundle_writer_thread(m.w, &t);
	k = put_stack(m.w, 0, "0", 0);
	put_event(&m, BUNDLE_OFF_CPU, 0, k, 0, 1000);
	m.thread[0] = db;
	put_event(&m, BUNDLE_OFF_CPU, 0, k, 0, 2000000);
	b = end(&m);
	all = everything(b);
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++)
		expect_lines(b, &all, cases[i].by, cases[i].lines);
	filter_done(&all);
	bundle_close(b);
}

static void test_kind_names(void **state)
{
	static const char *const names[FOLD_KINDS] = { "on-cpu", "off-cpu", "reclaim", "blocked",
							"lock-wait", "wakeup", "lock-hold", "syscall", "softirq",
							"block-io", "slab", "hardirq" };

	(void)state;
	for (int i = 0; i < FOLD_KINDS; i++) {
		enum fold_kind k = FOLD_KINDS;

		assert_int_equal(fold_parse_kind(names[i], &k), 0);
		assert_int_equal(k, i);
		assert_string_equal(fold_kind_name(k), names[i]);
		assert_int_equal(fold_parse_kind("", &k), -EINVAL);
		assert_int_equal(fold_parse_kind("on-cpu ", &k), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_blocked),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_own_frames),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hostile_durations),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_jit),
		cmocka_unit_test(test_sides),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_kind_names),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
