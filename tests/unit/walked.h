/* SPDX-License-Identifier: BSD-2-Clause */
/* Stopped programs, walked by unwind/walk.h and by libdwfl: what the tests of walks share. */
#ifndef SB_TESTS_WALKED_H
#define SB_TESTS_WALKED_H

#pragma GCC diagnostic ignored "-Wunused-function" /* not every test uses all */

#include <dirent.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "unwind/cache.h"
#include "tests/unit/scratch.h"

#define MAX_FRAMES 256
#define MAX_MAPS 1024
#define MAX_WORDS (1 << 20)

/* ---- what the walk reads ---------------------------------------------------------------- */

static struct {
	struct unwind_cache *cache;
	struct unwind_arena arena;
	struct sb_unwind_map maps[MAX_MAPS];
	uint32_t n_maps;
	uint64_t vdso_start, vdso_end;
	pid_t pid; /* memory of a stopped process, or */
	int mem;
	uint64_t stack_start; /* a copy */
	uint64_t stack[MAX_WORDS];
	size_t stack_words;
	uint64_t code_start; /* code that can be read beside it */
	uint8_t code[256];
	size_t code_bytes;
	uint64_t registers[17];
	bool has_registers;
} world;

static const struct sb_unwind_map *sb_unwind_map_at(__u32 index)
{
	return index < world.n_maps ? &world.maps[index] : NULL;
}

static struct sb_unwind_table *sb_unwind_table_at(__u32 index)
{
	return index < world.arena.n_tables ? &world.arena.tables[index] : NULL;
}

static bool sb_unwind_slot_at(__u32 index, __u64 *ret)
{
	if (index >= world.arena.n_slots)
		return false;
	*ret = world.arena.slots[index];
	return true;
}

static bool sb_unwind_read(__u64 *ret, __u64 address)
{
	if (world.pid)
		return pread(world.mem, ret, sizeof(*ret), (off_t)address) == sizeof(*ret);
	if (address - world.code_start < world.code_bytes && world.code_bytes - (address - world.code_start) >= sizeof(*ret)) {
		memcpy(ret, world.code + (address - world.code_start), sizeof(*ret));
		return true;
	}
	address -= world.stack_start;
	if (address / 8 >= world.stack_words || address % 8)
		return false;
	*ret = world.stack[address / 8];
	return true;
}

static bool sb_unwind_register(__u64 *ret, __u8 number)
{
	if (!world.has_registers || number >= SB_ARRAY_SIZE(world.registers))
		return false;
	*ret = world.registers[number];
	return true;
}

#include "unwind/walk.h"

static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;

static void world_reset(void)
{
	unwind_cache_free(world.cache);
	world.cache = NULL;
	world.n_maps = 0;
	world.pid = 0;
	world.stack_words = 0;
	world.code_bytes = 0;
	world.has_registers = false;
	if (!world.arena.slots) {
		world.arena.n_slots = SB_UNWIND_SLOTS_MAX;
		world.arena.n_tables = 1024;
		world.arena.slots = calloc(world.arena.n_slots, sizeof(uint64_t));
		world.arena.tables = calloc(world.arena.n_tables, sizeof(struct sb_unwind_table));
	}
	assert_int_equal(unwind_cache_new(&world.arena, &world.cache), 0);
}

static void add_map(uint64_t start, uint64_t end, uint64_t offset, struct unwind_ref ref)
{
	assert_true(world.n_maps < MAX_MAPS);
	world.maps[world.n_maps++] = (struct sb_unwind_map){ .start = start, .end = end, .offset = offset,
							     .table = ref.table, .generation = ref.generation };
}

static struct unwind_ref file_table(const char *path)
{
	struct unwind_ref ref = { .table = SB_UNWIND_NO_TABLE };
	struct cfi_counts counts = {};
	struct unwind_rows rows = {};
	struct unwind_key key;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && unwind_file_load(fd, NULL, &limits, &counts, &key, NULL, &rows) == 0 &&
	    unwind_cache_find(world.cache, &key, &ref) < 0)
		assert_int_equal(unwind_cache_put(world.cache, &key, &rows, &ref), 0);
	unwind_rows_done(&rows);
	return ref;
}

static struct unwind_ref vdso_table(uint64_t start, uint64_t len)
{
	struct unwind_ref ref = { .table = SB_UNWIND_NO_TABLE };
	struct cfi_counts counts = {};
	struct unwind_image image = {};
	struct unwind_rows rows = {};
	struct unwind_key key;
	_cleanup_free_ void *bytes = malloc(len);

	if (pread(world.mem, bytes, len, (off_t)start) != (ssize_t)len ||
	    unwind_image_read_memory(bytes, len, &image) < 0)
		return ref;
	assert_int_equal(unwind_rows_build(&image, &limits, &counts, &rows), 0);
	assert_true(unwind_key_build_id(image.build_id, image.build_id_len, &key));
	if (unwind_cache_find(world.cache, &key, &ref) < 0)
		assert_int_equal(unwind_cache_put(world.cache, &key, &rows, &ref), 0);
	unwind_rows_done(&rows);
	unwind_image_done(&image);
	return ref;
}

/* One line of /proc/PID/maps. prefix: where another machine's libraries are. */
static void take_map_line(const char *line, const char *prefix)
{
	unsigned long long start, end, offset;
	struct unwind_ref ref = { .table = SB_UNWIND_NO_TABLE };
	char flags[8], path[PATH_MAX], inside[PATH_MAX + 64];
	int at = 0;

	if (sscanf(line, "%llx-%llx %7s %llx %*x:%*x %*u %n", &start, &end, flags, &offset, &at) < 4 || flags[2] != 'x')
		return;
	snprintf(path, sizeof(path), "%.*s", (int)strcspn(line + at, "\n"), line + at);
	snprintf(inside, sizeof(inside), "%s%s", prefix, path);
	if (path[0] == '/')
		ref = file_table(access(inside, R_OK) == 0 ? inside : path);
	else if (!strcmp(path, "[vdso]") && world.pid)
		ref = vdso_table(start, end - start);
	if (!strcmp(path, "[vdso]")) {
		world.vdso_start = start;
		world.vdso_end = end;
	}
	add_map(start, end, offset, ref);
}

static void load_maps_of(pid_t pid)
{
	char path[64], line[PATH_MAX + 256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	world.pid = pid;
	world.mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(world.mem >= 0);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		take_map_line(line, "");
	fclose(f);
}

static struct sb_unwind_walk walk_from(uint64_t ip, uint64_t sp, uint64_t fp, uint64_t lr, uint64_t mask, uint64_t *frames,
				       uint16_t max)
{
	struct sb_unwind_walk w = { .ip = ip, .sp = sp, .fp = fp, .lr = lr, .ip_mask = mask };

	sb_unwind_begin(&w, 0, world.n_maps);
	sb_unwind_walk(&w, (__u64 *)frames, max);
	return w;
}

static struct sb_unwind_walk walk_stopped(pid_t pid, uint64_t *frames)
{
	struct user_regs_struct r;

	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &r), 0);
	{
		/* The order of DWARF. */
		const uint64_t all[] = { r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
					 r.r9,	r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip };

		memcpy(world.registers, all, sizeof(all));
		world.has_registers = true;
	}
	return walk_from(r.rip, r.rsp, r.rbp, 0, ~0ULL, frames, MAX_FRAMES);
}

/* ---- the other opinion: libdwfl --------------------------------------------------------- */

struct stack {
	uint64_t pc[MAX_FRAMES];
	size_t n;
};

static int take_frame(Dwfl_Frame *state, void *arg)
{
	struct stack *s = arg;
	Dwarf_Addr pc;

	if (s->n == MAX_FRAMES || !dwfl_frame_pc(state, &pc, NULL))
		return DWARF_CB_ABORT;
	s->pc[s->n++] = pc;
	return DWARF_CB_OK;
}

static struct stack stack_by_dwfl(pid_t pid, pid_t tid)
{
	static const Dwfl_Callbacks callbacks = { .find_elf = dwfl_linux_proc_find_elf,
						  .find_debuginfo = dwfl_standard_find_debuginfo };
	Dwfl *dwfl = dwfl_begin(&callbacks);
	struct stack s = {};

	assert_non_null(dwfl);
	assert_int_equal(dwfl_linux_proc_report(dwfl, pid), 0);
	assert_int_equal(dwfl_report_end(dwfl, NULL, NULL), 0);
	assert_int_equal(dwfl_linux_proc_attach(dwfl, pid, true), 0);
	dwfl_getthread_frames(dwfl, tid, take_frame, &s);
	dwfl_end(dwfl);
	return s;
}

/* ---- processes -------------------------------------------------------------------------- */

static pid_t start(char *const *argv)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void stop(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
	/* A signal of its own: a JVM lives by them. */
	while (WIFSTOPPED(status) && status >> 16 != PTRACE_EVENT_STOP) {
		assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status)), 0);
		assert_int_equal(waitpid(pid, &status, __WALL), pid);
	}
	assert_true(WIFSTOPPED(status));
}

static void end(pid_t pid)
{
	if (world.pid == pid)
		close(world.mem);
	world.pid = 0;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

/* The first thread with that name after the first one of the process. */
static pid_t find_thread(pid_t pid, const char *name)
{
	char path[300], comm[32] = "";
	pid_t tid, found = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		FILE *f;

		tid = (pid_t)strtol(e->d_name, NULL, 10);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, e->d_name);
		if (tid == 0 || tid == pid || !(f = fopen(path, "r")))
			continue;
		if (fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = '\0';
			if (!strcmp(comm, name) && (!found || tid < found))
				found = tid;
		}
		fclose(f);
	}
	if (d)
		closedir(d);
	return found;
}

static pid_t thread_of(pid_t pid, const char *name)
{
	uint64_t until = sb_monotonic_ns() + 20 * NSEC_PER_SEC;
	pid_t tid = 0;

	while (!(tid = find_thread(pid, name))) {
		if (sb_monotonic_ns() > until)
			fail_msg("%d has no thread '%s' after 20 s", pid, name);
		usleep(1000);
	}
	return tid;
}

static bool ends_with_end(const char *path)
{
	FILE *f = fopen(path, "r");
	char tail[8] = "";

	if (!f)
		return false;
	if (fseek(f, -4, SEEK_END) == 0 && fgets(tail, sizeof(tail), f) && !strcmp(tail, "end\n")) {
		fclose(f);
		return true;
	}
	fclose(f);
	return false;
}

static void wait_for_file(const char *path)
{
	uint64_t until = sb_monotonic_ns() + 20 * NSEC_PER_SEC;

	while (!ends_with_end(path)) {
		if (sb_monotonic_ns() > until)
			fail_msg("%s is not there after 20 s", path);
		usleep(1000);
	}
}

/* In a system call that ends only by a signal. */
static void wait_until_blocked(pid_t pid)
{
	uint64_t until = sb_monotonic_ns() + 20 * NSEC_PER_SEC;
	char path[64], text[256], state = '?';

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	while (state != 'S') {
		FILE *f = fopen(path, "r");

		assert_non_null(f);
		if (!fgets(text, sizeof(text), f) || sscanf(strrchr(text, ')') ? strrchr(text, ')') + 1 : "", " %c", &state) != 1)
			state = '?';
		fclose(f);
		if (sb_monotonic_ns() > until)
			fail_msg("%d does not block", pid);
		usleep(1000);
	}
}

static void print_stacks(const uint64_t *ours, size_t n, const struct stack *other)
{
	for (size_t i = 0; i < SB_MAX(n, other->n); i++)
		print_message("  %2zu %16llx %16llx\n", i, i < n ? (unsigned long long)ours[i] : 0ULL,
			      i < other->n ? (unsigned long long)other->pc[i] : 0ULL);
}

/* Of a thread that runs and is traced: it is stopped for that. truth: what libdwfl says of the same stop, or NULL. */
static struct sb_unwind_walk walk_of(pid_t pid, uint64_t *frames, struct stack *truth)
{
	struct sb_unwind_walk w;

	stop(pid);
	world_reset();
	load_maps_of(pid);
	w = walk_stopped(pid, frames);
	if (truth)
		*truth = stack_by_dwfl(pid, pid);
	close(world.mem);
	world.pid = 0;
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	return w;
}

/* Where the code of a function is, by nm. */
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

/* ---- real programs ---------------------------------------------------------------------- */

struct result {
	unsigned int samples, equal, by_fp, frames;
	unsigned int shorter_truth; /* libdwfl ends within our stack, which is complete */
	unsigned int ends_early; /* we end where there are no rows, libdwfl goes on to what is code */
	unsigned int astray; /* libdwfl goes on to, or from, where no code is or no call returns to; we end there and say so */
	unsigned int same_code; /* equal, where frames that are no code are left out of both, and of libdwfl's those that no call returns to */
	unsigned int by_rbp; /* of these two: it went where rbp points, on another stack or where a frame never was */
	unsigned int ends[SB_UNWIND_END_COUNT];
};

static const struct sb_unwind_map *code_at(uint64_t pc)
{
	for (uint32_t i = 0; i < world.n_maps; i++) {
		if (pc >= world.maps[i].start && pc < world.maps[i].end)
			return &world.maps[i];
	}
	return NULL;
}

/* In a file with a table no call, no caller; in a process that is stopped. */
static bool is_caller(uint64_t pc)
{
	const struct sb_unwind_map *m = code_at(pc);
	uint64_t code;

	return m && (m->table == SB_UNWIND_NO_TABLE || !sb_unwind_read((__u64 *)&code, pc - 8) || sb_unwind_ends_with_call(code));
}

static size_t only_code(const uint64_t *pc, size_t n, bool callers, uint64_t *ret)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (callers && i ? is_caller(pc[i]) : code_at(pc[i]) != NULL)
			ret[kept++] = pc[i];
	}
	return kept;
}

static bool is_same_code(const uint64_t *ours, size_t n, const struct stack *truth)
{
	uint64_t a[MAX_FRAMES], b[MAX_FRAMES];
	size_t n_a = only_code(ours, n, false, a), n_b = only_code(truth->pc, truth->n, true, b);

	return n_a == n_b && !memcmp(a, b, n_a * sizeof(*a));
}

/* Without rows libdwfl takes rbp for a frame pointer, wherever it points. So does a walk where rbp may be one, and
 * ends if it is nothing that it finds there. */
static bool goes_by_rbp(const struct sb_unwind_walk *w, const struct stack *truth)
{
	uint64_t word;

	if (truth->n <= w->n)
		return false;
	return (!w->ip && !truth->pc[w->n]) || (sb_unwind_read((__u64 *)&word, w->fp + 8) && word == truth->pc[w->n]);
}

/* What a thread has done so far. */
struct progress {
	unsigned long long cpu_ns, waited_ns, slices;
	uint64_t code; /* a hash of the files whose code is mapped */
	char state;
};

static struct progress progress_of(pid_t pid, pid_t tid)
{
	char path[64], line[PATH_MAX + 256], flags[8];
	struct progress p = {};
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu %llu %llu", &p.cpu_ns, &p.waited_ns, &p.slices), 3);
	fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fgets(line, sizeof(line), f) && sscanf(strrchr(line, ')') + 1, " %c", &p.state) == 1);
	fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %7s", flags) == 1 && flags[2] == 'x' && strchr(line, '/'))
			p.code = sb_mix64(p.code ^ sb_hash_bytes(line, strlen(line)));
	}
	fclose(f);
	return p;
}

/* It has loaded what it needs: since the last file with code was mapped it has computed for that long, or has waited 50
 * times, or waits for good. However slow the machine is. */
#define UNTIL_IT_WAITS UINT64_MAX /* however busy it is before */
static void wait_until_loaded(pid_t pid, pid_t tid, uint64_t cpu_ns)
{
	uint64_t until = sb_monotonic_ns() + 60 * NSEC_PER_SEC;
	struct progress now = progress_of(pid, tid), since = now, before;
	unsigned int still = 0;

	do {
		before = now;
		usleep(20000);
		now = progress_of(pid, tid);
		if (now.code != since.code)
			since = now;
		still = now.state == 'S' && now.slices == before.slices ? still + 1 : 0;
		if (sb_monotonic_ns() > until)
			fail_msg("thread %d of %d does not get to work in 60 s", tid, pid);
	} while (now.cpu_ns - since.cpu_ns < cpu_ns && (cpu_ns == UNTIL_IT_WAITS || now.slices - since.slices < 50) && still < 15);
}

/* Stops a thread of a program again and again, wherever it is, and asks both. thread: NULL the first one. */
static struct result sample_thread(char *const *argv, const char *thread, unsigned int n, unsigned int every_us)
{
	struct result r = {};
	pid_t pid = start(argv), tid = thread ? thread_of(pid, thread) : pid;
	bool shown = false;

	/* One with a name is a JVM's, which compiles what has run for a while. */
	wait_until_loaded(pid, tid, thread ? NSEC_PER_SEC : 300 * NSEC_PER_MSEC);
	assert_int_equal(ptrace(PTRACE_SEIZE, tid, NULL, NULL), 0);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t frames[MAX_FRAMES];
		struct sb_unwind_walk w;
		struct stack truth;
		bool by_rbp, equal;

		usleep(every_us + i * 37 % 1000);
		stop(tid);
		world_reset();
		load_maps_of(pid);
		w = walk_stopped(tid, frames);
		truth = stack_by_dwfl(pid, tid);
		by_rbp = goes_by_rbp(&w, &truth);
		r.samples++;
		r.frames += w.n;
		r.by_fp += w.n_fp > 0;
		r.ends[w.end]++;
		equal = truth.n == w.n && !memcmp(frames, truth.pc, w.n * sizeof(*frames));
		r.same_code += equal || is_same_code(frames, w.n, &truth);
		if (equal) {
			r.equal++;
		} else if (w.end == SB_UNWIND_COMPLETE && truth.n < w.n &&
			   !memcmp(frames, truth.pc, truth.n * sizeof(*frames))) {
			r.shorter_truth++;
		} else if (truth.n > w.n &&
			   ((w.end == SB_UNWIND_NO_ROWS && !is_caller(truth.pc[w.n])) ||
			    (w.end == SB_UNWIND_NO_MAPPING && !code_at(frames[w.n - 1]))) &&
			   !memcmp(frames, truth.pc, w.n * sizeof(*frames))) {
			r.astray++;
			r.by_rbp += by_rbp;
		} else if (w.end == SB_UNWIND_NO_ROWS && truth.n > w.n &&
			   !memcmp(frames, truth.pc, w.n * sizeof(*frames))) {
			r.ends_early++;
			r.by_rbp += by_rbp;
		} else if (!shown) {
			print_message("%s: end %d, %d by frame pointer\n", argv[0], w.end, w.n_fp);
			print_stacks(frames, w.n, &truth);
			shown = true;
		}
		close(world.mem);
		assert_int_equal(ptrace(PTRACE_CONT, tid, NULL, NULL), 0);
	}
	world.pid = 0;
	kill(pid, SIGKILL);
	if (tid != pid)
		waitpid(tid, NULL, __WALL);
	waitpid(pid, NULL, __WALL);
	print_message("%s: %u stacks, %.1f frames each, %u equal to libdwfl's, %u but for frames that are no code, %u where libdwfl ends earlier, %u where it leaves the code, %u where we end earlier, "
		      "%u of these by rbp; %u with frame pointers; complete %u, no mapping %u, no rows %u, unsupported %u, not resident %u, bad stack %u\n",
		      argv[0], r.samples, (double)r.frames / r.samples, r.equal, r.same_code, r.shorter_truth, r.astray, r.ends_early, r.by_rbp, r.by_fp,
		      r.ends[SB_UNWIND_COMPLETE], r.ends[SB_UNWIND_NO_MAPPING], r.ends[SB_UNWIND_NO_ROWS],
		      r.ends[SB_UNWIND_UNSUPPORTED], r.ends[SB_UNWIND_NOT_RESIDENT], r.ends[SB_UNWIND_BAD_STACK]);
	return r;
}

#define NEED(path)                                \
	do {                                      \
		if (access(path, X_OK) < 0) {     \
			print_message("no %s here\n", path); \
			skip();                   \
		}                                 \
	} while (0)

/* complete_of_100: how many must reach the outermost function; both opinions end where a function has
 * no call frame information. thread: NULL the first one. */
static void expect_equal_in(char *const *argv, const char *thread, unsigned int n, unsigned int every_us,
			    unsigned int complete_of_100)
{
	struct result r = sample_thread(argv, thread, n, every_us);

	/* Only a program that is known to end early may leave libdwfl astray, and only by its frame pointers. */
	assert_true(r.equal + r.shorter_truth + (complete_of_100 < 99 ? r.astray : 0) >= (n * 99 + 99) / 100);
	assert_true(complete_of_100 >= 99 || r.by_rbp == r.astray + r.ends_early);
	assert_true(r.ends[SB_UNWIND_COMPLETE] >= (n * complete_of_100 + 99) / 100);
	/* A program that never reaches its outermost function: in code both say the same. */
	assert_true(complete_of_100 || r.same_code >= (n * 99 + 99) / 100);
	assert_true(r.frames > 4 * n || !complete_of_100);
}

static void expect_equal_and(char *const *argv, unsigned int n, unsigned int every_us, unsigned int complete_of_100)
{
	expect_equal_in(argv, NULL, n, every_us, complete_of_100);
}

static void expect_equal(char *const *argv, unsigned int n, unsigned int every_us)
{
	expect_equal_and(argv, n, every_us, 99);
}

#endif
