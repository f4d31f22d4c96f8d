// SPDX-License-Identifier: BSD-2-Clause
/* Files that are mapped: each once, forgotten when nobody maps them and there is no room. */
#include "recorder/mappings_impl.h"

/* So many files are forgotten when there is no room for another one; where that many cannot be, it is tried so often. */
#define FILES_FORGOTTEN (MAPPINGS_FILES / 8)
#define FORGET_AGAIN_NS NSEC_PER_SEC

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

struct unwind_ref mappings_ref_of(const struct mappings *m, uint32_t file)
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
		bool mapped = false;

		for (uint32_t i = 0; s && s->first != NONE && !of->dirty && i < s->n; i++) {
			if (s->vma[i].file != file)
				continue;
			put_ref(&m->memory.maps[s->first + i], *ref);
			mapped = true;
		}
		/* Stacks that were walked without it are not looked at again. */
		if (mapped)
			__atomic_fetch_add(&m->memory.procs[m->shown[p].entry].tables, 1, __ATOMIC_RELEASE);
	}
}
