// SPDX-License-Identifier: BSD-2-Clause
/* Who was there: processes and threads of the bundle from the task table, whose pids and tids come again. */
#include "recorder/freeze_impl.h"

static uint32_t cgroup_id(struct freeze *f, uint64_t kernel_id)
{
	uint32_t id;

	if (!kernel_id)
		return 0;
	id = (uint32_t)map64_get(&f->cgroups, kernel_id);
	if (id)
		return id;
	id = bundle_writer_cgroup(f->w, kernel_id, "");
	map64_put(&f->cgroups, kernel_id, id);
	return id;
}

void freeze_copy_comm(char *to, const char *from)
{
	memcpy(to, from, SB_COMM);
	to[SB_COMM] = '\0';
}

static uint32_t remember_user(struct freeze *f, uint32_t process, uint32_t pid, uint64_t start_ns, uint64_t until_ns)
{
	if (f->n_user == f->cap_user) {
		size_t cap = f->cap_user ? f->cap_user * 2 : 256;
		void *bigger = realloc(f->user, cap * sizeof(*f->user));

		if (!bigger)
			return 0;
		f->user = bigger;
		f->cap_user = cap;
	}
	f->user[f->n_user++] = (struct freeze_user){ process, pid, start_ns, until_ns };
	return (uint32_t)f->n_user;
}

static const struct sb_task *task_of(const struct freeze *f, uint32_t tid)
{
	const struct sb_task *e = &f->probes->tasks[tid & (SB_TASKS - 1)];

	return e->tid == tid ? e : NULL;
}

/* When the process became what it is, by birth or exec; 0: not known. */
static uint64_t life_since(const struct freeze *f, uint32_t tgid)
{
	const struct sb_task *e = task_of(f, tgid);

	return e ? SB_MAX(e->group_start_ns, e->exec_ns) : 0;
}

static struct freeze_life *life_of(struct freeze *f, uint32_t tgid)
{
	uint64_t i = map64_get(&f->processes, (uint64_t)tgid + 1);

	return i ? &f->lives[i - 1] : NULL;
}

static struct freeze_life *add_life(struct freeze *f, uint32_t tgid)
{
	if (f->n_lives == f->cap_lives) {
		size_t cap = f->cap_lives ? f->cap_lives * 2 : 256;
		void *bigger = realloc(f->lives, cap * sizeof(*f->lives));

		if (!bigger)
			return NULL;
		f->lives = bigger;
		f->cap_lives = cap;
	}
	f->lives[f->n_lives] = (struct freeze_life){};
	map64_put(&f->processes, (uint64_t)tgid + 1, ++f->n_lives);
	return &f->lives[f->n_lives - 1];
}

/* The one that was there before `since_ns`: the same process until its exec, or another one that
 * had its pid. */
static uint32_t process_before(struct freeze *f, const struct freeze_who *t, struct freeze_life *life, uint64_t ts_ns)
{
	const struct sb_task *e = task_of(f, t->tgid);
	bool same = e && e->exec_ns == life->since_ns && ts_ns >= e->group_start_ns;
	uint32_t *id = same ? &life->before : &life->earlier;
	struct bundle_process p = { .pid = t->tgid, .exit_ns = life->since_ns, .comm = "?" };
	char comm[SB_COMM + 1] = "";

	if (*id)
		return *id;
	if (same) {
		freeze_copy_comm(comm, e->before_comm);
		p.comm = comm[0] ? comm : "?";
		p.ppid = e->ppid;
		p.start_ns = e->group_start_ns;
		p.cgroup = cgroup_id(f, e->cgroup_id);
	} else if (e) {
		p.exit_ns = SB_MIN(life->since_ns, e->group_start_ns);
	}
	*id = bundle_writer_process(f->w, &p);
	if (!t->kthread)
		remember_user(f, *id, t->tgid, p.start_ns, p.exit_ns);
	return *id;
}

/* Arguments as people write them, near enough. NULL: not known. */
static const char *cmdline_of(const struct freeze *f, uint32_t tgid, char text[SB_ARGS + 1])
{
	const struct sb_task *e = task_of(f, tgid);
	size_t n = e ? SB_MIN(e->args_len, (uint16_t)SB_ARGS) : 0;

	if (n)
		memcpy(text, e->args, n);
	while (n && !text[n - 1])
		n--;
	for (size_t i = 0; i < n; i++) {
		if (!text[i])
			text[i] = ' ';
	}
	text[n] = '\0';
	return n ? text : NULL;
}

/* The process that had the pid at ts_ns. */
uint32_t freeze_process_id(struct freeze *f, const struct freeze_who *t, uint64_t ts_ns)
{
	uint64_t since = life_since(f, t->tgid);
	struct freeze_life *life = life_of(f, t->tgid);
	struct bundle_process p = {
		.pid = t->tgid,
		.ppid = t->ppid,
		.start_ns = since ? since : t->group_start_ns,
		.exit_ns = t->tid == t->tgid ? t->exit_ns : 0,
		.comm = t->group_comm,
	};
	const struct sb_task *e = task_of(f, t->tgid);
	char cmdline[SB_ARGS + 1];
	uint32_t before = 0, earlier = 0;

	if (life && life->since_ns && since > life->since_ns) {
		/* It has become another one between the two banks. */
		if (life->user)
			f->user[life->user - 1].until_ns = since;
		if (e && e->group_start_ns <= life->since_ns) { /* by an exec */
			before = life->process;
			earlier = life->earlier;
		} else {
			earlier = life->process;
		}
		life = NULL;
	}
	if (!life) {
		life = add_life(f, t->tgid);
		if (!life)
			return 0;
		life->before = before;
		life->earlier = earlier;
	}
	if (!life->since_ns)
		life->since_ns = since;
	if (ts_ns < life->since_ns)
		return process_before(f, t, life, ts_ns);
	if (life->process)
		return life->process;
	p.cgroup = cgroup_id(f, t->cgroup);
	p.cmdline = cmdline_of(f, t->tgid, cmdline);
	p.cmdline_bytes = p.cmdline && e ? e->args_all : 0;
	life->process = bundle_writer_process(f->w, &p);
	if (!t->kthread)
		life->user = remember_user(f, life->process, t->tgid, p.start_ns, 0);
	return life->process;
}

uint32_t freeze_add_thread(struct freeze *f, const struct freeze_who *t, uint32_t process)
{
	uint64_t key = ((uint64_t)process << 32) + t->tid + 1;
	struct bundle_thread th = { .tid = t->tid, .comm = t->comm, .process = process };
	uint32_t id = (uint32_t)map64_get(&f->threads, key);

	if (id)
		return id;
	th.cgroup = cgroup_id(f, t->cgroup);
	id = bundle_writer_thread(f->w, &th);
	map64_put(&f->threads, key, id);
	map64_put(&f->thread_process, id, process);
	return id;
}

/* The bundle's id of a thread seen in the ring at ts_ns. The task table knows it unless another tid
 * took its place since; then the number is all there is. */
uint32_t freeze_thread_id(struct freeze *f, uint32_t tid, uint32_t tgid, uint64_t ts_ns)
{
	const struct sb_task *e = task_of(f, tid);
	struct freeze_who t = { .tid = tid, .tgid = tgid, .comm = "?", .group_comm = "?" };
	uint32_t process;

	/* Another thread has its number now; the process may be the same. */
	if (e && ts_ns < e->start_ns && e->tgid != tgid)
		e = NULL;
	if (e) {
		t.ppid = e->ppid;
		t.kthread = e->flags & SB_TASK_KTHREAD;
		t.group_start_ns = e->group_start_ns;
		t.exit_ns = e->exit_ns;
		t.cgroup = e->cgroup_id;
		freeze_copy_comm(t.comm, e->comm);
		freeze_copy_comm(t.group_comm, e->group_comm);
	}
	process = freeze_process_id(f, &t, ts_ns);
	if (e && ts_ns < e->start_ns) {
		strcpy(t.comm, "?"); /* of another thread that had this number */
	} else if (e && e->exec_ns && ts_ns < e->exec_ns && e->before_comm[0]) {
		freeze_copy_comm(t.comm, e->before_comm);
	}
	return freeze_add_thread(f, &t, process);
}

/* A thread of which only the tid is known: its process is what the task table says. */
uint32_t freeze_peer_id(struct freeze *f, uint32_t tid, uint64_t ts_ns)
{
	const struct sb_task *e = task_of(f, tid);

	return tid ? freeze_thread_id(f, tid, e ? e->tgid : 0, ts_ns) : 0;
}
