// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/series.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "recorder/privileges.h"

#define MAX_CPUS 256 /* beyond that only the sums are kept */
#define PER_CPU 4
#define PER_CGROUP 8
#define HOST_SLOTS 64
#define NO_VALUE INT64_MIN
#define SURVEY_EVERY 30	   /* readings between two looks for the busiest cgroups */
#define SURVEY_DIRS 1024
#define SURVEY_DEPTH 5
#define SLOW_PAUSE 60 /* readings that a slow file is left alone */
#define TEXT 16384
#define HOST_KEEP 4 /* readings of what is watched */
#define LOAD_MAX 1e9 /* threads; beyond it a text is none of the kernel's */

struct slot {
	char name[40], scope[200];
	const char *unit;
	bool counter, used;
	uint64_t since; /* sample number of its first value */
};

struct series {
	size_t bytes;
	pid_t pid;
	uint32_t cpus, n_slots;
	bool v1;
	struct series_own own;
	uint32_t n_programs;
	int64_t *program; /* runs, ns a second of each, as the agent told them last */
	uint64_t reader_cpu_ns;
	int begun_fd;
	uint32_t wanted; /* bits of triggers/host.h */
	struct host_reading host[HOST_KEEP];
	uint64_t n_host; /* the newest is n_host - 1 */
	uint64_t n; /* samples taken; the newest is n - 1 */
	uint64_t ts_ns[SERIES_KEEP];
	struct slot *slot;   /* n_slots, in the same mapping */
	int64_t *value;	     /* n_slots x SERIES_KEEP */
};

/* The reader's own state. */
struct source {
	int fd;
	uint64_t sleep_until; /* sample number */
};

struct group {
	char path[200]; /* below the root, "/a/b"; "" free */
	uint64_t usage, score;
	struct source cpu, throttle, current, max, events, pressure;
};

struct reader {
	struct series *s;
	char *text;
	uint64_t worst_ns, slow, windows, told;
	struct source stat, loadavg, vmstat, meminfo, psi[HOST_RESOURCES];
	struct group group[SERIES_CGROUPS];
};

static uint32_t program_slot(const struct series *s, uint32_t i)
{
	return HOST_SLOTS + PER_CPU * s->cpus + SERIES_CGROUPS * PER_CGROUP + 2 * i;
}

static uint32_t cgroup_slot(const struct series *s, int g)
{
	return HOST_SLOTS + PER_CPU * s->cpus + (uint32_t)g * PER_CGROUP;
}

/* ---- values -------------------------------------------------------------------- */

static void define(struct series *s, uint32_t i, const char *name, const char *scope, const char *unit,
		   bool counter)
{
	struct slot *d = &s->slot[i];

	d->used = false;
	snprintf(d->name, sizeof(d->name), "%s", name);
	snprintf(d->scope, sizeof(d->scope), "%s", scope);
	d->unit = unit;
	d->counter = counter;
	d->since = s->n;
}

static void set(struct series *s, uint32_t i, int64_t v)
{
	s->value[(size_t)i * SERIES_KEEP + s->n % SERIES_KEEP] = v;
	s->slot[i].used = true;
}

/* ---- files --------------------------------------------------------------------- */

static void source_open(struct source *f, const char *fmt, const char *a, const char *b)
{
	char path[320];

	snprintf(path, sizeof(path), fmt, a, b);
	f->fd = open(path, O_RDONLY | O_CLOEXEC);
	f->sleep_until = 0;
}

static void source_close(struct source *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* The file's text, or NULL. Whoever takes too long is not asked again for a minute. */
static const char *source_read(struct reader *r, struct source *f)
{
	uint64_t begin = sb_monotonic_ns(), ns;
	ssize_t n;

	if (f->fd < 0 || r->s->n < f->sleep_until)
		return NULL;
	n = pread(f->fd, r->text, TEXT - 1, 0);
	ns = sb_monotonic_ns() - begin;
	r->worst_ns = SB_MAX(r->worst_ns, ns);
	if (ns > SERIES_SLOW_NS) {
		r->slow++;
		f->sleep_until = r->s->n + SLOW_PAUSE;
	}
	if (n <= 0)
		return NULL;
	r->text[n] = '\0';
	return r->text;
}

/* The number behind a word at the start of a line. */
static bool find_value(const char *text, const char *key, int64_t *ret)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (!strncmp(line, key, len) && (line[len] == ' ' || line[len] == ':' || line[len] == '\t')) {
			*ret = strtoll(line + len + 1, NULL, 10);
			return true;
		}
	}
	return false;
}

/* ---- the host ------------------------------------------------------------------- */

static const struct {
	const char *file, *key, *name, *unit;
	bool counter;
} host_values[] = {
	{ "vmstat", "pgscan_direct", "vmstat.pgscan_direct", "pages", true },
	{ "vmstat", "pgscan_kswapd", "vmstat.pgscan_kswapd", "pages", true },
	{ "vmstat", "pgsteal_direct", "vmstat.pgsteal_direct", "pages", true },
	{ "vmstat", "pgsteal_kswapd", "vmstat.pgsteal_kswapd", "pages", true },
	{ "vmstat", "allocstall_normal", "vmstat.allocstall_normal", "events", true },
	{ "vmstat", "allocstall_movable", "vmstat.allocstall_movable", "events", true },
	{ "vmstat", "workingset_refault_file", "vmstat.workingset_refault_file", "pages", true },
	{ "vmstat", "workingset_refault_anon", "vmstat.workingset_refault_anon", "pages", true },
	{ "vmstat", "pgmajfault", "vmstat.pgmajfault", "events", true },
	{ "vmstat", "pgfault", "vmstat.pgfault", "events", true },
	{ "vmstat", "compact_stall", "vmstat.compact_stall", "events", true },
	{ "vmstat", "oom_kill", "vmstat.oom_kill", "events", true },
	{ "vmstat", "nr_dirty", "vmstat.nr_dirty", "pages", false },
	{ "vmstat", "nr_writeback", "vmstat.nr_writeback", "pages", false },
	{ "meminfo", "MemFree", "meminfo.MemFree", "KiB", false },
	{ "meminfo", "MemAvailable", "meminfo.MemAvailable", "KiB", false },
	{ "meminfo", "Active(file)", "meminfo.Active(file)", "KiB", false },
	{ "meminfo", "Inactive(file)", "meminfo.Inactive(file)", "KiB", false },
	{ "meminfo", "AnonPages", "meminfo.AnonPages", "KiB", false },
	{ "meminfo", "Slab", "meminfo.Slab", "KiB", false },
	{ "meminfo", "SwapFree", "meminfo.SwapFree", "KiB", false },
	{ "stat", "ctxt", "stat.ctxt", "switches", true },
	{ "stat", "processes", "stat.processes", "forks", true },
	{ "stat", "procs_running", "stat.procs_running", "threads", false },
	{ "stat", "procs_blocked", "stat.procs_blocked", "threads", false },
};
#define N_HOST SB_ARRAY_SIZE(host_values)
#define SLOT_PSI N_HOST		   /* memory, cpu, io: some, full */
#define SLOT_LOAD (N_HOST + 6)
#define SLOT_READ_WORST (N_HOST + 7)
#define SLOT_READ_SLOW (N_HOST + 8)
#define SLOT_OWN (N_HOST + 9)

/* The recorder's own cost. */
static const struct {
	const char *name, *scope, *unit;
	bool counter;
	size_t offset; /* in struct series_own; OWN_READER_CPU: known here */
} own_values[] = {
#define OWN_READER_CPU SIZE_MAX
#define OWN(field) offsetof(struct series_own, field)
	{ "self.bpf.time", "", "us", true, OWN(bpf_us) },
	{ "self.bpf.measured", "", "yes", false, OWN(bpf_measured) },
	{ "self.cpu", "stallboxd", "us", true, OWN(agent_us) },
	{ "self.cpu", "captures", "us", true, OWN(worker_us) },
	{ "self.cpu", "series", "us", true, OWN_READER_CPU },
	{ "self.rss", "stallboxd", "KiB", false, OWN(agent_rss_kib) },
	{ "self.rss", "workers", "KiB", false, OWN(worker_rss_kib) },
	{ "self.maps", "", "KiB", false, OWN(maps_kib) },
	{ "self.wakeups", "", "wakeups", true, OWN(wakeups) },
	{ "self.written", "", "bytes", true, OWN(written) },
	{ "self.limit", "", "step", false, OWN(limit_step) },
};
#define N_OWN SB_ARRAY_SIZE(own_values)
_Static_assert(SLOT_OWN + N_OWN <= HOST_SLOTS, "host slots");

static const char *const psi_files[HOST_RESOURCES] = { [HOST_MEMORY] = "memory", [HOST_CPU] = "cpu", [HOST_IO] = "io" };
static const char *const cpu_names[PER_CPU] = { "cpu.user", "cpu.system", "cpu.irq", "cpu.idle" };

static void define_host(struct series *s)
{
	char scope[16], name[40];

	for (uint32_t i = 0; i < N_HOST; i++)
		define(s, i, host_values[i].name, "", host_values[i].unit, host_values[i].counter);
	for (uint32_t i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "pressure.%s.%s", psi_files[i / 2], i % 2 ? "full" : "some");
		define(s, SLOT_PSI + i, name, "", "us", true);
	}
	define(s, SLOT_LOAD, "load1", "", "1/100", false);
	define(s, SLOT_READ_WORST, "series.worst_read", "", "us", false);
	define(s, SLOT_READ_SLOW, "series.slow_reads", "", "reads", true);
	for (uint32_t i = 0; i < N_OWN; i++)
		define(s, SLOT_OWN + i, own_values[i].name, own_values[i].scope, own_values[i].unit,
		       own_values[i].counter);
	for (uint32_t c = 0; c < s->cpus; c++) {
		snprintf(scope, sizeof(scope), "cpu%u", c);
		for (uint32_t k = 0; k < PER_CPU; k++)
			define(s, HOST_SLOTS + c * PER_CPU + k, cpu_names[k], scope, "ticks", true);
	}
}

/* The file's text, or NULL. */
static const char *take_values(struct reader *r, struct source *f, const char *file)
{
	const char *text = source_read(r, f);
	int64_t v;

	for (uint32_t i = 0; text && i < N_HOST; i++) {
		if (!strcmp(host_values[i].file, file) && find_value(text, host_values[i].key, &v))
			set(r->s, i, v);
	}
	return text;
}

/* A counter may have gone round. */
static int64_t sum(long long a, long long b)
{
	return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* "cpu3 user nice system idle iowait irq softirq steal ..." */
static void take_cpus(struct reader *r)
{
	for (const char *line = strstr(r->text, "\ncpu"); line; line = strstr(line + 1, "\ncpu")) {
		unsigned int cpu;
		long long v[8];
		uint32_t at;

		if (sscanf(line, "\ncpu%u %lld %lld %lld %lld %lld %lld %lld %lld", &cpu, &v[0], &v[1], &v[2], &v[3],
			   &v[4], &v[5], &v[6], &v[7]) != 9 || cpu >= r->s->cpus)
			continue;
		at = HOST_SLOTS + cpu * PER_CPU;
		set(r->s, at, sum(v[0], v[1]));
		set(r->s, at + 1, v[2]);
		set(r->s, at + 2, sum(v[5], v[6]));
		set(r->s, at + 3, sum(v[3], v[4]));
	}
}

static bool psi_total(const char *text, const char *which, int64_t *ret)
{
	const char *line = strstr(text, which), *total = line ? strstr(line, "total=") : NULL;

	if (!total)
		return false;
	*ret = strtoll(total + 6, NULL, 10);
	return true;
}

static void take_pressure(struct reader *r, uint32_t i, struct host_reading *h)
{
	const char *text = source_read(r, &r->psi[i]);
	int64_t v;

	if (text && psi_total(text, "some ", &v)) {
		set(r->s, SLOT_PSI + 2 * i, v);
		h->stalled_us[i] = (uint64_t)v;
		h->known |= HOST_STALLS(i);
	}
	if (text && psi_total(text, "full ", &v))
		set(r->s, SLOT_PSI + 2 * i + 1, v);
}

/* Tells the agent when something has begun since the last reading. */
static void watch(struct series *s, const struct host_reading *h)
{
	const struct host_reading *last = &s->host[(s->n_host - 1) % HOST_KEEP];
	struct host_reading *ret = &s->host[s->n_host % HOST_KEEP];
	uint32_t begun = s->n_host ? host_begun(last, h) : 0;

	*ret = *h;
	ret->watched = s->n_host ? last->known & h->known : 0;
	__atomic_store_n(&s->n_host, s->n_host + 1, __ATOMIC_RELEASE);
	if (begun & __atomic_load_n(&s->wanted, __ATOMIC_RELAXED))
		(void)!eventfd_write(s->begun_fd, 1);
}

/* Of the files that nobody's memory or disk can hold up. */
static void take_watched(struct reader *r)
{
	struct host_reading h = { .ns = sb_monotonic_ns() };
	const char *text = take_values(r, &r->stat, "stat");

	if (text && host_parse_stat(text, &h.cpu) == 0)
		h.known |= HOST_SYSTEM;
	if (text)
		take_cpus(r);
	for (uint32_t i = 0; i < HOST_RESOURCES; i++)
		take_pressure(r, i, &h);
	watch(r->s, &h);
}

static void take_host(struct reader *r)
{
	const char *text;
	double load;

	take_values(r, &r->vmstat, "vmstat");
	take_values(r, &r->meminfo, "meminfo");
	text = source_read(r, &r->loadavg);
	if (text && sscanf(text, "%lf", &load) == 1 && load >= 0 && load < LOAD_MAX)
		set(r->s, SLOT_LOAD, (int64_t)(load * 100));
}

/* ---- our own cost ---------------------------------------------------------------- */

static void take_own(struct reader *r)
{
	struct series *s = r->s;
	const struct series_own own = s->own;

	s->reader_cpu_ns = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (uint32_t i = 0; i < N_OWN; i++) {
		if (own_values[i].offset == OWN_READER_CPU)
			set(s, SLOT_OWN + i, (int64_t)(s->reader_cpu_ns / NSEC_PER_USEC));
		else if (own.told != r->told)
			set(s, SLOT_OWN + i, *(const int64_t *)((const char *)&own + own_values[i].offset));
	}
	r->told = own.told;
	if (own.windows == r->windows)
		return;
	r->windows = own.windows;
	for (uint32_t i = 0; i < s->n_programs; i++) {
		set(s, program_slot(s, i), s->program[2 * i]);
		set(s, program_slot(s, i) + 1, s->program[2 * i + 1]);
	}
}

void series_own(struct series *s, const struct series_own *own, const int64_t *program_runs_s,
		const int64_t *program_ns_s, size_t n_programs)
{
	struct series_own next = *own;

	if (!s)
		return;
	for (size_t i = 0; i < SB_MIN(n_programs, (size_t)s->n_programs); i++) {
		s->program[2 * i] = program_runs_s[i];
		s->program[2 * i + 1] = program_ns_s[i];
	}
	next.told = s->own.told + 1;
	s->own = next;
}

/* ---- cgroups -------------------------------------------------------------------- */

static const char *const v2_names[PER_CGROUP] = { "cgroup.cpu.usage", "cgroup.cpu.throttled", "cgroup.cpu.nr_throttled",
						  "cgroup.memory.current", "cgroup.memory.max",
						  "cgroup.memory.events.max", "cgroup.memory.events.oom_kill",
						  "cgroup.memory.pressure.some" };
static const char *const group_units[PER_CGROUP] = { "us", "us", "periods", "bytes", "bytes", "events", "events", "us" };
static const bool group_counter[PER_CGROUP] = { true, true, true, false, false, true, true, true };

static void group_open(struct reader *r, struct group *g)
{
	uint32_t at = cgroup_slot(r->s, (int)(g - r->group));

	for (uint32_t k = 0; k < PER_CGROUP; k++)
		define(r->s, at + k, v2_names[k], g->path, group_units[k], group_counter[k]);
	if (r->s->v1) {
		source_open(&g->cpu, "/sys/fs/cgroup/cpuacct%s/%s", g->path, "cpuacct.usage");
		source_open(&g->throttle, "/sys/fs/cgroup/cpu%s/%s", g->path, "cpu.stat");
		source_open(&g->current, "/sys/fs/cgroup/memory%s/%s", g->path, "memory.usage_in_bytes");
		source_open(&g->max, "/sys/fs/cgroup/memory%s/%s", g->path, "memory.limit_in_bytes");
		source_open(&g->events, "/sys/fs/cgroup/memory%s/%s", g->path, "memory.failcnt");
		g->pressure.fd = -1;
	} else {
		source_open(&g->cpu, "/sys/fs/cgroup%s/%s", g->path, "cpu.stat");
		g->throttle.fd = -1;
		source_open(&g->current, "/sys/fs/cgroup%s/%s", g->path, "memory.current");
		source_open(&g->max, "/sys/fs/cgroup%s/%s", g->path, "memory.max");
		source_open(&g->events, "/sys/fs/cgroup%s/%s", g->path, "memory.events");
		source_open(&g->pressure, "/sys/fs/cgroup%s/%s", g->path, "memory.pressure");
	}
}

static void group_close(struct group *g)
{
	source_close(&g->cpu);
	source_close(&g->throttle);
	source_close(&g->current);
	source_close(&g->max);
	source_close(&g->events);
	source_close(&g->pressure);
	g->path[0] = '\0';
}

static void take_cpu(struct reader *r, struct group *g, uint32_t at)
{
	const char *text = source_read(r, &g->cpu);
	int64_t v;

	if (!text)
		return;
	if (r->s->v1) {
		set(r->s, at, strtoll(text, NULL, 10) / 1000);
		text = source_read(r, &g->throttle);
		if (text && find_value(text, "throttled_time", &v))
			set(r->s, at + 1, v / 1000);
	} else {
		if (find_value(text, "usage_usec", &v))
			set(r->s, at, v);
		if (find_value(text, "throttled_usec", &v))
			set(r->s, at + 1, v);
	}
	if (text && find_value(text, "nr_throttled", &v))
		set(r->s, at + 2, v);
}

static void take_group(struct reader *r, struct group *g)
{
	uint32_t at = cgroup_slot(r->s, (int)(g - r->group));
	const char *text;
	int64_t v;

	take_cpu(r, g, at);
	text = source_read(r, &g->current);
	if (text)
		set(r->s, at + 3, strtoll(text, NULL, 10));
	text = source_read(r, &g->max);
	if (text && *text != 'm') /* "max": no limit */
		set(r->s, at + 4, strtoll(text, NULL, 10));
	text = source_read(r, &g->events);
	if (text && r->s->v1) {
		set(r->s, at + 5, strtoll(text, NULL, 10));
	} else if (text) {
		if (find_value(text, "max", &v))
			set(r->s, at + 5, v);
		if (find_value(text, "oom_kill", &v))
			set(r->s, at + 6, v);
	}
	text = source_read(r, &g->pressure);
	if (text && psi_total(text, "some ", &v))
		set(r->s, at + 7, v);
}

struct survey {
	struct reader *r;
	int dirs;
	struct {
		char path[200];
		uint64_t bytes;
	} best[SERIES_CGROUPS];
};

static uint64_t read_number(const char *path)
{
	char text[32] = "";
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtoull(text, NULL, 10) : 0;
}

static void consider(struct survey *v, const char *path, uint64_t bytes)
{
	int least = 0;

	for (int i = 1; i < SERIES_CGROUPS; i++) {
		if (v->best[i].bytes < v->best[least].bytes)
			least = i;
	}
	if (bytes <= v->best[least].bytes || strlen(path) >= sizeof(v->best[0].path))
		return;
	strcpy(v->best[least].path, path);
	v->best[least].bytes = bytes;
}

/* The groups that hold the most memory: one small number from each directory. */
static void walk(struct survey *v, const char *root, const char *path, int depth)
{
	char full[512], file[640], child[256];
	struct dirent *e;
	DIR *d;

	snprintf(full, sizeof(full), "%s%s", root, path);
	d = opendir(full);
	if (!d)
		return;
	while ((e = readdir(d)) && v->dirs < SURVEY_DIRS) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.' || strlen(path) + strlen(e->d_name) + 2 > sizeof(child))
			continue;
		v->dirs++;
		snprintf(child, sizeof(child), "%s/%.*s", path, (int)(sizeof(child) - strlen(path) - 2), e->d_name);
		snprintf(file, sizeof(file), "%s%s/%s", root, child,
			 v->r->s->v1 ? "memory.usage_in_bytes" : "memory.current");
		consider(v, child, read_number(file));
		if (depth < SURVEY_DEPTH)
			walk(v, root, child, depth + 1);
	}
	closedir(d);
}

static void survey(struct reader *r)
{
	struct survey v = { .r = r };

	walk(&v, r->s->v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup", "", 1);
	for (int i = 0; i < SERIES_CGROUPS; i++) {
		struct group *g = &r->group[i];
		bool stays = false;

		for (int k = 0; k < SERIES_CGROUPS && g->path[0]; k++) {
			if (!strcmp(v.best[k].path, g->path)) {
				stays = true;
				v.best[k].path[0] = '\0';
			}
		}
		if (!stays)
			group_close(g);
	}
	for (int k = 0; k < SERIES_CGROUPS; k++) {
		for (int i = 0; i < SERIES_CGROUPS && v.best[k].path[0]; i++) {
			if (r->group[i].path[0])
				continue;
			strcpy(r->group[i].path, v.best[k].path);
			group_open(r, &r->group[i]);
			break;
		}
		v.best[k].path[0] = '\0';
	}
}

/* ---- the reader's process ---------------------------------------------------------- */

static void take_sample(struct reader *r)
{
	struct series *s = r->s;

	for (uint32_t i = 0; i < s->n_slots; i++)
		s->value[(size_t)i * SERIES_KEEP + s->n % SERIES_KEEP] = NO_VALUE;
	s->ts_ns[s->n % SERIES_KEEP] = sb_monotonic_ns();
	r->worst_ns = 0;
	take_watched(r);
	take_host(r);
	if (s->n % SURVEY_EVERY == 0)
		survey(r);
	for (int i = 0; i < SERIES_CGROUPS; i++) {
		if (r->group[i].path[0])
			take_group(r, &r->group[i]);
	}
	set(s, SLOT_READ_WORST, (int64_t)(r->worst_ns / NSEC_PER_USEC));
	set(s, SLOT_READ_SLOW, (int64_t)r->slow);
	take_own(r);
	__atomic_store_n(&s->n, s->n + 1, __ATOMIC_RELEASE);
}

static void reader_main(struct series *s, const char *proc)
{
	static char text[TEXT];
	struct reader r = { .s = s, .text = text };
	struct timespec ts;

	/* What the agent has open must end when the agent closes it. */
	if (s->begun_fd > 3)
		close_range(3, (unsigned int)s->begun_fd - 1, 0);
	close_range((unsigned int)s->begun_fd + 1, ~0U, 0);
	if (privileges_become(PRIVILEGES_NONE) < 0)
		_exit(1);
	prctl(PR_SET_NAME, "stallbox-series");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	source_open(&r.stat, "%s/%s", proc, "stat");
	source_open(&r.loadavg, "%s/%s", proc, "loadavg");
	source_open(&r.vmstat, "%s/%s", proc, "vmstat");
	source_open(&r.meminfo, "%s/%s", proc, "meminfo");
	for (int i = 0; i < HOST_RESOURCES; i++)
		source_open(&r.psi[i], "%s/pressure/%s", proc, psi_files[i]);
	for (int i = 0; i < SERIES_CGROUPS; i++)
		r.group[i] = (struct group){ .cpu.fd = -1, .throttle.fd = -1, .current.fd = -1, .max.fd = -1,
					     .events.fd = -1, .pressure.fd = -1 };
	for (;;) {
		uint64_t next;

		take_sample(&r);
		/* On whole seconds, as the agent's own timers: one wakeup of the CPU for both. */
		next = (sb_monotonic_ns() / SERIES_PERIOD_NS + 1) * SERIES_PERIOD_NS;
		ts = (struct timespec){ .tv_sec = (time_t)(next / NSEC_PER_SEC), .tv_nsec = (long)(next % NSEC_PER_SEC) };
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
	}
}

static void define_programs(struct series *s, const char *const *program)
{
	for (uint32_t i = 0; i < s->n_programs; i++) {
		define(s, program_slot(s, i), "self.program.runs", program[i], "runs/s", false);
		define(s, program_slot(s, i) + 1, "self.program.time", program[i], "ns/s", false);
	}
}

/* In memory that the reader's process has, too. */
static int series_new(uint32_t cpus, bool cgroup_v1, const char *const *program, size_t n_programs,
		      struct series **ret)
{
	uint32_t kept = SB_MIN(cpus, (uint32_t)MAX_CPUS),
		 slots = HOST_SLOTS + PER_CPU * kept + PER_CGROUP * SERIES_CGROUPS + 2 * (uint32_t)n_programs;
	size_t bytes = sizeof(struct series) + slots * sizeof(struct slot) +
		       (size_t)slots * SERIES_KEEP * sizeof(int64_t) + 2 * n_programs * sizeof(int64_t);
	struct series *s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return -errno;
	s->bytes = bytes;
	s->cpus = kept;
	s->n_slots = slots;
	s->v1 = cgroup_v1;
	s->slot = (void *)(s + 1);
	s->value = (void *)(s->slot + slots);
	s->program = s->value + (size_t)slots * SERIES_KEEP;
	s->n_programs = (uint32_t)n_programs;
	define_host(s);
	define_programs(s, program);
	s->begun_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->begun_fd < 0) {
		munmap(s, bytes);
		return -errno;
	}
	*ret = s;
	return 0;
}

static void series_free(struct series *s)
{
	close(s->begun_fd);
	munmap(s, s->bytes);
}

int series_start(const char *proc, uint32_t cpus, bool cgroup_v1, const char *const *program, size_t n_programs,
		 struct series **ret)
{
	struct series *s = NULL;
	int r = series_new(cpus, cgroup_v1, program, n_programs, &s);
	pid_t pid;

	if (r < 0)
		return r;
	/* Not straight into the shared memory: the child would write its 0 there. */
	pid = fork();
	if (pid < 0) {
		r = -errno;
		series_free(s);
		return r;
	}
	if (pid == 0) {
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		signal(SIGTERM, SIG_DFL);
		reader_main(s, proc);
		_exit(0);
	}
	s->pid = pid;
	*ret = s;
	return 0;
}

void series_stop(struct series *s)
{
	if (!s || s->pid <= 0)
		return;
	/* Not waited for: it may be in a read that hangs. */
	kill(s->pid, SIGKILL);
	series_free(s);
}

int series_begun_fd(const struct series *s)
{
	return s ? s->begun_fd : -1;
}

void series_want(struct series *s, uint32_t bits)
{
	if (s)
		__atomic_store_n(&s->wanted, bits, __ATOMIC_RELAXED);
}

uint32_t series_watched(const struct series *s, uint64_t now_ns)
{
	uint64_t n = s ? __atomic_load_n(&s->n_host, __ATOMIC_ACQUIRE) : 0;
	const struct host_reading *h = n ? &s->host[(n - 1) % HOST_KEEP] : NULL;

	/* The agent's look may come just before the next reading. */
	return h && now_ns < h->ns + 3 * SERIES_PERIOD_NS / 2 ? h->watched : 0;
}

bool series_cpu_before(const void *of, uint64_t until_ns, struct cpu_times *ret, uint64_t *ret_ns)
{
	const struct series *s = of;
	uint64_t n = s ? __atomic_load_n(&s->n_host, __ATOMIC_ACQUIRE) : 0;

	/* Not the oldest: it may be overwritten just now. */
	for (uint64_t back = 1; back < HOST_KEEP && back <= n; back++) {
		const struct host_reading *h = &s->host[(n - back) % HOST_KEEP];

		if (!(h->known & HOST_SYSTEM) || h->ns > until_ns)
			continue;
		*ret = h->cpu;
		*ret_ns = h->ns;
		return true;
	}
	return false;
}

bool series_counters(const struct series *s, struct series_counters *ret)
{
	uint64_t n = s ? __atomic_load_n(&s->n, __ATOMIC_ACQUIRE) : 0, at = (n - 1) % SERIES_KEEP;
	int64_t v[2] = { NO_VALUE, NO_VALUE };

	for (uint32_t i = 0; n && i < N_HOST; i++) {
		if (!strcmp(host_values[i].name, "stat.ctxt"))
			v[0] = s->value[(size_t)i * SERIES_KEEP + at];
		else if (!strcmp(host_values[i].name, "stat.processes"))
			v[1] = s->value[(size_t)i * SERIES_KEEP + at];
	}
	if (v[0] == NO_VALUE || v[1] == NO_VALUE)
		return false;
	*ret = (struct series_counters){ s->ts_ns[at], (uint64_t)v[0], (uint64_t)v[1], s->reader_cpu_ns };
	return true;
}

uint64_t series_samples(const struct series *s)
{
	return s ? __atomic_load_n(&s->n, __ATOMIC_ACQUIRE) : 0;
}

pid_t series_pid(const struct series *s)
{
	return s ? s->pid : 0;
}

int series_write(const struct series *s, struct bundle_writer *w)
{
	uint64_t n = __atomic_load_n(&s->n, __ATOMIC_ACQUIRE);
	/* One less than is kept: the oldest may be overwritten just now. */
	uint64_t first = n > SERIES_KEEP - 1 ? n - (SERIES_KEEP - 1) : 0;
	uint64_t *ts = calloc(SERIES_KEEP, sizeof(*ts));
	int64_t *value = calloc(SERIES_KEEP, sizeof(*value));
	int r = ts && value ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < s->n_slots; i++) {
		struct bundle_series out = { s->slot[i].name, s->slot[i].scope, s->slot[i].unit, s->slot[i].counter,
					     ts, value, 0 };

		if (!s->slot[i].used)
			continue;
		for (uint64_t k = SB_MAX(first, s->slot[i].since); k < n; k++) {
			int64_t v = s->value[(size_t)i * SERIES_KEEP + k % SERIES_KEEP];

			if (v == NO_VALUE)
				continue;
			ts[out.n] = s->ts_ns[k % SERIES_KEEP];
			value[out.n++] = v;
		}
		if (out.n)
			r = bundle_writer_series(w, &out);
	}
	free(ts);
	free(value);
	return r;
}
