// SPDX-License-Identifier: BSD-2-Clause
/* recorder/readers.c: threads that hang on a job are replaced, as far as there is room, and told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "recorder/readers.h"

static int jobs[2], hold[2];
static uint32_t done;

/* A job is a byte: 'h' hangs until there is something in `hold`. */
static void *take(void *ctx)
{
	char *job = malloc(1);

	(void)ctx;
	if (read(jobs[0], job, 1) == 1)
		return job;
	free(job);
	return NULL;
}

static void work(void *ctx, void *job)
{
	char byte;

	(void)ctx;
	if (*(char *)job == 'h')
		(void)!read(hold[0], &byte, 1);
	free(job);
	__atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
}

static void put(char job)
{
	assert_int_equal(write(jobs[1], &job, 1), 1);
}

/* r: looked after meanwhile, as it will be in a minute; or NULL. */
static void wait_for_done(struct readers *r, uint32_t n)
{
	uint64_t given_up = 0;

	for (unsigned int i = 0; __atomic_load_n(&done, __ATOMIC_ACQUIRE) != n; i++) {
		if (r)
			readers_watch(r, sb_monotonic_ns() + 60 * NSEC_PER_SEC, &given_up);
		if (i == 20000)
			fail_msg("%u of %u jobs are done after 20 s", done, n);
		usleep(1000);
	}
}

/* Until so many hang, as it will be in a minute. */
static void wait_for_hanging(struct readers *r, uint32_t n, uint64_t *given_up)
{
	for (unsigned int i = 0; readers_watch(r, sb_monotonic_ns() + 60 * NSEC_PER_SEC, given_up) != n; i++) {
		if (i == 20000)
			fail_msg("not %u hang after 20 s", n);
		usleep(1000);
	}
}

static void test_hanging(void **state)
{
	struct readers r = { .take = take, .work = work };
	uint64_t given_up = 0;

	(void)state;
	assert_int_equal(pipe(jobs) | pipe(hold), 0);
	assert_int_equal(readers_start(&r), 0);
	put('x');
	wait_for_done(NULL, 1);
	assert_int_equal(readers_watch(&r, sb_monotonic_ns() + 60 * NSEC_PER_SEC, &given_up), 0);
	for (uint32_t i = 1; i < READERS; i++) {
		put('h');
		wait_for_hanging(&r, i, &given_up);
		assert_int_equal(given_up, i);
		assert_int_equal(readers_watch(&r, sb_monotonic_ns(), &given_up), 0); /* not for long yet */
		put('x');
		wait_for_done(NULL, 1 + i);
	}
	/* The last one: nobody reads, and it is told. */
	put('h');
	wait_for_hanging(&r, READERS, &given_up);
	assert_int_equal(given_up, READERS - 1);
	put('x');
	assert_int_equal(readers_watch(&r, sb_monotonic_ns() + 60 * NSEC_PER_SEC, &given_up), READERS);
	assert_int_equal(__atomic_load_n(&done, __ATOMIC_ACQUIRE), READERS);
	/* One comes back, whoever it is: then somebody does. */
	put('x');
	assert_int_equal(write(hold[1], "", 1), 1);
	wait_for_done(&r, READERS + 3);
	assert_int_equal(write(hold[1], "...", 3), 3);
	wait_for_done(NULL, 2 * READERS + 2);
	close(jobs[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_hanging) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
