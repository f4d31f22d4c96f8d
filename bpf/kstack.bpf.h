/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The kernel stack of a thread that does not run. Most threads sleep where others have slept, and to look whether the
 * kernel's walk would find the same is cheaper than the walk.
 *
 * A walk is a function of where it begins and of the words that it reads. It begins at the saved stack pointer, and what it
 * takes from the stack are return addresses, at distances from there that the code alone decides, or a saved frame pointer
 * does. So where the addresses of an earlier walk stand at the same distances, this is that walk. Only those are kept whose
 * addresses stand on the stack once, in their order: what is left over from earlier calls is taken for nothing. A return
 * address that a tracer has put another one for is not on the stack, and such a walk is not kept.
 */
#ifndef SB_BPF_KSTACK_BPF_H
#define SB_BPF_KSTACK_BPF_H

#define SB_KSTACK_ALIGN 16384u	/* no stack of a thread ends elsewhere, nor is smaller (arch/x86, page_64_types.h) */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SB_KSTACKS);
	__type(key, __u32);
	__type(value, struct sb_kstack);
} kstacks __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sb_kstack_words);
} kstack_words __weak SEC(".maps");

/* Reads the words 0 to `last` of the stack; bounded right before its use, as verifiers want it. */
static __always_inline bool sb_kstack_read(struct sb_kstack_words *w, __u64 sp, __u32 last)
{
	asm volatile("" : "+r"(last));
	return bpf_probe_read_kernel(w->word, (last & (SB_KSTACK_WORDS - 1)) * 8 + 8, (const void *)sp) == 0;
}

static __always_inline struct sb_kstack_words *sb_kstack_words_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&kstack_words, &zero);
}

/* The stack kept at `at` is the one at sp: into the scratch. Returns the number of its frames, 0: it is another one. */
SB_GLOBAL int sb_kstack_again(__u32 at, __u64 sp)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_kstack *k = bpf_map_lookup_elem(&kstacks, &at);
	__u32 n;

	if (!w || !s || !k || !k->n || !sb_kstack_read(w, sp, k->last))
		return 0;
	n = k->n;
	for (__u32 i = 0; i < SB_KFRAMES; i++) {
		if (i >= n)
			break;
		if (w->word[k->slot[i] & (SB_KSTACK_WORDS - 1)] != k->addr[i])
			return 0;
		s->k[i] = k->addr[i];
	}
	return n;
}

/* Keeps at `at` the n frames that a walk from sp has left in the scratch, if there is one way to find them on the stack. */
SB_GLOBAL int sb_kstack_keep(__u32 at, __u64 sp, __u32 n)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_kstack *k = bpf_map_lookup_elem(&kstacks, &at);
	__u32 words = (SB_KSTACK_ALIGN - (sp & (SB_KSTACK_ALIGN - 1))) / 8;

	if (!w || !s || !k)
		return 0;
	k->n = 0;
	if (words > SB_KSTACK_WORDS)
		words = SB_KSTACK_WORDS;
	if (!n || n >= SB_KFRAMES || !sb_kstack_read(w, sp, words - 1))
		return 0;
	w->words = words;
	w->left = n;
	/* The latest word for each, from the last frame backwards; then the earliest ones have to be the same. */
	for (__u32 i = 0; i < SB_KSTACK_WORDS; i++) {
		__u32 word = (SB_AGAIN(w->words) - 1 - i) & (SB_KSTACK_WORDS - 1), frame = SB_AGAIN(w->left) - 1;

		if (i >= SB_AGAIN(w->words) || frame >= SB_KFRAMES)
			break;
		if (w->word[word] == s->k[frame]) {
			w->latest[frame] = word;
			w->left = frame;
		}
	}
	if (SB_AGAIN(w->left))
		return 0;
	for (__u32 i = 0; i < SB_KSTACK_WORDS; i++) {
		__u32 frame = SB_AGAIN(w->left) & (SB_KFRAMES - 1);

		if (i >= SB_AGAIN(w->words) || frame >= n)
			break;
		if (w->word[i] != s->k[frame])
			continue;
		if (w->latest[frame] != i)
			return 0;
		k->addr[frame] = s->k[frame];
		k->slot[frame] = i;
		w->left = frame + 1;
	}
	k->last = w->latest[(n - 1) & (SB_KFRAMES - 1)];
	k->n = n;
	return 1;
}

#ifdef SB_CHECK_KSTACKS
/* For tests: what was found is what a walk gives. */
static __always_inline void check_kstack(struct task_struct *task, struct sb_scratch *s, long n, struct sb_cpu *c)
{
	long walked = bpf_get_task_stack(task, s->u, sizeof(s->u), 0);

	if (walked <= 0)
		return; /* the kernel has a few buffers for walks, which others use at times */
	if (walked != n * 8)
		c->kst_wrong++;
	for (__u32 i = 0; i < SB_KFRAMES; i++) {
		if (i >= n)
			break;
		if (s->k[i] != s->u[i]) {
			c->kst_wrong++;
			break;
		}
	}
}
#endif

/* The kernel stack of a task that does not run, which is in the system call `call` (sb_call_of()), into SB_SCRATCH_SWITCH.
 * Returns what bpf_get_task_stack() does: bytes, or a negative error. */
static __always_inline long sb_take_kstack_of(struct task_struct *task, struct sb_scratch *s, __u64 call, struct sb_cpu *c)
{
	__u64 sp = 0;
	__u32 at;
	long n;

	if (bpf_core_field_exists(task->thread.sp))
		sp = task->thread.sp;
	at = (sp >> 3 ^ SB_CALL_NR(call) << 4) & (SB_KSTACKS - 1);
	if (sp) {
		n = sb_kstack_again(at, sp);
		if (n > 0) {
			c->kst_again++;
#ifdef SB_CHECK_KSTACKS
			check_kstack(task, s, n, c);
#endif
			return n * 8;
		}
	}
	n = bpf_get_task_stack(task, s->k, sizeof(s->k), 0);
	if (sp && n > 0)
		sb_kstack_keep(at, sp, n / 8);
	return n;
}

#endif
