// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk of unwind/walk.h over stacks of Go: frame pointers, and a stack of the thread's own for the
 * scheduler, the garbage collector, signals and C. Beside libdwfl where it gets as far; and against a
 * chain that is known.
 */
#include "tests/unit/walked.h"
#include "unwind/go.h"

/* ---- real programs, beside libdwfl ------------------------------------------------------- */

static struct go_function go_known[GO_FUNCTIONS];
static size_t n_go_known;

static void know_go(const char *path)
{
	static uint8_t table[16 << 20];
	struct go_table t;
	FILE *f;

	assert_int_equal(sh("objcopy -O binary --only-section=.gopclntab %s table", path), 0);
	f = fopen(at("table"), "r");
	assert_non_null(f);
	assert_true(go_table_open(table, fread(table, 1, sizeof(table), f), &t));
	fclose(f);
	n_go_known = go_functions_by_table(&t, go_known);
	assert_true(n_go_known >= 10);
}

/* Of the function that a frame is in; innermost: its pc is exact. -1: another one. */
static int role_of(uint64_t pc, bool innermost)
{
	for (size_t i = 0; i < n_go_known; i++) {
		if (pc - !innermost - go_known[i].addr < go_known[i].size)
			return (int)go_known[i].role;
	}
	return -1;
}

struct go_result {
	unsigned int same, whole, handler, round, other; /* against libdwfl */
	unsigned int top; /* complete, at a function that Go calls the end of a stack */
	unsigned int extra; /* of the first five: with a caller that rbp does not lead to, and libdwfl misses */
	unsigned int frames;
};

/* rbp does not lead to the caller of frame i: it is the caller's own, as where a function keeps no frame, or in the instructions
 * before it has one and after it has had it. */
static bool is_missed(const struct sb_unwind_walk *w, const uint64_t *ours, size_t i)
{
	uint64_t rbp = world.registers[6], rsp = world.registers[7];
	/* The innermost one, or what a signal interrupted, behind its handler and its trampoline. */
	bool exact = !i || (i == 2 && role_of(ours[0], true) == GO_JUMPS);
	struct sb_unwind_walk mapped = *w;
	struct sb_unwind_rule rule = {};

	if (role_of(ours[i], exact) == GO_CALLS_C)
		return true;
	if (role_of(ours[i], exact) >= 0 || sb_unwind_rule_of(&mapped, ours[i] - !exact, &rule) || rule.cfa != SB_CFA_SP)
		return false;
	if (!i)
		return rbp != rsp + (uint64_t)rule.cfa_off - 16;
	/* Where rsp was when the signal came is not known here. */
	return exact || (rule.where & 15) == SB_AT_SAME;
}

/* Ours without these callers, which libdwfl misses, as it does the first ones behind the innermost frame. */
static size_t without_extra(const struct sb_unwind_walk *w, const uint64_t *ours, const struct stack *truth, size_t first, uint64_t *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++) {
		/* The next one of truth: so many were the same so far. */
		if (i <= first || n - first >= truth->n || ours[i] == truth->pc[n - first] || !is_missed(w, ours, i - 1))
			ret[n++] = ours[i];
	}
	return n;
}

static bool is_left(int role)
{
	return role == GO_OTHER_STACK || role == GO_CALLS_C;
}

/* libdwfl's last frame is the last one on the other stack, or the one before it that has no frame yet. */
static bool ends_at_other(const struct sb_unwind_walk *w, const uint64_t *ours, const struct stack *truth)
{
	size_t n = truth->n;

	return is_left(role_of(truth->pc[n - 1], n == 1)) ||
	       (n == 1 && w->n > 1 && is_missed(w, ours, 0) && is_left(role_of(ours[1], false)));
}

/* By an rbp that is none libdwfl goes from one address to another one and back, for as long as it may. */
static bool goes_round(const struct stack *truth)
{
	size_t n = truth->n;

	if (n < MAX_FRAMES)
		return false;
	for (size_t i = n / 2; i < n; i++) {
		if (truth->pc[i] != truth->pc[i - 2])
			return false;
	}
	return true;
}

static bool ends_in_go(const struct sb_unwind_walk *w, const uint64_t *frames)
{
	return w->end == SB_UNWIND_COMPLETE && role_of(frames[w->n - 1], w->n == 1) == GO_ENDS;
}

/* libdwfl takes rbp for a frame pointer as long as the stack goes up. It ends where the goroutine's stack is the lower
 * one; and at the entry of a signal handler, whose rbp is still the interrupted function's, it misses that function. */
static void compare_go(const struct sb_unwind_walk *w, const uint64_t *frames, const struct stack *truth, struct go_result *r)
{
	uint64_t ours[MAX_FRAMES];
	size_t skip = truth->n && role_of(frames[0], true) == GO_JUMPS ? 2 : 0, n = truth->n;
	size_t n_ours = without_extra(w, frames, truth, skip, ours);
	bool equal = n_ours >= n + skip && n && ours[0] == truth->pc[0] &&
		     !memcmp(ours + skip + 1, truth->pc + 1, (n - 1) * sizeof(*ours));

	r->frames += w->n;
	r->extra += n_ours < w->n;
	r->top += ends_in_go(w, frames);
	if (equal && !skip && n_ours == n)
		r->same++;
	else if (equal && skip && (n_ours == n + skip || ends_at_other(w, frames, truth)))
		r->handler++;
	else if (equal && !skip && ends_at_other(w, frames, truth))
		r->whole++;
	else if (goes_round(truth) && ends_in_go(w, frames))
		r->round++;
	else if (!r->other++) {
		print_message("end %d, %d by frame pointer\n", w->end, w->n_fp);
		print_stacks(frames, w->n, truth);
	}
}

/* Stops the first thread n times, after so much time on CPUs, and adds to r. */
static void sample_go(char *const *argv, uint64_t cpu_ns, unsigned int n, struct go_result *r)
{
	pid_t pid = start(argv);

	wait_until_loaded(pid, pid, cpu_ns);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t frames[MAX_FRAMES];
		struct sb_unwind_walk w;
		struct stack truth;

		usleep(500 + i * 37 % 1000);
		w = walk_of(pid, frames, &truth);
		compare_go(&w, frames, &truth, r);
	}
	end(pid);
}

static void expect_go(const char *what, struct go_result r)
{
	unsigned int n = r.same + r.whole + r.handler + r.round + r.other;

	assert_true(n > 0);
	print_message("%s: %u stacks, %.1f frames each, %u equal to libdwfl's, %u where it ends at the other stack, %u where it misses what a signal "
		      "interrupted, %u where it goes round, %u otherwise; %u with a caller that rbp does not lead to, %u end where Go ends\n",
		      what, n, (double)r.frames / n, r.same, r.whole, r.handler, r.round, r.other, r.extra, r.top);
	assert_true(r.other <= n / 100);
	assert_true(r.top >= n - n / 100);
}

#define BUSY_FOR (300 * NSEC_PER_MSEC)

static void test_go(void **state)
{
	char command[512];
	char *const busy[] = { "/bin/sh", "-c", command, NULL };
	struct go_result r = {};

	(void)state;
	NEED("/usr/bin/fzf");
	know_go("/usr/bin/fzf");
	assert_int_equal(sh("seq 20000000 >numbers"), 0);
	snprintf(command, sizeof(command), "exec fzf --filter '12 34' <%s/numbers", top);
	/* Which thread runs goroutines and which collects garbage is up to the scheduler. */
	for (unsigned int run = 0; run < 5; run++)
		sample_go(busy, BUSY_FOR, 100, &r);
	expect_go("fzf, busy", r);
}

/* A large program, as it waits for its input and as it copies a file that it does not come to the end of. */
static void test_go_large(void **state)
{
	char command[512];
	char *const argv[] = { "/bin/sh", "-c", command, NULL };
	struct go_result r[2] = {};

	(void)state;
	NEED("/usr/bin/rclone");
	know_go("/usr/bin/rclone");
	assert_int_equal(sh("mkfifo fifo"), 0);
	snprintf(command, sizeof(command), "exec rclone rcat :local:%s/none <>%s/fifo", top, top);
	sample_go(argv, UNTIL_IT_WAITS, 10, &r[0]);
	expect_go("rclone, blocked", r[0]);
	assert_int_equal(sh("truncate -s 1T large"), 0);
	snprintf(command, sizeof(command), "exec rclone cat :local:%s/large", top);
	for (unsigned int run = 0; run < 5; run++)
		sample_go(argv, BUSY_FOR, 20, &r[1]);
	expect_go("rclone, busy", r[1]);
}

/* ---- a chain that is known --------------------------------------------------------------- */

struct range {
	uint64_t from, to;
};

struct go_chain {
	const char *symbols; /* a file that has them */
	const char *left;    /* the function at which the other stack is left */
	const char *const *chain;
	size_t n;
	bool next; /* it comes right behind */
};

/* The outer end of a stack is the known chain. ranges: its functions', then that of the one where the other stack is
 * left. False: the thread stood on the goroutine's stack. */
static bool is_on_other_stack(const struct range *ranges, size_t n, bool next, bool signal, const struct sb_unwind_walk *w,
			      const uint64_t *frames)
{
	struct stack none = {};
	size_t at_left = 0;
	bool good;

	while (at_left < w->n && (frames[at_left] - (at_left > 0) < ranges[n].from || frames[at_left] - (at_left > 0) >= ranges[n].to))
		at_left++;
	/* A signal, its trampoline, and what it interrupted: it may be what another signal has just made the function call,
	 * which has no frame yet. */
	if (at_left == w->n || (signal && (w->n < 3 || frames[2] < ranges[0].from || frames[2] >= ranges[0].to)))
		return false;
	good = w->end == SB_UNWIND_COMPLETE && (next ? w->n == at_left + 1 + n : w->n > at_left + n);
	for (size_t i = 0; good && i < n; i++)
		good = frames[w->n - n + i] > ranges[i].from && frames[w->n - n + i] <= ranges[i].to;
	if (!good) {
		print_stacks(frames, w->n, &none);
		fail_msg("end %d, and not the known chain behind frame %zu", w->end, at_left);
	}
	return true;
}

static void expect_chain(const char *program, char *mode, struct go_chain c)
{
	char path[512];
	char *const argv[] = { path, mode, NULL };
	struct range ranges[8];
	unsigned int found = 0;
	pid_t pid;

	print_message("%s %s: behind %s\n", program, mode, c.left);
	for (size_t i = 0; i <= c.n; i++)
		symbol_range(c.symbols, i < c.n ? c.chain[i] : c.left, &ranges[i].from, &ranges[i].to);
	snprintf(path, sizeof(path), "%s/%s", top, program);
	pid = start(argv);
	wait_until_loaded(pid, pid, 300 * NSEC_PER_MSEC);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	for (unsigned int i = 0; i < 4000 && found < 20; i++) {
		uint64_t frames[MAX_FRAMES];
		struct sb_unwind_walk w;

		usleep(1000);
		w = walk_of(pid, frames, NULL);
		found += is_on_other_stack(ranges, c.n, c.next, !strcmp(mode, "spin"), &w, frames);
	}
	end(pid);
	assert_int_equal(found, 20);
}

/* Functions of a known chain ask the runtime, or wait in C, on the thread's stack, or are interrupted by a signal. The
 * names of the runtime's functions stand in .gopclntab only (stripped, as Debian does it), or in .symtab only. */
static void test_go_chain(void **state)
{
	static const char *const programs[] = { "go-stripped", "go-symbols" };
	static const char *const chain[] = { "runtime.cgocall", "main._Cfunc_hold", "main.inner", "main.outer", "main.main", "runtime.main",
					     "runtime.goexit" };
	const size_t n = SB_ARRAY_SIZE(chain);
	char source[PATH_MAX];

	(void)state;
	if (sh("command -v go >&2")) {
		print_message("no go command (Debian package golang-go)\n");
		skip();
	}
	assert_non_null(realpath("tests/helpers/unwind_victim.go", source));
	assert_int_equal(sh("export GOCACHE=$PWD/cache GO111MODULE=off; go build -o go-plain %s >&2", source), 0);
	assert_int_equal(sh("strip -o go-stripped go-plain"), 0);
	assert_int_equal(sh("objcopy --rename-section .gopclntab=.none go-plain go-symbols"), 0);
	for (size_t i = 0; i < SB_ARRAY_SIZE(programs); i++) {
		expect_chain(programs[i], "stats", (struct go_chain){ "go-plain", "runtime.systemstack", chain + 2, n - 2, false });
		expect_chain(programs[i], "c", (struct go_chain){ "go-plain", "runtime.asmcgocall", chain, n, true });
		expect_chain(programs[i], "spin", (struct go_chain){ "go-plain", "runtime.cgoSigtramp", chain + 2, n - 2, false });
	}
	/* The caller of a function without a frame, which the frame pointer does not lead to. */
	expect_chain("go-stripped", "leaf", (struct go_chain){ "go-plain", "main.leaf", chain + 2, n - 2, true });
	/* Without C it has a trampoline of its own, which is found by its name alone. */
	assert_int_equal(sh("export GOCACHE=$PWD/cache GO111MODULE=off CGO_ENABLED=0; sed '/^[/][*]/,/^import \"C\"/d; "
			    "/C[.]hold/d' %s >pure.go && go build -o go-pure pure.go >&2", source), 0);
	expect_chain("go-pure", "stats", (struct go_chain){ "go-pure", "runtime.systemstack", chain + 2, n - 2, false });
	expect_chain("go-pure", "spin", (struct go_chain){ "go-pure", "runtime.sigtramp", chain + 2, n - 2, false });
}

/* ---- each instruction -------------------------------------------------------------------- */

/* The functions that are followed, and those that they were called by. */
static const char *const followed[] = { "main.leaf", "main.small", "main.large", "main.ways", "main.deep", "main.main" };
#define N_FOLLOWED SB_ARRAY_SIZE(followed)
#define STEPS 30000u

struct steps {
	pid_t pid;
	struct user_regs_struct r;
	struct range in[N_FOLLOWED], main, goexit;
	uint64_t returns[64]; /* of the calls since main.main, outermost first */
	size_t n;
	unsigned int steps, edges, of[N_FOLLOWED];
};

static size_t function_of(const struct steps *s, uint64_t pc)
{
	size_t i = 0;

	while (i < N_FOLLOWED && (pc < s->in[i].from || pc >= s->in[i].to))
		i++;
	return i;
}

static void step(struct steps *s)
{
	int status, signal;

	for (signal = 0;; signal = WSTOPSIG(status)) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, s->pid, NULL, signal), 0);
		assert_int_equal(waitpid(s->pid, &status, __WALL), s->pid);
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGTRAP)
			break;
	}
	assert_int_equal(ptrace(PTRACE_GETREGS, s->pid, NULL, &s->r), 0);
}

/* The instruction that comes next, and what it does to the return addresses. The runtime, which takes the CPU away from a
 * goroutine that has had it for long, comes back to where it was called. */
static void follow(struct steps *s)
{
	uint64_t code = 0, top_word;

	assert_true(sb_unwind_read((__u64 *)&code, s->r.rip));
	step(s);
	if ((code & 0xff) == 0xe8) {
		assert_true(s->n < SB_ARRAY_SIZE(s->returns));
		assert_true(sb_unwind_read((__u64 *)&top_word, s->r.rsp));
		s->returns[s->n++] = top_word;
	} else if ((code & 0xff) == 0xc3) {
		assert_true(s->n > 0);
		s->n--;
	}
	if (function_of(s, s->r.rip) < N_FOLLOWED)
		return;
	assert_int_equal(code & 0xff, 0xe8);
	s->n--;
	for (unsigned int i = 0; s->r.rip != s->returns[s->n]; i++) {
		assert_true(i < 1000000);
		step(s);
	}
}

/* The return address right above rbp, if it is one, is the one that a walk by frame pointers finds. */
static void expect_step(struct steps *s)
{
	uint64_t frames[MAX_FRAMES], by_fp = 0;
	struct sb_unwind_walk w = walk_stopped(s->pid, frames);
	bool good = w.end == SB_UNWIND_COMPLETE && w.n == s->n + 3 && frames[0] == s->r.rip && !w.n_fp;

	for (size_t i = 0; good && i < s->n; i++)
		good = frames[1 + i] == s->returns[s->n - 1 - i];
	good = good && frames[w.n - 2] > s->main.from && frames[w.n - 2] <= s->main.to && frames[w.n - 1] > s->goexit.from &&
	       frames[w.n - 1] <= s->goexit.to;
	if (!good) {
		struct stack truth = { .n = s->n + 1, .pc = { s->r.rip } };

		for (size_t i = 0; i < s->n; i++)
			truth.pc[1 + i] = s->returns[s->n - 1 - i];
		print_stacks(frames, w.n, &truth);
		fail_msg("step %u in %s, end %d: not the calls that were followed", s->steps, followed[function_of(s, s->r.rip)], w.end);
	}
	sb_unwind_read((__u64 *)&by_fp, s->r.rbp + 8);
	s->edges += by_fp != frames[1];
	s->of[function_of(s, s->r.rip)]++;
	s->steps++;
}

static void test_go_steps(void **state)
{
	char path[512], source[PATH_MAX];
	char *const argv[] = { "/usr/bin/env", "GODEBUG=asyncpreemptoff=1", path, NULL };
	struct steps s = {};

	(void)state;
	if (sh("command -v go >&2")) {
		print_message("no go command (Debian package golang-go)\n");
		skip();
	}
	assert_non_null(realpath("tests/helpers/unwind_steps.go", source));
	assert_int_equal(sh("export GOCACHE=$PWD/cache GO111MODULE=off CGO_ENABLED=0; go build -o steps-plain %s >&2 && strip -o steps steps-plain",
			    source), 0);
	for (size_t i = 0; i < N_FOLLOWED; i++)
		symbol_range("steps-plain", followed[i], &s.in[i].from, &s.in[i].to);
	symbol_range("steps-plain", "runtime.main", &s.main.from, &s.main.to);
	symbol_range("steps-plain", "runtime.goexit", &s.goexit.from, &s.goexit.to);
	snprintf(path, sizeof(path), "%s/steps", top);
	s.pid = start(argv);
	wait_until_loaded(s.pid, s.pid, 300 * NSEC_PER_MSEC);
	assert_int_equal(ptrace(PTRACE_SEIZE, s.pid, NULL, NULL), 0);
	stop(s.pid);
	world_reset();
	load_maps_of(s.pid);
	for (unsigned int i = 0; function_of(&s, s.r.rip) != N_FOLLOWED - 1; i++) {
		assert_true(i < 1000000);
		step(&s);
	}
	while (s.steps < STEPS) {
		expect_step(&s);
		follow(&s);
	}
	end(s.pid);
	print_message("%u instructions, at %u of them rbp is the caller's:", s.steps, s.edges);
	for (size_t i = 0; i < N_FOLLOWED; i++) {
		print_message(" %s %u", followed[i], s.of[i]);
		assert_true(s.of[i] > 100);
	}
	print_message("\n");
	assert_true(s.edges > STEPS / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_go_large),
		cmocka_unit_test(test_go_chain),
		cmocka_unit_test(test_go_steps),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
