// SPDX-License-Identifier: BSD-2-Clause
/* The process that reads the host's counters, on made-up files: what it says has begun, and when. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "recorder/series.h"
#include "tests/unit/scratch.h"

#define STALLS HOST_STALLS(HOST_MEMORY)
#define SECOND_MS 1000

static void put_stat(unsigned int system, unsigned int idle)
{
	char text[128];

	snprintf(text, sizeof(text), "cpu  0 0 %08u %08u 0 0 0 0 0 0\nctxt 1\n", system, idle);
	write_text("new", text);
	assert_int_equal(sh("cat new > proc/stat"), 0); /* in place: the reader keeps it open */
}

static void put_memory(unsigned int some_us)
{
	char text[128];

	snprintf(text, sizeof(text), "some avg10=0.00 total=%08u\nfull avg10=0.00 total=%08u\n", some_us, 0u);
	write_text("new", text);
	assert_int_equal(sh("cat new > proc/pressure/memory"), 0);
}

static struct series *start(void)
{
	struct series *s = NULL;

	put_stat(0, 0);
	put_memory(0);
	assert_int_equal(series_start(at("proc"), 1, false, NULL, 0, &s), 0);
	return s;
}

static void end(struct series *s)
{
	pid_t pid = series_pid(s);

	series_stop(s);
	waitpid(pid, NULL, 0);
}

/* Until it has read so often; the next reading is most of a second away then. */
static void await(const struct series *s, uint64_t readings)
{
	uint64_t give_up = sb_monotonic_ns() + 20 * NSEC_PER_SEC;

	while (series_samples(s) < readings) {
		assert_true(sb_monotonic_ns() < give_up);
		poll(NULL, 0, 5);
	}
}

static bool says(const struct series *s, int within_ms)
{
	struct pollfd p = { .fd = series_begun_fd(s), .events = POLLIN };
	eventfd_t n;

	return poll(&p, 1, within_ms) > 0 && eventfd_read(p.fd, &n) == 0;
}

/* With the next reading, and once: a second later it is no news that there was something. */
static void test_begins(void **state)
{
	struct series *s = start();
	uint64_t n;

	(void)state;
	series_want(s, STALLS | HOST_SYSTEM);
	await(s, 3);
	assert_false(says(s, 0));
	n = series_samples(s);
	put_memory(50000);
	assert_true(says(s, 2 * SECOND_MS));
	await(s, n + 2);
	assert_false(says(s, 0));
	n = series_samples(s);
	put_stat(30, 70);
	assert_true(says(s, 2 * SECOND_MS));
	await(s, n + 2);
	assert_false(says(s, 0));
	end(s);
}

/* Nobody is woken for what nobody waits for. */
static void test_wanted(void **state)
{
	struct series *s = start();
	uint64_t n;

	(void)state;
	series_want(s, HOST_SYSTEM);
	await(s, 2);
	n = series_samples(s);
	put_memory(50000);
	await(s, n + 2);
	assert_false(says(s, 0));
	series_want(s, 0);
	n = series_samples(s);
	put_stat(30, 70);
	await(s, n + 2);
	assert_false(says(s, 0));
	end(s);
}

/* Who relies on it learns what it watches, and when it does not any more. */
static void test_watched(void **state)
{
	struct cpu_times cpu;
	struct series *s = start();
	uint64_t now, ns;
	pid_t pid = series_pid(s);

	(void)state;
	assert_int_equal(series_watched(NULL, sb_monotonic_ns()), 0);
	assert_int_equal(series_begun_fd(NULL), -1);
	put_stat(3, 97);
	await(s, 2);
	now = sb_monotonic_ns();
	assert_int_equal(series_watched(s, now), STALLS | HOST_SYSTEM); /* there are no files of the others */
	assert_int_equal(series_watched(s, now + 2 * NSEC_PER_SEC), 0);
	/* The newest reading, and the one before. */
	assert_true(series_cpu_before(s, now, &cpu, &ns));
	assert_true(ns < now && now - ns < 3 * NSEC_PER_SEC / 2);
	assert_int_equal(cpu.system, 3);
	assert_int_equal(cpu.total, 100);
	now = ns - 1;
	assert_true(series_cpu_before(s, now, &cpu, &ns));
	assert_true(ns <= now);
	assert_false(series_cpu_before(s, ns - 1, &cpu, &ns));
	kill(pid, SIGSTOP);
	now = sb_monotonic_ns() + 2 * NSEC_PER_SEC;
	while (sb_monotonic_ns() < now)
		poll(NULL, 0, 50);
	assert_int_equal(series_watched(s, sb_monotonic_ns()), 0);
	end(s);
}

static int begin(void **state)
{
	return set_up(state) || mkdir(at("proc"), 0755) || mkdir(at("proc/pressure"), 0755);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begins),
		cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_watched),
	};

	return cmocka_run_group_tests(tests, begin, tear_down);
}
