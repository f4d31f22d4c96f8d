// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/orphan.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "format/log.h"
#include "recorder/keeper.h"

#define REPORT_MS 60000 /* the freezer encodes 32 MiB in under a second; a disk may take longer */

/* As kernel: triggers are written. */
static const struct {
	const char *name, *unit;
} conditions[SB_KTRIG_COUNT] = {
	[SB_KTRIG_RECLAIM] = { "reclaim", "ms" },
	[SB_KTRIG_BLOCKED] = { "blocked(D)", "threads" },
	[SB_KTRIG_MMAP_LOCK_WAIT] = { "mmap-lock-wait", "ms" },
	[SB_KTRIG_MMAP_LOCK_HOLD] = { "mmap-lock-hold", "ms" },
	[SB_KTRIG_RUNQ] = { "runq", "ms" },
	[SB_KTRIG_SOFTIRQ_DELAY] = { "softirq-delay", "ms" },
	[SB_KTRIG_SYSCALL] = { "syscall", "ms" },
	[SB_KTRIG_RECLAIM_YIELD] = { "reclaim-yield", "%" },
	[SB_KTRIG_SYSTEM] = { "system", "%" },
	[SB_KTRIG_SOFTIRQ_HELD] = { "softirq-held", "ms" },
};

struct capture_cause orphan_cause(const struct sb_control *c)
{
	const struct sb_ktrigger *met = &c->trigger[c->fired_trigger & (SB_KTRIGGERS - 1)];
	struct capture_cause k = { .name = "kernel", .kind = "kernel", .fired_ns = c->freeze_ns,
				   .target_tid = c->fired_tid };
	unsigned long long ms = met->threshold_ns / NSEC_PER_MSEC;
	uint32_t type = met->type < SB_KTRIG_COUNT ? met->type : SB_KTRIG_NONE;

	k.value = (double)c->fired_value;
	snprintf(k.unit, sizeof(k.unit), "%s", conditions[type].unit ? conditions[type].unit : "");
	switch (type) {
	case SB_KTRIG_NONE: /* of a version that knew more */
		snprintf(k.spec, sizeof(k.spec), "kernel:condition-%u", met->type);
		break;
	case SB_KTRIG_BLOCKED:
		snprintf(k.spec, sizeof(k.spec), "kernel:%s>%llums:count=%u", conditions[type].name, ms, met->count);
		k.threshold = met->count;
		break;
	case SB_KTRIG_RECLAIM_YIELD:
	case SB_KTRIG_SYSTEM:
		snprintf(k.spec, sizeof(k.spec), "kernel:%s%c%u%%:for=%llums", conditions[type].name,
			 type == SB_KTRIG_SYSTEM ? '>' : '<', met->percent, ms);
		k.threshold = met->percent;
		break;
	default:
		snprintf(k.spec, sizeof(k.spec), "kernel:%s>%llums", conditions[type].name, ms);
		k.value = (double)c->fired_value / 1e6;
		k.threshold = (double)met->threshold_ns / 1e6;
	}
	snprintf(k.detail, sizeof(k.detail), "frozen by the kernel while no agent ran, tid %u", c->fired_tid);
	return k;
}

/* ---- without an agent ---------------------------------------------------------------- */

/* Waits for a report of this type. 0, or the error that another one told. */
static int await(const struct capture_process *p, enum capture_report_type type, struct capture_report *ret)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };

	for (;;) {
		int r;

		if (poll(&pfd, 1, REPORT_MS) <= 0)
			return -ETIMEDOUT;
		r = capture_receive(p, ret);
		if (r < 0)
			return r;
		if (r > 0 && ret->type == CAPTURE_HELD)
			(void)capture_send(p, &(struct capture_order){ .type = CAPTURE_DROP });
		if (r > 0 && (ret->type == CAPTURE_FAILED || ret->type == CAPTURE_HELD))
			return ret->error < 0 ? ret->error : -EIO;
		if (r > 0 && ret->type == type)
			return 0;
	}
}

static int capture(struct probes *p, uint64_t newest, const struct capture_process *process,
		   struct capture_report *ret)
{
	struct sb_control *c = p->control;
	struct capture_order o = { .type = CAPTURE_FREEZE, .id = 1, .sealed_ns = c->freeze_ns };
	uint64_t now = sb_realtime_ms();
	char host[65] = "host";
	int r;

	/* The kernel has set it to one above that at which it was armed. */
	o.bank = c->armed_generation & 1;
	o.cause = orphan_cause(c);
	gethostname(host, sizeof(host) - 1);
	spool_name(o.file, host, SB_MAX(newest + 1, now), newest, o.cause.name);
	r = capture_send(process, &o);
	if (r == 0)
		r = await(process, CAPTURE_BANK_READ, ret);
	if (r < 0)
		return r;
	o.type = CAPTURE_POST;
	o.bank = c->generation & 1;
	probes_recorded(p, o.recorded);
	probes_flip(p);
	o.sealed_ns = sb_monotonic_ns();
	r = capture_send(process, &o);
	return r < 0 ? r : await(process, CAPTURE_COMPLETE, ret);
}

int orphan_export(struct options *o, char *ret_path, size_t len)
{
	struct probes p;
	struct capture_config config;
	struct capture_process process;
	struct capture_report report = {};
	struct capture_work work = { .storage.limits = o->spool.limits };
	uint64_t newest;
	char error[512];
	int r;

	options_settings(o, &work.settings[0]);
	r = keeper_prepare(&o->spool, &work.storage, sb_realtime_ms() + SPOOL_AHEAD_MS, &newest);
	if (r < 0)
		return log_errno(r, "cannot write bundles to '%s'", o->spool.dir);
	r = probes_open_pinned(o->config.recorder.bpffs, &p, error, sizeof(error));
	if (r < 0) {
		log_err_and_hint(error);
		return r;
	}
	if (!probes_frozen(p.control)) {
		log_err("no bank below %s/stallbox is frozen%s", o->config.recorder.bpffs,
			p.control->armed ? "; the kernel's conditions are armed" : "");
		probes_leave(&p);
		return -ENOENT;
	}
	config = (struct capture_config){ .probes = &p, .spool = o->spool, .gid = spool_gid(&o->spool), .work = &work,
					  .known_fd = -1 };
	r = capture_start(&config, &process);
	if (r == 0) {
		r = capture(&p, newest, &process, &report);
		capture_stop(&process);
	}
	if (r == 0) {
		snprintf(ret_path, len, "%s", report.path);
		p.control->freeze_ns = 0;
		probes_arm(&p);
	} else {
		log_errno(r, "cannot export the frozen bank; it stays frozen");
	}
	probes_leave(&p);
	return r;
}
