// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/unwinder.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#ifdef SB_EH_FRAME
#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "format/log.h"
#include "recorder/privileges.h"
#include "recorder/unwinder_impl.h"

/* Where nothing happens: tables that went and are walked through again are asked for so late. */
#define IDLE_MS 10000
/* One that has lived so long worked; others wait, to twice as long each time. */
#define LIVED_NS (60 * NSEC_PER_SEC)
#define AGAIN_NS NSEC_PER_SEC
#define AGAIN_MAX_NS (300 * NSEC_PER_SEC)

/* ---- answers for those who give names ---------------------------------------------------- */

static void each_image(const void *of, image_fn fn, void *ctx)
{
	mappings_each(((const struct keeper *)of)->mappings, fn, ctx);
}

static bool file_known(const void *of, uint32_t i, struct known_file *ret, const char **ret_path)
{
	const struct mapped_file *f = mappings_file_at(((const struct keeper *)of)->mappings, i);
	const struct unwind_key *key;

	if (!f)
		return false;
	*ret_path = f->path ? f->path : "";
	key = f->key.build_id ? &f->key : &f->found;
	ret->dev = f->dev;
	ret->ino = f->ino;
	ret->id_len = key->build_id ? SB_MIN(key->len, (uint8_t)sizeof(ret->id)) : 0;
	memcpy(ret->id, key->id, ret->id_len);
	return true;
}

static void serve(struct keeper *k)
{
	struct known_source source = {
		.each_image = each_image,
		.of = k,
		.n_files = MAPPINGS_FILES,
		.file = file_known,
		.ksym = k->ksym,
		.n_ksyms = SB_MIN(k->n_ksyms, KSYMS),
	};

	known_serve(k->ask, &source);
}

/* ---- the process ------------------------------------------------------------------------ */

static void tell(struct keeper *k)
{
	struct mappings_stats m = mappings_stats(k->mappings);
	struct unwind_cache_stats c = unwind_cache_stats(k->cache);
	struct unwinder_stats *s = k->stats;

	s->processes = m.processes;
	s->mappings = m.mappings;
	s->files = m.files;
	s->not_kept = m.evicted + k->cut;
	s->ksyms = k->n_ksyms;
	s->past = m.past;
	s->forgotten = m.forgotten;
	s->tables = c.tables;
	s->table_bytes = c.bytes;
	s->table_max_bytes = c.max_bytes;
	s->evicted = c.evicted;
	s->refused = c.refused;
	s->lost = sideband_lost(k->sideband);
	s->scanning = __atomic_load_n(&k->scanning, __ATOMIC_ACQUIRE);
	s->loading = unwinder_queue_length(&k->to_load);
	s->cpu_ns = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static int commit_slots(void *ctx, uint32_t first, uint32_t n)
{
	struct keeper *k = ctx;
	int r;

	for (uint32_t i = first >> SB_UNWIND_PIECE_BITS; i <= (first + n - 1) >> SB_UNWIND_PIECE_BITS; i++) {
		if (k->piece[i])
			continue;
		r = probes_grow_unwind(k->probes, k->slots, i);
		if (r < 0)
			return r;
		k->piece[i] = true;
		k->stats->room_bytes += SB_UNWIND_PIECE_SLOTS * sizeof(uint64_t);
	}
	return 0;
}

static int keeper_init(struct keeper *k, const struct probes *p)
{
	struct unwind_arena arena = {
		.slots = probes_reserve_unwind(p),
		.n_slots = p->cfg.unwind_slots,
		.tables = probes_map_unwind(p, PROBES_UNWIND_TABLES),
		.n_tables = SB_UNWIND_TABLES,
		.commit = commit_slots,
		.ctx = k,
	};
	struct mappings_memory memory = {
		.maps = probes_map_unwind(p, PROBES_UNWIND_MAPS),
		.procs = probes_map_unwind(p, PROBES_UNWIND_PROCS),
	};
	pthread_t thread;
	int r;

	k->wanted = probes_map_unwind(p, PROBES_UNWIND_WANTED);
	if (!arena.slots || !arena.tables || !memory.maps || !memory.procs || !k->wanted)
		return -ENOMEM;
	k->found = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->found < 0)
		return -errno;
	k->probes = p;
	k->slots = arena.slots;
	unwinder_queue_init(&k->to_load);
	unwinder_queue_init(&k->loaded);
	unwinder_queue_init(&k->to_scan);
	unwinder_queue_init(&k->scanned);
	r = unwind_cache_new(&arena, &k->cache);
	if (r == 0)
		r = mappings_new(&memory, &k->mappings);
	if (r == 0)
		r = sideband_open(p->cfg.cpus, &k->sideband);
	privileges_become(PRIVILEGES_CAPTURES); /* before there are threads */
	if (r < 0)
		return r;
	k->stats->build_ids = sideband_has_build_ids(k->sideband);
	unwinder_load_vdso(k);
	k->readers = (struct readers){ .take = unwinder_take_job, .work = unwinder_do_job, .ctx = k };
	if (readers_start(&k->readers) < 0 || pthread_create(&thread, NULL, unwinder_scanner, k) != 0)
		return -EAGAIN;
	k->scanning = true;
	k->stats->scanning = 1;
	unwinder_order_scan(k, 0, 0);
	return 0;
}

static void keeper_main(struct keeper *k)
{
	const int others[SIDEBAND_OTHERS] = { k->ask, k->found };

	for (;;) {
		uint64_t now, n;

		sideband_wait(k->sideband, ROUND_MS, IDLE_MS, others);
		(void)!read(k->found, &n, sizeof(n));
		k->now_ns = sb_monotonic_ns();
		sideband_read(k->sideband, unwinder_take_event, k);
		now = sb_monotonic_ns();
		unwinder_take_scanned(k);
		unwinder_take_loaded(k);
		unwinder_take_wanted(k, now);
		mappings_publish(k->mappings, now);
		serve(k);
		unwinder_repair(k, now);
		if (now - k->second_ns >= NSEC_PER_SEC) {
			k->second_ns = now;
			unwind_cache_tick(k->cache);
			k->stats->hanging = readers_watch(&k->readers, now, &k->stats->stuck);
		}
		tell(k);
	}
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* What the agent has open must end when the agent closes it: a link whose program is to stop, a socket whose
 * peer waits for the end. */
static void close_all_but(int *keep, size_t n)
{
	unsigned int first = 3;

	qsort(keep, n, sizeof(*keep), compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)first)
			continue;
		if (keep[i] > (int)first)
			close_range(first, (unsigned int)keep[i] - 1, 0);
		first = (unsigned int)keep[i] + 1;
	}
	close_range(first, ~0U, 0);
}

static void keep_own_files(const struct probes *p, int ask)
{
	int keep[PROBES_UNWIND_MAPS_COUNT + 1];

	memcpy(keep, p->unwind_fd, sizeof(p->unwind_fd));
	keep[PROBES_UNWIND_MAPS_COUNT] = ask;
	close_all_but(keep, SB_ARRAY_SIZE(keep));
}

static int start_process(const struct probes *p, struct unwinder *u)
{
	struct sched_param other = {};
	static struct keeper keeper;
	pid_t agent = getpid(), pid = fork();
	sigset_t none;
	int r;

	u->begun_ns = sb_monotonic_ns();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		privileges_become(PRIVILEGES_SIDEBAND);
		prctl(PR_SET_NAME, "stallbox-unwind");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != agent)
			_exit(1);
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		signal(SIGTERM, SIG_DFL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		sched_setscheduler(0, SCHED_OTHER, &other); /* reading tables is nothing urgent */
		keep_own_files(p, u->ask[1]);
		keeper.stats = u->stats;
		keeper.ask = u->ask[1];
		r = keeper_init(&keeper, p);
		if (r == 0)
			keeper_main(&keeper);
		u->stats->error = r;
		_exit(1);
	}
	u->pid = pid;
	return 0;
}

int unwinder_start(const struct probes *p, struct unwinder *ret)
{
	struct unwinder_stats *stats;

	*ret = (struct unwinder){ .ask = { -1, -1 } };
	if (p->cfg.user_unwind != SB_USER_UNWIND_EH_FRAME)
		return 0;
	stats = mmap(NULL, sizeof(*stats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stats == MAP_FAILED)
		return -errno;
	ret->stats = stats;
	/* Both ends stay open here: another process answers when this one ends. */
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ret->ask) < 0)
		log_warn("names of processes that end will be missing: %s", strerror(errno));
	return start_process(p, ret);
}

/* One that ends soon after its beginning will again: forking must not become the agent's work. */
static void plan_next(struct unwinder *u, uint64_t now)
{
	bool soon = now - u->begun_ns < LIVED_NS;

	u->wait_ns = !soon ? 0 : u->wait_ns ? SB_MIN(2 * u->wait_ns, AGAIN_MAX_NS) : AGAIN_NS;
	u->again_ns = now + u->wait_ns;
}

enum unwinder_news unwinder_check(const struct probes *p, struct unwinder *u)
{
	uint64_t now = sb_monotonic_ns();
	struct unwinder_stats *s = u->stats;

	if (!s || (u->pid > 0 && waitpid(u->pid, NULL, WNOHANG) == 0))
		return UNWINDER_SAME;
	if (u->pid > 0) {
		*s = (struct unwinder_stats){ .restarts = s->restarts, .error = s->error, .waiting = 1 };
		u->pid = 0;
		plan_next(u, now);
		if (u->wait_ns)
			return UNWINDER_ENDED;
	}
	if (now < u->again_ns)
		return UNWINDER_SAME;
	*s = (struct unwinder_stats){ .restarts = s->restarts + 1 };
	if (start_process(p, u) == 0)
		return UNWINDER_BEGINS;
	s->waiting = 1;
	s->error = -EAGAIN;
	plan_next(u, now);
	return UNWINDER_ENDED;
}

#else

int unwinder_start(const struct probes *p, struct unwinder *ret)
{
	(void)p;
	*ret = (struct unwinder){ .ask = { -1, -1 } };
	return 0;
}

enum unwinder_news unwinder_check(const struct probes *p, struct unwinder *u)
{
	(void)p;
	(void)u;
	return UNWINDER_SAME;
}

#endif

void unwinder_stop(struct unwinder *u)
{
	for (int i = 0; i < 2; i++) {
		if (u->ask[i] >= 0)
			close(u->ask[i]);
		u->ask[i] = -1;
	}
	if (u->pid <= 0)
		return;
	kill(u->pid, SIGKILL);
	waitpid(u->pid, NULL, 0);
	u->pid = 0;
}
