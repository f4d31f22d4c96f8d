// SPDX-License-Identifier: BSD-2-Clause
/* The control socket: whole lines in pieces, clients that do not keep to the rules, paths that
 * are somebody else's. */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "recorder/control.h"

#define NO_GROUP ((gid_t)-1)

static char top[] = "/tmp/stallbox-test-control.XXXXXX";
static char path[64];

/* ---- requests ----------------------------------------------------------------------- */

static void test_parse(void **state)
{
	static const struct {
		const char *line, *reason;
		enum control_verb verb;
	} cases[] = {
		{ "status", "", CONTROL_STATUS },
		{ "status-json", "", CONTROL_STATUS_JSON },
		{ "counters-json", "", CONTROL_COUNTERS_JSON },
		{ "counters-json x", "", CONTROL_UNKNOWN },
		{ "freeze", "", CONTROL_FREEZE },
		{ "freeze ", "", CONTROL_FREEZE },
		{ "freeze checkout was slow", "checkout was slow", CONTROL_FREEZE },
		{ "freeze  two", " two", CONTROL_FREEZE },
		{ "freeze-wait", "", CONTROL_FREEZE_WAIT },
		{ "freeze-wait now", "now", CONTROL_FREEZE_WAIT },
		{ "", "", CONTROL_UNKNOWN },
		{ "status ", "", CONTROL_UNKNOWN },
		{ " status", "", CONTROL_UNKNOWN },
		{ "Status", "", CONTROL_UNKNOWN },
		{ "status-jsonx", "", CONTROL_UNKNOWN },
		{ "freezer", "", CONTROL_UNKNOWN },
		{ "freeze-waiting", "", CONTROL_UNKNOWN },
		{ "freeze\tx", "", CONTROL_UNKNOWN },
		{ "GET / HTTP/1.1\r", "", CONTROL_UNKNOWN },
		{ "triggers", "", CONTROL_TRIGGERS },
		{ "triggers-json", "", CONTROL_TRIGGERS_JSON },
		{ "triggers x", "", CONTROL_UNKNOWN },
		{ "directories", "", CONTROL_DIRECTORIES },
		{ "delete x.stall.pb.zst", "x.stall.pb.zst", CONTROL_DELETE },
		{ "delete", "", CONTROL_DELETE },
		{ "deleted x", "", CONTROL_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		const char *reason = "-";

		assert_int_equal(control_parse(cases[i].line, &reason), cases[i].verb);
		assert_string_equal(reason, cases[i].reason);
	}
}

/* ---- lines --------------------------------------------------------------------------- */

static struct control_client client_of(int *ret_peer)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	*ret_peer = pair[1];
	return (struct control_client){ .fd = pair[0] };
}

static int give(struct control_client *c, int peer, const void *data, size_t len)
{
	assert_int_equal(send(peer, data, len, 0), (ssize_t)len);
	return control_read(c);
}

static void test_line_in_pieces(void **state)
{
	static const char text[] = "freeze checkout was slow\n";
	int peer;
	struct control_client c = client_of(&peer);

	(void)state;
	assert_int_equal(control_read(&c), 0); /* nothing yet */
	for (size_t i = 0; i + 2 < sizeof(text); i++)
		assert_int_equal(give(&c, peer, text + i, 1), 0);
	assert_int_equal(give(&c, peer, "\n", 1), 1);
	assert_string_equal(c.line, "freeze checkout was slow");
	control_drop(&c);
	close(peer);
}

static void test_line_lengths(void **state)
{
	static char text[CONTROL_LINE + 10];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (size_t len = CONTROL_LINE - 4; len < CONTROL_LINE + 4; len++) {
		int peer, r;
		struct control_client c = client_of(&peer);

		text[len - 1] = '\n';
		r = give(&c, peer, text, len);
		text[len - 1] = 'x';
		/* 511 bytes, its newline among them, are the longest. */
		assert_int_equal(r, len <= CONTROL_LINE - 1 ? 1 : -E2BIG);
		if (r == 1)
			assert_int_equal(strlen(c.line), len - 1);
		control_drop(&c);
		close(peer);
	}
}

static void test_bad_clients(void **state)
{
	int peer;
	struct control_client c = client_of(&peer);

	(void)state;
	/* A zero byte would end the line for one reader and not for another. */
	assert_int_equal(give(&c, peer, "status\0\n", 8), -EBADMSG);
	control_drop(&c);
	close(peer);
	c = client_of(&peer);
	assert_int_equal(give(&c, peer, "sta\0", 4), -EBADMSG);
	control_drop(&c);
	close(peer);
	/* Gone in the middle of its line. */
	c = client_of(&peer);
	assert_int_equal(give(&c, peer, "sta", 3), 0);
	close(peer);
	assert_int_equal(control_read(&c), -EPIPE);
	control_drop(&c);
	/* More than a line: the rest is nobody's. */
	c = client_of(&peer);
	assert_int_equal(give(&c, peer, "status\nfreeze\n", 14), 1);
	assert_string_equal(c.line, "status");
	control_drop(&c);
	close(peer);
}

/* One request for each connection: what a client sends while it waits is not another one. */
static void test_waiting_client(void **state)
{
	static char text[CONTROL_LINE];
	int peer;
	struct control_client c = client_of(&peer);

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(give(&c, peer, "freeze-wait a\n", 14), 1);
	c.waiting = true;
	assert_int_equal(give(&c, peer, "\n", 1), 0);
	assert_int_equal(give(&c, peer, "freeze-wait b\n", 14), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(give(&c, peer, text, sizeof(text)), 0);
	assert_int_equal(control_read(&c), 0);
	close(peer);
	assert_int_equal(control_read(&c), -EPIPE);
	control_drop(&c);
	assert_int_equal(c.fd, -1);
	assert_false(c.waiting);
}

static void test_answer(void **state)
{
	char got[64] = "";
	int peer;
	struct control_client c = client_of(&peer);

	(void)state;
	control_answer(&c, "ok\nstate=frozen\n");
	assert_int_equal(c.fd, -1);
	assert_int_equal(recv(peer, got, sizeof(got) - 1, 0), 16);
	assert_string_equal(got, "ok\nstate=frozen\n");
	assert_int_equal(recv(peer, got, sizeof(got), 0), 0);
	close(peer);
	/* Nobody there to take it: no signal, no wait. */
	c = client_of(&peer);
	close(peer);
	control_answer(&c, "ok\n");
	assert_int_equal(c.fd, -1);
}

/* ---- the socket ---------------------------------------------------------------------- */

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static void test_open(void **state)
{
	static char too_long[200];
	struct control c, d;
	struct stat st;

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(control_open(&d, path, NO_GROUP), -EADDRINUSE);
	assert_int_equal(d.fd, -1);
	control_close(&c);
	assert_int_equal(stat(path, &st), -1);
	control_close(&c);
	memset(too_long, 'x', sizeof(too_long) - 1);
	assert_int_equal(control_open(&c, too_long, NO_GROUP), -ENAMETOOLONG);
	assert_int_equal(control_open(&c, "/nonexistent/control.sock", NO_GROUP), -ENOENT);
	control_close(&c);
}

/* Left by an agent that was killed: taken over. */
static void test_stale_socket(void **state)
{
	struct control c, d;

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	close(c.fd); /* and the name stays */
	assert_int_equal(control_open(&d, path, NO_GROUP), 0);
	control_close(&d);
}

/* Who cleans up /run removes the socket of an agent that runs. */
static void test_removed(void **state)
{
	struct control c, d;
	struct stat st;
	int old = -1, fd, kept = -1;

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	fd = dial();
	assert_non_null(control_accept(&c, 1));
	assert_int_equal(control_renew(&c, &old), 0);
	assert_int_equal(old, -1);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(dial(), -ENOENT);
	kept = c.fd;
	assert_int_equal(control_renew(&c, &old), 1);
	assert_int_equal(old, kept);
	assert_int_not_equal(c.fd, old);
	close(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	close(dial());
	assert_non_null(control_accept(&c, 2));
	assert_int_equal(c.client[0].since_ns, 1); /* who had connected is still there */
	close(fd);
	/* Another agent has taken the path: nothing of it is touched, not even at the end. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(control_open(&d, path, NO_GROUP), 0);
	kept = c.fd;
	assert_int_equal(control_renew(&c, &old), -EADDRINUSE);
	assert_int_equal(c.fd, kept);
	control_close(&c);
	fd = dial();
	assert_true(fd >= 0);
	close(fd);
	control_close(&d);
	assert_int_equal(stat(path, &st), -1);
}

/* A mistyped --socket must not delete a file. */
static void test_foreign_path(void **state)
{
	struct control c;
	struct stat st;
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_int_equal(write(fd, "precious", 8), 8);
	close(fd);
	assert_int_equal(control_open(&c, path, NO_GROUP), -EEXIST);
	control_close(&c);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(control_open(&c, top, NO_GROUP), -EEXIST); /* a directory */
	control_close(&c);
}

/* An agent that does not come to accept is one that answers: its queue is full. */
static void test_busy_agent(void **state)
{
	struct control c, d;
	int fd[4 * CONTROL_QUEUE], n = 0;

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	while (n < 4 * CONTROL_QUEUE && (fd[n] = dial()) >= 0)
		n++;
	assert_true(n > 0 && n < 4 * CONTROL_QUEUE);
	assert_int_equal(fd[n], -EAGAIN);
	assert_int_equal(control_open(&d, path, NO_GROUP), -EADDRINUSE);
	while (n > 0)
		close(fd[--n]);
	control_close(&c);
}

static void test_slots(void **state)
{
	struct control_client *cl[CONTROL_CLIENTS];
	struct control c;
	int fd[CONTROL_CLIENTS + 2];

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	assert_null(control_accept(&c, 1));
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		fd[i] = dial();
		assert_true(fd[i] >= 0);
		cl[i] = control_accept(&c, 100 + (uint64_t)i);
		assert_non_null(cl[i]);
	}
	/* The one that has been there longest without a request makes room. */
	cl[0]->waiting = true;
	fd[CONTROL_CLIENTS] = dial();
	assert_ptr_equal(control_accept(&c, 200), cl[1]);
	assert_int_equal(recv(fd[1], &(char){ 0 }, 1, 0), 0);
	/* Who waits for a bundle does not; when all do there is no room. */
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		cl[i]->waiting = true;
	fd[CONTROL_CLIENTS + 1] = dial();
	assert_null(control_accept(&c, 300));
	assert_int_equal(recv(fd[CONTROL_CLIENTS + 1], &(char){ 0 }, 1, 0), 0);
	for (int i = 0; i < CONTROL_CLIENTS + 2; i++)
		close(fd[i]);
	control_close(&c);
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		assert_int_equal(c.client[i].fd, -1);
}

/* Bundles are evidence: the group asks, and does not delete. */
static void test_rights(void **state)
{
	(void)state;
	assert_int_equal(control_needs(CONTROL_DELETE), CONTROL_ROOT);
	for (int v = CONTROL_UNKNOWN; v < CONTROL_DELETE; v++)
		assert_int_equal(control_needs((enum control_verb)v), CONTROL_GROUP);
}

/* Who asks is what the kernel says. */
static void test_identity(void **state)
{
	struct control_client *cl;
	struct control c;
	int fd;

	(void)state;
	assert_int_equal(control_open(&c, path, control_gid("no-such-group")), 0);
	fd = dial();
	cl = control_accept(&c, 1);
	assert_non_null(cl);
	assert_int_equal(cl->uid, geteuid());
	assert_int_equal(cl->pid, getpid());
	assert_int_equal(cl->right, CONTROL_ROOT);
	assert_int_equal(c.gid, (gid_t)-1);
	close(fd);
	control_close(&c);
}

/* One that this process may not give it to: then the socket is for root alone, which it says. */
static void test_foreign_group(void **state)
{
	gid_t foreign = 1;
	struct control c;
	struct stat st;

	(void)state;
	while (foreign == getegid() || group_member(foreign))
		foreign++;
	assert_int_equal(capng_get_caps_process(), 0);
	capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, CAP_CHOWN);
	assert_int_equal(capng_apply(CAPNG_SELECT_CAPS), 0);
	assert_int_equal(control_open(&c, path, foreign), 1);
	assert_int_equal(c.gid, NO_GROUP);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_gid, getegid());
	control_close(&c);
	assert_int_equal(control_open(&c, path, getegid()), 0);
	assert_int_equal(c.gid, getegid());
	control_close(&c);
	if (capng_have_capability(CAPNG_PERMITTED, CAP_CHOWN))
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, CAP_CHOWN);
	assert_int_equal(capng_apply(CAPNG_SELECT_CAPS), 0);
}

/* Attempts are as rare as connections: the loop must not turn on one that it cannot take. */
static void test_no_descriptor_left(void **state)
{
	struct rlimit before, none;
	struct control c;
	int fd;

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	fd = dial();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(control_throttle(&c, NSEC_PER_SEC), 0);
	for (int i = 0; i < CONTROL_BURST; i++)
		assert_null(control_accept(&c, NSEC_PER_SEC));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(control_throttle(&c, NSEC_PER_SEC) > 0);
	/* It is still there, and taken as soon as that is possible. */
	assert_int_equal(control_throttle(&c, 2 * NSEC_PER_SEC), 0);
	assert_non_null(control_accept(&c, 2 * NSEC_PER_SEC));
	close(fd);
	control_close(&c);
}

/* An event that was there before its client was dropped is of nobody any more. */
static void test_dropped_client(void **state)
{
	int peer;
	struct control_client c = client_of(&peer);

	(void)state;
	control_answer(&c, "ok\n");
	assert_int_equal(control_read(&c), 0);
	close(peer);
}

static void test_throttle(void **state)
{
	const uint64_t each = NSEC_PER_SEC / CONTROL_PER_S;
	uint64_t now = 1000 * NSEC_PER_SEC;
	struct control c;
	int fd;

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	for (int i = 0; i < CONTROL_BURST; i++) {
		assert_int_equal(control_throttle(&c, now), 0);
		fd = dial();
		assert_non_null(control_accept(&c, now));
		close(fd);
	}
	/* One more every 20 ms, and no more than a burst after any time. */
	assert_int_equal(control_throttle(&c, now), each);
	assert_int_equal(control_throttle(&c, now + each - 1), 1);
	assert_int_equal(control_throttle(&c, now + each), 0);
	assert_int_equal(c.tokens, 1);
	assert_int_equal(control_throttle(&c, now + 3600 * NSEC_PER_SEC), 0);
	assert_int_equal(c.tokens, CONTROL_BURST);
	control_close(&c);
}

static void test_expire(void **state)
{
	struct control_client *idle, *waits, *fresh;
	struct control c;
	int fd[3];

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	for (int i = 0; i < 3; i++)
		fd[i] = dial();
	idle = control_accept(&c, NSEC_PER_SEC);
	waits = control_accept(&c, NSEC_PER_SEC);
	waits->waiting = true;
	fresh = control_accept(&c, NSEC_PER_SEC + 1);
	control_expire(&c, CONTROL_IDLE_NS + NSEC_PER_SEC);
	assert_int_equal(idle->fd, -1);
	assert_int_equal(recv(fd[0], &(char){ 0 }, 1, 0), 0);
	assert_true(waits->fd >= 0);
	assert_true(fresh->fd >= 0);
	assert_int_equal(c.dropped, 1);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	control_close(&c);
}

/* Some slots are left for questions, however many wait for bundles. */
static void test_may_wait(void **state)
{
	struct control c;
	int fd[CONTROL_WAITING];

	(void)state;
	assert_int_equal(control_open(&c, path, NO_GROUP), 0);
	for (int i = 0; i < CONTROL_WAITING; i++) {
		assert_true(control_may_wait(&c));
		fd[i] = dial();
		control_accept(&c, 1)->waiting = true;
	}
	assert_false(control_may_wait(&c));
	assert_true(CONTROL_WAITING < CONTROL_CLIENTS);
	for (int i = 0; i < CONTROL_WAITING; i++)
		close(fd[i]);
	control_close(&c);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(top))
		return -1;
	snprintf(path, sizeof(path), "%s/control.sock", top);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return rmdir(top); /* nothing may be left in it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_line_in_pieces),
		cmocka_unit_test(test_line_lengths),
		cmocka_unit_test(test_bad_clients),
		cmocka_unit_test(test_waiting_client),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_stale_socket),
		cmocka_unit_test(test_foreign_path),
		cmocka_unit_test(test_busy_agent),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_foreign_group),
		cmocka_unit_test(test_no_descriptor_left),
		cmocka_unit_test(test_dropped_client),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_throttle),
		cmocka_unit_test(test_expire),
		cmocka_unit_test(test_may_wait),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
