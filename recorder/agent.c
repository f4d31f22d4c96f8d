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
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "format/log.h"
#include "recorder/agent_impl.h"
#include "recorder/keeper.h"
#include "recorder/limit.h"
#include "recorder/orphan.h"
#include "recorder/privileges.h"
#include "recorder/ring.h"
#include "recorder/systemd.h"
#include "recorder/text.h"

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

/* ---- own cost ---------------------------------------------------------------------- */

struct selfcost_sources agent_cost_sources(const struct agent *a)
{
	uint32_t online = a->probes.control->cpus_online;

	return (struct selfcost_sources){
		.probes = &a->probes,
		.series = a->series,
		.work = a->work,
		.pool = &a->pool,
		.unwinder = a->unwinder.pid,
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

	limit_init(&a->v.limit, (uint32_t)a->o->config.recorder.cpu_budget_ppm);
	a->probes.control->budget_ppm = a->v.limit.budget_ppm;
	if (step)
		set_limit(a, step, 0);
}

static void take_signal(struct agent *a)
{
	struct signalfd_siginfo si;
	struct trigger_hit hit = { .fired_ns = sb_monotonic_ns(), .unit = "" };

	while (read(a->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1) {
			snprintf(hit.detail, sizeof(hit.detail), "SIGUSR1 from pid %u", si.ssi_pid);
			agent_ask(a, &hit);
		} else if (si.ssi_signo == SIGHUP) {
			agent_renew_control(a);
			agent_reload(a);
		} else {
			a->stop = true;
		}
	}
}

/* ---- the loop ------------------------------------------------------------------------ */

static void check_unwinder(struct agent *a)
{
	const struct unwinder *u = &a->unwinder;

	switch (unwinder_check(&a->probes, &a->unwinder)) {
	case UNWINDER_ENDED:
		log_err("the process that keeps the tables for user stacks has ended%s%s: they are by frame pointers until "
			"another one begins, in %llu s", u->stats->error ? ", " : "",
			u->stats->error ? strerror((int)-u->stats->error) : "", (unsigned long long)(u->wait_ns / NSEC_PER_SEC));
		break;
	case UNWINDER_BEGINS:
		log_warn("another process that keeps the tables for user stacks begins");
		break;
	case UNWINDER_SAME:
		break;
	}
}

/* Does anything go on that ends, or is given up, at some time? */
static bool is_busy(const struct agent *a)
{
	const struct unwinder *u = &a->unwinder;

	if (a->v.state != AGENT_RECORDING || a->reload.pid || a->reload.read || (u->stats && !u->pid))
		return true;
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		if (a->control.client[i].fd >= 0)
			return true;
	}
	for (int i = 0; i < POOL_SLOTS; i++) {
		if (a->pool.slot[i].use == POOL_CAPTURING || a->pool.slot[i].use == POOL_STORING)
			return true;
	}
	return a->pool.asked || (a->watchdog.fd >= 0 && a->watchdog.feed_ns < TRIGGER_QUIET_NS);
}

/* On whole seconds, even ones in an idle agent: with its quiet triggers. */
static uint64_t house_due(const struct agent *a)
{
	uint64_t period_ns = is_busy(a) ? NSEC_PER_SEC : TRIGGER_QUIET_NS;

	return (a->kept_house_ns / period_ns + 1) * period_ns;
}

static void run_timers(struct agent *a, uint64_t now)
{
	agent_check_due(a, now);
	if (now >= house_due(a)) {
		int n = probes_follow_cpus(&a->probes);

		if (n > 0)
			log_info("%d CPUs came online and are sampled", n);
		a->kept_house_ns = now;
		check_unwinder(a);
		agent_take_unheard(a, now);
		agent_collect(a);
		control_expire(&a->control, now);
		agent_fill_pool(a);
		if (now >= a->keep_due)
			agent_keep(a, now);
	}
	if (now >= a->listen_due)
		agent_listen(a, true);
	if (now >= a->selfcost_due)
		take_stock(a, now);
	agent_check_reload(a, now);
	if (a->v.state == AGENT_POST_TRIGGER && a->pre_read && now >= a->post_deadline_ns)
		agent_end_post_window(a);
	if (a->v.state == AGENT_COOLDOWN && now >= a->cooldown_end_ns)
		agent_arm(a);
	if (((a->v.state == AGENT_POST_TRIGGER && !a->pre_read) || a->v.state == AGENT_FREEZING) &&
	    now >= a->state_since_ns + FREEZER_TIMEOUT_NS)
		agent_lose_capture(a, "makes no progress");
}

static uint64_t next_timer(const struct agent *a)
{
	uint64_t due = SB_MIN(a->selfcost_due, house_due(a));

	if (a->reload.fd >= 0)
		due = SB_MIN(due, a->reload.deadline_ns);
	due = SB_MIN(due, a->listen_due);
	for (size_t i = 0; i < a->o->n_triggers; i++)
		due = SB_MIN(due, a->due[i]);
	if (a->v.state == AGENT_POST_TRIGGER && a->pre_read)
		due = SB_MIN(due, a->post_deadline_ns);
	if (a->v.state == AGENT_COOLDOWN)
		due = SB_MIN(due, a->cooldown_end_ns);
	if ((a->v.state == AGENT_POST_TRIGGER && !a->pre_read) || a->v.state == AGENT_FREEZING)
		due = SB_MIN(due, a->state_since_ns + FREEZER_TIMEOUT_NS);
	return due;
}

static int timeout_ms(const struct agent *a, uint64_t now)
{
	uint64_t due = next_timer(a);

	if (due <= now)
		return 0;
	return (int)SB_MIN((due - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, 3600000ULL);
}

static void check_progress(struct agent *a, uint64_t now)
{
	uint64_t due = next_timer(a);

	watchdog_check(&a->watchdog, &a->probes, now > due ? now - due : 0, now);
}

static void take_begun(struct agent *a)
{
	eventfd_t n;

	(void)!eventfd_read(series_begun_fd(a->series), &n);
	agent_check_quiet(a, sb_monotonic_ns());
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
		agent_accept(a, sb_monotonic_ns());
	else if (source == SRC_WATCHDOG)
		watchdog_feed(&a->watchdog);
	else if (source == SRC_BEGUN)
		take_begun(a);
	else if (source >= SRC_CLIENT)
		agent_serve(a, &a->control.client[source - SRC_CLIENT]);
	else if (source >= SRC_CAPTURE)
		agent_take_reports(a, &a->pool.slot[source - SRC_CAPTURE]);
	else if (source >= SRC_TRIGGER) /* SRC_RELOAD: run_timers() looks at it */
		agent_check(a, source - SRC_TRIGGER, sb_monotonic_ns());
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
		check_progress(a, sb_monotonic_ns());
	}
}

/* ---- start ---------------------------------------------------------------------------- */

static void become_realtime(void)
{
	struct sched_param sp = { .sched_priority = 1 };

	if (sched_getscheduler(0) == SCHED_FIFO)
		return; /* the service manager's */
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

	snprintf(path, sizeof(path), "%s", o->config.recorder.socket);
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
	char more[64] = "";

	if (p->cfg.user_unwind == SB_USER_UNWIND_EH_FRAME)
		snprintf(more, sizeof(more), " and up to %u MiB as tables need them",
			 (unsigned int)(p->cfg.unwind_slots * sizeof(uint64_t) >> 20));
	log_info("stallboxd %s: recording%s, %u CPUs, %llu MiB of ring in two banks, %zu MiB of kernel "
		 "memory in all%s, %zu triggers armed", SB_VERSION,
		 p->taken_over ? " (took over a running recorder)" : "", p->cfg.cpus,
		 (unsigned long long)(p->cfg.ring_bytes * SB_BANKS * p->cfg.cpus >> 20),
		 p->map_bytes >> 20, more, a->o->n_triggers);
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
	sigaddset(&set, SIGHUP);
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
	if (r == 0)
		r = watchdog_init(&a->watchdog, sb_monotonic_ns());
	if (r == 0 && a->watchdog.fd >= 0)
		r = agent_watch(a, a->watchdog.fd, EPOLLIN, SRC_WATCHDOG);
	if (r == 0 && a->series)
		r = agent_watch(a, series_begun_fd(a->series), EPOLLIN, SRC_BEGUN);
	return r < 0 ? log_errno(r, "cannot set up the event loop") : 0;
}

static int start(struct agent *a)
{
	const char *program[PROBES_MAX_PROGRAMS];
	char error[512];
	int r;

	a->work = mmap(NULL, sizeof(*a->work), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (a->work == MAP_FAILED)
		return log_errno(-errno, "cannot share memory with the processes of captures");
	a->work->storage.limits = a->o->spool.limits;
	r = keeper_prepare(&a->o->spool, &a->work->storage, sb_realtime_ms() + SPOOL_AHEAD_MS, &a->stamp_ms);
	for (int d = 0; d < SPOOL_DIRS; d++) {
		if (r == 0 && a->work->storage.dir[d].error < 0)
			log_errno(a->work->storage.dir[d].error, "cannot write to '%s' now; every bundle tries again",
				  spool_dir(&a->o->spool, d));
	}
	if (r < 0) {
		log_errno(r, "cannot write bundles to '%s'", a->o->spool.dir);
		log_hint("create the directory, free space on it, or choose another with --spool");
		return r;
	}
	if (a->o->config.recorder.realtime)
		become_realtime();
	r = probes_open(&a->o->probes, &a->probes, error, sizeof(error));
	if (r < 0) {
		log_err_and_hint(error);
		return r;
	}
	for (size_t i = 0; i < a->probes.n_programs; i++)
		program[i] = a->probes.program[i].name;
	r = series_start(a->env.proc, a->probes.cfg.cpus, a->probes.cfg.cgroup_v1_memory, program, a->probes.n_programs,
			 &a->series);
	if (r < 0)
		log_errno(r, "cannot keep the host's counters; bundles will lack them");
	a->env.cpu_before = series_cpu_before;
	a->env.reader = a->series;
	r = unwinder_start(&a->probes, &a->unwinder);
	if (r < 0)
		log_errno(r, "cannot keep tables for user stacks; they are taken by frame pointers");
	a->v.unwinder = a->unwinder.stats;
	a->probes.grown_bytes = a->unwinder.stats ? &a->unwinder.stats->room_bytes : NULL;
	options_settings(a->o, &a->work->settings[0]);
	a->capture_config = (struct capture_config){
		.probes = &a->probes,
		.series = a->series,
		.work = a->work,
		.unwinder = a->unwinder.stats,
		.known_fd = a->unwinder.ask[0],
		.spool = a->o->spool,
		.gid = spool_gid(&a->o->spool),
		.realtime = a->o->config.recorder.realtime,
	};
	r = pool_start(&a->pool, &a->capture_config, &a->control.fd);
	if (r < 0)
		return log_errno(r, "cannot start the processes of captures");
	/* After the processes: one that outlives us must not answer in our name. */
	r = agent_open_control(a);
	if (r < 0)
		return r;
	r = open_sources(a);
	if (r < 0)
		return r;
	if (a->o->config.recorder.realtime && mlockall(MCL_CURRENT) < 0)
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
	unwinder_stop(&a->unwinder);
	control_close(&a->control);
	limits_done(&a->asked_history);
	watchdog_done(&a->watchdog);
	if (a->hits)
		ring_buffer__free(a->hits);
	probes_close(&a->probes);
}

/* Health checks are somebody's commands: they get nothing of what the agent may do, and the kernel may end them
 * when memory runs out. */
static void give_up_privileges(void)
{
	_cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "0", 1);
	if (privileges_become(PRIVILEGES_NONE) < 0) {
		log_err("a process for health checks cannot give up the agent's capabilities, and ends");
		_exit(1);
	}
}

static void become(enum privileges_role role)
{
	int r = privileges_become(role);

	if (r < 0)
		log_warn("cannot give up all capabilities that the agent does without: %s", strerror(-r));
}

int agent_run(struct options *o, int ready_fd)
{
	struct agent a = { .o = o, .env = trigger_env_host(), .pool.starter.fd = -1, .control.fd = -1,
			   .listen_due = UINT64_MAX, .watchdog.fd = -1, .reload.fd = -1 };
	_cleanup_close_ int lock = open_lock(o);
	struct capture_cause cause;
	char path[BUNDLE_FILE_MAX + 256];
	bool orphan;

	if (lock < 0)
		return SB_EXIT_FAILURE;
	privileges_join(control_gid(o->config.storage.group)); /* which bundles are of, too, where they are of one */
	become(PRIVILEGES_SETUP);
	a.env.in_helper = give_up_privileges;
	for (size_t i = 0; i < OPTIONS_MAX_TRIGGERS; i++)
		a.due[i] = UINT64_MAX;
	/* What the kernel froze in a recorder that does not fit is lost with it unless it is written now. */
	if (o->config.recorder.pin && probes_left_frozen(o->config.recorder.bpffs) && probes_would_replace(&o->probes) &&
	    orphan_export(o, path, sizeof(path)) == 0)
		log_info("complete: %s, frozen by the kernel while no agent ran", path);
	if (start(&a) < 0) {
		stop(&a);
		return SB_EXIT_FAILURE;
	}
	/* An earlier agent's last bundle may not be written yet. */
	a.stamp_ms = SB_MAX(a.stamp_ms, a.probes.taken_over ? sb_realtime_ms() : 0);
	orphan = a.probes.taken_over && probes_frozen(a.probes.control);
	/* Before ours take the place of the conditions that the agent of that time had armed. */
	cause = orphan_cause(a.probes.control);
	agent_write_kernel_triggers(&a);
	if (orphan)
		agent_begin_capture(&a, &cause, 0, sb_monotonic_ns());
	else
		agent_arm(&a);
	if (agent_arm_triggers(&a) < 0) {
		log_err("no trigger could be armed");
		stop(&a);
		return SB_EXIT_FAILURE;
	}
	print_start(&a);
	become(PRIVILEGES_LOOP);
	if (ready_fd >= 0)
		(void)!write(ready_fd, "", 1);
	systemd_notify("READY=1");
	malloc_trim(0);
	selfcost_init(&a.v.cost);
	start_limit(&a);
	loop(&a);
	systemd_notify("STOPPING=1");
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
