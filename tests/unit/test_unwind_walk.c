// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk of unwind/walk.h over stacks of real threads, against two others that find callers by
 * other code: backtrace() of libgcc, called by the thread itself, and elfutils' libdwfl, for the same
 * stop of the same thread. And over stacks made up for the ends that a walk can have.
 */
#include "tests/unit/walked.h"
#include "unwind/go.h"

/* ---- programs whose chain is known ------------------------------------------------------ */

static void read_frames(const char *path, struct stack *ret)
{
	unsigned long long pc;
	char line[8192];
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	ret->n = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "frame %llx", &pc) == 1 && ret->n < MAX_FRAMES)
			ret->pc[ret->n++] = pc;
	}
	fclose(f);
}

/* The chain from the function that called backtrace() on is the end of ours; before it, where the
 * thread blocks, there are at most a few frames more. */
static void expect_tail(const char *what, const uint64_t *ours, size_t n, const struct stack *truth, size_t skip)
{
	size_t tail = truth->n - skip;

	if (n >= tail && n <= tail + 5 && !memcmp(ours + n - tail, truth->pc + skip, tail * sizeof(*ours)))
		return;
	print_stacks(ours, n, truth);
	fail_msg("%s: the last %zu frames differ", what, tail);
}

static const char *const builds[] = {
	"gcc -O0", "gcc -O1", "gcc -O2", "gcc -O3", "gcc -Os", "clang -O0", "clang -O1", "clang -O2", "clang -O3",
	"gcc -O2 -fno-omit-frame-pointer", "gcc -O2 -mstackrealign", "gcc -O2 -static", "gcc -O2 -no-pie -fno-pie",
	"gcc -O2 -Wl,-z,lazy -fno-plt", "gcc -O2 -Wl,-z,lazy", "gcc -O2 -Wl,-z,now", "gcc -O2 -fstack-clash-protection",
	"clang -O2 -fno-omit-frame-pointer", "gcc -O3 -flto", "gcc -O2 -Wl,-s",
};

/* A chain through alloca, an aligned frame, a large one, qsort of libc; stopped in a system call,
 * or in a signal handler on a stack of its own. */
static void test_known_chain(void **state)
{
	static char *const modes[] = { "stop", "handler" };
	char program[512], file[512], source[PATH_MAX];

	(void)state;
	snprintf(program, sizeof(program), "%s/victim", top);
	snprintf(file, sizeof(file), "%s/frames", top);
	assert_non_null(realpath("tests/helpers/unwind_victim.c", source));
	for (size_t i = 0; i < SB_ARRAY_SIZE(builds); i++) {
		assert_int_equal(sh("%s -w -D_GNU_SOURCE -o victim %s", builds[i], source), 0);
		for (size_t m = 0; m < SB_ARRAY_SIZE(modes); m++) {
			char *const argv[] = { program, modes[m], file, NULL };
			struct stack truth, dwfl;
			uint64_t frames[MAX_FRAMES];
			struct sb_unwind_walk w;
			pid_t pid;

			unlink(file);
			pid = start(argv);
			wait_for_file(file);
			wait_until_blocked(pid);
			assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
			stop(pid);
			world_reset();
			load_maps_of(pid);
			w = walk_stopped(pid, frames);
			read_frames(file, &truth);
			dwfl = stack_by_dwfl(pid, pid);
			end(pid);
			print_message("%s, %s: %d frames\n", builds[i], modes[m], w.n);
			/* stop_here calls backtrace() (through write_frames) and pause(): two and one frame. */
			assert_true(truth.n > 10);
			expect_tail(builds[i], frames, w.n, &truth, 2);
			if (w.end != SB_UNWIND_COMPLETE || w.n_fp)
				fail_msg("%s %s: end %d, %d by frame pointer", builds[i], modes[m], w.end, w.n_fp);
			if (dwfl.n != w.n || memcmp(dwfl.pc, frames, w.n * sizeof(*frames))) {
				print_stacks(frames, w.n, &dwfl);
				fail_msg("%s %s: libdwfl has %zu frames, we have %d", builds[i], modes[m], dwfl.n, w.n);
			}
		}
	}
}

/* ---- dumps: the stack as words, also of another machine ---------------------------------- */

/* Takes over what unwind_victim wrote; walks from the registers of the interrupted function. */
static struct sb_unwind_walk walk_dump(const char *path, const char *prefix, uint64_t mask, uint64_t *frames)
{
	unsigned long long ip = 0, sp = 0, fp = 0, lr = 0, v;
	char line[PATH_MAX + 256];
	bool in_stack = false;
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	world_reset();
	while (fgets(line, sizeof(line), f) && strcmp(line, "end\n")) {
		if (in_stack && sscanf(line, "%llx", &v) == 1 && world.stack_words < MAX_WORDS) {
			world.stack[world.stack_words++] = v;
		} else if (sscanf(line, "stack %llx", &v) == 1) {
			world.stack_start = v;
			in_stack = true;
		} else if (!strncmp(line, "map ", 4)) {
			take_map_line(line + 4, prefix);
		} else {
			sscanf(line, "regs %llx %llx %llx %llx", &ip, &sp, &fp, &lr);
		}
	}
	fclose(f);
	assert_true(ip && world.stack_words > 100 && world.n_maps > 0);
	return walk_from(ip, sp, fp, lr, mask, frames, MAX_FRAMES);
}

/* backtrace() in the handler: its own frames, the trampoline's, then those that the signal
 * interrupted, which are all of ours. */
static void expect_dump(const char *what, const char *path, const char *prefix, uint64_t mask)
{
	uint64_t frames[MAX_FRAMES];
	struct sb_unwind_walk w = walk_dump(path, prefix, mask, frames);
	struct stack truth;
	size_t skip = 0;

	read_frames(path, &truth);
	while (skip < truth.n && truth.pc[skip] != frames[0])
		skip++;
	if (skip == truth.n || w.n != truth.n - skip || memcmp(frames, truth.pc + skip, w.n * sizeof(*frames))) {
		print_stacks(frames, w.n, &truth);
		fail_msg("%s: end %d", what, w.end);
	}
	print_message("%s: %d frames\n", what, w.n);
	assert_true(w.n > 10);
	if (w.end != SB_UNWIND_COMPLETE || w.n_fp)
		fail_msg("%s: end %d, %d by frame pointer", what, w.end, w.n_fp);
}

static void test_stack_copy(void **state)
{
	char source[PATH_MAX], path[512];

	(void)state;
	snprintf(path, sizeof(path), "%s/dump", top);
	assert_non_null(realpath("tests/helpers/unwind_victim.c", source));
	for (size_t i = 0; i < SB_ARRAY_SIZE(builds); i++) {
		unlink(path);
		assert_int_equal(sh("%s -w -D_GNU_SOURCE -o victim %s && ./victim dump dump", builds[i], source), 0);
		expect_dump(builds[i], path, "", ~0ULL);
	}
}

/* The same program for arm64, run by QEMU's user mode; its stack is walked here. */
static void test_arm64(void **state)
{
	static const char *const flags[] = {
		"-O0", "-O1", "-O2", "-O3", "-Os", "-O2 -fomit-frame-pointer",
		"-O2 -mbranch-protection=pac-ret -march=armv8.3-a", "-O2 -mbranch-protection=pac-ret+leaf+b-key -march=armv8.3-a",
		"-O2 -static",
	};
	char source[PATH_MAX], path[512];
	unsigned int signed_words;

	(void)state;
	if (sh("command -v aarch64-linux-gnu-gcc qemu-aarch64 >&2")) {
		print_message("no aarch64-linux-gnu-gcc or no qemu-aarch64\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/dump", top);
	assert_non_null(realpath("tests/helpers/unwind_victim.c", source));
	for (size_t i = 0; i < SB_ARRAY_SIZE(flags); i++) {
		unlink(path);
		assert_int_equal(sh("aarch64-linux-gnu-gcc %s -w -D_GNU_SOURCE -o victim %s && "
				    "qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu ./victim dump dump >&2", flags[i], source), 0);
		expect_dump(flags[i], path, "/usr/aarch64-linux-gnu", (1ULL << 48) - 1);
		/* Signed return addresses lie on the stack where they should. */
		signed_words = 0;
		for (size_t k = 0; k < world.stack_words; k++)
			signed_words += world.stack[k] >> 48 && sb_unwind_find_map(0, world.n_maps, world.stack[k] << 16 >> 16);
		assert_true(strstr(flags[i], "pac-ret") ? signed_words >= 8 : true);
	}
}

/* ---- real programs ---------------------------------------------------------------------- */

static void test_bash(void **state)
{
	char *const blocked[] = { "/bin/bash", "-c", "f() { if [ $1 -gt 0 ]; then f $(($1 - 1)); else read -t 60 x <>/tmp; "
						     "read x < <(sleep 60); fi; }; f 12", NULL };
	char *const busy[] = { "/bin/bash", "-c", "f() { if [ $1 -gt 0 ]; then f $(($1 - 1)); fi; }; while :; do f 20; done", NULL };

	(void)state;
	expect_equal(blocked, 5, 1000);
	expect_equal(busy, 100, 500);
}

static void test_python(void **state)
{
	char *const blocked[] = { "/usr/bin/python3", "-c", "import time\ndef f(n):\n  return f(n - 1) if n else time.sleep(60)\n"
							    "f(30)", NULL };
	char *const busy[] = { "/usr/bin/python3", "-c",
			       "import re, json, hashlib, zlib\ndef f(n):\n  if n: return f(n - 1)\n"
			       "  json.loads(json.dumps([{str(i): i} for i in range(50)])); sorted(range(300), key=lambda x: -x)\n"
			       "  re.sub('a+b', 'c', 'aaab' * 200); hashlib.sha256(b'x' * 5000); zlib.compress(b'abc' * 2000)\n"
			       "while True: f(9)", NULL };

	(void)state;
	NEED("/usr/bin/python3");
	expect_equal(blocked, 5, 1000);
	expect_equal(busy, 100, 500);
}

static void test_node(void **state)
{
	char *const blocked[] = { "/usr/bin/node", "-e", "setTimeout(() => {}, 60000)", NULL };
	char *const busy[] = { "/usr/bin/node", "-e",
			       "function f(n) { return n ? f(n - 1) : JSON.parse(JSON.stringify([...Array(200).keys()])).sort().length; }"
			       "for (;;) f(7)", NULL };

	(void)state;
	NEED("/usr/bin/node");
	expect_equal(blocked, 3, 1000);
	expect_equal(busy, 50, 500);
}

static void test_rust(void **state)
{
	char *const busy[] = { "/usr/bin/rg", "-j1", "--no-mmap", "-uuu", "(a|b)*c[^x]{3,9}z$", "/usr", NULL };

	(void)state;
	NEED("/usr/bin/rg");
	expect_equal(busy, 40, 500);
}

/* ---- Go: frame pointers, and a stack for the scheduler ----------------------------------- */

static struct go_function go_known[GO_FUNCTIONS];
static size_t n_go_known;

static void know_go(const char *path)
{
	static uint8_t table[16 << 20];
	FILE *f;

	assert_int_equal(sh("objcopy -O binary --only-section=.gopclntab %s table", path), 0);
	f = fopen(at("table"), "r");
	assert_non_null(f);
	n_go_known = go_functions_by_table(table, fread(table, 1, sizeof(table), f), go_known);
	fclose(f);
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
	unsigned int same, whole, handler, other; /* against libdwfl */
	unsigned int top; /* complete, at a function that Go calls the end of a stack */
	unsigned int frames;
};

/* libdwfl takes rbp for a frame pointer as long as the stack goes up. It ends where the goroutine's stack is the lower
 * one; and at the entry of a signal handler, whose rbp is still the interrupted function's, it misses that function. */
static void compare_go(const struct sb_unwind_walk *w, const uint64_t *ours, const struct stack *truth, struct go_result *r)
{
	size_t skip = truth->n && role_of(ours[0], true) == GO_JUMPS ? 2 : 0, n = truth->n;
	bool equal = w->n >= n + skip && n && ours[0] == truth->pc[0] &&
		     !memcmp(ours + skip + 1, truth->pc + 1, (n - 1) * sizeof(*ours));

	r->frames += w->n;
	r->top += w->end == SB_UNWIND_COMPLETE && role_of(ours[w->n - 1], w->n == 1) == GO_ENDS;
	if (equal && !skip && w->n == n)
		r->same++;
	else if (equal && skip && (w->n == n + skip || role_of(truth->pc[n - 1], n == 1) == GO_OTHER_STACK))
		r->handler++;
	else if (equal && !skip && role_of(truth->pc[n - 1], n == 1) == GO_OTHER_STACK)
		r->whole++;
	else if (!r->other++) {
		print_message("end %d, %d by frame pointer\n", w->end, w->n_fp);
		print_stacks(ours, w->n, truth);
	}
}

static unsigned long long cpu_ns(pid_t pid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &ns), 1);
	fclose(f);
	return ns;
}

/* It has loaded what it needs: its first thread has not run for 300 ms, or that long has gone by. */
static void let_begin(pid_t pid, bool blocks)
{
	uint64_t until = sb_monotonic_ns() + 20 * NSEC_PER_SEC;
	unsigned long long before, now = cpu_ns(pid);

	do {
		before = now;
		usleep(300000);
		now = cpu_ns(pid);
		if (sb_monotonic_ns() > until)
			fail_msg("%d does not block", pid);
	} while (blocks && now != before);
}

/* Stops the first thread n times, and adds to r. */
static void sample_go(char *const *argv, unsigned int n, bool blocks, struct go_result *r)
{
	pid_t pid = start(argv);

	let_begin(pid, blocks);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t frames[MAX_FRAMES];
		struct sb_unwind_walk w;
		struct stack truth;

		usleep(500 + i * 37 % 1000);
		stop(pid);
		world_reset();
		load_maps_of(pid);
		w = walk_stopped(pid, frames);
		truth = stack_by_dwfl(pid, pid);
		close(world.mem);
		assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
		compare_go(&w, frames, &truth, r);
	}
	world.pid = 0;
	end(pid);
}

static void expect_go(const char *what, struct go_result r)
{
	unsigned int n = r.same + r.whole + r.handler + r.other;

	assert_true(n > 0);
	print_message("%s: %u stacks, %.1f frames each, %u equal to libdwfl's, %u where it ends at the other stack, %u where it misses what a signal "
		      "interrupted, %u otherwise; %u end where Go ends\n",
		      what, n, (double)r.frames / n, r.same, r.whole, r.handler, r.other, r.top);
	assert_true(r.other <= n / 100);
	assert_true(r.top >= n - n / 100);
}

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
		sample_go(busy, 100, false, &r);
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
	sample_go(argv, 10, true, &r[0]);
	expect_go("rclone, blocked", r[0]);
	assert_int_equal(sh("truncate -s 1T large"), 0);
	snprintf(command, sizeof(command), "exec rclone cat :local:%s/large", top);
	for (unsigned int run = 0; run < 5; run++)
		sample_go(argv, 20, false, &r[1]);
	expect_go("rclone, busy", r[1]);
}

static void symbol_range(const char *file, const char *name, uint64_t *ret_start, uint64_t *ret_end)
{
	unsigned long long start_addr, size;
	FILE *f;

	/* Go's assembler functions have a suffix, and some a wrapper without it. */
	assert_int_equal(sh("nm -S %s | awk '$4 == \"%s\" || $4 == \"%s.abi0\" {print $1, $2, $4}' | sort -rk3 >range",
			    file, name, name), 0);
	f = fopen(at("range"), "r");
	assert_int_equal(fscanf(f, "%llx %llx", &start_addr, &size), 2);
	fclose(f);
	*ret_start = start_addr;
	*ret_end = start_addr + size;
}

struct range {
	uint64_t from, to;
};

struct go_chain {
	const char *symbols; /* a file that has them */
	const char *left;    /* the function at which the other stack is left */
	const char *const *chain;
	size_t n;
};

/* The outer end of a stack is the known chain. ranges: its functions', then that of the one where the other stack is
 * left. False: the thread stood on the goroutine's stack. */
static bool is_on_other_stack(const struct range *ranges, size_t n, bool signal, const struct sb_unwind_walk *w,
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
	good = w->end == SB_UNWIND_COMPLETE && w->n > at_left + n;
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
	let_begin(pid, !strcmp(mode, "c"));
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	for (unsigned int i = 0; i < 4000 && found < 20; i++) {
		uint64_t frames[MAX_FRAMES];
		struct sb_unwind_walk w;

		usleep(1000);
		stop(pid);
		world_reset();
		load_maps_of(pid);
		w = walk_stopped(pid, frames);
		close(world.mem);
		assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
		found += is_on_other_stack(ranges, c.n, !strcmp(mode, "spin"), &w, frames);
	}
	world.pid = 0;
	end(pid);
	assert_int_equal(found, 20);
}

/* Functions of a known chain ask the runtime, or wait in C, on the thread's stack, or are interrupted by a signal. The
 * names of the runtime's functions stand in .gopclntab only (stripped, as Debian does it), or in .symtab only. */
static void test_go_chain(void **state)
{
	static const char *const programs[] = { "go-stripped", "go-symbols" };
	static const char *const chain[] = { "main._Cfunc_hold", "main.inner", "main.outer", "main.main", "runtime.main",
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
		expect_chain(programs[i], "stats", (struct go_chain){ "go-plain", "runtime.systemstack", chain + 1, n - 1 });
		expect_chain(programs[i], "c", (struct go_chain){ "go-plain", "runtime.asmcgocall", chain, n });
		expect_chain(programs[i], "spin", (struct go_chain){ "go-plain", "runtime.cgoSigtramp", chain + 1, n - 1 });
	}
	/* Without C it has a trampoline of its own, which is found by its name alone. */
	assert_int_equal(sh("export GOCACHE=$PWD/cache GO111MODULE=off CGO_ENABLED=0; sed '/^[/][*]/,/^import \"C\"/d; "
			    "/C[.]hold/d' %s >pure.go && go build -o go-pure pure.go >&2", source), 0);
	expect_chain("go-pure", "stats", (struct go_chain){ "go-pure", "runtime.systemstack", chain + 1, n - 1 });
	expect_chain("go-pure", "spin", (struct go_chain){ "go-pure", "runtime.sigtramp", chain + 1, n - 1 });
}

/* Code that no file has: the kernel's, in every process. */
static void test_vdso(void **state)
{
	static const char vdso_source[] = "#include <time.h>\nint main(void) { struct timespec t; for (;;) "
					  "clock_gettime(CLOCK_MONOTONIC_COARSE, &t); }\n";
	char program[512];
	char *const argv[] = { program, NULL };
	unsigned int inside = 0;
	FILE *f;
	pid_t pid;

	(void)state;
	snprintf(program, sizeof(program), "%s/vdso.c", top);
	f = fopen(program, "w");
	fputs(vdso_source, f);
	fclose(f);
	snprintf(program, sizeof(program), "%s/vdso", top);
	assert_int_equal(sh("gcc -O2 -o vdso vdso.c"), 0);
	pid = start(argv);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	for (unsigned int i = 0; i < 300 && inside < 10; i++) {
		uint64_t frames[MAX_FRAMES];
		struct sb_unwind_walk w;
		struct stack truth;

		usleep(1000);
		stop(pid);
		world_reset();
		load_maps_of(pid);
		w = walk_stopped(pid, frames);
		truth = stack_by_dwfl(pid, pid);
		close(world.mem);
		assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
		if (frames[0] < world.vdso_start || frames[0] >= world.vdso_end)
			continue;
		inside++;
		assert_int_equal(w.end, SB_UNWIND_COMPLETE);
		assert_int_equal(w.n_fp, 0);
		if (truth.n != w.n || memcmp(frames, truth.pc, w.n * sizeof(*frames))) {
			print_stacks(frames, w.n, &truth);
			fail_msg("in the vdso");
		}
	}
	end(pid);
	/* Coarse clocks are read there whatever the kernel's clock is. */
	assert_int_equal(inside, 10);
}

/* ---- musl: its trampoline has no call frame information --------------------------------- */

static const char musl_source[] =
	"#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n#define FAR __attribute__((noinline))\n"
	"static volatile int x;\n"
	"void on_alarm(int s) { FILE *f = fopen(\"ready\", \"w\"); fputs(\"end\\n\", f); fclose(f); for (;;) x += s; }\n"
	"FAR void inner(int n) { for (;;) x += n; }\n"
	"FAR void outer(int n) { inner(n); x++; }\n"
	"int main(void) { signal(SIGALRM, on_alarm); ualarm(10000, 0); outer(3); return x; }\n";

static void test_musl(void **state)
{
	static const char *const chain[] = { "on_alarm", NULL, "inner", "outer", "main" };
	char program[512], ready[512];
	char *const argv[] = { program, NULL };
	uint64_t frames[MAX_FRAMES], from, to;
	struct sb_unwind_walk w;
	FILE *f;
	pid_t pid;

	(void)state;
	if (sh("command -v musl-gcc >&2")) {
		print_message("no musl-gcc\n");
		skip();
	}
	snprintf(program, sizeof(program), "%s/musl", top);
	snprintf(ready, sizeof(ready), "%s/ready", top);
	snprintf(program, sizeof(program), "%s/musl.c", top);
	f = fopen(program, "w");
	fputs(musl_source, f);
	fclose(f);
	snprintf(program, sizeof(program), "%s/musl", top);
	assert_int_equal(sh("musl-gcc -O2 -static -no-pie -fomit-frame-pointer -o musl musl.c"), 0);
	pid = fork();
	if (pid == 0) {
		if (chdir(top) < 0)
			_exit(127);
		execv(program, argv);
		_exit(127);
	}
	wait_for_file(ready);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	/* Its last call before the loop is fclose(), in code without rows. */
	for (int i = 0;; i++) {
		struct user_regs_struct r;

		stop(pid);
		symbol_range("musl", "on_alarm", &from, &to);
		assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &r), 0);
		if (r.rip >= from && r.rip < to)
			break;
		assert_true(i < 1000);
		assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
		usleep(1000);
	}
	world_reset();
	load_maps_of(pid);
	w = walk_stopped(pid, frames);
	end(pid);
	assert_true(w.n >= SB_ARRAY_SIZE(chain));
	for (size_t i = 0; i < SB_ARRAY_SIZE(chain); i++) {
		if (!chain[i])
			continue;
		symbol_range("musl", chain[i], &from, &to);
		/* The call may be the last instruction of a function that never gets further. */
		if (frames[i] - (i > 2) < from || frames[i] - (i > 2) >= to)
			fail_msg("frame %zu, 0x%llx, is not in %s", i, (unsigned long long)frames[i], chain[i]);
	}
}

/* ---- tables and stacks made up ---------------------------------------------------------- */

#define TEXT 0x400000u
#define STACK 0x7fff0000u

/* One mapping, one table: rules[i] holds for the 16 bytes from TEXT + 16 * i. */
static void made_table(const struct sb_unwind_rule *rules, uint32_t n)
{
	uint64_t slots[64];
	struct unwind_rows rows = { .slots = slots, .base = 0x1000, .n_rules = n, .n_rows = n };
	struct unwind_ref ref;
	struct unwind_key key;

	assert_true(n * 3 <= SB_ARRAY_SIZE(slots));
	memcpy(slots, rules, n * sizeof(*rules));
	for (uint32_t i = 0; i < n; i++)
		slots[2 * n + i] = 16 * i | (uint64_t)i << 32;
	world_reset();
	assert_true(unwind_key_build_id("made here", 9, &key));
	assert_int_equal(unwind_cache_put(world.cache, &key, &rows, &ref), 0);
	add_map(TEXT, TEXT + 0x1000, 0x1000, ref);
	world.stack_start = STACK;
	world.stack_words = 64;
	for (size_t i = 0; i < world.stack_words; i++)
		world.stack[i] = 0;
}

#define RULE(...) (struct sb_unwind_rule){ __VA_ARGS__ }
#define WHERE(fp, ra) .where = SB_AT_##fp | SB_AT_##ra << 4
#define USUAL RULE(.cfa = SB_CFA_SP, .cfa_off = 8, WHERE(SAME, CFA), .ra_off = -8)

static void expect_walk(int line, uint64_t ip, uint64_t fp, enum sb_unwind_end why, const uint64_t *want, uint16_t n)
{
	uint64_t frames[8];
	struct sb_unwind_walk w = walk_from(ip, STACK, fp, 0, ~0ULL, frames, 8);

	if (w.end != why || w.n != n || memcmp(frames, want, n * sizeof(*want)))
		fail_msg("line %d: end %d after %d frames (0x%llx 0x%llx), expected %d after %d", line, w.end, w.n,
			 (unsigned long long)frames[0], w.n > 1 ? (unsigned long long)frames[1] : 0ULL, why, n);
}
#define EXPECT(ip, fp, why, ...)                                                                            \
	expect_walk(__LINE__, ip, fp, why, (const uint64_t[]){ __VA_ARGS__ },                               \
		    sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

static void test_ends(void **state)
{
	const struct sb_unwind_rule rules[] = {
		[0] = USUAL,
		[1] = RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, END)),
		[2] = RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, LOST)),
		[3] = RULE(.cfa = SB_CFA_NONE),
		[4] = RULE(.cfa = SB_CFA_SP, .cfa_off = 0, WHERE(SAME, CFA), .ra_off = 8),
		[5] = RULE(.cfa = SB_CFA_SP, .cfa_off = 4096, WHERE(SAME, CFA), .ra_off = -8),
		[6] = RULE(.cfa = SB_CFA_SP, .cfa_off = 16, WHERE(LOST, CFA), .ra_off = -8),
		[7] = RULE(.cfa = SB_CFA_FP, .cfa_off = 16, WHERE(CFA, CFA), .fp_off = -16, .ra_off = -8),
		[8] = RULE(.cfa = SB_CFA_SP, .cfa_off = 0, WHERE(SAME, SAME)),
		[9] = RULE(.cfa = 99),
		[10] = RULE(.cfa = SB_CFA_SP, .cfa_off = 8, .where = 0xff),
		[11] = RULE(.cfa = SB_CFA_REGISTER, .post = 3, .cfa_off = 16, WHERE(SAME, CFA), .ra_off = -8),
		[12] = RULE(.cfa = SB_CFA_PLT, .cfa_off = 11, WHERE(SAME, CFA), .ra_off = -8),
		[13] = RULE(.cfa = SB_CFA_DEREF_SP, .cfa_off = 16, .post = 8, WHERE(SAME, CFA), .ra_off = -8),
		[14] = RULE(.cfa = SB_CFA_OTHER_STACK),
		[15] = RULE(.cfa = SB_CFA_NONE),
	};
	uint64_t frames[8];
	struct sb_unwind_walk w;
#define AT(rule) (TEXT + 16u * (rule) + 4)

	(void)state;
	made_table(rules, SB_ARRAY_SIZE(rules));
	EXPECT(AT(1), 0, SB_UNWIND_COMPLETE, AT(1));
	EXPECT(AT(0), 0, SB_UNWIND_COMPLETE, AT(0)); /* returns to 0 */
	EXPECT(AT(2), 0, SB_UNWIND_UNSUPPORTED, AT(2));
	EXPECT(AT(9), 0, SB_UNWIND_UNSUPPORTED, AT(9));
	EXPECT(AT(10), 0, SB_UNWIND_UNSUPPORTED, AT(10));
	EXPECT(AT(3), 0, SB_UNWIND_NO_ROWS, AT(3));
	EXPECT(AT(4), 0, SB_UNWIND_BAD_STACK, AT(4));
	EXPECT(AT(5), 0, SB_UNWIND_NOT_RESIDENT, AT(5));
	EXPECT(TEXT - 1, 0, SB_UNWIND_NO_MAPPING, TEXT - 1);
	EXPECT(TEXT + 0x1000, 0, SB_UNWIND_NO_MAPPING, TEXT + 0x1000);
	EXPECT(TEXT + 0xfff, 0, SB_UNWIND_NO_ROWS, TEXT + 0xfff); /* the last row goes on to the end */
	world.stack[0] = AT(1);
	EXPECT(AT(0), 0, SB_UNWIND_COMPLETE, AT(0), AT(1));
	/* A call at the very end of a function returns to what is the next one's start. */
	world.stack[0] = TEXT + 32;
	EXPECT(AT(0), 0, SB_UNWIND_COMPLETE, AT(0), TEXT + 32);
	/* After a rule that loses the frame pointer nobody may use it. */
	world.stack[1] = AT(7);
	EXPECT(AT(6), STACK + 16, SB_UNWIND_UNSUPPORTED, AT(6), AT(7));
	world.stack[1] = AT(3);
	EXPECT(AT(6), STACK + 16, SB_UNWIND_NO_ROWS, AT(6), AT(3));
	/* Without rows by the frame pointer: where it can be one. */
	world.stack[2] = STACK + 64;
	world.stack[3] = AT(1);
	EXPECT(AT(3), STACK + 16, SB_UNWIND_COMPLETE, AT(3), AT(1));
	EXPECT(AT(3), STACK + 17, SB_UNWIND_NO_ROWS, AT(3));
	EXPECT(AT(3), STACK - 16, SB_UNWIND_NO_ROWS, AT(3));
	EXPECT(AT(3), STACK + (2u << 20), SB_UNWIND_NO_ROWS, AT(3));
	EXPECT(AT(3), STACK + 4096, SB_UNWIND_NOT_RESIDENT, AT(3));
	EXPECT(AT(7), STACK + 16, SB_UNWIND_COMPLETE, AT(7), AT(1));
	/* Not to another stack. */
	world.stack[20] = STACK;
	world.stack[21] = AT(1);
	EXPECT(AT(3), STACK + 160, SB_UNWIND_COMPLETE, AT(3), AT(1));
	world.stack[21] = AT(3);
	EXPECT(AT(3), STACK + 160, SB_UNWIND_NO_ROWS, AT(3), AT(3));
	/* But where a rule says so: up and down, however far, if it leads to code; and from there on as ever. */
	world.stack_start = STACK - 256;
	world.stack[0] = 0;
	world.stack[1] = AT(1);
	EXPECT(AT(3), STACK - 256, SB_UNWIND_NO_ROWS, AT(3));
	EXPECT(AT(14), STACK - 256, SB_UNWIND_COMPLETE, AT(14), AT(1));
	world.stack[1] = AT(3);
	EXPECT(AT(14), STACK - 256, SB_UNWIND_COMPLETE, AT(14), AT(3));
	world.stack[0] = STACK - 256;
	EXPECT(AT(14), STACK - 256, SB_UNWIND_NO_ROWS, AT(14), AT(3));
	world.stack[1] = TEXT - 1;
	EXPECT(AT(14), STACK - 256, SB_UNWIND_NO_ROWS, AT(14));
	world.stack[1] = 0;
	EXPECT(AT(14), STACK - 256, SB_UNWIND_NO_ROWS, AT(14));
	EXPECT(AT(14), STACK - 255, SB_UNWIND_NO_ROWS, AT(14));
	EXPECT(AT(14), STACK + 4096, SB_UNWIND_NOT_RESIDENT, AT(14));
	EXPECT(AT(14), 0, SB_UNWIND_NOT_RESIDENT, AT(14));
	world.stack[1] = AT(14); /* a circle ends */
	EXPECT(AT(14), STACK - 256, SB_UNWIND_DEPTH, AT(14), AT(14), AT(14), AT(14), AT(14), AT(14), AT(14), AT(14));
	world.stack_start = STACK;
	/* A return address in a register is one only for who has not called. */
	world.stack[0] = AT(8);
	EXPECT(AT(0), 0, SB_UNWIND_BAD_STACK, AT(0), AT(8));
	w = walk_from(AT(8), STACK, 0, AT(1), ~0ULL, frames, 8);
	assert_int_equal(w.end, SB_UNWIND_COMPLETE);
	assert_int_equal(w.n, 2);
	assert_int_equal(frames[1], AT(1));
	/* Signed: the upper bits are not the address'. */
	w = walk_from(AT(8), STACK, 0, AT(1) | 0x3aULL << 49, (1ULL << 48) - 1, frames, 8);
	assert_int_equal(w.end, SB_UNWIND_COMPLETE);
	assert_int_equal(frames[1], AT(1));
	/* The registers of the innermost frame are known, those of its caller are not. */
	world.has_registers = true;
	world.registers[3] = STACK + 8;
	world.stack[2] = AT(1);
	EXPECT(AT(11), 0, SB_UNWIND_COMPLETE, AT(11), AT(1));
	world.stack[0] = AT(11);
	EXPECT(AT(0), 0, SB_UNWIND_UNSUPPORTED, AT(0), AT(11));
	world.has_registers = false;
	EXPECT(AT(11), 0, SB_UNWIND_UNSUPPORTED, AT(11));
	/* In a PLT entry: before and behind its push. */
	world.stack[0] = AT(1);
	world.stack[1] = AT(2);
	EXPECT(TEXT + 16 * 12 + 10, 0, SB_UNWIND_COMPLETE, TEXT + 16 * 12 + 10, AT(1));
	EXPECT(TEXT + 16 * 12 + 11, 0, SB_UNWIND_UNSUPPORTED, TEXT + 16 * 12 + 11, AT(2));
	world.stack[2] = STACK + 32;
	world.stack[4] = AT(1);
	EXPECT(AT(13), 0, SB_UNWIND_COMPLETE, AT(13), AT(1));
	/* No end in sight. */
	for (size_t i = 0; i < world.stack_words; i++)
		world.stack[i] = AT(0);
	EXPECT(AT(0), 0, SB_UNWIND_DEPTH, AT(0), AT(0), AT(0), AT(0), AT(0), AT(0), AT(0), AT(0));
}

/* From a handler on another stack to what it interrupted, whose pc is exact. */
static void test_signal_frames(void **state)
{
	const struct sb_unwind_rule rules[] = {
		[0] = USUAL,
		[1] = RULE(.cfa = SB_CFA_DEREF_SP, .cfa_off = 160, .fp_off = 120, .ra_off = 168, WHERE(SP, SP),
			   .flags = SB_RULE_SIGNAL),
		[2] = RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, END)),
		[3] = RULE(.cfa = SB_CFA_FP, .cfa_off = 16, WHERE(CFA, CFA), .fp_off = -16, .ra_off = -8),
		/* arm64 */
		[4] = RULE(.cfa = SB_CFA_DEREF_SP, .cfa_off = 160, .fp_off = 120, .ra_off = 168, WHERE(SP, SP),
			   .flags = SB_RULE_SIGNAL),
		[5] = RULE(.cfa = SB_CFA_SP, .cfa_off = 0, WHERE(SAME, SAME)),
		[6] = RULE(.cfa = SB_CFA_NONE),
	};

	(void)state;
	made_table(rules, SB_ARRAY_SIZE(rules));
	world.stack[0] = TEXT + 17;	   /* returns to the trampoline, which begins a byte before */
	world.stack[1 + 15] = STACK + 320; /* rbp */
	world.stack[1 + 20] = STACK + 300 / 8 * 8; /* rsp */
	world.stack[1 + 21] = TEXT + 48;   /* rip: the first instruction of a function */
	world.stack[41] = TEXT + 33;
	EXPECT(TEXT, 0, SB_UNWIND_COMPLETE, TEXT, TEXT + 17, TEXT + 48, TEXT + 33);
	/* arm64: x30 is live again in a leaf that was interrupted. */
	world.stack[0] = TEXT + 65;
	world.stack[1 + 19] = TEXT + 33;
	world.stack[1 + 21] = TEXT + 80;
	EXPECT(TEXT, 0, SB_UNWIND_COMPLETE, TEXT, TEXT + 65, TEXT + 80, TEXT + 33);
}

/* A table that was taken away, or whose place another one has. */
static void test_stale(void **state)
{
	const struct sb_unwind_rule rules[] = { USUAL, RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, END)) };
	struct unwind_rows rows = {};
	struct unwind_ref ref;
	struct unwind_key key;

	(void)state;
	made_table(rules, 2);
	EXPECT(TEXT + 17, 0, SB_UNWIND_COMPLETE, TEXT + 17);
	assert_int_equal(world.arena.tables[world.maps[0].table].used, 1);
	assert_true(unwind_key_build_id("made here", 9, &key));
	assert_int_equal(unwind_cache_put(world.cache, &key, &rows, &ref), 0); /* has none now */
	EXPECT(TEXT + 17, 0, SB_UNWIND_STALE, TEXT + 17);
	world.maps[0].table = 5000;
	EXPECT(TEXT + 17, 0, SB_UNWIND_STALE, TEXT + 17);
	world.maps[0].table = SB_UNWIND_NO_TABLE;
	EXPECT(TEXT + 17, 0, SB_UNWIND_NO_ROWS, TEXT + 17);
}

/* Each mapping of many is found, and what lies between is nobody's. */
static void test_many_mappings(void **state)
{
	const struct sb_unwind_rule rules[] = { RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, END)) };
	struct sb_unwind_map first;

	(void)state;
	made_table(rules, 1);
	first = world.maps[0];
	for (uint32_t n = 1; n <= 1000; n = n * 3 + 1) {
		world.n_maps = 0;
		for (uint32_t i = 0; i < n; i++) {
			add_map(TEXT + 0x3000ULL * i, TEXT + 0x3000ULL * i + 0x1000, first.offset,
				(struct unwind_ref){ first.table, first.generation });
		}
		for (uint32_t i = 0; i < n; i++) {
			uint64_t at = TEXT + 0x3000ULL * i;

			EXPECT(at, 0, SB_UNWIND_COMPLETE, at);
			EXPECT(at + 0xfff, 0, SB_UNWIND_COMPLETE, at + 0xfff);
			EXPECT(at + 0x1000, 0, SB_UNWIND_NO_MAPPING, at + 0x1000);
			EXPECT(at - 1, 0, SB_UNWIND_NO_MAPPING, at - 1);
		}
	}
}

static uint64_t random_word(void)
{
	static uint64_t seed = 42;

	return seed = sb_mix64(seed + 0x9e3779b97f4a7c15ULL);
}

/* Tables that hold anything: every walk ends, and reads nothing that it must not (sanitizers). */
static void test_garbage(void **state)
{
	uint64_t ends[SB_UNWIND_END_COUNT] = {};

	(void)state;
	world_reset();
	world.stack_start = STACK;
	world.stack_words = 64;
	for (unsigned int round = 0; round < 20000; round++) {
		struct sb_unwind_table *t = &world.arena.tables[0];
		uint64_t frames[64];
		struct sb_unwind_walk w;

		for (size_t i = 0; i < 64; i++) {
			world.stack[i] = random_word() % 3 ? TEXT + random_word() % 64 : STACK + 8 * (random_word() % 64);
			world.arena.slots[i] = random_word() & random_word() & 0x0707071f071f070fULL;
		}
		t->rules = random_word() % 32 ? (uint32_t)(random_word() % 32) : (uint32_t)random_word();
		t->rows = random_word() % 32 ? (uint32_t)(random_word() % 32) : (uint32_t)random_word();
		t->n_rules = random_word() % 32 ? 1024 : (uint32_t)random_word();
		t->n_rows = random_word() % 32 ? 16 : (uint32_t)random_word();
		t->base = 0;
		t->generation = 2;
		world.n_maps = 0;
		add_map(TEXT, TEXT + 0x100, 0, (struct unwind_ref){ .table = 0, .generation = 2 });
		w = walk_from(TEXT, STACK, STACK + 8 * (random_word() % 64), TEXT + random_word() % 64, ~0ULL, frames, 64);
		assert_true(w.end > SB_UNWIND_GOES_ON && w.end < SB_UNWIND_END_COUNT);
		assert_true(w.n >= 1 && w.n <= 64);
		ends[w.end]++;
	}
	/* It was not all the same. */
	assert_true(ends[SB_UNWIND_NO_ROWS] && ends[SB_UNWIND_UNSUPPORTED] && ends[SB_UNWIND_NOT_RESIDENT] &&
		    ends[SB_UNWIND_BAD_STACK] && ends[SB_UNWIND_NO_MAPPING]);
	memset(world.arena.tables, 0, world.arena.n_tables * sizeof(*world.arena.tables));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_chain),
		cmocka_unit_test(test_stack_copy),
		cmocka_unit_test(test_arm64),
		cmocka_unit_test(test_bash),
		cmocka_unit_test(test_python),
		cmocka_unit_test(test_node),
		cmocka_unit_test(test_rust),
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_go_large),
		cmocka_unit_test(test_go_chain),
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_musl),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_signal_frames),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_many_mappings),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
