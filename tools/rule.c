// SPDX-License-Identifier: BSD-2-Clause
#include "tools/rule.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
	const char *file, *text;
} builtin[] = {
#include "tools/rules.inc"
};

/* Nothing is certain: what the data cannot show may be the cause. */
#define MOST_CONFIDENT 95
#define DOUBT_POINTS 15

static int fail(struct rule_error *err, const char *file, unsigned int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int fail(struct rule_error *err, const char *file, unsigned int line, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(err->what, sizeof(err->what), "%s:%u: ", file, line);

	va_start(ap, fmt);
	if (n > 0 && (size_t)n < sizeof(err->what))
		vsnprintf(err->what + n, sizeof(err->what) - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- conditions: TERM and TERM ... or ...; TERM: FACT OP NUMBER, FACT OP [NUMBER*]FACT ------------- */

static const char *skip(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

static bool is_key(char c)
{
	return islower((unsigned char)c) || isdigit((unsigned char)c) || c == '.' || c == '_';
}

/* A key at *s; false: none, or too long. */
static bool take_key(const char **s, char ret[64])
{
	const char *p = skip(*s);
	size_t n = 0;

	while (is_key(p[n]))
		n++;
	if (!n || n > 63 || !islower((unsigned char)*p))
		return false;
	memcpy(ret, p, n);
	ret[n] = '\0';
	*s = p + n;
	return true;
}

static bool take_operator(const char **s, char ret[3])
{
	static const char *const ops[] = { ">=", "<=", "==", "!=", ">", "<" };
	const char *p = skip(*s);

	for (size_t i = 0; i < SB_ARRAY_SIZE(ops); i++) {
		if (!strncmp(p, ops[i], strlen(ops[i]))) {
			strcpy(ret, ops[i]);
			*s = p + strlen(ops[i]);
			return true;
		}
	}
	return false;
}

static bool compare(double a, const char *op, double b)
{
	if (!strcmp(op, ">="))
		return a >= b;
	if (!strcmp(op, "<="))
		return a <= b;
	if (!strcmp(op, "=="))
		return a == b;
	if (!strcmp(op, "!="))
		return a != b;
	return *op == '>' ? a > b : a < b;
}

/* 1 true, 0 false (also what is not known), -EINVAL no term. */
static int term(const char **s, const struct facts *f)
{
	char key[64], other[64], op[3], *end;
	const char *p;
	const struct fact *a, *b = NULL;
	double factor;

	if (!take_key(s, key) || !take_operator(s, op))
		return -EINVAL;
	p = skip(*s);
	factor = strtod(p, &end);
	if (end == p) {
		factor = 1;
		if (!take_key(s, other))
			return -EINVAL;
	} else {
		*s = end;
		if (*skip(end) != '*') {
			a = f ? facts_get(f, key) : NULL;
			return a && compare(a->value, op, factor);
		}
		*s = skip(end) + 1;
		if (!take_key(s, other))
			return -EINVAL;
	}
	a = f ? facts_get(f, key) : NULL;
	b = f ? facts_get(f, other) : NULL;
	return a && b && compare(a->value, op, factor * b->value);
}

static bool take_word(const char **s, const char *word)
{
	const char *p = skip(*s);
	size_t n = strlen(word);

	if (strncmp(p, word, n) || (p[n] != ' ' && p[n] != '\t'))
		return false;
	*s = p + n;
	return true;
}

/* f NULL: only whether it can be read. */
static int evaluate(const char *s, const struct facts *f)
{
	int any = 0;

	do {
		int all = 1;

		do {
			int r = term(&s, f);

			if (r < 0)
				return r;
			all &= r;
		} while (take_word(&s, "and"));
		any |= all;
	} while (take_word(&s, "or"));
	return *skip(s) ? -EINVAL : any;
}

/* ---- files ------------------------------------------------------------------------------------------- */

static char *trimmed(const char *s, size_t n)
{
	while (n && isspace((unsigned char)*s)) {
		s++;
		n--;
	}
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	return strndup(s, n);
}

static void line_done(struct rule_line *l)
{
	free(l->condition);
	free(l->text);
	free(l->command);
}

static void rule_done(struct rule *r)
{
	for (size_t i = 0; i < r->n; i++)
		line_done(&r->line[i]);
	free(r->line);
	free(r->name);
	free(r->title);
	free(r->file);
	*r = (struct rule){};
}

static struct rule_line *add_line(struct rule *r, enum rule_verb verb, unsigned int number)
{
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 16;
		void *bigger = realloc(r->line, cap * sizeof(*r->line));

		if (!bigger)
			return NULL;
		r->line = bigger;
		r->cap = cap;
	}
	r->line[r->n] = (struct rule_line){ .verb = verb, .number = number };
	return &r->line[r->n++];
}

/* "if COND :: TEXT || COMMAND" in its parts. */
static int parse_text(struct rule_line *l, const char *s, const char *file, struct rule_error *err)
{
	const char *sep = strstr(s, "::"), *command;

	if (take_word(&s, "if")) {
		if (!sep)
			return fail(err, file, l->number, "expected '::' behind the condition");
		l->condition = trimmed(s, (size_t)(sep - s));
		s = sep + 2;
	}
	command = strstr(s, "||");
	l->text = trimmed(s, command ? (size_t)(command - s) : strlen(s));
	l->command = command ? trimmed(command + 2, strlen(command + 2)) : NULL;
	if (!*l->text)
		return fail(err, file, l->number, "a line without a text");
	return 0;
}

static int parse_add(struct rule_line *l, const char *s, const char *file, struct rule_error *err)
{
	char *end;
	long points = strtol(s, &end, 10);

	s = end;
	if (!points || points < -100 || points > 100 || !take_word(&s, "if"))
		return fail(err, file, l->number, "expected 'add POINTS if CONDITION', POINTS of 100");
	l->points = (int)points;
	l->condition = trimmed(s, strlen(s));
	return 0;
}

static int parse_needs(struct rule_line *l, const char *s, const char *file, struct rule_error *err)
{
	const char *text = strstr(s, "||");

	if (!text)
		return fail(err, file, l->number, "expected 'needs FACT || what that is'");
	l->condition = trimmed(s, (size_t)(text - s));
	l->text = trimmed(text + 2, strlen(text + 2));
	return 0;
}

static int parse_body(struct rule *r, enum rule_verb verb, const char *s, unsigned int number, struct rule_error *err)
{
	struct rule_line *l = add_line(r, verb, number);
	int e = 0;

	if (!l)
		return fail(err, r->file, number, "no memory");
	if (verb == RULE_NEEDS)
		return parse_needs(l, s, r->file, err);
	if (verb == RULE_WHEN)
		l->condition = trimmed(s, strlen(s));
	else if (verb == RULE_ADD)
		e = parse_add(l, s, r->file, err);
	else
		e = parse_text(l, s, r->file, err);
	if (e < 0)
		return e;
	if (l->condition && evaluate(l->condition, NULL) < 0)
		return fail(err, r->file, number, "no condition: '%s', expected FACT OPERATOR NUMBER [and ... or ...]", l->condition);
	if (verb == RULE_EVIDENCE && !l->command)
		return fail(err, r->file, number, "evidence without '|| COMMAND' that shows it");
	if (verb == RULE_DOUBT && !l->condition)
		return fail(err, r->file, number, "a doubt without a condition");
	return 0;
}

static int parse_line(struct rule *r, const char *s, unsigned int number, struct rule_error *err)
{
	static const struct {
		const char *word;
		enum rule_verb verb;
	} verbs[] = { { "needs", RULE_NEEDS }, { "when", RULE_WHEN }, { "add", RULE_ADD }, { "say", RULE_SAY },
		      { "evidence", RULE_EVIDENCE }, { "doubt", RULE_DOUBT } };

	if (!strcmp(s, "fallback")) {
		r->fallback = true;
		return 0;
	}
	if (take_word(&s, "rule") && !r->name) {
		r->name = trimmed(s, strlen(s));
		return 0;
	}
	if (take_word(&s, "title") && !r->title) {
		r->title = trimmed(s, strlen(s));
		return 0;
	}
	if (take_word(&s, "base")) {
		r->base = atoi(s);
		return r->base > 0 && r->base <= 100 ? 0 : fail(err, r->file, number, "base: expected 1 to 100");
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(verbs); i++) {
		if (take_word(&s, verbs[i].word))
			return parse_body(r, verbs[i].verb, skip(s), number, err);
	}
	return fail(err, r->file, number, "unknown line '%.60s', expected rule, title, base, fallback, needs, when, add, say, evidence "
		    "or doubt", s);
}

static int keep(struct rules *list, struct rule *r)
{
	for (size_t i = 0; i < list->n; i++) {
		if (!strcmp(list->list[i].name, r->name)) {
			rule_done(&list->list[i]);
			list->list[i] = *r;
			return 0;
		}
	}
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 16;
		void *bigger = realloc(list->list, cap * sizeof(*list->list));

		if (!bigger)
			return -ENOMEM;
		list->list = bigger;
		list->cap = cap;
	}
	list->list[list->n++] = *r;
	return 0;
}

int rules_add(struct rules *list, const char *file, const char *text, struct rule_error *err)
{
	struct rule r = { .base = 50, .file = strdup(file) };
	unsigned int number = 0;
	int e = r.file ? 0 : -ENOMEM;

	while (*text && e == 0) {
		size_t n = strcspn(text, "\n");
		char *line = trimmed(text, n);

		number++;
		e = !line ? -ENOMEM : *line && *line != '#' ? parse_line(&r, line, number, err) : 0;
		free(line);
		text += n + (text[n] == '\n');
	}
	if (e == 0 && (!r.name || !r.title || !*r.name))
		e = fail(err, file, number, "a rule needs 'rule NAME' and 'title TEXT'");
	if (e == 0)
		e = keep(list, &r);
	if (e < 0)
		rule_done(&r);
	return e;
}

int rules_builtin(struct rules *list, struct rule_error *err)
{
	int e = 0;

	for (size_t i = 0; i < SB_ARRAY_SIZE(builtin) && e == 0; i++)
		e = rules_add(list, builtin[i].file, builtin[i].text, err);
	return e;
}

static int only_rules(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && !strcmp(d->d_name + n - 5, ".rule");
}

static int read_one(struct rules *list, const char *path, struct rule_error *err)
{
	char text[65536];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return fail(err, path, 0, "%s", strerror(errno));
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	if (n == sizeof(text) - 1)
		return fail(err, path, 0, "longer than 64 KiB");
	text[n] = '\0';
	return rules_add(list, path, text, err);
}

int rules_read(struct rules *list, const char *dir, struct rule_error *err)
{
	struct dirent **entry;
	int n = scandir(dir, &entry, only_rules, alphasort), e = 0;
	char path[4096];

	if (n < 0) {
		snprintf(err->what, sizeof(err->what), "%s: %s", dir, strerror(errno));
		return -errno;
	}
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry[i]->d_name);
		if (e == 0)
			e = read_one(list, path, err);
		free(entry[i]);
	}
	free(entry);
	if (n == 0) {
		snprintf(err->what, sizeof(err->what), "%s: no *.rule in it", dir);
		return -ENOENT;
	}
	return e;
}

void rules_done(struct rules *list)
{
	for (size_t i = 0; i < list->n; i++)
		rule_done(&list->list[i]);
	free(list->list);
	*list = (struct rules){};
}

/* ---- judging --------------------------------------------------------------------------------------------- */

bool rule_holds(const struct rule_line *l, const struct facts *f)
{
	return !l->condition || evaluate(l->condition, f) > 0;
}

enum rule_result rule_judge(const struct rule *r, const struct facts *f, int *ret_confidence, const char **ret_missing)
{
	int points = r->base, doubts = 0;

	for (size_t i = 0; i < r->n; i++) {
		if (r->line[i].verb == RULE_NEEDS && !facts_get(f, r->line[i].condition)) {
			*ret_missing = r->line[i].text;
			return RULE_UNJUDGED;
		}
	}
	for (size_t i = 0; i < r->n; i++) {
		const struct rule_line *l = &r->line[i];

		if (l->verb == RULE_WHEN && !rule_holds(l, f))
			return RULE_NO;
		if (l->verb == RULE_ADD && rule_holds(l, f))
			points += l->points;
		if (l->verb == RULE_DOUBT && rule_holds(l, f))
			doubts += DOUBT_POINTS;
	}
	/* However much speaks for it, a doubt stays one. */
	points = SB_MIN(points, MOST_CONFIDENT) - doubts;
	*ret_confidence = points;
	return points > 0 ? RULE_YES : RULE_NO;
}

static void put(char *ret, size_t len, size_t *at, const char *s, size_t n)
{
	n = SB_MIN(n, len - 1 - *at);
	memcpy(ret + *at, s, n);
	*at += n;
	ret[*at] = '\0';
}

static void put_quoted(char *ret, size_t len, size_t *at, const char *s)
{
	put(ret, len, at, "'", 1);
	for (; *s; s++)
		put(ret, len, at, *s == '\'' ? "'\\''" : s, *s == '\'' ? 4 : 1);
	put(ret, len, at, "'", 1);
}

static bool plain_path(const char *s)
{
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("/._-+:@,", *s))
			return false;
	}
	return true;
}

void rule_text(const char *text, const struct facts *f, const char *bundle, char *ret, size_t len)
{
	char value[512];
	size_t at = 0;

	ret[0] = '\0';
	while (*text) {
		const char *open = strchr(text, '{'), *end = open ? strchr(open, '}') : NULL;
		const struct fact *x;
		char key[64];
		bool quoted;
		size_t n;

		if (!end) {
			put(ret, len, &at, text, strlen(text));
			return;
		}
		put(ret, len, &at, text, (size_t)(open - text));
		n = SB_MIN((size_t)(end - open - 1), sizeof(key) - 1);
		memcpy(key, open + 1, n);
		key[n] = '\0';
		quoted = n > 2 && !strcmp(key + n - 2, ":q");
		if (quoted)
			key[n - 2] = '\0';
		text = end + 1;
		if (!strcmp(key, "bundle")) {
			if (plain_path(bundle))
				put(ret, len, &at, bundle, strlen(bundle));
			else
				put_quoted(ret, len, &at, bundle);
			continue;
		}
		x = facts_get(f, key);
		if (x)
			fact_print(x, value, sizeof(value));
		else
			strcpy(value, "?");
		if (quoted)
			put_quoted(ret, len, &at, value);
		else
			put(ret, len, &at, value, strlen(value));
	}
}
