/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who waits for whom at the freeze, from the stackshot: for every lock with waiters its
 * holder, what that one does, and for whom it waits in turn, to the end of the chain.
 */
#ifndef SB_TOOLS_BLAME_H
#define SB_TOOLS_BLAME_H

#include "tools/names.h"

#define BLAME_CHAIN 8

/* How the holder of a lock was found; the surest first. */
enum blame_how {
	BLAME_NOBODY,	/* not found: "reader, unknown" or an owner that the lock does not name */
	BLAME_OWNER,	/* the owner field names a writer, or the owner of a mutex */
	BLAME_STACK,	/* its kernel stack is inside an operation that holds this lock; no proof */
	BLAME_READER,	/* the owner field names the last reader, and the lock is held by readers */
	BLAME_WOKEN,	/* it has been let go; this waiter was woken to take it, and has not run yet */
};

struct blame_hop {
	uint32_t thread; /* index into the stackshot; UINT32_MAX: not in it */
	uint32_t thread_id; /* of the bundle */
	enum blame_how how;
	const char *why; /* how a next hop was found, one phrase; NULL at the first */
	/* What BLAME_STACK rests on. A page fault may have let go of the lock while it waits for
	 * its page, and its stack does not tell: fewer readers than candidates is a guess. */
	uint32_t candidates; /* threads whose stacks allow it */
	uint32_t readers;    /* that the lock counted when this thread was looked at; 0 unknown */
	bool last_reader;    /* the owner field names it too */
};

struct blame_lock {
	uint64_t addr;
	uint32_t flags; /* of one waiter */
	uint32_t mm;	/* whose mmap_lock it is; 0: another lock */
	uint32_t of;	/* a thread of that mm, of the bundle: khugepaged and ps wait for other mms' locks */
	uint32_t *waiter; /* indexes into the stackshot, longest wait first */
	size_t n_waiters;
	struct blame_hop chain[BLAME_CHAIN]; /* the holder, whom it waits for, ... */
	size_t n_chain;
};

struct blame {
	struct bundle *b;
	struct names *names;
	const struct bundle_shot_thread *shot;
	size_t n_shot;
	uint64_t begin_ns;
	/* A running thread has no stack in the stackshot: its last sample before stands in. */
	struct blame_sample {
		uint64_t ts_ns;
		uint32_t kstack, ustack;
	} *sample; /* by index into the stackshot; ts_ns 0: none */
	struct map64 by_thread; /* bundle thread id + 1 -> index into the stackshot + 1 */
	struct blame_lock *lock; /* most waiters first */
	size_t n_locks;
};

/* 0 or -ENOMEM. The names are borrowed. */
int blame_find(struct blame *r, struct bundle *b, struct names *names);
/* The stacks of a thread of the stackshot; *ret_sample_ns: when they were sampled, 0 if they
 * are the stackshot's own. */
void blame_stacks(const struct blame *r, uint32_t i, uint32_t *ret_kstack, uint32_t *ret_ustack,
		  uint64_t *ret_sample_ns);
void blame_done(struct blame *r);
/* How a holder is known, in words. */
const char *blame_how_text(enum blame_how how);

#endif
