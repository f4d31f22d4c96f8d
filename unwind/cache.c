// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <sys/stat.h>

#include "unwind/cache.h"

#define MIN_ID_BYTES 8u
#define NO_ENTRY UINT32_MAX

struct entry {
	struct unwind_key key;
	bool known;
	uint32_t next;		 /* with the same hash */
	uint32_t first, n_slots; /* n_slots 0: a file without rows */
	uint64_t last_use;
};

struct unwind_cache {
	struct unwind_arena arena;
	struct entry *entries; /* one per table of the arena */
	uint32_t *buckets;
	uint32_t n_buckets;
	uint32_t *order; /* entries with rows, by place in the arena */
	uint32_t n_order;
	uint32_t n_known;
	uint64_t now, used_slots, evicted, refused;
};

/* ---- keys ----------------------------------------------------------------------------- */

bool unwind_key_build_id(const void *id, size_t len, struct unwind_key *ret)
{
	if (len < MIN_ID_BYTES || len > sizeof(ret->id))
		return false;
	*ret = (struct unwind_key){ .len = (uint8_t)len, .build_id = true };
	memcpy(ret->id, id, len);
	return true;
}

void unwind_key_file(const struct stat *st, struct unwind_key *ret)
{
	const uint64_t parts[] = { st->st_dev, st->st_ino, (uint64_t)st->st_size,
				   (uint64_t)st->st_mtim.tv_sec * NSEC_PER_SEC +
					   (uint64_t)st->st_mtim.tv_nsec };

	_Static_assert(sizeof(parts) == UNWIND_ID_BYTES, "fills the key");
	*ret = (struct unwind_key){ .len = sizeof(parts) };
	memcpy(ret->id, parts, sizeof(parts));
}

static bool same_key(const struct unwind_key *a, const struct unwind_key *b)
{
	return a->len == b->len && a->build_id == b->build_id && !memcmp(a->id, b->id, a->len);
}

int unwind_file_load(int fd, const struct unwind_key *expected, const struct unwind_limits *limits,
		     struct cfi_counts *counts, struct unwind_key *ret_key, struct unwind_key *ret_own, struct unwind_rows *ret)
{
	SB_CLEANUP(unwind_image_done) struct unwind_image image = {};
	struct unwind_key key, own;
	struct stat st;
	int r = unwind_image_read(fd, &image);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	unwind_key_file(&st, &own);
	if (!unwind_key_build_id(image.build_id, image.build_id_len, &key))
		key = own;
	if (expected && expected->build_id && !same_key(expected, &key))
		return -ESTALE;
	r = unwind_rows_build(&image, limits, counts, ret);
	if (r < 0)
		return r;
	*ret_key = key;
	if (ret_own)
		*ret_own = own;
	return 0;
}

/* ---- entries -------------------------------------------------------------------------- */

/* Walkers see the generation change before anything else does. */
static void retract(struct unwind_cache *c, uint32_t i)
{
	struct sb_unwind_table *t = &c->arena.tables[i];

	__atomic_store_n(&t->generation, t->generation | 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	t->n_rows = t->n_rules = 0;
}

int unwind_cache_new(const struct unwind_arena *arena, struct unwind_cache **ret)
{
	SB_CLEANUP(unwind_cache_freep) struct unwind_cache *c = calloc(1, sizeof(*c));

	if (!arena->n_tables || arena->n_tables >= NO_ENTRY / 2 ||
	    arena->n_slots > SB_UNWIND_SLOTS_MAX)
		return -EINVAL;
	if (!c)
		return -ENOMEM;
	c->arena = *arena;
	c->n_buckets = 2 * arena->n_tables;
	c->entries = calloc(arena->n_tables, sizeof(*c->entries));
	c->buckets = malloc(c->n_buckets * sizeof(*c->buckets));
	c->order = calloc(arena->n_tables, sizeof(*c->order));
	if (!c->entries || !c->buckets || !c->order)
		return -ENOMEM;
	memset(c->buckets, 0xff, c->n_buckets * sizeof(*c->buckets)); /* NO_ENTRY */
	/* Another process may have left tables there, and mappings that refer to them. */
	for (uint32_t i = 0; i < arena->n_tables; i++)
		retract(c, i);
	*ret = TAKE_PTR(c);
	return 0;
}

void unwind_cache_free(struct unwind_cache *cache)
{
	if (!cache)
		return;
	free(cache->entries);
	free(cache->buckets);
	free(cache->order);
	free(cache);
}

static uint32_t *bucket_of(struct unwind_cache *c, const struct unwind_key *key)
{
	return &c->buckets[sb_hash_bytes(key->id, key->len) % c->n_buckets];
}

static uint32_t lookup(struct unwind_cache *c, const struct unwind_key *key)
{
	uint32_t i = *bucket_of(c, key);

	while (i != NO_ENTRY && !same_key(&c->entries[i].key, key))
		i = c->entries[i].next;
	return i;
}

static struct unwind_ref ref_of(const struct unwind_cache *c, uint32_t i)
{
	if (!c->entries[i].n_slots)
		return (struct unwind_ref){ .table = SB_UNWIND_NO_TABLE };
	return (struct unwind_ref){ .table = i, .generation = c->arena.tables[i].generation };
}

static void publish(struct unwind_cache *c, uint32_t i, const struct unwind_rows *rows)
{
	struct sb_unwind_table *t = &c->arena.tables[i];
	uint32_t generation = (t->generation | 1) + 1;

	t->base = rows->base;
	t->rules = c->entries[i].first;
	t->n_rules = rows->n_rules;
	t->rows = t->rules + rows->n_rules * SB_UNWIND_RULE_SLOTS;
	t->n_rows = rows->n_rows;
	t->used = 0;
	__atomic_store_n(&t->generation, generation ? generation : 2, __ATOMIC_SEQ_CST);
}

static void forget(struct unwind_cache *c, uint32_t i)
{
	struct entry *e = &c->entries[i];
	uint32_t *link = bucket_of(c, &e->key), at = 0;

	if (e->n_slots) {
		retract(c, i);
		while (c->order[at] != i)
			at++;
		memmove(&c->order[at], &c->order[at + 1], (--c->n_order - at) * sizeof(*c->order));
		c->used_slots -= e->n_slots;
	}
	while (*link != i)
		link = &c->entries[*link].next;
	*link = e->next;
	e->known = false;
	c->n_known--;
}

void unwind_cache_tick(struct unwind_cache *c)
{
	c->now++;
	for (uint32_t i = 0; i < c->arena.n_tables; i++) {
		uint32_t *used = &c->arena.tables[i].used;

		if (c->entries[i].known && c->entries[i].n_slots &&
		    __atomic_exchange_n(used, 0, __ATOMIC_RELAXED))
			c->entries[i].last_use = c->now;
	}
}

/* The one that was not used for longest; with_rows: that would make room in the arena. */
static uint32_t oldest(const struct unwind_cache *c, bool with_rows)
{
	uint32_t best = NO_ENTRY;

	for (uint32_t i = 0; i < c->arena.n_tables; i++) {
		const struct entry *e = &c->entries[i];

		if (e->known && (!with_rows || e->n_slots) &&
		    (best == NO_ENTRY || e->last_use < c->entries[best].last_use))
			best = i;
	}
	return best;
}

static void evict(struct unwind_cache *c, bool with_rows)
{
	uint32_t i = oldest(c, with_rows);

	c->evicted += c->entries[i].n_slots > 0;
	forget(c, i);
}

/* ---- the arena ------------------------------------------------------------------------ */

/* First gap that is large enough; its place in the order through ret_at. */
static bool find_room(const struct unwind_cache *c, uint32_t n, uint32_t *ret_first,
		      uint32_t *ret_at)
{
	uint32_t from = 0;

	for (uint32_t at = 0; at <= c->n_order; at++) {
		const struct entry *e = at < c->n_order ? &c->entries[c->order[at]] : NULL;
		uint32_t to = e ? e->first : c->arena.n_slots;

		if (to - from >= n) {
			*ret_first = from;
			*ret_at = at;
			return true;
		}
		if (e)
			from = e->first + e->n_slots;
	}
	return false;
}

static int place(struct unwind_cache *c, uint32_t i, const struct unwind_rows *rows)
{
	struct entry *e = &c->entries[i];
	uint32_t at = 0;
	int r;

	if (!e->n_slots)
		return 0;
	while (!find_room(c, e->n_slots, &e->first, &at))
		evict(c, true);
	r = c->arena.commit ? c->arena.commit(c->arena.ctx, e->first, e->n_slots) : 0;
	if (r < 0)
		return r;
	memmove(&c->order[at + 1], &c->order[at], (c->n_order++ - at) * sizeof(*c->order));
	c->order[at] = i;
	c->used_slots += e->n_slots;
	memcpy(&c->arena.slots[e->first], rows->slots, e->n_slots * sizeof(uint64_t));
	publish(c, i, rows);
	return 0;
}

static uint32_t free_entry(struct unwind_cache *c)
{
	if (c->n_known == c->arena.n_tables)
		evict(c, false);
	for (uint32_t i = 0;; i++) {
		if (!c->entries[i].known)
			return i;
	}
}

int unwind_cache_find(struct unwind_cache *c, const struct unwind_key *key, struct unwind_ref *ret)
{
	uint32_t i = lookup(c, key);

	if (i == NO_ENTRY)
		return -ENOENT;
	c->entries[i].last_use = ++c->now;
	*ret = ref_of(c, i);
	return 0;
}

int unwind_cache_put(struct unwind_cache *c, const struct unwind_key *key,
		     const struct unwind_rows *rows, struct unwind_ref *ret)
{
	size_t n = rows->n_rows ? unwind_rows_slots(rows) : 0;
	uint32_t i = lookup(c, key), *bucket;
	struct entry *e;
	int r;

	if (n > c->arena.n_slots) {
		c->refused++;
		return -ENOSPC;
	}
	if (i != NO_ENTRY)
		forget(c, i);
	i = free_entry(c);
	e = &c->entries[i];
	*e = (struct entry){ .key = *key, .n_slots = (uint32_t)n, .last_use = ++c->now };
	/* Not known yet: it must not be evicted to make room for itself. */
	r = place(c, i, rows);
	if (r < 0) {
		c->refused++;
		return r;
	}
	e->known = true;
	c->n_known++;
	bucket = bucket_of(c, key);
	e->next = *bucket;
	*bucket = i;
	*ret = ref_of(c, i);
	return 0;
}

static bool has_rows(const struct unwind_cache *c, uint32_t i, const struct unwind_rows *rows)
{
	const struct entry *e = &c->entries[i];
	const struct sb_unwind_table *t = &c->arena.tables[i];
	size_t n = rows->n_rows ? unwind_rows_slots(rows) : 0;

	return e->n_slots == n && (!n || (t->base == rows->base && t->n_rules == rows->n_rules && t->n_rows == rows->n_rows &&
					  !memcmp(&c->arena.slots[e->first], rows->slots, n * sizeof(uint64_t))));
}

int unwind_cache_share(struct unwind_cache *c, const struct unwind_key *key, const struct unwind_key *own,
		       const struct unwind_rows *rows, struct unwind_ref *ret)
{
	uint32_t i = lookup(c, key);

	if (i != NO_ENTRY && !has_rows(c, i, rows)) {
		key = own;
		i = lookup(c, key);
	}
	if (i != NO_ENTRY && has_rows(c, i, rows))
		return unwind_cache_find(c, key, ret);
	return unwind_cache_put(c, key, rows, ret);
}

struct unwind_cache_stats unwind_cache_stats(const struct unwind_cache *c)
{
	return (struct unwind_cache_stats){
		.files = c->n_known,
		.tables = c->n_order,
		.bytes = c->used_slots * sizeof(uint64_t),
		.max_bytes = (uint64_t)c->arena.n_slots * sizeof(uint64_t),
		.evicted = c->evicted,
		.refused = c->refused,
	};
}
