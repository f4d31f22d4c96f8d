// SPDX-License-Identifier: BSD-2-Clause
/*
 * %system: time in the kernel (system, irq and softirq of /proc/stat) as a share of all
 * online CPUs; of a cgroup or a process as a share of one CPU. Held for a duration, or above
 * its own baseline. Files stay open; a check reads and allocates nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "triggers/parse.h"

#define PERIOD_NS NSEC_PER_SEC
#define SHORT_PERIOD_NS (250 * NSEC_PER_MSEC)
#define PROCESSES 64 /* of one comm */
#define RESCAN_NS (30 * NSEC_PER_SEC)

struct cpu_system {
	double percent;
	uint64_t baseline_ns;
	char cgroup[256], comm[TRIGGER_COMM_LEN];
	unsigned long pid;
	int fd[PROCESSES];
	size_t n_fd;
	struct cpu_times last;
	uint64_t last_ns, scanned_ns;
	double baseline;
	uint64_t baseline_since_ns;
};

/* Field 15 of /proc/PID/stat, stime in ticks; comm may hold anything but ends in the last ')'. */
static int parse_pid_stat(const char *text, uint64_t *ret_ticks)
{
	const char *p = strrchr(text, ')');
	unsigned long long stime;

	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %llu", &stime) != 1)
		return -ENODATA;
	*ret_ticks = stime;
	return 0;
}

static int parse_target(struct trigger *t, const char *word, char *ret_error, size_t len)
{
	struct cpu_system *s = t->state;
	const char *v;

	if ((v = spec_value(word, "for"))) {
		if (t->held_ns)
			return spec_error(ret_error, len, "both for and held-for, expected one: they are the same");
		if (parse_duration_ns(v, &t->held_ns) < 0 || t->held_ns > 600 * NSEC_PER_SEC)
			return spec_error(ret_error, len, "bad time '%s', expected for example for=3s", v);
	} else if ((v = spec_value(word, "above-baseline"))) {
		if (parse_duration_ns(v, &s->baseline_ns) < 0 || !s->baseline_ns)
			return spec_error(ret_error, len,
					  "bad time '%s', expected for example above-baseline=60s", v);
	} else if ((v = spec_value(word, "cgroup"))) {
		if (!*v || strlen(v) >= sizeof(s->cgroup))
			return spec_error(ret_error, len, "bad cgroup '%s', expected a path", v);
		strcpy(s->cgroup, v);
	} else if ((v = spec_value(word, "comm"))) {
		if (!*v || strlen(v) >= sizeof(s->comm))
			return spec_error(ret_error, len, "bad comm '%s', expected 1 to 15 bytes", v);
		strcpy(s->comm, v);
	} else if ((v = spec_value(word, "pid"))) {
		if (parse_count(v, 1, 1UL << 22, &s->pid) < 0)
			return spec_error(ret_error, len, "bad pid '%s', expected a number", v);
	} else {
		return spec_error(ret_error, len, "unknown option '%s', expected for=, cgroup=, pid=, "
				  "comm= or above-baseline=, for example system:60%%:for=3s", word);
	}
	return 0;
}

static int system_parse(struct trigger *t, const char *args, char *ret_error, size_t len)
{
	struct cpu_system *s = t->state = calloc(1, sizeof(*s));
	char copy[TRIGGER_SPEC_MAX], *rest = copy, *word, *percent;
	double max;

	if (!s)
		return -ENOMEM;
	strcpy(copy, args);
	percent = spec_next(&rest);
	while ((word = spec_next(&rest))) {
		int r = parse_target(t, word, ret_error, len);

		if (r < 0)
			return r;
	}
	if (!!s->cgroup[0] + !!s->comm[0] + !!s->pid > 1)
		return spec_error(ret_error, len, "more than one of cgroup, comm and pid, expected one");
	max = s->cgroup[0] || s->comm[0] || s->pid ? 102400 : 100;
	if (parse_percent(percent, max, &s->percent) < 0)
		return spec_error(ret_error, len, "bad share '%s', expected more than 0%% and at most "
				  "%.0f%%, for example system:60%%:for=3s", percent, max);
	t->unit = "%";
	t->threshold = s->percent;
	t->period_ns = t->held_ns && t->held_ns < 2 * NSEC_PER_SEC ? SHORT_PERIOD_NS : PERIOD_NS;
	return 0;
}

static bool is_process(const char *name)
{
	return name[0] >= '1' && name[0] <= '9';
}

static void open_pid(struct cpu_system *s, const struct trigger_env *env, const char *pid)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s/stat", env->proc, pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		s->fd[s->n_fd++] = fd;
}

/* comm and stat take no lock of the process: safe in the incident (measured). */
static void scan_comm(struct cpu_system *s, const struct trigger_env *env, uint64_t now_ns)
{
	DIR *d = opendir(env->proc);
	struct dirent *e;

	for (size_t i = 0; i < s->n_fd; i++)
		close(s->fd[i]);
	s->n_fd = 0;
	s->last_ns = 0;
	s->scanned_ns = now_ns;
	while (d && (e = readdir(d)) && s->n_fd < PROCESSES) {
		char path[300], comm[64] = "";
		int fd;

		if (!is_process(e->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s/comm", env->proc, e->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read_again(fd, comm, sizeof(comm)) > 0) {
			comm[strcspn(comm, "\n")] = '\0';
			if (!strcmp(comm, s->comm))
				open_pid(s, env, e->d_name);
		}
		close(fd);
	}
	if (d)
		closedir(d);
}

static int open_target(struct cpu_system *s, const struct trigger_env *env)
{
	char path[600];

	if (s->comm[0]) {
		scan_comm(s, env, env->now_ns());
		return 0;
	}
	if (s->pid)
		snprintf(path, sizeof(path), "%s/%lu/stat", env->proc, s->pid);
	else if (s->cgroup[0] && env->cgroup_cpu)
		snprintf(path, sizeof(path), "%s/%s/cpuacct.stat", env->cgroup_cpu, s->cgroup);
	else if (s->cgroup[0] && env->cgroup)
		snprintf(path, sizeof(path), "%s/%s/cpu.stat", env->cgroup, s->cgroup);
	else if (s->cgroup[0])
		return -ENOTSUP;
	else
		snprintf(path, sizeof(path), "%s/stat", env->proc);
	s->fd[0] = open(path, O_RDONLY | O_CLOEXEC);
	if (s->fd[0] < 0)
		return -errno;
	s->n_fd = 1;
	return 0;
}

/* Kernel time of the target and the time it is a share of, in ns (system-wide: ticks). */
static int read_times(struct cpu_system *s, uint64_t now_ns, struct cpu_times *ret)
{
	uint64_t tick_ns = NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK), ticks;
	unsigned long long v;
	char text[1024], *p;
	int r;

	ret->system = 0;
	ret->total = now_ns;
	for (size_t i = 0; i < s->n_fd; i++) {
		r = read_again(s->fd[i], text, sizeof(text));
		if (r <= 0 && s->comm[0])
			continue; /* exited; the next scan drops it */
		if (r <= 0)
			return r < 0 ? r : -ENODATA;
		if (s->comm[0] || s->pid) {
			if (parse_pid_stat(text, &ticks) == 0)
				ret->system += ticks * tick_ns;
		} else if (!s->cgroup[0]) {
			return host_parse_stat(text, ret);
		} else if ((p = strstr(text, "system_usec ")) && sscanf(p, "system_usec %llu", &v) == 1) {
			ret->system = v * NSEC_PER_USEC;
		} else if ((p = strstr(text, "system ")) && sscanf(p, "system %llu", &v) == 1) {
			ret->system = v * tick_ns;
		} else {
			return -ENODATA;
		}
	}
	return 0;
}

static int system_arm(struct trigger *t, const struct trigger_env *env)
{
	struct cpu_system *s = t->state;
	uint64_t now = env->now_ns();
	int r = open_target(s, env);

	if (r < 0)
		return r;
	s->last_ns = now;
	return read_times(s, now, &s->last);
}

/* Exponential average over about baseline_ns; returns what the value must exceed. */
static double limit_now(struct cpu_system *s, double value, uint64_t step_ns, uint64_t now_ns)
{
	double share, limit;

	if (!s->baseline_ns)
		return s->percent;
	if (!s->baseline_since_ns) {
		s->baseline_since_ns = now_ns;
		s->baseline = value;
	}
	limit = s->baseline + s->percent;
	/* A spike must not become its own baseline. */
	if (value < limit) {
		share = (double)step_ns / (double)s->baseline_ns;
		s->baseline += (value - s->baseline) * SB_MIN(share, 1.0);
	}
	/* No verdict before the baseline has seen a whole period. */
	return now_ns - s->baseline_since_ns < s->baseline_ns ? 1e9 : limit;
}

/* What was not looked at for two seconds is judged by the last one, as ever: the reading between is somebody else's. */
static void step_between(struct cpu_system *s, const struct trigger_env *env, uint64_t now_ns)
{
	struct cpu_times cpu;
	uint64_t ns;

	if (now_ns - s->last_ns < 3 * PERIOD_NS / 2 || !env->cpu_before ||
	    !env->cpu_before(env->reader, now_ns - PERIOD_NS / 2, &cpu, &ns) || ns <= s->last_ns)
		return;
	s->last = cpu;
	s->last_ns = ns;
}

/* Far below the threshold, of the whole host: above that it begins, for those who watch it, before it is met. */
static uint32_t system_quiet(const struct trigger *t)
{
	const struct cpu_system *s = t->state;
	bool host = !s->cgroup[0] && !s->comm[0] && !s->pid;

	return host && !s->baseline_ns && t->period_ns == PERIOD_NS && s->percent >= 2 * HOST_SYSTEM_PERCENT &&
	       t->value < HOST_SYSTEM_PERCENT && !t->waits_for_calm ? HOST_SYSTEM : 0;
}

static int system_check(struct trigger *t, const struct trigger_env *env, uint64_t now_ns,
			struct trigger_hit *ret)
{
	struct cpu_system *s = t->state;
	struct cpu_times cur;
	uint64_t since, step_ns;
	double limit;
	bool first, fires;
	int r;

	if (s->comm[0] && now_ns - s->scanned_ns >= RESCAN_NS)
		scan_comm(s, env, now_ns);
	if (t->quiet)
		step_between(s, env, now_ns);
	first = !s->last_ns;
	r = read_times(s, now_ns, &cur);
	if (r < 0)
		return r;
	t->value = first ? 0 : host_system_percent(&s->last, &cur);
	step_ns = now_ns - s->last_ns;
	since = t->met_since_ns ? t->met_since_ns : s->last_ns; /* the interval itself was above */
	limit = limit_now(s, t->value, step_ns, now_ns);
	s->last = cur;
	s->last_ns = now_ns;
	fires = level_fires(t, t->value >= limit, t->value < calm_below(t, limit), since, now_ns, ret);
	t->quiet = system_quiet(t);
	if (!fires)
		return 0;
	ret->fired_ns = now_ns;
	ret->value = t->value;
	ret->threshold = limit;
	ret->unit = "%";
	snprintf(ret->detail, sizeof(ret->detail), "%.1f %% system%s%s%s%s for %.1f s%s", t->value,
		 s->cgroup[0] ? " of cgroup " : "", s->cgroup, s->comm[0] ? " of comm " : "", s->comm,
		 (double)(now_ns - since) / 1e9, s->baseline_ns ? ", above baseline" : "");
	return 1;
}

static void system_disarm(struct trigger *t)
{
	struct cpu_system *s = t->state;

	for (size_t i = 0; i < s->n_fd; i++)
		close(s->fd[i]);
	s->n_fd = 0;
}

const struct trigger_ops trigger_system = {
	.kind = "system",
	.syntax = "system:PERCENT[:for=TIME][:cgroup=PATH|:pid=N|:comm=NAME][:above-baseline=TIME]",
	.parse = system_parse,
	.arm = system_arm,
	.check = system_check,
	.disarm = system_disarm,
};
