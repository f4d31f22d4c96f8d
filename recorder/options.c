// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "format/log.h"

/* What only the command line can say. Options that mirror keys of the file are those of config_keys. */
enum action { A_FLAG, A_TRIGGER, A_CONFIG, A_VERSION, A_HELP };

static const struct action_option {
	const char *flag, *metavar;
	enum action action;
	size_t offset; /* A_FLAG: of a bool */
	const char *help;
} actions[] = {
	{ "trigger", "SPEC", A_TRIGGER, 0,
	  "arm this trigger; given once or more, those of the file and the default set are not" },
	{ "config", "FILE", A_CONFIG, 0, "configuration file (default " CONFIG_FILE ", if it exists)" },
	{ "foreground", NULL, A_FLAG, offsetof(struct options, foreground), "stay in the foreground" },
	{ "unload", NULL, A_FLAG, offsetof(struct options, unload), "remove everything pinned in the kernel, and end" },
	{ "export-pinned", NULL, A_FLAG, offsetof(struct options, export_pinned),
	  "write the bank that the kernel froze while no agent ran, print its path, and end" },
	{ "features", NULL, A_FLAG, offsetof(struct options, list),
	  "say which evidence this kernel can and cannot give, and end" },
	{ "doctor", NULL, A_FLAG, offsetof(struct options, doctor),
	  "say what is missing on this host, what that costs and how to get it, and end" },
	{ "doctor-json", NULL, A_FLAG, offsetof(struct options, doctor_json), "the same as JSON" },
	{ "verbose", NULL, A_FLAG, offsetof(struct options, verbose), "say more" },
	{ "version", NULL, A_VERSION, 0, "print the version" },
	{ "help", NULL, A_HELP, 0, "print this text" },
};

/* ---- help ---------------------------------------------------------------------------- */

#define HELP_WIDTH 56

/* The option, then its text in lines of whole words beside it. */
static void print_wrapped(const char *left, const char *text)
{
	while (*text) {
		size_t n = strlen(text), cut = n;

		if (n > HELP_WIDTH) {
			for (cut = HELP_WIDTH; cut && text[cut] != ' '; cut--)
				;
			if (!cut)
				cut = HELP_WIDTH;
		}
		printf("  %-20s  %.*s\n", left, (int)cut, text);
		text += cut;
		while (*text == ' ')
			text++;
		left = "";
	}
}

static bool is_switch(const struct config_key *k)
{
	return !strncmp(k->flag, "no-", 3);
}

static void print_key(const struct config_key *k)
{
	char left[64], text[400];

	snprintf(left, sizeof(left), "--%s%s%s", k->flag, is_switch(k) ? "" : " ",
		 is_switch(k) ? "" : k->type == CONFIG_CHOICE ? "WHICH" : config_metavar(k));
	if (is_switch(k))
		snprintf(text, sizeof(text), "do not %s", k->help);
	else
		snprintf(text, sizeof(text), "%s%s%s%s%s%s", k->choices ? k->choices : "", k->choices ? ": " : "", k->help,
			 k->preset[0] ? " (default " : "", k->preset, k->preset[0] ? ")" : "");
	print_wrapped(left, text);
}

static void print_help(void)
{
	printf("Usage: stallboxd [OPTIONS]\n"
	       "Records kernel and user stacks all the time; a trigger freezes them into a bundle.\n\n");
	for (size_t i = 0; i < config_n_keys; i++) {
		if (config_keys[i].flag)
			print_key(&config_keys[i]);
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(actions); i++) {
		char left[32];

		snprintf(left, sizeof(left), "--%s%s%s", actions[i].flag, actions[i].metavar ? " " : "",
			 actions[i].metavar ? actions[i].metavar : "");
		print_wrapped(left, actions[i].help);
	}
	printf("\nTriggers:\n");
	for (size_t i = 0; trigger_kinds[i]; i++)
		printf("  %s\n", trigger_kinds[i]->syntax);
	printf("\nExamples:\n"
	       "  stallboxd --foreground --trigger psi:memory:full:150ms/2s\n"
	       "  stallboxd --foreground --trigger 'kernel:reclaim>500ms' --post 5s\n");
}

static int usage_error(const char *what, const char *detail)
{
	log_err("%s%s%s", what, detail ? ": " : "", detail ? detail : "");
	fprintf(stderr, "try 'stallboxd --help'\n");
	return SB_EXIT_USAGE;
}

/* ---- command line -------------------------------------------------------------------- */

static struct config_source *source_of(struct config *c, const struct config_key *k)
{
	return (struct config_source *)config_source_of(c, NULL, k);
}

static int set_key(struct options *o, const struct config_key *k, const char *value)
{
	char text[500], error[400];

	if (config_set(&o->config, k, is_switch(k) ? "no" : value, error, sizeof(error)) < 0) {
		snprintf(text, sizeof(text), "--%s %s", k->flag, error);
		return usage_error(text, NULL);
	}
	*source_of(&o->config, k) = (struct config_source){ .command_line = true };
	return -1;
}

static int add_flag_trigger(struct options *o, const char *spec)
{
	SB_CLEANUP(trigger_freep) struct trigger *t = NULL;
	char text[200], error[300];

	snprintf(text, sizeof(text), "--trigger '%.120s'", spec);
	if (o->n_flag_triggers == OPTIONS_MAX_TRIGGERS) {
		snprintf(error, sizeof(error), "more than %d triggers", OPTIONS_MAX_TRIGGERS);
		return usage_error(text, error);
	}
	if (trigger_parse(spec, &t, error, sizeof(error)) < 0)
		return usage_error(text, error);
	o->flag_trigger[o->n_flag_triggers++] = spec;
	return -1;
}

static int act(struct options *o, const struct action_option *a, const char *value)
{
	if (a->action == A_FLAG)
		*(bool *)((char *)o + a->offset) = true;
	if (a->action == A_TRIGGER)
		return add_flag_trigger(o, value);
	return -1;
}

/* What has to be known before the file is read. */
static int act_early(struct options *o, const struct action_option *a, const char *value)
{
	if (a->action == A_HELP) {
		print_help();
		return SB_EXIT_OK;
	}
	if (a->action == A_VERSION) {
		printf("stallboxd %s\n", SB_VERSION);
		return SB_EXIT_OK;
	}
	if (a->action == A_CONFIG) {
		if (o->config_required)
			return usage_error("--config", "given twice, expected one file");
		if (strlen(value) >= sizeof(o->config_file))
			return usage_error("--config", "a path longer than 255 bytes");
		strcpy(o->config_file, value);
		o->config_required = true;
	}
	/* It says that the file is wrong, and what else is. */
	o->doctor |= !strcmp(a->flag, "doctor");
	o->doctor_json |= !strcmp(a->flag, "doctor-json");
	return -1;
}

/* The long options: first those of keys, then the actions. val: 1 + the index of either. */
#define ACTION 1000
static void make_long_options(struct option ret[CONFIG_MAX_KEYS + SB_ARRAY_SIZE(actions) + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];

		if (k->flag)
			ret[n++] = (struct option){ k->flag, is_switch(k) ? no_argument : required_argument, NULL,
						    1 + (int)i };
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(actions); i++)
		ret[n++] = (struct option){ actions[i].flag, actions[i].metavar ? required_argument : no_argument, NULL,
					    ACTION + (int)i };
	ret[n] = (struct option){};
}

/* Twice: the file stands between, and flags win over it wherever they stand. */
static int parse_line(struct options *o, int argc, char **argv, bool early)
{
	struct option longopt[CONFIG_MAX_KEYS + SB_ARRAY_SIZE(actions) + 1];
	int v, r;

	make_long_options(longopt);
	optind = 0;
	opterr = !early;
	while ((v = getopt_long(argc, argv, "", longopt, NULL)) != -1) {
		if (v == '?' && early)
			continue;
		if (v == '?') {
			fprintf(stderr, "try 'stallboxd --help'\n");
			return SB_EXIT_USAGE;
		}
		if (v >= ACTION)
			r = early ? act_early(o, &actions[v - ACTION], optarg) : act(o, &actions[v - ACTION], optarg);
		else
			r = early ? -1 : set_key(o, &config_keys[v - 1], optarg);
		if (r >= 0)
			return r;
	}
	if (!early && optind < argc)
		return usage_error("unexpected argument", argv[optind]);
	return -1;
}

/* ---- what follows from it -------------------------------------------------------------- */

void options_settings(const struct options *o, struct capture_settings *ret)
{
	ret->n_listed = 0;
	for (size_t i = 0; i < config_n_keys && ret->n_listed < CAPTURE_MAX_LISTED; i++) {
		const struct config_key *k = &config_keys[i];
		size_t n = ret->n_listed;

		if (k->section != CONFIG_RECORDER && k->section != CONFIG_STORAGE)
			continue;
		snprintf(ret->key[n], sizeof(ret->key[n]), "%s", k->name);
		config_get(&o->config, k, ret->value[n], sizeof(ret->value[n]));
		ret->n_listed++;
	}
}

static struct spool spool_of(const struct config_storage *s)
{
	struct spool ret = { .limits = { .max_use_bytes = s->max_use_bytes, .keep_free_bytes = s->keep_free_bytes,
					 .max_age_ns = s->max_age_ns } };

	memcpy(ret.dir, s->directory, sizeof(ret.dir));
	memcpy(ret.fallback, s->fallback, sizeof(ret.fallback));
	snprintf(ret.group, sizeof(ret.group), "%s", s->group);
	return ret;
}

void options_adopt(struct options *o, const struct config *c)
{
	static const enum sb_user_unwind unwind[] = { [CONFIG_UNWIND_EH_FRAME] = SB_USER_UNWIND_EH_FRAME,
						      [CONFIG_UNWIND_FRAME_POINTER] = SB_USER_UNWIND_FP,
						      [CONFIG_UNWIND_OFF] = SB_USER_UNWIND_OFF };

	if (c != &o->config)
		o->config = *c;
	o->spool = spool_of(&c->storage);
	/* A profile is no copy of the bundle: for Pyroscope alone none has to wait. */
	o->spool.limits.wait_upload = c->upload.endpoint[0];
	o->spool.limits.mark_uploads = c->upload.endpoint[0] || c->upload.pyroscope_url[0];
	o->spool.limits.delete_after_ns = c->upload.delete_after_ns;
	o->probes = (struct probes_options){
		.memory_bytes = c->recorder.memory_bytes,
		.offcpu_threshold_ns = c->recorder.threshold_ns,
		.irq_threshold_ns = c->recorder.irq_threshold_ns,
		.syscall_threshold_ns = c->recorder.syscall_threshold_ns,
		.sample_hz = (uint32_t)c->recorder.frequency_hz,
		.bpffs = o->config.recorder.bpffs,
		.pin = c->recorder.pin,
		.command_lines = c->recorder.command_line,
		.user_unwind = unwind[c->recorder.user_unwind],
		.unwind_bytes = c->recorder.unwind_bytes,
	};
}

size_t options_trigger_specs(const struct options *o, const struct config *c,
			     char ret[OPTIONS_MAX_TRIGGERS][TRIGGER_SPEC_MAX])
{
	size_t n;

	for (n = 0; n < o->n_flag_triggers; n++)
		snprintf(ret[n], TRIGGER_SPEC_MAX, "%s", o->flag_trigger[n]);
	if (n)
		return n;
	for (; n < c->n_triggers; n++)
		(void)config_trigger_spec(&c->trigger[n], ret[n], TRIGGER_SPEC_MAX); /* checked when it was read */
	if (n)
		return n;
	for (; trigger_defaults[n]; n++)
		snprintf(ret[n], TRIGGER_SPEC_MAX, "%s", trigger_defaults[n]);
	return n;
}

static int make_triggers(struct options *o)
{
	char spec[OPTIONS_MAX_TRIGGERS][TRIGGER_SPEC_MAX], error[256];
	size_t n = options_trigger_specs(o, &o->config, spec);

	for (size_t i = 0; i < n; i++) {
		if (trigger_parse(spec[i], &o->trigger[i], error, sizeof(error)) < 0) {
			log_err("trigger '%s': %s", spec[i], error);
			return SB_EXIT_FAILURE;
		}
		o->n_triggers++;
	}
	return -1;
}

/* ---- all of it -------------------------------------------------------------------------- */

void options_load_again(const struct options *o, struct config *ret, struct config_errors *e)
{
	config_load(ret, o->config_file, o->config_required, e);
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];

		if (k->section == CONFIG_TRIGGER || !config_source_of(&o->config, NULL, k)->command_line)
			continue;
		memcpy((char *)ret + k->offset, (const char *)&o->config + k->offset, k->size);
		*source_of(ret, k) = *config_source_of(&o->config, NULL, k);
	}
}

static int read_config(struct options *o)
{
	SB_CLEANUP(sb_freep) struct config_errors *e = calloc(1, sizeof(*e));
	char text[1024];

	if (!e)
		return log_errno(-ENOMEM, "cannot read the configuration"), SB_EXIT_FAILURE;
	config_load(&o->config, o->config_file, o->config_required, e);
	for (size_t i = 0; i < e->n; i++) {
		config_error_text(&e->error[i], text, sizeof(text));
		log_err("%s", text);
	}
	if (e->more)
		log_err("and %zu more", e->more);
	return e->n ? SB_EXIT_CONFIG : -1;
}

int options_read(struct options *o, int argc, char **argv)
{
	int r;

	memset(o, 0, sizeof(*o));
	strcpy(o->config_file, CONFIG_FILE);
	r = parse_line(o, argc, argv, true);
	if (r < 0)
		r = read_config(o);
	if (r == SB_EXIT_CONFIG && (o->doctor || o->doctor_json)) {
		config_defaults(&o->config);
		o->config_bad = true;
		r = -1;
	}
	if (r < 0)
		r = parse_line(o, argc, argv, false);
	if (r >= 0)
		return r;
	options_adopt(o, &o->config);
	return make_triggers(o);
}

void options_done(struct options *o)
{
	for (size_t i = 0; i < o->n_triggers; i++)
		trigger_free(o->trigger[i]);
	o->n_triggers = 0;
}
