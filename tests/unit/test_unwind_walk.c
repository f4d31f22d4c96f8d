// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk of unwind/walk.h over stacks of real threads, against two others that find callers by
 * other code: backtrace() of libgcc, called by the thread itself, and elfutils' libdwfl, for the same
 * stop of the same thread. And over stacks made up for the ends that a walk can have.
 */
#include "tests/unit/walked.h"

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

/* ---- the vdso ---------------------------------------------------------------------------- */

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
		w = walk_of(pid, frames, &truth);
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
		[15] = RULE(.cfa = SB_CFA_GO_SWITCHED, .cfa_off = 40, .post = 8, WHERE(SAME, CFA), .ra_off = -8),
		[16] = RULE(.cfa = SB_CFA_NONE),
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
	/* Go waits on a stack below this one: an address, or how far below the end that a goroutine names. */
	world.stack_start = STACK - 256;
	memset(world.stack, 0, sizeof(world.stack));
	world.stack[32 + 5] = STACK - 128;
	world.stack[16] = AT(1);
	EXPECT(AT(15), 0, SB_UNWIND_COMPLETE, AT(15), AT(1));
	w = walk_from(AT(15), STACK, 0, 0, ~0ULL, frames, 8);
	assert_int_equal(w.sp, STACK - 120);
	assert_true(w.flags & SB_WALK_LOOSE);
	world.stack[32 + 6] = STACK + 64; /* the goroutine */
	world.stack[32 + 9] = STACK - 64;
	world.stack[32 + 5] = 80;
	world.stack[14] = AT(2);
	EXPECT(AT(15), 0, SB_UNWIND_UNSUPPORTED, AT(15), AT(2));
	w = walk_from(AT(15), STACK, 0, 0, ~0ULL, frames, 8);
	assert_int_equal(w.sp, STACK - 64 - 80 + 8);
	/* None of the four words is there. */
	world.stack[32 + 5] = 80 + 4096;
	EXPECT(AT(15), 0, SB_UNWIND_NOT_RESIDENT, AT(15));
	world.stack[32 + 6] = STACK + 4096;
	EXPECT(AT(15), 0, SB_UNWIND_NOT_RESIDENT, AT(15));
	world.stack_words = 32 + 6;
	EXPECT(AT(15), 0, SB_UNWIND_NOT_RESIDENT, AT(15));
	world.stack_words = 32 + 5;
	EXPECT(AT(15), 0, SB_UNWIND_NOT_RESIDENT, AT(15));
	world.stack_words = 64;
	world.stack_start = STACK;
	/* No end in sight. */
	for (size_t i = 0; i < world.stack_words; i++)
		world.stack[i] = AT(0);
	EXPECT(AT(0), 0, SB_UNWIND_DEPTH, AT(0), AT(0), AT(0), AT(0), AT(0), AT(0), AT(0), AT(0));
}

/* What code of known bytes before it makes of an address that a frame pointer leads to. */
static void test_return_addresses(void **state)
{
	const struct sb_unwind_rule rules[] = {
		[0] = RULE(.cfa = SB_CFA_NONE),
		[1] = USUAL,
		[2] = RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, END)),
		[3] = RULE(.cfa = SB_CFA_DEREF_SP, .cfa_off = 160, .ra_off = 168, WHERE(SAME, SP), .flags = SB_RULE_SIGNAL),
		[4] = RULE(.cfa = SB_CFA_UNSUPPORTED, WHERE(SAME, LOST)),
	};
	/* As gas makes them; the last byte of each is the one before the address. */
	static const struct {
		const char *what;
		uint8_t bytes[9];
		bool call;
	} made[] = {
		{ "call rel32", { 0x90, 0x90, 0x90, 0xe8, 1, 2, 3, 4 }, true },
		{ "call *%rax", { 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0 }, true },
		{ "call *%r11", { 0x90, 0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd3 }, true },
		{ "call *(%rbx)", { 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x13 }, true },
		{ "call *(%rsp)", { 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x14, 0x24 }, true },
		{ "call *0x18(%rax)", { 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18 }, true },
		{ "call *8(%rsp,%rax,8)", { 0x90, 0x90, 0x90, 0x90, 0xff, 0x54, 0xc4, 0x08 }, true },
		{ "call *0x1000(%rip)", { 0x90, 0x90, 0xff, 0x15, 0x00, 0x10, 0x00, 0x00 }, true },
		{ "call *0x1000(%rax)", { 0x90, 0x90, 0xff, 0x90, 0x00, 0x10, 0x00, 0x00 }, true },
		{ "call *0x1000(,%rax,8)", { 0x90, 0xff, 0x14, 0xc5, 0x00, 0x10, 0x00, 0x00 }, true },
		{ "jmp rel32", { 0x90, 0x90, 0x90, 0xe9, 1, 2, 3, 4 }, false },
		{ "jmp *%rax", { 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0 }, false },
		{ "push 0x1000(%rip)", { 0x90, 0x90, 0xff, 0x35, 0x00, 0x10, 0x00, 0x00 }, false },
		{ "the middle of a call", { 0x90, 0x90, 0x90, 0x90, 0xe8, 1, 2, 3 }, false },
		{ "a call before the last instruction", { 0x90, 0x90, 0xe8, 1, 2, 3, 4, 0x90 }, false },
		{ "nothing", { 0 }, false },
	};
	const uint64_t to = AT(2);
	struct sb_unwind_walk w;
	uint64_t frames[8];

	(void)state;
	made_table(rules, SB_ARRAY_SIZE(rules));
	world.code_start = TEXT;
	world.code_bytes = 16 * SB_ARRAY_SIZE(rules);
	world.stack[3] = to;
	for (size_t i = 0; i < SB_ARRAY_SIZE(made); i++) {
		/* To a caller whose frames are told, by one whose are not. */
		memset(world.code, 0, sizeof(world.code));
		memcpy(world.code + (AT(4) - TEXT) - 8, made[i].bytes, 8);
		world.stack[3] = AT(4);
		w = walk_from(AT(0), STACK, STACK + 16, 0, ~0ULL, frames, 8);
		if (w.n != 1 + made[i].call || w.end != (made[i].call ? SB_UNWIND_UNSUPPORTED : SB_UNWIND_NO_ROWS) ||
		    (made[i].call && frames[1] != AT(4)) || !(w.flags & SB_WALK_LOOSE) != made[i].call)
			fail_msg("%s: %d frames, end %d", made[i].what, w.n, w.end);
	}
	memset(world.code, 0, sizeof(world.code));
	/* To what no call returns to: the outermost function, and a trampoline. */
	world.stack[3] = to;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_COMPLETE, AT(0), to);
	world.stack[3] = AT(3);
	world.stack[4 + 21] = AT(2);
	world.stack[4 + 20] = STACK + 256;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_COMPLETE, AT(0), AT(3), AT(2));
	/* A function that has a rule vouches for its caller. */
	world.stack[0] = AT(4);
	EXPECT(AT(1), 0, SB_UNWIND_UNSUPPORTED, AT(1), AT(4));
	/* From the caller on there is no rule again. */
	world.stack[0] = AT(0);
	world.stack[3] = AT(4);
	EXPECT(AT(1), STACK + 16, SB_UNWIND_NO_ROWS, AT(1), AT(0));
	/* In no mapping, readable or not; and nothing is known of code that cannot be read. */
	world.stack[3] = STACK + 64;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_NO_ROWS, AT(0));
	world.stack[3] = 0x30;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_NO_ROWS, AT(0));
	world.stack[3] = AT(4);
	world.code_bytes = 0;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_UNSUPPORTED, AT(0), AT(4));
	/* Code made at run time has callers that have not called, and its frame pointers, but for the innermost one. */
	world.code_bytes = 16 * SB_ARRAY_SIZE(rules);
	world.maps[0].table = SB_UNWIND_NO_TABLE;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_COMPLETE, AT(0), AT(4));
	world.stack[3] = 0x30;
	EXPECT(AT(0), STACK + 16, SB_UNWIND_NO_ROWS, AT(0));
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
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_musl),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_return_addresses),
		cmocka_unit_test(test_signal_frames),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_many_mappings),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
