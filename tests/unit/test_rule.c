// SPDX-License-Identifier: BSD-2-Clause
/* Rules: conditions, confidence, texts with facts in them, and what is refused with its line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tools/rule.h"

static struct facts some_facts(void)
{
	struct facts f = {};

	facts_set(&f, "a.ten", FACT_COUNT, 10);
	facts_set(&f, "a.three", FACT_COUNT, 3);
	facts_set(&f, "a.zero", FACT_COUNT, 0);
	facts_set(&f, "a.share", FACT_PERCENT, 0.0385);
	facts_set(&f, "a.time", FACT_SECONDS, 0.5);
	facts_set(&f, "a.bytes", FACT_BYTES, 4294967296.0);
	facts_text(&f, "a.name", "it's {a.ten}");
	facts_text(&f, "a.empty", "");
	return f;
}

/* Whether a rule with this 'when' speaks; -1: refused. */
static int speaks(const char *condition)
{
	struct facts f = some_facts();
	struct rules rules = {};
	struct rule_error err;
	const char *missing;
	char text[256];
	int r, confidence;

	snprintf(text, sizeof(text), "rule x\ntitle y\nwhen %s\n", condition);
	r = rules_add(&rules, "test", text, &err);
	if (r == 0)
		r = rule_judge(&rules.list[0], &f, &confidence, &missing) == RULE_YES;
	else
		r = -1;
	rules_done(&rules);
	facts_done(&f);
	return r;
}

static void test_conditions(void **state)
{
	(void)state;
	assert_int_equal(speaks("a.ten == 10"), 1);
	assert_int_equal(speaks("a.ten != 10"), 0);
	assert_int_equal(speaks("a.ten > 9.5"), 1);
	assert_int_equal(speaks("a.ten>=10"), 1);
	assert_int_equal(speaks("a.ten < 10"), 0);
	assert_int_equal(speaks("a.ten <= 10"), 1);
	assert_int_equal(speaks("a.ten > a.three"), 1);
	assert_int_equal(speaks("a.ten > 3*a.three"), 1);
	assert_int_equal(speaks("a.ten > 4 * a.three"), 0);
	assert_int_equal(speaks("a.ten > 3 and a.three > 3"), 0);
	assert_int_equal(speaks("a.ten > 30 or a.three == 3"), 1);
	assert_int_equal(speaks("a.ten > 30 and a.three == 3 or a.zero == 0"), 1);
	assert_int_equal(speaks("a.zero == 0 or a.ten > 30 and a.three == 4"), 1);
	assert_int_equal(speaks("a.name != 0"), 1);
	assert_int_equal(speaks("a.empty != 0"), 0);
}

/* What is not known is neither true nor false: no comparison with it holds. */
static void test_unknown(void **state)
{
	(void)state;
	assert_int_equal(speaks("no.fact == 0"), 0);
	assert_int_equal(speaks("no.fact != 0"), 0);
	assert_int_equal(speaks("no.fact < 5"), 0);
	assert_int_equal(speaks("a.ten > no.fact"), 0);
	assert_int_equal(speaks("no.fact < 5 or a.ten == 10"), 1);
}

static void test_refused_conditions(void **state)
{
	static const char *const bad[] = { "", "a.ten", "a.ten >", "a.ten = 3", "> 3", "a.ten > 3 and", "a.ten > 3 a.three > 2",
					   "a.ten > 3 * ", "A.TEN > 3", "a.ten > 3 or or a.ten > 2", "a.ten ~ 3", "3 < a.ten" };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(bad); i++)
		assert_int_equal(speaks(bad[i]), -1);
}

static enum rule_result judge(const char *text, int *ret)
{
	struct facts f = some_facts();
	struct rules rules = {};
	struct rule_error err;
	const char *missing = NULL;
	enum rule_result r;

	assert_int_equal(rules_add(&rules, "test", text, &err), 0);
	*ret = 0;
	r = rule_judge(&rules.list[0], &f, ret, &missing);
	if (r == RULE_UNJUDGED)
		assert_string_equal(missing, "that thing");
	rules_done(&rules);
	facts_done(&f);
	return r;
}

static void test_confidence(void **state)
{
	int c;

	(void)state;
	assert_int_equal(judge("rule x\ntitle y\n", &c), RULE_YES);
	assert_int_equal(c, 50);
	assert_int_equal(judge("rule x\ntitle y\nbase 40\nadd 15 if a.ten == 10\nadd 7 if a.ten == 9\n", &c), RULE_YES);
	assert_int_equal(c, 55);
	assert_int_equal(judge("rule x\ntitle y\nbase 90\nadd 50 if a.ten == 10\n", &c), RULE_YES);
	assert_int_equal(c, 95);
	assert_int_equal(judge("rule x\ntitle y\nbase 90\nadd 50 if a.ten == 10\ndoubt if a.three == 3 :: z\n", &c), RULE_YES);
	assert_int_equal(c, 80);
	assert_int_equal(judge("rule x\ntitle y\nbase 15\ndoubt if a.three == 3 :: z\n", &c), RULE_NO);
	assert_int_equal(judge("rule x\ntitle y\nadd -60 if a.ten == 10\n", &c), RULE_NO);
	assert_int_equal(judge("rule x\ntitle y\nneeds a.ten || this thing\nneeds no.fact || that thing\nwhen a.ten == 9\n", &c),
			 RULE_UNJUDGED);
}

static void refused(const char *text, const char *want)
{
	struct rules rules = {};
	struct rule_error err = {};

	assert_int_equal(rules_add(&rules, "f.rule", text, &err), -EINVAL);
	assert_non_null(strstr(err.what, want));
	assert_int_equal(rules.n, 0);
	rules_done(&rules);
}

static void test_refused_files(void **state)
{
	(void)state;
	refused("", "f.rule:0: a rule needs");
	refused("rule x\n", "a rule needs");
	refused("title x\n", "a rule needs");
	refused("rule x\ntitle y\nfoo bar\n", "f.rule:3: unknown line 'foo bar'");
	refused("rule x\ntitle y\nbase 0\n", "f.rule:3: base");
	refused("rule x\ntitle y\nbase 101\n", "f.rule:3: base");
	refused("rule x\ntitle y\n\n# c\nadd x if a.b > 1\n", "f.rule:5: expected 'add POINTS");
	refused("rule x\ntitle y\nadd 101 if a.b > 1\n", "f.rule:3: expected 'add POINTS");
	refused("rule x\ntitle y\nadd -101 if a.b > 1\n", "f.rule:3: expected 'add POINTS");
	refused("rule x\ntitle y\nevidence seen\n", "f.rule:3: evidence without");
	refused("rule x\ntitle y\ndoubt it\n", "f.rule:3: a doubt without");
	refused("rule x\ntitle y\nsay if a.b > 1 text\n", "f.rule:3: expected '::'");
	refused("rule x\ntitle y\nneeds a.b\n", "f.rule:3: expected 'needs");
	refused("rule x\ntitle y\nsay if a.b :: text\n", "f.rule:3: no condition");
	refused("rule x\ntitle y\nrule z\n", "f.rule:3: unknown line");
}

static const char *text_of(const char *template, const char *bundle)
{
	static char text[256];
	struct facts f = some_facts();

	rule_text(template, &f, bundle, text, sizeof(text));
	facts_done(&f);
	return text;
}

static void test_text(void **state)
{
	char small[8];
	struct facts f = some_facts();

	(void)state;
	assert_string_equal(text_of("{a.ten} of {a.three}", ""), "10 of 3");
	assert_string_equal(text_of("{a.share}, {a.time}, {a.bytes}", ""), "0.038 %, 500 ms, 4.0 GiB");
	/* A text that looks like a template stays as it is. */
	assert_string_equal(text_of("<{a.name}>", ""), "<it's {a.ten}>");
	assert_string_equal(text_of("--comm {a.name:q} {bundle}", "/a b/c"), "--comm 'it'\\''s {a.ten}' '/a b/c'");
	assert_string_equal(text_of("{bundle}", "/plain/x.stall.pb.zst"), "/plain/x.stall.pb.zst");
	assert_string_equal(text_of("{bundle}", "$(reboot)"), "'$(reboot)'");
	assert_string_equal(text_of("{no.fact} {", ""), "? {");
	rule_text("{a.bytes} and more", &f, "", small, sizeof(small));
	assert_string_equal(small, "4.0 GiB");
	facts_done(&f);
}

static void test_builtin(void **state)
{
	struct rules rules = {};
	struct rule_error err = {};
	size_t n;

	(void)state;
	assert_int_equal(rules_builtin(&rules, &err), 0);
	n = rules.n;
	assert_true(n >= 10);
	/* Each explains itself with at least one command, and none is certain before it has looked. */
	for (size_t i = 0; i < n; i++) {
		size_t commands = 0;

		for (size_t k = 0; k < rules.list[i].n; k++)
			commands += rules.list[i].line[k].command != NULL;
		assert_true(commands > 0);
		assert_true(rules.list[i].base <= 60);
	}
	/* One of a known name takes its place. */
	assert_int_equal(rules_add(&rules, "own", "rule calm\ntitle mine\n", &err), 0);
	assert_int_equal(rules.n, n);
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(rules.list[i].name, "calm"))
			assert_string_equal(rules.list[i].title, "mine");
	}
	rules_done(&rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conditions), cmocka_unit_test(test_unknown), cmocka_unit_test(test_refused_conditions),
		cmocka_unit_test(test_confidence), cmocka_unit_test(test_refused_files), cmocka_unit_test(test_text),
		cmocka_unit_test(test_builtin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
