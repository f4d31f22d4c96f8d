// SPDX-License-Identifier: BSD-2-Clause
/* Perf events as clocks: the samples' where the scheduler's tick is not, for each CPU that is online, opened anew for one that was away;
 * else one for the triggers. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "recorder/privileges.h"
#include "recorder/probes_impl.h"

static int open_sampler(uint32_t cpu, uint64_t period_ns)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = period_ns,
		/* Idle ticks stay in: they tell a late sample from an idle CPU and keep the
		 * in-kernel triggers' clock going when nothing runs. */
		.exclude_idle = 0,
	};
	int fd;

	privileges_raise();
	fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	privileges_lower();
	return fd;
}

static int attach_sampler(struct probes *p, int prog_fd, uint32_t cpu)
{
	char name[32];
	int perf, link;

	perf = open_sampler(cpu, p->cfg.tick_ns ? SB_SCAN_PERIOD_NS : p->cfg.sample_period_ns);
	if (perf == -ENODEV)
		return 0; /* possible, not online */
	if (perf < 0)
		return perf;
	link = bpf_link_create(prog_fd, perf, BPF_PERF_EVENT, NULL);
	if (link >= 0) {
		snprintf(name, sizeof(name), "link_sample_%u", cpu);
		if (p->pinned && !pins_put(p, name, link)) {
			close(link); /* the pin holds it, and whoever removes that has it end */
		} else {
			p->perf_links = false;
			p->sampler_fd[cpu] = link;
		}
		close(perf);
		return 0;
	}
	/* Before 5.15 the program hangs on the event itself and goes with us. */
	p->perf_links = false;
	probes_add_missing(p, p->cfg.tick_ns ? "conditions in the kernel of an idle host while no agent runs" : "samples while no agent runs",
		    "this kernel cannot pin a sampling event (needs 5.15)");
	if (ioctl(perf, PERF_EVENT_IOC_SET_BPF, prog_fd) < 0 ||
	    ioctl(perf, PERF_EVENT_IOC_ENABLE, 0) < 0) {
		int r = -errno;

		close(perf);
		return r;
	}
	p->sampler_fd[cpu] = perf;
	return 0;
}

/* "0-3,8" */
void samplers_read_online(char *ret, size_t len)
{
	_cleanup_close_ int fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, ret, len - 1);

	ret[n > 0 ? n : 0] = '\0';
}

static bool in_list(const char *list, uint32_t cpu)
{
	while (*list >= '0' && *list <= '9') {
		char *p;
		unsigned long from = strtoul(list, &p, 10), to = *p == '-' ? strtoul(p + 1, &p, 10) : from;

		if (cpu >= from && cpu <= to)
			return true;
		list = *p == ',' ? p + 1 : "";
	}
	return false;
}

/* Where the tick is the sampler one CPU has an event, the first one, as a clock when nothing runs. */
static bool has_event(const struct probes *p, const char *online, uint32_t cpu)
{
	return in_list(online, cpu) && (!p->cfg.tick_ns || cpu == strtoul(online, NULL, 10));
}

static int program_fd(const struct probes *p, const char *name)
{
	for (size_t i = 0; i < p->n_programs; i++) {
		if (!strcmp(p->program[i].name, name))
			return p->program[i].fd;
	}
	return -1;
}

static int reopen_sampler(struct probes *p, uint32_t cpu)
{
	char path[sizeof(p->pin_dir) + 32];

	snprintf(path, sizeof(path), "%s/link_sample_%u", p->pin_dir, cpu);
	if (p->pinned)
		unlink(path);
	if (p->sampler_fd[cpu] >= 0)
		close(p->sampler_fd[cpu]);
	p->sampler_fd[cpu] = -1;
	return attach_sampler(p, program_fd(p, "sample"), cpu);
}

int probes_follow_cpus(struct probes *p)
{
	char online[sizeof(p->online)];
	bool failed = false;
	int n = 0;

	samplers_read_online(online, sizeof(online));
	if (!strcmp(online, p->online))
		return 0;
	p->control->cpus_online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		bool opened = !has_event(p, online, cpu) || has_event(p, p->online, cpu) || reopen_sampler(p, cpu) == 0;

		failed |= !opened;
		n += opened && in_list(online, cpu) && !in_list(p->online, cpu);
	}
	/* The only clock is tried again. */
	if (!failed || !p->cfg.tick_ns)
		strcpy(p->online, online);
	return n;
}

/* Whoever was offline while no agent ran, or in the meantime, has a dead sampler. One that ticks is left
 * alone; on machines that do not interrupt idle CPUs a few are opened for nothing. */
void samplers_revive(struct probes *p)
{
	uint64_t now = sb_monotonic_ns();

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		uint64_t last = p->cfg.tick_ns ? p->control->clock_ns : p->cpus[cpu].last_tick_ns;

		if (has_event(p, p->online, cpu) && now - last > NSEC_PER_SEC)
			reopen_sampler(p, cpu);
	}
}

bool probes_clock_silent(const struct probes *p, uint64_t now_ns, uint64_t for_ns)
{
	return p->cfg.tick_ns && now_ns > p->control->clock_ns + for_ns;
}

/* Beside a link that is not dead after all it changes nothing: a period has one sample. */
static bool reattach_tick(struct probes *p)
{
	int link = bpf_raw_tracepoint_open(NULL, program_fd(p, "tick_sample"));

	if (link < 0)
		return false;
	pins_remove(p, "", "link_tick_sample");
	if (p->pinned && !pins_put(p, "link_tick_sample", link))
		close(link); /* the pin holds it */
	else if (p->n_keep < SB_ARRAY_SIZE(p->keep_fd))
		p->keep_fd[p->n_keep++] = link;
	else
		close(link);
	return true;
}

int probes_reopen_clock(struct probes *p)
{
	int n = 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		if (has_event(p, p->online, cpu))
			n += reopen_sampler(p, cpu) == 0;
	}
	return n;
}

int probes_reopen_samplers(struct probes *p)
{
	return probes_reopen_clock(p) + (p->cfg.tick_ns && reattach_tick(p));
}

int samplers_attach(struct probes *p, int prog_fd, char *err, size_t len)
{
	p->perf_links = true;
	samplers_read_online(p->online, sizeof(p->online));
	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		int r = has_event(p, p->online, cpu) ? attach_sampler(p, prog_fd, cpu) : 0;

		if (r < 0) {
			probes_fail_text(err, len, "cannot open the sampling event", r,
				  r == -EACCES || r == -EPERM ?
					  "grant CAP_PERFMON, and CAP_SYS_ADMIN where "
					  "kernel.perf_event_paranoid is 3" : NULL);
			return r;
		}
	}
	return 0;
}

bool samplers_pinned(const struct probes *p)
{
	char name[32];
	int fd = -1;

	for (uint32_t cpu = 0; fd < 0 && cpu < p->cfg.cpus; cpu++) {
		snprintf(name, sizeof(name), "link_sample_%u", cpu);
		fd = pins_get(p, name);
	}
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}
