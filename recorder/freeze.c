// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/freeze.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <sys/mman.h>

#include "recorder/freeze_impl.h"

#define SHOT_BYTES (8u << 20) /* about 30,000 threads; beyond that they are counted */

int freeze_init(struct freeze *f, const struct probes *p)
{
	memset(f, 0, sizeof(*f));
	f->probes = p;
	/* Address space only: pages are touched as far as the host has threads. */
	f->shot = mmap(NULL, SHOT_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->shot == MAP_FAILED) {
		f->shot = NULL;
		return -errno;
	}
	f->shot_cap = SHOT_BYTES;
	return 0;
}

void freeze_done(struct freeze *f)
{
	map64_done(&f->inline_stacks);
	map64_done(&f->stack_ids);
	map64_done(&f->threads);
	map64_done(&f->thread_process);
	map64_done(&f->processes);
	map64_done(&f->cgroups);
	map64_done(&f->mms);
	map64_done(&f->kframes);
	map64_done(&f->uframes_seen);
	free(f->lives);
	free(f->user);
	free(f->uframe);
	if (f->shot)
		munmap(f->shot, f->shot_cap);
	memset(f, 0, sizeof(*f));
}

/* ---- stackshot ------------------------------------------------------------------ */

int freeze_take_stackshot(struct freeze *f)
{
	_cleanup_close_ int fd = bpf_iter_create(f->probes->iter_link_fd);
	ssize_t n = 0;

	f->shot_len = 0;
	f->shot_begin_ns = sb_monotonic_ns();
	if (fd < 0)
		return -errno;
	for (;;) {
		if (f->shot_len == f->shot_cap) {
			f->shot_truncated = 1;
			break;
		}
		n = read(fd, f->shot + f->shot_len, f->shot_cap - f->shot_len);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			break;
		f->shot_len += (size_t)n;
	}
	f->shot_end_ns = sb_monotonic_ns();
	return n < 0 ? -errno : 0;
}

static void shot_thread(struct freeze *f, const struct sb_shot *s, struct bundle_shot_thread *t)
{
	const uint64_t *k = (const uint64_t *)(s + 1), *u = k + s->nk;
	uint32_t id, process;
	struct freeze_who who = {
		.tid = s->tid,
		.tgid = s->tgid,
		.kthread = s->kthread,
		.group_start_ns = s->group_start_ns,
		.cgroup = s->cgroup_id,
	};

	freeze_copy_comm(who.comm, s->comm);
	freeze_copy_comm(who.group_comm, s->group_comm);
	process = freeze_process_id(f, &who, f->shot_end_ns);
	id = freeze_add_thread(f, &who, process);
	*t = (struct bundle_shot_thread){
		.thread = id,
		.state = s->state,
		.cpu = s->cpu,
		.since_ns = s->since_ns,
		.flags = (s->on_cpu ? BUNDLE_SHOT_RUNNING : 0) |
			 (!s->on_cpu && s->on_rq ? BUNDLE_SHOT_RUNNABLE : 0) |
			 (s->kthread ? BUNDLE_SHOT_KTHREAD : 0),
		.wchan = s->nk ? k[0] : 0,
		.mmap_lock = s->mmap_lock,
		.mmap_owner = freeze_peer_id(f, s->mmap_owner, f->shot_end_ns),
		.mmap_owner_flags = s->mmap_owner_flags,
		.mmap_count = s->mmap_count,
		.lock = s->lock,
		.lock_since_ns = s->lock_since_ns,
		.lock_flags = s->lock_flags,
		.lock_owner = freeze_peer_id(f, s->lock_owner, f->shot_end_ns),
		.lock_owner_flags = s->lock_owner_flags,
		.syscall = s->syscall,
		.arg0 = s->arg[0],
		.arg1 = s->arg[1],
		.reclaim_since_ns = s->reclaim_since_ns,
		.nr_scanned = s->nr_scanned,
		.nr_reclaimed = s->nr_reclaimed,
	};
	if (s->mm) {
		t->mm = (uint32_t)map64_get(&f->mms, s->mm);
		if (!t->mm) {
			t->mm = ++f->n_mms;
			map64_put(&f->mms, s->mm, t->mm);
		}
	}
	if (s->nk)
		t->kstack = freeze_write_stack(f, freeze_hash_frames(SB_HASH_KERNEL, k, s->nk), k, s->nk, 0,
					BUNDLE_UNWIND_KERNEL);
	if (s->nu)
		t->ustack = freeze_write_stack(f, freeze_hash_frames(SB_HASH_USER(s->tgid), u, s->nu), u, s->nu,
					process, freeze_unwind_of(s->uinfo));
}

static bool shot_fits(const struct sb_shot *s, size_t left)
{
	return left >= sizeof(*s) && s->nk <= SB_KFRAMES && s->nu <= SB_UFRAMES &&
	       left >= sizeof(*s) + 8u * ((unsigned int)s->nk + s->nu);
}

int freeze_write_stackshot(struct freeze *f)
{
	size_t n = 0, max = f->shot_len / sizeof(struct sb_shot);
	struct bundle_shot_thread *t = calloc(max + 1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	for (size_t off = 0; off < f->shot_len;) {
		const struct sb_shot *s = (const void *)(f->shot + off);

		if (!shot_fits(s, f->shot_len - off)) {
			f->shot_truncated++;
			break;
		}
		shot_thread(f, s, &t[n++]);
		off += sizeof(*s) + 8u * ((unsigned int)s->nk + s->nu);
	}
	r = bundle_writer_stackshot(f->w, f->shot_begin_ns, f->shot_end_ns, t, n, n,
				    f->shot_truncated);
	free(t);
	return r;
}
