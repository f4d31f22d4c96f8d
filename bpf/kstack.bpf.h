/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The kernel stack of a thread that does not run. Most threads sleep where others have slept, and to look whether the
 * kernel's walk would find the same is cheaper than the walk.
 *
 * A walk is a function of where it begins and of the words that it reads. It begins at the saved stack pointer, and what it
 * takes from the stack are return addresses, at distances from there that the code alone decides; but for the last one, to
 * the entry into the kernel: the kernel moves the stack of each system call by a random distance, and that one
 * stands at the stack's other end. Kept are all places where an address of the walk stood, those that it has read and
 * those left over from earlier calls: which is which need not be known. Where the same stands at all of them, each step of
 * the walk reads what it has read then, and the walk is the same. Where it does not and the walk is the same all
 * the same, that place is a left over one, and is kept no longer.
 *
 * Taken for granted: a function that uses a frame pointer, other than the one of the system calls, has it as far away
 * as before; and no tracer changes return addresses (one that does puts others there, and such walks are not kept).
 */
#ifndef SB_BPF_KSTACK_BPF_H
#define SB_BPF_KSTACK_BPF_H

#define SB_KSTACK_ALIGN 16384u	/* no stack of a thread ends elsewhere, nor is smaller (arch/x86, page_64_types.h) */
#define SB_KSTACK_WAITS 31u

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

/* The index of a frame, bounded right before its use. */
static __always_inline __u32 sb_kframe(__u32 n)
{
	asm volatile("" : "+r"(n));
	return n & (SB_KFRAMES - 1);
}

static __always_inline __u64 sb_kstack_end(__u64 sp)
{
	return (sp | (SB_KSTACK_ALIGN - 1)) + 1;
}

/* The stack kept at `at` is the one at sp: into the scratch. entry: as sb_kstack_entry() has it.
 * Returns the number of its frames, 0: it is another one. */
SB_GLOBAL int sb_kstack_again(__u32 at, __u64 sp, __u64 entry)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_kstack *k = bpf_map_lookup_elem(&kstacks, &at);
	__u32 n;

	if (!w || !s || !k || !k->n || (sb_kstack_end(sp) - sp) / 8 <= k->last || !sb_kstack_read(w, sp, k->last))
		return 0;
	n = k->places;
	for (__u32 i = 0; i < SB_KPLACES; i++) {
		if (i >= n)
			break;
		if (w->word[k->slot[i] & (SB_KSTACK_WORDS - 1)] != k->word[i])
			return 0;
	}
	n = k->n;
	if (k->addr[sb_kframe(n - 1)] != entry)
		return 0;
	for (__u32 i = 0; i < SB_KFRAMES; i++) {
		if (i >= n)
			break;
		s->k[i] = k->addr[i];
	}
	k->met = 1;
	return n;
}

/* Whether the n frames in the scratch, of the stack whose words have been read, are those kept at `at`: then what differs is left
 * over from earlier calls. */
SB_GLOBAL int sb_kstack_differs(__u32 at, __u32 n)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_kstack *k = bpf_map_lookup_elem(&kstacks, &at);
	__u32 places;

	if (!w || !s || !k || k->n != n)
		return 1;
	for (__u32 i = 0; i < SB_KFRAMES; i++) {
		if (i >= n)
			break;
		if (s->k[i] != k->addr[i])
			return 1;
	}
	places = k->places;
	w->places = w->found = 0;
	for (__u32 i = 0; i < SB_KPLACES; i++) {
		__u32 to = SB_AGAIN(w->places) & (SB_KPLACES - 1), slot = k->slot[i], frame;

		if (i >= places)
			break;
		if (w->word[slot & (SB_KSTACK_WORDS - 1)] != k->word[i])
			continue;
		k->word[to] = k->word[i];
		k->slot[to] = slot;
		k->last = slot;
		w->places = to + 1;
		frame = SB_AGAIN(w->found) & (SB_KFRAMES - 1);
		if (s->k[frame] == k->word[to])
			w->found = frame + 1;
	}
	k->places = w->places;
	if (SB_AGAIN(w->found) < n - 1) /* as deep, but not at the same distances */
		k->n = 0;
	return 0;
}

static __always_inline __u64 *sb_kstack_set(struct sb_kstack_words *w, __u64 addr)
{
	return &w->set[(addr ^ addr >> 11) & (SB_KSTACK_SET - 1)];
}

/* Looks where the first n addresses in the scratch stand, and keeps that at `at`. 0: they cannot all be there. */
SB_GLOBAL int sb_kstack_places(__u32 at, __u32 n)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_kstack *k = bpf_map_lookup_elem(&kstacks, &at);

	if (!w || !s || !k)
		return 0;
	w->places = w->found = 0;
	for (__u32 i = 0; i < SB_KSTACK_WORDS; i++) {
		__u32 place = SB_AGAIN(w->places);

		if (i >= SB_AGAIN(w->words))
			break;
		if (!w->word[i] || *sb_kstack_set(w, w->word[i]) != w->word[i])
			continue;
		if (place >= SB_KPLACES)
			return 0;
		k->word[place] = w->word[i];
		k->slot[place] = i;
		k->last = i;
		w->places = place + 1;
		/* The walk has met them in this order. */
		place = SB_AGAIN(w->found) & (SB_KFRAMES - 1);
		if (place < n && s->k[place] == w->word[i])
			w->found = place + 1;
	}
	k->places = w->places;
	return SB_AGAIN(w->found) == n;
}

/* Keeps at `at` the n frames that a walk from sp has left in the scratch. */
SB_GLOBAL int sb_kstack_keep(__u32 at, __u64 sp, __u64 entry, __u32 n)
{
	struct sb_kstack_words *w = sb_kstack_words_of();
	struct sb_scratch *s = sb_scratch(SB_SCRATCH_SWITCH);
	struct sb_kstack *k = bpf_map_lookup_elem(&kstacks, &at);
	__u32 words = (sb_kstack_end(sp) - sp) / 8, set;

	if (!w || !s || !k || n < 2 || n >= SB_KFRAMES || words > SB_KSTACK_WORDS)
		return 0;
	n--;
	if (s->k[sb_kframe(n)] != entry || !sb_kstack_read(w, sp, words - 1))
		return 0;
	if (!sb_kstack_differs(at, n + 1))
		return 1;
	/* To keep costs as much as a walk: seldom where it was in vain. */
	if (k->wait) {
		k->wait--;
		return 0;
	}
	k->waits = k->met ? 0 : k->waits * 2 + 1;
	if (k->waits > SB_KSTACK_WAITS)
		k->waits = SB_KSTACK_WAITS;
	k->wait = k->waits;
	k->met = 0;
	k->n = 0;
	w->words = words;
	for (set = 0; set < SB_KFRAMES; set++) {
		__u64 *a;

		if (set >= n)
			break;
		a = sb_kstack_set(w, s->k[set]);
		if (*a && *a != s->k[set])
			break;
		*a = s->k[set];
	}
	if (set == n && sb_kstack_places(at, n)) {
		for (__u32 i = 0; i < SB_KFRAMES; i++) {
			if (i > n)
				break;
			k->addr[i] = s->k[i];
		}
		k->n = n + 1;
	}
	for (__u32 i = 0; i < SB_KFRAMES; i++) {
		if (i >= n)
			break;
		*sb_kstack_set(w, s->k[i]) = 0;
	}
	return 1;
}

#ifdef SB_CHECK_AGAIN
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

/* What the first function in the kernel returns to: below the registers that the entry has saved. 0: unknown. */
static __always_inline __u64 sb_kstack_entry(struct task_struct *task)
{
	__u64 address = 0;

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		bpf_probe_read_kernel(&address, sizeof(address), (const void *)(bpf_task_pt_regs(task) - 8));
	return address;
}

/* The kernel stack of a task that does not run, which is in the system call `call` (sb_call_of()), into SB_SCRATCH_SWITCH.
 * Returns what bpf_get_task_stack() does: bytes, or a negative error. Preempted: anywhere, which does not come again. */
static __always_inline long sb_take_kstack_of(struct task_struct *task, struct sb_scratch *s, __u64 call, bool preempted,
					      struct sb_cpu *c)
{
	__u64 sp = 0, entry = 0;
	__u32 at;
	long n;

	if (bpf_core_field_exists(task->thread.sp) && !(call && preempted))
		sp = task->thread.sp;
	at = (call ? SB_CALL_NR(call) : sp >> 3) & (SB_KSTACKS - 1);
	if (sp)
		entry = sb_kstack_entry(task);
	if (entry) {
		n = sb_kstack_again(at, sp, entry);
		if (n > 0) {
			c->kst_again++;
#ifdef SB_CHECK_AGAIN
			check_kstack(task, s, n, c);
#endif
			return n * 8;
		}
	}
	n = bpf_get_task_stack(task, s->k, sizeof(s->k), 0);
	if (entry && n > 0)
		sb_kstack_keep(at, sp, entry, n / 8);
	return n;
}

#endif
