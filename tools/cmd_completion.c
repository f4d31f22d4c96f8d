// SPDX-License-Identifier: BSD-2-Clause
/* stallbox completion: scripts for bash and zsh, made of the tables that parse the options. */
#include <stdio.h>

#include "format/file_name.h"
#include "tools/commands.h"

static const struct opt_command command = {
	"completion", "bash|zsh", "Print the script that completes this command's words in a shell.",
	{ "stallbox completion bash > /usr/share/bash-completion/completions/stallbox",
	  "stallbox completion zsh > /usr/local/share/zsh/site-functions/_stallbox" },
};

static const struct opt no_options[] = { {} };

/* Where bundles are. The agent knows better, but is not to be asked at every key. */
#define PLACES "stallbox show-config 2>/dev/null | sed -nE 's/^(Directory|Fallback)=(.*[^ ])  .*/\\2/p'"

/* What a value or an operand is, by what stands for it in the help. */
enum what { NOTHING, A_FILE, A_DIRECTORY, A_NAME, WORDS };

static enum what what_is(const char *metavar)
{
	if (!strncmp(metavar, "BUNDLE", 6) || !strncmp(metavar, "FILE", 4) || !strcmp(metavar, "PATH"))
		return A_FILE;
	if (!strcmp(metavar, "DIR") || !strcmp(metavar, "[DIR]"))
		return A_DIRECTORY;
	return strchr(metavar, '|') ? WORDS : NOTHING;
}

/* The NAME of an option is a thread's or a function's. */
static enum what operand_is(const char *args)
{
	return !strncmp(args, "NAME", 4) ? A_NAME : what_is(args);
}

static void each_command(void (*print)(const struct opt_command *, const struct opt *))
{
	opt_on_help(print);
	for (size_t i = 0; commands[i].name; i++) {
		char *args[] = { (char *)commands[i].name, "--help", NULL };

		commands[i].run(2, args);
	}
	opt_on_help(NULL);
}

static void print_words(const char *s)
{
	for (; *s; s++)
		putchar(*s == '|' ? ' ' : *s);
}

/* ---- bash ---------------------------------------------------------------------------- */

static void bash_values(const struct opt *opts, enum what w, const char *name)
{
	bool any = false;

	printf(" %s='", name);
	for (; opts->name; opts++) {
		if (opts->metavar && what_is(opts->metavar) == w) {
			printf("%s--%s", any ? " " : "", opts->name);
			any = true;
		}
	}
	printf("'");
}

static void bash_command(const struct opt_command *cmd, const struct opt *opts)
{
	static const char *const operand[] = { [NOTHING] = "", [A_FILE] = "file", [A_DIRECTORY] = "dir",
					       [A_NAME] = "name", [WORDS] = "" };
	enum what w = operand_is(cmd->args);
	bool any = false;

	printf("\t%s) options='", cmd->name);
	for (const struct opt *o = opts; o->name; o++)
		printf("--%s ", o->name);
	printf("--help'");
	bash_values(opts, A_FILE, "files");
	bash_values(opts, A_DIRECTORY, "dirs");
	printf(" other='");
	for (; opts->name; opts++) {
		if (opts->metavar && what_is(opts->metavar) == NOTHING) {
			printf("%s--%s", any ? " " : "", opts->name);
			any = true;
		}
	}
	printf("' operand='%s' words='", operand[w]);
	if (w == WORDS)
		print_words(cmd->args);
	printf("' ;;\n");
}

static void print_bash(void)
{
	printf("# bash completion for stallbox; printed by 'stallbox completion bash'\n"
	       "_stallbox_names() {\n"
	       "\tlocal d f\n"
	       "\twhile IFS= read -r d; do\n"
	       "\t\tfor f in \"$d\"/*" BUNDLE_SUFFIX "; do\n"
	       "\t\t\t[ -e \"$f\" ] && printf '%%s\\n' \"${f##*/}\"\n"
	       "\t\tdone\n"
	       "\tdone < <(" PLACES ")\n"
	       "}\n"
	       "_stallbox() {\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	       "\tlocal options='' files='' dirs='' other='' operand='' words=''\n"
	       "\tCOMPREPLY=()\n"
	       "\tif [ \"$COMP_CWORD\" = 1 ]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W '");
	for (size_t i = 0; commands[i].name; i++)
		printf("%s ", commands[i].name);
	printf("help --help --version' -- \"$cur\")\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tcase ${COMP_WORDS[1]} in\n"
	       "\thelp) words='");
	for (size_t i = 0; commands[i].name; i++)
		printf("%s%s", i ? " " : "", commands[i].name);
	printf("' ;;\n");
	each_command(bash_command);
	printf("\t*) return ;;\n"
	       "\tesac\n"
	       "\tcase \" $other \" in *\" $prev \"*) return ;; esac\n"
	       "\tcase \" $files \" in *\" $prev \"*) operand=file options='' ;; esac\n"
	       "\tcase \" $dirs \" in *\" $prev \"*) operand=dir options='' ;; esac\n"
	       "\tif [[ $cur == -* && $options ]]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tcase $operand in\n"
	       "\tfile) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") && compopt -o filenames 2>/dev/null ;;\n"
	       "\tdir) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") && compopt -o filenames 2>/dev/null ;;\n"
	       "\tname) mapfile -t COMPREPLY < <(compgen -W \"$(_stallbox_names)\" -- \"$cur\") ;;\n"
	       "\t*) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
	       "\tesac\n"
	       "}\n"
	       "complete -F _stallbox stallbox\n");
}

/* ---- zsh ----------------------------------------------------------------------------- */

/* Within single quotes, where _arguments and _describe give brackets and colons a meaning. */
static void zsh_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			printf("'\\''");
		else if (strchr("[]:\\", *s))
			printf("\\%c", *s);
		else
			putchar(*s);
	}
}

static void zsh_action(const char *metavar, enum what w)
{
	putchar(':');
	zsh_text(metavar);
	putchar(':');
	switch (w) {
	case A_FILE:
		printf("_files");
		break;
	case A_DIRECTORY:
		printf("_files -/");
		break;
	case A_NAME:
		printf("_stallbox_names");
		break;
	case WORDS:
		putchar('(');
		print_words(metavar);
		putchar(')');
		break;
	case NOTHING:
		putchar(' ');
	}
}

static void zsh_command(const struct opt_command *cmd, const struct opt *opts)
{
	printf("\t%s)\n\t\t_arguments", cmd->name);
	for (; opts->name; opts++) {
		printf(" \\\n\t\t\t'--%s[", opts->name);
		zsh_text(opts->help);
		putchar(']');
		if (opts->metavar)
			zsh_action(opts->metavar, what_is(opts->metavar));
		putchar('\'');
	}
	printf(" \\\n\t\t\t'--help[print this text]'");
	if (cmd->args[0]) {
		printf(" \\\n\t\t\t'*");
		zsh_action(cmd->args, operand_is(cmd->args));
		putchar('\'');
	}
	printf("\n\t\t;;\n");
}

static void print_zsh(void)
{
	printf("#compdef stallbox\n"
	       "# zsh completion for stallbox; printed by 'stallbox completion zsh'\n"
	       "_stallbox_names() {\n"
	       "\tlocal -a names\n"
	       "\tlocal d\n"
	       "\tfor d in ${(f)\"$(" PLACES ")\"}; do\n"
	       "\t\tnames+=($d/*" BUNDLE_SUFFIX "(N:t))\n"
	       "\tdone\n"
	       "\tcompadd -a names\n"
	       "}\n"
	       "_stallbox() {\n"
	       "\tlocal -a commands\n"
	       "\tcommands=(\n");
	for (size_t i = 0; commands[i].name; i++) {
		printf("\t\t'%s:", commands[i].name);
		zsh_text(commands[i].help);
		printf("'\n");
	}
	printf("\t)\n"
	       "\tif ((CURRENT == 2)); then\n"
	       "\t\t_describe -t commands command commands\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tshift words\n"
	       "\t((CURRENT--))\n"
	       "\tcase $words[1] in\n");
	each_command(zsh_command);
	printf("\thelp) _describe -t commands command commands ;;\n"
	       "\tesac\n"
	       "}\n"
	       "_stallbox \"$@\"\n");
}

int cmd_completion(int argc, char **argv)
{
	int first, r = opt_parse(&command, no_options, argc, argv, &first);

	if (r >= 0)
		return r;
	if (first + 1 != argc)
		return opt_usage(&command, "expected one of bash and zsh%s", "");
	if (!strcmp(argv[first], "bash"))
		print_bash();
	else if (!strcmp(argv[first], "zsh"))
		print_zsh();
	else
		return opt_usage(&command, "unknown shell '%s', expected bash or zsh", argv[first]);
	return SB_EXIT_OK;
}
