// SPDX-License-Identifier: BSD-2-Clause
/* One file's text: sections, keys, and every error with its line. */
#include <ctype.h>
#include <stdio.h>

#include "config/impl.h"
#include "config/texts.h"
#include "format/utf8.h"

struct parser {
	struct config *c;
	struct config_errors *e;
	const char *name; /* of the file */
	uint16_t file;
	uint32_t line;
	char section_text[96]; /* for messages */
	int section;	       /* enum config_section, or one of these */
	struct config_trigger *trigger;
};

enum { SECTION_NONE = -1, SECTION_UNKNOWN = -2 };

static void add(const struct parser *p, const char *key, const char *what)
{
	config_add_error(p->e, p->name, p->line, p->section_text, key, what);
}

/* ---- which one was meant ------------------------------------------------------------ */

static void name_meant(const char *const *names, size_t n, const char *text, char *ret, size_t len)
{
	size_t best = n, least = 3;
	int at;

	for (size_t i = 0; i < n; i++) {
		size_t d = text_distance(text, names[i]);

		if (d < least) {
			best = i;
			least = d;
		}
	}
	if (best < n) {
		snprintf(ret, len, "did you mean %s?", names[best]);
		return;
	}
	at = snprintf(ret, len, "expected");
	for (size_t i = 0; i < n && at > 0 && (size_t)at < len; i++)
		at += snprintf(ret + at, len - (size_t)at, "%s %s", i ? "," : "", names[i]);
}

static void unknown_section(struct parser *p)
{
	static const char *const names[] = { "[Recorder]", "[Storage]", "[Server]", "[Upload]", "[Trigger NAME]" };
	char meant[128], what[200], bracketed[100];

	snprintf(bracketed, sizeof(bracketed), "[%s]", p->section_text);
	name_meant(names, SB_ARRAY_SIZE(names), bracketed, meant, sizeof(meant));
	snprintf(what, sizeof(what), "unknown section, %s", meant);
	add(p, "", what);
}

static void unknown_key(struct parser *p, const char *key)
{
	const char *names[CONFIG_MAX_KEYS];
	char meant[256], what[300], quoted[64];
	size_t n = 0;

	text_quote(key, quoted, sizeof(quoted));
	for (int s = 0; s < CONFIG_SECTIONS; s++) {
		if (s == p->section || !config_find((enum config_section)s, key))
			continue;
		snprintf(what, sizeof(what), "unknown key of this section, expected in [%s%s]", config_section_name[s],
			 s == CONFIG_TRIGGER ? " NAME" : "");
		add(p, quoted, what);
		return;
	}
	for (size_t i = 0; i < config_n_keys; i++) {
		if ((int)config_keys[i].section == p->section)
			names[n++] = config_keys[i].name;
	}
	name_meant(names, n, quoted, meant, sizeof(meant));
	snprintf(what, sizeof(what), "unknown key, %s", meant);
	add(p, quoted, what);
}

/* ---- sections ------------------------------------------------------------------------ */

static struct config_trigger *find_trigger(struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_triggers; i++) {
		if (!strcmp(c->trigger[i].name, name))
			return &c->trigger[i];
	}
	return NULL;
}

static void begin_trigger(struct parser *p, const char *name)
{
	const char *expected = text_wrong_name(name);
	struct config_trigger *t = find_trigger(p->c, name);
	char what[128];

	p->section = SECTION_UNKNOWN;
	if (expected) {
		snprintf(what, sizeof(what), "not a name, expected %s", expected);
		add(p, "", what);
		return;
	}
	if (!t && p->c->n_triggers == CONFIG_MAX_TRIGGERS) {
		snprintf(what, sizeof(what), "one too many, expected at most %d triggers", CONFIG_MAX_TRIGGERS);
		add(p, "", what);
		return;
	}
	if (!t) {
		t = &p->c->trigger[p->c->n_triggers++];
		snprintf(t->name, sizeof(t->name), "%s", name);
		t->begun = (struct config_source){ .line = p->line, .file = p->file };
	}
	p->trigger = t;
	p->section = CONFIG_TRIGGER;
}

static void begin_section(struct parser *p, char *name)
{
	size_t n = strlen(config_section_name[CONFIG_TRIGGER]);

	text_quote(name, p->section_text, sizeof(p->section_text));
	if (!strncmp(name, config_section_name[CONFIG_TRIGGER], n) && (!name[n] || isspace((unsigned char)name[n]))) {
		begin_trigger(p, config_strip(name + n));
		return;
	}
	for (p->section = 0; p->section < CONFIG_TRIGGER; p->section++) {
		if (!strcmp(name, config_section_name[p->section]))
			return;
	}
	p->section = SECTION_UNKNOWN;
	unknown_section(p);
}

/* ---- keys ------------------------------------------------------------------------------ */

static bool twice(const struct parser *p, const struct config_key *k, const struct config_source *source)
{
	char what[96];

	if (k->type == CONFIG_LIST || !source->line || source->file != p->file)
		return false;
	snprintf(what, sizeof(what), "set twice in this file, expected once; line %u has it, too", source->line);
	add(p, k->name, what);
	return true;
}

static void set_key(struct parser *p, const char *name, const char *value)
{
	const struct config_key *k = config_find((enum config_section)p->section, name);
	struct config_source *source;
	char error[320];

	if (!k) {
		unknown_key(p, name);
		return;
	}
	source = (struct config_source *)config_source_of(p->c, p->trigger, k);
	if (twice(p, k, source))
		return;
	*source = (struct config_source){ .line = p->line, .file = p->file };
	/* A service has no directory of its own that a path could begin in. */
	if (k->type == CONFIG_PATH && *value && *value != '/') {
		text_quote(value, error, 100);
		strcat(error, ": expected an absolute path");
		add(p, k->name, error);
		return;
	}
	if (config_set((void *)config_base_of(p->c, p->trigger, k), k, value, error, sizeof(error)) < 0)
		add(p, k->name, error);
}

static void take_assignment(struct parser *p, char *line)
{
	char *eq = strchr(line, '='), quoted[64];

	if (!eq) {
		text_quote(line, quoted, sizeof(quoted));
		add(p, quoted, "is no assignment, expected KEY=VALUE, [SECTION] or # and a comment");
		return;
	}
	*eq = '\0';
	line = config_strip(line);
	if (p->section == SECTION_NONE) {
		text_quote(line, quoted, sizeof(quoted));
		add(p, quoted, "before the first section, expected a line such as [Recorder] above it");
	} else if (p->section != SECTION_UNKNOWN) {
		set_key(p, line, config_strip(eq + 1));
	}
}

/* ---- lines ------------------------------------------------------------------------------- */

char *config_strip(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

/* Text that people can read: nothing a terminal obeys, no NUL, UTF-8. */
static bool is_text(struct parser *p, const char *line, size_t len)
{
	const unsigned char *s = (const unsigned char *)line;
	char what[96];
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		uint32_t c = 0;

		n = s[i] >= 0x80 ? utf8_decode(s + i, &c) : 1;
		if (n && s[i] != 0x7f && (s[i] >= 0x20 || s[i] == '\t' || (s[i] == '\r' && i + 1 == len)) &&
		    !(c && c < 0xa0))
			continue;
		snprintf(what, sizeof(what), "byte 0x%02x at column %zu, expected text in UTF-8 without control characters",
			 s[i], i + 1);
		add(p, "", what);
		return false;
	}
	return true;
}

static void take_line(struct parser *p, const char *text, size_t len)
{
	char line[CONFIG_MAX_LINE], *s, what[96];

	if (len >= sizeof(line)) {
		snprintf(what, sizeof(what), "a line of %zu bytes, expected at most %d", len, CONFIG_MAX_LINE - 1);
		add(p, "", what);
		return;
	}
	memcpy(line, text, len);
	line[len] = '\0'; /* which also ends what UTF-8 is cut off at */
	if (!is_text(p, line, len))
		return;
	s = config_strip(line);
	if (!*s || *s == '#' || *s == ';')
		return;
	if (*s != '[') {
		take_assignment(p, s);
		return;
	}
	if (s[strlen(s) - 1] == ']') {
		s[strlen(s) - 1] = '\0';
		begin_section(p, config_strip(s + 1));
		return;
	}
	text_quote(s + 1, p->section_text, sizeof(p->section_text));
	p->section = SECTION_UNKNOWN;
	add(p, "", "a section without its end, expected ]");
}

void config_parse(struct config *c, const char *name, const char *text, size_t len, struct config_errors *e)
{
	struct parser p = { .c = c, .e = e, .name = name, .section = SECTION_NONE };

	if (c->n_files == CONFIG_MAX_FILES) {
		add(&p, "", "one file too many, expected at most 64");
		return;
	}
	p.file = (uint16_t)c->n_files;
	snprintf(c->file[c->n_files++], CONFIG_TEXT_MAX, "%s", name);
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* some editors begin with it */
		text += 3;
		len -= 3;
	}
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		p.line++;
		take_line(&p, text, n);
		n += end != NULL;
		text += n;
		len -= n;
	}
}
