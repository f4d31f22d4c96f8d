// SPDX-License-Identifier: BSD-2-Clause
/*
 * perf's sideband records, in rings as the kernel maps them. The first byte says where in its ring a record begins, in
 * steps of 8 bytes before the ring's end. The rest are records, for two CPUs in turns, as they are: a whole number of
 * 8 bytes each, which is the one thing that is taken care of.
 */
#include "recorder/sideband.c"
#include "tests/fuzz/target.h"

#define CPUS 2
#define PAGE 4096u

static uint64_t horizon_seen;

static void take(const struct sideband_event *e, void *ctx)
{
	size_t *total = ctx;

	must(e->build_id_len <= sizeof(e->build_id), "an id fits");
	if (e->type == SIDEBAND_MAP || e->type == SIDEBAND_KSYM_GONE)
		*total += strlen(e->path); /* nobody reads on behind the record */
	horizon_seen = SB_MAX(horizon_seen, e->ts_ns);
}

static void put(struct perf_event_mmap_page *page, const uint8_t *data, size_t len)
{
	uint8_t *ring = (uint8_t *)page + PAGE;

	for (size_t i = 0; i < len; i++)
		ring[(page->data_head + i) & (RING_BYTES - 1)] = data[i];
	page->data_head += len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sideband *s = calloc(1, sizeof(*s));
	struct cpu_ring ring[CPUS] = {};
	size_t total = 0;

	if (!s || size < 1 || size > RING_BYTES / 2) {
		free(s);
		return 0;
	}
	s->n_cpus = CPUS;
	s->ring = ring;
	for (int i = 0; i < CPUS; i++) {
		struct perf_event_mmap_page *page = aligned_alloc(PAGE, PAGE + RING_BYTES);

		must(page != NULL, "memory for a ring");
		memset(page, 0, PAGE);
		page->data_offset = PAGE;
		page->data_head = page->data_tail = RING_BYTES - 8ULL * data[0];
		ring[i].page = page;
	}
	for (size_t at = 1, cpu = 0, len; at + 8 <= size; at += len, cpu++) {
		struct perf_event_header h;

		memcpy(&h, data + at, sizeof(h));
		len = SB_MIN(SB_MAX((size_t)h.size & ~7UL, (size_t)8), (size - at) & ~7UL);
		put(ring[cpu % CPUS].page, data + at, len);
	}
	sideband_read(s, take, &total);
	for (int i = 0; i < CPUS; i++) {
		must(ring[i].page->data_tail <= ring[i].page->data_head, "no more is taken than there is");
		free(ring[i].page);
	}
	free(s);
	return total == SIZE_MAX;
}
