// SPDX-License-Identifier: BSD-2-Clause
/* What the service manager and the journal are told, and that nobody waits for them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "format/log.h"
#include "recorder/systemd.h"
#include "recorder/watchdog.h"

static int manager_fd; /* the end that reads */

/* A manager's socket with an abstract name. */
static int open_manager(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char name[64];
	int n = snprintf(name, sizeof(name), "@stallbox-test-%d", getpid());

	(void)state;
	memcpy(addr.sun_path, name, (size_t)n);
	addr.sun_path[0] = '\0';
	manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (bind(manager_fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)) < 0)
		return -1;
	return setenv("NOTIFY_SOCKET", name, 1);
}

static int close_manager(void **state)
{
	(void)state;
	close(manager_fd);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return unsetenv("NOTIFY_SOCKET");
}

/* "" when it was told nothing. */
static const char *heard(void)
{
	static char text[256];
	ssize_t n = recv(manager_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_notify(void **state)
{
	(void)state;
	assert_int_equal(systemd_notify("READY=1"), 1);
	assert_string_equal(heard(), "READY=1");
	assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1), 0);
	assert_int_equal(systemd_notify("READY=1"), -ENOENT);
	assert_int_equal(setenv("NOTIFY_SOCKET", "relative", 1), 0);
	assert_int_equal(systemd_notify("READY=1"), -EAFNOSUPPORT);
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(systemd_notify("READY=1"), 0);
}

/* A manager that does not read is not waited for. */
static void test_notify_does_not_wait(void **state)
{
	int r = 1;

	(void)state;
	for (int i = 0; i < 100000 && r == 1; i++)
		r = systemd_notify("WATCHDOG=1");
	assert_int_equal(r, -EAGAIN);
}

static void test_watchdog_of_whom(void **state)
{
	char pid[16];

	(void)state;
	assert_int_equal(systemd_watchdog_ns(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(systemd_watchdog_ns(), 30 * NSEC_PER_SEC);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(systemd_watchdog_ns(), 0);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(systemd_watchdog_ns(), 30 * NSEC_PER_SEC);
}

/* ---- what feeds it --------------------------------------------------------------------- */

static struct sb_cpu cpus[2];
static struct probes probes = { .cfg = { .cpus = 2, .sample_period_ns = 10 * NSEC_PER_MSEC }, .cpus = cpus };

static struct watchdog begin(void)
{
	struct watchdog w;

	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(watchdog_init(&w, 1000 * NSEC_PER_SEC), 0);
	assert_int_equal(w.feed_ns, 10 * NSEC_PER_SEC);
	return w;
}

static void test_fed_by_its_event(void **state)
{
	uint64_t now = 1000 * NSEC_PER_SEC;
	struct watchdog w = begin();

	(void)state;
	cpus[1].last_tick_ns = now;
	watchdog_check(&w, &probes, 0, now);
	assert_string_equal(heard(), ""); /* the timer alone feeds nobody */
	watchdog_feed(&w);
	assert_string_equal(heard(), "WATCHDOG=1");
	watchdog_feed(&w);
	assert_string_equal(heard(), ""); /* nor does an event that nobody wrote */
	watchdog_check(&w, &probes, 0, now + 9 * NSEC_PER_SEC);
	watchdog_feed(&w);
	assert_string_equal(heard(), ""); /* not due */
	cpus[0].last_tick_ns = now + 10 * NSEC_PER_SEC;
	watchdog_check(&w, &probes, 0, now + 10 * NSEC_PER_SEC);
	watchdog_feed(&w);
	assert_string_equal(heard(), "WATCHDOG=1");
	watchdog_done(&w);
}

static void test_starves_without_timers(void **state)
{
	uint64_t now = 1000 * NSEC_PER_SEC;
	struct watchdog w = begin();

	(void)state;
	cpus[0].last_tick_ns = now;
	watchdog_check(&w, &probes, 11 * NSEC_PER_SEC, now);
	watchdog_feed(&w);
	assert_string_equal(heard(), "");
	watchdog_done(&w);
}

static void test_starves_without_sampler(void **state)
{
	uint64_t now = sb_monotonic_ns() + 1000 * NSEC_PER_SEC;
	struct watchdog w = begin();

	(void)state;
	cpus[0].last_tick_ns = cpus[1].last_tick_ns = now - 6 * NSEC_PER_SEC;
	assert_false(watchdog_sampler_ticks(&probes, now));
	watchdog_check(&w, &probes, 0, now);
	watchdog_feed(&w);
	assert_string_equal(heard(), "");
	/* One of the CPUs is enough. */
	cpus[1].last_tick_ns = now - 4 * NSEC_PER_SEC;
	assert_true(watchdog_sampler_ticks(&probes, now));
	watchdog_done(&w);
}

/* ---- the journal ------------------------------------------------------------------------- */

static void test_journal_entry(void **state)
{
	static const struct systemd_field f[] = { { "MESSAGE", "one" }, { "DETAIL", "two\nlines" }, { "LAST", "" } };
	static const char want[] = "MESSAGE=one\nDETAIL\n\x09\0\0\0\0\0\0\0two\nlines\nLAST=\n";
	char got[128];

	(void)state;
	assert_int_equal(systemd_journal_encode(f, 3, got, sizeof(got)), sizeof(want) - 1);
	assert_memory_equal(got, want, sizeof(want) - 1);
	/* Never half an entry. */
	for (size_t size = 0; size < sizeof(want) - 1; size++)
		assert_int_equal(systemd_journal_encode(f, 3, got, size), -EMSGSIZE);
	assert_int_equal(systemd_journal(f, 3), 0); /* standard error is not the journal's */
}

/* Lines to a reader that stands still are counted, and that is said when it moves again. Closes both ends. */
static void expect_no_wait(int reader, int writer, bool journal)
{
	int saved = dup(STDERR_FILENO);
	char text[4096], stream[64];
	struct stat st;
	unsigned long missing = 0, lines = 0;
	char *at;
	ssize_t n;

	assert_int_equal(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
	alarm(60);
	dup2(writer, STDERR_FILENO);
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	if (journal)
		setenv("JOURNAL_STREAM", stream, 1);
	for (int i = 0; i < 20000; i++)
		log_warn("line");
	while ((n = read(reader, text, sizeof(text))) > 0) {
		for (ssize_t k = 0; k < n; k++)
			lines += text[k] == '\n';
	}
	log_warn("after it");
	n = read(reader, text, sizeof(text) - 1);
	dup2(saved, STDERR_FILENO);
	alarm(0);
	unsetenv("JOURNAL_STREAM");
	assert_true(n > 0);
	text[n] = '\0';
	at = strstr(text, "warning: ");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "warning: %lu lines are missing here", &missing), 1);
	assert_int_equal(missing + lines, 20000);
	assert_non_null(strstr(text, journal ? "\n<4>warning: after it\n" : "\nwarning: after it\n"));
	close(reader);
	close(writer);
	close(saved);
}

static void test_log_does_not_wait(void **state)
{
	int journal[2], container[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, journal), 0);
	expect_no_wait(journal[1], journal[0], true);
	assert_int_equal(pipe(container), 0);
	expect_no_wait(container[0], container[1], false);
}

int main(void)
{
#define WITH_MANAGER(t) cmocka_unit_test_setup_teardown(t, open_manager, close_manager)
	const struct CMUnitTest tests[] = {
		WITH_MANAGER(test_notify),
		WITH_MANAGER(test_notify_does_not_wait),
		WITH_MANAGER(test_watchdog_of_whom),
		WITH_MANAGER(test_fed_by_its_event),
		WITH_MANAGER(test_starves_without_timers),
		WITH_MANAGER(test_starves_without_sampler),
		cmocka_unit_test(test_journal_entry),
		cmocka_unit_test(test_log_does_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
