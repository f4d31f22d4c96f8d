// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/sideband.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* An exec storm makes half a MiB per second and CPU (measured): half a second of it. */
#define RING_BYTES (256u << 10)
/* Rounds of the reader come first in any storm but the worst; earlier wakeups cost more than they give. */
#define WAKEUP_BYTES (RING_BYTES / 2)
#define BELL_BYTES   1
/* So many rounds without a record, and the next one is waited for. */
#define QUIET_ROUNDS 5
/* A record's time is taken a little before it can be seen. */
#define SETTLE_NS NSEC_PER_MSEC
/* What says that it is from later than this from now says nothing: it would be waited for, and all that is behind it. */
#define FUTURE_NS NSEC_PER_SEC

/* Records of one CPU are in the order of their times: the kernel takes the time and the room without being
 * preempted, and no interrupt writes records of these kinds. */
struct cpu_ring {
	struct perf_event_mmap_page *page;
	uint64_t head, tail; /* of what is being read */
	uint64_t ts_ns;	     /* of the record at tail */
};

/*
 * A second event of each CPU, the bell: every record that goes into its one page wakes its reader. Nobody reads
 * them. In a storm the page is full, so nobody is woken; it is emptied when the reader is about to sleep.
 */
struct sideband {
	uint32_t n_cpus;
	struct pollfd *fd; /* rings, bells, others */
	struct cpu_ring *ring;
	struct perf_event_mmap_page **bell;
	int *bell_fd;
	uint32_t quiet; /* rounds without a record */
	bool build_ids;
	uint64_t lost;
	uint64_t now_ns; /* of this reading */
	_Alignas(8) uint8_t wrapped[UINT16_MAX + 1]; /* a record that goes over the end of its ring */
};

/* What sample_id_all puts behind every record, for SAMPLE_TID | SAMPLE_TIME. */
struct trailer {
	uint32_t pid, tid;
	uint64_t ts_ns;
};

struct mmap2_record {
	struct perf_event_header h;
	uint32_t pid, tid;
	uint64_t addr, len, pgoff;
	union {
		struct {
			uint32_t major, minor;
			uint64_t ino, generation;
		};
		struct {
			uint8_t build_id_size, reserved1;
			uint16_t reserved2;
			uint8_t build_id[20];
		};
	};
	uint32_t prot, flags;
	char path[];
};

struct task_record {
	struct perf_event_header h;
	uint32_t pid, ppid, tid, ptid;
	uint64_t time;
};

struct ksymbol_record {
	struct perf_event_header h;
	uint64_t addr;
	uint32_t len;
	uint16_t type, flags;
	char name[];
};

struct comm_record {
	struct perf_event_header h;
	uint32_t pid, tid;
};

static size_t ring_map_bytes(void)
{
	return RING_BYTES + (size_t)sysconf(_SC_PAGESIZE);
}

static size_t bell_map_bytes(void)
{
	return 2 * (size_t)sysconf(_SC_PAGESIZE);
}

/* pid -1: everybody on that CPU; cpu -1: that thread on all. */
static int open_event(pid_t pid, int cpu, bool build_ids, uint32_t wakeup_bytes)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.size = sizeof(attr),
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
		.sample_id_all = 1,
		.mmap = 1, /* executable ones; mmap_data would add the others */
		.mmap2 = 1,
		.comm = 1,
		.comm_exec = 1,
		.task = 1,
		.ksymbol = 1,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
		.build_id = build_ids,
		.watermark = 1,
		.wakeup_watermark = wakeup_bytes,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static struct perf_event_mmap_page *map_ring(int fd, size_t bytes)
{
	void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

/* Both events of a CPU. 1, 0: it is not online, or a negative errno. */
static int open_cpu(struct sideband *s, int cpu)
{
	_cleanup_close_ int fd = open_event(-1, cpu, s->build_ids, WAKEUP_BYTES), bell = -1;
	uint32_t i = s->n_cpus;

	if (fd == -EINVAL && s->build_ids) { /* 88a16a130933 ("perf: Add build id data in mmap2 event", 5.12) */
		s->build_ids = false;
		fd = open_event(-1, cpu, false, WAKEUP_BYTES);
	}
	if (fd >= 0)
		bell = open_event(-1, cpu, false, BELL_BYTES);
	if (fd == -ENODEV || (fd >= 0 && bell == -ENODEV))
		return 0; /* possible, not online */
	if (fd < 0 || bell < 0)
		return fd < 0 ? fd : bell;
	s->ring[i].page = map_ring(fd, ring_map_bytes());
	s->bell[i] = s->ring[i].page ? map_ring(bell, bell_map_bytes()) : NULL;
	if (!s->bell[i]) {
		int r = -errno;

		if (s->ring[i].page)
			munmap(s->ring[i].page, ring_map_bytes());
		return r;
	}
	s->fd[i] = (struct pollfd){ .fd = TAKE_FD(fd), .events = POLLIN };
	s->bell_fd[i] = TAKE_FD(bell);
	s->n_cpus++;
	return 1;
}

int sideband_open(uint32_t cpus, struct sideband **ret)
{
	struct sideband *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->fd = calloc(2 * cpus + SIDEBAND_OTHERS, sizeof(*s->fd));
	s->bell_fd = calloc(cpus, sizeof(*s->bell_fd));
	s->ring = calloc(cpus, sizeof(*s->ring));
	s->bell = calloc(cpus, sizeof(*s->bell));
	s->build_ids = true;
	if (!s->fd || !s->bell_fd || !s->ring || !s->bell)
		r = -ENOMEM;
	for (uint32_t cpu = 0; cpu < cpus && r >= 0; cpu++)
		r = open_cpu(s, (int)cpu);
	if (r >= 0 && !s->n_cpus)
		r = -ENODEV;
	if (r < 0) {
		sideband_close(s);
		return r;
	}
	for (uint32_t i = 0; i < s->n_cpus; i++)
		s->fd[s->n_cpus + i] = (struct pollfd){ .fd = s->bell_fd[i], .events = POLLIN };
	*ret = s;
	return 0;
}

void sideband_close(struct sideband *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->n_cpus; i++) {
		munmap(s->ring[i].page, ring_map_bytes());
		munmap(s->bell[i], bell_map_bytes());
		close(s->fd[i].fd);
		close(s->bell_fd[i]);
	}
	free(s->fd);
	free(s->bell_fd);
	free(s->ring);
	free(s->bell);
	free(s);
}

static const uint8_t *bytes_of(const struct cpu_ring *r)
{
	return (const uint8_t *)r->page + r->page->data_offset;
}

/* Headers never go over the end: records are multiples of 8 bytes, as the ring is. */
static const struct perf_event_header *header_at(const struct cpu_ring *r)
{
	return (const void *)(bytes_of(r) + (r->tail & (RING_BYTES - 1)));
}

static void copy_out(const struct cpu_ring *r, uint64_t at, void *to, size_t len)
{
	size_t off = at & (RING_BYTES - 1), first = SB_MIN(len, RING_BYTES - off);

	memcpy(to, bytes_of(r) + off, first);
	memcpy((uint8_t *)to + first, bytes_of(r), len - first);
}

static void count_lost(struct sideband *s, const struct cpu_ring *r)
{
	struct {
		struct perf_event_header h;
		uint64_t id, lost;
	} lost;

	copy_out(r, r->tail, &lost, sizeof(lost));
	s->lost += lost.lost;
}

/* Threads come and go, and change their names, more often than processes do. */
static bool is_wanted(const struct perf_event_header *h)
{
	switch (h->type) {
	case PERF_RECORD_COMM:
		return h->misc & PERF_RECORD_MISC_COMM_EXEC;
	case PERF_RECORD_MMAP2:
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
	case PERF_RECORD_KSYMBOL:
		return true;
	default:
		return false;
	}
}

/* The kernel writes no others. What is behind one of these cannot be told from its inside. */
static bool is_whole(const struct cpu_ring *r, const struct perf_event_header *h)
{
	return h->size >= sizeof(*h) + sizeof(struct trailer) && !(h->size & 7) && h->size <= r->head - r->tail;
}

static const void *record_at(struct sideband *s, const struct cpu_ring *r)
{
	const struct perf_event_header *h = header_at(r);

	if ((r->tail & (RING_BYTES - 1)) + h->size <= RING_BYTES)
		return h;
	copy_out(r, r->tail, s->wrapped, h->size);
	return s->wrapped;
}

/*
 * When the record at tail was made; false: it does not say. The trailer is its end, but for symbols: one record is written
 * to each event that asks for them, and its size grows from event to event (perf_event_ksymbol_output() does not
 * take back what perf_event_header__init_id() has added), so that the end is what was in the ring before. There the trailer is
 * behind the name, which is padded to 8 bytes.
 */
static bool time_of(struct sideband *s, const struct cpu_ring *r, uint64_t *ret)
{
	const struct perf_event_header *h = header_at(r);
	size_t at = h->size - sizeof(struct trailer);
	struct trailer t;

	if (h->type == PERF_RECORD_KSYMBOL) {
		const struct ksymbol_record *k = record_at(s, r);
		const char *end = h->size > sizeof(*k) ? memchr(k->name, '\0', h->size - sizeof(*k)) : NULL;
		size_t behind = end ? ((size_t)(end - (const char *)k) & ~(size_t)7) + 8 : SIZE_MAX;

		if (behind > at)
			return false;
		at = behind;
	}
	copy_out(r, r->tail + at, &t, sizeof(t));
	*ret = t.ts_ns;
	return t.ts_ns <= s->now_ns + FUTURE_NS;
}

/* Goes on to the next record that says something; false: no more. */
static bool advance(struct sideband *s, struct cpu_ring *r)
{
	for (; r->tail < r->head; r->tail += header_at(r)->size) {
		const struct perf_event_header *h = header_at(r);

		if (!is_whole(r, h)) {
			s->lost++;
			r->tail = r->head;
			break;
		}
		if (h->type == PERF_RECORD_LOST)
			count_lost(s, r);
		if (!is_wanted(h))
			continue;
		if (time_of(s, r, &r->ts_ns))
			return true;
		s->lost++;
	}
	return false;
}

/* The text that a record's own part ends with. */
static bool text_ends(const struct perf_event_header *h, const char *text)
{
	const char *end = (const char *)h + h->size - sizeof(struct trailer);

	return text < end && memchr(text, '\0', (size_t)(end - text));
}

static void hand_on(const uint8_t *bytes, uint64_t ts_ns, sideband_fn fn, void *ctx)
{
	const struct perf_event_header *h = (const void *)bytes;
	const struct task_record *t = (const void *)bytes;
	const struct mmap2_record *m = (const void *)bytes;
	const struct ksymbol_record *k = (const void *)bytes;
	struct sideband_event e = { .ts_ns = ts_ns };

	switch (h->type) {
	case PERF_RECORD_MMAP2:
		if (!text_ends(h, m->path) || (int32_t)m->pid <= 0)
			return;
		e.type = SIDEBAND_MAP;
		e.pid = m->pid;
		e.start = m->addr;
		e.len = m->len;
		e.offset = m->pgoff;
		e.path = m->path;
		if (h->misc & PERF_RECORD_MISC_MMAP_BUILD_ID) {
			e.build_id_len = SB_MIN(m->build_id_size, (uint8_t)sizeof(e.build_id));
			memcpy(e.build_id, m->build_id, e.build_id_len);
		} else {
			e.dev = (uint64_t)m->major << 32 | m->minor;
			e.ino = m->ino;
		}
		break;
	case PERF_RECORD_COMM:
		if (!(h->misc & PERF_RECORD_MISC_COMM_EXEC))
			return;
		e.type = SIDEBAND_EXEC;
		e.pid = ((const struct comm_record *)bytes)->pid;
		break;
	case PERF_RECORD_FORK:
		if (h->size < sizeof(*t) + sizeof(struct trailer))
			return;
		e.type = t->pid == t->ppid ? SIDEBAND_THREAD : SIDEBAND_FORK;
		e.pid = t->pid;
		e.parent = t->ppid;
		break;
	case PERF_RECORD_EXIT:
		if (h->size < sizeof(*t) + sizeof(struct trailer) || t->pid != t->tid)
			return;
		e.type = SIDEBAND_EXIT;
		e.pid = t->pid;
		break;
	case PERF_RECORD_KSYMBOL:
		if (!text_ends(h, k->name) || !(k->flags & PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER))
			return;
		e.type = SIDEBAND_KSYM_GONE;
		e.start = k->addr;
		e.len = k->len;
		e.path = k->name;
		break;
	default:
		return;
	}
	fn(&e, ctx);
}

static bool has_more(const struct sideband *s)
{
	for (uint32_t i = 0; i < s->n_cpus; i++) {
		if (__atomic_load_n(&s->ring[i].page->data_head, __ATOMIC_ACQUIRE) != s->ring[i].page->data_tail)
			return true;
	}
	return false;
}

/* From here on every record rings. */
static void arm_bells(struct sideband *s)
{
	(void)!poll(s->fd + s->n_cpus, s->n_cpus, 0); /* what has rung is over */
	for (uint32_t i = 0; i < s->n_cpus; i++)
		__atomic_store_n(&s->bell[i]->data_tail, __atomic_load_n(&s->bell[i]->data_head, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void sideband_wait(struct sideband *s, int round_ms, int idle_ms, const int others[SIDEBAND_OTHERS])
{
	struct pollfd *other = s->fd + 2 * s->n_cpus;

	if (s->quiet >= QUIET_ROUNDS)
		arm_bells(s);
	/* One that came before the bells were armed. */
	if (s->quiet < QUIET_ROUNDS || has_more(s)) {
		(void)!poll(s->fd, s->n_cpus, round_ms);
		return;
	}
	for (int i = 0; i < SIDEBAND_OTHERS; i++)
		other[i] = (struct pollfd){ .fd = others[i], .events = POLLIN };
	(void)!poll(s->fd, 2 * s->n_cpus + SIDEBAND_OTHERS, idle_ms);
}

/* The CPU with the earliest record, of those that have settled; NULL: none. Until ret_ns it stays that one. */
static struct cpu_ring *earliest(struct sideband *s, uint64_t horizon, uint64_t *ret_ns)
{
	struct cpu_ring *first = NULL;
	uint64_t next_ns = horizon;

	for (uint32_t i = 0; i < s->n_cpus; i++) {
		struct cpu_ring *r = &s->ring[i];

		if (r->tail >= r->head || r->ts_ns > horizon)
			continue;
		if (first)
			next_ns = SB_MIN(next_ns, SB_MAX(r->ts_ns, first->ts_ns));
		if (!first || r->ts_ns < first->ts_ns)
			first = r;
	}
	*ret_ns = next_ns;
	return first;
}

void sideband_read(struct sideband *s, sideband_fn fn, void *ctx)
{
	uint64_t horizon, until_ns;
	struct cpu_ring *r;

	s->now_ns = sb_monotonic_ns();
	horizon = s->now_ns - SETTLE_NS;
	s->quiet = has_more(s) ? 0 : SB_MIN(s->quiet + 1, QUIET_ROUNDS);
	for (uint32_t i = 0; i < s->n_cpus; i++) {
		r = &s->ring[i];
		r->tail = r->page->data_tail;
		r->head = __atomic_load_n(&r->page->data_head, __ATOMIC_ACQUIRE);
		advance(s, r);
	}
	while ((r = earliest(s, horizon, &until_ns))) {
		do {
			hand_on(record_at(s, r), r->ts_ns, fn, ctx);
			r->tail += header_at(r)->size;
		} while (advance(s, r) && r->ts_ns <= until_ns);
	}
	for (uint32_t i = 0; i < s->n_cpus; i++)
		__atomic_store_n(&s->ring[i].page->data_tail, s->ring[i].tail, __ATOMIC_RELEASE);
}

bool sideband_has_build_ids(const struct sideband *s)
{
	return s->build_ids;
}

uint64_t sideband_lost(const struct sideband *s)
{
	return s->lost;
}
