// SPDX-License-Identifier: BSD-2-Clause
/*
 * Pressure stall information (Documentation/accounting/psi.rst): stall time of at least
 * THRESHOLD within WINDOW, for the system or one cgroup v2.
 *
 * With CAP_SYS_RESOURCE the kernel watches and wakes us. Without it a trigger is served by
 * a 2 s worker and swallowed by any other reader of the file (measured), so we read `total=`
 * every 250 ms and compute the window; oftener would disturb the counter itself. While
 * nothing stalls, once a second is enough and costs no wakeup of its own beside other triggers;
 * less than that of the host's pressure, which begins for those who watch it (triggers/host.h), too.
 *
 * held-for= and hysteresis= need the level, which the kernel's events do not tell: with them it is read, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "triggers/parse.h"

#define READ_PERIOD_NS (250 * NSEC_PER_MSEC)
#define QUIET_PERIOD_NS (1000 * NSEC_PER_MSEC)
/* A look this much late is still of its time. */
#define LATE_NS (READ_PERIOD_NS / 2)
#define MIN_WINDOW_NS (500 * NSEC_PER_MSEC)
#define MAX_WINDOW_NS (10 * NSEC_PER_SEC)
#define READINGS 48 /* of the longest window, and some */

struct psi {
	char resource[8], cgroup[256];
	enum host_resource of;
	bool full;
	uint64_t threshold_ns, window_ns;
	int file_fd; /* read mode */
	struct {
		uint64_t ns, total_us;
	} reading[READINGS];
	uint64_t n; /* readings ever taken */
	uint64_t quiet_until_ns; /* at most one hit per window */
	uint64_t event_ns;	 /* of the kernel's last one */
};

static int psi_parse(struct trigger *t, const char *args, char *ret_error, size_t len)
{
	static const char *const resources[] = { "memory", "cpu", "io" };
	char copy[TRIGGER_SPEC_MAX], *rest = copy, *res, *kind, *span, *slash, *word;
	struct psi *p = t->state = calloc(1, sizeof(*p));
	size_t i;

	if (!p)
		return -ENOMEM;
	p->file_fd = -1;
	strcpy(copy, args);
	res = spec_next(&rest);
	kind = spec_next(&rest);
	span = spec_next(&rest);
	for (i = 0; i < 3 && strcmp(res, resources[i]); i++)
		;
	if (i == 3)
		return spec_error(ret_error, len, "unknown resource '%s', expected memory, cpu or io, "
				  "for example psi:memory:full:150ms/2s", res);
	if (!kind || (strcmp(kind, "some") && strcmp(kind, "full")))
		return spec_error(ret_error, len, "unknown pressure '%s', expected some or full, for "
				  "example psi:memory:full:150ms/2s", kind ? kind : "");
	slash = span ? strchr(span, '/') : NULL;
	if (slash)
		*slash++ = '\0';
	if (!slash || parse_duration_ns(span, &p->threshold_ns) < 0 ||
	    parse_duration_ns(slash, &p->window_ns) < 0)
		return spec_error(ret_error, len, "bad threshold and window '%s%s%s', expected for example "
				  "150ms/2s", span ? span : "", slash ? "/" : "", slash ? slash : "");
	if (p->window_ns < MIN_WINDOW_NS || p->window_ns > MAX_WINDOW_NS)
		return spec_error(ret_error, len, "window %s out of range, expected 500ms to 10s", slash);
	if (!p->threshold_ns || p->threshold_ns > p->window_ns)
		return spec_error(ret_error, len, "threshold %s out of range, expected more than 0 and at "
				  "most the window %s", span, slash);
	while ((word = spec_next(&rest))) {
		const char *v = spec_value(word, "cgroup");

		if (!v || !*v || strlen(v) >= sizeof(p->cgroup))
			return spec_error(ret_error, len, "unknown option '%s', expected cgroup=PATH", word);
		strcpy(p->cgroup, v);
	}
	strcpy(p->resource, res);
	p->of = (enum host_resource)i;
	p->full = !strcmp(kind, "full");
	t->unit = "ms";
	t->threshold = (double)p->threshold_ns / 1e6;
	return 0;
}

/* "total=" in microseconds of the line that begins with some or full. */
static int psi_total(const char *text, bool full, uint64_t *ret_us)
{
	const char *line = strstr(text, full ? "full " : "some ");
	const char *total = line ? strstr(line, "total=") : NULL;
	unsigned long long v;

	if (!total || sscanf(total, "total=%llu", &v) != 1)
		return -ENODATA;
	*ret_us = v;
	return 0;
}

static int psi_read(struct psi *p, uint64_t now_ns)
{
	uint64_t total;
	char text[256];
	int r = read_again(p->file_fd, text, sizeof(text));

	if (r < 0)
		return r;
	r = psi_total(text, p->full, &total);
	if (r < 0)
		return r;
	if (p->n && total < p->reading[(p->n - 1) % READINGS].total_us)
		p->n = 0; /* counted anew, as of a cgroup that was made again: nothing is known of before */
	p->reading[p->n % READINGS].ns = now_ns;
	p->reading[p->n % READINGS].total_us = total;
	p->n++;
	return 0;
}

static int psi_arm(struct trigger *t, const struct trigger_env *env)
{
	struct psi *p = t->state;
	char path[512], text[96];
	int n;

	if (p->cgroup[0] && !env->cgroup)
		return -ENOTSUP;
	if (p->cgroup[0])
		snprintf(path, sizeof(path), "%s/%s/%s.pressure", env->cgroup, p->cgroup, p->resource);
	else
		snprintf(path, sizeof(path), "%s/pressure/%s", env->proc, p->resource);
	p->file_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->file_fd < 0)
		return -errno;
	if (env->have_sys_resource && !t->held_ns && !(t->hysteresis > 0)) {
		t->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		n = snprintf(text, sizeof(text), "%s %llu %llu", p->full ? "full" : "some",
			     (unsigned long long)(p->threshold_ns / NSEC_PER_USEC),
			     (unsigned long long)(p->window_ns / NSEC_PER_USEC));
		if (t->fd >= 0 && write(t->fd, text, (size_t)n + 1) > 0) {
			t->events = EPOLLPRI;
			return 0;
		}
		if (t->fd >= 0)
			close(t->fd);
		t->fd = -1;
	}
	t->period_ns = READ_PERIOD_NS;
	return psi_read(p, env->now_ns());
}

/* Stall time within the window that ends now, in ns. */
static uint64_t psi_grown(const struct psi *p)
{
	uint64_t last = p->n - 1, oldest = p->n > READINGS ? p->n - READINGS : 0;
	uint64_t now = p->reading[last % READINGS].ns, start = last;

	while (start > oldest && now - p->reading[(start - 1) % READINGS].ns <= p->window_ns + LATE_NS)
		start--;
	return (p->reading[last % READINGS].total_us - p->reading[start % READINGS].total_us) *
	       NSEC_PER_USEC;
}

/* Has pressure begun, by as much of a second at most as who watches it says so? Then look closer. */
static uint64_t psi_period(const struct psi *p)
{
	uint64_t a = (p->n - 2) % READINGS, b = (p->n - 1) % READINGS, stalled_ns, span_ns;

	if (p->n < 2 || p->window_ns < 2 * QUIET_PERIOD_NS)
		return READ_PERIOD_NS;
	stalled_ns = (p->reading[b].total_us - p->reading[a].total_us) * NSEC_PER_USEC;
	span_ns = SB_MIN(p->reading[b].ns - p->reading[a].ns, QUIET_PERIOD_NS);
	return stalled_ns < span_ns / HOST_STALL_SHARE ? QUIET_PERIOD_NS : READ_PERIOD_NS;
}

/* What stalls without having begun does not add up to the threshold before the next look. A cgroup's tasks are a small
 * part of the host's: they may stall when the host does not. */
static uint32_t psi_quiet(const struct trigger *t, uint64_t grown_ns)
{
	const struct psi *p = t->state;

	return t->period_ns == QUIET_PERIOD_NS && !p->cgroup[0] && !t->waits_for_calm &&
	       grown_ns + TRIGGER_QUIET_NS / HOST_STALL_SHARE < p->threshold_ns ? HOST_STALLS(p->of) : 0;
}

static void psi_hit(const struct trigger *t, const struct psi *p, uint64_t now_ns, double ms,
		    struct trigger_hit *ret)
{
	ret->fired_ns = now_ns;
	ret->value = ms;
	ret->threshold = t->threshold;
	ret->unit = "ms";
	snprintf(ret->detail, sizeof(ret->detail), "%s %s of %s%s: at least %.0f ms within %.1f s",
		 p->resource, p->full ? "full" : "some", p->cgroup[0] ? "cgroup " : "the system",
		 p->cgroup, ms, (double)p->window_ns / 1e9);
}

static int psi_check(struct trigger *t, const struct trigger_env *env, uint64_t now_ns,
		     struct trigger_hit *ret)
{
	struct psi *p = t->state;
	uint64_t grown;
	int r;

	(void)env;
	if (t->fd >= 0) { /* the kernel has looked */
		struct pollfd gone = { .fd = t->fd, .events = POLLPRI };

		/* Of a cgroup that is no more: this comes again and again and means nothing else. */
		if (poll(&gone, 1, 0) > 0 && (gone.revents & POLLERR))
			return -ENODEV;
		t->value = t->threshold;
		t->met = true;
		psi_hit(t, p, now_ns, t->threshold, ret);
		/* One event a window as long as it goes on. */
		ret->goes_on = p->event_ns && now_ns - p->event_ns < 2 * p->window_ns;
		p->event_ns = now_ns;
		return 1;
	}
	r = psi_read(p, now_ns);
	if (r < 0)
		return r;
	t->period_ns = psi_period(p);
	grown = psi_grown(p);
	t->value = (double)grown / 1e6;
	t->quiet = psi_quiet(t, grown);
	if (grown >= p->threshold_ns && now_ns < p->quiet_until_ns)
		return 0;
	if (!level_fires(t, grown >= p->threshold_ns, (double)grown < calm_below(t, (double)p->threshold_ns),
			 p->reading[(p->n - 1) % READINGS].ns, now_ns, ret))
		return 0;
	p->quiet_until_ns = now_ns + p->window_ns;
	psi_hit(t, p, now_ns, t->value, ret);
	return 1;
}

/* What the kernel watches is not read all the time: the average of 10 s stands for the window. */
static void psi_look(struct trigger *t, const struct trigger_env *env)
{
	const struct psi *p = t->state;
	char text[256], *line, *avg;

	(void)env;
	if (t->fd < 0 || read_again(p->file_fd, text, sizeof(text)) <= 0)
		return;
	line = strstr(text, p->full ? "full " : "some ");
	avg = line ? strstr(line, "avg10=") : NULL;
	if (!avg)
		return;
	t->value = strtod(avg + strlen("avg10="), NULL) / 100 * (double)p->window_ns / 1e6;
	t->met = t->value >= t->threshold;
}

static void psi_disarm(struct trigger *t)
{
	struct psi *p = t->state;

	if (t->fd >= 0)
		close(t->fd);
	if (p->file_fd >= 0)
		close(p->file_fd);
	t->fd = p->file_fd = -1;
}

const struct trigger_ops trigger_psi = {
	.kind = "psi",
	.syntax = "psi:memory|cpu|io:some|full:THRESHOLD/WINDOW[:cgroup=PATH]",
	.parse = psi_parse,
	.arm = psi_arm,
	.check = psi_check,
	.look = psi_look,
	.disarm = psi_disarm,
};
