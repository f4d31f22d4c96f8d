/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of freeze.h share: who was there (freeze_who.c), stacks (freeze_stacks.c), records
 * and the stackshot. */
#ifndef SB_RECORDER_FREEZE_IMPL_H
#define SB_RECORDER_FREEZE_IMPL_H

#include "recorder/freeze.h"

/* ---- freeze_who.c ---- */
struct freeze_who {
	uint32_t tid, tgid, ppid;
	bool kthread;
	uint64_t group_start_ns, exit_ns, cgroup;
	char comm[SB_COMM + 1], group_comm[SB_COMM + 1];
};

/* SB_COMM bytes, and a NUL. */
void freeze_copy_comm(char *to, const char *from);
/* Ids of the bundle; what it has not is written. The process that had the pid at ts_ns. */
uint32_t freeze_process_id(struct freeze *f, const struct freeze_who *t, uint64_t ts_ns);
uint32_t freeze_add_thread(struct freeze *f, const struct freeze_who *t, uint32_t process);
/* Of a thread seen in the ring at ts_ns. */
uint32_t freeze_thread_id(struct freeze *f, uint32_t tid, uint32_t tgid, uint64_t ts_ns);
/* Of one of which only the tid is known. 0: none. */
uint32_t freeze_peer_id(struct freeze *f, uint32_t tid, uint64_t ts_ns);

/* ---- freeze_stacks.c ---- */
/* How a user stack was unwound and where it ends, as bundles have it. */
uint32_t freeze_unwind_of(uint8_t uinfo);
uint64_t freeze_hash_frames(uint64_t h, const uint64_t *addr, uint32_t n);
/* Ids of the bundle. process: 0: a kernel stack. */
uint32_t freeze_write_stack(struct freeze *f, uint64_t hash, const uint64_t *addr, uint32_t n,
			    uint32_t process, uint32_t unwind);
/* 0: its frames were overwritten with their segment. */
uint32_t freeze_stack_by_hash(struct freeze *f, uint64_t hash, uint32_t process, uint32_t unwind);
/* For ring_each(), ctx: the freeze. Before its records a bank is gone through for the frames that
 * it holds. */
int freeze_note_inline(const struct sb_rec *r, void *ctx);

#endif
