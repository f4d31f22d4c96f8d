// SPDX-License-Identifier: BSD-2-Clause
#include "format/map64.h"

#include <errno.h>
#include <sys/random.h>

/* Keys of a bundle are chosen by whoever made it: where they go depends on something that
 * nobody can know beforehand, or chosen keys would make every look-up walk past all of them. */
static uint64_t new_seed(void)
{
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = sb_mix64(sb_monotonic_ns() ^ (uint64_t)(uintptr_t)&seed);
	return seed;
}

static struct map64_slot *find(const struct map64 *m, uint64_t key)
{
	size_t i = sb_mix64(key ^ m->seed) & (m->cap - 1);

	while (m->slot[i].key && m->slot[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->slot[i];
}

static int grow(struct map64 *m)
{
	struct map64 bigger = { .cap = m->cap ? m->cap * 2 : 4096,
				.seed = m->cap ? m->seed : new_seed() };

	bigger.slot = calloc(bigger.cap, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++) {
		if (m->slot[i].key)
			*find(&bigger, m->slot[i].key) = m->slot[i];
	}
	bigger.n = m->n;
	free(m->slot);
	*m = bigger;
	return 0;
}

int map64_put(struct map64 *m, uint64_t key, uint64_t value)
{
	struct map64_slot *s;
	int r;

	if (!key)
		return -EINVAL;
	if ((m->n + 1) * 2 > m->cap) {
		r = grow(m);
		if (r < 0)
			return r;
	}
	s = find(m, key);
	if (!s->key)
		m->n++;
	*s = (struct map64_slot){ key, value };
	return 0;
}

uint64_t map64_get(const struct map64 *m, uint64_t key)
{
	return m->cap ? find(m, key)->value : 0;
}

void map64_done(struct map64 *m)
{
	free(m->slot);
	*m = (struct map64){};
}
