// SPDX-License-Identifier: BSD-2-Clause
/* Questions to the agent: what comes back of every kind of answer, and that none holds up who asks. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cmocka.h>

#include "format/ask_agent.h"
#include "tests/unit/scratch.h"

#define LONG_MS 60000

static char socket_path[108];
static int listener = -1;
static int alarms; /* of the asking thread; the other one waits for them */

/* ---- an agent ----------------------------------------------------------------------- */

struct agent {
	const char *says;
	bool drips; /* a byte at a time, until nobody listens any more */
	int after_alarms;
	pthread_t thread;
	char heard[ASK_AGENT_LINE];
};

static void *be_agent(void *arg)
{
	struct agent *a = arg;
	int fd = accept(listener, NULL, NULL);
	ssize_t n = recv(fd, a->heard, sizeof(a->heard) - 1, 0);

	a->heard[n > 0 ? n : 0] = '\0';
	while (__atomic_load_n(&alarms, __ATOMIC_RELAXED) < a->after_alarms)
		usleep(1000);
	if (a->says)
		send(fd, a->says, strlen(a->says), MSG_NOSIGNAL);
	for (int i = 0; a->drips && i < 5000 && send(fd, "x", 1, MSG_NOSIGNAL) == 1; i++)
		usleep(1000);
	if (a->drips)
		send(fd, "\n", 1, MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

static int ask(struct agent *a, int timeout_ms, char **ret)
{
	sigset_t set, before;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	assert_int_equal(pthread_create(&a->thread, NULL, be_agent, a), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	r = ask_agent(socket_path, "status", timeout_ms, ret);
	pthread_join(a->thread, NULL);
	assert_string_equal(a->heard, "status\n");
	return r;
}

static int listen_there(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (set_up(state) < 0)
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s", at("sock"));
	strcpy(addr.sun_path, socket_path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listener, 4) < 0 ? -1 : 0;
}

/* ---- tests -------------------------------------------------------------------------- */

static void test_answers(void **state)
{
	static const struct {
		const char *says;
		int r;
		const char *ret;
	} cases[] = {
		{ "ok\n", 0, "" },
		{ "ok\na=1\nb=2\n", 0, "a=1\nb=2\n" },
		{ "error 1 not now\nmore\n", 1, "error 1 not now" },
		{ "hello\n", 1, "hello" },
		{ "ok\na=1", -EBADMSG, NULL },
		{ "ok", -EBADMSG, NULL },
		{ NULL, -ENODATA, NULL },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		struct agent a = { .says = cases[i].says };
		_cleanup_free_ char *text = NULL;

		assert_int_equal(ask(&a, LONG_MS, &text), cases[i].r);
		if (cases[i].ret)
			assert_string_equal(text, cases[i].ret);
		else
			assert_null(text);
	}
}

static void test_long_answer(void **state)
{
	static char says[ASK_AGENT_MAX + 1];
	struct agent a = { .says = says };
	char *text = NULL;

	(void)state;
	memset(says, 'x', ASK_AGENT_MAX);
	memcpy(says, "ok\n", 3);
	says[ASK_AGENT_MAX - 3] = '\n';
	says[ASK_AGENT_MAX - 2] = '\0';
	assert_int_equal(ask(&a, LONG_MS, &text), 0);
	assert_string_equal(text, says + 3);
	free(text);
	text = NULL;
	says[ASK_AGENT_MAX - 2] = 'x';
	says[ASK_AGENT_MAX - 1] = '\n'; /* and the end */
	assert_int_equal(ask(&a, LONG_MS, &text), -EMSGSIZE);
	assert_null(text);
}

/* Each byte comes in time, the whole does not. */
static void test_drips(void **state)
{
	struct agent a = { .says = "ok\n", .drips = true };
	char *text = NULL;

	(void)state;
	assert_int_equal(ask(&a, 200, &text), -ETIMEDOUT);
	assert_null(text);
}

static void count_alarm(int sig)
{
	(void)sig;
	__atomic_fetch_add(&alarms, 1, __ATOMIC_RELAXED);
}

static void test_signals(void **state)
{
	struct itimerval every = { { 0, 2000 }, { 0, 2000 } };
	struct sigaction act = { .sa_handler = count_alarm }; /* no SA_RESTART */
	struct agent a = { .says = "ok\na=1\n", .after_alarms = 5 };
	_cleanup_free_ char *text = NULL;

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
	alarms = 0;
	setitimer(ITIMER_REAL, &every, NULL);
	assert_int_equal(ask(&a, LONG_MS, &text), 0);
	every = (struct itimerval){};
	setitimer(ITIMER_REAL, &every, NULL);
	assert_string_equal(text, "a=1\n");
}

static void test_nobody(void **state)
{
	char path[200], *text = NULL;

	(void)state;
	assert_int_equal(ask_agent(at("none"), "status", LONG_MS, &text), -ENOENT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(ask_agent(path, "status", LONG_MS, &text), -ENAMETOOLONG);
	close(listener);
	assert_int_equal(ask_agent(socket_path, "status", LONG_MS, &text), -ECONNREFUSED);
	assert_null(text);
}

static void test_values(void **state)
{
	static const char answer[] = "path=/a b\npath2=\nb=x=y\nlong=0123456789\n";
	char value[8];

	(void)state;
	ask_agent_value(answer, "path", value, sizeof(value));
	assert_string_equal(value, "/a b");
	ask_agent_value(answer, "path2", value, sizeof(value));
	assert_string_equal(value, "");
	ask_agent_value(answer, "b", value, sizeof(value));
	assert_string_equal(value, "x=y");
	ask_agent_value(answer, "long", value, sizeof(value));
	assert_string_equal(value, "0123456");
	ask_agent_value(answer, "a b", value, sizeof(value));
	assert_string_equal(value, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers), cmocka_unit_test(test_long_answer), cmocka_unit_test(test_drips),
		cmocka_unit_test(test_signals), cmocka_unit_test(test_nobody),	    cmocka_unit_test(test_values),
	};

	return cmocka_run_group_tests(tests, listen_there, tear_down);
}
