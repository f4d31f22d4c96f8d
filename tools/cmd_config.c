// SPDX-License-Identifier: BSD-2-Clause
/* stallbox check-config, show-config: what the configuration says, without an agent. */
#include <errno.h>
#include <stdio.h>

#include "config/config.h"
#include "tools/commands.h"
#include "tools/escape.h"

static const struct opt_command check_command = {
	"check-config", "", "Reads the configuration as stallboxd does and tells every error, with its line.",
	{ "stallbox check-config", "stallbox check-config --config ./stallbox.conf --json" },
};

static const struct opt_command show_command = {
	"show-config", "", "Every setting of the configuration, and where it comes from. Options that the agent was\n"
	"started with are not in it: the header of a bundle has those ('stallbox export --format ndjson').",
	{ "stallbox show-config", "stallbox show-config --json | jq '.settings[] | select(.source != \"default\")'" },
};

/* Too much for a stack. */
struct loaded {
	struct config c;
	struct config_errors e;
};

static void put_string(const char *key, const char *value)
{
	printf("\"%s\":\"", key);
	escape_put(stdout, ESCAPE_JSON, value);
	putchar('"');
}

static void put_files(const struct config *c)
{
	printf("\"files\":[");
	for (size_t i = 0; i < c->n_files; i++) {
		printf("%s\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, c->file[i]);
		putchar('"');
	}
	putchar(']');
}

/* ---- check-config ------------------------------------------------------------------ */

static void print_errors(const struct config_errors *e)
{
	char text[1024];

	for (size_t i = 0; i < e->n; i++) {
		config_error_text(&e->error[i], text, sizeof(text));
		fprintf(stderr, "error: %s\n", text);
	}
	if (e->more)
		fprintf(stderr, "error: and %zu more\n", e->more);
}

static void print_checked(const struct config *c)
{
	if (!c->n_files)
		printf("no configuration file: every setting has its default\n");
	for (size_t i = 0; i < c->n_files; i++) {
		escape_put(stdout, ESCAPE_TERMINAL, c->file[i]);
		printf(": ok\n");
	}
	if (c->n_triggers)
		printf("%zu triggers instead of the default set\n", c->n_triggers);
	else
		printf("the default set of triggers\n");
}

static void print_checked_json(const struct loaded *l)
{
	printf("{\"ok\":%s,", l->e.n ? "false" : "true");
	put_files(&l->c);
	printf(",\"triggers\":%zu,\"errors\":[", l->c.n_triggers);
	for (size_t i = 0; i < l->e.n; i++) {
		const struct config_error *e = &l->e.error[i];

		printf("%s{", i ? "," : "");
		put_string("file", e->file);
		printf(",\"line\":%u,", e->line);
		put_string("section", e->section);
		putchar(',');
		put_string("key", e->key);
		putchar(',');
		put_string("what", e->what);
		putchar('}');
	}
	printf("],\"more_errors\":%zu}\n", l->e.more);
}

/* ---- show-config ------------------------------------------------------------------- */

static void print_setting(const struct config *c, const struct config_trigger *t, const struct config_key *k)
{
	char value[CONFIG_MAX_LIST * CONFIG_TEXT_MAX], shown[256], source[CONFIG_TEXT_MAX + 16];
	int n;

	config_get(config_base_of(c, t, k), k, value, sizeof(value));
	if (t && !value[0])
		return;
	config_source_text(c, config_source_of(c, t, k), source, sizeof(source));
	escape_copy(shown, sizeof(shown), ESCAPE_TERMINAL, value);
	n = printf("%s=%s", k->name, shown);
	printf("%*s  ", n < 40 ? 40 - n : 0, "");
	escape_put(stdout, ESCAPE_TERMINAL, source);
	putchar('\n');
}

static void print_settings(const struct config *c)
{
	for (int s = 0; s < CONFIG_TRIGGER; s++) {
		printf("%s[%s]\n", s ? "\n" : "", config_section_name[s]);
		for (size_t i = 0; i < config_n_keys; i++) {
			if (config_keys[i].section == (enum config_section)s)
				print_setting(c, NULL, &config_keys[i]);
		}
	}
}

static void print_trigger(const struct config *c, const struct config_trigger *t)
{
	printf("\n[Trigger %s]\n", t->name);
	for (size_t i = 0; i < config_n_keys; i++) {
		if (config_keys[i].section == CONFIG_TRIGGER)
			print_setting(c, t, &config_keys[i]);
	}
}

static void put_setting(const struct config *c, const struct config_trigger *t, const struct config_key *k)
{
	char value[CONFIG_MAX_LIST * CONFIG_TEXT_MAX], source[CONFIG_TEXT_MAX + 16];

	config_get(config_base_of(c, t, k), k, value, sizeof(value));
	config_source_text(c, config_source_of(c, t, k), source, sizeof(source));
	putchar('{');
	if (!t) {
		put_string("section", config_section_name[k->section]);
		putchar(',');
	}
	put_string("key", k->name);
	putchar(',');
	put_string("value", value);
	putchar(',');
	put_string("default", k->preset);
	putchar(',');
	put_string("source", source);
	printf(",\"reload\":%s}", k->at_run_time ? "true" : "false");
}

static void put_trigger(const struct config *c, const struct config_trigger *t)
{
	const char *sep = "";

	putchar('{');
	put_string("name", t->name);
	printf(",\"settings\":[");
	for (size_t i = 0; i < config_n_keys; i++) {
		if (config_keys[i].section != CONFIG_TRIGGER)
			continue;
		printf("%s", sep);
		put_setting(c, t, &config_keys[i]);
		sep = ",";
	}
	printf("]}");
}

static void print_settings_json(const struct config *c)
{
	struct config_trigger t;

	putchar('{');
	put_files(c);
	printf(",\"settings\":[");
	for (size_t i = 0; i < config_n_keys && config_keys[i].section != CONFIG_TRIGGER; i++) {
		printf("%s", i ? "," : "");
		put_setting(c, NULL, &config_keys[i]);
	}
	printf("],\"default_triggers\":%s,\"triggers\":[", c->n_triggers ? "false" : "true");
	for (size_t i = 0; i < c->n_triggers || (!c->n_triggers && config_default_trigger(i, &t)); i++) {
		printf("%s", i ? "," : "");
		put_trigger(c, c->n_triggers ? &c->trigger[i] : &t);
	}
	printf("]}\n");
}

static void print_all(const struct config *c)
{
	struct config_trigger t;

	print_settings(c);
	for (size_t i = 0; i < c->n_triggers; i++)
		print_trigger(c, &c->trigger[i]);
	for (size_t i = 0; !c->n_triggers && config_default_trigger(i, &t); i++)
		print_trigger(c, &t);
}

/* ---- both -------------------------------------------------------------------------- */

static int run(const struct opt_command *command, int argc, char **argv, bool show)
{
	SB_CLEANUP(sb_freep) struct loaded *l = calloc(1, sizeof(*l));
	const char *path = NULL;
	bool json = false;
	int first, r;
	const struct opt opts[] = {
		{ "config", "FILE", OPT_TEXT, &path, "configuration file (default " CONFIG_FILE ")" },
		{ "json", NULL, OPT_FLAG, &json, "for programs" },
		{}
	};

	r = opt_parse(command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(command, "unexpected argument '%s'", argv[first]);
	if (!l) {
		fprintf(stderr, "error: %s\n", strerror(ENOMEM));
		return SB_EXIT_FAILURE;
	}
	config_load(&l->c, path ? path : CONFIG_FILE, path != NULL, &l->e);
	if (json && !show)
		print_checked_json(l);
	else if (l->e.n)
		print_errors(&l->e);
	else if (!show)
		print_checked(&l->c);
	else if (json)
		print_settings_json(&l->c);
	else
		print_all(&l->c);
	return l->e.n ? SB_EXIT_CONFIG : SB_EXIT_OK;
}

int cmd_check_config(int argc, char **argv)
{
	return run(&check_command, argc, argv, false);
}

int cmd_show_config(int argc, char **argv)
{
	return run(&show_command, argc, argv, true);
}
