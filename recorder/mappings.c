// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/mappings.h"

#include <errno.h>
#include <signal.h>

#include "recorder/mappings_impl.h"

/* A thread may outlive the first one of its process, and a scan may tell of one that has ended since. */
#define EXITED_KEEP_NS (5 * NSEC_PER_SEC)
#define ALONE_KEEP_NS NSEC_PER_SEC /* nobody to outlive it; a storm would fill the table */
/* Programs that have ended, for the names of their stacks in the ring: 50,000 of four mappings, ten
 * seconds of a storm of 2,500 a second (a fork and an exec are two). Touched as it fills. */
#define PAST_BYTES (8u << 20)

int mappings_new(const struct mappings_memory *memory, struct mappings **ret)
{
	struct mappings *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->memory = *memory;
	m->file = calloc(MAPPINGS_FILES, sizeof(*m->file));
	if (!m->file || images_new(PAST_BYTES, &m->past) < 0) {
		free(m->file);
		free(m);
		return -ENOMEM;
	}
	memset(m->bucket, 0xff, sizeof(m->bucket)); /* NONE */
	memset(m->file_bucket, 0xff, sizeof(m->file_bucket));
	m->free_file = NONE;
	memset(m->free_range, 0xff, sizeof(m->free_range));
	for (uint32_t i = 0; i < PROCESSES; i++)
		m->process[i].next = i + 1 < PROCESSES ? i + 1 : NONE;
	m->free_range[CLASSES - 1] = 0;
	m->link[0] = NONE;
	/* An earlier agent's; its tables are gone. What was counted goes on: stacks that were saved by it are not found again. */
	for (uint32_t i = 0; i < SB_UNWIND_PROCESSES; i++) {
		struct sb_unwind_process *e = &memory->procs[i];

		*e = (struct sb_unwind_process){ .sequence = (e->sequence | 1) + 1, .tables = e->tables };
	}
	*ret = m;
	return 0;
}

void mappings_free(struct mappings *m)
{
	if (!m)
		return;
	for (uint32_t i = 0; i < PROCESSES; i++)
		mappings_set_put(m, m->process[i].set);
	for (uint32_t i = 0; i < m->n_file; i++)
		free(m->file[i].path);
	free(m->file);
	free(m->limbo);
	images_free(m->past);
	free(m);
}

/* ---- processes ------------------------------------------------------------------------ */

static struct process *process_find(const struct mappings *m, uint32_t pid)
{
	for (uint32_t i = m->bucket[pid % PROCESSES]; i != NONE; i = m->process[i].next) {
		if (m->process[i].pid == pid)
			return (struct process *)(uintptr_t)&m->process[i];
	}
	return NULL;
}

static void entry_write(struct sb_unwind_process *e, uint32_t pid, const struct process *p)
{
	uint32_t sequence = __atomic_load_n(&e->sequence, __ATOMIC_RELAXED) | 1;

	__atomic_store_n(&e->sequence, sequence, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	e->first = p && p->set ? p->set->first : 0;
	e->n = p && p->set ? p->set->n : 0;
	e->since_ns = p ? p->since_ns : 0;
	e->tgid = pid;
	__atomic_store_n(&e->sequence, sequence + 1, __ATOMIC_SEQ_CST);
}

static void process_show(struct mappings *m, struct process *p, uint32_t entry)
{
	if (p->shown == NONE)
		p->shown = m->n_shown++;
	m->shown[p->shown] = (struct shown){ (uint32_t)(p - m->process), entry };
	entry_write(&m->memory.procs[entry], p->pid, p);
}

/* Its entry; NULL: none. Walkers take one away when a process becomes another program, and then it may be
 * somebody else's. */
static struct sb_unwind_process *shown_entry(const struct mappings *m, const struct process *p)
{
	struct sb_unwind_process *e = p->shown == NONE ? NULL : &m->memory.procs[m->shown[p->shown].entry];

	return e && e->tgid == p->pid ? e : NULL;
}

static void process_hide(struct mappings *m, struct process *p)
{
	struct sb_unwind_process *e = shown_entry(m, p);
	uint32_t at = p->shown;

	if (e)
		entry_write(e, 0, NULL);
	if (at == NONE)
		return;
	p->shown = NONE;
	if (at == --m->n_shown)
		return;
	m->shown[at] = m->shown[m->n_shown];
	m->process[m->shown[at].process].shown = at;
}

/* What it was until now is over. */
static void process_retire(struct mappings *m, const struct process *p, uint64_t until_ns)
{
	struct image image = { .pid = p->pid, .since_ns = p->since_ns, .until_ns = until_ns };

	if (!p->set || !p->set->n)
		return;
	image.n = p->set->n;
	images_keep(m->past, &image, p->set->vma);
}

static void process_drop(struct mappings *m, struct process *p)
{
	uint32_t i = (uint32_t)(p - m->process), *link = &m->bucket[p->pid % PROCESSES];

	process_retire(m, p, p->exited_ns);
	process_hide(m, p);
	mappings_set_put(m, p->set);
	while (*link != i)
		link = &m->process[*link].next;
	*link = p->next;
	*p = (struct process){ .next = m->free_process };
	m->free_process = i;
	m->n_process--;
}

static struct process *process_get(struct mappings *m, uint32_t pid)
{
	struct process *p = process_find(m, pid);
	uint32_t i = m->free_process;

	if (p)
		return p;
	if (i == NONE) {
		m->evicted++;
		return NULL;
	}
	p = &m->process[i];
	m->free_process = p->next;
	*p = (struct process){ .pid = pid, .next = m->bucket[pid % PROCESSES], .shown = NONE, .threads = true };
	m->bucket[pid % PROCESSES] = i;
	m->n_process++;
	return p;
}

static struct process *process_at(struct mappings *m, uint64_t ts_ns, uint32_t pid)
{
	struct process *p = process_get(m, pid);

	if (!p || ts_ns <= p->scanned_ns)
		return NULL;
	p->changed_ns = ts_ns;
	return p;
}

void mappings_add(struct mappings *m, uint64_t ts_ns, uint32_t pid, uint64_t start, uint64_t len,
		  uint64_t offset, uint32_t file)
{
	struct process *p = process_get(m, pid);
	struct mapped_vma v = { start, start + len, offset, file };

	if (!p || ts_ns < p->scanned_ns || v.end <= v.start)
		return;
	if (ts_ns > p->scanned_ns)
		p->changed_ns = ts_ns;
	mappings_set_add(m, p, &v);
}

void mappings_exec(struct mappings *m, uint64_t ts_ns, uint32_t pid)
{
	struct process *p = process_at(m, ts_ns, pid);

	if (!p)
		return;
	process_retire(m, p, ts_ns);
	process_hide(m, p);
	mappings_set_put(m, p->set);
	p->set = NULL;
	p->since_ns = ts_ns;
	p->exited_ns = 0;
	p->threads = false;
}

void mappings_fork(struct mappings *m, uint64_t ts_ns, uint32_t pid, uint32_t parent)
{
	struct process *p = process_at(m, ts_ns, pid), *from = process_find(m, parent);

	if (!p)
		return;
	process_retire(m, p, p->exited_ns ? p->exited_ns : ts_ns);
	process_hide(m, p);
	mappings_set_put(m, p->set);
	p->set = from ? from->set : NULL;
	if (p->set)
		p->set->refs++;
	p->since_ns = ts_ns;
	p->exited_ns = 0;
	p->threads = false;
	mappings_mark_dirty(m, p);
}

void mappings_thread(struct mappings *m, uint32_t pid)
{
	struct process *p = process_find(m, pid);

	if (p)
		p->threads = true;
}

void mappings_exit(struct mappings *m, uint64_t ts_ns, uint32_t pid)
{
	struct process *p = process_find(m, pid);

	if (p && ts_ns > p->since_ns)
		p->exited_ns = p->alive_ns = ts_ns;
}

bool mappings_rescan(struct mappings *m, uint64_t ts_ns, uint32_t pid)
{
	struct process *p = process_find(m, pid);

	if (p && (p->changed_ns > ts_ns || p->exited_ns > ts_ns))
		return false;
	p = process_get(m, pid);
	if (!p)
		return true;
	process_hide(m, p);
	mappings_set_put(m, p->set);
	p->set = NULL;
	p->exited_ns = 0;
	p->threads = true;
	p->scanned_ns = ts_ns;
	return true;
}

const struct mapped_vma *mappings_find(const struct mappings *m, uint32_t pid, uint64_t address)
{
	const struct process *p = process_find(m, pid);

	for (uint32_t i = 0; p && p->set && i < p->set->n; i++) {
		if (address >= p->set->vma[i].start && address < p->set->vma[i].end)
			return &p->set->vma[i];
	}
	return NULL;
}

void mappings_each(const struct mappings *m, image_fn fn, void *ctx)
{
	images_each(m->past, fn, ctx);
	for (uint32_t i = 0; i < PROCESSES; i++) {
		const struct process *p = &m->process[i];
		struct image image = { .pid = p->pid, .since_ns = p->since_ns, .until_ns = p->exited_ns };

		if (!p->pid || !p->set)
			continue;
		image.n = p->set->n;
		fn(&image, p->set->vma, ctx);
	}
}

/* ---- what walkers see ------------------------------------------------------------------ */

static bool publish_set(struct mappings *m, struct set *s)
{
	uint32_t class = 0;

	if (s->first != NONE)
		return true;
	while (UNIT << class < s->n)
		class++;
	if (!mappings_take_range(m, class, &s->first)) {
		s->first = NONE;
		return false;
	}
	s->class = class;
	m->n_published += s->n;
	for (uint32_t i = 0; i < s->n; i++) {
		struct unwind_ref ref = mappings_ref_of(m, s->vma[i].file);

		m->memory.maps[s->first + i] = (struct sb_unwind_map){
			s->vma[i].start, s->vma[i].end, s->vma[i].offset, ref.table, ref.generation };
	}
	return true;
}

static uint32_t entry_for(const struct mappings *m, const struct process *p)
{
	if (shown_entry(m, p))
		return m->shown[p->shown].entry;
	for (uint32_t i = 0; i < SB_UNWIND_PROBES; i++) {
		uint32_t slot = sb_unwind_process_slot(p->pid, i);

		if (!m->memory.procs[slot].tgid)
			return slot;
	}
	return NONE;
}

static void publish_process(struct mappings *m, struct process *p)
{
	uint32_t entry = entry_for(m, p);

	if (entry == NONE || !publish_set(m, p->set)) {
		m->evicted++;
		process_hide(m, p);
		return;
	}
	process_show(m, p, entry);
}

/* What has ended stays known for a while. */
static void look_at_exited(struct mappings *m, uint64_t now_ns)
{
	m->looked_ns = now_ns;
	for (uint32_t i = 0; i < PROCESSES; i++) {
		struct process *p = &m->process[i];

		if (!p->pid || !p->exited_ns || now_ns <= p->alive_ns + (p->threads ? EXITED_KEEP_NS : ALONE_KEEP_NS))
			continue;
		if (!p->threads || (kill((pid_t)p->pid, 0) < 0 && errno == ESRCH))
			process_drop(m, p);
		else
			p->alive_ns = now_ns;
	}
}

void mappings_publish(struct mappings *m, uint64_t now_ns)
{
	bool all = m->n_dirty > PROCESSES;
	uint32_t n = all ? PROCESSES : m->n_dirty;

	mappings_end_limbo(m, now_ns);
	if (now_ns - m->looked_ns > NSEC_PER_SEC)
		look_at_exited(m, now_ns);
	m->n_dirty = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct process *p = &m->process[all ? i : m->dirty[i]];

		if (!p->pid || !p->dirty)
			continue;
		p->dirty = false;
		/* Nothing is mapped any more, or nobody is left whose stack could be walked. */
		if (p->set && (!p->exited_ns || p->threads))
			publish_process(m, p);
		else
			process_hide(m, p);
	}
}

struct mappings_stats mappings_stats(const struct mappings *m)
{
	return (struct mappings_stats){
		.processes = m->n_process,
		.mappings = m->n_published,
		.files = m->n_file - m->n_free_file,
		.evicted = m->evicted,
		.past = images_count(m->past),
		.forgotten = images_evicted(m->past),
	};
}
