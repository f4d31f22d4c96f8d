/* SPDX-License-Identifier: BSD-2-Clause */
/* Every subcommand that reads a bundle, called as a function: for fuzzing and for flips. */
#ifndef SB_TESTS_HELPERS_VIEWS_H
#define SB_TESTS_HELPERS_VIEWS_H

#include "tools/commands.h"

#define VIEW_WORDS 6

/* "@": the bundle. What writes a file writes to /dev/null. */
static const struct view {
	int (*run)(int argc, char **argv);
	const char *word[VIEW_WORDS];
} views[] = {
	{ cmd_info, { "info", "@" } },
	{ cmd_info, { "info", "--json", "@" } },
	{ cmd_report, { "report", "@" } },
	{ cmd_report, { "report", "--json", "@" } },
	{ cmd_flame, { "flame", "@" } },
	{ cmd_flame, { "flame", "--kind", "blocked", "@" } },
	{ cmd_diff, { "diff", "@" } },
	{ cmd_diff, { "diff", "@", "@" } },
	{ cmd_fold, { "fold", "@" } },
	{ cmd_fold, { "fold", "--kind", "off-cpu", "@" } },
	{ cmd_html, { "html", "-o", "/dev/null", "@" } },
	{ cmd_export, { "export", "--format", "folded", "@" } },
	{ cmd_export, { "export", "--format", "pprof", "@" } },
	{ cmd_export, { "export", "--format", "speedscope", "@" } },
	{ cmd_export, { "export", "--format", "firefox", "@" } },
	{ cmd_export, { "export", "--format", "perfetto", "@" } },
	{ cmd_export, { "export", "--format", "perf-script", "@" } },
	{ cmd_export, { "export", "--format", "ndjson", "@" } },
	{ cmd_events, { "events", "@" } },
	{ cmd_events, { "events", "--json", "@" } },
	{ cmd_order, { "order", "@" } },
	{ cmd_order, { "order", "--before", "a", "@" } },
	{ cmd_top, { "top", "@" } },
	{ cmd_top, { "top", "--json", "@" } },
	{ cmd_hist, { "hist", "offcpu", "@" } },
	{ cmd_hist, { "hist", "reclaim", "@" } },
	{ cmd_hist, { "hist", "--json", "syscall", "@" } },
	{ cmd_blame, { "blame", "@" } },
	{ cmd_blame, { "blame", "--json", "@" } },
	{ cmd_series, { "series", "--values", "@" } },
	{ cmd_series, { "series", "--json", "@" } },
	{ cmd_verify, { "verify", "@" } },
	{ cmd_verify, { "verify", "--json", "@" } },
	{ cmd_recover, { "recover", "-o", "/dev/null", "@" } },
	{ cmd_symbolize, { "symbolize", "--names-only", "-o", "/dev/null", "@" } },
};

/* Its exit code. What it prints and says goes nowhere. */
static inline int view_run(const struct view *v, const char *bundle)
{
	FILE *const out = stdout, *const err = stderr;
	static FILE *null;
	char *argv[VIEW_WORDS + 1] = {};
	int argc = 0, r;

	if (!null)
		null = fopen("/dev/null", "we");
	if (!null)
		return -errno;

	for (; argc < VIEW_WORDS && v->word[argc]; argc++)
		argv[argc] = (char *)(uintptr_t)(strcmp(v->word[argc], "@") ? v->word[argc] : bundle);
	stdout = stderr = null;
	r = v->run(argc, argv);
	stdout = out;
	stderr = err;
	return r;
}

#endif
