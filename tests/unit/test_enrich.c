// SPDX-License-Identifier: BSD-2-Clause
/* Names of user functions, read from living processes whose executables have one path: each gets
 * its own names or none, never those of another file. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "format/reader.h"
#include "recorder/enrich.h"
#include "recorder/known.h"
#include "tests/unit/scratch.h"

#define MANY 60u


/* ---- processes ---------------------------------------------------------------------- */

/* A program whose one function has the name; its address is what it prints. The number makes
 * its build-id another one: names alone do not. */
static void compile(const char *function, const char *to, const char *flags)
{
	static int number;
	char command[1024];

	snprintf(command, sizeof(command),
		 "cd %s && printf '#include <stdio.h>\\n#include <unistd.h>\\nint %s(void) { pause(); return %d; }\\n"
		 "int main(void) { printf(\"%%%%p\\\\n\", (void *)%s); fflush(stdout); return %s(); }\\n' >x.c && "
		 "cc -O0 -no-pie -fno-pie %s -o %s.new x.c && mv %s.new %s",
		 top, function, ++number, function, function, flags, to, to, to);
	assert_int_equal(system(command), 0);
}

struct sleeper {
	pid_t pid;
	uint64_t addr; /* of its function */
};

/* in_mount: under a file system of its own at top/mnt, which nobody else sees. */
static void run(const char *path, bool in_mount, int out)
{
	char command[1024], prog[300];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, STDOUT_FILENO);
	snprintf(prog, sizeof(prog), "%s/%s", top, path);
	if (in_mount) {
		snprintf(prog, sizeof(prog), "%s/mnt", top);
		if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("none", prog, "tmpfs", 0, NULL) < 0)
			_exit(1);
		snprintf(command, sizeof(command), "cp %s/%s %s/prog", top, path, prog);
		if (system(command))
			_exit(1);
		strcat(prog, "/prog");
	}
	execl(prog, prog, NULL);
	_exit(1);
}

static struct sleeper start(const char *path, bool in_mount)
{
	struct sleeper s = {};
	char text[64] = "";
	int out[2];

	assert_int_equal(pipe(out), 0);
	s.pid = fork();
	assert_true(s.pid >= 0);
	if (s.pid == 0)
		run(path, in_mount, out[1]);
	close(out[1]);
	if (read(out[0], text, sizeof(text) - 1) > 0)
		s.addr = strtoull(text, NULL, 16);
	close(out[0]);
	return s;
}

static void stop(struct sleeper *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

/* ---- a bundle of them ---------------------------------------------------------------- */

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -EIO;
}

static bool in_time(const struct bundle *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bundle_process(b, (uint32_t)i + 1)->map_state == BUNDLE_MAPS_TIMED_OUT)
			return false;
	}
	return true;
}

/* Bundle process i + 1 is s[i]; what there is of it: one frame in its function. */
static struct bundle *enriched_once(const struct sleeper *s, size_t n)
{
	static struct freeze_user user[MANY];
	static struct freeze_frame frame[MANY];
	static struct sb_control control;
	struct sb_task *tasks = calloc(SB_TASKS, sizeof(*tasks));
	struct probes probes = { .tasks = tasks, .control = &control };
	struct freeze f = { .probes = &probes, .user = user, .uframe = frame };
	struct bundle_header h = { .producer = "test" };
	struct bundle_footer footer = {};
	struct bundle *b = NULL;
	char path[300];
	FILE *out;

	snprintf(path, sizeof(path), "%s/bundle", top);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(bundle_writer_new(to_file, out, 1, &f.w), 0);
	bundle_writer_header(f.w, &h);
	for (size_t i = 0; i < n; i++) {
		struct bundle_process p = { .pid = (uint32_t)s[i].pid };

		user[i] = (struct freeze_user){ bundle_writer_process(f.w, &p), (uint32_t)s[i].pid, 0, 0 };
		frame[i] = (struct freeze_frame){ user[i].process, true, s[i].addr + 1 };
	}
	f.n_user = f.n_uframe = n;
	enrich(&f);
	assert_int_equal(bundle_writer_finish(f.w, &footer), 0);
	bundle_writer_free(f.w);
	fclose(out);
	free(tasks);
	assert_int_equal(bundle_open(path, &b, NULL), 0);
	return b;
}

/* On a machine with much to do a process may not tell its mappings in time: then it is asked once more. */
static struct bundle *enriched(const struct sleeper *s, size_t n)
{
	struct bundle *b = enriched_once(s, n);

	for (int i = 0; i < 20 && !in_time(b, n); i++) {
		bundle_close(b);
		b = enriched_once(s, n);
	}
	return b;
}

static void expect(const struct bundle *b, const struct sleeper *s, size_t i, const char *name,
		   const char *module)
{
	const char *got_module;
	uint64_t offset;
	const char *got = bundle_symbolize(b, (uint32_t)i + 1, s[i].addr + 1, &got_module, &offset);
	char want[400];

	snprintf(want, sizeof(want), "%s/%s", top, module);
	if (!got != !name || (name && strcmp(got, name)) || !got_module || strcmp(got_module, want))
		fail_msg("process %zu: got %s in %s, expected %s in %s", i, got ? got : "no name",
			 got_module ? got_module : "nothing", name ? name : "no name", want);
}

static void test_replaced(void **state)
{
	struct sleeper s[2];
	struct bundle *b;

	(void)state;
	compile("alpha", "prog", "");
	s[0] = start("prog", false);
	compile("beta", "prog", ""); /* an upgrade: the first one runs on from a file without a name */
	s[1] = start("prog", false);
	assert_true(s[0].addr && s[0].addr == s[1].addr);
	b = enriched(s, 2);
	expect(b, s, 0, "alpha", "prog (deleted)");
	expect(b, s, 1, "beta", "prog");
	bundle_close(b);
	stop(&s[0]);
	stop(&s[1]);
}

static uint64_t lost(const struct bundle *b, const char *what)
{
	const struct bundle_loss *l;
	size_t n = bundle_losses(b, &l);
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += strstr(l[i].what, what) ? l[i].count : 0;
	return sum;
}

/* More programs than files may be open. */
static void test_many_files(void **state)
{
	struct rlimit before, few;
	struct sleeper s[MANY];
	char name[32], command[128];
	struct bundle *b;

	(void)state;
	compile("of_many", "prog", "");
	for (size_t i = 0; i < MANY; i++) {
		snprintf(command, sizeof(command), "cd %s && ln prog many%zu", top, i);
		assert_int_equal(system(command), 0);
		snprintf(name, sizeof(name), "many%zu", i);
		s[i] = start(name, false);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ MANY - 10, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	b = enriched(s, MANY);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "many%zu", i);
		expect(b, s, i, "of_many", name);
	}
	assert_int_equal(lost(b, "could not be opened"), 0);
	bundle_close(b);
	for (size_t i = 0; i < MANY; i++)
		stop(&s[i]);
}

/* A process with more executable mappings than there is room for: how many were left out is in the bundle. */
static void test_many_mappings(void **state)
{
	const unsigned int n = 5000;
	struct sleeper s;
	struct bundle *b;
	uint8_t *at;
	int ready[2];

	(void)state;
	assert_int_equal(pipe(ready), 0);
	at = mmap(NULL, 2 * n * 4096UL, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	s = (struct sleeper){ fork(), (uint64_t)(uintptr_t)test_many_mappings };
	if (s.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned int i = 0; i < n; i++)
			(void)mprotect(at + 2 * i * 4096UL, 4096, PROT_READ | PROT_EXEC);
		(void)!write(ready[1], "", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &(char){ 0 }, 1), 1);
	b = enriched(&s, 1);
	/* Beside these its own, of files. */
	assert_in_range(lost(b, "mappings beyond"), n - 4096 + 3, n - 4096 + 100);
	bundle_close(b);
	stop(&s);
	munmap(at, 2 * n * 4096UL);
	close(ready[0]);
	close(ready[1]);
}

/* Containers: one path, a file of its own in each. */
static void namespaces_with(const char *flags)
{
	struct sleeper s[3];
	struct bundle *b;

	compile("gamma_fn", "one", flags);
	compile("delta_fn", "two", flags);
	compile("outer_fn", "mnt/prog", flags);
	s[0] = start("one", true);
	s[1] = start("two", true);
	s[2] = start("mnt/prog", false);
	if (s[0].addr && s[1].addr) {
		b = enriched(s, 3);
		expect(b, s, 0, "gamma_fn", "mnt/prog");
		expect(b, s, 1, "delta_fn", "mnt/prog");
		expect(b, s, 2, "outer_fn", "mnt/prog");
		bundle_close(b);
	}
	for (int i = 0; i < 3; i++)
		stop(&s[i]);
	if (!s[0].addr || !s[1].addr) {
		print_message("mount namespaces are not allowed here\n");
		skip();
	}
}

static void test_mount_namespaces(void **state)
{
	char mnt[300];

	(void)state;
	snprintf(mnt, sizeof(mnt), "%s/mnt", top);
	assert_int_equal(mkdir(mnt, 0755), 0);
	namespaces_with("-Wl,--build-id");
	namespaces_with("-Wl,--build-id=none");
}

/* ---- kernel code that is gone ---------------------------------------------------------- */

#define GONE 0xffffffffffe00000ULL /* behind all that kallsyms has */

static void no_images(const void *of, image_fn fn, void *ctx)
{
	(void)of;
	(void)fn;
	(void)ctx;
}

static void tell_forever(int socket)
{
	static const struct known_ksym gone = { GONE, 0x100, 1, "bpf_prog_0123456789abcdef_went" };
	struct known_source source = { .each_image = no_images, .ksym = &gone, .n_ksyms = 1 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		known_serve(socket, &source);
		usleep(1000);
	}
}

static void test_kernel_code_that_went(void **state)
{
	struct sb_task *tasks = calloc(SB_TASKS, sizeof(*tasks));
	struct probes probes = { .tasks = tasks };
	struct freeze f = { .probes = &probes };
	struct bundle_header h = { .producer = "test" };
	struct bundle_footer footer = {};
	struct known *known;
	const char *module;
	uint64_t offset;
	struct bundle *b;
	char path[300];
	int fd[2];
	FILE *out;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
	pid = fork();
	if (pid == 0)
		tell_forever(fd[1]);
	assert_int_equal(known_ask(fd[0], 60000, &known), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(path, sizeof(path), "%s/bundle", top);
	out = fopen(path, "w");
	assert_int_equal(bundle_writer_new(to_file, out, 1, &f.w), 0);
	bundle_writer_header(f.w, &h);
	map64_put(&f.kframes, GONE + 0x10, 1);
	map64_put(&f.kframes, GONE + 0x200, 1);
	f.known = known;
	if (!enrich(&f)) {
		print_message("no right to read kallsyms\n");
		skip();
	}
	assert_int_equal(bundle_writer_finish(f.w, &footer), 0);
	bundle_writer_free(f.w);
	fclose(out);
	assert_int_equal(bundle_open(path, &b, NULL), 0);
	assert_string_equal(bundle_symbolize(b, 0, GONE + 0x10, &module, &offset), "bpf_prog_0123456789abcdef_went");
	assert_int_equal(offset, 0x10);
	assert_null(bundle_symbolize(b, 0, GONE + 0x200, &module, &offset));
	bundle_close(b);
	map64_done(&f.kframes);
	known_free(known);
	free(tasks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_many_files),
		cmocka_unit_test(test_many_mappings),
		cmocka_unit_test(test_mount_namespaces),
		cmocka_unit_test(test_kernel_code_that_went),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
