// SPDX-License-Identifier: BSD-2-Clause
/* Collapsed stacks, as "stallbox fold" prints them (Brendan Gregg's flamegraph.pl reads them). */
#include "tools/export.h"

int export_folded(struct export *x)
{
	enum fold_kind kind = export_fold_kind((uint8_t)__builtin_ctz(x->filter->kinds));
	struct fold f;
	int r = fold_bundle(&f, x->b, x->filter, kind, false);

	if (r == 0)
		r = fold_merge(&f);
	if (r == 0) {
		fold_sort(&f);
		r = fold_print(&f, x->out);
	}
	fold_done(&f);
	return r;
}
