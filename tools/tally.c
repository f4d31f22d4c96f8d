// SPDX-License-Identifier: BSD-2-Clause
#include "tools/tally.h"

#include <errno.h>

static uint64_t key_of(uint64_t key)
{
	return key + 1 ? key + 1 : 1; /* 0 is no key of a map */
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

struct tally_item *tally_add(struct tally *t, uint64_t key, uint64_t count, uint64_t ns, uint64_t note)
{
	uint64_t at = map64_get(&t->by_key, key_of(key));
	struct tally_item *i;

	if (!at) {
		if (t->n == t->cap) {
			size_t cap = t->cap ? t->cap * 2 : 64;
			void *bigger = realloc(t->item, cap * sizeof(*t->item));

			if (!bigger)
				return NULL;
			t->item = bigger;
			t->cap = cap;
		}
		if (map64_put(&t->by_key, key_of(key), t->n + 1) < 0)
			return NULL;
		t->item[t->n++] = (struct tally_item){ .key = key, .note = note };
		at = t->n;
	}
	i = &t->item[at - 1];
	i->count = sum(i->count, count);
	i->ns = sum(i->ns, ns);
	if (ns > i->longest_ns) {
		i->longest_ns = ns;
		i->note = note;
	}
	t->count = sum(t->count, count);
	t->ns = sum(t->ns, ns);
	return i;
}

int tally_member(struct tally *t, uint64_t key, uint64_t member)
{
	uint64_t pair = (sb_mix64(key) ^ member * 0x9E3779B97F4A7C15ULL) | 1, at;

	if (map64_get(&t->seen, pair))
		return 0;
	if (map64_put(&t->seen, pair, 1) < 0)
		return -ENOMEM;
	at = map64_get(&t->by_key, key_of(key));
	if (at)
		t->item[at - 1].members++;
	return 0;
}

const struct tally_item *tally_top(const struct tally *t)
{
	const struct tally_item *best = NULL;

	for (size_t i = 0; i < t->n; i++) {
		const struct tally_item *x = &t->item[i];

		if (!best || x->ns > best->ns || (x->ns == best->ns && x->count > best->count))
			best = x;
	}
	return best;
}

void tally_done(struct tally *t)
{
	map64_done(&t->by_key);
	map64_done(&t->seen);
	free(t->item);
	*t = (struct tally){};
}
