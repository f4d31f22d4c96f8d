// SPDX-License-Identifier: BSD-2-Clause
/* The walk over stacks of servers as Debian ships them, on the CPU and blocked, beside libdwfl for
 * the same stop of the same thread: at least 99 of 100 are equal. */
#include "tests/unit/walked.h"

/* What a shell in `top` becomes by exec. */
static void expect_equal_of(const char *exec, unsigned int n, unsigned int every_us, unsigned int complete_of_100)
{
	char command[2048];
	char *const argv[] = { "/bin/bash", "-c", command, NULL };

	snprintf(command, sizeof(command), "cd %s && exec %s", top, exec);
	print_message("%s\n", exec);
	expect_equal_and(argv, n, every_us, complete_of_100);
}

static void test_postgres(void **state)
{
	static const char single[] = "setpriv --reuid=65534 --clear-groups /usr/lib/postgresql/15/bin/postgres --single -D data "
				     "postgres >out 2>&1";
	char command[512];

	(void)state;
	NEED("/usr/lib/postgresql/15/bin/postgres");
	if (geteuid()) {
		print_message("postgres does not run as root, and only root can be somebody else\n");
		skip();
	}
	assert_int_equal(sh("chmod 755 . && mkdir data && chown 65534 data && setpriv --reuid=65534 --clear-groups "
			    "/usr/lib/postgresql/15/bin/initdb -D data --auth=trust >&2"), 0);
	write_text("sleep.sql", "select pg_sleep(600);\n");
	write_text("busy.sql", "select count(*) from generate_series(1, 2000000000) a where md5(a::text) like '%ab%' "
			       "and sqrt(a)::numeric * 3 > 1;\n");
	snprintf(command, sizeof(command), "%s <sleep.sql", single);
	expect_equal_of(command, 5, 1000, 99);
	assert_int_equal(sh("rm -f data/postmaster.pid"), 0);
	snprintf(command, sizeof(command), "%s <busy.sql", single);
	expect_equal_of(command, 100, 500, 99);
}

static void test_redis(void **state)
{
	(void)state;
	NEED("/usr/bin/redis-check-rdb"); /* the server is the same file */
	expect_equal_of("-a redis-server /usr/bin/redis-check-rdb --port 0 --unixsocket sock --save '' --hz 500 >out", 100, 500, 90);
}

/* The first thread of a JVM waits for the others; what it has of frames is in libjli and libc. */
static void test_java(void **state)
{
	char *const argv[] = { "/usr/bin/java", "-XX:+UseSerialGC", "-Xmx64m", "-cp", top, "Busy", NULL };

	(void)state;
	NEED("/usr/bin/java");
	write_text("Busy.java", "public class Busy { public static void main(String[] a) throws Exception { Thread.sleep(600000); } }\n");
	if (sh("javac -d . Busy.java >&2")) {
		print_message("no javac\n");
		skip();
	}
	expect_equal(argv, 10, 1000);
}

/* The thread that runs main(): interpreter and compiled code, which have frame pointers and nothing else. */
static void test_java_threads(void **state)
{
	static const struct {
		const char *how, *what;
		unsigned int complete_of_100;
	} runs[] = { { "-Xint", "busy", 99 },
		     { "-XX:+PreserveFramePointer", "busy", 99 },
		     { "-XX:+UseSerialGC", "busy", 0 }, /* compiled code has rbp for anything */
		     { "-XX:+UseSerialGC", "blocked", 99 } };

	(void)state;
	NEED("/usr/bin/java");
	write_text("Work.java", "import java.util.*;\n"
		   "public class Work {\n"
		   "  static long leaf(Map<String, Long> m, int i) { return m.merge(\"k\" + i % 977, 1L, Long::sum); }\n"
		   "  static long middle(Map<String, Long> m, int depth, int i) { return depth > 0 ? middle(m, depth - 1, i) + 1 : leaf(m, i); }\n"
		   "  public static void main(String[] a) throws Exception { if (a[0].equals(\"blocked\")) Thread.sleep(600000);\n"
		   "    Map<String, Long> m = new TreeMap<>(); long n = 0; for (int i = 0;; i++) { n += middle(m, i % 9, i); if (n == -1) System.out.println(n); } } }\n");
	if (sh("javac -d . Work.java >&2")) {
		print_message("no javac\n");
		skip();
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(runs); i++) {
		char *const argv[] = { "/usr/bin/java", (char *)(uintptr_t)runs[i].how, "-Xmx64m", "-cp", top, "Work",
				       (char *)(uintptr_t)runs[i].what, NULL };

		print_message("java %s %s\n", runs[i].how, runs[i].what);
		expect_equal_in(argv, "java", 50, 1000, runs[i].complete_of_100);
	}
}

/* Without a dynamic linker, and a C library whose code has no call frame information but what its assembler was
 * given. */
static void test_musl(void **state)
{
	(void)state;
	if (sh("command -v musl-gcc >&2")) {
		print_message("no musl-gcc\n");
		skip();
	}
	write_text("static.c", "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n#include <poll.h>\n"
		   "static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }\n"
		   "__attribute__((noinline)) static int leaf(int n) { char *v[64], text[64][24]; for (int i = 0; i < 64; i++) {\n"
		   "  snprintf(text[i], sizeof(text[i]), \"%d.%f\", (i * 7919 + n) % 1000, i / 3.0); v[i] = text[i]; }\n"
		   "  qsort(v, 64, sizeof(*v), by_text); return atoi(v[3]); }\n"
		   "__attribute__((noinline)) static int middle(int depth, int n) { return depth ? middle(depth - 1, n) + 1 : leaf(n); }\n"
		   "int main(int argc, char **argv) { long n = 0; if (argc > 1) n = poll(NULL, 0, -1); for (int i = 0;; i++) n += middle(i % 9, i); return n; }\n");
	for (int o = 0; o <= 2; o += 2) {
		assert_int_equal(sh("musl-gcc -static -w -O%d -fno-optimize-sibling-calls -fasynchronous-unwind-tables -o static static.c", o), 0);
		expect_equal_of("./static", 100, 500, 0);
		expect_equal_of("./static blocked", 5, 1000, 0);
	}
}

static const char cxx_source[] =
	"#include <algorithm>\n#include <functional>\n#include <iostream>\n#include <map>\n#include <memory>\n#include <regex>\n"
	"#include <sstream>\n#include <stdexcept>\n#include <thread>\n#include <vector>\n"
	"struct request { std::string line; int depth; };\n"
	"struct handler { virtual ~handler() = default; virtual std::string handle(const request &r) = 0; };\n"
	"struct routes : handler {\n"
	"  std::map<std::string, std::function<std::string(const request &)>> table;\n"
	"  routes() { table[\"/sum\"] = [](const request &r) { std::vector<int> v(500 + r.depth); int i = 0;\n"
	"      std::generate(v.begin(), v.end(), [&] { return i += 7; }); std::sort(v.begin(), v.end(), std::greater<int>());\n"
	"      return std::to_string(v[3]); };\n"
	"    table[\"/throw\"] = [](const request &r) -> std::string { if (r.depth) throw std::runtime_error(r.line); return {}; }; }\n"
	"  std::string handle(const request &r) override { static const std::regex e(\"(/[a-z]+)(\\\\?(.*))?\"); std::smatch m;\n"
	"    if (r.depth % 5) { request d{ r.line, r.depth - 1 }; return handle(d); }\n"
	"    if (!std::regex_match(r.line, m, e)) return \"bad\"; return table.at(m[1])(r); } };\n"
	"int main(int argc, char **argv) { auto h = std::make_unique<routes>(); long n = 0;\n"
	"  if (argc > 1) std::this_thread::sleep_for(std::chrono::hours(1));\n"
	"  for (int i = 1;; i++) { std::ostringstream o; try { o << h->handle({ i % 3 ? \"/sum?x=1\" : \"/throw\", i % 25 + 1 }); }\n"
	"    catch (const std::exception &e) { o << e.what(); } n += o.str().size(); } return n; }\n";

static void test_cxx(void **state)
{
	static const char *const builds[] = { "g++ -O0", "g++ -O2", "g++ -O3 -flto", "clang++ -O2" };

	(void)state;
	if (sh("command -v g++ >&2")) {
		print_message("no g++\n");
		skip();
	}
	write_text("server.cc", cxx_source);
	for (size_t i = 0; i < SB_ARRAY_SIZE(builds); i++) {
		/* Bound at once: a first call is the loader's business, whose resolver realigns the stack. */
		if (sh("%s -w -Wl,-z,now -o server server.cc", builds[i])) {
			print_message("%s does not build it\n", builds[i]);
			continue;
		}
		print_message("%s\n", builds[i]);
		/* While libgcc puts the frame of the handler in the place of its own neither finds the end. */
		expect_equal_of("./server", 100, 500, 90);
	}
	expect_equal_of("./server blocked", 3, 1000, 99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_postgres),
		cmocka_unit_test(test_redis),
		cmocka_unit_test(test_java),
		cmocka_unit_test(test_java_threads),
		cmocka_unit_test(test_musl),
		cmocka_unit_test(test_cxx),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
