// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/watchdog.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "format/log.h"
#include "recorder/systemd.h"

/* A timer that is this late on a host where the agent has SCHED_FIFO has been forgotten. */
#define OVERDUE_NS (10 * NSEC_PER_SEC)
/* No CPU has ticked for so long: samplers tick 99 times a second on each of them. */
#define SILENT_NS (5 * NSEC_PER_SEC)
/* Work that a live sampler interrupts, in its periods, and the longest that is worth the CPU time. */
#define PROOF_PERIODS 3
#define PROOF_MAX_NS (100 * NSEC_PER_MSEC)

int watchdog_init(struct watchdog *w, uint64_t now_ns)
{
	*w = (struct watchdog){ .feed_ns = systemd_watchdog_ns() / 3, .fd = -1 };
	if (!w->feed_ns)
		return 0;
	w->due_ns = now_ns;
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return w->fd < 0 ? -errno : 0;
}

void watchdog_done(struct watchdog *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

static uint64_t newest_tick(const struct probes *p)
{
	uint64_t newest = p->cfg.tick_ns ? __atomic_load_n(&p->control->last_scan_ns, __ATOMIC_RELAXED) : 0;

	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++)
		newest = SB_MAX(newest, __atomic_load_n(&p->cpus[cpu].last_tick_ns, __ATOMIC_RELAXED));
	return newest;
}

bool watchdog_sampler_ticks(const struct probes *p, uint64_t now_ns)
{
	uint64_t before = newest_tick(p), proof_ns = PROOF_PERIODS * p->cfg.sample_period_ns, end;

	if (now_ns < before + SILENT_NS + PROOF_PERIODS * p->cfg.sample_period_ns)
		return true;
	if (proof_ns > PROOF_MAX_NS)
		return true; /* so slow a sampler cannot be told from none */
	end = sb_now_ns(CLOCK_THREAD_CPUTIME_ID) + proof_ns;
	while (newest_tick(p) == before) {
		if (sb_now_ns(CLOCK_THREAD_CPUTIME_ID) > end)
			return false;
	}
	return true;
}

static void starve(struct watchdog *w, const char *why)
{
	if (!w->said)
		log_err("the agent makes no progress: %s; unless that ends the service manager restarts it", why);
	w->said = true;
}

void watchdog_check(struct watchdog *w, struct probes *p, uint64_t overdue_ns, uint64_t now_ns)
{
	if (w->fd < 0 || now_ns < w->due_ns)
		return;
	w->due_ns = now_ns + w->feed_ns;
	if (overdue_ns > OVERDUE_NS) {
		starve(w, "a timer was forgotten");
		return;
	}
	if (!watchdog_sampler_ticks(p, now_ns)) {
		int n = probes_reopen_samplers(p);

		log_err("the sampler ticked on no CPU for %llu s; %d opened anew",
			(unsigned long long)(SILENT_NS / NSEC_PER_SEC), n);
		if (!watchdog_sampler_ticks(p, now_ns)) {
			starve(w, "the sampler does not tick");
			return;
		}
	}
	w->said = false;
	(void)!eventfd_write(w->fd, 1);
}

void watchdog_feed(struct watchdog *w)
{
	eventfd_t n;

	if (eventfd_read(w->fd, &n) == 0)
		systemd_notify("WATCHDOG=1");
}
