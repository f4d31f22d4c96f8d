/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules of the verdict: one text file each (tools/rules/README says how they are written), judged by
 * facts. The known ones are part of the program.
 */
#ifndef SB_TOOLS_RULE_H
#define SB_TOOLS_RULE_H

#include "tools/facts.h"

enum rule_verb { RULE_NEEDS, RULE_WHEN, RULE_ADD, RULE_SAY, RULE_EVIDENCE, RULE_DOUBT };

struct rule_line {
	enum rule_verb verb;
	int points;	       /* RULE_ADD */
	char *condition;       /* NULL: always */
	char *text, *command;  /* may be NULL */
	unsigned int number;   /* in the file */
};

struct rule {
	char *name, *title, *file;
	int base;
	bool fallback; /* speaks only where no other rule does */
	struct rule_line *line;
	size_t n, cap;
};

struct rules {
	struct rule *list;
	size_t n, cap;
};

struct rule_error {
	char what[256]; /* "file:3: ..." */
};

/* Those that come with the program. 0 or a negative errno (*err filled). */
int rules_builtin(struct rules *r, struct rule_error *err);
/* Every *.rule of a directory, in the order of their names; one of a known name takes its place. */
int rules_read(struct rules *r, const char *dir, struct rule_error *err);
/* One file's text. */
int rules_add(struct rules *r, const char *file, const char *text, struct rule_error *err);
void rules_done(struct rules *r);

enum rule_result { RULE_NO, RULE_YES, RULE_UNJUDGED };
/* *ret_confidence 1 to 95 with RULE_YES; *ret_missing the text of what is needed and not known with RULE_UNJUDGED. */
enum rule_result rule_judge(const struct rule *r, const struct facts *f, int *ret_confidence, const char **ret_missing);
/* Whether the line is to be said. */
bool rule_holds(const struct rule_line *l, const struct facts *f);
/* The text with its {facts}; {fact:q} quoted for a shell, {bundle} the quoted path. Not escaped. */
void rule_text(const char *text, const struct facts *f, const char *bundle, char *ret, size_t len);

#endif
