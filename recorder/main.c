// SPDX-License-Identifier: BSD-2-Clause
/* stallboxd: the agent's program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "format/log.h"
#include "recorder/agent.h"
#include "recorder/doctor.h"
#include "recorder/orphan.h"
#include "recorder/retention.h"

/* Without --foreground the parent stays until the agent records or has failed, so that its
 * exit status says which. */
static int run_in_background(struct options *o)
{
	int ready[2], status;
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return log_errno(-errno, "cannot create a pipe"), SB_EXIT_FAILURE;
	pid = fork();
	if (pid < 0)
		return log_errno(-errno, "cannot fork"), SB_EXIT_FAILURE;
	if (pid == 0) {
		setsid();
		return agent_run(o, ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) == 1)
		return SB_EXIT_OK;
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
		return WEXITSTATUS(status);
	return SB_EXIT_FAILURE;
}

static int unload(const struct options *o)
{
	uint32_t owner = probes_owner(o->config.recorder.bpffs);
	int n;

	if (owner) {
		log_err("stallboxd (pid %u) records with what is pinned below %s/stallbox", owner, o->config.recorder.bpffs);
		log_hint("end it first: kill %u", owner);
		return SB_EXIT_FAILURE;
	}
	n = probes_unpin(o->config.recorder.bpffs);
	if (n < 0)
		return log_errno(n, "cannot remove what is pinned below %s/stallbox", o->config.recorder.bpffs),
		       SB_EXIT_FAILURE;
	log_info("%d pinned objects removed", n);
	return SB_EXIT_OK;
}

static int export_pinned(struct options *o)
{
	struct storage st = { .limits = o->spool.limits };
	char path[BUNDLE_FILE_MAX + 256];
	int r = orphan_export(o, path, sizeof(path));

	if (r < 0)
		return r == -ENOENT ? SB_EXIT_NOT_FOUND : SB_EXIT_FAILURE;
	printf("path=%s\n", path);
	fflush(stdout);
	retention_enforce(&o->spool, 0, &st); /* no agent, whose keeper would do it; the disk may hang */
	return SB_EXIT_OK;
}

/* Every CPU has some events, and every file of a process in a bundle is opened for its names: the usual 1,024 are
 * few. */
static void allow_many_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		log_warn("cannot have more open files than now: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	static struct options o;
	int r = options_read(&o, argc, argv);

	allow_many_files();
	if (r < 0) {
		if (o.verbose)
			log_set_level(LOG_LEVEL_DEBUG);
		if (o.unload)
			r = unload(&o);
		else if (o.export_pinned)
			r = export_pinned(&o);
		else if (o.doctor || o.doctor_json)
			r = doctor(&o, o.doctor_json);
		else if (o.list)
			r = agent_list_features(&o);
		else
			r = o.foreground ? agent_run(&o, -1) : run_in_background(&o);
	}
	options_done(&o);
	return r;
}
