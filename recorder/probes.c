// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/probes.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/perf_event.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>

#include "bpf/stallbox_v2.skel.h"
#include "bpf/stallbox_v3.skel.h"

#define DEFAULT_RING_BYTES (8ULL << 20) /* 60 s of the reference load, facts of the budget */
#define MAX_TOTAL_BYTES (256ULL << 20)
#define MAX_RAM_PERCENT 2
#define MIN_RING_BYTES (1ULL << 20)
/* KMALLOC_MAX_SIZE bounds a map value before 5.12; slack and a power of two below it. */
#define OLD_KERNEL_RING_BYTES (2ULL << 20)

#define RESET_DEADLINES "reset_deadlines"
#define TO_THE_MS "conditions on what is in flight, to the millisecond"

/* Tracepoints that a kernel may lack, and the evidence that goes with each. */
static const struct {
	const char *program, *tracepoint, *evidence;
	bool required;
} tracepoints[] = {
	{ "sched_switch", "sched_switch", "off-CPU blocks", true },
	{ "direct_begin", "mm_vmscan_direct_reclaim_begin", "direct reclaim spans", false },
	{ "direct_end", "mm_vmscan_direct_reclaim_end", "direct reclaim spans", false },
	{ "memcg_begin", "mm_vmscan_memcg_reclaim_begin", "memcg reclaim spans", false },
	{ "memcg_end", "mm_vmscan_memcg_reclaim_end", "memcg reclaim spans", false },
	{ "kswapd_wake", "mm_vmscan_kswapd_wake", "kswapd spans", false },
	{ "kswapd_sleep", "mm_vmscan_kswapd_sleep", "kswapd spans", false },
	{ "shrink_inactive", "mm_vmscan_lru_shrink_inactive", "pages scanned by reclaim", false },
	{ "lru_isolate", "mm_vmscan_lru_isolate", "pages taken by reclaim", false },
	{ "vmscan_throttled", "mm_vmscan_throttled", "time that reclaim was throttled", false },
	{ "slab_start", "mm_shrink_slab_start", "slow shrinkers", false },
	{ "slab_end", "mm_shrink_slab_end", "slow shrinkers", false },
	{ "node_begin", "mm_vmscan_node_reclaim_begin", "node reclaim spans", false },
	{ "node_end", "mm_vmscan_node_reclaim_end", "node reclaim spans", false },
	{ "compaction_begin", "mm_compaction_begin", "compaction spans", false },
	{ "compaction_end", "mm_compaction_end", "compaction spans", false },
	{ "oom_victim", "mark_victim", "OOM kills", false },
	{ "direct_deadline", "mm_vmscan_direct_reclaim_begin", TO_THE_MS, false },
	{ "memcg_deadline", "mm_vmscan_memcg_reclaim_begin", TO_THE_MS, false },
	{ "node_deadline", "mm_vmscan_node_reclaim_begin", TO_THE_MS, false },
	{ "lock_deadline", "contention_begin", TO_THE_MS, false },
	{ "contention_begin", "contention_begin", "waits for locks and their owners", false },
	{ "contention_end", "contention_end", "waits for locks and their owners", false },
	{ "sched_waking", "sched_waking", "who ended a long wait", false },
	{ "block_complete", "block_rq_complete", "slow block I/O", false },
	{ "mmap_acquired", "mmap_lock_acquire_returned", "holds of mmap_lock", false },
	{ "mmap_acquired_path", "mmap_lock_acquire_returned", "holds of mmap_lock", false },
	{ "mmap_released", "mmap_lock_released", "holds of mmap_lock", false },
	{ "syscall_enter", "sys_enter", "exact times of system calls", false },
	{ "syscall_exit", "sys_exit", "exact times of system calls", false },
	{ "softirq_raised", "softirq_raise", "softirq delays", false },
	{ "softirq_entered", "softirq_entry", "softirq delays", false },
	{ "softirq_exited", "softirq_exit", "softirq delays", false },
	{ "hardirq_entered", "irq_handler_entry", "long hardirqs", false },
	{ "hardirq_exited", "irq_handler_exit", "long hardirqs", false },
	{ "process_fork", "sched_process_fork", "births of threads", false },
	{ "process_exec", "sched_process_exec", "exec times", false },
	{ "process_exit", "sched_process_exit", "exit times", false },
};

/* What the bundle has in place of evidence that a kernel cannot give. */
static const struct {
	const char *evidence, *instead;
} instead[] = {
	{ "waits for locks and their owners",
	  "no lock tracepoints (5.19); instead: off-CPU stacks show who waits, wakeups who let go, and "
	  "the owner of mmap_lock is read at the freeze" },
	{ TO_THE_MS, "no BPF timers (5.15) or none of the tracepoints; instead: the sampler looks every 10 ms" },
	{ "holds of mmap_lock",
	  "no mmap_lock tracepoints (5.11); instead: waits, and the owner at the freeze" },
};

static const char *why_missing(const char *evidence)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(instead); i++) {
		if (!strcmp(instead[i].evidence, evidence))
			return instead[i].instead;
	}
	return "this kernel has no such tracepoint";
}

/* Attached from a trigger to the end of the post window, or for a trigger that needs them. */
static const struct {
	const char *program;
	uint32_t needed_by; /* bit t: enum sb_ktrigger_type */
} escalated[] = {
	{ "mmap_acquired", 1u << SB_KTRIG_MMAP_LOCK_HOLD },
	{ "mmap_acquired_path", 1u << SB_KTRIG_MMAP_LOCK_HOLD },
	{ "mmap_released", 1u << SB_KTRIG_MMAP_LOCK_HOLD },
	{ "syscall_enter", 0 },
	{ "syscall_exit", 0 },
	{ "softirq_raised", 1u << SB_KTRIG_SOFTIRQ_DELAY },
	{ "softirq_entered", 1u << SB_KTRIG_SOFTIRQ_DELAY },
	{ "softirq_exited", 1u << SB_KTRIG_SOFTIRQ_DELAY },
	{ "hardirq_entered", 0 },
	{ "hardirq_exited", 0 },
};

static bool is_escalated(const char *program)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(escalated); i++) {
		if (!strcmp(escalated[i].program, program))
			return true;
	}
	return false;
}

static void fail_text(char *err, size_t len, const char *what, int r, const char *hint)
{
	snprintf(err, len, "%s: %s%s%s", what, strerror(-r), hint ? "\n" : "", hint ? hint : "");
}

static void add_missing(struct probes *p, const char *what, const char *why)
{
	for (size_t i = 0; i < p->n_missing; i++) {
		if (!strcmp(p->missing[i].key, what))
			return;
	}
	if (p->n_missing < PROBES_MAX_MISSING)
		p->missing[p->n_missing++] = (struct bundle_kv){ what, why };
}

/* ---- what this kernel can do ------------------------------------------------ */

/* 5.12+: atomics that return the old value. */
static bool have_fetch_atomics(void)
{
	struct bpf_insn insn[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1 },
		{ .code = BPF_STX | BPF_DW | BPF_MEM, .dst_reg = 10, .src_reg = 1, .off = -8 },
		{ .code = BPF_STX | BPF_DW | BPF_ATOMIC, .dst_reg = 10, .src_reg = 1, .off = -8,
		  .imm = BPF_ADD | BPF_FETCH },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	_cleanup_close_ int fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "sb_probe", "GPL", insn,
					       SB_ARRAY_SIZE(insn), NULL);

	return fd >= 0;
}

static bool have_large_values(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "sb_probe", 4, 5u << 20, 1, &o);

	return fd >= 0;
}

static bool cgroup_v1_memory(void)
{
	struct stat st;

	/* The v2 root lists memory only where v1 does not hold it. */
	return stat("/sys/fs/cgroup/memory/memory.limit_in_bytes", &st) == 0 ||
	       stat("/sys/fs/cgroup/memory/cgroup.procs", &st) == 0;
}

static uint64_t floor_pow2(uint64_t v)
{
	return v ? 1ULL << (63 - __builtin_clzll(v)) : 0;
}

static uint64_t choose_ring_bytes(uint64_t want_total, uint32_t cpus)
{
	struct sysinfo si;
	uint64_t total = want_total ? want_total : DEFAULT_RING_BYTES * cpus * SB_BANKS, ram, ring;

	if (sysinfo(&si) == 0 && !want_total) {
		ram = (uint64_t)si.totalram * si.mem_unit;
		total = SB_MIN(total, ram / 100 * MAX_RAM_PERCENT);
		total = SB_MIN(total, MAX_TOTAL_BYTES);
	}
	ring = floor_pow2(total / cpus / SB_BANKS);
	ring = SB_MAX(ring, MIN_RING_BYTES);
	ring = SB_MIN(ring, (uint64_t)SB_SEG_MAX << SB_SEG_SHIFT);
	return have_large_values() ? ring : SB_MIN(ring, OLD_KERNEL_RING_BYTES);
}

static void *map_fd(int fd, size_t len, int prot)
{
	void *m = mmap(NULL, len, prot, MAP_SHARED, fd, 0);

	return m == MAP_FAILED ? NULL : m;
}

static size_t page_up(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (n + page - 1) / page * page;
}

/* ---- bpffs ------------------------------------------------------------------ */

static int ensure_bpffs(const char *bpffs)
{
	struct statfs sfs;

	if (statfs(bpffs, &sfs) < 0)
		return -errno;
	if (sfs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", bpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return -errno;
	return 0;
}

static int pin_get(const struct probes *p, const char *name)
{
	char path[sizeof(p->pin_dir) + 258];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", p->pin_dir, name);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

static int pin_put(struct probes *p, const char *name, int fd)
{
	char path[sizeof(p->pin_dir) + 258];

	if (!p->pinned)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", p->pin_dir, name);
	return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

/* Start time in clock ticks since boot, field 22 of /proc/PID/stat; 0: no such process. */
static uint64_t process_start(uint32_t pid)
{
	char path[32], text[512], *p;
	unsigned long long start = 0;
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name before it may hold anything */
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			 "%*d %*d %llu", &start) != 1)
		return 0;
	return start;
}

static void note_owner(struct sb_control *c)
{
	c->owner_pid = (uint32_t)getpid();
	c->owner_start = process_start(c->owner_pid);
}

/* The agent that uses these pins, if it is alive and not we. */
static uint32_t other_owner(const struct sb_control *c)
{
	if (!c->owner_pid || c->owner_pid == (uint32_t)getpid())
		return 0;
	return process_start(c->owner_pid) == c->owner_start ? c->owner_pid : 0;
}

uint32_t probes_owner(const char *bpffs)
{
	char path[160];
	_cleanup_close_ int fd = -1;
	struct sb_control *c;
	uint32_t pid = 0;

	snprintf(path, sizeof(path), "%.120s/stallbox/control", bpffs);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	c = map_fd(fd, page_up(sizeof(*c)), PROT_READ);
	if (!c)
		return 0;
	if (c->magic == SB_CONTROL_MAGIC && c->layout_version == SB_LAYOUT_VERSION)
		pid = other_owner(c);
	munmap(c, page_up(sizeof(*c)));
	return pid;
}

int probes_unpin(const char *bpffs)
{
	char dir[128], path[128 + 258];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/stallbox", bpffs);
	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (unlink(path) == 0)
			n++;
	}
	closedir(d);
	rmdir(dir);
	return n;
}

/* ---- mapping shared memory -------------------------------------------------- */

static int map_shared(struct probes *p, int control, int cpus, int rings, int tasks)
{
	p->ring_stride = p->cfg.ring_bytes + SB_RING_SLACK;
	p->control = map_fd(control, page_up(sizeof(struct sb_control)), PROT_READ | PROT_WRITE);
	p->cpus = map_fd(cpus, page_up(sizeof(struct sb_cpu) * p->cfg.cpus), PROT_READ);
	p->rings = map_fd(rings, p->ring_stride * SB_BANKS * p->cfg.cpus, PROT_READ);
	p->tasks = map_fd(tasks, page_up(sizeof(struct sb_task) * SB_TASKS), PROT_READ);
	if (!p->control || !p->cpus || !p->rings || !p->tasks)
		return -errno;
	p->map_bytes = p->ring_stride * SB_BANKS * p->cfg.cpus + sizeof(struct sb_cpu) * p->cfg.cpus +
		       sizeof(struct sb_task) * SB_TASKS + sizeof(struct sb_task_state) * SB_TASKS +
		       sizeof(struct sb_ustack) * SB_USTACKS + sizeof(struct sb_task_detail) * SB_DETAILS +
		       SB_SEEN_SLOTS * 8 * p->cfg.cpus +
		       2 * sizeof(struct sb_inflight_table);
	return 0;
}

/* ---- sampling --------------------------------------------------------------- */

static int open_sampler(uint32_t cpu, uint64_t period_ns)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = period_ns,
		/* Idle ticks stay in: they tell a late sample from an idle CPU and keep the
		 * in-kernel triggers' clock going when nothing runs. */
		.exclude_idle = 0,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int attach_sampler(struct probes *p, int prog_fd, uint32_t cpu)
{
	char name[32];
	int perf, link;

	perf = open_sampler(cpu, p->cfg.sample_period_ns);
	if (perf == -ENODEV)
		return 0; /* possible, not online */
	if (perf < 0)
		return perf;
	link = bpf_link_create(prog_fd, perf, BPF_PERF_EVENT, NULL);
	if (link >= 0) {
		snprintf(name, sizeof(name), "link_sample_%u", cpu);
		if (pin_put(p, name, link) < 0)
			p->perf_links = false;
		p->keep_fd[p->n_keep++] = link;
		close(perf);
		return 0;
	}
	/* Before 5.15 the program hangs on the event itself and goes with us. */
	p->perf_links = false;
	if (ioctl(perf, PERF_EVENT_IOC_SET_BPF, prog_fd) < 0 ||
	    ioctl(perf, PERF_EVENT_IOC_ENABLE, 0) < 0) {
		int r = -errno;

		close(perf);
		return r;
	}
	p->keep_fd[p->n_keep++] = perf;
	return 0;
}

static int attach_samplers(struct probes *p, int prog_fd, char *err, size_t len)
{
	p->perf_links = true;
	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		int r = attach_sampler(p, prog_fd, cpu);

		if (r < 0) {
			fail_text(err, len, "cannot open the sampling event", r,
				  r == -EACCES || r == -EPERM ?
					  "grant CAP_PERFMON, and CAP_SYS_ADMIN where "
					  "kernel.perf_event_paranoid is 3" : NULL);
			return r;
		}
	}
	if (!p->perf_links)
		add_missing(p, "samples while no agent runs",
			    "this kernel cannot pin a sampling event (needs 5.15)");
	return 0;
}

/* ---- loading ---------------------------------------------------------------- */

static int quiet_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (getenv("STALLBOX_LIBBPF_DEBUG"))
		return vfprintf(stderr, fmt, ap);
	(void)level;
	return 0;
}

/* Parameters of a tracepoint, its data pointer not counted; -1 unknown. */
static int tracepoint_args(const struct btf *btf, const char *tracepoint)
{
	char name[96];
	const struct btf_type *t;
	int id;

	snprintf(name, sizeof(name), "btf_trace_%s", tracepoint);
	id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);
	t = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);
	t = t ? btf__type_by_id(btf, t->type) : NULL; /* pointer */
	t = t ? btf__type_by_id(btf, t->type) : NULL; /* prototype */
	return t && btf_is_func_proto(t) ? btf_vlen(t) - 1 : -1;
}

/* (mm, memcg_path, write, success) or (mm, write, success): the one that does not fit would be
 * refused by the verifier. */
static bool fits(const struct btf *btf, const char *program)
{
	if (!strcmp(program, "mmap_acquired"))
		return tracepoint_args(btf, "mmap_lock_acquire_returned") == 3;
	if (!strcmp(program, "mmap_acquired_path"))
		return tracepoint_args(btf, "mmap_lock_acquire_returned") == 4;
	return true;
}

/* 5.15+: the registers with which a task entered the kernel. */
static bool have_task_regs(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT, BPF_FUNC_task_pt_regs, NULL) == 1;
}

/* 5.15+; asked of a program type that may use every helper that root may. */
static bool have_timers(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SOCKET_FILTER, BPF_FUNC_timer_init, NULL) == 1;
}

static int choose_programs(struct probes *p, struct bpf_object *obj, char *err, size_t len)
{
	struct btf *btf = btf__load_vmlinux_btf();
	struct bpf_program *reset;
	bool timers = have_timers();
	char typedef_name[96];

	if (!btf) {
		fail_text(err, len, "cannot read the kernel's BTF", -errno,
			  "stallbox needs /sys/kernel/btf/vmlinux: a kernel built with "
			  "CONFIG_DEBUG_INFO_BTF=y (Debian 11 and later, RHEL 8.2 and later)");
		return -ENOTSUP;
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(tracepoints); i++) {
		struct bpf_program *prog;

		snprintf(typedef_name, sizeof(typedef_name), "btf_trace_%s",
			 tracepoints[i].tracepoint);
		prog = obj ? bpf_object__find_program_by_name(obj, tracepoints[i].program) : NULL;
		if (prog && !fits(btf, tracepoints[i].program))
			bpf_program__set_autoload(prog, false);
		if (btf__find_by_name_kind(btf, typedef_name, BTF_KIND_TYPEDEF) >= 0 &&
		    (timers || strcmp(tracepoints[i].evidence, TO_THE_MS)))
			continue;
		if (tracepoints[i].required) {
			snprintf(err, len, "this kernel has no tracepoint '%s', which %s need",
				 tracepoints[i].tracepoint, tracepoints[i].evidence);
			btf__free(btf);
			return -ENOTSUP;
		}
		add_missing(p, tracepoints[i].evidence, why_missing(tracepoints[i].evidence));
		if (prog)
			bpf_program__set_autoload(prog, false);
	}
	btf__free(btf);
	reset = obj ? bpf_object__find_program_by_name(obj, RESET_DEADLINES) : NULL;
	if (reset)
		bpf_program__set_autoload(reset, timers);
	if (!have_task_regs())
		add_missing(p, "system calls of samples, blocks and threads",
			    "this kernel has no bpf_task_pt_regs (5.15); instead: kernel stacks, and exact times of "
			    "system calls in the escalated window");
	return 0;
}

static int set_sizes(struct bpf_object *obj, const struct sb_config *cfg)
{
	struct bpf_map *m, *rodata = NULL;
	struct sb_config *initial;
	size_t size;
	int r = 0;

	bpf_object__for_each_map(m, obj) {
		const char *name = bpf_map__name(m);

		if (!strcmp(name, "rings")) {
			r |= bpf_map__set_max_entries(m, SB_BANKS * cfg->cpus);
			r |= bpf_map__set_value_size(m, (uint32_t)(cfg->ring_bytes + SB_RING_SLACK));
		} else if (!strcmp(name, "cpus") || !strcmp(name, "seen")) {
			r |= bpf_map__set_max_entries(m, cfg->cpus);
		} else if (strstr(name, ".rodata")) {
			rodata = m;
		}
	}
	initial = rodata ? (void *)bpf_map__initial_value(rodata, &size) : NULL;
	if (!initial || size % sizeof(*cfg))
		return -EINVAL; /* somebody added a constant beside cfg */
	/* The linker keeps one copy per object file and points all of them at the first. */
	memcpy(initial, cfg, sizeof(*cfg));
	return r ? -EINVAL : 0;
}

static void note_program(struct probes *p, int fd)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	if (p->n_programs >= PROBES_MAX_PROGRAMS || bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return;
	snprintf(p->program[p->n_programs].name, sizeof(p->program[0].name), "%s", info.name);
	p->program[p->n_programs].id = info.id;
	p->program[p->n_programs].fd = dup(fd);
	p->n_programs++;
}

static int attach_one(struct probes *p, struct bpf_program *prog)
{
	struct bpf_link *link = bpf_program__attach(prog);
	char name[64];
	int fd, r;

	if (!link)
		return -errno;
	fd = dup(bpf_link__fd(link));
	snprintf(name, sizeof(name), "link_%s", bpf_program__name(prog));
	r = pin_put(p, name, fd);
	if (!strcmp(bpf_program__name(prog), "stackshot"))
		p->iter_link_fd = fd;
	else
		p->keep_fd[p->n_keep++] = fd;
	bpf_link__disconnect(link);
	bpf_link__destroy(link);
	return r;
}

/* Loaded for later. Pinned as a program, never as a link: what an agent escalated ends with it. */
static int keep_escalated(struct probes *p, const char *program, int fd)
{
	char name[64];

	if (p->n_escalated == PROBES_MAX_ESCALATED || fd < 0)
		return -E2BIG;
	snprintf(p->escalated[p->n_escalated].name, sizeof(p->escalated[0].name), "%s", program);
	p->escalated[p->n_escalated].fd = fd;
	p->escalated[p->n_escalated++].link = -1;
	snprintf(name, sizeof(name), "later_%s", program);
	return pin_put(p, name, fd);
}

static bool wanted(const char *program, uint32_t why)
{
	for (size_t k = 0; k < SB_ARRAY_SIZE(escalated); k++) {
		if (!strcmp(escalated[k].program, program))
			return why == ~0u || (escalated[k].needed_by & why);
	}
	return false;
}

void probes_escalate(struct probes *p, uint32_t why)
{
	size_t attached = 0;

	/* What the programs noted before is of a window whose end they did not see. */
	for (size_t i = 0; i < p->n_escalated; i++)
		attached += p->escalated[i].link >= 0;
	if (!attached && p->control)
		p->control->escalated_ns = sb_monotonic_ns();
	for (size_t i = 0; i < p->n_escalated; i++) {
		bool want = wanted(p->escalated[i].name, why);

		if (want && p->escalated[i].link < 0) {
			p->escalated[i].link = bpf_raw_tracepoint_open(NULL, p->escalated[i].fd);
		} else if (!want && p->escalated[i].link >= 0) {
			close(p->escalated[i].link);
			p->escalated[i].link = -1;
		}
	}
}

static int attach_all(struct probes *p, struct bpf_object *obj, char *err, size_t len)
{
	struct bpf_program *prog;
	char what[96];
	int r;

	bpf_object__for_each_program(prog, obj) {
		if (!bpf_program__autoload(prog))
			continue;
		note_program(p, bpf_program__fd(prog));
		if (is_escalated(bpf_program__name(prog))) {
			r = keep_escalated(p, bpf_program__name(prog), dup(bpf_program__fd(prog)));
			if (r < 0) {
				fail_text(err, len, "cannot pin a BPF program", r, NULL);
				return r;
			}
			continue;
		}
		if (bpf_program__type(prog) == BPF_PROG_TYPE_PERF_EVENT) {
			pin_put(p, "prog_sample", bpf_program__fd(prog));
			r = attach_samplers(p, bpf_program__fd(prog), err, len);
			if (r < 0)
				return r;
			continue;
		}
		if (!strcmp(bpf_program__name(prog), RESET_DEADLINES)) {
			p->deadlines_fd = dup(bpf_program__fd(prog));
			r = pin_put(p, "prog_deadlines", p->deadlines_fd);
			if (r < 0) {
				fail_text(err, len, "cannot pin a BPF program", r, NULL);
				return r;
			}
			continue;
		}
		r = attach_one(p, prog);
		if (r < 0) {
			snprintf(what, sizeof(what), "cannot attach BPF program '%s'",
				 bpf_program__name(prog));
			fail_text(err, len, what, r, NULL);
			return r;
		}
	}
	return 0;
}

static int map_object(struct probes *p, struct bpf_object *obj)
{
	static const char *const pinned[] = { "rings", "cpus", "tasks", "hits" };
	int control = -1, deadlines, fd[SB_ARRAY_SIZE(pinned)];
	struct bpf_map *m;
	int r;

	bpf_object__for_each_map(m, obj) {
		if (strstr(bpf_map__name(m), "data.control"))
			control = bpf_map__fd(m);
	}
	if (control < 0)
		return -ENOENT;
	for (size_t i = 0; i < SB_ARRAY_SIZE(pinned); i++) {
		fd[i] = bpf_object__find_map_fd_by_name(obj, pinned[i]);
		r = pin_put(p, pinned[i], fd[i]);
		if (r < 0)
			return r;
	}
	/* A map that nobody holds loses its timers. */
	deadlines = bpf_object__find_map_fd_by_name(obj, "deadlines");
	if (deadlines >= 0) {
		r = pin_put(p, "deadlines", deadlines);
		if (r < 0)
			return r;
		p->keep_fd[p->n_keep++] = dup(deadlines);
	}
	p->hits_fd = dup(fd[3]);
	r = map_shared(p, control, fd[1], fd[0], fd[2]);
	if (r < 0)
		return r;
	/* Last: its presence says that the set is whole. */
	return pin_put(p, "control", control);
}

static int load_fresh(struct probes *p, const void *elf, size_t elf_len, uint64_t hash, char *err,
		      size_t len)
{
	LIBBPF_OPTS(bpf_object_open_opts, oo, .object_name = "stallbox");
	struct bpf_object *obj = bpf_object__open_mem(elf, elf_len, &oo);
	int r;

	if (!obj) {
		fail_text(err, len, "cannot open the BPF object", -errno, NULL);
		return -errno;
	}
	r = choose_programs(p, obj, err, len);
	if (r < 0)
		goto out;
	r = set_sizes(obj, &p->cfg);
	if (r < 0) {
		fail_text(err, len, "cannot size the BPF maps", r, NULL);
		goto out;
	}
	r = bpf_object__load(obj);
	if (r < 0) {
		fail_text(err, len, "cannot load the BPF programs", r,
			  r == -EPERM ? "run as root, or grant CAP_BPF and CAP_PERFMON" :
					"set STALLBOX_LIBBPF_DEBUG=1 to see the verifier's log");
		goto out;
	}
	if (p->pinned && mkdir(p->pin_dir, 0700) < 0 && errno != EEXIST) {
		fail_text(err, len, "cannot create the pin directory", -errno, NULL);
		r = -errno;
		goto out;
	}
	r = map_object(p, obj);
	if (r < 0) {
		fail_text(err, len, "cannot map or pin the BPF maps", r, NULL);
		goto out;
	}
	p->control->magic = SB_CONTROL_MAGIC;
	p->control->layout_version = SB_LAYOUT_VERSION;
	p->control->object_hash = hash;
	p->control->started_ns = sb_monotonic_ns();
	note_owner(p->control);
	r = attach_all(p, obj, err, len);
out:
	bpf_object__close(obj);
	malloc_trim(0); /* BTF and relocations are tens of MiB, needed once */
	return r;
}

/* ---- taking over ------------------------------------------------------------ */

static void take_escalated(struct probes *p, const char *program, int fd)
{
	bool pinned = p->pinned;

	note_program(p, fd);
	p->pinned = false; /* it is */
	keep_escalated(p, program, fd);
	p->pinned = pinned;
}

static void note_pinned_programs(struct probes *p)
{
	DIR *d = opendir(p->pin_dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);
		int fd, prog;

		if (!strncmp(e->d_name, "later_", 6)) {
			fd = pin_get(p, e->d_name);
			if (fd >= 0)
				take_escalated(p, e->d_name + 6, fd);
			continue;
		}
		if (strncmp(e->d_name, "link_", 5) || !strncmp(e->d_name, "link_sample_", 12))
			continue;
		fd = pin_get(p, e->d_name);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0) {
			prog = bpf_prog_get_fd_by_id(info.prog_id);
			if (prog >= 0) {
				note_program(p, prog);
				close(prog);
			}
		}
		if (!strcmp(e->d_name, "link_stackshot"))
			p->iter_link_fd = fd;
		else
			close(fd);
	}
	if (d)
		closedir(d);
}

static bool sampler_pinned(const struct probes *p)
{
	_cleanup_close_ int fd = pin_get(p, "link_sample_0");

	return fd >= 0;
}

static int take_over(struct probes *p, uint64_t hash, char *err, size_t len)
{
	_cleanup_close_ int control = pin_get(p, "control");
	_cleanup_close_ int cpus = -1;
	_cleanup_close_ int rings = -1;
	_cleanup_close_ int tasks = -1;
	_cleanup_close_ int sample = -1;
	int r;

	if (control < 0)
		return -ENOENT;
	p->control = map_fd(control, page_up(sizeof(struct sb_control)), PROT_READ | PROT_WRITE);
	if (!p->control)
		return -ENOENT;
	if (p->control->magic != SB_CONTROL_MAGIC ||
	    p->control->layout_version != SB_LAYOUT_VERSION || p->control->object_hash != hash) {
		munmap(p->control, page_up(sizeof(struct sb_control)));
		p->control = NULL;
		return -ESTALE;
	}
	munmap(p->control, page_up(sizeof(struct sb_control)));
	cpus = pin_get(p, "cpus");
	rings = pin_get(p, "rings");
	tasks = pin_get(p, "tasks");
	p->hits_fd = pin_get(p, "hits");
	if (cpus < 0 || rings < 0 || tasks < 0 || p->hits_fd < 0)
		return -ENOENT;
	r = map_shared(p, control, cpus, rings, tasks);
	if (r < 0)
		return r;
	note_owner(p->control);
	note_pinned_programs(p);
	sample = pin_get(p, "prog_sample");
	if (sample >= 0)
		note_program(p, sample);
	p->deadlines_fd = pin_get(p, "prog_deadlines");
	if (p->deadlines_fd >= 0)
		note_program(p, p->deadlines_fd);
	p->perf_links = sampler_pinned(p);
	if (!p->perf_links && sample >= 0) {
		r = attach_samplers(p, sample, err, len);
		if (r < 0)
			return r;
	}
	p->taken_over = true;
	return choose_programs(p, NULL, err, len);
}

int probes_open(const struct probes_options *o, struct probes *ret, char *ret_error,
		size_t error_len)
{
	struct probes *p = ret;
	bool v3;
	const void *elf;
	size_t elf_len;
	uint64_t hash;
	int r, cpus;

	memset(p, 0, sizeof(*p));
	p->hits_fd = p->iter_link_fd = p->stats_fd = p->deadlines_fd = -1;
	libbpf_set_print(quiet_libbpf);
	cpus = libbpf_num_possible_cpus();
	if (cpus < 1 || cpus > PROBES_MAX_CPUS) {
		snprintf(ret_error, error_len, "cannot use %d possible CPUs, expected 1 to %d", cpus,
			 PROBES_MAX_CPUS);
		return -ENOTSUP;
	}
	p->pinned = o->pin;
	snprintf(p->pin_dir, sizeof(p->pin_dir), "%s/stallbox", o->bpffs);
	if (o->pin) {
		r = ensure_bpffs(o->bpffs);
		if (r < 0) {
			char what[96];

			snprintf(what, sizeof(what), "cannot use bpffs at %s", o->bpffs);
			fail_text(ret_error, error_len, what, r,
				  "mount -t bpf bpf /sys/fs/bpf, or start with --no-pin (recording "
				  "then ends with the agent)");
			return r;
		}
	}

	v3 = have_fetch_atomics();
	p->cfg = (struct sb_config){
		.ring_bytes = choose_ring_bytes(o->memory_bytes, (uint32_t)cpus),
		.offcpu_threshold_ns = o->offcpu_threshold_ns,
		.lock_threshold_ns = o->offcpu_threshold_ns,
		.waker_threshold_ns = 10 * NSEC_PER_MSEC,
		.syscall_threshold_ns = o->syscall_threshold_ns,
		.irq_threshold_ns = o->irq_threshold_ns,
		.io_threshold_ns = 10 * NSEC_PER_MSEC,
		.sample_period_ns = NSEC_PER_SEC / o->sample_hz,
		.cpus = (uint32_t)cpus,
		.keep_segments = 8,
		.ust_budget = 8,
		.short_budget = 16,
		.other_budget = 32,
		.reclaim_budget = 1024,
		.cgroup_v1_memory = cgroup_v1_memory(),
	};
	elf = v3 ? stallbox_v3__elf_bytes(&elf_len) : stallbox_v2__elf_bytes(&elf_len);
	hash = sb_hash_bytes(elf, elf_len) ^ sb_hash_bytes(&p->cfg, sizeof(p->cfg));

	if (o->pin) {
		uint32_t owner = probes_owner(o->bpffs);

		if (owner) {
			snprintf(ret_error, error_len, "another stallboxd (pid %u) uses what is pinned below "
				 "%s/stallbox\ngive this one a bpffs of its own with --bpffs, or start it "
				 "with --no-pin", owner, o->bpffs);
			return -EBUSY;
		}
		r = take_over(p, hash, ret_error, error_len);
		if (r == 0)
			return 0;
		if (r != -ENOENT)
			p->replaced = true;
		probes_unpin(o->bpffs);
	}
	r = load_fresh(p, elf, elf_len, hash, ret_error, error_len);
	if (r < 0) {
		if (o->pin)
			probes_unpin(o->bpffs);
		probes_close(p);
	}
	return r;
}

void probes_close(struct probes *p)
{
	for (size_t i = 0; i < p->n_keep; i++)
		close(p->keep_fd[i]);
	for (size_t i = 0; i < p->n_programs; i++)
		close(p->program[i].fd);
	probes_escalate(p, 0);
	for (size_t i = 0; i < p->n_escalated; i++)
		close(p->escalated[i].fd);
	p->n_escalated = 0;
	if (p->hits_fd >= 0)
		close(p->hits_fd);
	if (p->iter_link_fd >= 0)
		close(p->iter_link_fd);
	if (p->stats_fd >= 0)
		close(p->stats_fd);
	if (p->deadlines_fd >= 0)
		close(p->deadlines_fd);
	p->n_keep = p->n_programs = 0;
	p->hits_fd = p->iter_link_fd = p->stats_fd = p->deadlines_fd = -1;
}

uint64_t probes_cgroup_id(const struct probes *p, const char *path)
{
	char full[400];
	struct stat st;

	snprintf(full, sizeof(full), "%s/%s",
		 p->cfg.cgroup_v1_memory ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup", path);
	return stat(full, &st) == 0 ? st.st_ino : 0;
}

void probes_recorded(const struct probes *p, uint64_t ret[SB_KIND_SLOTS])
{
	memset(ret, 0, SB_KIND_SLOTS * sizeof(ret[0]));
	for (uint32_t cpu = 0; cpu < p->cfg.cpus; cpu++) {
		for (int kind = 0; kind < (int)SB_KIND_SLOTS; kind++)
			ret[kind] += p->cpus[cpu].recorded[kind];
	}
}

int probes_set_deadlines(const struct probes *p)
{
	LIBBPF_OPTS(bpf_test_run_opts, o);

	if (p->deadlines_fd < 0)
		return 0;
	if (bpf_prog_test_run_opts(p->deadlines_fd, &o) < 0)
		return -errno;
	return (int)o.retval;
}

void probes_arm(struct probes *p)
{
	struct sb_control *c = p->control;

	c->armed_generation = c->generation;
	c->freeze_ns = 0;
	c->merged = 0;
	__atomic_store_n(&c->armed, 1, __ATOMIC_SEQ_CST);
}

bool probes_seal(struct probes *p)
{
	struct sb_control *c = p->control;
	uint64_t one = 1;

	if (!__atomic_compare_exchange_n(&c->armed, &one, 0, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return false;
	__atomic_store_n(&c->generation, c->armed_generation + 1, __ATOMIC_SEQ_CST);
	return true;
}

void probes_flip(struct probes *p)
{
	__atomic_store_n(&p->control->generation, p->control->generation + 1, __ATOMIC_SEQ_CST);
}
