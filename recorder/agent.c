// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/agent.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "format/log.h"
#include "recorder/agent_impl.h"
#include "recorder/limit.h"
#include "recorder/orphan.h"
#include "recorder/ring.h"

/* What a trigger escalates is meant to cost something; its window is not judged. A long one is. */
#define UNJUDGED_NS (30 * NSEC_PER_SEC)

int agent_watch(struct agent *a, int fd, uint32_t events, uint64_t source)
{
	struct epoll_event ev = { .events = events, .data.u64 = source };

	return epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* ---- arming ------------------------------------------------------------------------ */

/* Above the CPU budget what an armed trigger needs stays attached, the rest does not. */
uint32_t agent_always(const struct agent *a)
{
	return a->v.limit.step >= SB_LIMIT_PROGRAMS ? a->probes.control->watch : a->escalate_always;
}

static void write_kernel_triggers(struct agent *a)
{
	struct sb_control *c = a->probes.control;
	uint32_t watch = 0;
	int r;

	__atomic_store_n(&c->armed, 0, __ATOMIC_SEQ_CST);
	c->watch = 0;
	memset(c->trigger, 0, sizeof(c->trigger));
	a->n_kernel = 0;
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		const struct trigger_kernel_condition *k = &a->o->trigger[i]->kernel;

		if (k->type == TRIGGER_KERNEL_NONE)
			continue;
		if (a->n_kernel == SB_KTRIGGERS) {
			log_err("more than %u kernel: triggers; '%s' is not armed", SB_KTRIGGERS,
				a->o->trigger[i]->name);
			a->v.trigger_error[i] = -E2BIG;
			continue;
		}
		a->kernel_index[a->n_kernel] = i;
		c->trigger[a->n_kernel].count = k->count;
		c->trigger[a->n_kernel].threshold_ns = k->threshold_ns;
		memcpy(c->trigger[a->n_kernel].comm, k->comm, strlen(k->comm));
		c->trigger[a->n_kernel].percent = k->percent;
		if (k->cgroup[0]) {
			c->trigger[a->n_kernel].cgroup_id = probes_cgroup_id(&a->probes, k->cgroup);
			if (!c->trigger[a->n_kernel].cgroup_id) {
				log_err("trigger '%s': there is no cgroup '%s'", a->o->trigger[i]->name, k->cgroup);
				a->v.trigger_error[i] = -ENOENT;
				continue;
			}
			watch |= SB_WATCH_CGROUP;
		}
		c->trigger[a->n_kernel].type = k->type; /* the same numbers, asserted below */
		watch |= 1u << k->type;
		a->n_kernel++;
	}
	c->cpus_online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	c->window_ns = sb_monotonic_ns();
	r = probes_set_deadlines(&a->probes);
	if (r < 0)
		log_errno(r, "cannot set the timers of kernel: triggers: threads in D state are looked at every 10 ms");
	c->watch = watch;
	a->escalate_always = !strcmp(a->o->escalate, "always") ? ~0u : watch;
	probes_escalate(&a->probes, agent_always(a));
}

_Static_assert((int)TRIGGER_KERNEL_RECLAIM == SB_KTRIG_RECLAIM &&
		       (int)TRIGGER_KERNEL_BLOCKED == SB_KTRIG_BLOCKED &&
		       (int)TRIGGER_KERNEL_MMAP_LOCK_WAIT == SB_KTRIG_MMAP_LOCK_WAIT &&
		       (int)TRIGGER_KERNEL_MMAP_LOCK_HOLD == SB_KTRIG_MMAP_LOCK_HOLD &&
		       (int)TRIGGER_KERNEL_RUNQ == SB_KTRIG_RUNQ &&
		       (int)TRIGGER_KERNEL_SOFTIRQ_DELAY == SB_KTRIG_SOFTIRQ_DELAY &&
		       (int)TRIGGER_KERNEL_SYSCALL == SB_KTRIG_SYSCALL &&
		       (int)TRIGGER_KERNEL_RECLAIM_YIELD == SB_KTRIG_RECLAIM_YIELD &&
		       (int)TRIGGER_KERNEL_SYSTEM == SB_KTRIG_SYSTEM,
	       "conditions");

/* On whole periods of the clock: triggers of 500 ms and of 1 s share their wakeups. */
static uint64_t next_due(const struct trigger *t, uint64_t now)
{
	return (now / t->period_ns + 1) * t->period_ns;
}

static int arm_triggers(struct agent *a)
{
	uint64_t now = sb_monotonic_ns();
	size_t armed = 0;

	for (size_t i = 0; i < a->o->n_triggers; i++) {
		struct trigger *t = a->o->trigger[i];
		int r = a->v.trigger_error[i];

		if (r == 0 && t->ops->arm)
			r = t->ops->arm(t, &a->env);
		a->v.trigger_error[i] = r;
		if (r < 0) {
			log_errno(r, "cannot arm trigger '%s'", t->spec);
			continue;
		}
		armed++;
		if (t->fd >= 0)
			agent_watch(a, t->fd, t->events, SRC_TRIGGER + i);
		a->due[i] = t->period_ns ? next_due(t, now) : UINT64_MAX;
	}
	return armed ? 0 : -ENOENT;
}

/* ---- own cost ---------------------------------------------------------------------- */

struct selfcost_sources agent_cost_sources(const struct agent *a)
{
	uint32_t online = a->probes.control->cpus_online;

	return (struct selfcost_sources){
		.probes = &a->probes,
		.series = a->series,
		.work = a->work,
		.pool = &a->pool,
		.cpus = online ? online : a->probes.cfg.cpus,
		.budget_ppm = a->v.limit.budget_ppm,
		.limit_step = a->v.limit.step,
	};
}

/* Carries a step out, and says so: here, in status, and in every later bundle. */
static void set_limit(struct agent *a, uint32_t from, uint32_t cost_ppm)
{
	struct sb_limit_note note = { sb_monotonic_ns(), from, a->v.limit.step, cost_ppm,
				      a->v.limit.budget_ppm };
	char text[256];
	int r = probes_limit(&a->probes, a->v.limit.step);

	probes_note_limit(&a->probes, &note);
	limit_note_text(&note, text, sizeof(text));
	log_warn("limit: %s", text);
	if (r < 0)
		log_errno(r, "cannot attach an optional program again; it is tried at the next step");
	if (a->v.state != AGENT_POST_TRIGGER)
		agent_escalate(a, false);
	selfcost_remeasure(&a->v.cost);
}

static void take_stock(struct agent *a, uint64_t now)
{
	struct selfcost_sources s = agent_cost_sources(a);
	struct selfcost *c = &a->v.cost;
	uint32_t step = a->v.limit.step;

	a->selfcost_due = selfcost_tick(c, &s, now);
	if (!c->span_ns)
		return;
	if (a->v.state == AGENT_POST_TRIGGER && now - a->state_since_ns < UNJUDGED_NS)
		return;
	if (limit_judge(&a->v.limit, c->span_ns, c->span_cost_ns, s.cpus))
		set_limit(a, step, a->v.limit.cost_ppm);
}

/* What an earlier agent left out is recorded again: this one judges for itself. */
static void start_limit(struct agent *a)
{
	uint32_t step = a->probes.control->limit_step;

	limit_init(&a->v.limit, (uint32_t)a->o->cpu_budget_ppm);
	a->probes.control->budget_ppm = a->v.limit.budget_ppm;
	if (step)
		set_limit(a, step, 0);
}

/* ---- requests ---------------------------------------------------------------------- */

static void request_freeze(struct agent *a, struct control_client *c, const char *reason, bool wait)
{
	struct trigger_hit hit = { .fired_ns = sb_monotonic_ns(), .unit = "" };
	uint32_t before = a->v.capture_id;

	snprintf(hit.detail, sizeof(hit.detail), "%s", reason);
	c->capture_id = agent_ask(a, &hit);
	if (wait || c->capture_id != a->v.capture_id) {
		c->waiting = true;
		c->begun = !wait;
	} else {
		agent_answer_begun(a, c, c->capture_id == before);
	}
}

static void serve(struct agent *a, struct control_client *c)
{
	static char text[32768];
	const char *reason;
	int r = control_read(c);

	if (r == 0)
		return;
	if (r < 0) {
		control_drop(c);
		return;
	}
	a->v.env_now_ns = sb_monotonic_ns();
	a->v.sources = agent_cost_sources(a);
	a->v.cooldown_end_ns = a->cooldown_end_ns;
	switch (control_parse(c->line, &reason)) {
	case CONTROL_STATUS:
		status_text(&a->v, a->o, &a->probes, text, sizeof(text));
		control_answer(c, text);
		break;
	case CONTROL_STATUS_JSON:
		status_json(&a->v, a->o, &a->probes, text, sizeof(text));
		control_answer(c, text);
		break;
	case CONTROL_FREEZE:
		request_freeze(a, c, reason, false);
		break;
	case CONTROL_FREEZE_WAIT:
		request_freeze(a, c, reason, true);
		break;
	default:
		control_answer(c, "error 2 unknown request, expected status, status-json, freeze "
				  "or freeze-wait\n");
	}
}

static void accept_client(struct agent *a)
{
	struct control_client *c = control_accept(&a->control, sb_monotonic_ns());

	if (c && agent_watch(a, c->fd, EPOLLIN, SRC_CLIENT + (uint64_t)(c - a->control.client)) < 0)
		control_drop(c);
}

static void take_signal(struct agent *a)
{
	struct signalfd_siginfo si;
	struct trigger_hit hit = { .fired_ns = sb_monotonic_ns(), .unit = "" };

	while (read(a->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1) {
			snprintf(hit.detail, sizeof(hit.detail), "SIGUSR1 from pid %u", si.ssi_pid);
			agent_ask(a, &hit);
		} else {
			a->stop = true;
		}
	}
}

/* ---- the loop ------------------------------------------------------------------------ */

static void check_trigger(struct agent *a, size_t i, uint64_t now)
{
	struct trigger *t = a->o->trigger[i];
	struct trigger_hit hit = {};
	int r;

	if (a->v.trigger_error[i] < 0)
		return;
	r = t->ops->check(t, &a->env, now, &hit);
	if (r < 0) {
		a->v.trigger_error[i] = r;
		a->due[i] = UINT64_MAX;
		if (t->fd >= 0)
			epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, t->fd, NULL);
		log_errno(r, "trigger '%s' cannot look any more and is disarmed", t->name);
	} else if (r > 0) {
		agent_fire(a, t, &hit);
	}
}

static void run_timers(struct agent *a, uint64_t now)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		if (now < a->due[i])
			continue;
		check_trigger(a, i, now);
		if (a->v.trigger_error[i] >= 0)
			a->due[i] = next_due(a->o->trigger[i], now);
	}
	if (now >= a->cpus_due) {
		int n = probes_follow_cpus(&a->probes);

		if (n > 0)
			log_info("%d CPUs came online and are sampled", n);
		a->cpus_due = (now / NSEC_PER_SEC + 1) * NSEC_PER_SEC; /* with the triggers of a second */
		agent_take_unheard(a, now);
		agent_fill_pool(a);
	}
	if (now >= a->selfcost_due)
		take_stock(a, now);
	if (a->v.state == AGENT_POST_TRIGGER && a->pre_read && now >= a->post_deadline_ns)
		agent_end_post_window(a);
	if (a->v.state == AGENT_COOLDOWN && now >= a->cooldown_end_ns)
		agent_arm(a);
	if (((a->v.state == AGENT_POST_TRIGGER && !a->pre_read) || a->v.state == AGENT_FREEZING) &&
	    now >= a->state_since_ns + FREEZER_TIMEOUT_NS)
		agent_lose_capture(a, "makes no progress");
}

static int timeout_ms(const struct agent *a, uint64_t now)
{
	uint64_t due = SB_MIN(a->selfcost_due, a->cpus_due);

	for (size_t i = 0; i < a->o->n_triggers; i++)
		due = SB_MIN(due, a->due[i]);
	if (a->v.state == AGENT_POST_TRIGGER && a->pre_read)
		due = SB_MIN(due, a->post_deadline_ns);
	if (a->v.state == AGENT_COOLDOWN)
		due = SB_MIN(due, a->cooldown_end_ns);
	if ((a->v.state == AGENT_POST_TRIGGER && !a->pre_read) || a->v.state == AGENT_FREEZING)
		due = SB_MIN(due, a->state_since_ns + FREEZER_TIMEOUT_NS);
	if (due <= now)
		return 0;
	return (int)SB_MIN((due - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, 3600000ULL);
}

static void dispatch(struct agent *a, uint64_t source)
{
	if (source == SRC_SIGNAL)
		take_signal(a);
	else if (source == SRC_HITS)
		ring_buffer__consume(a->hits);
	else if (source == SRC_STARTER)
		agent_take_process(a);
	else if (source == SRC_LISTEN)
		accept_client(a);
	else if (source >= SRC_CLIENT)
		serve(a, &a->control.client[source - SRC_CLIENT]);
	else if (source >= SRC_CAPTURE)
		agent_take_reports(a, &a->pool.slot[source - SRC_CAPTURE]);
	else
		check_trigger(a, source - SRC_TRIGGER, sb_monotonic_ns());
}

static void loop(struct agent *a)
{
	struct epoll_event ev[32];

	while (!a->stop) {
		int n = epoll_wait(a->epoll_fd, ev, SB_ARRAY_SIZE(ev),
				   timeout_ms(a, sb_monotonic_ns()));

		a->v.cost.wakeups++;
		for (int i = 0; i < n; i++)
			dispatch(a, ev[i].data.u64);
		run_timers(a, sb_monotonic_ns());
	}
}

/* ---- start ---------------------------------------------------------------------------- */

static void become_realtime(void)
{
	struct sched_param sp = { .sched_priority = 1 };

	/* 0.8 ms late at worst behind 100 busy threads, against 84 ms (measured). */
	if (sched_setscheduler(0, SCHED_FIFO, &sp) < 0)
		log_warn("cannot use SCHED_FIFO: %s; triggers may be late on a busy host",
			 strerror(errno));
}

static int open_lock(const struct options *o)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[128], pid[16] = "", *slash;
	int fd;

	snprintf(path, sizeof(path), "%s", o->socket);
	slash = strrchr(path, '/');
	if (slash) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	strncat(path, ".lock", sizeof(path) - strlen(path) - 1);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return log_errno(-errno, "cannot open the lock '%s'", path);
	/* A record lock, not flock(): a child stuck on a disk must not hold it for a dead agent. */
	if (fcntl(fd, F_SETLK, &lock) < 0) {
		(void)!read(fd, pid, sizeof(pid) - 1);
		log_err("another stallboxd is running (pid %s), it holds '%s'",
			pid[0] ? strtok(pid, "\n") : "unknown", path);
		log_hint("use 'stallbox status' to talk to it, or give this one its own --socket, "
			 "--spool and --no-pin");
		close(fd);
		return -EBUSY;
	}
	dprintf(fd, "%d\n", getpid());
	return fd;
}

static void print_start(const struct agent *a)
{
	const struct probes *p = &a->probes;

	log_info("stallboxd %s: recording%s, %u CPUs, %llu MiB of ring in two banks, %zu MiB of kernel "
		 "memory in all, %zu triggers armed", SB_VERSION,
		 p->taken_over ? " (took over a running recorder)" : "", p->cfg.cpus,
		 (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus >> 20),
		 p->map_bytes >> 20, a->o->n_triggers);
	if (p->older)
		log_warn("the programs in the kernel are those of another build; 'stallboxd --unload' before the "
			 "next start replaces them and ends the history");
	if (p->replaced)
		log_warn("the pinned recorder had another layout or other settings; it was replaced and "
			 "its history is gone");
	if (!p->pinned)
		log_warn("nothing is pinned: recording ends with this agent");
	for (size_t i = 0; i < p->n_missing; i++)
		log_info("not available on this kernel: %s: %s", p->missing[i].key, p->missing[i].value);
}

static int open_sources(struct agent *a)
{
	sigset_t set;
	int r;

	a->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->hits = ring_buffer__new(a->probes.hits_fd, agent_kernel_hit, a, NULL);
	if (a->epoll_fd < 0 || a->signal_fd < 0 || !a->hits)
		return log_errno(-errno, "cannot set up the event loop");
	r = agent_watch(a, a->signal_fd, EPOLLIN, SRC_SIGNAL);
	if (r == 0)
		r = agent_watch(a, ring_buffer__epoll_fd(a->hits), EPOLLIN, SRC_HITS);
	if (r == 0)
		r = agent_watch(a, a->pool.starter.fd, EPOLLIN, SRC_STARTER);
	for (uint64_t i = 0; r == 0 && i < POOL_SLOTS; i++) {
		if (a->pool.slot[i].use)
			r = agent_watch(a, a->pool.slot[i].p.fd, EPOLLIN, SRC_CAPTURE + i);
	}
	if (r == 0)
		r = agent_watch(a, a->control.fd, EPOLLIN, SRC_LISTEN);
	return r < 0 ? log_errno(r, "cannot set up the event loop") : 0;
}

static int start(struct agent *a)
{
	const char *program[PROBES_MAX_PROGRAMS];
	char error[512];
	int r;

	r = spool_prepare(&a->o->spool);
	if (r < 0) {
		log_errno(r, "cannot write bundles to '%s'", a->o->spool.dir);
		log_hint("create the directory, free space on it, or choose another with --spool");
		return r;
	}
	if (a->o->realtime)
		become_realtime();
	r = probes_open(&a->o->probes, &a->probes, error, sizeof(error));
	if (r < 0) {
		log_err_and_hint(error);
		return r;
	}
	for (size_t i = 0; i < a->probes.n_programs; i++)
		program[i] = a->probes.program[i].name;
	r = series_start(a->probes.cfg.cpus, a->probes.cfg.cgroup_v1_memory, program, a->probes.n_programs,
			 &a->series);
	if (r < 0)
		log_errno(r, "cannot keep the host's counters; bundles will lack them");
	a->work = mmap(NULL, sizeof(*a->work), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (a->work == MAP_FAILED)
		return log_errno(-errno, "cannot share memory with the processes of captures");
	a->capture_config = (struct capture_config){
		.probes = &a->probes,
		.series = a->series,
		.work = a->work,
		.spool = a->o->spool,
		.config = a->o->config,
		.n_config = a->o->n_config,
		.post_ns = a->o->post_ns,
		.realtime = a->o->realtime,
	};
	r = pool_start(&a->pool, &a->capture_config, &a->control.fd);
	if (r < 0)
		return log_errno(r, "cannot start the processes of captures");
	/* After the processes: one that outlives us must not answer in our name. */
	r = control_open(&a->control, a->o->socket);
	if (r < 0)
		return log_errno(r, "cannot listen on '%s'", a->o->socket);
	r = open_sources(a);
	if (r < 0)
		return r;
	if (a->o->realtime && mlockall(MCL_CURRENT) < 0)
		log_warn("cannot lock the agent's memory: %s", strerror(errno));
	return 0;
}

static void stop(struct agent *a)
{
	for (size_t i = 0; i < a->o->n_triggers; i++) {
		if (a->o->trigger[i]->ops->disarm)
			a->o->trigger[i]->ops->disarm(a->o->trigger[i]);
	}
	if (a->probes.control && a->v.state == AGENT_RECORDING && !a->probes.pinned)
		a->probes.control->armed = 0;
	pool_stop(&a->pool);
	series_stop(a->series);
	control_close(&a->control);
	if (a->hits)
		ring_buffer__free(a->hits);
	probes_close(&a->probes);
}

int agent_run(struct options *o, int ready_fd)
{
	struct agent a = { .o = o, .env = trigger_env_host(), .pool.starter.fd = -1, .control.fd = -1 };
	_cleanup_close_ int lock = open_lock(o);
	struct capture_cause cause;
	char path[SPOOL_NAME_MAX + 256];
	bool orphan;

	if (lock < 0)
		return SB_EXIT_FAILURE;
	for (size_t i = 0; i < OPTIONS_MAX_TRIGGERS; i++)
		a.due[i] = UINT64_MAX;
	/* What the kernel froze in a recorder that does not fit is lost with it unless it is written now. */
	if (o->pin && probes_left_frozen(o->bpffs) && probes_would_replace(&o->probes) &&
	    orphan_export(o, path, sizeof(path)) == 0)
		log_info("complete: %s, frozen by the kernel while no agent ran", path);
	if (start(&a) < 0) {
		stop(&a);
		return SB_EXIT_FAILURE;
	}
	/* An earlier agent's last bundle may not be written yet. */
	a.stamp_ms = SB_MAX(spool_newest(&o->spool, sb_realtime_ms() + SPOOL_AHEAD_MS),
			    a.probes.taken_over ? sb_realtime_ms() : 0);
	orphan = a.probes.taken_over && probes_frozen(a.probes.control);
	/* Before ours take the place of the conditions that the agent of that time had armed. */
	cause = orphan_cause(a.probes.control);
	write_kernel_triggers(&a);
	if (orphan)
		agent_begin_capture(&a, &cause, 0, sb_monotonic_ns());
	else
		agent_arm(&a);
	if (arm_triggers(&a) < 0) {
		log_err("no trigger could be armed");
		stop(&a);
		return SB_EXIT_FAILURE;
	}
	print_start(&a);
	if (ready_fd >= 0)
		(void)!write(ready_fd, "", 1);
	malloc_trim(0);
	selfcost_init(&a.v.cost);
	start_limit(&a);
	loop(&a);
	log_info("stallboxd ends%s", a.probes.pinned ?
		 "; recording goes on in the kernel ('stallboxd --unload' ends it)" : "");
	stop(&a);
	return SB_EXIT_OK;
}

int agent_list_features(struct options *o)
{
	struct probes p;
	char error[512];
	int r;

	o->probes.pin = false;
	r = probes_open(&o->probes, &p, error, sizeof(error));
	if (r < 0) {
		printf("required: missing: %s\n", error);
		return SB_EXIT_FAILURE;
	}
	printf("required: all present\n");
	printf("programs: %zu loaded and attached\n", p.n_programs);
	for (size_t i = 0; i < p.n_missing; i++)
		printf("optional: absent: %s: %s\n", (const char *)p.missing[i].key,
		       (const char *)p.missing[i].value);
	if (!p.n_missing)
		printf("optional: all present\n");
	probes_close(&p);
	return SB_EXIT_OK;
}
