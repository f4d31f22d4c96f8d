// SPDX-License-Identifier: BSD-2-Clause
/* The control socket: whole lines in pieces, clients that do not keep to the rules, paths that
 * are somebody else's. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "recorder/control.h"

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
	assert_int_equal(control_open(&c, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(control_open(&d, path), -EADDRINUSE);
	assert_int_equal(d.fd, -1);
	control_close(&c);
	assert_int_equal(stat(path, &st), -1);
	control_close(&c);
	memset(too_long, 'x', sizeof(too_long) - 1);
	assert_int_equal(control_open(&c, too_long), -ENAMETOOLONG);
	assert_int_equal(control_open(&c, "/nonexistent/control.sock"), -ENOENT);
	control_close(&c);
}

/* Left by an agent that was killed: taken over. */
static void test_stale_socket(void **state)
{
	struct control c, d;

	(void)state;
	assert_int_equal(control_open(&c, path), 0);
	close(c.fd); /* and the name stays */
	assert_int_equal(control_open(&d, path), 0);
	control_close(&d);
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
	assert_int_equal(control_open(&c, path), -EEXIST);
	control_close(&c);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(control_open(&c, top), -EEXIST); /* a directory */
	control_close(&c);
}

/* An agent that does not come to accept is one that answers: its queue is full. */
static void test_busy_agent(void **state)
{
	struct control c, d;
	int fd[64], n = 0;

	(void)state;
	assert_int_equal(control_open(&c, path), 0);
	while (n < 64 && (fd[n] = dial()) >= 0)
		n++;
	assert_true(n > 0 && n < 64);
	assert_int_equal(fd[n], -EAGAIN);
	assert_int_equal(control_open(&d, path), -EADDRINUSE);
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
	assert_int_equal(control_open(&c, path), 0);
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
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
