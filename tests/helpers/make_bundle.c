// SPDX-License-Identifier: BSD-2-Clause
/* Writes a synthetic bundle with known contents: make_bundle OUT [key=value]...
 * events, cpus, stacks, threads, seed; hostile=1 puts markup and escapes into names, and a trigger value
 * that is not a number, hostile=2 scripts that would run in a browser; locks=1 a stackshot in which threads
 * wait for locks, and one event of each further kind; locks=2 the same on a kernel whose wait for a VMA is
 * an rwsem and inlined; locks=3 and 4 the same with a thread in madvise(), on 6.16 and 6.17; onlycpu=1 nothing but on-CPU samples; comms: thread names; thinned=1 one sample in ten
 * stands for four. */
#include <math.h>
#include <stdio.h>

#include "format/writer.h"

static struct {
	unsigned long events, cpus, stacks, threads, seed, hostile, locks, onlycpu, comms, thinned;
} o = { .events = 1000, .cpus = 4, .stacks = 50, .threads = 20, .seed = 1, .comms = 5 };

#define TRIGGER_NS (100 * NSEC_PER_SEC)
#define KERNEL_TEXT 0xffffffff81000000ULL

static uint64_t state;

static uint64_t rnd(void)
{
	state += 0x9E3779B97F4A7C15ULL;
	return sb_mix64(state);
}

static int to_file(void *ctx, const void *buf, size_t len)
{
	return fwrite(buf, 1, len, ctx) == len ? 0 : -5;
}

static void header(struct bundle_writer *w)
{
	struct bundle_clock clock = { TRIGGER_NS, 1790000000000000000LL, TRIGGER_NS };
	static const char *const release[] = { "6.1.0", "6.1.0", "6.12.0", "6.16.0", "6.17.0" }; /* by locks */
	uint32_t online[] = { 0, 1, 2, 3 };
	struct bundle_kv config = { "Frequency", "99" };
	struct bundle_kv missing = { "lock contention", "no such tracepoint" };
	struct bundle_header h = {
		.producer = "make_bundle", .hostname = o.hostile ? "<b>evil</b>" : "golden",
		.machine_id_hash = "0", .boot_id = "0", .kernel_release = release[SB_MIN(o.locks, 4ul)], .kernel_version = "#1",
		.arch = "x86_64", .page_size = 4096, .cpus_possible = 4, .cpu_online = online,
		.n_cpu_online = 4, .mem_total_bytes = 1ULL << 34, .clocks = &clock, .n_clocks = 1,
		.config = &config, .n_config = 1, .missing = &missing, .n_missing = 1,
		.sample_period_ns = 10101010, .offcpu_threshold_ns = NSEC_PER_MSEC, .ring_bytes = 8 << 20,
		.trigger = { "reclaim-age", "kernel", "kernel:reclaim>500ms", "ms",
			     o.hostile ? "</text><script>alert(1)</script>\033[2J" : "tid 1 in reclaim",
			     TRIGGER_NS, o.hostile ? NAN : 512, 500, 1000 },
	};

	bundle_writer_header(w, &h);
}

static uint32_t *make_stacks(struct bundle_writer *w, uint32_t process, bool kernel)
{
	uint32_t *ids = calloc(o.stacks, sizeof(*ids));

	for (unsigned long i = 0; ids && i < o.stacks; i++) {
		uint64_t addr[24];
		uint32_t n = 5 + (uint32_t)(rnd() % 18);
		struct bundle_stack s = { addr, n, kernel ? 0 : process, kernel ? 1 : 2 };

		for (uint32_t k = 0; k < n; k++)
			addr[k] = kernel ? KERNEL_TEXT + 0x100 * (rnd() % 512) :
					   0x400000 + 0x100 * (rnd() % 512);
		ids[i] = bundle_writer_stack(w, rnd() | 1, &s);
	}
	return ids;
}

static void symbols(struct bundle_writer *w, uint32_t binary, uint64_t base, const char *prefix)
{
	struct bundle_symbol sym[512];
	char names[512][128];

	for (int i = 0; i < 512; i++) {
		if (o.hostile == 2 && i % 5 == 0)
			snprintf(names[i], sizeof(names[i]), "%d]]></script><script>pwned=1</script><img src=x onerror=pwned=1>", i);
		else
			snprintf(names[i], sizeof(names[i]), o.hostile && i % 7 == 0 ? "%s<script>'\"%d;\033[31m\xef\xbf\xbf" :
			 "%s_%d", prefix, i);
		sym[i] = (struct bundle_symbol){ base + 0x100u * (unsigned int)i,
						 base + 0x100u * (unsigned int)i, names[i], "" };
	}
	bundle_writer_symbols(w, binary, binary ? "symtab" : "kallsyms", sym, 512);
}

static void events(struct bundle_writer *w, const uint32_t *threads, const uint32_t *kernel,
		   const uint32_t *user)
{
	uint64_t *now = calloc(o.cpus, sizeof(*now));

	for (unsigned long i = 0; now && i < o.events; i++) {
		uint32_t cpu = (uint32_t)(i % o.cpus);
		uint64_t where = rnd() % o.stacks; /* a user stack and a kernel stack go together */
		struct bundle_event e = {
			.kind = o.onlycpu || i % 10 < 6 ? BUNDLE_ON_CPU : i % 10 < 9 ? BUNDLE_OFF_CPU : BUNDLE_RECLAIM,
			.cpu = cpu,
			.thread = threads[rnd() % o.threads],
			.kstack = kernel[where],
			.ustack = user[where],
		};

		now[cpu] += 10000000 + rnd() % 300000;
		e.ts_ns = 10 * NSEC_PER_SEC + now[cpu] % (100 * NSEC_PER_SEC);
		e.duration_ns = e.kind == BUNDLE_ON_CPU ? 10101010 : 1000000 + rnd() % 90000000;
		e.state = e.kind == BUNDLE_OFF_CPU ? 1 + rnd() % 2 : 0;
		e.runq_delay_ns = e.kind == BUNDLE_OFF_CPU ? rnd() % 1000000 : 0;
		e.reclaim_kind = e.kind == BUNDLE_RECLAIM ? 2 : 0;
		e.nr_reclaimed = e.kind == BUNDLE_RECLAIM ? rnd() % 64 : 0;
		e.weight = e.kind == BUNDLE_RECLAIM && i % 70 == 9 ? 4 : 0; /* sampled: stands for four */
		if (o.thinned && e.kind == BUNDLE_ON_CPU && i % 10 == 3) {
			e.weight = 4;
			e.duration_ns *= 4;
		}
		bundle_writer_event(w, &e);
	}
	free(now);
}

/* ---- locks=1 --------------------------------------------------------------------- */

static const char *const lock_names[] = { "rwsem_down_read_slowpath", "lock_mm_and_find_vma", "vm_mmap_pgoff",
					  "__vma_start_write", "handle_mm_fault", "shrink_lruvec",
					  "__mutex_lock", "filemap_fault", "unmap_region", "tlb_finish_mmu", "do_madvise" };
enum { DOWN_READ, FIND_VMA, MMAP_PGOFF, VMA_START_WRITE, MM_FAULT, SHRINK, MUTEX, FILEMAP_FAULT, UNMAP_REGION, TLB_FINISH, MADVISE };
#define LOCK_TEXT (KERNEL_TEXT + 0x100000)

static uint32_t stack_of(struct bundle_writer *w, int leaf, int caller)
{
	uint64_t addr[2] = { LOCK_TEXT + 0x100u * (unsigned int)leaf, LOCK_TEXT + 0x100u * (unsigned int)caller };
	struct bundle_stack s = { addr, 2, 0, BUNDLE_UNWIND_KERNEL };

	return bundle_writer_stack(w, 0x10c0000u + (unsigned int)(leaf * 16 + caller), &s);
}

static void lock_symbols(struct bundle_writer *w)
{
	struct bundle_symbol sym[SB_ARRAY_SIZE(lock_names)];

	for (size_t i = 0; i < SB_ARRAY_SIZE(lock_names); i++)
		sym[i] = (struct bundle_symbol){ LOCK_TEXT + 0x100u * i, LOCK_TEXT + 0x100u * i, lock_names[i], "" };
	bundle_writer_symbols(w, 0, "kallsyms", sym, SB_ARRAY_SIZE(lock_names));
}

/* mm 1: thread 0 owns mmap_lock for writing and waits for a VMA that thread 1 holds in a page
 * fault, runnable and reclaiming; threads 2 to 6 wait for mmap_lock. mm 2: readers hold it, the
 * field names thread 8, which waits itself; thread 7 is in a page fault. Thread 9 waits for
 * a mutex of thread 10. mm 3 and 4: see reader_shot(). */
#define N_SHOT 20

/* mm 3: one reader. Threads 11 and 12 are in page faults and reclaim: 11 has been there longer,
 * but may have let go of the lock to read its page; 12 cannot. mm 4: one reader, 14 and 15 both wait for
 * their pages, and the field names 15, the last to come. 13, 16 and 17 wait for the locks.
 * mm 5: nobody has the lock; 18 was woken to take it, 19 was the last reader. */
static void reader_shot(struct bundle_writer *w, const uint32_t *t, struct bundle_shot_thread *shot)
{
	uint64_t second = NSEC_PER_SEC;
	uint32_t page = stack_of(w, FILEMAP_FAULT, MM_FAULT), queue = stack_of(w, DOWN_READ, MMAP_PGOFF);

	for (unsigned int i = 11; i < 18; i++) {
		shot[i] = (struct bundle_shot_thread){
			.thread = t[i], .state = 2, .mm = i < 14 ? 3 : 4, .since_ns = TRIGGER_NS - (20 - i) * second,
			.mmap_lock = i < 14 ? 0x4000 : 0x5000, .mmap_count = 1 << 8 | 2, .mmap_owner = t[i < 14 ? 13 : 15],
			.mmap_owner_flags = BUNDLE_OWNER_KNOWN | BUNDLE_OWNER_READER, .kstack = page,
		};
		if (i == 13 || i > 15) {
			shot[i].lock = shot[i].mmap_lock;
			shot[i].lock_since_ns = shot[i].since_ns;
			shot[i].lock_flags = BUNDLE_LOCK_WRITE | BUNDLE_LOCK_MMAP;
			shot[i].kstack = queue;
		}
	}
	for (unsigned int i = 18; i < N_SHOT; i++)
		shot[i] = (struct bundle_shot_thread){
			.thread = t[i], .mm = 5, .since_ns = TRIGGER_NS - second, .mmap_lock = 0x6000, .mmap_count = 2,
			.flags = BUNDLE_SHOT_RUNNABLE, .mmap_owner = t[19],
			.mmap_owner_flags = BUNDLE_OWNER_KNOWN | BUNDLE_OWNER_READER, .kstack = page,
		};
	shot[18].lock = 0x6000;
	shot[18].lock_since_ns = TRIGGER_NS - second;
	shot[18].lock_flags = BUNDLE_LOCK_WRITE | BUNDLE_LOCK_MMAP;
	shot[18].kstack = queue;
	shot[11].reclaim_since_ns = TRIGGER_NS - 8 * second;
	shot[12].flags = BUNDLE_SHOT_RUNNABLE;
	shot[12].state = 0;
	shot[12].kstack = stack_of(w, SHRINK, MM_FAULT);
	shot[12].reclaim_since_ns = TRIGGER_NS - second;
}

static void lock_shot(struct bundle_writer *w, const uint32_t *t)
{
	uint64_t second = NSEC_PER_SEC;
	struct bundle_shot_thread shot[N_SHOT] = {
		{ .thread = t[0], .state = 2, .since_ns = TRIGGER_NS - 5 * second, .mm = 1, .mmap_lock = 0x1000,
		  .mmap_owner = t[0], .mmap_owner_flags = BUNDLE_OWNER_KNOWN, .mmap_count = 1, .syscall = 10,
		  .kstack = stack_of(w, VMA_START_WRITE, MMAP_PGOFF) },
		{ .thread = t[1], .flags = BUNDLE_SHOT_RUNNABLE, .cpu = 2, .since_ns = TRIGGER_NS - second, .mm = 1,
		  .mmap_lock = 0x1000, .mmap_owner = t[0], .mmap_owner_flags = BUNDLE_OWNER_KNOWN,
		  .kstack = stack_of(w, SHRINK, MM_FAULT), .reclaim_since_ns = TRIGGER_NS - 6 * second,
		  .nr_scanned = 100000, .nr_reclaimed = 3 },
	};

	for (int i = 2; i < 7; i++)
		shot[i] = (struct bundle_shot_thread){
			.thread = t[i], .state = 2, .since_ns = TRIGGER_NS - (unsigned int)i * second, .mm = 1,
			.mmap_lock = 0x1000, .mmap_owner = t[0], .mmap_owner_flags = BUNDLE_OWNER_KNOWN,
			.lock = 0x1000, .lock_since_ns = TRIGGER_NS - (unsigned int)i * second,
			.lock_flags = BUNDLE_LOCK_READ | BUNDLE_LOCK_MMAP, .kstack = stack_of(w, DOWN_READ, FIND_VMA),
		};
	shot[7] = (struct bundle_shot_thread){ .thread = t[7], .state = 2, .since_ns = TRIGGER_NS - 9 * second, .mm = 2,
					       .mmap_lock = 0x2000, .kstack = stack_of(w, MM_FAULT, MM_FAULT) };
	/* No lock tracepoint on this one's kernel: the stack says what it waits for. */
	shot[8] = (struct bundle_shot_thread){ .thread = t[8], .state = 2, .since_ns = TRIGGER_NS - 2 * second, .mm = 2,
					       .mmap_lock = 0x2000, .mmap_owner = t[8],
					       .mmap_owner_flags = BUNDLE_OWNER_KNOWN | BUNDLE_OWNER_READER,
					       .kstack = stack_of(w, DOWN_READ, FIND_VMA) };
	shot[9] = (struct bundle_shot_thread){ .thread = t[9], .state = 2, .lock = 0x3000,
					       .lock_since_ns = TRIGGER_NS - second, .lock_flags = BUNDLE_LOCK_MUTEX,
					       .lock_owner = t[10], .lock_owner_flags = BUNDLE_OWNER_KNOWN,
					       .kstack = stack_of(w, MUTEX, MUTEX) };
	shot[10] = (struct bundle_shot_thread){ .thread = t[10], .flags = BUNDLE_SHOT_RUNNING, .cpu = 2 };
	if (o.locks > 1) {
		shot[0].kstack = stack_of(w, MMAP_PGOFF, MMAP_PGOFF);
		shot[0].lock = 0x9000;
		shot[0].lock_since_ns = shot[0].since_ns;
		shot[0].lock_flags = BUNDLE_LOCK_WRITE;
		shot[0].lock_owner = t[1];
		shot[0].lock_owner_flags = BUNDLE_OWNER_KNOWN | BUNDLE_OWNER_READER;
	}
	reader_shot(w, t, shot);
	if (o.locks > 1) {
		/* No page fault, but a writer that went on as a reader; and a reader that lost the CPU
		 * when it had just taken the lock. */
		shot[14].kstack = stack_of(w, UNMAP_REGION, UNMAP_REGION);
		shot[19].kstack = stack_of(w, FIND_VMA, FIND_VMA);
		shot[18].mmap_count = shot[19].mmap_count = 1 << 8 | 2;
		shot[18].flags = 0;
		shot[18].state = 2;
	}
	if (o.locks > 2) {
		/* Beside 12 in its page fault 11 frees pages, on its way out of madvise() for a moment. */
		shot[11].kstack = stack_of(w, TLB_FINISH, MADVISE);
		shot[11].flags = BUNDLE_SHOT_RUNNABLE;
		shot[11].state = 0;
		shot[11].reclaim_since_ns = 0;
		shot[11].since_ns = TRIGGER_NS - NSEC_PER_MSEC;
	}
	bundle_writer_stackshot(w, TRIGGER_NS, TRIGGER_NS + 1000000, shot, N_SHOT, N_SHOT, 0);
}

static void one_of_each(struct bundle_writer *w, const uint32_t *t)
{
	struct bundle_event e[] = {
		{ .kind = BUNDLE_LOCK_WAIT, .duration_ns = 5000000, .addr = 0x3000, .detail = BUNDLE_LOCK_MUTEX,
		  .owner_flags = BUNDLE_OWNER_KNOWN, .peer = t[1] },
		{ .kind = BUNDLE_WAKEUP, .duration_ns = 20000000, .peer = t[2] },
		{ .kind = BUNDLE_LOCK_HOLD, .duration_ns = 300000000, .addr = 0x1000, .cpu_time_ns = 1000000,
		  .detail = BUNDLE_LOCK_WRITE | BUNDLE_LOCK_MMAP, .nvcsw = 3, .nivcsw = 4, .reclaims = 5,
		  .nr_scanned = 100, .nr_reclaimed = 6 },
		{ .kind = BUNDLE_SYSCALL, .duration_ns = 400000000, .syscall = 1, .arg0 = 3, .arg1 = 4096,
		  .name = bundle_writer_string(w, "memory.stat"), .detail = BUNDLE_SYSCALL_OPEN | BUNDLE_SYSCALL_SAMPLED },
		{ .kind = BUNDLE_SOFTIRQ, .duration_ns = 100000, .delay_ns = 90000000, .detail = 3 },
		{ .kind = BUNDLE_BLOCK_IO, .duration_ns = 30000000, .bytes = 4096, .detail = 1,
		  .name = bundle_writer_string(w, "254:0") },
		{ .kind = BUNDLE_OOM, .peer = t[3] },
		{ .kind = BUNDLE_SLAB, .duration_ns = 7000000, .slab_freed = 12, .nr_scanned = 34,
		  .name = bundle_writer_string(w, "sb-ext4:vda1") },
		{ .kind = BUNDLE_HARDIRQ, .duration_ns = 6000000, .detail = 27,
		  .name = bundle_writer_string(w, "virtio0-input") },
	};

	for (size_t i = 0; i < SB_ARRAY_SIZE(e); i++) {
		e[i].thread = t[0];
		e[i].ts_ns = TRIGGER_NS + i * NSEC_PER_MSEC;
		bundle_writer_event(w, &e[i]);
	}
}

static void tail(struct bundle_writer *w, const uint32_t *threads, const uint32_t *kernel)
{
	struct bundle_shot_thread shot[17];
	struct bundle_loss loss = { BUNDLE_LOSS_OVERWRITTEN, BUNDLE_OFF_CPU, -1, 12345, "records",
				    "older than the ring reaches back" };
	struct bundle_mark mark[] = {
		{ TRIGGER_NS + NSEC_PER_SEC, "merged", "trigger 'psi' fired again" },
		{ TRIGGER_NS - 1, "sealed", "newest record of the sealed bank" },
		{ TRIGGER_NS + 2 * NSEC_PER_SEC, "no-names", "names of earlier bundles were still being looked up" },
		{ TRIGGER_NS, o.hostile ? "kind\033[5m</script><i>" : "kind", o.hostile ? "<script>alert(1)</script>\xff" : "of a later version" },
	};
	struct bundle_program_cost prog = { "sched_switch", 1000, 150000, 0 };
	struct bundle_cost cost = { .since_ns = 1, .until_ns = 2 * NSEC_PER_SEC, .program = &prog, .n_programs = 1,
				    .agent_cpu_ns = 1000000, .agent_rss_bytes = 4 << 20, .map_bytes = 64 << 20,
				    .wakeups = 10, .bytes_written = 11, .worker_cpu_ns = 12, .worker_rss_bytes = 13,
				    .bpf_time_ns = 14, .period_ns = 5 * NSEC_PER_SEC, .windows = 15,
				    .budget_ppm = 16, .limit_step = 2, .limit_changes = 18 };
	struct bundle_footer footer = { .closed_ns = 120 * NSEC_PER_SEC, .symbolized = true,
					.raw_durable_ns = TRIGGER_NS + 1, .pre_durable_ns = TRIGGER_NS + 1 };
	uint64_t ts[3] = { 1, 2, 3 };
	int64_t value[3] = { 10, 5, 20 };
	struct bundle_series series = { "psi.memory.full", "", "us", true, ts, value, 3 };

	for (int i = 0; i < 17; i++)
		shot[i] = (struct bundle_shot_thread){ .thread = threads[i % (int)o.threads], .state = 2,
						       .since_ns = TRIGGER_NS - NSEC_PER_SEC,
						       .kstack = kernel[0] };
	if (o.locks) {
		one_of_each(w, threads);
		lock_shot(w, threads);
	} else {
		bundle_writer_stackshot(w, TRIGGER_NS, TRIGGER_NS + 1000000, shot, 17, 17, 0);
	}
	bundle_writer_losses(w, 1, &loss, 1);
	bundle_writer_marks(w, mark, o.locks ? SB_ARRAY_SIZE(mark) : 1);
	bundle_writer_series(w, &series);
	bundle_writer_cost(w, &cost);
	bundle_writer_flush(w);
	symbols(w, 0, KERNEL_TEXT, "kfunc");
	symbols(w, 1, 0x1000, "ufunc");
	if (o.locks)
		lock_symbols(w);
	bundle_writer_finish(w, &footer);
}

static void arguments(int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		static const char *const keys[] = { "events", "cpus", "stacks", "threads", "seed", "hostile",
						    "locks", "onlycpu", "comms", "thinned" };
		unsigned long *fields[] = { &o.events, &o.cpus, &o.stacks, &o.threads, &o.seed, &o.hostile,
					    &o.locks, &o.onlycpu, &o.comms, &o.thinned };

		for (size_t k = 0; k < SB_ARRAY_SIZE(keys); k++) {
			size_t n = strlen(keys[k]);

			if (!strncmp(argv[i], keys[k], n) && argv[i][n] == '=')
				*fields[k] = strtoul(argv[i] + n + 1, NULL, 10);
		}
	}
}

int main(int argc, char **argv)
{
	struct bundle_writer *w;
	struct bundle_mapping map = { 0x400000, 0x100000, 0x1000, 1 };
	struct bundle_process p = { .pid = 1000, .comm = "server", .maps = &map, .n_maps = 1,
				    .map_state = BUNDLE_MAPS_READ };
	FILE *f = argc > 1 ? fopen(argv[1], "w") : NULL;
	uint32_t *threads, *kernel, *user;
	int r;

	if (!f)
		return 2;
	arguments(argc, argv);
	state = o.seed;
	if (bundle_writer_new(to_file, f, 3, &w) < 0)
		return 1;
	header(w);
	p.cgroup = bundle_writer_cgroup(w, 77, "/system.slice/server.service");
	bundle_writer_binary(w, "/usr/bin/server", "12345678901234567890", 20, 0);
	p.id = bundle_writer_process(w, &p);
	threads = calloc(o.threads, sizeof(*threads));
	for (unsigned long i = 0; threads && i < o.threads; i++) {
		char comm[32];
		struct bundle_thread t = { (uint32_t)(1000 + i), p.id, comm, p.cgroup };

		snprintf(comm, sizeof(comm), o.hostile ? "w<i>;\033[5m\xff%lu" : "worker%lu", i % o.comms);
		threads[i] = bundle_writer_thread(w, &t);
	}
	kernel = make_stacks(w, p.id, true);
	user = make_stacks(w, p.id, false);
	events(w, threads, kernel, user);
	tail(w, threads, kernel);
	r = bundle_writer_error(w);
	bundle_writer_free(w);
	free(threads);
	free(kernel);
	free(user);
	return fclose(f) || r ? 1 : 0;
}
