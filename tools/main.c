// SPDX-License-Identifier: BSD-2-Clause
/* stallbox: the command that people type. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "tools/commands.h"

const struct command commands[] = {
	{ "info", cmd_info, "what fired and why, what a bundle holds and lost" },
	{ "report", cmd_report, "what most likely happened, with its evidence" },
	{ "list", cmd_list, "the bundles that there are" },
	{ "get", cmd_get, "copy one of them" },
	{ "delete", cmd_delete, "delete some of them" },
	{ "flame", cmd_flame, "flame graph as one SVG file" },
	{ "diff", cmd_diff, "flame graph of what changed: at the trigger, or between two bundles" },
	{ "fold", cmd_fold, "collapsed stacks" },
	{ "html", cmd_html, "everything in one HTML page, with charts, a heat map and flame graphs" },
	{ "export", cmd_export, "pprof, speedscope, Firefox Profiler, Perfetto, perf script, NDJSON" },
	{ "events", cmd_events, "every event in time order" },
	{ "order", cmd_order, "one line per sample, CPU by CPU; what ran before something did" },
	{ "top", cmd_top, "who used and waited for what, before and after the trigger" },
	{ "hist", cmd_hist, "histograms: reclaim, mmap_lock, off-CPU, run queue, calls, softirqs" },
	{ "blame", cmd_blame, "who waited for which lock at the freeze, and who held it" },
	{ "series", cmd_series, "what the host's counters did in the minutes before" },
	{ "symbolize", cmd_symbolize, "add names that the recording host did not have" },
	{ "verify", cmd_verify, "is a bundle whole?" },
	{ "recover", cmd_recover, "what is whole of a damaged bundle" },
	{ "freeze", cmd_freeze, "ask the agent for a bundle now" },
	{ "status", cmd_status, "what the agent records, lost and costs" },
	{ "triggers", cmd_triggers, "what the triggers see, and why they do not fire" },
	{ "doctor", cmd_doctor, "what keeps this host from recording, and what that costs" },
	{ "export-pinned", cmd_export_pinned, "write what the kernel froze while no agent ran" },
	{ "check-config", cmd_check_config, "is the configuration right? every error at once" },
	{ "show-config", cmd_show_config, "every setting of the configuration, and where it comes from" },
	{ "unload", cmd_unload, "end the recording: nothing stays in the kernel" },
	{ "completion", cmd_completion, "complete this command's words in bash or zsh" },
	{}
};

static void print_help(FILE *f)
{
	fprintf(f, "Usage: stallbox COMMAND [OPTIONS] ...\n"
		"Reads bundles of stallboxd, on any machine; talks to the agent of this one.\n\n");
	for (size_t i = 0; commands[i].name; i++)
		fprintf(f, "  %-15s%s\n", commands[i].name, commands[i].help);
	fprintf(f, "\n'stallbox COMMAND --help' says more.\n\nExamples:\n"
		"  stallbox info X.stall.pb.zst\n  stallbox flame --kind off-cpu -o x.svg X.stall.pb.zst\n");
}

/* A full disk must not look like success. A reader that has seen enough is none of our trouble:
 * SIGPIPE ends us quietly. */
static int finish(int code)
{
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "error: cannot write the output: %s\n", strerror(errno));
		return SB_EXIT_FAILURE;
	}
	return code;
}

/* "help flame" is "flame --help". */
static void help_of_command(char **argv)
{
	argv[1] = argv[2];
	argv[2] = "--help";
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "help") && argv[2][0] != '-')
		help_of_command(argv);
	if (argc < 2) {
		print_help(stderr);
		return SB_EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return finish(SB_EXIT_OK);
	}
	if (!strcmp(argv[1], "--version")) {
		printf("stallbox %s\n", SB_VERSION);
		return finish(SB_EXIT_OK);
	}
	for (size_t i = 0; commands[i].name; i++) {
		if (!strcmp(argv[1], commands[i].name))
			return finish(commands[i].run(argc - 1, argv + 1));
	}
	fprintf(stderr, "error: unknown command '%s'\ntry 'stallbox --help'\n", argv[1]);
	return SB_EXIT_USAGE;
}
