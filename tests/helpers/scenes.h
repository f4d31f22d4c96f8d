/* SPDX-License-Identifier: BSD-2-Clause */
/* The stories of make_scene.c, which includes this. Each rule of the report has one on which it must
 * speak and one near it on which it must not. */

#define MANUAL { "manual", "manual", "manual", "", "somebody asked", 0, 0, 0, 0 }
#define MAX_THREADS 64

/* n threads of one process, tids from pid on. */
static uint32_t crowd(struct scene *s, uint32_t pid, const char *comm, const char *cgroup, int n, uint32_t *ret)
{
	uint32_t p = process(s, pid, comm, cgroup);

	for (int i = 0; i < n; i++)
		ret[i] = thread(s, p, pid + (uint32_t)i, comm, cgroup);
	return p;
}

/* Nothing but ordinary life. */
static void tell_calm(struct scene *s)
{
	ordinary_series(s, 4, 2, 1, 2);
}

/* ---- softirqs ------------------------------------------------------------------------------------ */

/* cadvisor reads memory.stat for 80 ms at a time on CPU 1, seven times, and each time ksoftirqd/1
 * runs right after. ksoftirqd/2 runs twice with nothing before it. */
static void tell_softirq(struct scene *s)
{
	uint32_t p = process(s, 2300, "cadvisor", "/kubepods/cadvisor"), k = process(s, 20, "ksoftirqd/1", "/");
	uint32_t k2 = process(s, 26, "ksoftirqd/2", "/");
	uint32_t t = thread(s, p, 2344, "cadvisor", "/kubepods/cadvisor"), sirq = thread(s, k, 20, "ksoftirqd/1", "/");
	uint32_t sirq2 = thread(s, k2, 26, "ksoftirqd/2", "/");
	uint32_t call = stack(s, 0, "mem_cgroup_nr_lru_pages;memcg_stat_show;seq_read_iter;vfs_read;ksys_read;do_syscall_64");
	uint32_t user = stack(s, p, "read;os.(*File).Read;main");
	uint32_t net = stack(s, 0, "net_rx_action;handle_softirqs;run_ksoftirqd;smpboot_thread_fn;kthread");

	ordinary_series(s, 6, 8, 2, 2);
	for (int i = 0; i < 7; i++) {
		int64_t ms = -7000 + 1000 * i + 100;
		struct bundle_event *e;

		samples(s, 1, ms, ms + (int64_t)scaled(80), t, call, user, 0, 1);
		e = event(s, BUNDLE_SYSCALL, 1, ms + 81, t, scaled(82));
		e->syscall = 1;
		e->name = bundle_writer_string(s->w, "memory.stat");
		e->arg0 = 9;
		e->cpu_time_ns = scaled(82) * MS;
		samples(s, 1, ms + 90, ms + 100, sirq, net, 0, 0, 0);
		e = event(s, BUNDLE_SOFTIRQ, 1, ms + 91, sirq, 1);
		e->detail = 3;
		e->delay_ns = scaled(80) * MS;
	}
	for (int i = 0; i < 2; i++)
		samples(s, 2, -20300 + 1000 * i, -20290 + 1000 * i, sirq2, net, 0, 0, 0);
	shot(s, t, 1, 100, stack(s, 0, "futex_wait_queue;do_futex;do_syscall_64"));
}

/* Softirqs are late, but nothing that ran on their CPU explains it: user code ran there. */
static void tell_softirq_alone(struct scene *s)
{
	uint32_t k = process(s, 20, "ksoftirqd/1", "/"), p = process(s, 2400, "batch", "/batch");
	uint32_t sirq = thread(s, k, 20, "ksoftirqd/1", "/"), t = thread(s, p, 2400, "batch", "/batch");
	uint32_t user = stack(s, p, "compute;main");

	ordinary_series(s, 6, 2, 2, 2);
	for (int i = 0; i < 9; i++) {
		int64_t ms = -9000 + 1000 * i + 100;
		struct bundle_event *e;

		samples(s, 1, ms, ms + 80, t, 0, user, 0, 0);
		e = event(s, BUNDLE_SOFTIRQ, 1, ms + 91, sirq, 1);
		e->detail = 3;
		e->delay_ns = 50 * MS;
	}
}

/* ---- memory ---------------------------------------------------------------------------------------- */

/* 40 threads of clickhouse-serv in memcg reclaim, 400 ms at a time from 8 s before the trigger on, 0.04 % of
 * what is scanned is reclaimed; 12 have not come back at the freeze. */
static void reclaim_story(struct scene *s, uint32_t *t)
{
	static const char cgroup[] = "/docker/clickhouse";
	uint32_t p = crowd(s, 2395806, "clickhouse-serv", cgroup, 40, t);
	uint32_t k = stack(s, 0, "shrink_folio_list;shrink_lruvec;shrink_node;do_try_to_free_pages;try_to_free_mem_cgroup_pages;"
			      "try_charge_memcg;__mem_cgroup_charge;do_anonymous_page;handle_mm_fault;exc_page_fault");
	uint32_t u = stack(s, p, "DB::Aggregator::execute;DB::Pipeline::run;start_thread");

	for (uint32_t i = 0; i < 40; i++) {
		for (int64_t ms = -7600 + 7 * (int64_t)i; ms < AFTER_S * 1000; ms += 450) {
			struct bundle_event *e = event(s, BUNDLE_RECLAIM, i % CPUS, ms, t[i], scaled(400));

			e->reclaim_kind = BUNDLE_RECLAIM_MEMCG;
			e->kstack = k;
			e->nr_scanned = 5000;
			e->nr_reclaimed = 2;
			e->detail = BUNDLE_RECLAIM_MMAP_READ;
			block(s, i % CPUS, ms, 380, t[i], 0, 380, k);
		}
	}
	for (uint32_t c = 0; c < CPUS; c++)
		samples(s, c, -8000, 6000, t[c], k, u, BUNDLE_EV_IN_RECLAIM, 0);
	for (int i = 0; i < 12; i++) {
		struct bundle_shot_thread *x = shot(s, t[i], 0, 300, k);

		x->flags = BUNDLE_SHOT_RUNNABLE;
		x->reclaim_since_ns = TRIGGER_NS - scaled(2000) * MS;
		x->nr_scanned = 40000;
		x->nr_reclaimed = 3;
	}
	series(s, "cgroup.memory.current", cgroup, "bytes", false, 0, 4294967296LL, 4294967296LL);
	series(s, "cgroup.memory.max", cgroup, "bytes", false, 0, 4294967296LL, 4294967296LL);
}

static void tell_reclaim(struct scene *s)
{
	uint32_t t[MAX_THREADS];

	ordinary_series(s, 5, 90, 30, 2);
	reclaim_story(s, t);
}

/* A copy job: as many spans, each 1 ms, and nearly all that is scanned is reclaimed. */
static void tell_reclaim_healthy(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 5000, "rsync", "/backup", 4, t);
	k = stack(s, 0, "shrink_folio_list;shrink_lruvec;shrink_node;do_try_to_free_pages;filemap_add_folio;exc_page_fault");
	ordinary_series(s, 10, 10, 2, 2);
	for (uint32_t i = 0; i < 4; i++) {
		for (int64_t ms = -9000 + 3 * (int64_t)i; ms < AFTER_S * 1000; ms += 20) {
			struct bundle_event *e = event(s, BUNDLE_RECLAIM, i, ms, t[i], 1);

			e->reclaim_kind = BUNDLE_RECLAIM_MEMCG;
			e->kstack = k;
			e->nr_scanned = 64;
			e->nr_reclaimed = 62;
		}
	}
}

/* One thread has been in reclaim for 700 ms and no span has ended in the time recorded. */
static void tell_reclaim_open(struct scene *s)
{
	uint32_t t[1], k;
	struct bundle_shot_thread *x;

	ordinary_series(s, 4, 3, 1, 2);
	crowd(s, 7000, "java", "/app", 1, t);
	k = stack(s, 0, "shrink_lruvec;do_try_to_free_pages;handle_mm_fault;exc_page_fault");
	x = shot(s, t[0], 0, 20, k);
	x->flags = BUNDLE_SHOT_RUNNABLE;
	x->reclaim_since_ns = TRIGGER_NS - scaled(700) * MS;
	x->nr_scanned = 900;
}

/* ---- mmap_lock --------------------------------------------------------------------------------------- */

/* Thread 0 holds mmap_lock for writing and waits for a VMA that thread 1 holds in a page fault, in reclaim; n others
 * wait for mmap_lock. */
static void mmap_story(struct scene *s, int n, uint64_t age_ms)
{
	uint32_t t[MAX_THREADS], write, fault, wait;

	crowd(s, 7000, "java", "/app", n + 2, t);
	write = stack(s, 0, "__vma_start_write;vma_expand;do_mmap;vm_mmap_pgoff;do_syscall_64");
	fault = stack(s, 0, "shrink_lruvec;do_try_to_free_pages;handle_mm_fault;exc_page_fault");
	wait = stack(s, 0, "rwsem_down_read_slowpath;lock_mm_and_find_vma;exc_page_fault");
	for (int i = 0; i < n + 2; i++) {
		struct bundle_shot_thread *x = shot(s, t[i], 2, age_ms, i == 0 ? write : i == 1 ? fault : wait);

		x->mm = 1;
		x->mmap_lock = 0x1000;
		x->mmap_count = 1;
		x->mmap_owner = t[0];
		x->mmap_owner_flags = BUNDLE_OWNER_KNOWN;
		if (i == 1) {
			x->flags = BUNDLE_SHOT_RUNNABLE;
			x->state = 0;
			x->reclaim_since_ns = TRIGGER_NS - 3000 * MS;
			x->nr_scanned = 140000;
			x->nr_reclaimed = 5;
		} else if (i == 0) {
			x->syscall = 10; /* mmap */
			x->arg1 = 5ull << 30;
		} else if (i > 1) {
			struct bundle_event *e;

			x->lock = 0x1000;
			x->lock_since_ns = TRIGGER_NS - age_ms * MS;
			x->lock_flags = BUNDLE_LOCK_READ | BUNDLE_LOCK_MMAP;
			e = event(s, BUNDLE_LOCK_WAIT, (uint32_t)i % CPUS, 500, t[i], age_ms + 500);
			e->addr = 0x1000;
			e->detail = BUNDLE_LOCK_READ | BUNDLE_LOCK_MMAP;
			e->peer = t[0];
			e->owner_flags = BUNDLE_OWNER_KNOWN;
			e->kstack = wait;
		}
	}
}

static void tell_mmap(struct scene *s)
{
	ordinary_series(s, 4, 3, 1, 2);
	mmap_story(s, 20, scaled(2500));
}

/* The lock has been let go: the first of those that wait was woken to take it, and did not get a CPU since. */
static void tell_mmap_woken(struct scene *s)
{
	uint32_t t[MAX_THREADS], wait;
	const int n = 20;

	ordinary_series(s, 4, 3, 1, 2);
	crowd(s, 7000, "java", "/app", n, t);
	wait = stack(s, 0, "rwsem_down_write_slowpath;do_mmap;vm_mmap_pgoff;do_syscall_64");
	for (int i = 0; i < n; i++) {
		struct bundle_shot_thread *x = shot(s, t[i], i ? 2 : 0, scaled(2500), wait);

		x->mm = 1;
		x->mmap_lock = x->lock = 0x1000;
		x->mmap_count = 2;
		x->mmap_owner = t[n - 1];
		x->mmap_owner_flags = BUNDLE_OWNER_KNOWN | BUNDLE_OWNER_READER;
		x->lock_since_ns = TRIGGER_NS - scaled(2500) * MS;
		x->lock_flags = BUNDLE_LOCK_WRITE | BUNDLE_LOCK_MMAP;
		if (!i)
			x->flags = BUNDLE_SHOT_RUNNABLE;
	}
}

/* Two threads wait for 30 ms. */
static void tell_mmap_brief(struct scene *s)
{
	uint32_t t[2], wait;

	ordinary_series(s, 4, 3, 1, 2);
	crowd(s, 7000, "java", "/app", 2, t);
	wait = stack(s, 0, "rwsem_down_read_slowpath;lock_mm_and_find_vma;exc_page_fault");
	for (int i = 0; i < 2; i++) {
		struct bundle_event *e = event(s, BUNDLE_LOCK_WAIT, (uint32_t)i, -500, t[i], 30);

		e->addr = 0x1000;
		e->detail = BUNDLE_LOCK_READ | BUNDLE_LOCK_MMAP;
		e->kstack = wait;
	}
}

/* ---- locks of the kernel ----------------------------------------------------------------------------- */

/* 16 threads want the mutex of one directory, 60 ms at a time, over and over; each of them holds it at times. */
static void tell_convoy(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 8000, "renamer", "/batch", 16, t);
	k = stack(s, 0, "__mutex_lock;do_renameat2;__x64_sys_rename;do_syscall_64");
	ordinary_series(s, 4, 20, 3, 2);
	for (uint32_t i = 0; i < 16; i++) {
		for (int64_t ms = -9000 + 4 * (int64_t)i; ms < AFTER_S * 1000; ms += 65) {
			struct bundle_event *e = event(s, BUNDLE_LOCK_WAIT, i % CPUS, ms, t[i], scaled(60));

			e->addr = 0x3000;
			e->detail = BUNDLE_LOCK_MUTEX;
			e->kstack = k;
			e->peer = t[(i + 1) % 16];
			e->owner_flags = BUNDLE_OWNER_KNOWN;
		}
	}
}

/* The same 16 threads wait for 9 s, once, for one holder that does not let go. */
static void tell_one_holder(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 8000, "renamer", "/batch", 17, t);
	k = stack(s, 0, "__mutex_lock;do_renameat2;__x64_sys_rename;do_syscall_64");
	ordinary_series(s, 4, 3, 1, 2);
	for (uint32_t i = 0; i < 16; i++) {
		struct bundle_event *e = event(s, BUNDLE_LOCK_WAIT, i % CPUS, 1000, t[i], 9000);

		e->addr = 0x3000;
		e->detail = BUNDLE_LOCK_MUTEX;
		e->kstack = k;
		e->peer = t[16];
		e->owner_flags = BUNDLE_OWNER_KNOWN;
		shot(s, t[i], 2, 8000, k);
	}
}

/* ---- CPUs ------------------------------------------------------------------------------------------------ */

/* 8 threads of a cgroup that is throttled for 0.8 s a second, on CPUs that are mostly idle. */
static void tell_throttle(struct scene *s)
{
	static const char cgroup[] = "/kubepods/pod1/web";
	uint32_t t[MAX_THREADS], u, p = crowd(s, 9000, "web", cgroup, 8, t);

	u = stack(s, p, "render;handle;main");
	ordinary_series(s, 20, 2, 2, 2);
	for (uint32_t i = 0; i < 8; i++) {
		for (int64_t ms = -9000 + 10 * (int64_t)i; ms < AFTER_S * 1000; ms += 100) {
			samples(s, i % CPUS, ms, ms + 10, t[i], 0, u, 0, 0);
			block(s, i % CPUS, ms, scaled(80), t[i], 0, scaled(80), 0);
		}
	}
	series(s, "cgroup.cpu.throttled", cgroup, "us", true, 0, (int64_t)scaled(800000), (int64_t)scaled(800000));
	series(s, "cgroup.cpu.nr_throttled", cgroup, "periods", true, 0, (int64_t)scaled(10), (int64_t)scaled(10));
	series(s, "cgroup.cpu.throttled", "/other", "us", true, 0, 100, 100);
}

/* The run queues are long and every CPU is busy in user code. */
static void tell_runq(struct scene *s)
{
	uint32_t t[MAX_THREADS], u, p = crowd(s, 9100, "batch", "/batch", 40, t);

	u = stack(s, p, "compute;worker;main");
	ordinary_series(s, 95, 3, 40, 2);
	for (uint32_t c = 0; c < CPUS; c++)
		samples(s, c, -10000, AFTER_S * 1000, t[c], 0, u, 0, 0);
	for (uint32_t i = 0; i < 40; i++) {
		for (int64_t ms = -9000 + 5 * (int64_t)i; ms < AFTER_S * 1000; ms += 110)
			block(s, i % CPUS, ms, scaled(100), t[i], 0, scaled(100), 0);
		shot(s, t[i], 0, 90, 0)->flags = BUNDLE_SHOT_RUNNABLE;
	}
}

/* The same for 3 s only; the CPUs are idle in the rest of the window. */
static void tell_runq_late(struct scene *s)
{
	uint32_t t[MAX_THREADS], u, p = crowd(s, 9100, "batch", "/batch", 40, t);

	u = stack(s, p, "compute;worker;main");
	ordinary_series(s, 20, 3, 10, 2);
	for (uint32_t c = 0; c < CPUS; c++)
		samples(s, c, -3000, 0, t[c], 0, u, 0, 0);
	for (uint32_t i = 0; i < 40; i++) {
		for (int64_t ms = -2900 + 5 * (int64_t)i; ms < 0; ms += 110)
			block(s, i % CPUS, ms, 100, t[i], 0, 100, 0);
	}
}

/* 1,500 short processes a second by one parent, a third of the CPU time in fork, exec and exit. */
static void tell_fork(struct scene *s)
{
	uint32_t p = process(s, 1200, "cron-job", "/cron"), t = thread(s, p, 1200, "cron-job", "/cron");
	uint32_t k = stack(s, 0, "copy_page_range;dup_mmap;dup_mm;copy_process;kernel_clone;do_syscall_64"), u = stack(s, p, "fork;main");

	ordinary_series(s, 20, 30, 3, (int64_t)scaled(1500));
	for (uint32_t c = 0; c < CPUS; c++)
		samples(s, c, -10000, -10000 + (int64_t)scaled(8000), t, k, u, 0, 57);
}

/* ---- devices ------------------------------------------------------------------------------------------- */

/* 10 threads of postgres wait for the journal for 6 s; the device answers slowly. */
static void tell_storage(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 600, "postgres", "/system.slice/postgres.service", 10, t);
	k = stack(s, 0, "jbd2_log_wait_commit;ext4_sync_file;do_fsync;do_syscall_64");
	ordinary_series(s, 3, 1, 1, 2);
	for (uint32_t i = 0; i < 10; i++)
		shot(s, t[i], 2, scaled(6000), k);
	for (int i = 0; i < 12; i++) {
		struct bundle_event *e = event(s, BUNDLE_BLOCK_IO, 0, -6000 + 500 * i, t[0], 450);

		e->detail = 1;
		e->bytes = 16384;
		e->name = bundle_writer_string(s->w, "254:0");
	}
}

/* 10 writers stand at a frozen file system, whose lock their system call waits for itself. */
static void tell_frozen(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 600, "postgres", "/system.slice/postgres.service", 10, t);
	k = stack(s, 0, "percpu_rwsem_wait;__percpu_down_read;vfs_write;ksys_write;do_syscall_64");
	ordinary_series(s, 3, 1, 1, 2);
	for (uint32_t i = 0; i < 10; i++)
		shot(s, t[i], 2, scaled(6000), k);
}

/* The same wait for another lock of this kind: processes are to be moved between cgroups. */
static void tell_percpu(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 600, "manager", "/app", 10, t);
	k = stack(s, 0, "percpu_rwsem_wait;percpu_down_write;cgroup_procs_write_start;cgroup_procs_write;kernfs_fop_write_iter;vfs_write;ksys_write");
	ordinary_series(s, 3, 1, 1, 2);
	for (uint32_t i = 0; i < 10; i++)
		shot(s, t[i], 2, scaled(6000), k);
}

/* As many threads in D state for as long, but each waits for the child that it started. */
static void tell_vfork(struct scene *s)
{
	uint32_t t[MAX_THREADS], k;

	crowd(s, 600, "launcher", "/app", 10, t);
	k = stack(s, 0, "wait_for_vfork_done;kernel_clone;__x64_sys_vfork;do_syscall_64");
	ordinary_series(s, 3, 1, 1, 2);
	for (uint32_t i = 0; i < 10; i++)
		shot(s, t[i], 2, 6000, k);
}

/* ---- no rule for it -------------------------------------------------------------------------------------- */

/* Half of the CPUs are in the kernel, in a call that nobody has a rule for. */
static void tell_odd(struct scene *s)
{
	uint32_t p = process(s, 4000, "odd", "/odd"), t[2], k, u;

	t[0] = thread(s, p, 4000, "odd", "/odd");
	t[1] = thread(s, p, 4001, "odd", "/odd");
	k = stack(s, 0, "chacha_permute;get_random_bytes_user;do_syscall_64");
	u = stack(s, p, "getrandom;main");
	ordinary_series(s, 4, 45, 3, 2);
	for (uint32_t c = 0; c < 2; c++) {
		for (int64_t ms = -10000; ms < AFTER_S * 1000; ms += 30) {
			samples(s, c, ms, ms + 15, t[c], k, u, 0, 319);
			samples(s, c, ms + 15, ms + 30, t[c], 0, u, 0, 0);
		}
	}
}

/* Two causes at once: reclaim, and a queue for mmap_lock behind it. */
static void tell_both(struct scene *s)
{
	uint32_t t[MAX_THREADS];

	ordinary_series(s, 5, 90, 30, 2);
	reclaim_story(s, t);
	mmap_story(s, 20, 2500);
}

static const struct scene_entry {
	const char *name;
	void (*tell)(struct scene *s);
	struct bundle_trigger trigger;
} scenes[] = {
	{ "calm", tell_calm, MANUAL },
	{ "softirq", tell_softirq, { "probe", "probe", "probe:tcp://127.0.0.1:80", "ms", "no answer in 500 ms", 0, 501, 500, 0 } },
	{ "softirq-alone", tell_softirq_alone, MANUAL },
	{ "reclaim", tell_reclaim, { "reclaim-age", "kernel", "kernel:reclaim>500ms", "ms", "tid 2395806 in reclaim", 0, 512, 500, 0 } },
	{ "reclaim-open", tell_reclaim_open, MANUAL },
	{ "reclaim-healthy", tell_reclaim_healthy, MANUAL },
	{ "mmap", tell_mmap, { "probe", "probe", "probe:cmdline:7000", "ms", "no answer in 500 ms", 0, 501, 500, 0 } },
	{ "mmap-woken", tell_mmap_woken, MANUAL },
	{ "mmap-brief", tell_mmap_brief, MANUAL },
	{ "convoy", tell_convoy, MANUAL },
	{ "one-holder", tell_one_holder, MANUAL },
	{ "throttle", tell_throttle, MANUAL },
	{ "runq", tell_runq, MANUAL },
	{ "runq-late", tell_runq_late, MANUAL },
	{ "fork", tell_fork, MANUAL },
	{ "storage", tell_storage, MANUAL },
	{ "frozen", tell_frozen, MANUAL },
	{ "percpu", tell_percpu, MANUAL },
	{ "vfork", tell_vfork, MANUAL },
	{ "odd", tell_odd, MANUAL },
	{ "both", tell_both, MANUAL },
};
