/* SPDX-License-Identifier: BSD-2-Clause */
/* Options of the subcommands: one table per subcommand parses and prints its own help. */
#ifndef SB_TOOLS_OPTIONS_H
#define SB_TOOLS_OPTIONS_H

#include "format/base.h"

enum opt_type {
	OPT_FLAG,   /* bool * */
	OPT_TEXT,   /* const char ** */
	OPT_NUMBER, /* uint64_t * */
	OPT_OFFSET, /* struct opt_offset *: time relative to the trigger */
};

struct opt_offset {
	bool set;
	int64_t ns;
};

struct opt {
	const char *name, *metavar;
	enum opt_type type;
	void *value;
	const char *help;
};

struct opt_command {
	const char *name, *args, *summary;
	const char *examples[2];
};

/* Parses argv; operands move to argv[*ret_first ...]. Returns -1 to go on, or the exit code
 * after --help or a usage error (printed). opts end with a NULL name. */
int opt_parse(const struct opt_command *cmd, const struct opt *opts, int argc, char **argv,
	      int *ret_first);
/* Instead of printing its help, opt_parse() hands --help's table to fn; NULL: prints again. */
void opt_on_help(void (*fn)(const struct opt_command *cmd, const struct opt *opts));
/* "error: what" and "try ..." on standard error; returns SB_EXIT_USAGE. */
int opt_usage(const struct opt_command *cmd, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
