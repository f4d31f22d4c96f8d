// SPDX-License-Identifier: BSD-2-Clause
/* stallbox export-pinned, unload and doctor: what is pinned in the kernel while no agent runs, and what keeps one from
 * running. stallboxd knows how; it is looked for beside this program first, so that both are of one build. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/client.h"
#include "tools/commands.h"

static const struct opt_command export_command = {
	"export-pinned", "", "Write the bank that the kernel froze while no agent ran into a bundle.",
	{ "stallbox export-pinned", "stallbox export-pinned --spool /root/bundles" },
};
static const struct opt_command unload_command = {
	"unload", "", "End the recording: remove everything pinned in the kernel.",
	{ "stallbox unload", "stallbox unload --bpffs /run/stallbox/bpf" },
};

static const struct opt_command doctor_command = {
	"doctor", "", "Say what is missing on this host, what that costs in evidence and how to get it.",
	{ "sudo stallbox doctor", "sudo stallbox doctor --json | jq '.checks[] | select(.state != \"ok\")'" },
};

/* Only returns on failure. */
static int run_agent(char *const *args)
{
	static const char *const beside[] = { "stallboxd", "../sbin/stallboxd" };
	char self[PATH_MAX], path[PATH_MAX + 32], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < SB_ARRAY_SIZE(beside); i++) {
		snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self), self, beside[i]);
		execv(path, args);
	}
	execvp("stallboxd", args);
	fprintf(stderr, "error: cannot run stallboxd: %s\nhint: install it beside stallbox, or in PATH\n",
		strerror(errno));
	return SB_EXIT_NOT_FOUND;
}

/* Those that were given, as stallboxd's of the same name. Returns how many arguments there are then. */
static int add_options(char **args, int n, const struct opt *opts)
{
	static const struct {
		const char *name, *flag;
	} flags[] = { { "bpffs", "--bpffs" }, { "spool", "--spool" }, { "config", "--config" }, { "socket", "--socket" } };

	for (; opts->name; opts++) {
		for (size_t i = 0; i < SB_ARRAY_SIZE(flags); i++) {
			if (strcmp(opts->name, flags[i].name) || !*(const char **)opts->value)
				continue;
			args[n++] = (char *)flags[i].flag;
			args[n++] = *(char **)opts->value;
		}
	}
	return n;
}

int cmd_unload(int argc, char **argv)
{
	const char *bpffs = "/sys/fs/bpf";
	int first, r;
	const struct opt opts[] = {
		{ "bpffs", "DIR", OPT_TEXT, &bpffs, "where bpffs is mounted (default /sys/fs/bpf)" },
		{}
	};

	r = opt_parse(&unload_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(&unload_command, "unexpected argument '%s'", argv[first]);
	return run_agent((char *[]){ "stallboxd", "--unload", "--bpffs", (char *)bpffs, NULL });
}

int cmd_export_pinned(int argc, char **argv)
{
	const char *bpffs = NULL, *spool = NULL, *config = NULL;
	char *args[9] = { "stallboxd", "--export-pinned" };
	int first, r, n = 2;
	const struct opt opts[] = {
		{ "bpffs", "DIR", OPT_TEXT, &bpffs, "where bpffs is mounted (default /sys/fs/bpf)" },
		{ "spool", "DIR", OPT_TEXT, &spool, "where the bundle goes (default: where stallboxd's go)" },
		{ "config", "FILE", OPT_TEXT, &config, "stallboxd's configuration file" },
		{}
	};

	r = opt_parse(&export_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(&export_command, "unexpected argument '%s'", argv[first]);
	n = add_options(args, n, opts);
	args[n] = NULL;
	return run_agent(args);
}

int cmd_doctor(int argc, char **argv)
{
	const char *bpffs = NULL, *spool = NULL, *config = NULL, *socket = NULL;
	char *args[12] = { "stallboxd", "--doctor" };
	bool json = false;
	int first, r, n;
	const struct opt opts[] = {
		{ "json", NULL, OPT_FLAG, &json, "one JSON object" },
		{ "bpffs", "DIR", OPT_TEXT, &bpffs, "where bpffs is mounted (default /sys/fs/bpf)" },
		{ "spool", "DIR", OPT_TEXT, &spool, "where bundles go (default: where stallboxd's go)" },
		{ "config", "FILE", OPT_TEXT, &config, "stallboxd's configuration file" },
		CLIENT_SOCKET_OPT(&socket),
		{}
	};

	r = opt_parse(&doctor_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(&doctor_command, "unexpected argument '%s'", argv[first]);
	args[1] = json ? "--doctor-json" : "--doctor";
	n = add_options(args, 2, opts);
	args[n] = NULL;
	return run_agent(args);
}
