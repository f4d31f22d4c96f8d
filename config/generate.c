// SPDX-License-Identifier: BSD-2-Clause
/* Writes what the table of keys says, at build time: the file that is shipped, and the keys for stallbox.conf(5). */
#include <stdio.h>

#include "config/config.h"

/* What a key says of itself besides its help: "2M to 64G", "trigger|always|never". */
static void put_limits(const struct config_key *k, const char *before, const char *after)
{
	char range[72];

	config_range(k, range, sizeof(range));
	if (range[0])
		printf("%s%s%s", before, range, after);
	else if (k->choices || k->type == CONFIG_BOOL)
		printf("%s%s%s", before, config_metavar(k), after);
}

/* ---- the shipped file -------------------------------------------------------------- */

static void conf_key(const struct config_key *k)
{
	printf("# %s", k->help);
	put_limits(k, " (", ")");
	printf("%s\n#%s=%s\n", k->at_run_time || k->section > CONFIG_STORAGE ? "" : "; read at start only", k->name,
	       k->preset);
}

static void conf_triggers(void)
{
	struct config_trigger t;

	printf("\n# Triggers: a section [Trigger NAME] for each. With one or more of them this default set is not armed.\n");
	for (size_t i = 0; config_default_trigger(i, &t); i++)
		printf("#[Trigger %s]\n#Condition=%s\n", t.name, t.condition);
	printf("# A trigger of your own, with all its keys. A probe of the service is better than any default.\n"
	       "#[Trigger web]\n");
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];

		if (k->section != CONFIG_TRIGGER)
			continue;
		printf("# %s", k->help);
		put_limits(k, " (", ")");
		printf("\n#%s=%s\n", k->name,
		       k->type == CONFIG_CONDITION ? "probe:http://127.0.0.1:8123/ping:timeout=1s:fails=2" : k->preset);
	}
}

static void print_conf(void)
{
	printf("# Settings of stallbox, each at its default: see stallbox.conf(5).\n"
	       "# Rather than here, change them in a file of your own, stallbox.conf.d/*.conf, which wins.\n"
	       "# 'stallbox check-config' tells every error; SIGHUP to stallboxd reads the files again.\n");
	for (int s = 0; s < CONFIG_TRIGGER; s++) {
		printf("\n[%s]\n", config_section_name[s]);
		for (size_t i = 0; i < config_n_keys; i++) {
			if (config_keys[i].section == (enum config_section)s)
				conf_key(&config_keys[i]);
		}
	}
	conf_triggers();
}

/* ---- the manual page --------------------------------------------------------------- */

static void put_roff(const char *s)
{
	for (; *s; s++)
		printf(*s == '-' ? "\\-" : *s == '\\' ? "\\e" : "%c", *s);
}

static void man_key(const struct config_key *k)
{
	printf(".TP\n.BR %s = \\fI", k->name);
	put_roff(config_metavar(k));
	printf("\\fR\n");
	putchar(k->help[0] >= 'a' && k->help[0] <= 'z' ? k->help[0] - 'a' + 'A' : k->help[0]);
	put_roff(k->help + 1);
	printf(".\n");
	if (k->type != CONFIG_BOOL && !k->choices)
		put_limits(k, "", ".\n");
	if (k->preset[0]) {
		printf("Default ");
		put_roff(k->preset);
		printf(".\n");
	}
	if (k->flag) {
		printf("Option ");
		put_roff("--");
		put_roff(k->flag);
		printf(".\n");
	}
	if (!k->at_run_time && k->section <= CONFIG_STORAGE)
		printf("Read at start only.\n");
}

static void print_man(void)
{
	for (int s = 0; s < CONFIG_SECTIONS; s++) {
		printf(".SS [%s%s]\n", config_section_name[s], s == CONFIG_TRIGGER ? " NAME" : "");
		for (size_t i = 0; i < config_n_keys; i++) {
			if (config_keys[i].section == (enum config_section)s)
				man_key(&config_keys[i]);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "conf"))
		print_conf();
	else if (argc == 2 && !strcmp(argv[1], "man"))
		print_man();
	else
		return SB_EXIT_USAGE;
	return fflush(stdout) || ferror(stdout) ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
