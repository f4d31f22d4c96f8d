// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/unwinder.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#ifdef SB_EH_FRAME
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "format/log.h"
#include "recorder/known.h"
#include "recorder/mappings.h"
#include "recorder/privileges.h"
#include "recorder/readers.h"
#include "recorder/sideband.h"
#include "symbols/symbols.h"

/* How late a new process or library may be known: its stacks are walked by frame pointers before. */
#define ROUND_MS 50
/* Where nothing happens: tables that went and are walked through again are asked for so late. */
#define IDLE_MS 2000
#define SCAN_TIMEOUT_MS 200
#define SCAN_MAPS (int)MAPPINGS_PER_PROCESS
#define SCAN_AGAIN 5
#define QUEUE 4096u
/* A file that could not be read, or was evicted and is missed, is tried again so often. */
#define RETRY_NS (5 * NSEC_PER_SEC)
#define RESCAN_NS (2 * NSEC_PER_SEC)
/* One that has lived so long worked; others wait, to twice as long each time. */
#define LIVED_NS (60 * NSEC_PER_SEC)
#define AGAIN_NS NSEC_PER_SEC
#define AGAIN_MAX_NS (300 * NSEC_PER_SEC)
#define KSYMS 1024u /* BPF programs that went; older ones are forgotten */

struct load_job {
	uint32_t file, pid;
	struct unwind_key key;
	struct process_map map;
};

struct load_result {
	uint32_t file;
	int error;
	struct unwind_key key;
	struct unwind_rows rows;
};

struct scan_result {
	uint32_t pid, tries;
	uint64_t ts_ns;
	int n; /* or a negative errno */
	uint32_t more; /* mappings that there was no room for */
	struct process_map maps[];
};

struct queue {
	void *item[QUEUE];
	uint32_t head, tail;
	pthread_mutex_t lock;
	pthread_cond_t filled;
};

struct keeper {
	const struct probes *probes;
	struct unwinder_stats *stats;
	struct sb_unwind_wanted *wanted;
	struct mappings *mappings;
	struct sideband *sideband;
	struct unwind_cache *cache;
	struct queue to_load, loaded, to_scan, scanned;
	struct readers readers;
	uint32_t vdso; /* file */
	uint64_t *slots;
	bool piece[SB_UNWIND_PIECES]; /* of slots, that are there */
	uint64_t now_ns; /* of this round */
	uint64_t lost_seen, rescan_ns, second_ns;
	uint64_t cut; /* mappings that a scan had no room for */
	bool scanning;
	int ask; /* where the storing processes ask */
	int found; /* an eventfd: a thread has a result */
	struct known_ksym ksym[KSYMS];
	uint32_t n_ksyms; /* ever; the newest KSYMS are there */
};

/* ---- queues ---------------------------------------------------------------------------- */

static void queue_init(struct queue *q)
{
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->filled, NULL);
}

static bool queue_put(struct queue *q, void *item)
{
	bool room;

	pthread_mutex_lock(&q->lock);
	room = q->head - q->tail < QUEUE;
	if (room)
		q->item[q->head++ % QUEUE] = item;
	pthread_cond_signal(&q->filled);
	pthread_mutex_unlock(&q->lock);
	return room;
}

static void *queue_take(struct queue *q, bool wait)
{
	void *item = NULL;

	pthread_mutex_lock(&q->lock);
	while (wait && q->head == q->tail)
		pthread_cond_wait(&q->filled, &q->lock);
	if (q->head != q->tail)
		item = q->item[q->tail++ % QUEUE];
	pthread_mutex_unlock(&q->lock);
	return item;
}

static uint32_t queue_length(struct queue *q)
{
	uint32_t n;

	pthread_mutex_lock(&q->lock);
	n = q->head - q->tail;
	pthread_mutex_unlock(&q->lock);
	return n;
}

/* For the first thread, which may be waiting for anything to happen. */
static void say_found(const struct keeper *k)
{
	(void)!write(k->found, &(uint64_t){ 1 }, sizeof(uint64_t));
}

/* ---- reading files ---------------------------------------------------------------------- */

static int load(const struct load_job *j, struct load_result *ret)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	_cleanup_close_ int fd = process_open_mapped(j->pid, &j->map);
	struct cfi_counts counts = {};

	if (fd < 0)
		fd = process_open_map_file(j->pid, &j->map, SCAN_TIMEOUT_MS);
	if (fd < 0)
		return fd;
	return unwind_file_load(fd, j->key.len ? &j->key : NULL, &limits, &counts, &ret->key, &ret->rows);
}

static void *take_job(void *ctx)
{
	struct keeper *k = ctx;

	return queue_take(&k->to_load, true);
}

static void do_job(void *ctx, void *job)
{
	struct load_result *result = calloc(1, sizeof(*result));
	struct keeper *k = ctx;
	struct load_job *j = job;

	if (result) {
		result->file = j->file;
		result->error = load(j, result);
		if (!queue_put(&k->loaded, result)) {
			unwind_rows_done(&result->rows);
			free(result);
		}
	}
	say_found(k);
	free(j);
}

/* A file that somebody has mapped now: known already, or to be read. */
static void want_file(struct keeper *k, uint32_t file, uint32_t pid, uint64_t start, uint64_t len, uint64_t now)
{
	struct mapped_file *f = mappings_file_at(k->mappings, file);
	struct unwind_ref ref;
	struct load_job *j;

	if (!f || f->path[0] != '/' || f->state == MAPPED_LOADING || f->state == MAPPED_READY ||
	    (f->tried_ns && now < f->tried_ns + RETRY_NS))
		return;
	if (f->key.len && unwind_cache_find(k->cache, &f->key, &ref) == 0) {
		mappings_file_ready(k->mappings, file, &ref);
		return;
	}
	j = strlen(f->path) < sizeof(j->map.path) ? calloc(1, sizeof(*j)) : NULL;
	f->tried_ns = now;
	if (!j) {
		k->stats->unreadable++;
		f->state = MAPPED_FAILED;
		return;
	}
	j->file = file;
	j->pid = pid;
	/* A key that we found in the file ourselves is as good. */
	j->key = f->key;
	if (f->key.build_id) {
		j->map.build_id_len = SB_MIN(f->key.len, (uint8_t)sizeof(j->map.build_id));
		memcpy(j->map.build_id, f->key.id, j->map.build_id_len);
	}
	j->map.ino = f->ino;
	j->map.start = start;
	j->map.len = len;
	strcpy(j->map.path, f->path);
	f->state = MAPPED_LOADING;
	if (!queue_put(&k->to_load, j)) {
		f->state = MAPPED_NEW;
		free(j);
	}
}

static void take_loaded(struct keeper *k)
{
	struct load_result *r;

	while ((r = queue_take(&k->loaded, false))) {
		struct mapped_file *f = mappings_file_at(k->mappings, r->file);
		struct unwind_ref ref;

		/* Another path to the same file may have been faster. */
		if (r->error == 0 && unwind_cache_find(k->cache, &r->key, &ref) < 0)
			r->error = unwind_cache_put(k->cache, &r->key, &r->rows, &ref);
		if (r->error == 0 && r->key.build_id)
			f->found = r->key;
		if (r->error == 0) {
			mappings_file_ready(k->mappings, r->file, &ref);
		} else {
			f->state = MAPPED_FAILED;
			k->stats->unreadable++;
		}
		unwind_rows_done(&r->rows);
		free(r);
	}
}

static void load_vdso(struct keeper *k)
{
	static const struct unwind_limits limits = UNWIND_LIMITS_DEFAULT;
	const void *vdso = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	struct unwind_key key = { .len = 4, .id = "vdso" };
	struct unwind_image image = {};
	struct unwind_rows rows = {};
	struct cfi_counts counts = {};
	struct unwind_ref ref;

	k->vdso = mappings_file(k->mappings, NULL, 0, 0, 0, "[vdso]");
	/* Two pages everywhere so far; what is mapped there is readable. */
	if (!vdso || unwind_image_read_memory(vdso, 2 * (size_t)sysconf(_SC_PAGESIZE), &image) < 0)
		return;
	if (unwind_rows_build(&image, &limits, &counts, &rows) == 0 &&
	    unwind_cache_put(k->cache, &key, &rows, &ref) == 0)
		mappings_file_ready(k->mappings, k->vdso, &ref);
	unwind_rows_done(&rows);
	unwind_image_done(&image);
}

/* What was evicted and is walked through again. */
static void take_wanted(struct keeper *k, uint64_t now)
{
	for (uint32_t i = 0; i < SB_UNWIND_WANTED; i++) {
		uint32_t pid = __atomic_load_n(&k->wanted[i].tgid, __ATOMIC_ACQUIRE);
		const struct mapped_vma *v;
		struct mapped_file *f;

		if (!pid)
			continue;
		v = mappings_find(k->mappings, pid, k->wanted[i].ip);
		f = v ? mappings_file_at(k->mappings, v->file) : NULL;
		if (f && f->state == MAPPED_READY && f->path[0] == '/') {
			f->state = MAPPED_NEW;
			want_file(k, v->file, pid, v->start, v->end - v->start, now);
			/* Too early: what walkers hold stays stale, and they ask again. */
			if (f->state == MAPPED_NEW)
				f->state = MAPPED_READY;
		}
		__atomic_store_n(&k->wanted[i].tgid, 0, __ATOMIC_RELEASE);
	}
}

/* ---- who is mapped where ---------------------------------------------------------------- */

/* Shared memory, where compilers at run time put code, as .NET does; a program may run from there, too, and has a
 * build-id then. */
static bool is_memory(const char *path)
{
	static const char *const names[] = { "/memfd:", "/dev/zero", "/SYSV" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		if (!strncmp(path, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

static uint32_t file_of(struct keeper *k, const uint8_t *id, size_t id_len, uint64_t dev, uint64_t ino,
			const char *path)
{
	if (path[0] == '[' && !strcmp(path, "[vdso]"))
		return k->vdso;
	/* "//anon", "[uprobes]": there is nothing to read. */
	if (path[0] != '/' || path[1] == '/' || (!id_len && !ino) || (!id_len && is_memory(path)))
		return MAPPINGS_NO_FILE;
	return mappings_file(k->mappings, id, id_len, dev, ino, path);
}

static void take_event(const struct sideband_event *e, void *ctx)
{
	struct keeper *k = ctx;
	struct known_ksym *ksym;
	uint32_t file;

	switch (e->type) {
	case SIDEBAND_MAP:
		file = file_of(k, e->build_id, e->build_id_len, e->dev, e->ino, e->path);
		mappings_add(k->mappings, e->ts_ns, e->pid, e->start, e->len, e->offset, file);
		want_file(k, file, e->pid, e->start, e->len, k->now_ns);
		break;
	case SIDEBAND_EXEC:
		mappings_exec(k->mappings, e->ts_ns, e->pid);
		break;
	case SIDEBAND_FORK:
		mappings_fork(k->mappings, e->ts_ns, e->pid, e->parent);
		break;
	case SIDEBAND_THREAD:
		mappings_thread(k->mappings, e->pid);
		break;
	case SIDEBAND_EXIT:
		mappings_exit(k->mappings, e->ts_ns, e->pid);
		break;
	case SIDEBAND_KSYM_GONE:
		ksym = &k->ksym[k->n_ksyms++ % KSYMS];
		*ksym = (struct known_ksym){ e->start, e->len, e->ts_ns, "" };
		memcpy(ksym->name, e->path, strnlen(e->path, sizeof(ksym->name) - 1));
		break;
	}
}

/* ---- scans of /proc --------------------------------------------------------------------- */

static void scan_process(struct keeper *k, uint32_t pid, uint32_t tries)
{
	struct process_map *maps = malloc(SCAN_MAPS * sizeof(*maps));
	struct scan_result *r;
	uint64_t begin = sb_monotonic_ns();
	uint32_t more = 0;
	int n;

	if (!maps)
		return;
	n = process_maps_read(pid, SCAN_TIMEOUT_MS, maps, SCAN_MAPS);
	if (n > SCAN_MAPS) {
		more = (uint32_t)(n - SCAN_MAPS);
		n = SCAN_MAPS;
	}
	r = malloc(sizeof(*r) + (size_t)SB_MAX(n, 0) * sizeof(*maps));
	if (r) {
		*r = (struct scan_result){ .pid = pid, .tries = tries, .ts_ns = begin, .n = n, .more = more };
		memcpy(r->maps, maps, (size_t)SB_MAX(n, 0) * sizeof(*maps));
	}
	free(maps);
	/* The other side empties it every round. */
	while (r && !queue_put(&k->scanned, r))
		usleep(ROUND_MS * 1000);
}

static void scan_all(struct keeper *k)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (isdigit((unsigned char)e->d_name[0]))
			scan_process(k, (uint32_t)strtoul(e->d_name, NULL, 10), 0);
	}
	if (d)
		closedir(d);
}

/* Orders: a pid and how often it was scanned before, or 0 for all. */
static void *scanner_main(void *arg)
{
	struct keeper *k = arg;

	for (;;) {
		uint64_t *order = queue_take(&k->to_scan, true);

		if (*order)
			scan_process(k, (uint32_t)*order, (uint32_t)(*order >> 32));
		else
			scan_all(k);
		if (!*order)
			__atomic_store_n(&k->scanning, false, __ATOMIC_RELEASE);
		say_found(k);
		free(order);
	}
	return NULL;
}

static void order_scan(struct keeper *k, uint32_t pid, uint32_t tries)
{
	uint64_t *order = malloc(sizeof(*order));

	if (!order)
		return;
	*order = (uint64_t)tries << 32 | pid;
	if (!queue_put(&k->to_scan, order))
		free(order);
}

static void take_scanned(struct keeper *k)
{
	struct scan_result *r;

	while ((r = queue_take(&k->scanned, false))) {
		if (r->n < 0 && r->n != -ESRCH) {
			k->stats->scan_failed++;
		} else if (r->n > 0 && !mappings_rescan(k->mappings, r->ts_ns, r->pid)) {
			if (r->tries < SCAN_AGAIN)
				order_scan(k, r->pid, r->tries + 1);
			else
				k->stats->scan_failed++;
		} else if (r->n > 0) {
			k->stats->scanned++;
			k->cut += r->more;
			for (int i = 0; i < r->n; i++) {
				const struct process_map *m = &r->maps[i];
				uint32_t file = file_of(k, NULL, 0, m->dev, m->ino, m->path);

				mappings_add(k->mappings, r->ts_ns, r->pid, m->start, m->len, m->pgoff, file);
				want_file(k, file, r->pid, m->start, m->len, k->now_ns);
			}
		}
		free(r);
	}
}

/* What was lost may have been anybody's mapping: look at everybody again, some time after a storm. */
static void repair(struct keeper *k, uint64_t now)
{
	uint64_t lost = sideband_lost(k->sideband);

	if (lost == k->lost_seen || now < k->rescan_ns || __atomic_load_n(&k->scanning, __ATOMIC_ACQUIRE))
		return;
	k->lost_seen = lost;
	k->rescan_ns = now + RESCAN_NS;
	k->stats->rescans++;
	__atomic_store_n(&k->scanning, true, __ATOMIC_RELEASE);
	order_scan(k, 0, 0);
}

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
	s->loading = queue_length(&k->to_load);
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
	queue_init(&k->to_load);
	queue_init(&k->loaded);
	queue_init(&k->to_scan);
	queue_init(&k->scanned);
	r = unwind_cache_new(&arena, &k->cache);
	if (r == 0)
		r = mappings_new(&memory, &k->mappings);
	if (r == 0)
		r = sideband_open(p->cfg.cpus, &k->sideband);
	privileges_become(PRIVILEGES_CAPTURES); /* before there are threads */
	if (r < 0)
		return r;
	k->stats->build_ids = sideband_has_build_ids(k->sideband);
	load_vdso(k);
	k->readers = (struct readers){ .take = take_job, .work = do_job, .ctx = k };
	if (readers_start(&k->readers) < 0 || pthread_create(&thread, NULL, scanner_main, k) != 0)
		return -EAGAIN;
	k->scanning = true;
	k->stats->scanning = 1;
	order_scan(k, 0, 0);
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
		sideband_read(k->sideband, take_event, k);
		now = sb_monotonic_ns();
		take_scanned(k);
		take_loaded(k);
		take_wanted(k, now);
		mappings_publish(k->mappings, now);
		serve(k);
		repair(k, now);
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
