// SPDX-License-Identifier: BSD-2-Clause
/* Whether the user stack of a thread that leaves the CPU is the one that was saved the last time: of stacks that are found by
 * frame pointers alone, which lie in memory of this test. The code is the kernel's own. */
#define SB_EH_FRAME
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "bpf/bpf_helpers.h"
#include "bpf/compat.bpf.h"

static struct {
	uint64_t ip, sp, fp;
} entered;
static long read_user(void *to, size_t len, uintptr_t from);

#undef bpf_core_enum_value_exists
#undef bpf_task_pt_regs
#undef sb_regs_ip
#undef sb_regs_sp
#undef sb_regs_fp
#undef sb_regs_lr
#undef sb_regs_64
#define bpf_core_enum_value_exists(...)		1
#define bpf_task_pt_regs(task)			((uintptr_t)&entered)
#undef bpf_probe_read_user
#define bpf_probe_read_user(to, len, from)	read_user((to), (len), (uintptr_t)(from))
#define sb_regs_ip(r)				((void)(r), entered.ip)
#define sb_regs_sp(r)				((void)(r), entered.sp)
#define sb_regs_fp(r)				((void)(r), entered.fp)
#define sb_regs_lr(r)				((void)(r), 0)
#define sb_regs_64(r)				((void)(r), true)

#include "bpf/offcpu.bpf.c"

#define TID 41
#define TGID 40
#define CODE 0x400000u
#define WORDS 400u

static struct sb_cpu model_cpu_of;
static struct sb_ustack model_ustack;
static struct sb_scratch model_scratch[SB_SCRATCH_COUNT];
static struct sb_kstack_words model_words;
static struct sb_unwind_process model_process;
static struct sb_unwind_map model_map = { .start = CODE, .end = CODE + 0x1000, .table = SB_UNWIND_NO_TABLE };
static uint64_t stack[WORDS];

void *model_lookup(const void *map, uint32_t key)
{
	return map == &cpus	    ? (void *)&model_cpu_of :
	       map == &ustacks	    ? (void *)&model_ustack :
	       map == &kstack_words ? (void *)&model_words :
	       map == &scratch	    ? (void *)&model_scratch[key] :
	       map == &unwind_procs ? (void *)&model_process :
	       map == &unwind_maps  ? (void *)&model_map : NULL;
}

static long read_user(void *to, size_t len, uintptr_t from)
{
	size_t at = from - (uintptr_t)stack;

	if (at > sizeof(stack) || len > sizeof(stack) - at)
		return -1;
	memcpy(to, (const uint8_t *)stack + at, len);
	return 0;
}

/* A frame whose frame pointer leads to the word `at`: there the one before is kept, above it the return address. */
static void frame(uint32_t at, uint32_t caller, uint64_t ip)
{
	stack[at] = caller ? (uintptr_t)&stack[caller] : 0;
	stack[at + 1] = ip;
}

/* In one frame and three callers, the outermost one's frame at that word. */
static void begin(uint32_t outermost)
{
	struct sb_config *c = (struct sb_config *)(uintptr_t)&cfg;

	memset(&model_ustack, 0, sizeof(model_ustack));
	memset(stack, 0, sizeof(stack));
	c->user_unwind = SB_USER_UNWIND_EH_FRAME;
	model_pid_tgid = (uint64_t)TGID << 32 | TID;
	model_process = (struct sb_unwind_process){ .tgid = TGID, .n = 1, .sequence = 2 };
	entered.ip = CODE + 0x10;
	entered.sp = (uintptr_t)stack;
	entered.fp = (uintptr_t)&stack[4];
	frame(4, 10, CODE + 0x20);
	frame(10, outermost, CODE + 0x30);
	frame(outermost, 0, CODE + 0x40);
}

/* The thread leaves the CPU. True: with the stack that it had the last time. */
static bool same(void)
{
	uint64_t before = model_cpu_of.ust_again;

	assert_true(sb_ustack_save(NULL, TID, 1, &model_cpu_of));
	return model_cpu_of.ust_again > before;
}

/* Read in one go, and word by word. */
static const uint32_t outermost[] = { 20, 20 + SB_UST_BLOCK };

static void test_nothing_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(outermost[i]);
		assert_false(same());
		assert_int_equal(model_ustack.n, 4);
		assert_int_equal(model_ustack.addr[3], CODE + 0x40);
		assert_int_equal(model_ustack.info, SB_UINFO(SB_BY_FP, SB_UNWIND_COMPLETE));
		assert_true(same());
		/* What lies between the frames is not of the stack. */
		stack[7] = 1;
		assert_true(same());
		stack[11] += 8;
		assert_false(same());
		assert_int_equal(model_ustack.addr[2], CODE + 0x38);
	}
}

/* The addresses stand where they stood, and the frame pointer does not lead there any more: another caller. */
static void test_another_frame_pointer(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(outermost[i]);
		assert_false(same());
		assert_true(same());
		frame(30, 0, CODE + 0x50);
		stack[4] = (uintptr_t)&stack[30];
		assert_false(same());
		assert_int_equal(model_ustack.n, 3);
		assert_int_equal(model_ustack.addr[1], CODE + 0x20);
		assert_int_equal(model_ustack.addr[2], CODE + 0x50);
		assert_true(same());
	}
}

/* A table that came meanwhile, other mappings. */
static void test_another_version(void **state)
{
	(void)state;
	begin(outermost[0]);
	assert_false(same());
	assert_true(same());
	model_process.tables++;
	assert_false(same());
	assert_true(same());
	model_process.sequence += 2;
	assert_false(same());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_else),
		cmocka_unit_test(test_another_frame_pointer),
		cmocka_unit_test(test_another_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
