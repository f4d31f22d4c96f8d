// SPDX-License-Identifier: BSD-2-Clause
/*
 * Follows the rings of a living recorder and holds them to what they promise:
 *
 *   ringcheck BPFFS [SECONDS]      until SIGTERM, or for so long
 *
 * Every record is whole, at its place and true to its hashes; every hash is resolved by frames
 * written not long before; each CPU's numbers have no gap, nothing twice and none that it has not
 * given, over both banks;
 * what the CPU counts as recorded, by kind, is what is there. It maps what is pinned below
 * BPFFS/stallbox read-only, knows nothing of the recorder's reader, and outlives agents.
 * One line of JSON on standard output; exit status 1 if a promise was broken, 3: nothing pinned.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include "bpf/events.h"
#include "bpf/ring.h"
#include "format/base.h"
#include "format/map64.h"

#define MAX_CPUS 256
#define KEEP	 8  /* segments: recorder/probes.c */
#define BOUNDARY 64 /* numbers that an interrupt may take before the record that it interrupts */
#define MAX_RECORD 2048
#define STUCK_NS (2 * NSEC_PER_SEC) /* being written for longer than this is torn */

struct lane { /* one CPU's side of one bank */
	uint64_t pos, first_pos, first_seq, stuck_ns;
	bool lapped; /* something had been overwritten before we came */
};

struct follow {
	struct lane lane[SB_BANKS];
	uint64_t base; /* number of bit 0 */
	uint8_t *bits;
	uint64_t n_bits, last_seq, from; /* from: below it history may be overwritten */
	uint64_t start_seq, start_recorded[SB_KIND_SLOTS], start_lost[SB_LOST_COUNT];
	uint64_t kinds[SB_KIND_SLOTS]; /* with start_seq <= number < end_seq */
	uint64_t end_seq;
};

struct pending {
	uint64_t key, pos;
};

static const struct sb_control *control;
static const struct sb_cpu *cpus;
static const uint8_t *rings;
static uint64_t ring_bytes;
static uint32_t n_cpus;
static struct follow follow[MAX_CPUS];
static struct map64 inlined; /* stack, CPU and bank -> position of its last frames + 1 */
static struct pending *pending;
static size_t n_pending, cap_pending;
static struct {
	uint64_t records, gaps, duplicates, not_given, torn, bad_hash, unresolved, overrun, inversions, miscounted,
		seg_first;
} found;
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static const void *map_pin(const char *bpffs, const char *name, struct bpf_map_info *info)
{
	char path[300];
	uint32_t len = sizeof(*info);
	size_t size;
	int fd;
	void *m;

	snprintf(path, sizeof(path), "%s/stallbox/%s", bpffs, name);
	fd = bpf_obj_get(path); /* a read-only one cannot be mapped shared */
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, info, &len) < 0) {
		fprintf(stderr, "error: cannot open '%s': %s\n", path, strerror(errno));
		exit(3);
	}
	size = ((size_t)info->value_size + 7) / 8 * 8 * info->max_entries;
	m = mmap(NULL, (size + 4095) & ~4095UL, PROT_READ, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED) {
		fprintf(stderr, "error: cannot map '%s': %s\n", path, strerror(errno));
		exit(1);
	}
	return m;
}

static void note_number(struct follow *f, uint64_t seq, uint8_t kind)
{
	uint64_t bit, cap;

	if (!f->bits)
		f->base = seq > 4096 ? seq - 4096 : 0;
	if (seq < f->base)
		return; /* older than anything that is compared */
	bit = seq - f->base;
	if (bit >= f->n_bits) {
		cap = (bit + 1) * 2 + 65536;
		f->bits = realloc(f->bits, cap);
		if (!f->bits)
			exit(1);
		memset(f->bits + f->n_bits, 0, cap - f->n_bits);
		f->n_bits = cap;
	}
	if (f->bits[bit])
		found.duplicates++;
	f->bits[bit] = kind; /* kinds begin at 1 */
	if (seq < f->last_seq)
		found.inversions++;
	if (seq > f->last_seq)
		f->last_seq = seq;
}

static uint64_t hash_frames(uint64_t h, const uint64_t *frame, unsigned int n)
{
	while (n--)
		h = sb_hash_step(h, *frame++);
	return h;
}

static void note_stack(uint32_t lane, struct lane *l, uint64_t pos, uint64_t hash, const uint64_t *frame,
		       unsigned int n, uint64_t seed)
{
	uint64_t key = sb_mix64(hash ^ sb_mix64(lane + 1)) | 1, at;

	if (!hash) {
		found.bad_hash += n != 0;
		return;
	}
	if (n) {
		found.bad_hash += hash_frames(seed, frame, n) != hash;
		map64_put(&inlined, key, pos + 1);
		return;
	}
	at = map64_get(&inlined, key);
	if (at && (at - 1) >> SB_SEG_SHIFT >= (pos >> SB_SEG_SHIFT) - SB_MIN(pos >> SB_SEG_SHIFT, KEEP + 1ULL))
		return;
	if (l->lapped && pos >> SB_SEG_SHIFT <= (l->first_pos >> SB_SEG_SHIFT) + KEEP)
		return; /* the frames were overwritten before we came */
	if (n_pending == cap_pending) {
		cap_pending = cap_pending * 2 + 1024;
		pending = realloc(pending, cap_pending * sizeof(*pending));
		if (!pending)
			exit(1);
	}
	pending[n_pending++] = (struct pending){ key, pos };
}

/* What an interrupt named before the frames were committed: they follow at once. */
static void resolve_pending(void)
{
	for (size_t i = 0; i < n_pending; i++) {
		uint64_t at = map64_get(&inlined, pending[i].key);

		found.unresolved += !at || at - 1 < pending[i].pos;
	}
	n_pending = 0;
}

/* The number is 32 bits wide; the CPU's own count, which is above it, tells the rest. UINT64_MAX: the
 * CPU has not given this number. */
static uint64_t full_number(uint32_t cpu, uint32_t seq)
{
	uint64_t now = __atomic_load_n(&cpus[cpu].seq, __ATOMIC_ACQUIRE);
	uint64_t full = (now & ~0xffffffffULL) | seq;

	if (full < now)
		return full;
	return full >= 1ULL << 32 ? full - (1ULL << 32) : UINT64_MAX;
}

/* 1: a whole record was taken, 0: it is not there yet, -1: this lane cannot go on. */
static int take_record(uint32_t cpu, uint32_t bank, uint64_t head)
{
	struct follow *f = &follow[cpu];
	struct lane *l = &f->lane[bank];
	const uint8_t *ring = rings + ((size_t)bank * n_cpus + cpu) * (ring_bytes + SB_RING_SLACK);
	const struct sb_bank *b = &cpus[cpu].bank[bank];
	uint64_t copy[MAX_RECORD / 8], end, number;
	const struct sb_rec *r = (const void *)copy;
	const uint64_t *frames;

	memcpy(copy, ring + (l->pos & (ring_bytes - 1)), sizeof(copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&b->head, __ATOMIC_ACQUIRE) - l->pos > ring_bytes - SB_SEG_BYTES) {
		found.overrun++; /* we are too slow: nothing is said about the recorder */
		return -1;
	}
	if (r->pos != (uint32_t)(l->pos >> 3) || (r->flags & SB_REC_BUSY))
		return 0;
	if (r->len != sizeof(*r) + 8u * ((unsigned int)r->np + r->nk + r->nu) || r->len > head - l->pos ||
	    !r->kind || r->kind >= SB_KIND_COUNT || r->np > SB_PAYLOAD_WORDS || r->nk > SB_KFRAMES ||
	    r->nu > SB_UFRAMES)
		return 0;
	frames = (const uint64_t *)(r + 1) + r->np;
	note_stack(cpu * SB_BANKS + bank, l, l->pos, r->kstack, frames, r->nk, SB_HASH_KERNEL);
	note_stack(cpu * SB_BANKS + bank, l, l->pos, r->ustack, frames + r->nk, r->nu, SB_HASH_USER(r->tgid));
	number = full_number(cpu, r->seq);
	if (l->first_seq == UINT64_MAX)
		l->first_seq = number;
	if (number == UINT64_MAX)
		found.not_given++;
	else
		note_number(f, number, r->kind);
	end = l->pos + r->len;
	if (end >> SB_SEG_SHIFT != l->pos >> SB_SEG_SHIFT &&
	    b->seg_first[(end >> SB_SEG_SHIFT) & ((ring_bytes >> SB_SEG_SHIFT) - 1)] != end)
		found.seg_first++;
	found.records++;
	l->pos = end;
	l->stuck_ns = 0;
	return 1;
}

static void follow_lane(uint32_t cpu, uint32_t bank)
{
	struct lane *l = &follow[cpu].lane[bank];
	uint64_t head = __atomic_load_n(&cpus[cpu].bank[bank].head, __ATOMIC_ACQUIRE), now;
	int r = 1;

	while (l->pos < head && r > 0)
		r = take_record(cpu, bank, head);
	if (l->pos >= head)
		return;
	now = sb_monotonic_ns();
	if (r == 0 && (!l->stuck_ns || now - l->stuck_ns < STUCK_NS)) {
		l->stuck_ns = l->stuck_ns ? l->stuck_ns : now;
		return;
	}
	if (r == 0) {
		const struct sb_rec *rec = (const void *)(rings + ((size_t)bank * n_cpus + cpu) *
			(ring_bytes + SB_RING_SLACK) + (l->pos & (ring_bytes - 1)));

		found.torn++;
		fprintf(stderr, "cpu %u bank %u: no whole record at %llu (head %llu): pos %u len %u kind %u flags %u\n",
			cpu, bank, (unsigned long long)l->pos, (unsigned long long)head, rec->pos, rec->len,
			rec->kind, rec->flags);
	}
	l->pos = head;
	l->stuck_ns = 0;
}

/* Where the oldest whole segment begins that is not about to be overwritten. */
static void begin_lane(uint32_t cpu, uint32_t bank)
{
	const struct sb_bank *b = &cpus[cpu].bank[bank];
	struct lane *l = &follow[cpu].lane[bank];
	uint64_t n = ring_bytes >> SB_SEG_SHIFT, last = b->head >> SB_SEG_SHIFT, segment = 0;

	if (last + 3 > n) {
		segment = last + 3 - n;
		l->lapped = true;
	}
	l->pos = l->first_pos = segment ? b->seg_first[segment & (n - 1)] : 0;
	l->first_seq = UINT64_MAX;
	if (segment && l->pos >> SB_SEG_SHIFT != segment) {
		fprintf(stderr, "cpu %u bank %u: nobody noted where segment %llu begins\n", cpu, bank,
			(unsigned long long)segment);
		found.torn++;
		l->pos = l->first_pos = b->head;
	}
}

/* A moment at which no record is between its number and its count. */
static bool stable_counts(uint32_t cpu, uint64_t *ret_seq, uint64_t recorded[SB_KIND_SLOTS])
{
	const struct sb_cpu *c = &cpus[cpu];

	for (int i = 0; i < 5000; i++) {
		uint64_t before = __atomic_load_n(&c->seq, __ATOMIC_SEQ_CST), sum = 0;

		for (unsigned int k = 0; k < SB_KIND_SLOTS; k++)
			sum += recorded[k] = __atomic_load_n(&c->recorded[k], __ATOMIC_SEQ_CST);
		if (sum == before && __atomic_load_n(&c->seq, __ATOMIC_SEQ_CST) == before) {
			*ret_seq = before;
			return true;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	fprintf(stderr, "cpu %u: what is recorded by kind does not add up to what has a number\n", cpu);
	return false;
}

static void check_end(uint32_t cpu)
{
	struct follow *f = &follow[cpu];
	uint64_t recorded[SB_KIND_SLOTS], gaps = 0;

	for (unsigned int b = 0; b < SB_BANKS; b++) {
		if (f->lane[b].lapped && f->lane[b].first_seq != UINT64_MAX)
			f->from = SB_MAX(f->from, f->lane[b].first_seq + BOUNDARY);
	}
	if (!stable_counts(cpu, &f->end_seq, recorded)) {
		found.miscounted++;
		return;
	}
	for (unsigned int b = 0; b < SB_BANKS; b++) {
		for (int i = 0; i < 100 && f->lane[b].pos < cpus[cpu].bank[b].head; i++) {
			follow_lane(cpu, b);
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		}
	}
	for (uint64_t seq = SB_MAX(f->from, f->base); seq < f->end_seq; seq++) {
		uint8_t kind = seq - f->base < f->n_bits ? f->bits[seq - f->base] : 0;

		if (!kind && gaps++ < 3)
			fprintf(stderr, "cpu %u: record %llu of %llu is missing\n", cpu,
				(unsigned long long)seq, (unsigned long long)f->end_seq);
		if (seq >= f->start_seq)
			f->kinds[kind]++;
	}
	found.gaps += gaps;
	for (unsigned int k = 1; k < SB_KIND_SLOTS; k++)
		found.miscounted += f->kinds[k] != recorded[k] - f->start_recorded[k];
}

static int print_result(double seconds)
{
	uint64_t kinds[SB_KIND_SLOTS] = {}, lost[SB_LOST_COUNT] = {};
	bool broken = found.gaps || found.duplicates || found.not_given || found.torn || found.bad_hash ||
		      found.unresolved || found.overrun || found.miscounted || found.seg_first;

	for (uint32_t cpu = 0; cpu < n_cpus; cpu++) {
		for (unsigned int k = 0; k < SB_KIND_SLOTS; k++)
			kinds[k] += follow[cpu].kinds[k];
		for (unsigned int k = 0; k < SB_LOST_COUNT; k++)
			lost[k] += cpus[cpu].lost[k] - follow[cpu].start_lost[k];
	}
	printf("{\"cpus\":%u,\"seconds\":%.2f,\"records\":%llu,\"gaps\":%llu,\"duplicates\":%llu,"
	       "\"not_given\":%llu,\"torn\":%llu,"
	       "\"bad_hash\":%llu,\"unresolved\":%llu,\"miscounted\":%llu,\"seg_first\":%llu,\"overrun\":%llu,"
	       "\"inversions\":%llu,\"generation\":%llu,\"new\":[", n_cpus, seconds, (unsigned long long)found.records,
	       (unsigned long long)found.gaps, (unsigned long long)found.duplicates,
	       (unsigned long long)found.not_given, (unsigned long long)found.torn,
	       (unsigned long long)found.bad_hash, (unsigned long long)found.unresolved,
	       (unsigned long long)found.miscounted, (unsigned long long)found.seg_first,
	       (unsigned long long)found.overrun, (unsigned long long)found.inversions,
	       (unsigned long long)control->generation);
	for (unsigned int k = 0; k < SB_KIND_SLOTS; k++)
		printf("%s%llu", k ? "," : "", (unsigned long long)kinds[k]);
	printf("],\"lost\":[");
	for (unsigned int k = 0; k < SB_LOST_COUNT; k++)
		printf("%s%llu", k ? "," : "", (unsigned long long)lost[k]);
	printf("],\"ok\":%s}\n", broken ? "false" : "true");
	return broken;
}

int main(int argc, char **argv)
{
	struct bpf_map_info info = {};
	uint64_t begin = sb_monotonic_ns(), limit = argc > 2 ? (uint64_t)(atof(argv[2]) * 1e9) : UINT64_MAX;

	if (argc < 2) {
		fprintf(stderr, "usage: ringcheck BPFFS [SECONDS]\n");
		return 2;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	control = map_pin(argv[1], "control", &info);
	if (control->magic != SB_CONTROL_MAGIC || control->layout_version != SB_LAYOUT_VERSION) {
		fprintf(stderr, "error: the pinned recorder has layout %u, expected %u\n", control->layout_version,
			SB_LAYOUT_VERSION);
		return 1;
	}
	memset(&info, 0, sizeof(info));
	rings = map_pin(argv[1], "rings", &info);
	ring_bytes = info.value_size - SB_RING_SLACK;
	n_cpus = info.max_entries / SB_BANKS;
	memset(&info, 0, sizeof(info));
	cpus = map_pin(argv[1], "cpus", &info);
	if (n_cpus > MAX_CPUS)
		return 1;
	for (uint32_t cpu = 0; cpu < n_cpus; cpu++) {
		struct follow *f = &follow[cpu];

		memcpy(f->start_lost, cpus[cpu].lost, sizeof(f->start_lost));
		found.miscounted += !stable_counts(cpu, &f->start_seq, f->start_recorded);
		for (unsigned int b = 0; b < SB_BANKS; b++)
			begin_lane(cpu, b);
	}
	fprintf(stderr, "following %u CPUs\n", n_cpus);
	while (!stop && sb_monotonic_ns() - begin < limit) {
		for (uint32_t cpu = 0; cpu < n_cpus; cpu++) {
			for (unsigned int b = 0; b < SB_BANKS; b++)
				follow_lane(cpu, b);
		}
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	for (uint32_t cpu = 0; cpu < n_cpus; cpu++)
		check_end(cpu);
	resolve_pending();
	return print_result((double)(sb_monotonic_ns() - begin) / 1e9);
}
