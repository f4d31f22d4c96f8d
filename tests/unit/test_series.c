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

/* As the kernel's files: the reader keeps them open, and never finds one empty. */
static void put(const char *name, const char *text)
{
	int fd = open(at(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	close(fd);
}

static void put_stat(unsigned int system, unsigned int idle)
{
	char text[128];

	snprintf(text, sizeof(text), "cpu  0 0 %08u %08u 0 0 0 0 0 0\nctxt 1\n", system, idle);
	put("proc/stat", text);
}

static void put_memory(unsigned int some_us)
{
	char text[128];

	snprintf(text, sizeof(text), "some avg10=0.00 total=%08u\nfull avg10=0.00 total=%08u\n", some_us, 0u);
	put("proc/pressure/memory", text);
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
	uint64_t now, newest, before;
	pid_t pid = series_pid(s);

	(void)state;
	assert_int_equal(series_watched(NULL, sb_monotonic_ns()), 0);
	assert_int_equal(series_begun_fd(NULL), -1);
	put_stat(3, 97);
	await(s, series_samples(s) + 2);
	/* It reads no more, so that the times below are the newest reading's. */
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	/* The newest reading, and the one before. */
	now = sb_monotonic_ns();
	assert_true(series_cpu_before(s, now, &cpu, &newest));
	assert_true(newest < now);
	assert_int_equal(cpu.system, 3);
	assert_int_equal(cpu.total, 100);
	assert_true(series_cpu_before(s, newest - 1, &cpu, &before));
	assert_true(before < newest);
	assert_int_equal(series_watched(s, newest), STALLS | HOST_SYSTEM); /* there are no files of the others */
	assert_int_equal(series_watched(s, newest + NSEC_PER_SEC), STALLS | HOST_SYSTEM);
	assert_int_equal(series_watched(s, newest + 2 * NSEC_PER_SEC), 0);
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
