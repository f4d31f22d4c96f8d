// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the reader of perf's sideband costs in an exec storm: sideband_storm [PER_SECOND [SECONDS [PID]]].
 * Children start /bin/true so many times a second; this process reads as the mapping process does
 * (recorder/unwinder.c), without the tables of files. With a PID another one reads: an agent's
 * stallbox-unwind, whose first thread reads and answers; the others read files and /proc. Needs CAP_PERFMON.
 */
#include <dirent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "recorder/mappings.h"
#include "recorder/sideband.h"

#define STORMERS 3
#define ROUND_MS 50

extern char **environ;

static uint64_t events;

static void take(const struct sideband_event *e, void *ctx)
{
	struct mappings *m = ctx;
	uint32_t file = MAPPINGS_NO_FILE;

	events++;
	switch (e->type) {
	case SIDEBAND_MAP:
		if (e->path[0] == '/' && e->path[1] != '/' && (e->build_id_len || e->ino))
			file = mappings_file(m, e->build_id, e->build_id_len, e->dev, e->ino, e->path);
		mappings_add(m, e->ts_ns, e->pid, e->start, e->len, e->offset, file);
		break;
	case SIDEBAND_EXEC:
		mappings_exec(m, e->ts_ns, e->pid);
		break;
	case SIDEBAND_FORK:
		mappings_fork(m, e->ts_ns, e->pid, e->parent);
		break;
	case SIDEBAND_THREAD:
		mappings_thread(m, e->pid);
		break;
	case SIDEBAND_EXIT:
		mappings_exit(m, e->ts_ns, e->pid);
		break;
	case SIDEBAND_KSYM_GONE:
		break;
	}
}

/* Ends by itself. Writes how many it has started. */
static void storm(unsigned int per_second, uint64_t until_ns, int out)
{
	char *const argv[] = { (char[]){ "true" }, NULL };
	uint64_t begin = sb_monotonic_ns(), n = 0;

	while (sb_monotonic_ns() < until_ns) {
		uint64_t due = begin + n * NSEC_PER_SEC / per_second, now = sb_monotonic_ns();
		pid_t pid;

		if (due > now)
			usleep((useconds_t)((due - now) / 1000));
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
			break;
		waitpid(pid, NULL, 0);
		n++;
	}
	(void)!write(out, &n, sizeof(n));
	_exit(0);
}

/* CPU time of a thread; 0: it is gone. */
static uint64_t thread_ns(const char *pid, const char *tid)
{
	char path[64];
	unsigned long long ns = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/task/%.16s/schedstat", pid, tid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return ns;
}

struct cost {
	uint64_t reader_ns, others_ns;
};

static struct cost cost_of(const char *pid)
{
	struct cost c = {};
	char path[64];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.16s/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, pid))
			c.reader_ns = thread_ns(pid, e->d_name);
		else if (e->d_name[0] != '.')
			c.others_ns += thread_ns(pid, e->d_name);
	}
	if (d)
		closedir(d);
	return c;
}

static void read_here(uint64_t until_ns, struct sideband *s, struct mappings *m)
{
	static const int none[SIDEBAND_OTHERS] = { -1, -1 };

	while (sb_monotonic_ns() < until_ns) {
		sideband_wait(s, ROUND_MS, 2000, none);
		sideband_read(s, take, m);
		mappings_publish(m, sb_monotonic_ns());
	}
}

static int open_here(struct sideband **s, struct mappings **m)
{
	static struct mappings_memory memory;
	int r;

	memory = (struct mappings_memory){ calloc(SB_UNWIND_MAPPINGS, sizeof(struct sb_unwind_map)),
					   calloc(SB_UNWIND_PROCESSES, sizeof(struct sb_unwind_process)) };
	r = mappings_new(&memory, m);
	return r < 0 ? r : sideband_open((uint32_t)sysconf(_SC_NPROCESSORS_CONF), s);
}

int main(int argc, char **argv)
{
	unsigned int per_second = argc > 1 ? (unsigned int)atoi(argv[1]) : 2500, seconds = argc > 2 ? (unsigned int)atoi(argv[2]) : 10;
	char self[16];
	const char *pid = argc > 3 ? argv[3] : self;
	struct mappings *m = NULL;
	struct sideband *s = NULL;
	uint64_t until, begin, span, n = 0, one;
	struct cost before, after;
	int out[2], r = 0;

	snprintf(self, sizeof(self), "%d", getpid());
	if (argc <= 3)
		r = open_here(&s, &m);
	if (r < 0 || pipe(out) < 0 || per_second < STORMERS) {
		fprintf(stderr, "error: cannot open the sideband: %s\n", strerror(-r));
		return 1;
	}
	begin = sb_monotonic_ns();
	until = begin + seconds * NSEC_PER_SEC;
	for (int i = 0; i < STORMERS; i++) {
		if (fork() == 0)
			storm(per_second / STORMERS, until, out[1]);
	}
	before = cost_of(pid);
	if (s)
		read_here(until, s, m);
	else
		usleep((useconds_t)(seconds * 1000000));
	after = cost_of(pid);
	span = sb_monotonic_ns() - begin;
	for (int i = 0; i < STORMERS && read(out[0], &one, sizeof(one)) == sizeof(one); i++)
		n += one;
	while (wait(NULL) > 0)
		;
	if (!n || after.reader_ns <= before.reader_ns) {
		fprintf(stderr, "error: no programs were started, or there is no process %s\n", pid);
		return 1;
	}
	printf("%.0f programs a second: reader %.3f %% of a CPU, %.0f ns each; other threads %.3f %%, %.0f ns each",
	       (double)n * 1e9 / (double)span, (double)(after.reader_ns - before.reader_ns) / (double)span * 100,
	       (double)(after.reader_ns - before.reader_ns) / (double)n,
	       (double)(after.others_ns - before.others_ns) / (double)span * 100,
	       (double)(after.others_ns - before.others_ns) / (double)n);
	if (s)
		printf("; %.1f events each, %llu lost, %llu without room", (double)events / (double)n,
		       (unsigned long long)sideband_lost(s), (unsigned long long)mappings_stats(m).evicted);
	printf("\n");
	sideband_close(s);
	mappings_free(m);
	return 0;
}
