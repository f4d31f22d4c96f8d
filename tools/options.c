// SPDX-License-Identifier: BSD-2-Clause
#include "tools/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

#define MAX_OPTIONS 32

int opt_usage(const struct opt_command *cmd, const char *fmt, ...)
{
	va_list ap;

	fputs("error: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\ntry 'stallbox %s --help'\n", cmd->name);
	return SB_EXIT_USAGE;
}

static void print_help(const struct opt_command *cmd, const struct opt *opts);
static void (*on_help)(const struct opt_command *cmd, const struct opt *opts) = print_help;

void opt_on_help(void (*fn)(const struct opt_command *cmd, const struct opt *opts))
{
	on_help = fn ? fn : print_help;
}

static void print_help(const struct opt_command *cmd, const struct opt *opts)
{
	printf("Usage: stallbox %s [OPTIONS] %s\n%s\n\n", cmd->name, cmd->args, cmd->summary);
	for (; opts->name; opts++) {
		char left[40];

		snprintf(left, sizeof(left), "--%s%s%s", opts->name, opts->metavar ? " " : "",
			 opts->metavar ? opts->metavar : "");
		printf("  %-18s  %s\n", left, opts->help);
	}
	printf("  %-18s  %s\n", "--help", "print this text");
	printf("\nExamples:\n  %s\n  %s\n", cmd->examples[0], cmd->examples[1]);
}

/* "-10s", "0", "+500ms", "1.5s" relative to the trigger. */
static int parse_offset(const char *s, struct opt_offset *ret)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 } };
	char *end;
	double v = strtod(s, &end);

	if (end == s)
		return -EINVAL;
	if (!*end && v == 0) {
		*ret = (struct opt_offset){ true, 0 };
		return 0;
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit) || v * units[i].ns > 9e18 || v * units[i].ns < -9e18)
			continue;
		*ret = (struct opt_offset){ true, (int64_t)(v * units[i].ns) };
		return 0;
	}
	return -EINVAL;
}

static int set_option(const struct opt_command *cmd, const struct opt *o, const char *arg)
{
	char *end;

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)o->value = true;
		return -1;
	case OPT_TEXT:
		*(const char **)o->value = arg;
		return -1;
	case OPT_NUMBER:
		errno = 0;
		*(uint64_t *)o->value = strtoull(arg, &end, 10);
		if (errno || *end || !isdigit((unsigned char)*arg))
			return opt_usage(cmd, "--%s '%s': expected a number", o->name, arg);
		return -1;
	case OPT_OFFSET:
		if (parse_offset(arg, o->value) < 0)
			return opt_usage(cmd, "--%s '%s': expected a time relative to the trigger, such "
					 "as -10s, 0 or 500ms", o->name, arg);
		return -1;
	}
	return -1;
}

int opt_parse(const struct opt_command *cmd, const struct opt *opts, int argc, char **argv,
	      int *ret_first)
{
	struct option longopt[MAX_OPTIONS + 2] = {};
	int n = 0, i, r;

	for (; opts[n].name && n < MAX_OPTIONS; n++)
		longopt[n] = (struct option){ opts[n].name, opts[n].metavar ? required_argument :
					      no_argument, NULL, 0 };
	longopt[n] = (struct option){ "help", no_argument, NULL, 1 };
	optind = 0;
	opterr = 0;
	while ((r = getopt_long(argc, argv, ":o:r:", longopt, &i)) != -1) {
		if (r == 'o' || r == 'r') { /* the short forms people type */
			for (i = 0; opts[i].name && (opts[i].name[0] != r || !opts[i].metavar); i++)
				;
			if (!opts[i].name)
				return opt_usage(cmd, "unknown option '-%c'", r);
			r = 0;
		}
		if (r == 1) {
			on_help(cmd, opts);
			return SB_EXIT_OK;
		}
		if (r == ':')
			return opt_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
		if (r == '?')
			return opt_usage(cmd, "unknown option '%s'", argv[optind - 1]);
		r = set_option(cmd, &opts[i], optarg);
		if (r >= 0)
			return r;
	}
	*ret_first = optind;
	return -1;
}
