// SPDX-License-Identifier: BSD-2-Clause
/* stallbox report: what most likely happened, in sentences, each with the numbers behind it and the
 * command that shows them. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/escape.h"
#include "tools/rule.h"

static const struct opt_command command = {
	"report", "BUNDLE",
	"Say what most likely happened: each cause with its evidence and how sure it is, the surest first;\n"
	"what could not be judged, and what losses could have changed.",
	{ "stallbox report X.stall.pb.zst", "stallbox report --json X.stall.pb.zst | jq '.causes[0].rule'" },
};

/* The incident and what led to it; earlier time is what it is compared with. */
#define DEFAULT_BEFORE_NS (10 * (int64_t)NSEC_PER_SEC)
#define DEFAULT_AFTER_NS (10 * (int64_t)NSEC_PER_SEC)
#define WRAP 100

struct cause {
	const struct rule *rule;
	int confidence;
};

struct report {
	struct facts facts;
	struct rules rules;
	struct filter filter;
	const char *bundle;
	struct cause *cause;
	size_t n;
	struct {
		const struct rule *rule;
		const char *missing;
	} *unjudged;
	size_t n_unjudged;
};

static const char *sure(int confidence)
{
	return confidence >= 85 ? "almost certainly" : confidence >= 70 ? "very likely" : confidence >= 50 ? "likely" : "possibly";
}

/* ---- judging ---------------------------------------------------------------------------------------- */

static int surer(const void *a, const void *b)
{
	const struct cause *x = a, *y = b;

	if (x->confidence != y->confidence)
		return x->confidence > y->confidence ? -1 : 1;
	return strcmp(x->rule->name, y->rule->name);
}

static void judge_all(struct report *r, bool fallback)
{
	for (size_t i = 0; i < r->rules.n; i++) {
		const struct rule *rule = &r->rules.list[i];
		const char *missing;
		int confidence;

		if (rule->fallback != fallback)
			continue;
		switch (rule_judge(rule, &r->facts, &confidence, &missing)) {
		case RULE_YES:
			r->cause[r->n++] = (struct cause){ rule, confidence };
			break;
		case RULE_UNJUDGED:
			r->unjudged[r->n_unjudged].rule = rule;
			r->unjudged[r->n_unjudged++].missing = missing;
			break;
		case RULE_NO:
			break;
		}
	}
	if (r->n)
		qsort(r->cause, r->n, sizeof(*r->cause), surer);
}

static int judge(struct report *r)
{
	r->cause = calloc(r->rules.n + 1, sizeof(*r->cause));
	r->unjudged = calloc(r->rules.n + 1, sizeof(*r->unjudged));
	if (!r->cause || !r->unjudged)
		return -ENOMEM;
	judge_all(r, false);
	/* The first that holds: nothing unusual, or not known. */
	if (!r->n) {
		judge_all(r, true);
		r->n = SB_MIN(r->n, (size_t)1);
	}
	return 0;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Wrapped at words, each line indented. */
static void put_wrapped(const char *text, const char *first, const char *rest)
{
	char *line = NULL, *p;
	size_t column, len = strlen(text) * 4 + 1;

	line = malloc(len);
	if (!line)
		return;
	escape_copy(line, len, ESCAPE_TERMINAL, text);
	fputs(first, stdout);
	column = strlen(first);
	for (p = line; *p;) {
		size_t n = strcspn(p, " ");

		if (p[n] == ' ' && p[n + 1] == '%') /* 25 % is one word */
			n += 1 + strcspn(p + n + 1, " ");
		if (column + n > WRAP && column > strlen(rest)) {
			printf("\n%s", rest);
			column = strlen(rest);
		} else if (p != line) {
			putchar(' ');
			column++;
		}
		fwrite(p, 1, n, stdout);
		column += n;
		p += n;
		p += strspn(p, " ");
	}
	putchar('\n');
	free(line);
}

static void put_line(const struct report *r, const struct rule_line *l)
{
	char text[2048];

	rule_text(l->text, &r->facts, r->bundle, text, sizeof(text));
	put_wrapped(text, l->verb == RULE_EVIDENCE ? "   - " : "   ", l->verb == RULE_EVIDENCE ? "     " : "   ");
	if (l->command) {
		rule_text(l->command, &r->facts, r->bundle, text, sizeof(text));
		printf("       ");
		escape_put(stdout, ESCAPE_TERMINAL, text);
		putchar('\n');
	}
}

static void put_cause(const struct report *r, size_t i)
{
	const struct cause *c = &r->cause[i];
	bool doubts = false;

	printf("\n%zu. ", i + 1);
	escape_put(stdout, ESCAPE_TERMINAL, c->rule->title);
	if (!c->rule->fallback)
		printf(" (%s; %d of 100)", sure(c->confidence), c->confidence);
	putchar('\n');
	for (size_t k = 0; k < c->rule->n; k++) {
		const struct rule_line *l = &c->rule->line[k];

		if ((l->verb == RULE_SAY || l->verb == RULE_EVIDENCE) && rule_holds(l, &r->facts))
			put_line(r, l);
	}
	for (size_t k = 0; k < c->rule->n; k++) {
		const struct rule_line *l = &c->rule->line[k];

		if (l->verb != RULE_DOUBT || !rule_holds(l, &r->facts))
			continue;
		if (!doubts)
			printf("   This could be wrong:\n");
		doubts = true;
		put_line(r, l);
	}
}

/* What is missing for any answer. */
static const struct {
	const char *key, *text;
} gaps[] = {
	{ "loss.records", "{loss.records} records were dropped, since recording began: numbers can be too low" },
	{ "loss.stacks", "{loss.stacks} stacks were lost: what threads were doing is known less often than it could be" },
	{ "loss.gaps", "the agent was not running for a part of that time" },
	{ "loss.damage", "the file is damaged: parts of it could not be read ('stallbox verify' says which)" },
	{ "loss.unfinished", "the file has no end: it is still being written, or its writer was stopped; names may be missing" },
};

static void put_missing(const struct report *r)
{
	bool any = false;
	char text[512];

	for (size_t i = 0; i < r->n_unjudged; i++) {
		snprintf(text, sizeof(text), "%s: the bundle does not tell %s", r->unjudged[i].rule->title, r->unjudged[i].missing);
		if (!i)
			printf("\nNot judged:\n");
		put_wrapped(text, "   - ", "     ");
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(gaps); i++) {
		if (facts_value(&r->facts, gaps[i].key) <= 0)
			continue;
		if (!any)
			printf("\nWhat is missing and could change this answer:\n");
		any = true;
		rule_text(gaps[i].text, &r->facts, r->bundle, text, sizeof(text));
		put_wrapped(text, "   - ", "     ");
	}
}

static void put_text(const struct report *r, struct bundle *b)
{
	const struct bundle_header *h = bundle_header(b);
	char text[512], losses[512];

	snprintf(text, sizeof(text), "Host %s, trigger %s%s%s; looked at %.1f s around it, on %.0f CPUs.", h ? h->hostname : "unknown",
		 h ? h->trigger.name : "unknown", h && h->trigger.detail[0] ? ": " : "", h ? h->trigger.detail : "",
		 facts_value(&r->facts, "window.seconds"), facts_value(&r->facts, "host.cpus"));
	put_wrapped(text, "", "");
	for (size_t i = 0; i < r->n; i++)
		put_cause(r, i);
	put_missing(r);
	losses_line(b, losses, sizeof(losses));
	snprintf(text, sizeof(text), "Losses since recording began: %s.", losses);
	putchar('\n');
	put_wrapped(text, "", "");
}

/* ---- JSON ------------------------------------------------------------------------------------------------ */

static void json_text(const struct report *r, const char *text)
{
	char line[2048];

	rule_text(text, &r->facts, r->bundle, line, sizeof(line));
	putchar('"');
	escape_put(stdout, ESCAPE_JSON, line);
	putchar('"');
}

static void json_lines(const struct report *r, const struct rule *rule, enum rule_verb verb, const char *key)
{
	bool any = false;

	printf(",\"%s\":[", key);
	for (size_t k = 0; k < rule->n; k++) {
		const struct rule_line *l = &rule->line[k];

		if (l->verb != verb || !rule_holds(l, &r->facts))
			continue;
		printf("%s", any ? "," : "");
		any = true;
		if (verb == RULE_EVIDENCE)
			printf("{\"text\":");
		json_text(r, l->text);
		if (verb == RULE_EVIDENCE) {
			printf(",\"command\":");
			json_text(r, l->command);
			putchar('}');
		}
	}
	putchar(']');
}

static void put_json(const struct report *r)
{
	printf("{\"causes\":[");
	for (size_t i = 0; i < r->n; i++) {
		const struct cause *c = &r->cause[i];

		printf("%s{\"rule\":\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, c->rule->name);
		printf("\",\"title\":");
		json_text(r, c->rule->title);
		printf(",\"confidence\":%d,\"fallback\":%s", c->confidence, c->rule->fallback ? "true" : "false");
		json_lines(r, c->rule, RULE_SAY, "text");
		json_lines(r, c->rule, RULE_EVIDENCE, "evidence");
		json_lines(r, c->rule, RULE_DOUBT, "doubts");
		putchar('}');
	}
	printf("],\"unjudged\":[");
	for (size_t i = 0; i < r->n_unjudged; i++) {
		printf("%s{\"rule\":\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, r->unjudged[i].rule->name);
		printf("\",\"missing\":");
		json_text(r, r->unjudged[i].missing);
		putchar('}');
	}
	printf("],\"missing\":[");
	for (size_t i = 0, any = 0; i < SB_ARRAY_SIZE(gaps); i++) {
		if (facts_value(&r->facts, gaps[i].key) <= 0)
			continue;
		printf("%s", any++ ? "," : "");
		json_text(r, gaps[i].text);
	}
	printf("],\"facts\":{");
	for (size_t i = 0; i < r->facts.n; i++) {
		const struct fact *x = &r->facts.list[i];

		printf("%s\"%s\":", i ? "," : "", x->key);
		if (x->form == FACT_TEXT) {
			putchar('"');
			escape_put(stdout, ESCAPE_JSON, x->text ? x->text : "");
			putchar('"');
		} else {
			printf("%.10g", x->value);
		}
	}
	printf("}}\n");
}

static void put_facts(const struct report *r)
{
	char value[512];

	for (size_t i = 0; i < r->facts.n; i++) {
		fact_print(&r->facts.list[i], value, sizeof(value));
		printf("%-32s ", r->facts.list[i].key);
		escape_put(stdout, ESCAPE_TERMINAL, value);
		putchar('\n');
	}
}

/* ---- the command ------------------------------------------------------------------------------------------- */

static void report_done(struct report *r)
{
	facts_done(&r->facts);
	rules_done(&r->rules);
	filter_done(&r->filter);
	free(r->cause);
	free(r->unjudged);
}

int report_json(struct bundle *b, const char *path)
{
	SB_CLEANUP(report_done) struct report rep = { .filter = FILTER_INIT, .bundle = path };
	struct rule_error err = {};
	int r;

	rep.filter.since = (struct opt_offset){ true, -DEFAULT_BEFORE_NS };
	rep.filter.until = (struct opt_offset){ true, DEFAULT_AFTER_NS };
	r = filter_start(&rep.filter, b);
	if (r == 0)
		r = rules_builtin(&rep.rules, &err);
	if (r == 0)
		r = facts_collect(&rep.facts, b, &rep.filter);
	if (r == 0)
		r = judge(&rep);
	if (r == 0)
		put_json(&rep);
	return r;
}

int cmd_report(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(report_done) struct report rep = { .filter = FILTER_INIT };
	struct rule_error err = {};
	const char *dir = NULL;
	bool json = false, facts = false;
	int first, r;
	const struct opt opts[] = {
		{ "since", "TIME", OPT_OFFSET, &rep.filter.since, "from this time on, relative to the trigger (default -10s)" },
		{ "until", "TIME", OPT_OFFSET, &rep.filter.until, "up to this time (default 10s)" },
		{ "facts", NULL, OPT_FLAG, &facts, "print what rules judge by, and no verdict" },
		{ "rules", "DIR", OPT_TEXT, &dir, "rules of your own, beside those that are built in" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object" },
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (!rep.filter.since.set)
		rep.filter.since = (struct opt_offset){ true, -DEFAULT_BEFORE_NS };
	if (!rep.filter.until.set)
		rep.filter.until = (struct opt_offset){ true, SB_MAX(DEFAULT_AFTER_NS, rep.filter.since.ns) };
	r = filter_open(&rep.filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	rep.bundle = argv[first];
	r = rules_builtin(&rep.rules, &err);
	if (r == 0 && dir)
		r = rules_read(&rep.rules, dir, &err);
	if (r < 0) {
		fprintf(stderr, "error: %s\n", err.what[0] ? err.what : strerror(-r));
		return r == -ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
	}
	r = facts_collect(&rep.facts, b, &rep.filter);
	if (r == 0 && !facts)
		r = judge(&rep);
	if (r < 0) {
		fprintf(stderr, "error: cannot judge: %s\n", strerror(-r));
		return SB_EXIT_FAILURE;
	}
	if (facts)
		put_facts(&rep);
	else if (json)
		put_json(&rep);
	else
		put_text(&rep, b);
	return SB_EXIT_OK;
}
