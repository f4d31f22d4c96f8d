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
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "format/reader.h"
#include "recorder/enrich.h"

static char top[] = "/tmp/stallbox-test-enrich.XXXXXX";

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

/* Bundle process i + 1 is s[i]; what there is of it: one frame in its function. */
static struct bundle *enriched(const struct sleeper *s, size_t n)
{
	static struct freeze_user user[8];
	static struct freeze_frame frame[8];
	struct sb_task *tasks = calloc(SB_TASKS, sizeof(*tasks));
	struct probes probes = { .tasks = tasks };
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

		user[i] = (struct freeze_user){ bundle_writer_process(f.w, &p), (uint32_t)s[i].pid, 0 };
		frame[i] = (struct freeze_frame){ user[i].process, s[i].addr + 1 };
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
	compile("beta", "prog", ""); /* an upgrade: the first one runs on from a deleted file */
	s[1] = start("prog", false);
	assert_true(s[0].addr && s[0].addr == s[1].addr);
	b = enriched(s, 2);
	expect(b, s, 0, NULL, "prog (deleted)");
	expect(b, s, 1, "beta", "prog");
	bundle_close(b);
	stop(&s[0]);
	stop(&s[1]);
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

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(top) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_mount_namespaces),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
