// SPDX-License-Identifier: BSD-2-Clause
/* What 'stallbox triggers' says of a trigger whose state is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "recorder/status.h"
#include "triggers/parse.h"

static struct options options;
static struct agent_view view = { .env_now_ns = 1000 * NSEC_PER_SEC, .cooldown_end_ns = 1030 * NSEC_PER_SEC };

static bool says(const char *what)
{
	static char answer[4096];
	struct text t = { answer, 0, sizeof(answer), false };

	status_triggers_text(&view, &options, &t);
	if (strstr(answer, what))
		return true;
	print_message("no '%s' in:\n%s", what, answer);
	return false;
}

static struct trigger *arm(const char *spec)
{
	char error[256];

	assert_int_equal(trigger_parse(spec, &options.trigger[0], error, sizeof(error)), 0);
	options.n_triggers = 1;
	return options.trigger[0];
}

static void test_condition(void **state)
{
	struct trigger *t = arm("system:60%:held-for=3s:hysteresis=10%");
	uint64_t now = view.env_now_ns;
	struct trigger_hit hit;

	(void)state;
	t->threshold = 60;
	t->value = 13;
	assert_false(level_fires(t, false, true, now, now, &hit));
	assert_true(says("now:   13 %, threshold 60; the value is below its threshold\n"));
	t->value = 70;
	assert_false(level_fires(t, true, false, now - NSEC_PER_SEC, now, &hit));
	assert_true(says("now:   70 %, threshold 60; met for 1.0 s of 3.0 s\n"));
	assert_true(level_fires(t, true, false, now, now + 2 * NSEC_PER_SEC, &hit));
	assert_true(says("; has fired, and does not again before the value has fallen 10 % below its threshold\n"));
	trigger_free(t);
}

static void test_met(void **state)
{
	struct trigger *t = arm("system:60%");
	struct trigger_hit hit;

	(void)state;
	t->threshold = 60;
	t->value = 70;
	assert_true(level_fires(t, true, false, view.env_now_ns, view.env_now_ns, &hit));
	assert_true(says("now:   70 %, threshold 60; met\n"));
	trigger_free(t);
}

static void test_blocked(void **state)
{
	static const char *const text[] = {
		[AGENT_RECORDING] = "    met:   would fire\n",
		[AGENT_POST_TRIGGER] = "    met:   would become part of the capture under way\n",
		[AGENT_FREEZING] = "    met:   the recorder's cooldown holds it back for 30 s\n",
		[AGENT_COOLDOWN] = "    met:   the recorder's cooldown holds it back for 30 s\n",
	};
	struct trigger *t = arm("system:60%");

	(void)state;
	for (size_t s = 0; s < SB_ARRAY_SIZE(text); s++) {
		view.state = (enum agent_state)s;
		assert_true(says(text[s]));
	}
	trigger_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_condition),
		cmocka_unit_test(test_met),
		cmocka_unit_test(test_blocked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
