// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/selfcost.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

#define FIRST_WINDOW_AFTER_NS (1 * NSEC_PER_SEC)
#define WINDOW_NS (2 * NSEC_PER_SEC)
#define WINDOW_EVERY_NS (600 * NSEC_PER_SEC)

static uint64_t own_cpu_ns(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NSEC_PER_SEC +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * NSEC_PER_USEC;
}

void selfcost_init(struct selfcost *c)
{
	memset(c, 0, sizeof(*c));
	c->stats_fd = -1;
	c->started_ns = sb_monotonic_ns();
	c->start_cpu_ns = own_cpu_ns();
}

static void read_programs(struct selfcost *c, const struct probes *p)
{
	c->n = p->n_programs;
	for (size_t i = 0; i < c->n; i++) {
		struct bpf_prog_info info = {};
		uint32_t len = sizeof(info);

		if (bpf_obj_get_info_by_fd(p->program[i].fd, &info, &len) < 0)
			continue;
		c->program[i] = (struct bundle_program_cost){
			.name = p->program[i].name,
			.run_cnt = info.run_cnt,
			.run_time_ns = info.run_time_ns,
			.recursion_misses = info.recursion_misses,
		};
	}
}

static void open_window(struct selfcost *c, const struct probes *p, uint64_t now_ns)
{
	c->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	read_programs(c, p);
	for (size_t i = 0; i < c->n; i++) {
		c->begin_cnt[i] = c->program[i].run_cnt;
		c->begin_ns[i] = c->program[i].run_time_ns;
	}
	c->window_since_ns = now_ns;
}

static void close_window(struct selfcost *c, const struct probes *p, uint64_t now_ns)
{
	read_programs(c, p);
	for (size_t i = 0; i < c->n; i++) {
		c->window_cnt[i] = c->program[i].run_cnt - c->begin_cnt[i];
		c->window_ns[i] = c->program[i].run_time_ns - c->begin_ns[i];
	}
	c->window_until_ns = now_ns;
	close(c->stats_fd);
	c->stats_fd = -1;
}

uint64_t selfcost_tick(struct selfcost *c, const struct probes *p, uint64_t now_ns)
{
	if (c->stats_fd >= 0) {
		if (now_ns < c->window_since_ns + WINDOW_NS)
			return c->window_since_ns + WINDOW_NS;
		close_window(c, p, now_ns);
		return c->window_since_ns + WINDOW_EVERY_NS;
	}
	if (!c->window_since_ns && now_ns < c->started_ns + FIRST_WINDOW_AFTER_NS)
		return c->started_ns + FIRST_WINDOW_AFTER_NS;
	if (c->window_since_ns && now_ns < c->window_since_ns + WINDOW_EVERY_NS)
		return c->window_since_ns + WINDOW_EVERY_NS;
	open_window(c, p, now_ns);
	return now_ns + WINDOW_NS;
}

double selfcost_bpf_ppm(const struct selfcost *c, uint32_t cpus)
{
	uint64_t ns = 0, span = c->window_until_ns - c->window_since_ns;

	if (c->window_until_ns <= c->window_since_ns)
		return -1;
	for (size_t i = 0; i < c->n; i++)
		ns += c->window_ns[i];
	return 1e6 * (double)ns / ((double)span * cpus);
}

static uint64_t own_rss_bytes(void)
{
	char buf[128] = "";
	_cleanup_close_ int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	unsigned long size, rss, shared;

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0 ||
	    sscanf(buf, "%lu %lu %lu", &size, &rss, &shared) != 3)
		return 0;
	/* The ring is mapped here and counted on its own, as map_bytes. */
	return (uint64_t)(rss - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void selfcost_fill(struct selfcost *c, const struct probes *p, struct bundle_cost *ret)
{
	read_programs(c, p);
	for (size_t i = 0; i < c->n; i++) {
		/* Counts and times of the same window, so that their ratio is the cost per run. */
		c->program[i].run_cnt = c->window_cnt[i];
		c->program[i].run_time_ns = c->window_ns[i];
	}
	*ret = (struct bundle_cost){
		.since_ns = c->window_since_ns,
		.until_ns = c->window_until_ns,
		.program = c->program,
		.n_programs = c->n,
		.agent_cpu_ns = own_cpu_ns() - c->start_cpu_ns,
		.agent_rss_bytes = own_rss_bytes(),
		.map_bytes = p->map_bytes,
		.wakeups = c->wakeups,
		.bytes_written = c->bytes_written,
	};
}
