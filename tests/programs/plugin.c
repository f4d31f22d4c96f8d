// SPDX-License-Identifier: BSD-2-Clause
/* A library that tests/programs/chain.c loads while it runs. */
void chain_plugin(void (*end)(void));

static volatile int sink;

__attribute__((noinline, noclone)) void chain_plugin(void (*end)(void))
{
	int keep[8] = { sink };

	end();
	sink = keep[3] + 1;
}
