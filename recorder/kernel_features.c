// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/kernel_features.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "format/base.h"

bool kernel_has_fetch_atomics(void)
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

bool kernel_has_large_values(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "sb_probe", 4, 5u << 20, 1, &o);

	return fd >= 0;
}

bool kernel_cgroup_v1_memory(void)
{
	struct stat st;

	/* The v2 root lists memory only where v1 does not hold it. */
	return stat("/sys/fs/cgroup/memory/memory.limit_in_bytes", &st) == 0 ||
	       stat("/sys/fs/cgroup/memory/cgroup.procs", &st) == 0;
}

bool kernel_has_task_regs(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT, BPF_FUNC_task_pt_regs, NULL) == 1;
}

/* Asked of a program type that may use every helper that root may. */
bool kernel_has_timers(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SOCKET_FILTER, BPF_FUNC_timer_init, NULL) == 1;
}

/* Where a per-CPU variable lies in its section, and of which type it is. */
static bool percpu_offset(const struct btf *btf, const char *name, int64_t *ret, uint32_t *ret_type)
{
	int id = btf__find_by_name_kind(btf, ".data..percpu", BTF_KIND_DATASEC);
	const struct btf_type *section = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);

	for (uint32_t i = 0; section && i < btf_vlen(section); i++) {
		const struct btf_var_secinfo *v = btf_var_secinfos(section) + i;
		const struct btf_type *var = btf__type_by_id(btf, v->type);

		if (var && !strcmp(btf__name_by_offset(btf, var->name_off), name)) {
			*ret = v->offset;
			*ret_type = var->type;
			return true;
		}
	}
	return false;
}

/* Of a struct or union, also where it stands in one without a name; depth: of those. */
static bool member_offset(const struct btf *btf, uint32_t type, const char *member, int depth, int64_t *ret)
{
	int id = btf__resolve_type(btf, type);
	const struct btf_type *t = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);

	for (uint32_t i = 0; t && btf_is_composite(t) && i < btf_vlen(t); i++) {
		const char *name = btf__name_by_offset(btf, btf_members(t)[i].name_off);
		int64_t at = btf_member_bit_offset(t, i) / 8;

		if (!strcmp(name, member)) {
			*ret = at;
			return true;
		}
		if (!*name && depth && member_offset(btf, btf_members(t)[i].type, member, depth - 1, ret)) {
			*ret += at;
			return true;
		}
	}
	return false;
}

static bool percpu_member(const struct btf *btf, const char *variable, const char *member, int64_t *ret)
{
	int64_t at;
	uint32_t type;

	if (!percpu_offset(btf, variable, &at, &type) || !member_offset(btf, type, member, 3, ret))
		return false;
	*ret += at;
	return true;
}

/* The word of raised softirqs: a variable of its own (x86 since 6.15), before that in a union of pcpu_hot (x86, 6.2), before
 * that, and on other architectures, in irq_stat, which has other words on x86 since 6.2. */
static bool raised_offset(const struct btf *btf, int64_t *ret)
{
	uint32_t type;

	return percpu_offset(btf, "__softirq_pending", ret, &type) || percpu_member(btf, "pcpu_hot", "softirq_pending", ret) ||
	       percpu_member(btf, "irq_stat", "__softirq_pending", ret);
}

bool kernel_softirq_words(const struct btf *btf, int64_t *ret_raised, int64_t *ret_handled)
{
	int64_t rq, raised, handled;
	uint32_t type;

	if (!percpu_offset(btf, "runqueues", &rq, &type) || !raised_offset(btf, &raised) ||
	    !percpu_member(btf, "kstat", "softirqs", &handled))
		return false;
	*ret_raised = raised - rq;
	*ret_handled = handled - rq;
	return true;
}

/* High resolution: timers expire in an interrupt of their own, the tick's among them. Without a tick on some CPUs (nohz_full) those
 * would have no samples. */
static bool ticks_everywhere(uint64_t *ret_tick_ns)
{
	struct timespec fine, coarse;
	char text[64] = "";
	_cleanup_close_ int fd = open("/sys/devices/system/cpu/nohz_full", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strpbrk(text, "0123456789"))
		return false;
	if (clock_getres(CLOCK_MONOTONIC, &fine) || clock_getres(CLOCK_MONOTONIC_COARSE, &coarse) || fine.tv_sec || fine.tv_nsec != 1)
		return false;
	*ret_tick_ns = (uint64_t)coarse.tv_sec * NSEC_PER_SEC + (uint64_t)coarse.tv_nsec;
	return true;
}

bool kernel_tick(struct kernel_tick *ret)
{
	struct btf *btf = ticks_everywhere(&ret->ns) ? btf__load_vmlinux_btf() : NULL;
	int64_t rq, timer, regs;
	uint32_t type;
	int64_t expires;
	bool found;

	found = btf && member_offset(btf, (uint32_t)SB_MAX(btf__find_by_name_kind(btf, "hrtimer", BTF_KIND_STRUCT), 0), "_softexpires", 0, &expires) &&
		kernel_tracepoint_args(btf, "hrtimer_expire_entry") == 2 && percpu_offset(btf, "runqueues", &rq, &type) &&
		percpu_member(btf, "tick_cpu_sched", "sched_timer", &timer) && percpu_offset(btf, "__irq_regs", &regs, &type);
	btf__free(btf);
	if (found) {
		ret->timer_from_rq = timer - rq;
		ret->regs_from_rq = regs - rq;
	}
	return found;
}

int kernel_tracepoint_args(const struct btf *btf, const char *tracepoint)
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

bool kernel_scans_untraced(const struct btf *btf)
{
	_cleanup_close_ int fd = open("/sys/kernel/mm/lru_gen/enabled", O_RDONLY | O_CLOEXEC);
	char text[16] = "";

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtoul(text, NULL, 16) & 1 &&
		kernel_tracepoint_args(btf, "mm_vmscan_lru_isolate") > 7;
}
