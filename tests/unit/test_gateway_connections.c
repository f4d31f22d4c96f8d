// SPDX-License-Identifier: BSD-2-Clause
/* The deadlines of connections: not before, and not never. And who gives way where there are many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <poll.h>
#include <sys/socket.h>

#include "gateway/connections.h"

#define TIMEOUT_NS NSEC_PER_SEC
#define MAX 16u

static struct stats stats, other_stats;
static struct connections connections, other; /* other: of a timeout that no test lives to see */

/* When the other end saw the end, since `start`; 0: not within a minute. */
static uint64_t ended_after(int peer, uint64_t start)
{
	struct pollfd pfd = { .fd = peer, .events = POLLIN };

	if (poll(&pfd, 1, 60000) != 1)
		return 0;
	assert_int_equal(recv(peer, &(char){ 0 }, 1, 0), 0);
	return sb_monotonic_ns() - start;
}

static bool is_open(int peer)
{
	return recv(peer, &(char){ 0 }, 1, MSG_DONTWAIT) < 0;
}

static void test_deadlines(void **state)
{
	uint64_t start = sb_monotonic_ns();
	struct connection *one[3];
	int pair[3][2];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
		one[i] = connections_add(&connections, pair[i][0]);
		assert_non_null(one[i]);
	}
	assert_int_equal(stats_read(stats.connections), 3);
	connections_expect(&connections, one[1], 2 * CONNECTIONS_MIN_RATE);
	connections_suspend(&connections, one[2]);
	assert_true(ended_after(pair[0][1], start) >= TIMEOUT_NS);
	assert_true(ended_after(pair[1][1], start) >= TIMEOUT_NS + 2 * NSEC_PER_SEC);
	assert_true(is_open(pair[2][1]));
	assert_int_equal(stats_read(stats.expired), 2);
	/* Its turn again. */
	start = sb_monotonic_ns();
	connections_expect(&connections, one[2], 0);
	assert_true(ended_after(pair[2][1], start) >= TIMEOUT_NS);
	/* In any order, and the list is whole. */
	connections_remove(&connections, one[1]);
	connections_remove(&connections, one[0]);
	connections_remove(&connections, one[2]);
	assert_null(connections.first);
	assert_int_equal(stats_read(stats.connections), 0);
	assert_int_equal(stats_read(stats.expired), 3);
	for (int i = 0; i < 3; i++) {
		close(pair[i][0]);
		close(pair[i][1]);
	}
}

/* When there are too many, those that have not sent their request give way, the one that has waited longest first, and not
 * at once; those that are served never do. */
static void test_many(void **state)
{
	enum { ALL = 2 * MAX + 2 };
	struct connection *one[ALL];
	int pair[ALL][2];

	(void)state;
	for (unsigned int i = 0; i < ALL; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
		one[i] = connections_add(&other, pair[i][0]);
		if (i == MAX) { /* a burst: nobody has had a second */
			assert_int_equal(stats_read(other_stats.displaced), 0);
			connections_await(&other, one[1]);
			one[1]->deadline_ns -= CONNECTIONS_PATIENCE_NS;
			connections_await(&other, one[2]);
			one[2]->deadline_ns -= 2 * CONNECTIONS_PATIENCE_NS;
			connections_expect(&other, one[0], 100);
			one[0]->deadline_ns -= 3 * CONNECTIONS_PATIENCE_NS;
		}
		connections_suspend(&other, one[i]);
		assert_int_equal(is_open(pair[SB_MIN(i, 2u)][1]), i < MAX + 1);
		assert_int_equal(is_open(pair[SB_MIN(i, 1u)][1]), i < MAX + 2);
		/* Then all are served; at last there is no room for a new one. */
		assert_int_equal(is_open(pair[i][1]), i < 2 * MAX);
		assert_int_equal(stats_read(other_stats.displaced),
				 SB_MIN(SB_MAX(i, MAX) - MAX, 2u) + SB_MAX(i + 1, 2 * MAX) - 2 * MAX);
	}
	for (unsigned int i = 0; i < ALL; i++) {
		assert_int_equal(is_open(pair[i][1]), i != 1 && i != 2 && i < 2 * MAX);
		connections_remove(&other, one[i]);
		close(pair[i][0]);
		close(pair[i][1]);
	}
	assert_int_equal(other.n, 0);
	assert_int_equal(stats_read(other_stats.expired), 0);
}

static int set_up(void **state)
{
	(void)state;
	return connections_start(&connections, 100, TIMEOUT_NS, &stats) | connections_start(&other, MAX, 3600 * NSEC_PER_SEC, &other_stats);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_deadlines), cmocka_unit_test(test_many) };

	return cmocka_run_group_tests(tests, set_up, NULL);
}
