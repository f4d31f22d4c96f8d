// SPDX-License-Identifier: BSD-2-Clause
/* recorder/mappings.c against what a walker would find in its memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "recorder/mappings.h"

#define MS NSEC_PER_MSEC

static struct sb_unwind_map *maps;
static struct sb_unwind_process *procs;
static struct mappings *m;
static uint64_t now;

static int setup(void **state)
{
	struct mappings_memory memory;

	(void)state;
	maps = calloc(SB_UNWIND_MAPPINGS, sizeof(*maps));
	procs = calloc(SB_UNWIND_PROCESSES, sizeof(*procs));
	memory = (struct mappings_memory){ maps, procs };
	now = sb_monotonic_ns();
	return mappings_new(&memory, &m);
}

static int teardown(void **state)
{
	(void)state;
	mappings_free(m);
	free(maps);
	free(procs);
	return 0;
}

static const struct sb_unwind_process *entry(uint32_t pid)
{
	for (uint32_t i = 0; i < SB_UNWIND_PROBES; i++) {
		const struct sb_unwind_process *e = &procs[sb_unwind_process_slot(pid, i)];

		if (e->tgid == pid)
			return e;
	}
	return NULL;
}

/* As bpf/unwind.bpf.h and unwind/walk.h look it up. */
static const struct sb_unwind_map *seen(uint32_t pid, uint64_t address)
{
	const struct sb_unwind_process *e = entry(pid);

	if (!e)
		return NULL;
	assert_int_equal(e->sequence & 1, 0);
	for (uint32_t i = 0; i < e->n; i++) {
		const struct sb_unwind_map *map = &maps[e->first + i];

		if (i)
			assert_true(map[-1].end <= map->start);
		if (address >= map->start && address < map->end)
			return map;
	}
	return NULL;
}

static uint32_t file(const char *path, uint8_t id)
{
	uint8_t build_id[20] = { id };

	return mappings_file(m, build_id, sizeof(build_id), 0, 0, path);
}

static void add(uint64_t ts, uint32_t pid, uint64_t start, uint64_t end, uint64_t offset, uint32_t f)
{
	mappings_add(m, now + ts, pid, start, end - start, offset, f);
}

static void files_are_told_apart(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	assert_int_equal(file("/a", 1), a);
	assert_int_not_equal(file("/elsewhere", 1), a); /* a copy */
	assert_int_not_equal(file("/a", 2), a);
	assert_int_equal(mappings_file(m, NULL, 0, 8, 9, "/a"), mappings_file(m, NULL, 0, 8, 9, "/a"));
	assert_int_not_equal(mappings_file(m, NULL, 0, 8, 9, "/a"), mappings_file(m, NULL, 0, 8, 10, "/a"));
	assert_int_not_equal(mappings_file(m, NULL, 0, 8, 9, "/a"), mappings_file(m, NULL, 0, 7, 9, "/a"));
}

static void mappings_come_to_be_seen(void **state)
{
	uint32_t f = file("/a", 1);
	struct unwind_ref ref = { 5, 8 };
	uint32_t tables, of_another;

	(void)state;
	add(1, 100, 0x7000, 0x9000, 0x1000, f);
	add(2, 100, 0x1000, 0x2000, 0, f);
	add(2, 101, 0x1000, 0x2000, 0, file("/b", 2));
	assert_null(entry(100));
	mappings_publish(m, now);
	tables = entry(100)->tables;
	of_another = entry(101)->tables;
	assert_int_equal(seen(100, 0x7fff)->offset, 0x1000);
	assert_int_equal(seen(100, 0x1000)->table, SB_UNWIND_NO_TABLE); /* not read yet */
	assert_null(seen(100, 0x2000));
	mappings_file_ready(m, f, &ref);
	assert_int_equal(seen(100, 0x1000)->table, 5);
	assert_int_equal(seen(100, 0x8000)->generation, 8);
	assert_int_not_equal(entry(100)->tables, tables); /* stacks walked without it are not used again */
	assert_int_equal(entry(101)->tables, of_another);
	assert_int_equal(mappings_find(m, 100, 0x8000)->file, f);
}

/* Who keeps saved stacks knows them by these counts: a number that comes again would be taken for what it was. */
static void counts_go_on_under_another_keeper(void **state)
{
	struct mappings_memory memory = { maps, procs };
	struct unwind_ref ref = { 5, 8 };
	uint32_t f = file("/a", 1), at, sequence, tables;

	(void)state;
	add(1, 100, 0x1000, 0x2000, 0, f);
	mappings_publish(m, now);
	mappings_file_ready(m, f, &ref);
	at = (uint32_t)(entry(100) - procs);
	sequence = procs[at].sequence;
	tables = procs[at].tables;
	assert_true(sequence && tables);
	mappings_free(m);
	assert_int_equal(mappings_new(&memory, &m), 0);
	assert_null(entry(100));
	assert_int_equal(procs[at].sequence & 1, 0);
	assert_true(procs[at].sequence > sequence);
	assert_int_equal(procs[at].tables, tables);
}

/* munmap() is not told: what comes later is what is there. */
static void later_ones_cut_into_earlier_ones(void **state)
{
	uint32_t a = file("/a", 1), b = file("/b", 2);

	(void)state;
	add(1, 100, 0x1000, 0x9000, 0x100000, a);
	add(2, 100, 0x3000, 0x4000, 0x5000, b);
	add(3, 100, 0x8000, 0xa000, 0, b);
	mappings_publish(m, now);
	assert_int_equal(entry(100)->n, 4);
	assert_int_equal(seen(100, 0x2fff)->offset, 0x100000);
	assert_int_equal(seen(100, 0x3000)->offset, 0x5000);
	assert_int_equal(seen(100, 0x4000)->start, 0x4000);
	assert_int_equal(seen(100, 0x4000)->offset, 0x103000);
	assert_int_equal(seen(100, 0x7fff)->end, 0x8000);
	assert_int_equal(seen(100, 0x9fff)->offset, 0);
}

static void forks_share_until_one_changes(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	add(1, 100, 0x1000, 0x2000, 0, a);
	mappings_publish(m, now);
	mappings_fork(m, now + 2, 101, 100);
	mappings_publish(m, now);
	assert_int_equal(entry(101)->first, entry(100)->first);
	assert_int_equal(mappings_stats(m).mappings, 1);
	add(3, 101, 0x5000, 0x6000, 0, a);
	mappings_publish(m, now);
	assert_non_null(seen(101, 0x1000));
	assert_non_null(seen(101, 0x5000));
	assert_null(seen(100, 0x5000));
	/* The parent's end leaves the child its own. */
	mappings_exit(m, now + 4, 100);
	mappings_publish(m, now + 60 * NSEC_PER_SEC);
	assert_non_null(seen(101, 0x1000));
}

static void exec_forgets(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	add(1, 100, 0x1000, 0x2000, 0, a);
	mappings_publish(m, now);
	mappings_exec(m, now + 2, 100);
	assert_null(entry(100));
	add(3, 100, 0x4000, 0x5000, 0, a);
	mappings_publish(m, now);
	assert_null(seen(100, 0x1000));
	assert_non_null(seen(100, 0x4000));
	assert_int_equal(entry(100)->since_ns, now + 2);
}

/* A walker takes the entry away at an exec; who gets the place then keeps it. */
static void entries_that_were_taken_are_left_alone(void **state)
{
	uint32_t a = file("/a", 1), pid = 100, other = pid + 1;

	(void)state;
	add(1, pid, 0x1000, 0x2000, 0, a);
	mappings_publish(m, now);
	((struct sb_unwind_process *)(uintptr_t)entry(pid))->tgid = 0;
	while (sb_unwind_process_slot(other, 0) != sb_unwind_process_slot(pid, 0))
		other++;
	add(2, other, 0x7000, 0x8000, 0, a);
	mappings_publish(m, now);
	mappings_exec(m, now + 3, pid);
	assert_non_null(seen(other, 0x7000));
	add(4, pid, 0x3000, 0x4000, 0, a);
	mappings_publish(m, now);
	assert_non_null(seen(other, 0x7000));
	assert_non_null(seen(pid, 0x3000));
}

static void scans_and_events_agree_by_time(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	/* Events after the scan began: it may lack them. */
	add(10, 100, 0x1000, 0x2000, 0, a);
	assert_false(mappings_rescan(m, now + 5, 100));
	/* A scan later than they: it has them, and what was missed. */
	assert_true(mappings_rescan(m, now + 20, 100));
	add(20, 100, 0x7000, 0x8000, 0, a);
	mappings_publish(m, now);
	assert_null(seen(100, 0x1000));
	assert_non_null(seen(100, 0x7000));
	/* What is read late from the sideband is in the scan already. */
	mappings_exec(m, now + 15, 100);
	add(16, 100, 0x3000, 0x4000, 0, a);
	mappings_publish(m, now);
	assert_non_null(seen(100, 0x7000));
	assert_null(seen(100, 0x3000));
	add(25, 100, 0x3000, 0x4000, 0, a);
	mappings_publish(m, now);
	assert_non_null(seen(100, 0x3000));
}

/* A walker may stand in a range that has just been replaced. */
static void ranges_are_not_reused_at_once(void **state)
{
	uint32_t a = file("/a", 1), first;

	(void)state;
	add(1, 100, 0x1000, 0x2000, 0, a);
	mappings_publish(m, now);
	first = entry(100)->first;
	add(2, 100, 0x5000, 0x6000, 0, a);
	mappings_publish(m, now);
	assert_int_not_equal(entry(100)->first, first);
	add(3, 101, 0x1000, 0x2000, 0x42000, a);
	mappings_publish(m, sb_monotonic_ns());
	assert_int_equal(maps[first].start, 0x1000);
	assert_int_equal(maps[first].offset, 0);
	/* Some time later they are: nothing leaks. */
	for (uint64_t i = 0; i < 2 * SB_UNWIND_MAPPINGS / 8; i++) {
		add(10 + i, 100, 0x5000, 0x6000, i << 12, a);
		mappings_publish(m, sb_monotonic_ns() + 200 * MS);
	}
	assert_int_equal(mappings_stats(m).evicted, 0);
	assert_int_equal(mappings_stats(m).mappings, 3);
}

static char seen_images[512];

static void tell_image(const struct image *i, const struct mapped_vma *vma, void *ctx)
{
	size_t at = strlen(seen_images);

	(void)ctx;
	snprintf(seen_images + at, sizeof(seen_images) - at, "%u:%llu-%llu:%llx ", i->pid, (unsigned long long)i->since_ns,
		 (unsigned long long)i->until_ns, i->n ? (unsigned long long)vma[0].start : 0);
}

/* What a process was before stays known, with its time. */
static void images_are_kept(void **state)
{
	uint32_t a = file("/a", 1), b = file("/b", 2);

	(void)state;
	add(100, 10, 0x1000, 0x2000, 0, a);
	mappings_fork(m, 200, 11, 10);
	mappings_exec(m, 300, 11);
	add(310, 11, 0x3000, 0x4000, 0, b);
	mappings_exit(m, 400, 11);
	mappings_fork(m, 500, 11, 10); /* another one with that number */
	mappings_exec(m, 600, 12);     /* of which nothing was known */
	seen_images[0] = '\0';
	mappings_each(m, tell_image, NULL);
	assert_string_equal(seen_images, "11:200-300:1000 11:300-400:3000 10:0-0:1000 11:500-0:1000 ");
	assert_int_equal(mappings_stats(m).past, 2);
}

/* Whose stack could be walked: nobody's, where the only thread has ended before the others could see it. */
static void what_ended_at_once_is_not_published(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	add(1, 10, 0x1000, 0x2000, 0, a);
	mappings_fork(m, now + 2, 11, 10);
	mappings_exit(m, now + 3, 11);
	mappings_fork(m, now + 2, 12, 10);
	mappings_thread(m, 12);
	mappings_exit(m, now + 3, 12);
	mappings_publish(m, now + 4);
	assert_non_null(entry(10));
	assert_null(entry(11));
	assert_non_null(seen(12, 0x1000));
	/* It is known all the same, and the next one with that number is another. */
	seen_images[0] = '\0';
	mappings_fork(m, now + 5, 11, 10);
	mappings_publish(m, now + 6);
	mappings_each(m, tell_image, NULL);
	assert_non_null(strstr(seen_images, "11:"));
	assert_int_equal(mappings_stats(m).past, 1);
	assert_int_equal(entry(11)->since_ns, now + 5);
}

/* Threads outlive the first one: what is known of them stays, with the time at which that one ended. */
static void those_who_are_left_stay_known(void **state)
{
	uint32_t a = file("/a", 1), self = (uint32_t)getpid();
	char expected[64];

	(void)state;
	mappings_fork(m, now, self, 1);
	add(1, self, 0x1000, 0x2000, 0, a);
	mappings_thread(m, self);
	mappings_exit(m, now + 2, self);
	mappings_publish(m, now + 6 * NSEC_PER_SEC);
	mappings_publish(m, now + 12 * NSEC_PER_SEC);
	assert_non_null(seen(self, 0x1000));
	seen_images[0] = '\0';
	mappings_each(m, tell_image, NULL);
	snprintf(expected, sizeof(expected), "%u:%llu-%llu:1000 ", self, (unsigned long long)now, (unsigned long long)now + 2);
	assert_string_equal(seen_images, expected);
}

/* A scan that saw the process before its end is not the news. */
static void a_scan_does_not_bring_back_the_dead(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	mappings_fork(m, now + 1, 11, 10);
	add(2, 11, 0x1000, 0x2000, 0, a);
	mappings_exit(m, now + 20, 11);
	assert_false(mappings_rescan(m, now + 10, 11));
	mappings_publish(m, now + 6 * NSEC_PER_SEC);
	assert_int_equal(mappings_stats(m).processes, 0);
}

/* 5,000 processes a second for ten seconds: the dead do not take the room of the living. */
static void a_storm_has_room(void **state)
{
	uint32_t a = file("/a", 1);

	(void)state;
	add(1, 10, 0x1000, 0x2000, 0, a);
	for (uint32_t i = 0; i < 50000; i++) {
		uint64_t at = now + i * 200000ull;

		mappings_fork(m, at, 100 + i, 10);
		mappings_exec(m, at + 1000, 100 + i);
		mappings_add(m, at + 2000, 100 + i, 0x7000, 0x1000, 0, a);
		mappings_exit(m, at + 3000, 100 + i);
		if (i % 250 == 0)
			mappings_publish(m, at);
	}
	assert_int_equal(mappings_stats(m).evicted, 0);
	assert_in_range(mappings_stats(m).processes, 5001, 11000);
}

static void is_known(const struct image *image, const struct mapped_vma *vma, void *ctx)
{
	(void)ctx;
	for (uint32_t i = 0; i < image->n; i++)
		assert_non_null(mappings_file_at(m, vma[i].file)->path);
}

/* A host that compiles: each program has a path of its own, and is never seen again. */
static void files_of_the_past_make_room(void **state)
{
	uint32_t kept = file("/kept", 1), loading = file("/loading", 1), last = 0;
	char path[32];

	(void)state;
	add(1, 10, 0x1000, 0x2000, 0, kept);
	mappings_file_at(m, loading)->state = MAPPED_LOADING;
	for (uint32_t i = 0; i < 3 * MAPPINGS_FILES; i++) {
		uint64_t at = now + i * NSEC_PER_MSEC;

		snprintf(path, sizeof(path), "/conftest%u", i);
		last = file(path, 2);
		assert_int_not_equal(last, MAPPINGS_NO_FILE);
		mappings_exec(m, at, 100);
		mappings_add(m, at + 1000, 100, 0x7000, 0x1000, 0, last);
	}
	assert_int_equal(mappings_stats(m).evicted, 0);
	assert_in_range(mappings_stats(m).files, 3, MAPPINGS_FILES);
	assert_string_equal(mappings_file_at(m, kept)->path, "/kept");
	assert_string_equal(mappings_file_at(m, loading)->path, "/loading");
	assert_int_equal(file("/kept", 1), kept);
	assert_int_equal(mappings_find(m, 100, 0x7000)->file, last);
	assert_string_equal(mappings_file_at(m, last)->path, path);
	/* Who was there last is still known. */
	assert_true(mappings_stats(m).past > 0);
	mappings_each(m, is_known, NULL);
}

static void what_has_no_room_is_counted(void **state)
{
	uint32_t a = file("/a", 1), visible = 0;
	struct mappings_stats s;

	(void)state;
	for (uint32_t pid = 1; pid <= SB_UNWIND_PROCESSES + 10; pid++)
		add(pid, pid, 0x1000, 0x2000, 0, a);
	mappings_publish(m, now);
	for (uint32_t pid = 1; pid <= SB_UNWIND_PROCESSES + 10; pid++)
		visible += entry(pid) != NULL;
	s = mappings_stats(m);
	assert_int_equal(s.processes, SB_UNWIND_PROCESSES);
	assert_int_equal(s.evicted + visible, SB_UNWIND_PROCESSES + 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_are_told_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(mappings_come_to_be_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(counts_go_on_under_another_keeper, setup, teardown),
		cmocka_unit_test_setup_teardown(later_ones_cut_into_earlier_ones, setup, teardown),
		cmocka_unit_test_setup_teardown(forks_share_until_one_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(exec_forgets, setup, teardown),
		cmocka_unit_test_setup_teardown(entries_that_were_taken_are_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(scans_and_events_agree_by_time, setup, teardown),
		cmocka_unit_test_setup_teardown(ranges_are_not_reused_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(images_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(what_ended_at_once_is_not_published, setup, teardown),
		cmocka_unit_test_setup_teardown(those_who_are_left_stay_known, setup, teardown),
		cmocka_unit_test_setup_teardown(a_scan_does_not_bring_back_the_dead, setup, teardown),
		cmocka_unit_test_setup_teardown(a_storm_has_room, setup, teardown),
		cmocka_unit_test_setup_teardown(files_of_the_past_make_room, setup, teardown),
		cmocka_unit_test_setup_teardown(what_has_no_room_is_counted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
