// SPDX-License-Identifier: BSD-2-Clause
#include "tools/describe.h"

#include <stdio.h>

#include "tools/escape.h"
#include "tools/filter.h"
#include "tools/syscalls.h"

static const char *name_of(const char *const *names, size_t n, uint32_t i)
{
	return i < n && names[i] ? names[i] : "?";
}

const char *reclaim_name(uint32_t kind)
{
	static const char *const names[] = { "?", "direct", "memcg", "kswapd", "node", "compaction" };

	return name_of(names, SB_ARRAY_SIZE(names), kind);
}

/* include/linux/interrupt.h */
const char *softirq_name(uint32_t vector)
{
	static const char *const names[] = { "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK",
					     "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU" };

	return name_of(names, SB_ARRAY_SIZE(names), vector);
}

/* enum vmscan_throttle_state, include/linux/mmzone.h; stored + 1 */
static const char *throttle_name(uint32_t reason)
{
	static const char *const names[] = { "", "writeback", "isolated", "noprogress", "congested" };

	return name_of(names, SB_ARRAY_SIZE(names), reason);
}

static const char *io_op(uint32_t cmd_flags)
{
	static const char *const names[] = { "read", "write", "flush", "discard" };

	return name_of(names, SB_ARRAY_SIZE(names), cmd_flags & 0xff);
}

const char *lock_class(uint32_t flags)
{
	if (flags & BUNDLE_LOCK_MMAP)
		return "mmap_lock";
	if (flags & BUNDLE_LOCK_MUTEX)
		return "mutex";
	if (flags & BUNDLE_LOCK_SPIN)
		return flags & (BUNDLE_LOCK_READ | BUNDLE_LOCK_WRITE) ? "rwlock" : "spinlock";
	if (flags & BUNDLE_LOCK_PERCPU)
		return "percpu-rwsem";
	if (flags & BUNDLE_LOCK_RT)
		return "rtmutex";
	return flags & (BUNDLE_LOCK_READ | BUNDLE_LOCK_WRITE) ? "rwsem" : "lock";
}

const char *lock_mode(uint32_t flags)
{
	return flags & BUNDLE_LOCK_WRITE ? "write" : flags & BUNDLE_LOCK_READ ? "read" : "";
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void put_text(const char *s)
{
	escape_put(stdout, ESCAPE_TERMINAL, s);
}

static void put_thread(const struct bundle *b, uint32_t id)
{
	const struct bundle_thread *t = bundle_thread(b, id);

	put_text(t->comm);
	printf(" %u/%u", bundle_process(b, t->process)->pid, t->tid);
}

static void text_call(const struct bundle *b, const struct bundle_event *e)
{
	const struct bundle_header *h = bundle_header(b);
	char buf[32];

	if (e->syscall)
		printf(" in %s", syscall_name(h ? h->arch : "", e->syscall - 1, buf));
}

static void text_reclaim(const struct bundle_event *e)
{
	printf(" %.3f ms %s reclaimed %llu scanned %llu pages order %u gfp 0x%x", ms(e->duration_ns),
	       reclaim_name(e->reclaim_kind), (unsigned long long)e->nr_reclaimed,
	       (unsigned long long)e->nr_scanned, e->order, e->gfp);
	if (e->nr_taken)
		printf(" taken %u activated %u referenced %u dirty %u writeback %u", e->nr_taken, e->nr_activate,
		       e->nr_ref_keep, e->nr_dirty, e->nr_writeback);
	if (e->slab_freed)
		printf(" slab %u objects", e->slab_freed);
	if (e->priority && e->nr_scanned)
		printf(" priority %u", e->priority - 1);
	if (e->weight > 1)
		printf(" (stands for %u)", e->weight);
	if (e->throttle_reason)
		printf(" throttled %.3f ms (%s)", ms(e->throttled_ns), throttle_name(e->throttle_reason));
	if (e->detail)
		printf(" holding mmap_lock for %s",
		       e->detail & BUNDLE_RECLAIM_MMAP_WRITE ? "writing" : "reading");
}

static void text_lock_wait(const struct bundle *b, const struct bundle_event *e)
{
	printf(" %.3f ms for %s %s%s0x%llx", ms(e->duration_ns), lock_class(e->detail), lock_mode(e->detail),
	       *lock_mode(e->detail) ? " " : "", (unsigned long long)e->addr);
	if (e->weight > 1)
		printf(" (stands for %u)", e->weight);
	if (!(e->owner_flags & BUNDLE_OWNER_KNOWN)) {
		printf(" owner unknown");
		return;
	}
	printf(e->owner_flags & BUNDLE_OWNER_READER ? " last reader " : " owner ");
	put_thread(b, e->peer);
}

static void text_syscall(const struct bundle *b, const struct bundle_event *e)
{
	const struct bundle_header *h = bundle_header(b);
	char buf[32];

	printf(" %.3f ms %s(0x%llx, 0x%llx)", ms(e->duration_ns),
	       syscall_name(h ? h->arch : "", e->syscall - 1, buf), (unsigned long long)e->arg0,
	       (unsigned long long)e->arg1);
	if (e->name) {
		printf(" file ");
		put_text(bundle_string(b, e->name));
	}
	if (e->cpu_time_ns)
		printf(", %.3f ms on the CPU", ms(e->cpu_time_ns));
	if (e->detail & BUNDLE_SYSCALL_SAMPLED)
		printf(" so far, by samples of one call site");
	else if (e->detail & BUNDLE_SYSCALL_OPEN)
		printf(" so far");
}

void describe_text(const struct bundle *b, const struct bundle_event *e)
{
	switch (e->kind) {
	case BUNDLE_ON_CPU:
		printf(" %s%s", e->flags & BUNDLE_EV_USER ? "user" : "kernel",
		       e->flags & BUNDLE_EV_LATE ? " LATE" : "");
		if (e->flags & BUNDLE_EV_LATE)
			printf(" %.3f ms", ms(e->duration_ns));
		if (e->weight > 1)
			printf(" stands for %u", e->weight);
		text_call(b, e);
		if (e->flags & BUNDLE_EV_MMAP_LOCK)
			printf(" holding mmap_lock");
		if (e->flags & BUNDLE_EV_IN_RECLAIM)
			printf(" reclaiming");
		break;
	case BUNDLE_OFF_CPU:
		printf(" %.3f ms state %c runq %.3f ms", ms(e->duration_ns), event_state(e),
		       ms(e->runq_delay_ns));
		text_call(b, e);
		break;
	case BUNDLE_RECLAIM:
		text_reclaim(e);
		break;
	case BUNDLE_LOCK_WAIT:
		text_lock_wait(b, e);
		break;
	case BUNDLE_WAKEUP:
		printf(" woke ");
		put_thread(b, e->peer);
		printf(" after %.3f ms in D state", ms(e->duration_ns));
		break;
	case BUNDLE_LOCK_HOLD:
		printf(" %.3f ms held mmap_lock %s 0x%llx, %.3f ms on the CPU, %u+%u switches, %u reclaims "
		       "(scanned %llu, reclaimed %llu pages)", ms(e->duration_ns), lock_mode(e->detail),
		       (unsigned long long)e->addr, ms(e->cpu_time_ns), e->nvcsw, e->nivcsw, e->reclaims,
		       (unsigned long long)e->nr_scanned, (unsigned long long)e->nr_reclaimed);
		break;
	case BUNDLE_SYSCALL:
		text_syscall(b, e);
		break;
	case BUNDLE_SOFTIRQ:
		printf(" %s waited %.3f ms, ran %.3f ms", softirq_name(e->detail), ms(e->delay_ns),
		       ms(e->duration_ns));
		break;
	case BUNDLE_BLOCK_IO:
		printf(" %.3f ms %s of %llu bytes, device ", ms(e->duration_ns), io_op(e->detail),
		       (unsigned long long)e->bytes);
		put_text(bundle_string(b, e->name));
		break;
	case BUNDLE_OOM:
		printf(" killed ");
		put_thread(b, e->peer);
		break;
	case BUNDLE_SLAB:
		printf(" %.3f ms in shrinker ", ms(e->duration_ns));
		put_text(e->name ? bundle_string(b, e->name) : "?");
		printf(", freed %u of %llu objects", e->slab_freed, (unsigned long long)e->nr_scanned);
		break;
	case BUNDLE_HARDIRQ:
		printf(" %.3f ms in the handler of %u ", ms(e->duration_ns), e->detail);
		put_text(bundle_string(b, e->name));
		break;
	case BUNDLE_KIND_NONE:
	case BUNDLE_KIND_COUNT:
		break;
	}
}

/* ---- JSON ----------------------------------------------------------------------- */

static void json_string(const char *key, const char *value)
{
	printf(",\"%s\":\"", key);
	escape_put(stdout, ESCAPE_JSON, value);
	putchar('"');
}

static void json_u64(const char *key, uint64_t value)
{
	printf(",\"%s\":%llu", key, (unsigned long long)value);
}

static void json_thread(const struct bundle *b, const char *what, uint32_t id)
{
	const struct bundle_thread *t = bundle_thread(b, id);
	char key[32];

	snprintf(key, sizeof(key), "%s_tid", what);
	json_u64(key, t->tid);
	snprintf(key, sizeof(key), "%s_pid", what);
	json_u64(key, bundle_process(b, t->process)->pid);
	snprintf(key, sizeof(key), "%s_comm", what);
	json_string(key, t->comm);
}

static void json_call(const struct bundle *b, const struct bundle_event *e)
{
	const struct bundle_header *h = bundle_header(b);
	char buf[32];

	if (!e->syscall)
		return;
	json_string("syscall", syscall_name(h ? h->arch : "", e->syscall - 1, buf));
	if (e->call_site)
		json_u64("call_site", e->call_site);
}

static void json_lock(const struct bundle_event *e)
{
	json_string("lock", lock_class(e->detail));
	json_string("mode", lock_mode(e->detail));
	json_u64("lock_addr", e->addr);
}

static void json_reclaim(const struct bundle_event *e)
{
	json_string("reclaim", reclaim_name(e->reclaim_kind));
	json_u64("weight", e->weight ? e->weight : 1);
	json_u64("nr_reclaimed", e->nr_reclaimed);
	json_u64("nr_scanned", e->nr_scanned);
	json_u64("order", e->order);
	json_u64("gfp", e->gfp);
	json_u64("cgroup_id", e->cgroup_id);
	json_u64("nr_taken", e->nr_taken);
	json_u64("nr_activate", e->nr_activate);
	json_u64("nr_ref_keep", e->nr_ref_keep);
	json_u64("nr_dirty", e->nr_dirty);
	json_u64("nr_writeback", e->nr_writeback);
	json_u64("slab_freed", e->slab_freed);
	json_u64("throttled_ns", e->throttled_ns);
	if (e->priority)
		json_u64("priority", e->priority - 1);
	json_string("mmap_lock", e->detail & BUNDLE_RECLAIM_MMAP_WRITE ? "write" :
				 e->detail & BUNDLE_RECLAIM_MMAP_READ ? "read" : "");
}

void describe_json(const struct bundle *b, const struct bundle_event *e)
{
	char state[2] = "";

	switch (e->kind) {
	case BUNDLE_ON_CPU:
		json_call(b, e);
		if (e->weight > 1)
			json_u64("weight", e->weight);
		break;
	case BUNDLE_OFF_CPU:
		state[0] = event_state(e);
		json_string("state", state);
		json_u64("runq_delay_ns", e->runq_delay_ns);
		json_call(b, e);
		break;
	case BUNDLE_RECLAIM:
		json_reclaim(e);
		break;
	case BUNDLE_LOCK_WAIT:
		json_lock(e);
		json_u64("weight", e->weight ? e->weight : 1);
		printf(",\"owner_known\":%s,\"owner_reader\":%s",
		       e->owner_flags & BUNDLE_OWNER_KNOWN ? "true" : "false",
		       e->owner_flags & BUNDLE_OWNER_READER ? "true" : "false");
		if (e->owner_flags & BUNDLE_OWNER_KNOWN)
			json_thread(b, "owner", e->peer);
		break;
	case BUNDLE_WAKEUP:
		json_thread(b, "woken", e->peer);
		break;
	case BUNDLE_LOCK_HOLD:
		json_lock(e);
		json_u64("cpu_ns", e->cpu_time_ns);
		json_u64("nvcsw", e->nvcsw);
		json_u64("nivcsw", e->nivcsw);
		json_u64("reclaims", e->reclaims);
		json_u64("nr_scanned", e->nr_scanned);
		json_u64("nr_reclaimed", e->nr_reclaimed);
		break;
	case BUNDLE_SYSCALL:
		json_call(b, e);
		printf(",\"args\":[%llu,%llu]", (unsigned long long)e->arg0, (unsigned long long)e->arg1);
		json_string("file", bundle_string(b, e->name));
		json_u64("cpu_ns", e->cpu_time_ns);
		printf(",\"open\":%s,\"sampled\":%s", e->detail & BUNDLE_SYSCALL_OPEN ? "true" : "false",
		       e->detail & BUNDLE_SYSCALL_SAMPLED ? "true" : "false");
		break;
	case BUNDLE_SOFTIRQ:
		json_string("vector", softirq_name(e->detail));
		json_u64("delay_ns", e->delay_ns);
		break;
	case BUNDLE_BLOCK_IO:
		json_string("op", io_op(e->detail));
		json_string("device", bundle_string(b, e->name));
		json_u64("bytes", e->bytes);
		break;
	case BUNDLE_OOM:
		json_thread(b, "victim", e->peer);
		break;
	case BUNDLE_SLAB:
		json_string("shrinker", bundle_string(b, e->name));
		json_u64("slab_freed", e->slab_freed);
		json_u64("nr_scanned", e->nr_scanned);
		break;
	case BUNDLE_HARDIRQ:
		json_u64("irq", e->detail);
		json_string("name", bundle_string(b, e->name));
		break;
	case BUNDLE_KIND_NONE:
	case BUNDLE_KIND_COUNT:
		break;
	}
}
