// SPDX-License-Identifier: BSD-2-Clause
/*
 * Takes a recorder off this host and puts it back, many times, while everything that it knows and has recorded stays:
 * what `make bench` measures against each other is the host with and without it.
 *
 *   recswitch BPFFS         while no agent runs; "ready" on stdout, and an agent may take over
 *   on AGENT | off AGENT    lines on stdin, each answered by the milliseconds that it took; the agent leads a process group
 *
 * Off means off: links and sampling events are closed, tracepoints that nobody else uses are patched out again, perf
 * events of the agent's processes are disabled, and these are stopped. An agent that has loaded the programs holds
 * their links; one that takes over holds those of optional programs alone, and not even these where it finds them
 * detached (see recorder/probes_switch.c). That is why there have to be two.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recorder/probes_impl.h"

static struct probes p;
static struct {
	char name[48];
	int fd;
	bool attached;
} program[PROBES_MAX_PROGRAMS];
static size_t n_programs;
static int sample_fd, state_fd, inflight_fd;
static bool sampling = true;
static struct sb_cpu *cpus_map;
static uint64_t off_since_ns;

static void die(const char *what, int r)
{
	fprintf(stderr, "recswitch: %s: %s\n", what, strerror(-r));
	exit(1);
}

/* Of a CPU that is possible and not online there is no sampler. */
static bool in_use(const char *pin)
{
	int fd = pins_get(&p, pin);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static struct bpf_link_info link_info(const char *pin)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	int fd = pins_get(&p, pin);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		die(pin, -errno);
	close(fd);
	return info;
}

static int map_of(int prog, const char *name)
{
	struct bpf_prog_info info = {};
	uint32_t ids[64], len = sizeof(info);

	info.nr_map_ids = SB_ARRAY_SIZE(ids);
	info.map_ids = (uint64_t)(uintptr_t)ids;
	if (bpf_obj_get_info_by_fd(prog, &info, &len) < 0)
		return -errno;
	for (uint32_t i = 0; i < SB_MIN(info.nr_map_ids, (uint32_t)SB_ARRAY_SIZE(ids)); i++) {
		struct bpf_map_info map = {};
		int fd = bpf_map_get_fd_by_id(ids[i]);

		len = sizeof(map);
		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &map, &len) == 0 && !strcmp(map.name, name))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -ENOENT;
}

/* The links of all programs but the iterator, which hangs on nothing. */
static void find_programs(void)
{
	DIR *d = opendir(p.pin_dir);
	struct dirent *e;

	if (!d)
		die(p.pin_dir, -errno);
	while ((e = readdir(d))) {
		const char *name = e->d_name + 5;

		if (strncmp(e->d_name, "link_", 5) || !strncmp(name, "sample_", 7) || !strcmp(name, "stackshot"))
			continue;
		if (n_programs == SB_ARRAY_SIZE(program))
			die(e->d_name, -E2BIG);
		snprintf(program[n_programs].name, sizeof(program[0].name), "%s", name);
		program[n_programs].fd = bpf_prog_get_fd_by_id(link_info(e->d_name).prog_id);
		if (program[n_programs].fd < 0)
			die(e->d_name, -errno);
		program[n_programs++].attached = true;
	}
	closedir(d);
}

/* Its number, for gone(). */
static uint32_t unpin(const char *pin)
{
	uint32_t id = link_info(pin).id;

	pins_remove(&p, "", pin);
	return id;
}

/* The kernel frees a link some time after its last holder has let go: on a busy host up to a minute. */
static void gone(uint32_t link)
{
	uint64_t end = sb_monotonic_ns() + 90 * NSEC_PER_SEC;
	int fd;

	while ((fd = bpf_link_get_fd_by_id(link)) >= 0 || errno == EAGAIN) {
		if (fd >= 0)
			close(fd);
		if (sb_monotonic_ns() > end) {
			fprintf(stderr, "recswitch: link %u stays attached: somebody else holds it\n", link);
			exit(1);
		}
		usleep(1000);
	}
}

/* As the recorder leaves an optional program that it does without: an agent that takes over does not attach it. */
static void set_aside(size_t i)
{
	char name[64];
	int r;

	snprintf(name, sizeof(name), "limited_%s", program[i].name);
	r = pins_put(&p, name, program[i].fd);
	if (r < 0)
		die(name, r);
	snprintf(name, sizeof(name), "link_%s", program[i].name);
	gone(unpin(name));
	program[i].attached = false;
}

/* Of one process: what it was told of mappings, it is not told, or is again. */
static void set_events(pid_t pid, unsigned long request)
{
	char path[288], target[64];
	struct dirent *e;
	int pidfd;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	while (d && (e = readdir(d))) {
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		if (strcmp(target, "anon_inode:[perf_event]"))
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(e->d_name), 0);
		if (fd < 0 && (errno == ESRCH || errno == EBADF))
			continue; /* it has ended, or closed it */
		if (fd < 0 || ioctl(fd, request, 0) < 0)
			die(path, -errno);
		close(fd);
	}
	if (d)
		closedir(d);
	if (pidfd >= 0)
		close(pidfd);
}

static void set_agent(pid_t agent, unsigned long request)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		pid_t pid = atoi(e->d_name);

		if (pid > 0 && getpgid(pid) == agent)
			set_events(pid, request);
	}
	if (d)
		closedir(d);
	if (kill(-agent, request == PERF_EVENT_IOC_ENABLE ? SIGCONT : SIGSTOP) < 0)
		die("cannot stop the agent", -errno);
}

static void detach_all(void)
{
	uint32_t link[PROBES_MAX_PROGRAMS + PROBES_MAX_CPUS];
	size_t n = 0;
	char name[64];

	for (size_t i = 0; i < n_programs; i++) {
		snprintf(name, sizeof(name), "link_%s", program[i].name);
		if (program[i].attached)
			link[n++] = unpin(name);
		program[i].attached = false;
	}
	for (uint32_t cpu = 0; cpu < p.cfg.cpus && sampling; cpu++) {
		snprintf(name, sizeof(name), "link_sample_%u", cpu);
		if (in_use(name))
			link[n++] = unpin(name);
	}
	sampling = false;
	for (size_t i = 0; i < n; i++)
		gone(link[i]);
	off_since_ns = sb_monotonic_ns();
}

/* Whatever waited when the programs were taken off may have stopped since. They would say that it waits for ever. */
static void forget_waits(void)
{
	static struct sb_task_state t[SB_TASKS];
	static const struct sb_inflight_table none;
	uint32_t out = 0, n = SB_TASKS;
	static uint32_t key[SB_TASKS];

	if (bpf_map_lookup_batch(state_fd, NULL, &out, key, t, &n, NULL) < 0 && errno != ENOENT)
		die("cannot read task_state", -errno);
	for (uint32_t i = 0; i < n; i++) {
		t[i].flags = 0;
		t[i].lock = t[i].reclaim_start_ns = 0;
	}
	if (bpf_map_update_batch(state_fd, key, t, &n, NULL) < 0)
		die("cannot write task_state", -errno);
	for (uint32_t i = 0; i < 2; i++) {
		if (bpf_map_update_elem(inflight_fd, &i, &none, 0) < 0)
			die("cannot write inflight", -errno);
	}
	p.control->nr_blocked = p.control->nr_lock_waits = 0;
}

/* What CPUs pay stacks and records with, they save up. A recorder that goes on all the time has not done so while this one
 * was off. */
static void save_up_nothing(void)
{
	uint64_t off = off_since_ns ? sb_monotonic_ns() - off_since_ns : 0;

	for (uint32_t cpu = 0; cpu < p.cfg.cpus; cpu++) {
		struct sb_cpu *c = &cpus_map[cpu];

		for (size_t i = 0; i < SB_ARRAY_SIZE(c->ust_refilled_ns); i++)
			c->ust_refilled_ns[i] += off;
		c->long_refilled_ns += off;
	}
}

static void attach_all(void)
{
	char name[64], err[256];

	forget_waits();
	save_up_nothing();
	for (size_t i = 0; i < n_programs; i++) {
		int link = program[i].attached ? -1 : bpf_raw_tracepoint_open(NULL, program[i].fd), r;

		if (program[i].attached)
			continue;
		snprintf(name, sizeof(name), "link_%s", program[i].name);
		r = link < 0 ? -errno : pins_put(&p, name, link);
		if (r < 0)
			die(name, r);
		close(link);
		program[i].attached = true;
	}
	if (sampling)
		return;
	if (samplers_attach(&p, sample_fd, err, sizeof(err)) < 0)
		die(err, -EIO);
	sampling = true;
}

int main(int argc, char **argv)
{
	const struct probes_options defaults = { .sample_hz = 99 };
	char line[32];
	int control, cpus = -ENOENT;

	if (argc != 2) {
		fprintf(stderr, "usage: recswitch BPFFS\n");
		return 2;
	}
	probes_init(&p, argv[1], true);
	p.cfg = probes_wanted_config(&defaults, (uint32_t)libbpf_num_possible_cpus());
	control = pins_get(&p, "control");
	p.control = control < 0 ? NULL : probes_map(control, sizeof(*p.control), PROT_READ | PROT_WRITE);
	if (!p.control)
		die("no recorder is pinned there", -ENOENT);
	find_programs();
	sample_fd = pins_get(&p, "prog_sample");
	for (size_t i = 0; i < n_programs; i++) {
		if (programs_is_optional(program[i].name))
			set_aside(i);
		if (!strcmp(program[i].name, "sched_switch")) {
			state_fd = map_of(program[i].fd, "task_state");
			inflight_fd = map_of(program[i].fd, "inflight");
			cpus = map_of(program[i].fd, "cpus");
		}
	}
	cpus_map = cpus < 0 ? NULL : probes_map(cpus, p.cfg.cpus * sizeof(*cpus_map), PROT_READ | PROT_WRITE);
	if (sample_fd < 0 || state_fd <= 0 || inflight_fd <= 0 || !cpus_map)
		die("cannot find its programs and maps", -ENOENT);
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t begin = sb_monotonic_ns();
		pid_t agent;

		if (sscanf(line, "on %d", &agent) == 1 && agent > 1) {
			set_agent(agent, PERF_EVENT_IOC_ENABLE);
			attach_all();
		} else if (sscanf(line, "off %d", &agent) == 1 && agent > 1) {
			detach_all();
			set_agent(agent, PERF_EVENT_IOC_DISABLE);
		} else {
			die("expected 'on AGENT' or 'off AGENT'", -EINVAL);
		}
		printf("%.1f\n", (double)(sb_monotonic_ns() - begin) / 1e6);
		fflush(stdout);
	}
	return 0;
}
