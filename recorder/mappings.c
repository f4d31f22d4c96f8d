// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/mappings.h"

#include <errno.h>
#include <signal.h>

#define NONE UINT32_MAX
#define PROCESSES SB_UNWIND_PROCESSES
#define UNIT 8u /* mappings; a range is 2^class of these */
#define CLASSES 15u
/* A walk is over in microseconds; a range is not given to others before. */
#define GRACE_NS (100 * NSEC_PER_MSEC)
/* A thread may outlive the first one of its process, and a scan may tell of one that has ended since. */
#define EXITED_KEEP_NS (5 * NSEC_PER_SEC)
#define ALONE_KEEP_NS NSEC_PER_SEC /* nobody to outlive it; a storm would fill the table */
/* Programs that have ended, for the names of their stacks in the ring: 50,000 of four mappings, ten
 * seconds of a storm of 2,500 a second (a fork and an exec are two). Touched as it fills. */
#define PAST_BYTES (8u << 20)
/* So many files are forgotten when there is no room for another one; where that many cannot be, it is tried so often. */
#define FILES_FORGOTTEN (MAPPINGS_FILES / 8)
#define FORGET_AGAIN_NS NSEC_PER_SEC
_Static_assert(UNIT << (CLASSES - 1) == SB_UNWIND_MAPPINGS, "the largest range is everything");

struct set {
	uint32_t refs, n, cap;
	uint32_t first, class; /* of the range it is published in; NONE: not */
	struct mapped_vma vma[];
};

struct process {
	uint32_t pid; /* 0: free */
	uint32_t next;
	uint32_t shown; /* index in mappings.shown; NONE: not published */
	bool dirty;
	bool threads; /* it may have others beside the first one */
	uint64_t since_ns, changed_ns, scanned_ns, exited_ns;
	uint64_t alive_ns; /* seen there after exited_ns */
	struct set *set;
};

struct limbo {
	uint64_t since_ns;
	uint32_t first, class;
};

struct mappings {
	struct mappings_memory memory;
	struct process process[PROCESSES];
	uint32_t bucket[PROCESSES];
	uint32_t free_process, n_process;
	struct mapped_file *file;
	uint32_t n_file, file_bucket[MAPPINGS_FILES];
	uint32_t free_file, n_free_file; /* of those that were forgotten */
	bool file_used[MAPPINGS_FILES];
	uint64_t full_ns; /* since when nearly all of them are in use; 0: they are not */
	/* Free ranges of memory.maps: by class, linked by unit. */
	uint32_t free_range[CLASSES], link[SB_UNWIND_MAPPINGS / UNIT];
	struct limbo *limbo;
	size_t n_limbo, max_limbo;
	uint32_t n_published;
	uint64_t evicted;
	uint64_t looked_ns; /* for processes that are gone */
	/* Published ones and their entries in memory.procs. */
	struct shown {
		uint32_t process, entry;
	} shown[PROCESSES];
	uint32_t n_shown;
	uint32_t dirty[PROCESSES], n_dirty; /* may name one twice; more than fit: look at all */
	struct images *past;
};

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
	/* An earlier agent's; its tables are gone. */
	memset(memory->procs, 0, SB_UNWIND_PROCESSES * sizeof(*memory->procs));
	*ret = m;
	return 0;
}

static void set_put(struct mappings *m, struct set *s);

void mappings_free(struct mappings *m)
{
	if (!m)
		return;
	for (uint32_t i = 0; i < PROCESSES; i++)
		set_put(m, m->process[i].set);
	for (uint32_t i = 0; i < m->n_file; i++)
		free(m->file[i].path);
	free(m->file);
	free(m->limbo);
	images_free(m->past);
	free(m);
}

/* ---- ranges --------------------------------------------------------------------------- */

static void range_free(struct mappings *m, uint32_t first, uint32_t class)
{
	m->link[first / UNIT] = m->free_range[class];
	m->free_range[class] = first;
}

static bool range_take(struct mappings *m, uint32_t class, uint32_t *ret)
{
	uint32_t from = class;

	while (from < CLASSES && m->free_range[from] == NONE)
		from++;
	if (from == CLASSES)
		return false;
	*ret = m->free_range[from];
	m->free_range[from] = m->link[*ret / UNIT];
	while (from > class) {
		from--;
		range_free(m, *ret + (UNIT << from), from);
	}
	return true;
}

static void range_retire(struct mappings *m, uint32_t first, uint32_t class)
{
	if (m->n_limbo == m->max_limbo) {
		size_t max = SB_MAX(m->max_limbo * 2, (size_t)64);
		void *bigger = realloc(m->limbo, max * sizeof(*m->limbo));

		if (!bigger)
			return; /* lost until the agent ends */
		m->limbo = bigger;
		m->max_limbo = max;
	}
	m->limbo[m->n_limbo++] = (struct limbo){ sb_monotonic_ns(), first, class };
}

static void end_limbo(struct mappings *m, uint64_t now)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n_limbo; i++) {
		if (now > m->limbo[i].since_ns + GRACE_NS)
			range_free(m, m->limbo[i].first, m->limbo[i].class);
		else
			m->limbo[kept++] = m->limbo[i];
	}
	m->n_limbo = kept;
}

/* ---- files ---------------------------------------------------------------------------- */

/* By words: this is done for every mapping that is told. */
static uint64_t hash_words(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	word = 0;
	memcpy(&word, p, len);
	return sb_mix64(h ^ word);
}

static uint64_t file_hash(const struct mapped_file *f)
{
	uint64_t h = f->key.len ? hash_words(0, f->key.id, f->key.len) : f->dev ^ f->ino << 20;

	return hash_words(h, f->path, strlen(f->path));
}

static bool same_file(const struct mapped_file *a, const struct mapped_file *b)
{
	/* Copies of one file share a table, which goes by build-id, and each has its name. */
	return a->key.len == b->key.len && !memcmp(a->key.id, b->key.id, a->key.len) && a->dev == b->dev &&
	       a->ino == b->ino && !strcmp(a->path, b->path);
}

static void mark_files(const struct image *image, const struct mapped_vma *vma, void *ctx)
{
	struct mappings *m = ctx;

	for (uint32_t i = 0; i < image->n; i++) {
		if (vma[i].file < m->n_file)
			m->file_used[vma[i].file] = true;
	}
}

/* Nobody has it or had it, nobody reads it, and it can be told again ("[vdso]" cannot). */
static bool is_idle(const struct mappings *m, uint32_t i)
{
	const struct mapped_file *f = &m->file[i];

	return f->path && !m->file_used[i] && f->state != MAPPED_LOADING && f->path[0] == '/';
}

static uint32_t count_idle(struct mappings *m)
{
	uint32_t n = 0;

	memset(m->file_used, 0, sizeof(m->file_used));
	mappings_each(m, mark_files, m);
	for (uint32_t i = 0; i < m->n_file; i++)
		n += is_idle(m, i);
	return n;
}

static void forget_file(struct mappings *m, uint32_t i)
{
	struct mapped_file *f = &m->file[i];
	uint32_t *link = &m->file_bucket[file_hash(f) % MAPPINGS_FILES];

	while (*link != i)
		link = &m->file[*link].next;
	*link = f->next;
	free(f->path);
	*f = (struct mapped_file){ .next = m->free_file };
	m->free_file = i;
	m->n_free_file++;
}

/* Builds and tests start programs by the thousand, each of a path of its own, which are never seen again. What ended
 * longest ago goes with its files. */
static void forget_files(struct mappings *m)
{
	uint64_t now = sb_monotonic_ns();

	if (m->full_ns && now - m->full_ns < FORGET_AGAIN_NS)
		return;
	while (count_idle(m) < FILES_FORGOTTEN && images_count(m->past))
		images_forget(m->past, images_count(m->past) / 2 + 1);
	for (uint32_t i = 0; i < m->n_file; i++) {
		if (is_idle(m, i))
			forget_file(m, i);
	}
	m->full_ns = m->n_free_file < FILES_FORGOTTEN ? now : 0;
}

/* NONE: no room. */
static uint32_t file_number(struct mappings *m)
{
	uint32_t i;

	if (m->n_file < MAPPINGS_FILES)
		return m->n_file++;
	if (m->free_file == NONE)
		forget_files(m);
	i = m->free_file;
	if (i != NONE) {
		m->free_file = m->file[i].next;
		m->n_free_file--;
	}
	return i;
}

uint32_t mappings_file(struct mappings *m, const uint8_t *build_id, size_t build_id_len, uint64_t dev,
		       uint64_t ino, const char *path)
{
	struct mapped_file f = { .dev = dev, .ino = ino, .path = (char *)(uintptr_t)path };
	uint32_t *bucket, i;

	/* One that is no id is none. */
	if (build_id_len && unwind_key_build_id(build_id, build_id_len, &f.key))
		f.dev = f.ino = 0;
	bucket = &m->file_bucket[file_hash(&f) % MAPPINGS_FILES];
	for (i = *bucket; i != NONE; i = m->file[i].next) {
		if (same_file(&m->file[i], &f))
			return i;
	}
	f.path = strdup(path);
	i = f.path ? file_number(m) : NONE;
	if (i == NONE) {
		free(f.path);
		m->evicted++;
		return MAPPINGS_NO_FILE;
	}
	f.ref.table = SB_UNWIND_NO_TABLE;
	f.next = *bucket;
	*bucket = i;
	m->file[i] = f;
	return i;
}

struct mapped_file *mappings_file_at(struct mappings *m, uint32_t file)
{
	return file < m->n_file ? &m->file[file] : NULL;
}

static struct unwind_ref ref_of(const struct mappings *m, uint32_t file)
{
	if (file < m->n_file && m->file[file].state == MAPPED_READY)
		return m->file[file].ref;
	return (struct unwind_ref){ .table = SB_UNWIND_NO_TABLE };
}

/* Table and generation at once: a walker that sees one of each would ask for the wrong table. */
static void put_ref(struct sb_unwind_map *map, struct unwind_ref ref)
{
	uint64_t both;

	_Static_assert(offsetof(struct sb_unwind_map, table) % 8 == 0 &&
		       offsetof(struct sb_unwind_map, generation) == offsetof(struct sb_unwind_map, table) + 4,
		       "one word");
	memcpy(&both, &ref, sizeof(both));
	__atomic_store_n((uint64_t *)(void *)&map->table, both, __ATOMIC_RELEASE);
}

void mappings_file_ready(struct mappings *m, uint32_t file, const struct unwind_ref *ref)
{
	m->file[file].state = MAPPED_READY;
	m->file[file].ref = *ref;
	for (uint32_t p = 0; p < m->n_shown; p++) {
		const struct process *of = &m->process[m->shown[p].process];
		const struct set *s = of->set;

		for (uint32_t i = 0; s && s->first != NONE && !of->dirty && i < s->n; i++) {
			if (s->vma[i].file == file)
				put_ref(&m->memory.maps[s->first + i], *ref);
		}
	}
}

/* ---- sets ----------------------------------------------------------------------------- */

static void unpublish_set(struct mappings *m, struct set *s)
{
	if (s->first == NONE)
		return;
	m->n_published -= s->n;
	range_retire(m, s->first, s->class);
	s->first = NONE;
}

static void set_put(struct mappings *m, struct set *s)
{
	if (!s || --s->refs)
		return;
	unpublish_set(m, s);
	free(s);
}

/* One of the process's own, with room for `n` mappings. */
static struct set *set_own(struct mappings *m, struct process *p, uint32_t n)
{
	struct set *s = p->set, *own;
	uint32_t cap = UNIT;

	if (s && s->refs == 1 && s->cap >= n) {
		unpublish_set(m, s);
		return s;
	}
	while (cap < n)
		cap *= 2;
	own = malloc(sizeof(*own) + cap * sizeof(*own->vma));
	if (!own)
		return NULL;
	*own = (struct set){ .refs = 1, .cap = cap, .first = NONE };
	if (s) {
		own->n = s->n;
		memcpy(own->vma, s->vma, s->n * sizeof(*s->vma));
		set_put(m, s);
	}
	p->set = own;
	return own;
}

/* Takes [start, end) out: a mapping in the middle of another one leaves two. */
static uint32_t cut_out(struct mapped_vma *to, const struct mapped_vma *from, uint32_t n, uint64_t start, uint64_t end)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct mapped_vma before = from[i], after = from[i];

		if (before.end <= start || before.start >= end) {
			to[kept++] = before;
			continue;
		}
		before.end = start;
		after.offset += end - after.start;
		after.start = end;
		if (from[i].start < start)
			to[kept++] = before;
		if (from[i].end > end)
			to[kept++] = after;
	}
	return kept;
}

static void mark_dirty(struct mappings *m, struct process *p)
{
	if (p->dirty)
		return;
	p->dirty = true;
	if (m->n_dirty < PROCESSES)
		m->dirty[m->n_dirty] = (uint32_t)(p - m->process);
	m->n_dirty = SB_MIN(m->n_dirty + 1, PROCESSES + 1);
}

/* Where a mapping belongs that none is in the way of; NONE: it overlaps one. */
static uint32_t gap_for(const struct set *s, const struct mapped_vma *v)
{
	uint32_t at = s->n;

	while (at && s->vma[at - 1].start >= v->end)
		at--;
	return at && s->vma[at - 1].end > v->start ? NONE : at;
}

static void put_at(struct set *s, uint32_t at, const struct mapped_vma *v)
{
	memmove(&s->vma[at + 1], &s->vma[at], (s->n - at) * sizeof(*v));
	s->vma[at] = *v;
	s->n++;
}

static void set_add(struct mappings *m, struct process *p, const struct mapped_vma *v)
{
	uint32_t n = p->set ? p->set->n : 0, at;
	struct mapped_vma *list;
	struct set *s;

	if (n + 2 > MAPPINGS_PER_PROCESS) {
		m->evicted++;
		return;
	}
	s = set_own(m, p, n + 2);
	at = s ? gap_for(s, v) : NONE;
	if (at != NONE) {
		put_at(s, at, v);
		mark_dirty(m, p);
		return;
	}
	list = malloc((n + 2) * sizeof(*list));
	if (!s || !list) {
		free(list);
		m->evicted++;
		return;
	}
	s->n = cut_out(list, s->vma, s->n, v->start, v->end);
	memcpy(s->vma, list, s->n * sizeof(*list));
	free(list);
	put_at(s, gap_for(s, v), v);
	mark_dirty(m, p);
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
	set_put(m, p->set);
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
	set_add(m, p, &v);
}

void mappings_exec(struct mappings *m, uint64_t ts_ns, uint32_t pid)
{
	struct process *p = process_at(m, ts_ns, pid);

	if (!p)
		return;
	process_retire(m, p, ts_ns);
	process_hide(m, p);
	set_put(m, p->set);
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
	set_put(m, p->set);
	p->set = from ? from->set : NULL;
	if (p->set)
		p->set->refs++;
	p->since_ns = ts_ns;
	p->exited_ns = 0;
	p->threads = false;
	mark_dirty(m, p);
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
	set_put(m, p->set);
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
	if (!range_take(m, class, &s->first)) {
		s->first = NONE;
		return false;
	}
	s->class = class;
	m->n_published += s->n;
	for (uint32_t i = 0; i < s->n; i++) {
		struct unwind_ref ref = ref_of(m, s->vma[i].file);

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

	end_limbo(m, now_ns);
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
