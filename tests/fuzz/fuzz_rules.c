// SPDX-License-Identifier: BSD-2-Clause
/* Anything at all as rules of the verdict (tools/rules/README), judged and told by facts of every form. */
#include "tests/fuzz/target.h"
#include "tools/rule.h"

static void tell(const struct rule *r, const struct facts *f)
{
	const char *missing = NULL;
	int confidence = 0;
	char said[300];

	switch (rule_judge(r, f, &confidence, &missing)) {
	case RULE_YES:
		must(confidence >= 1 && confidence <= 95, "nobody is surer than sure");
		break;
	case RULE_UNJUDGED:
		must(missing != NULL, "what is missing has words");
		break;
	case RULE_NO:
		break;
	}
	for (size_t i = 0; i < r->n; i++) {
		if (r->line[i].condition && r->line[i].verb != RULE_NEEDS)
			rule_holds(&r->line[i], f);
		if (r->line[i].text)
			rule_text(r->line[i].text, f, "a 'bundle'", said, sizeof(said));
		if (r->line[i].command)
			rule_text(r->line[i].command, f, "/a/bundle", said, sizeof(said));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct facts none = {}, some = {};
	struct rule_error err = {};
	struct rules rules = {};
	char *text;

	if (size > 65536)
		return 0;
	text = text_of(data, size);
	facts_set(&some, "a.n", FACT_COUNT, 1e300);
	facts_set(&some, "a.s", FACT_SECONDS, 0.25);
	facts_set(&some, "a.b", FACT_BYTES, 1e19);
	facts_set(&some, "a.p", FACT_PERCENT, 97.13);
	facts_text(&some, "a.t", "{a.t} 'quoted'\n");
	if (rules_add(&rules, "fuzz.rule", text, &err) < 0)
		must(err.what[0] != '\0', "what is refused has words");
	for (size_t i = 0; i < rules.n; i++) {
		tell(&rules.list[i], &none);
		tell(&rules.list[i], &some);
	}
	rules_done(&rules);
	facts_done(&some);
	free(text);
	return 0;
}
