/* SPDX-License-Identifier: BSD-2-Clause */
/* The tree of one or two folds: what a flame graph shows. */
#ifndef SB_TOOLS_TREE_H
#define SB_TOOLS_TREE_H

#include "tools/fold.h"

struct tree_node {
	uint32_t name; /* of tree.names; the root has none */
	uint32_t parent, child, sibling; /* indexes; 0: the root, or none */
	uint32_t depth;
	uint64_t weight[2]; /* of the fold, and of a second one to compare it with */
	uint64_t count[2], ns[2];
};

struct tree {
	struct names names;
	struct tree_node *node; /* parents before children; [0] is the root */
	uint32_t n, cap, depth;
	struct map64 child; /* (parent, name) -> index */
};

/* 0 or -ENOMEM; tree_done() either way. */
int tree_init(struct tree *t);
void tree_done(struct tree *t);
/* Adds a fold on side 0 or 1; weights, counts and times are multiplied by `scale`. reverse: the leaf is outermost,
 * so that callers of one function come together. 0 or -ENOMEM. */
int tree_add(struct tree *t, struct fold *f, int side, double scale, bool reverse);
/* Children in the order of their names, so that two graphs can be compared by eye. 0 or -ENOMEM. */
int tree_sort(struct tree *t);
/* The node after i in depth-first order, after its children or (skip) without them; 0 at the end. */
uint32_t tree_next(const struct tree *t, uint32_t i, bool skip);

#endif
