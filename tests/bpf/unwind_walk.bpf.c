// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* unwind/walk.h as a program in the kernel: does the verifier take it? Loaded by tests/bpf/unwind.sh. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "unwind/layout.h"

#define FRAMES 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct sb_unwind_table);
} tables SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct sb_unwind_map);
} mappings SEC(".maps");

static inline const struct sb_unwind_map *sb_unwind_map_at(__u32 index)
{
	return bpf_map_lookup_elem(&mappings, &index);
}

static inline struct sb_unwind_table *sb_unwind_table_at(__u32 index)
{
	return bpf_map_lookup_elem(&tables, &index);
}

static inline bool sb_unwind_slot_at(__u32 index, __u64 *ret)
{
	__u64 *slot = bpf_map_lookup_elem(&slots, &index);

	if (!slot)
		return false;
	*ret = *slot;
	return true;
}

static inline bool sb_unwind_read(__u64 *ret, __u64 address)
{
	return bpf_probe_read_user(ret, sizeof(*ret), (const void *)address) == 0;
}

static inline bool sb_unwind_register(__u64 *ret, __u8 number)
{
	(void)number;
	*ret = 0;
	return false;
}

/* Global functions: verified once, whatever calls them. */
#define SB_UNWIND_SEARCH __attribute__((noinline))
__u32 sb_unwind_find_map(__u32 first, __u32 n, __u64 pc);
__u32 sb_unwind_find_rule(__u32 first, __u32 n, __u32 pc);
#include "unwind/walk.h"

struct walk {
	struct sb_unwind_walk w;
	__u64 frames[FRAMES];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

int unwind_frame(__u32 i);
__attribute__((noinline)) int unwind_frame(__u32 i)
{
	__u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);

	if (!walk || i >= FRAMES)
		return 1;
	SB_UNWIND_OPAQUE(i);
	walk->frames[i & (FRAMES - 1)] = walk->w.ip;
	walk->w.n = i + 1;
	return sb_unwind_step(&walk->w);
}

/* struct pt_regs of x86-64: rbp is word 4, rip 16, rsp 19; of arm64: x29 29, sp 31, pc 32. */
#if defined(__TARGET_ARCH_x86)
enum { IP = 16, SP = 19, FP = 4, LR = 0 };
#else
enum { IP = 32, SP = 31, FP = 29, LR = 30 };
#endif

SEC("raw_tracepoint/sys_enter")
int walk_at_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	const __u64 *regs = (const void *)ctx->args[0];
	__u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);

	if (!walk)
		return 0;
	bpf_probe_read_kernel(&walk->w.ip, 8, regs + IP);
	bpf_probe_read_kernel(&walk->w.sp, 8, regs + SP);
	bpf_probe_read_kernel(&walk->w.fp, 8, regs + FP);
	bpf_probe_read_kernel(&walk->w.lr, 8, regs + LR);
	walk->w.ip_mask = ~0ULL;
	sb_unwind_begin(&walk->w, 0, 1024);
	for (__u32 i = 0; i < FRAMES; i++) {
		if (unwind_frame(i))
			return 0;
	}
	walk->w.end = SB_UNWIND_DEPTH;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
