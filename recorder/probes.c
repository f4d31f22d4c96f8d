// SPDX-License-Identifier: BSD-2-Clause
/* The recorder in the kernel: how large, loaded and attached, its memory mapped, its words turned. */
#include "recorder/probes.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include "bpf/stallbox_v2.skel.h"
#include "bpf/stallbox_v3.skel.h"
#include "recorder/kernel_features.h"
#include "recorder/probes_impl.h"
#include "recorder/tracepoints.h"

#define DEFAULT_RING_BYTES (8ULL << 20) /* 60 s of the reference load, facts of the budget */
#define MAX_TOTAL_BYTES (256ULL << 20)
#define MAX_RAM_PERCENT 2
#define MIN_RING_BYTES (1ULL << 20)
/* KMALLOC_MAX_SIZE bounds a map value before 5.12; slack and a power of two below it. */
#define OLD_KERNEL_RING_BYTES (2ULL << 20)

void probes_fail_text(char *err, size_t len, const char *what, int r, const char *hint)
{
	snprintf(err, len, "%s: %s%s%s", what, strerror(-r), hint ? "\n" : "", hint ? hint : "");
}

void probes_add_missing(struct probes *p, const char *what, const char *why)
{
	for (size_t i = 0; i < p->n_missing; i++) {
		if (!strcmp(p->missing[i].key, what))
			return;
	}
	if (p->n_missing < PROBES_MAX_MISSING)
		p->missing[p->n_missing++] = (struct bundle_kv){ what, why };
}

/* ---- sizes --------------------------------------------------------------------- */

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
	return kernel_has_large_values() ? ring : SB_MIN(ring, OLD_KERNEL_RING_BYTES);
}

struct sb_config probes_wanted_config(const struct probes_options *o, uint32_t cpus)
{
	struct sb_config cfg = {
		.ring_bytes = choose_ring_bytes(o->memory_bytes, cpus),
		.offcpu_threshold_ns = o->offcpu_threshold_ns,
		.lock_threshold_ns = o->offcpu_threshold_ns,
		.waker_threshold_ns = 10 * NSEC_PER_MSEC,
		.syscall_threshold_ns = o->syscall_threshold_ns,
		.irq_threshold_ns = o->irq_threshold_ns,
		.io_threshold_ns = 10 * NSEC_PER_MSEC,
		.sample_period_ns = NSEC_PER_SEC / o->sample_hz,
		.cpus = cpus,
		.keep_segments = 8,
		.ust_period_ns = 4 * NSEC_PER_MSEC,
		.long_period_ns = 2 * NSEC_PER_MSEC,
		.short_budget = 8,
		.other_budget = 32,
		.reclaim_budget = 1024,
		.cgroup_v1_memory = kernel_cgroup_v1_memory(),
		.command_lines = o->command_lines,
	};
	struct kernel_tick tick;

	/* With fewer than two ticks a sample these would be as far apart as two periods, and in step with all that wakes at ticks. */
	if (kernel_tick(&tick) && 2 * tick.ns <= cfg.sample_period_ns) {
		cfg.tick_ns = tick.ns;
		cfg.tick_from_rq = tick.timer_from_rq;
		cfg.irq_regs_from_rq = tick.regs_from_rq;
	}
	unwind_choose(o, &cfg);
	return cfg;
}

/* ---- mapping shared memory -------------------------------------------------- */

void *probes_map(int fd, size_t len, int prot)
{
	void *m = mmap(NULL, len, prot, MAP_SHARED, fd, 0);

	return m == MAP_FAILED ? NULL : m;
}

size_t probes_page_up(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (n + page - 1) / page * page;
}

int probes_map_shared(struct probes *p, int control, int cpus, int rings, int tasks)
{
	p->ring_stride = p->cfg.ring_bytes + SB_RING_SLACK;
	p->control = probes_map(control, probes_page_up(sizeof(struct sb_control)), PROT_READ | PROT_WRITE);
	p->cpus = probes_map(cpus, probes_page_up(sizeof(struct sb_cpu) * p->cfg.cpus), PROT_READ);
	p->rings = probes_map(rings, p->ring_stride * SB_BANKS * p->cfg.cpus, PROT_READ);
	p->tasks = probes_map(tasks, probes_page_up(sizeof(struct sb_task) * SB_TASKS), PROT_READ);
	if (!p->control || !p->cpus || !p->rings || !p->tasks)
		return -errno;
	p->mapped_bytes = probes_page_up(sizeof(struct sb_control)) + probes_page_up(sizeof(struct sb_cpu) * p->cfg.cpus) +
			  probes_page_up(p->ring_stride * SB_BANKS * p->cfg.cpus) +
			  probes_page_up(sizeof(struct sb_task) * SB_TASKS);
	p->map_bytes = p->ring_stride * SB_BANKS * p->cfg.cpus + sizeof(struct sb_cpu) * p->cfg.cpus +
		       sizeof(struct sb_task) * SB_TASKS + sizeof(struct sb_task_state) * SB_TASKS +
		       sizeof(struct sb_ustack) * SB_USTACKS + sizeof(struct sb_task_detail) * SB_DETAILS +
		       (SB_SEEN_SLOTS * 8 + sizeof(struct sb_kstack) * SB_KSTACKS + sizeof(struct sb_kstack_words)) * p->cfg.cpus +
		       2 * sizeof(struct sb_inflight_table) + unwind_bytes(&p->cfg);
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

static int set_sizes(struct bpf_object *obj, const struct sb_config *cfg, int *model_fd)
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
		r |= unwind_set_size(m, cfg, model_fd);
	}
	initial = rodata ? (void *)bpf_map__initial_value(rodata, &size) : NULL;
	if (!initial || size % sizeof(*cfg))
		return -EINVAL; /* somebody added a constant beside cfg */
	/* The linker keeps one copy per object file and points all of them at the first. */
	memcpy(initial, cfg, sizeof(*cfg));
	return r ? -EINVAL : 0;
}

void probes_note_program(struct probes *p, int fd)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	if (p->n_programs >= PROBES_MAX_PROGRAMS || bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return;
	for (size_t i = 0; i < p->n_programs; i++) {
		if (p->program[i].id == info.id)
			return;
	}
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
	r = pins_put(p, name, fd);
	if (!strcmp(bpf_program__name(prog), "stackshot"))
		p->iter_link_fd = fd;
	else if (programs_is_optional(bpf_program__name(prog)))
		programs_keep_optional(p, bpf_program__name(prog), dup(bpf_program__fd(prog)), fd);
	else
		p->keep_fd[p->n_keep++] = fd;
	bpf_link__destroy(link); /* closes its own descriptor: ours holds the link */
	return r;
}

static int attach_all(struct probes *p, struct bpf_object *obj, char *err, size_t len)
{
	struct bpf_program *prog;
	char what[96];
	int r;

	bpf_object__for_each_program(prog, obj) {
		if (!bpf_program__autoload(prog))
			continue;
		probes_note_program(p, bpf_program__fd(prog));
		if (programs_is_escalated(bpf_program__name(prog))) {
			r = programs_keep_escalated(p, bpf_program__name(prog), dup(bpf_program__fd(prog)));
			if (r < 0) {
				probes_fail_text(err, len, "cannot pin a BPF program", r, NULL);
				return r;
			}
			continue;
		}
		if (bpf_program__type(prog) == BPF_PROG_TYPE_PERF_EVENT) {
			pins_put(p, "prog_sample", bpf_program__fd(prog));
			r = samplers_attach(p, bpf_program__fd(prog), err, len);
			if (r < 0)
				return r;
			continue;
		}
		if (!strcmp(bpf_program__name(prog), PROGRAM_RESET_DEADLINES)) {
			p->deadlines_fd = dup(bpf_program__fd(prog));
			r = pins_put(p, "prog_deadlines", p->deadlines_fd);
			if (r < 0) {
				probes_fail_text(err, len, "cannot pin a BPF program", r, NULL);
				return r;
			}
			continue;
		}
		r = attach_one(p, prog);
		if (r < 0) {
			snprintf(what, sizeof(what), "cannot attach BPF program '%s'",
				 bpf_program__name(prog));
			probes_fail_text(err, len, what, r, NULL);
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
		r = pins_put(p, pinned[i], fd[i]);
		if (r < 0)
			return r;
	}
	r = unwind_keep(p, obj);
	if (r < 0)
		return r;
	/* A map that nobody holds loses its timers. */
	deadlines = bpf_object__find_map_fd_by_name(obj, "deadlines");
	if (deadlines >= 0) {
		r = pins_put(p, "deadlines", deadlines);
		if (r < 0)
			return r;
		p->keep_fd[p->n_keep++] = dup(deadlines);
	}
	p->hits_fd = dup(fd[3]);
	r = probes_map_shared(p, control, fd[1], fd[0], fd[2]);
	if (r < 0)
		return r;
	/* Last: its presence says that the set is whole. */
	return pins_put(p, "control", control);
}

static int load_fresh(struct probes *p, const void *elf, size_t elf_len, uint64_t hash, char *err,
		      size_t len)
{
	LIBBPF_OPTS(bpf_object_open_opts, oo, .object_name = "stallbox");
	struct bpf_object *obj = bpf_object__open_mem(elf, elf_len, &oo);
	_cleanup_close_ int model = -1;
	int r;

	if (!obj) {
		probes_fail_text(err, len, "cannot open the BPF object", -errno, NULL);
		return -errno;
	}
	r = tracepoints_choose(p, obj, err, len);
	if (r < 0)
		goto out;
	r = set_sizes(obj, &p->cfg, &model);
	if (r < 0) {
		probes_fail_text(err, len, "cannot size the BPF maps", r, NULL);
		goto out;
	}
	r = bpf_object__load(obj);
	if (r < 0) {
		probes_fail_text(err, len, "cannot load the BPF programs", r,
			  r == -EPERM ? "run as root, or grant CAP_BPF and CAP_PERFMON; before 5.11 CAP_SYS_RESOURCE, too" :
					"set STALLBOX_LIBBPF_DEBUG=1 to see the verifier's log");
		goto out;
	}
	if (p->pinned && mkdir(p->pin_dir, 0700) < 0 && errno != EEXIST) {
		probes_fail_text(err, len, "cannot create the pin directory", -errno, NULL);
		r = -errno;
		goto out;
	}
	r = map_object(p, obj);
	if (r < 0) {
		probes_fail_text(err, len, "cannot map or pin the BPF maps", r, NULL);
		goto out;
	}
	p->control->magic = SB_CONTROL_MAGIC;
	p->control->layout_version = SB_LAYOUT_VERSION;
	p->control->object_hash = hash;
	p->control->started_ns = sb_monotonic_ns();
	p->control->offcpu_threshold_ns = p->cfg.offcpu_threshold_ns;
	pins_note_owner(p->control);
	r = attach_all(p, obj, err, len);
out:
	bpf_object__close(obj);
	malloc_trim(0); /* BTF and relocations are tens of MiB, needed once */
	return r;
}

/* ---- begin and end ----------------------------------------------------------- */

void probes_init(struct probes *p, const char *bpffs, bool pinned)
{
	memset(p, 0, sizeof(*p));
	p->hits_fd = p->iter_link_fd = p->deadlines_fd = -1;
	memset(p->sampler_fd, -1, sizeof(p->sampler_fd));
	memset(p->unwind_fd, -1, sizeof(p->unwind_fd));
	p->pinned = pinned;
	snprintf(p->pin_dir, sizeof(p->pin_dir), "%s/stallbox", bpffs);
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

	probes_init(p, o->bpffs, o->pin);
	libbpf_set_print(quiet_libbpf);
	cpus = libbpf_num_possible_cpus();
	if (cpus < 1 || cpus > PROBES_MAX_CPUS) {
		snprintf(ret_error, error_len, "cannot use %d possible CPUs, expected 1 to %d", cpus,
			 PROBES_MAX_CPUS);
		return -ENOTSUP;
	}
	if (o->pin) {
		r = pins_ensure_bpffs(o->bpffs);
		if (r < 0) {
			char what[96];

			snprintf(what, sizeof(what), "cannot use bpffs at %s", o->bpffs);
			probes_fail_text(ret_error, error_len, what, r,
				  "mount -t bpf bpf /sys/fs/bpf, or start with --no-pin (recording "
				  "then ends with the agent)");
			return r;
		}
	}

	v3 = kernel_has_fetch_atomics();
	p->cfg = probes_wanted_config(o, (uint32_t)cpus);
	unwind_note_missing(p, o);
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
		r = pins_take_over(p, hash, ret_error, error_len);
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
	for (uint32_t i = 0; i < p->cfg.cpus; i++) {
		if (p->sampler_fd[i] >= 0)
			close(p->sampler_fd[i]);
		p->sampler_fd[i] = -1;
	}
	for (size_t i = 0; i < p->n_programs; i++)
		close(p->program[i].fd);
	probes_escalate(p, 0);
	for (size_t i = 0; i < p->n_escalated; i++)
		close(p->escalated[i].fd);
	p->n_escalated = 0;
	for (size_t i = 0; i < p->n_optional; i++) {
		close(p->optional[i].fd);
		if (p->optional[i].link >= 0)
			close(p->optional[i].link);
	}
	p->n_optional = 0;
	if (p->hits_fd >= 0)
		close(p->hits_fd);
	if (p->iter_link_fd >= 0)
		close(p->iter_link_fd);
	if (p->deadlines_fd >= 0)
		close(p->deadlines_fd);
	unwind_close(p);
	p->n_keep = p->n_programs = 0;
	p->hits_fd = p->iter_link_fd = p->deadlines_fd = -1;
}

/* ---- words that the programs read -------------------------------------------- */

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
