// SPDX-License-Identifier: BSD-2-Clause
/* stallbox blame: every lock with waiters at the freeze, who holds it, and the chain behind. */
#include <errno.h>
#include <stdio.h>

#include "tools/blame.h"
#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/escape.h"
#include "tools/syscalls.h"

static const struct opt_command command = {
	"blame", "BUNDLE", "Print who waited for which lock at the freeze, who held it, and the chain to its end.",
	{ "stallbox blame X.stall.pb.zst", "stallbox blame --json X.stall.pb.zst | jq '.[0].chain'" },
};

static const char *how_key(enum blame_how how)
{
	static const char *const names[] = { "unknown", "owner", "stack", "reader", "woken" };

	return names[how];
}

static void put_who(const struct blame *r, uint32_t id)
{
	const struct bundle_thread *t = bundle_thread(r->b, id);

	escape_put(stdout, ESCAPE_TERMINAL, t->comm);
	printf(" %u/%u", bundle_process(r->b, t->process)->pid, t->tid);
}

/* How the holder is known, and how well. */
static void put_how(const struct blame_hop *hop)
{
	printf(" (%s", hop->why ? hop->why : blame_how_text(hop->how));
	if (hop->how == BLAME_STACK) {
		if (hop->why)
			printf("; by its stack");
		if (hop->candidates > 1)
			printf(", not proven: one of %u that it could be", hop->candidates);
		else
			printf(", not proven: the only one of its process that it could be");
		if (hop->readers)
			printf("; the lock has %u reader%s", hop->readers, hop->readers > 1 ? "s" : "");
		if (hop->last_reader)
			printf("; it was the last reader to come");
	}
	putchar(')');
}

static void put_state(const struct blame *r, const struct bundle_shot_thread *t)
{
	const struct bundle_header *h = bundle_header(r->b);
	char buf[32];

	if (t->flags & BUNDLE_SHOT_RUNNING)
		printf(", running on CPU %u", t->cpu);
	else if (t->flags & BUNDLE_SHOT_RUNNABLE)
		printf(", runnable but not running for %.3f s", (double)(r->begin_ns - t->since_ns) / 1e9);
	else if (t->since_ns && t->since_ns < r->begin_ns)
		printf(", blocked for %.3f s", (double)(r->begin_ns - t->since_ns) / 1e9);
	if (t->syscall)
		printf(", in %s", syscall_name(h ? h->arch : "", t->syscall - 1, buf));
	if (t->reclaim_since_ns && t->reclaim_since_ns < r->begin_ns)
		printf(", reclaiming for %.3f s (scanned %u, reclaimed %u pages)",
		       (double)(r->begin_ns - t->reclaim_since_ns) / 1e9, t->nr_scanned, t->nr_reclaimed);
}

static void put_stack(const struct blame *r, uint32_t id, const char *suffix)
{
	const struct bundle_stack *s = bundle_stack(r->b, id);
	uint32_t n = s->n, process = s->process;
	const uint64_t *addr = s->addr;

	for (uint32_t i = 0; i < n; i++) {
		printf("          ");
		escape_put(stdout, ESCAPE_TERMINAL, names_get(r->names, names_frame(r->names, process, addr[i])));
		printf("%s\n", suffix);
	}
}

static void put_stacks(const struct blame *r, uint32_t i)
{
	uint32_t kstack, ustack;
	uint64_t sampled;

	blame_stacks(r, i, &kstack, &ustack, &sampled);
	if (sampled)
		printf("          (running: its last sample, %.1f ms before)\n", (double)(r->begin_ns - sampled) / 1e6);
	put_stack(r, kstack, "_[k]");
	put_stack(r, ustack, "");
}

static double waited(const struct blame *r, const struct bundle_shot_thread *t)
{
	uint64_t since = t->lock_since_ns ? t->lock_since_ns : t->since_ns;

	return since && since < r->begin_ns ? (double)(r->begin_ns - since) / 1e9 : 0;
}

static void print_lock(const struct blame *r, const struct blame_lock *l, bool stacks)
{
	const struct bundle_shot_thread *first = &r->shot[l->waiter[0]];

	printf("%s 0x%llx", l->mm ? "mmap_lock" : lock_class(l->flags), (unsigned long long)l->addr);
	if (l->mm) {
		printf(" of ");
		put_who(r, l->of);
	}
	printf(": %zu waiting, the first for %.3f s\n", l->n_waiters, waited(r, first));
	for (size_t i = 0; i < l->n_chain; i++) {
		const struct blame_hop *hop = &l->chain[i];

		printf("  %*s%s", (int)i * 2, "", i ? "which waits for: " : hop->how == BLAME_WOKEN ? "next is " : "held by ");
		if (hop->how == BLAME_NOBODY) {
			printf("a reader, unknown\n");
			continue;
		}
		put_who(r, hop->thread_id);
		put_how(hop);
		if (hop->thread != UINT32_MAX)
			put_state(r, &r->shot[hop->thread]);
		else
			printf(", not in the stackshot");
		putchar('\n');
		if (stacks && hop->thread != UINT32_MAX)
			put_stacks(r, hop->thread);
	}
	for (size_t i = 0; i < l->n_waiters && (stacks || i < 5); i++) {
		const struct bundle_shot_thread *t = &r->shot[l->waiter[i]];

		printf("  waiting: ");
		put_who(r, t->thread);
		printf(" %s for %.3f s", lock_mode(t->lock_flags), waited(r, t));
		put_state(r, t);
		putchar('\n');
	}
	if (!stacks && l->n_waiters > 5)
		printf("  waiting: and %zu more (--stacks shows all)\n", l->n_waiters - 5);
}

/* ---- JSON ------------------------------------------------------------------------ */

static void json_who(const struct blame *r, uint32_t id)
{
	const struct bundle_thread *t = bundle_thread(r->b, id);

	printf("\"tid\":%u,\"pid\":%u,\"comm\":\"", t->tid, bundle_process(r->b, t->process)->pid);
	escape_put(stdout, ESCAPE_JSON, t->comm);
	putchar('"');
}

static void json_stack(const struct blame *r, const char *key, uint32_t id)
{
	const struct bundle_stack *s = bundle_stack(r->b, id);
	uint32_t n = s->n, process = s->process;
	const uint64_t *addr = s->addr;

	printf(",\"%s\":[", key);
	for (uint32_t i = 0; i < n; i++) {
		printf("%s\"", i ? "," : "");
		escape_put(stdout, ESCAPE_JSON, names_get(r->names, names_frame(r->names, process, addr[i])));
		putchar('"');
	}
	putchar(']');
}

static void json_shot(const struct blame *r, uint32_t i)
{
	const struct bundle_shot_thread *t = &r->shot[i];
	uint32_t kstack, ustack;
	uint64_t sampled;

	printf(",\"running\":%s,\"runnable\":%s,\"since_ns\":%llu,\"waited_ns\":%.0f",
	       t->flags & BUNDLE_SHOT_RUNNING ? "true" : "false",
	       t->flags & BUNDLE_SHOT_RUNNABLE ? "true" : "false", (unsigned long long)t->since_ns,
	       waited(r, t) * 1e9);
	printf(",\"reclaim_since_ns\":%llu,\"nr_scanned\":%u,\"nr_reclaimed\":%u",
	       (unsigned long long)t->reclaim_since_ns, t->nr_scanned, t->nr_reclaimed);
	blame_stacks(r, i, &kstack, &ustack, &sampled);
	if (sampled)
		printf(",\"sample_ns\":%llu", (unsigned long long)sampled);
	json_stack(r, "kstack", kstack);
	json_stack(r, "ustack", ustack);
}

static void json_lock(const struct blame *r, const struct blame_lock *l)
{
	printf("{\"lock\":\"%s\",\"addr\":%llu", l->mm ? "mmap_lock" : lock_class(l->flags),
	       (unsigned long long)l->addr);
	if (l->mm) {
		printf(",\"of\":{");
		json_who(r, l->of);
		putchar('}');
	}
	printf(",\"waiters\":[");
	for (size_t i = 0; i < l->n_waiters; i++) {
		const struct bundle_shot_thread *t = &r->shot[l->waiter[i]];

		printf("%s{", i ? "," : "");
		json_who(r, t->thread);
		printf(",\"mode\":\"%s\",\"waited_ns\":%.0f}", lock_mode(t->lock_flags), waited(r, t) * 1e9);
	}
	printf("],\"chain\":[");
	for (size_t i = 0; i < l->n_chain; i++) {
		const struct blame_hop *hop = &l->chain[i];

		printf("%s{\"found\":\"%s\",\"proven\":%s", i ? "," : "", how_key(hop->how),
		       hop->how == BLAME_OWNER ? "true" : "false");
		if (hop->how == BLAME_STACK)
			printf(",\"candidates\":%u,\"readers\":%u,\"last_reader\":%s", hop->candidates,
			       hop->readers, hop->last_reader ? "true" : "false");
		if (hop->how != BLAME_NOBODY) {
			putchar(',');
			json_who(r, hop->thread_id);
			if (hop->thread != UINT32_MAX)
				json_shot(r, hop->thread);
		}
		putchar('}');
	}
	printf("]}");
}

int cmd_blame(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	bool json = false, stacks = false;
	struct names names;
	struct blame found;
	int first, r;
	const struct opt opts[] = {
		{ "stacks", NULL, OPT_FLAG, &stacks, "with the stacks of the chain, and every waiter" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON array" },
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = open_operand(&command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	warn_damage(b);
	names_init(&names, b);
	r = blame_find(&found, b, &names);
	if (r < 0)
		fprintf(stderr, "error: cannot follow the locks: %s\n", strerror(-r));
	if (json)
		putchar('[');
	for (size_t i = 0; r == 0 && i < found.n_locks; i++) {
		if (json && i)
			putchar(',');
		if (json)
			json_lock(&found, &found.lock[i]);
		else
			print_lock(&found, &found.lock[i], stacks);
	}
	if (json)
		printf("]\n");
	else if (r == 0 && !found.n_locks)
		printf("%s\n", found.n_shot ? "no thread waited for a lock at the freeze" :
			       "the bundle has no stackshot");
	if (!json && r == 0 && !found.n_locks && bundle_n_events(b, BUNDLE_LOCK_WAIT))
		printf("hint: 'stallbox events --kind lock-wait' shows the waits that had ended\n");
	blame_done(&found);
	names_done(&names);
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
