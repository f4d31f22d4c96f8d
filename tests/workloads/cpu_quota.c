// SPDX-License-Identifier: BSD-2-Clause
/* A CPU cgroup at its quota: its threads want every CPU and may have a part of one. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/workloads/cgroup.h"
#include "tests/workloads/workload.h"

static const char usage[] =
	"usage: cpu_quota SECONDS PERCENT [THREADS]\n"
	"\n"
	"For SECONDS THREADS threads (default 8) want the CPU in a cgroup that may have PERCENT of one\n"
	"CPU. SIGTERM and SIGINT end it early. Needs the right to make a cgroup with the CPU\n"
	"controller. At the end what the kernel counts, of the cgroup:\n"
	"  pid=P threads=N periods=N throttled=N throttled_ns=NS\n"
	"\n"
	"examples:\n"
	"  cpu_quota 10 30\n";

#define PERIOD_US 100000u
#define V1_MEMORY "/sys/fs/cgroup/memory/cgroup.procs"
#define V1_CPUACCT "/sys/fs/cgroup/cpuacct"

static atomic_bool stop;

static void *spin(void *arg)
{
	while (!stop)
		;
	return arg;
}

/* The number that follows a word at the begin of a line of cpu.stat. */
static unsigned long long stat_of(const char *dir, const char *word)
{
	unsigned long long v, found = 0;
	char path[320], name[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cpu.stat", dir);
	f = fopen(path, "re");
	while (f && fscanf(f, "%63s %llu", name, &v) == 2)
		found = strcmp(name, word) ? found : v;
	if (f)
		fclose(f);
	return found;
}

static int set_quota(const char *dir, bool v1, unsigned int percent)
{
	char text[64];
	int r;

	if (!v1) {
		snprintf(text, sizeof(text), "%u %u", PERIOD_US * percent / 100, PERIOD_US);
		return wl_put(dir, "cpu.max", text);
	}
	snprintf(text, sizeof(text), "%u", PERIOD_US);
	r = wl_put(dir, "cpu.cfs_period_us", text);
	snprintf(text, sizeof(text), "%u", PERIOD_US * percent / 100);
	return r < 0 ? r : wl_put(dir, "cpu.cfs_quota_us", text);
}

WORKLOAD_MAIN(cpu_quota)
{
	static pthread_t thread[WL_MAX_THREADS];
	unsigned int percent, threads = 8;
	struct wl_cgroup cg = {}, memory = {}, acct = { .parent = V1_CPUACCT };
	uint64_t length_ns;
	struct timespec ts;
	char text[32];
	sigset_t set;
	int r;

	check_args(argc, argv, 2, 3, usage);
	length_ns = parse_seconds("SECONDS", argv[1], 86400);
	percent = (unsigned int)parse_number("PERCENT", argv[2], 1, 10000);
	if (argc > 3)
		threads = (unsigned int)parse_number("THREADS", argv[3], 1, WL_MAX_THREADS);
	set = block_signals();
	cg.v1 = access("/sys/fs/cgroup/cpu/cgroup.procs", F_OK) == 0;
	strcpy(cg.parent, cg.v1 ? "/sys/fs/cgroup/cpu" : "/sys/fs/cgroup");
	if (!cg.v1)
		wl_put(cg.parent, "cgroup.subtree_control", "+cpu");
	snprintf(cg.path, sizeof(cg.path), "%s/stallbox-quota.%d", cg.parent, getpid());
	if (mkdir(cg.path, 0755) < 0)
		cannot_run("cannot make the cgroup '%s'", cg.path);
	r = set_quota(cg.path, cg.v1, percent);
	snprintf(text, sizeof(text), "%d", getpid());
	if (r == 0)
		r = wl_put(cg.path, "cgroup.procs", text);
	if (r < 0) {
		rmdir(cg.path);
		errno = -r;
		cannot_run("there is no CPU quota to set for '%s'", cg.path);
	}
	/* As service managers do with v1: a group has the same path for each controller. */
	if (cg.v1 && access(V1_MEMORY, F_OK) == 0 && wl_cgroup_enter(&memory, "stallbox-quota", INT64_MAX) < 0)
		memory.path[0] = '\0';
	snprintf(acct.path, sizeof(acct.path), "%s/stallbox-quota.%d", V1_CPUACCT, getpid());
	if (!cg.v1 || mkdir(acct.path, 0755) < 0) /* there already: one hierarchy with the CPU controller */
		acct.path[0] = '\0';
	else
		wl_put(acct.path, "cgroup.procs", text);
	for (unsigned int i = 0; i < threads; i++) {
		if (pthread_create(&thread[i], NULL, spin, NULL))
			break;
	}
	ts.tv_sec = (time_t)(length_ns / NSEC_PER_SEC);
	ts.tv_nsec = (long)(length_ns % NSEC_PER_SEC);
	sigtimedwait(&set, NULL, &ts);
	stop = true;
	for (unsigned int i = 0; i < threads && thread[i]; i++)
		pthread_join(thread[i], NULL);
	printf("pid=%d threads=%u periods=%llu throttled=%llu throttled_ns=%llu\n", getpid(), threads, stat_of(cg.path, "nr_periods"),
	       stat_of(cg.path, "nr_throttled"), cg.v1 ? stat_of(cg.path, "throttled_time") : stat_of(cg.path, "throttled_usec") * 1000);
	fflush(stdout);
	if (memory.path[0])
		wl_cgroup_leave(&memory);
	if (acct.path[0])
		wl_cgroup_leave(&acct);
	wl_cgroup_leave(&cg);
	return 0;
}
