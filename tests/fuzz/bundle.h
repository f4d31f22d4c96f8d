/* SPDX-License-Identifier: BSD-2-Clause */
/* Bundles in fuzz targets: all that the reader gives is asked for; a file is made of chunks. */
#ifndef SB_TESTS_FUZZ_BUNDLE_H
#define SB_TESTS_FUZZ_BUNDLE_H

#include "format/reader.h"
#include "tests/fuzz/target.h"
#include "tests/helpers/frame.h"

#define PUT_MAX (1u << 18) /* as much as a writer puts in a frame */

static inline void touch_stack(struct bundle *b, uint32_t id)
{
	const struct bundle_stack *s = bundle_stack(b, id);
	const struct bundle_line *line;
	const char *module;
	uint64_t offset;
	uint32_t binary;

	for (uint32_t i = 0; i < s->n; i++) {
		bundle_symbolize(b, s->process, s->addr[i], &module, &offset);
		bundle_lines(b, s->process, s->addr[i], &line);
		bundle_locate(b, s->process, s->addr[i], &binary, &offset);
	}
}

static inline int touch_event(const struct bundle_event *e, void *ctx)
{
	struct bundle *b = ctx;

	must(e->kind > 0 && e->kind < BUNDLE_KIND_COUNT, "kinds are known");
	must(e->thread <= bundle_n_threads(b) && e->peer <= bundle_n_threads(b), "threads are known");
	must(e->kstack <= bundle_n_stacks(b) && e->ustack <= bundle_n_stacks(b), "stacks are known");
	touch_stack(b, e->kstack);
	touch_stack(b, e->ustack);
	return strlen(bundle_string(b, e->name)) + strlen(bundle_thread(b, e->thread)->comm) > 1u << 30;
}

static inline void touch_tables(struct bundle *b)
{
	const struct bundle_shot_thread *shot;
	const struct bundle_series *series;
	const struct bundle_loss *losses;
	uint64_t begin, end, seen, cut;
	const struct bundle_mark *marks;
	const uint8_t *id;

	/* One more than there are: it is empty, not nothing. */
	for (uint32_t i = 0; i <= bundle_n_threads(b) + 1; i++)
		must(bundle_thread(b, i) != NULL, "a thread is one");
	for (uint32_t i = 0; i <= bundle_n_processes(b) + 1; i++)
		must(bundle_process(b, i) != NULL, "a process is one");
	for (uint32_t i = 0; i <= bundle_n_cgroups(b) + 1; i++)
		must(bundle_cgroup_path(b, i) != NULL, "a cgroup has a path");
	for (uint32_t i = 0; i <= bundle_n_binaries(b) + 1; i++)
		must(bundle_binary_path(b, i) && bundle_binary_build_id(b, i, &id) <= 32, "a binary is one");
	for (uint32_t i = 0; i <= bundle_n_stacks(b) + 1; i++)
		touch_stack(b, i);
	for (size_t i = 0, n = bundle_stackshot(b, &shot, &begin, &end, &seen, &cut); i < n; i++)
		touch_stack(b, shot[i].kstack);
	for (size_t i = 0, n = bundle_losses(b, &losses); i < n; i++)
		must(losses[i].unit && bundle_loss_name(losses[i].cause), "a loss has words");
	for (size_t i = 0, n = bundle_marks(b, &marks); i < n; i++)
		must(marks[i].text != NULL, "a mark has a text");
	for (size_t i = 0, n = bundle_series(b, &series); i < n; i++)
		must(series[i].name != NULL, "a series has a name");
}

/* Opens it if it can be opened. */
static inline void touch_bundle(const char *path)
{
	struct bundle *b = NULL;

	if (bundle_open(path, &b, NULL) < 0)
		return;
	touch_tables(b);
	bundle_each_event(b, touch_event, b);
	bundle_close(b);
}

/* A file of one frame with these plain bytes. */
static inline int file_of_frame(const void *plain, size_t size)
{
	static uint8_t packed[PUT_MAX + 4096];
	size_t n = frame_pack(packed, sizeof(packed), plain, size);

	must(!ZSTD_isError(n), "a frame of this size");
	return file_of(packed, n);
}

#endif
