/* SPDX-License-Identifier: BSD-2-Clause */
/* The subcommands, and what they share. Each takes argv from its own name on and returns an
 * exit code. */
#ifndef SB_TOOLS_COMMANDS_H
#define SB_TOOLS_COMMANDS_H

#include "format/reader.h"
#include "tools/options.h"

int cmd_info(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_fold(int argc, char **argv);
int cmd_flame(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_html(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_order(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_hist(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_blame(int argc, char **argv);
int cmd_series(int argc, char **argv);
int cmd_symbolize(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_freeze(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_triggers(int argc, char **argv);
int cmd_get(int argc, char **argv);
int cmd_delete(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_export_pinned(int argc, char **argv);
int cmd_check_config(int argc, char **argv);
int cmd_show_config(int argc, char **argv);
int cmd_unload(int argc, char **argv);

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

/* All of them; the last one has no name. */
extern const struct command commands[];

#define OPERAND_PATH_MAX 4352 /* of a directory and a name in it */
/* The bundle that an operand names: a file, or what there is of that name, as `list` gives it, where the agent keeps
 * bundles. operand itself, or ret. */
const char *operand_path(const char *operand, char ret[OPERAND_PATH_MAX]);
/* Opens it; prints what is wrong. Returns -1 to go on, or the exit code. */
int open_bundle(const char *path, struct bundle **ret);
/* Opens the one operand, as operand_path() finds it; prints what is wrong. Returns -1 to go on, or the exit code. */
int open_operand(const struct opt_command *cmd, int argc, char **argv, int first,
		 struct bundle **ret);
/* Says on standard error that a bundle is damaged or unfinished, if it is. */
void warn_damage(const struct bundle *b);
/* "1,234 losses ..." in one line, "no losses"; into ret. */
void losses_line(const struct bundle *b, char *ret, size_t len);
/* "-1.234s" of a time against the trigger. */
const char *offset_text(int64_t ns, char ret[32]);

/* What "stallbox report --json" prints, on standard output; path: as the commands in it name the
 * bundle. 0 or a negative errno, and then nothing has been printed. */
int report_json(struct bundle *b, const char *path);

#endif
