/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Who owns a lock, as far as the lock itself says. */
#ifndef SB_BPF_LOCK_BPF_H
#define SB_BPF_LOCK_BPF_H

#include "bpf/ring.bpf.h"

/* rw_semaphore.owner and mutex.owner: a task pointer with flags in the low three bits. */
#define SB_OWNER_BITS 7ULL
#define SB_RWSEM_READER_OWNED 1ULL

/* Notes the owner of the lock that t waits for. While the lock changes hands the field is
 * empty: what was known before stays. */
static __always_inline void sb_read_owner(struct sb_task_state *t)
{
	__u64 owner = 0, lock = t->lock;
	__u32 flags = t->lock_flags;
	int tid = 0;

	if (flags & (SB_LCB_RT | SB_LCB_PERCPU))
		return;
	if (flags & SB_LCB_MUTEX)
		owner = BPF_CORE_READ((struct mutex *)lock, owner.counter);
	else
		owner = BPF_CORE_READ((struct rw_semaphore *)lock, owner.counter);
	if (!(owner & ~SB_OWNER_BITS))
		return;
	if (BPF_CORE_READ_INTO(&tid, (struct task_struct *)(owner & ~SB_OWNER_BITS), pid) < 0 || tid <= 0)
		return;
	/* Boyer and Moore's majority vote: the owner that was there for most of the wait. */
	if (t->lock_owner != (__u32)tid && t->owner_votes) {
		t->owner_votes--;
		return;
	}
	if (t->owner_votes < 255)
		t->owner_votes++;
	t->lock_owner = tid;
	t->owner_flags = SB_OWNER_KNOWN;
	if (!(flags & SB_LCB_MUTEX) && (owner & SB_RWSEM_READER_OWNED))
		t->owner_flags |= SB_OWNER_READER;
}

#endif
