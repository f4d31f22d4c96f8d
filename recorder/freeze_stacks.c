// SPDX-License-Identifier: BSD-2-Clause
/* Stacks of the bundle: their frames stand where a CPU met them first, the others name them by hash. */
#include "recorder/freeze_impl.h"
#include "unwind/layout.h"

#define FRAMES_BITS 8 /* value of inline_stacks: address << 8 | frames */

static void remember_kframes(struct freeze *f, const uint64_t *addr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!map64_get(&f->kframes, addr[i]))
			map64_put(&f->kframes, addr[i], FREEZE_NAMELESS);
	}
}

static void remember_uframes(struct freeze *f, uint32_t process, const uint64_t *addr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t key = sb_mix64(addr[i] ^ ((uint64_t)process << 48)) | 1;
		uint64_t seen = map64_get(&f->uframes_seen, key);

		if (seen)
			f->uframe[seen - 1].leaf |= i == 0;
		if (!addr[i] || seen)
			continue;
		if (f->n_uframe == f->cap_uframe) {
			size_t cap = f->cap_uframe ? f->cap_uframe * 2 : 4096;
			void *bigger = realloc(f->uframe, cap * sizeof(*f->uframe));

			if (!bigger)
				return;
			f->uframe = bigger;
			f->cap_uframe = cap;
		}
		f->uframe[f->n_uframe++] = (struct freeze_frame){ process, i == 0, addr[i] };
		map64_put(&f->uframes_seen, key, f->n_uframe);
	}
}

/* The bundle's own numbers, which stay. */
uint32_t freeze_unwind_of(uint8_t uinfo)
{
	static const uint8_t ends[16] = {
		[SB_UNWIND_COMPLETE] = BUNDLE_END_COMPLETE,
		[SB_UNWIND_NO_MAPPING] = BUNDLE_END_NO_MAPPING,
		[SB_UNWIND_NO_ROWS] = BUNDLE_END_NO_ROWS,
		[SB_UNWIND_UNSUPPORTED] = BUNDLE_END_UNSUPPORTED,
		[SB_UNWIND_NOT_RESIDENT] = BUNDLE_END_NOT_RESIDENT,
		[SB_UNWIND_DEPTH] = BUNDLE_END_DEPTH,
		[SB_UNWIND_BAD_STACK] = BUNDLE_END_BAD_STACK,
		[SB_UNWIND_STALE] = BUNDLE_END_STALE,
	};

	return (uinfo & 15u) | (uint32_t)ends[uinfo >> 4] << 4;
}

/* The same addresses may be another program's, and a walk that found them may have ended for another reason. */
static uint64_t key_of(uint64_t hash, uint32_t process, uint32_t unwind)
{
	return process ? hash ^ sb_mix64((uint64_t)process << 8 | unwind) : hash;
}

uint32_t freeze_write_stack(struct freeze *f, uint64_t hash, const uint64_t *addr, uint32_t n,
			    uint32_t process, uint32_t unwind)
{
	struct bundle_stack s = { .addr = addr, .n = n, .process = process, .unwind = unwind };
	uint64_t key = key_of(hash, process, unwind);
	uint32_t id = bundle_writer_stack(f->w, key, &s);

	map64_put(&f->stack_ids, key, id);
	if (!map64_get(&f->stack_ids, hash))
		map64_put(&f->stack_ids, hash, id);
	if (process)
		remember_uframes(f, process, addr, n);
	else
		remember_kframes(f, addr, n);
	return id;
}

/* Id of a stack by its hash; 0 when its frames were overwritten with their segment. One of the same addresses is better than that. */
uint32_t freeze_stack_by_hash(struct freeze *f, uint64_t hash, uint32_t process, uint32_t unwind)
{
	uint32_t id = (uint32_t)map64_get(&f->stack_ids, key_of(hash, process, unwind));
	uint64_t where;

	if (id)
		return id;
	where = map64_get(&f->inline_stacks, hash);
	if (!where)
		return (uint32_t)map64_get(&f->stack_ids, hash);
	return freeze_write_stack(f, hash, (const uint64_t *)(uintptr_t)(where >> FRAMES_BITS),
			   where & ((1u << FRAMES_BITS) - 1), process, unwind);
}

uint64_t freeze_hash_frames(uint64_t h, const uint64_t *addr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		h = sb_hash_step(h, addr[i]);
	return h;
}

int freeze_note_inline(const struct sb_rec *r, void *ctx)
{
	struct freeze *f = ctx;
	const uint64_t *k = ring_kframes(r), *u = ring_uframes(r);

	/* The hash is recomputed: a torn stack must not be given to other records. */
	if (r->nk && freeze_hash_frames(SB_HASH_KERNEL, k, r->nk) == r->kstack)
		map64_put(&f->inline_stacks, r->kstack, (uint64_t)(uintptr_t)k << FRAMES_BITS | r->nk);
	if (r->nu && freeze_hash_frames(SB_HASH_USER(r->tgid), u, r->nu) == r->ustack)
		map64_put(&f->inline_stacks, r->ustack, (uint64_t)(uintptr_t)u << FRAMES_BITS | r->nu);
	return 0;
}
