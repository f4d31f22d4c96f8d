// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "format/log.h"

#define DEFAULT_CONFIG "/etc/stallbox/stallbox.conf"

enum type { T_BOOL, T_NOT_BOOL, T_DURATION, T_SIZE, T_NUMBER, T_PERCENT, T_PATH, T_CHOICE, T_TRIGGER, T_ACTION };

/* One table: configuration keys, command line, help, header. */
static const struct setting {
	const char *section, *key; /* NULL: command line only */
	const char *flag, *metavar;
	enum type type;
	size_t offset, size;
	uint64_t min, max;
	const char *help;
} settings[] = {
#define AT(field) offsetof(struct options, field), sizeof(((struct options *)0)->field)
	{ "Recorder", "Memory", "memory", "SIZE", T_SIZE, AT(memory_bytes), 2u << 20, 64ULL << 30,
	  "ring memory of both banks, all CPUs (default 16M per CPU, at most 256M or 2% of RAM)" },
	{ "Recorder", "OffCpuThreshold", "threshold", "TIME", T_DURATION, AT(threshold_ns), 100000,
	  NSEC_PER_SEC, "shorter off-CPU blocks are not recorded (default 1ms)" },
	{ "Recorder", "IrqThreshold", "irq-threshold", "TIME", T_DURATION, AT(irq_threshold_ns), 1,
	  NSEC_PER_SEC, "escalated: shorter softirq delays, softirqs and hardirqs are not recorded (default 5ms)" },
	{ "Recorder", "SyscallThreshold", "syscall-threshold", "TIME", T_DURATION, AT(syscall_threshold_ns), 1000000,
	  60 * NSEC_PER_SEC, "shorter system calls are not recorded (default 100ms)" },
	{ "Recorder", "Frequency", "frequency", "HZ", T_NUMBER, AT(frequency), 1, 999,
	  "on-CPU samples per second and CPU (default 99)" },
	{ "Recorder", "CpuBudget", "cpu-budget", "PERCENT", T_PERCENT, AT(cpu_budget_ppm), 1, 1000000,
	  "of all CPUs together, over 10 s; above it less is recorded, step by step (default 1%)" },
	{ "Recorder", "PostWindow", "post", "TIME", T_DURATION, AT(post_ns), 0, 600 * NSEC_PER_SEC,
	  "recorded after the trigger (default 15s)" },
	{ "Recorder", "Cooldown", "cooldown", "TIME", T_DURATION, AT(cooldown_ns), 0,
	  86400 * NSEC_PER_SEC, "from a trigger to the next bundle at the earliest (default 60s)" },
	{ "Recorder", "Escalate", "escalate", "WHEN", T_CHOICE, AT(escalate), 0, 0,
	  "trigger (default), always or never: record holds of mmap_lock, system calls and softirqs "
	  "exactly, from a trigger to the end of the post window" },
	{ "Recorder", "Realtime", "no-realtime", NULL, T_NOT_BOOL, AT(realtime), 0, 1,
	  "do not use SCHED_FIFO and mlockall" },
	{ "Recorder", "Pin", "no-pin", NULL, T_NOT_BOOL, AT(pin), 0, 1,
	  "pin nothing: recording ends with the agent" },
	{ "Recorder", "BpfFs", "bpffs", "DIR", T_PATH, AT(bpffs), 0, 0,
	  "where bpffs is mounted (default /sys/fs/bpf)" },
	{ "Recorder", "Socket", "socket", "PATH", T_PATH, AT(socket), 0, 0,
	  "control socket (default /run/stallbox/control.sock)" },
	{ "Storage", "Directory", "spool", "DIR", T_PATH, AT(spool.dir), 0, 0,
	  "bundles (default /var/lib/stallbox/captures)" },
	{ "Storage", "Fallback", "fallback", "DIR", T_PATH, AT(spool.fallback), 0, 0,
	  "used when that fails (default /run/stallbox/captures)" },
	{ "Storage", "MaxUse", "max-use", "SIZE", T_SIZE, AT(spool.max_use_bytes), 1u << 20,
	  1ULL << 50, "size of all bundles together (default 1G); the oldest go first" },
	{ NULL, NULL, "trigger", "SPEC", T_TRIGGER, 0, 0, 0, 0,
	  "arm this trigger; given once or more, those of the file and the default set are not" },
	{ NULL, NULL, "config", "FILE", T_ACTION, 0, 0, 0, 0,
	  "configuration file (default " DEFAULT_CONFIG ", if it exists)" },
	{ NULL, NULL, "foreground", NULL, T_BOOL, AT(foreground), 0, 1, "stay in the foreground" },
	{ NULL, NULL, "unload", NULL, T_BOOL, AT(unload), 0, 1,
	  "remove everything pinned in the kernel, and end" },
	{ NULL, NULL, "export-pinned", NULL, T_BOOL, AT(export_pinned), 0, 1,
	  "write the bank that the kernel froze while no agent ran, print its path, and end" },
	{ NULL, NULL, "features", NULL, T_BOOL, AT(list), 0, 1,
	  "say which evidence this kernel can and cannot give, and end" },
	{ NULL, NULL, "verbose", NULL, T_BOOL, AT(verbose), 0, 1, "say more" },
	{ NULL, NULL, "version", NULL, T_ACTION, 0, 0, 0, 0, "print the version" },
	{ NULL, NULL, "help", NULL, T_ACTION, 0, 0, 0, 0, "print this text" },
};

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

static void print_help(void)
{
	printf("Usage: stallboxd [OPTIONS]\n"
	       "Records kernel and user stacks all the time; a trigger freezes them into a bundle.\n\n");
	for (size_t i = 0; i < SB_ARRAY_SIZE(settings); i++) {
		char left[32];

		snprintf(left, sizeof(left), "--%s%s%s", settings[i].flag,
			 settings[i].metavar ? " " : "", settings[i].metavar ? settings[i].metavar : "");
		print_wrapped(left, settings[i].help);
	}
	printf("\nTriggers:\n");
	for (size_t i = 0; trigger_kinds[i]; i++)
		printf("  %s\n", trigger_kinds[i]->syntax);
	printf("\nExamples:\n"
	       "  stallboxd --foreground --trigger psi:memory:full:150ms/2s\n"
	       "  stallboxd --foreground --trigger 'kernel:reclaim>500ms' --post 5s\n");
}

/* "0.5%" as parts per million. */
static int parse_percent_ppm(const char *s, uint64_t *ret)
{
	double v;
	char *end;

	if (!isdigit((unsigned char)*s) || s[1] == 'x' || s[1] == 'X')
		return -EINVAL;
	v = strtod(s, &end);
	if (strcmp(end, "%") || v > 1e6)
		return -EINVAL;
	*ret = (uint64_t)(v * 1e4 + 0.5);
	return 0;
}

/* Parses one value. On failure *ret_expected says what would be right. */
static int set_value(struct options *o, const struct setting *s, const char *value,
		     char *ret_expected, size_t len)
{
	char *field = (char *)o + s->offset;
	uint64_t v = 0;
	char *end;

	switch (s->type) {
	case T_BOOL:
	case T_NOT_BOOL:
		snprintf(ret_expected, len, "expected yes or no");
		if (strcmp(value, "yes") && strcmp(value, "no"))
			return -EINVAL;
		*(bool *)field = !strcmp(value, "yes");
		return 0;
	case T_PATH:
		snprintf(ret_expected, len, "expected a path of at most %zu bytes", s->size - 1);
		if (strlen(value) >= s->size || !*value)
			return -EINVAL;
		strcpy(field, value);
		return 0;
	case T_CHOICE:
		snprintf(ret_expected, len, "expected trigger, always or never");
		if (strcmp(value, "trigger") && strcmp(value, "always") && strcmp(value, "never"))
			return -EINVAL;
		strcpy(field, value);
		return 0;
	case T_DURATION:
		snprintf(ret_expected, len, "expected a time with a unit, such as 15s or 500ms");
		if (parse_duration_ns(value, &v) < 0)
			return -EINVAL;
		break;
	case T_PERCENT:
		snprintf(ret_expected, len, "expected a percentage from 0.0001%% to 100%%, such as 1%% or 0.5%%");
		if (parse_percent_ppm(value, &v) < 0)
			return -EINVAL;
		break;
	case T_SIZE:
		snprintf(ret_expected, len, "expected a size with a unit, such as 64M or 1G");
		if (parse_size_bytes(value, &v) < 0)
			return -EINVAL;
		break;
	default:
		snprintf(ret_expected, len, "expected a number");
		errno = 0;
		v = strtoull(value, &end, 10);
		if (errno || *end || !isdigit((unsigned char)*value))
			return -EINVAL;
	}
	if (v < s->min || v > s->max) {
		snprintf(ret_expected, len, "out of range");
		return -ERANGE;
	}
	*(uint64_t *)field = v;
	return 0;
}

static int add_trigger(struct options *o, const char *spec, char *ret_error, size_t len)
{
	int r;

	if (o->n_triggers == OPTIONS_MAX_TRIGGERS) {
		snprintf(ret_error, len, "more than %d triggers", OPTIONS_MAX_TRIGGERS);
		return -E2BIG;
	}
	r = trigger_parse(spec, &o->trigger[o->n_triggers], ret_error, len);
	if (r == 0)
		o->n_triggers++;
	return r;
}

/* ---- configuration file ------------------------------------------------------------ */

struct config_file {
	const char *path;
	int line, errors;
	char section[128];
};

static void config_error(struct config_file *c, const char *what, const char *detail)
{
	log_err("%s:%d: [%s] %s: %s", c->path, c->line, c->section, what, detail);
	c->errors++;
}

static char *strip(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

static void config_trigger(struct options *o, struct config_file *c, const char *key,
			   const char *value)
{
	char error[256], *name = c->section + strlen("Trigger");

	if (strcmp(key, "Spec")) {
		config_error(c, key, "unknown key, expected Spec=");
		return;
	}
	if (add_trigger(o, value, error, sizeof(error)) < 0) {
		config_error(c, "Spec", error);
		return;
	}
	name = strip(name);
	if (*name)
		snprintf(o->trigger[o->n_triggers - 1]->name, TRIGGER_NAME_MAX, "%s", name);
}

static void config_key(struct options *o, struct config_file *c, const char *key, const char *value)
{
	char expected[160];

	if (!strncmp(c->section, "Trigger ", 8) || !strcmp(c->section, "Trigger")) {
		config_trigger(o, c, key, value);
		return;
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (!s->key || strcmp(s->section, c->section) || strcmp(s->key, key))
			continue;
		if (set_value(o, s, value, expected, sizeof(expected)) < 0)
			config_error(c, key, expected);
		return;
	}
	config_error(c, key, "unknown key; see stallboxd(8) for the keys of each section");
}

static int read_config(struct options *o, const char *path, bool required)
{
	struct config_file c = { .path = path };
	char line[4096], *s, *eq;
	FILE *f = fopen(path, "re");

	if (!f) {
		if (!required && errno == ENOENT)
			return -1;
		log_errno(-errno, "cannot read the configuration '%s'", path);
		return SB_EXIT_CONFIG;
	}
	while (fgets(line, sizeof(line), f)) {
		c.line++;
		if (!strchr(line, '\n') && !feof(f)) {
			config_error(&c, "line", "longer than 4095 bytes");
			break;
		}
		s = strip(line);
		if (!*s || *s == '#' || *s == ';')
			continue;
		if (*s == '[' && s[strlen(s) - 1] == ']') {
			s[strlen(s) - 1] = '\0';
			snprintf(c.section, sizeof(c.section), "%s", s + 1);
			if (strcmp(c.section, "Recorder") && strcmp(c.section, "Storage") &&
			    strncmp(c.section, "Trigger", 7))
				config_error(&c, "section",
					     "unknown, expected Recorder, Storage or Trigger NAME");
			continue;
		}
		eq = strchr(s, '=');
		if (!eq) {
			config_error(&c, s, "expected KEY=VALUE");
			continue;
		}
		*eq = '\0';
		config_key(o, &c, strip(s), strip(eq + 1));
	}
	fclose(f);
	return c.errors ? SB_EXIT_CONFIG : -1;
}

/* ---- command line -------------------------------------------------------------------- */

static void set_defaults(struct options *o)
{
	memset(o, 0, sizeof(*o));
	strcpy(o->socket, "/run/stallbox/control.sock");
	strcpy(o->bpffs, "/sys/fs/bpf");
	strcpy(o->escalate, "trigger");
	strcpy(o->spool.dir, "/var/lib/stallbox/captures");
	strcpy(o->spool.fallback, "/run/stallbox/captures");
	o->spool.max_use_bytes = 1ULL << 30;
	o->threshold_ns = NSEC_PER_MSEC;
	o->irq_threshold_ns = 5 * NSEC_PER_MSEC;
	o->syscall_threshold_ns = 100 * NSEC_PER_MSEC;
	o->frequency = 99;
	o->cpu_budget_ppm = 10000;
	/* Long enough to see a stall end; the events after it are seldom the cause. */
	o->post_ns = 15 * NSEC_PER_SEC;
	/* A stall that lasts is one incident: one bundle a minute says what there is to say. */
	o->cooldown_ns = 60 * NSEC_PER_SEC;
	o->realtime = o->pin = true;
}

static void note_config(struct options *o)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(settings) && o->n_config < OPTIONS_MAX_CONFIG; i++) {
		const struct setting *s = &settings[i];
		char *text = o->config_text[o->n_config], *field = (char *)o + s->offset;

		if (!s->key)
			continue;
		if (s->type == T_PATH || s->type == T_CHOICE)
			memccpy(text, field, '\0', SB_MIN(s->size, (size_t)127)); /* the rest of text is zero */
		else if (s->type == T_NOT_BOOL)
			snprintf(text, 128, "%s", *(bool *)field ? "yes" : "no");
		else if (s->type == T_DURATION)
			snprintf(text, 128, "%lluus",
				 (unsigned long long)(*(uint64_t *)field / NSEC_PER_USEC));
		else if (s->type == T_PERCENT)
			snprintf(text, 128, "%.4g%%", (double)*(uint64_t *)field / 1e4);
		else
			snprintf(text, 128, "%llu", (unsigned long long)*(uint64_t *)field);
		o->config[o->n_config++] = (struct bundle_kv){ s->key, text };
	}
}

static int usage_error(const char *what, const char *detail)
{
	log_err("%s%s%s", what, detail ? ": " : "", detail ? detail : "");
	fprintf(stderr, "try 'stallboxd --help'\n");
	return SB_EXIT_USAGE;
}

static int apply_flag(struct options *o, const struct setting *s, const char *value)
{
	char text[400], expected[300];

	if (s->type == T_TRIGGER) {
		if (add_trigger(o, value, expected, sizeof(expected)) == 0)
			return -1;
		snprintf(text, sizeof(text), "--trigger '%.120s'", value);
		return usage_error(text, expected);
	}
	if (s->type == T_BOOL || s->type == T_NOT_BOOL) {
		*(bool *)((char *)o + s->offset) = s->type == T_BOOL;
		return -1;
	}
	if (set_value(o, s, value, expected, sizeof(expected)) == 0)
		return -1;
	snprintf(text, sizeof(text), "--%s '%.120s'", s->flag, value);
	return usage_error(text, expected);
}

static void drop_triggers(struct options *o)
{
	for (size_t i = 0; i < o->n_triggers; i++)
		trigger_free(o->trigger[i]);
	o->n_triggers = 0;
}

static int parse_line(struct options *o, int argc, char **argv, bool only_config)
{
	struct option longopt[SB_ARRAY_SIZE(settings) + 1] = {};
	const char *config = NULL;
	bool own_triggers = false;
	int i, r;

	for (size_t k = 0; k < SB_ARRAY_SIZE(settings); k++)
		longopt[k] = (struct option){ settings[k].flag,
					      settings[k].metavar ? required_argument : no_argument,
					      NULL, 0 };
	optind = 0;
	opterr = !only_config;
	while ((r = getopt_long(argc, argv, "", longopt, &i)) != -1) {
		if (r != 0) {
			if (only_config)
				continue;
			fprintf(stderr, "try 'stallboxd --help'\n");
			return SB_EXIT_USAGE;
		}
		if (!strcmp(settings[i].flag, "help")) {
			print_help();
			return SB_EXIT_OK;
		}
		if (!strcmp(settings[i].flag, "version")) {
			printf("stallboxd %s\n", SB_VERSION);
			return SB_EXIT_OK;
		}
		if (only_config && !strcmp(settings[i].flag, "config")) {
			if (config)
				return usage_error("--config", "given twice, expected one file");
			config = optarg;
		}
		if (only_config || settings[i].type == T_ACTION)
			continue;
		if (settings[i].type == T_TRIGGER && !own_triggers) {
			own_triggers = true;
			drop_triggers(o); /* those of the file */
		}
		r = apply_flag(o, &settings[i], optarg);
		if (r >= 0)
			return r;
	}
	if (only_config) {
		r = read_config(o, config ? config : DEFAULT_CONFIG, config != NULL);
		return r;
	}
	if (optind < argc)
		return usage_error("unexpected argument", argv[optind]);
	return -1;
}

static int arm_defaults(struct options *o)
{
	char error[256];

	for (size_t i = 0; trigger_defaults[i]; i++) {
		if (add_trigger(o, trigger_defaults[i], error, sizeof(error)) < 0) {
			log_err("default trigger '%s': %s", trigger_defaults[i], error);
			return SB_EXIT_FAILURE;
		}
	}
	return -1;
}

int options_read(struct options *o, int argc, char **argv)
{
	int r;

	set_defaults(o);
	/* The file first, wherever it stands on the command line: flags win. */
	r = parse_line(o, argc, argv, true);
	if (r >= 0)
		return r;
	r = parse_line(o, argc, argv, false);
	if (r >= 0)
		return r;
	if (!o->n_triggers) {
		r = arm_defaults(o);
		if (r >= 0)
			return r;
	}
	note_config(o);
	o->probes = (struct probes_options){
		.memory_bytes = o->memory_bytes,
		.offcpu_threshold_ns = o->threshold_ns,
		.irq_threshold_ns = o->irq_threshold_ns,
		.syscall_threshold_ns = o->syscall_threshold_ns,
		.sample_hz = (uint32_t)o->frequency,
		.bpffs = o->bpffs,
		.pin = o->pin,
	};
	return -1;
}

void options_done(struct options *o)
{
	drop_triggers(o);
}
