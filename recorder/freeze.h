/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Turns sealed banks, the stackshot and the task table into a bundle. Reads only memory
 * that BPF shares with us and the task iterator: no /proc/PID, no disk.
 */
#ifndef SB_RECORDER_FREEZE_H
#define SB_RECORDER_FREEZE_H

#include "format/writer.h"
#include "recorder/probes.h"
#include "recorder/unwinder.h"
#include "recorder/ring.h"
#include "format/map64.h"

struct known;

/* What the worker has to name once the raw bundle is durable. A process is one program: what it was
 * before an exec is another one. */
struct freeze_user {
	uint32_t process, pid; /* bundle id and pid */
	uint64_t start_ns;
	uint64_t until_ns; /* when it was no more, as another one has its pid; 0: as far as known it is there */
};
struct freeze_frame {
	uint32_t process;
	bool leaf; /* of some stack; else a return address only */
	uint64_t addr;
};

enum { FREEZE_NAMELESS = 1, FREEZE_NAMED = 2 };

struct freeze {
	const struct probes *probes;
	struct bundle_writer *w;
	struct map64 inline_stacks; /* hash -> address of the frames in ring memory | count */
	struct map64 stack_ids;	    /* hash, and that with process and end -> bundle stack id */
	struct map64 threads;	    /* tid + 1 and bundle process id << 32 -> bundle thread id */
	struct map64 thread_process; /* bundle thread id -> bundle process id */
	struct map64 processes;	    /* tgid + 1 -> number + 1 of its newest one in `lives` */
	struct freeze_life {
		uint64_t since_ns; /* 0: unknown */
		/* Bundle ids, 0: not seen. before: what the same process was until the exec at since_ns; earlier: who
		 * had the pid until the process began. */
		uint32_t process, before, earlier;
		uint32_t user; /* number + 1 in `user` */
	} *lives;
	size_t n_lives, cap_lives;
	struct map64 cgroups;	    /* kernel id -> bundle cgroup id */
	struct map64 mms;	    /* address of an mm -> number of the address space */
	uint32_t n_mms;
	struct map64 kframes;	    /* kernel addresses that were used -> FREEZE_NAMED or FREEZE_NAMELESS */
	struct map64 uframes_seen;  /* hash -> number + 1 in uframe */
	struct freeze_user *user;
	size_t n_user, cap_user;
	struct freeze_frame *uframe;
	size_t n_uframe, cap_uframe;
	struct ring_stats stats[SB_BANKS];
	uint64_t newest_ns; /* CLOCK_MONOTONIC, of the newest record so far */
	uint64_t stacks_evicted[2]; /* kernel, user: references that nothing resolves */
	/* Stackshot as read from the iterator. */
	const struct known *known; /* what the mapping process knows; NULL: nothing */
	char *shot;
	size_t shot_len, shot_cap;
	uint64_t shot_begin_ns, shot_end_ns, shot_truncated;
};

/* Prepares the working memory, so that the freeze itself allocates little. */
int freeze_init(struct freeze *f, const struct probes *p);
void freeze_done(struct freeze *f);

/* Walks every thread now (blocked, runnable, running). 0 or a negative errno. */
int freeze_take_stackshot(struct freeze *f);

/* Each writes into f->w, which the caller made. */
int freeze_write_bank(struct freeze *f, uint32_t bank);
int freeze_write_stackshot(struct freeze *f);
/* recorded: records ever made, by kind, when the second bank was sealed; missed: runs of BPF
 * programs that the kernel left out. All counts are since recording began. */
int freeze_write_losses(struct freeze *f, const uint64_t *recorded, uint64_t missed,
			const struct unwinder_stats *unwinder);
/* As what a count of enum sb_lost is told in bundles. False: it counts nothing. */
bool freeze_loss_kind(int lost, enum bundle_loss_cause *ret_cause, enum bundle_kind *ret_kind);

#endif
