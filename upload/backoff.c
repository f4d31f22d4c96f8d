// SPDX-License-Identifier: BSD-2-Clause
#include "upload/backoff.h"

#define FIRST_NS NSEC_PER_SEC

void backoff_failed(struct backoff *b, uint64_t now_ns, uint64_t max_ns, uint64_t at_least_ns, uint64_t chance)
{
	uint64_t wait = FIRST_NS << SB_MIN(b->tries, 24u);

	wait = SB_MIN(wait, SB_MAX(max_ns, (uint64_t)FIRST_NS));
	wait = wait / 2 + chance % (wait / 2 + 1);
	b->tries++;
	b->due_ns = now_ns + SB_MAX(wait, at_least_ns);
}
