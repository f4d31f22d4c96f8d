// SPDX-License-Identifier: BSD-2-Clause
/* recorder/sideband.c over rings that the test fills as the kernel does. */
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "recorder/sideband.c"

#define CPUS 3

static struct sideband s;
static uint8_t *memory[CPUS];
static char told[4096];

static int setup(void **state)
{
	(void)state;
	s = (struct sideband){ .n_cpus = CPUS, .ring = calloc(CPUS, sizeof(*s.ring)) };
	for (uint32_t i = 0; i < CPUS; i++) {
		memory[i] = aligned_alloc(4096, 4096 + RING_BYTES);
		memset(memory[i], 0, 4096);
		s.ring[i].page = (void *)memory[i];
		s.ring[i].page->data_offset = 4096;
	}
	told[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < CPUS; i++)
		free(memory[i]);
	free(s.ring);
	return 0;
}

static void put(uint32_t cpu, const void *bytes, size_t len)
{
	struct perf_event_mmap_page *page = s.ring[cpu].page;

	for (size_t i = 0; i < len; i++)
		memory[cpu][4096 + ((page->data_head + i) & (RING_BYTES - 1))] = ((const uint8_t *)bytes)[i];
	page->data_head += len;
	assert_in_range(page->data_head - page->data_tail, 0, RING_BYTES);
}

static void put_task(uint32_t cpu, uint32_t type, uint64_t ts, uint32_t pid, uint32_t ppid, uint32_t tid)
{
	struct {
		struct task_record r;
		struct trailer t;
	} x = { { { type, 0, sizeof(x) }, pid, ppid, tid, tid, ts }, { pid, tid, ts } };

	put(cpu, &x, sizeof(x));
}

static void put_map(uint32_t cpu, uint64_t ts, uint32_t pid, uint64_t addr, const char *path)
{
	struct mmap2_record r = { .h = { PERF_RECORD_MMAP2, 0, 0 }, .pid = pid, .tid = pid, .addr = addr, .len = 0x1000 };
	size_t path_bytes = (strlen(path) + 8) & ~(size_t)7;
	struct trailer t = { pid, pid, ts };
	uint8_t all[sizeof(r) + 512 + sizeof(t)] = {};

	r.h.size = (uint16_t)(sizeof(r) + path_bytes + sizeof(t));
	memcpy(all, &r, sizeof(r));
	strcpy((char *)all + sizeof(r), path);
	memcpy(all + sizeof(r) + path_bytes, &t, sizeof(t));
	put(cpu, all, r.h.size);
}

static void tell(const struct sideband_event *e, void *ctx)
{
	size_t at = strlen(told);

	(void)ctx;
	snprintf(told + at, sizeof(told) - at, "%c%u@%llu%s ", "MEFTXK"[e->type], e->pid, (unsigned long long)e->ts_ns,
		 e->type == SIDEBAND_MAP ? e->path : "");
}

static void events_come_in_the_order_of_their_times(void **state)
{
	(void)state;
	put_task(0, PERF_RECORD_FORK, 10, 100, 1, 100);
	put_task(0, PERF_RECORD_EXIT, 50, 100, 1, 100);
	put_task(1, PERF_RECORD_FORK, 20, 101, 100, 101);
	put_map(1, 30, 101, 0x1000, "/a");
	put_task(1, PERF_RECORD_FORK, 60, 102, 101, 102);
	put_task(2, PERF_RECORD_FORK, 55, 100, 100, 105);
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "F100@10 F101@20 M101@30/a X100@50 T100@55 F102@60 ");
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(s.ring[i].page->data_tail, s.ring[i].page->data_head);
}

static void what_is_not_settled_waits(void **state)
{
	uint64_t later = sb_monotonic_ns() + FUTURE_NS / 2;

	(void)state;
	put_task(0, PERF_RECORD_FORK, 10, 100, 1, 100);
	put_task(0, PERF_RECORD_FORK, later, 101, 1, 101);
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "F100@10 ");
	/* One that comes after it from another CPU, and before it in time. */
	put_task(1, PERF_RECORD_FORK, 20, 102, 1, 102);
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "F100@10 F102@20 ");
	assert_int_equal(s.ring[0].page->data_head - s.ring[0].page->data_tail,
			 sizeof(struct task_record) + sizeof(struct trailer));
}

/* Every place in the ring at which a record may go over its end. */
static void records_go_over_the_end(void **state)
{
	char path[256], expected[300];

	(void)state;
	for (uint32_t i = 0; i < 3 * RING_BYTES / 128; i++) {
		snprintf(path, sizeof(path), "/%0*u", (int)(i % 200) + 8, i);
		told[0] = '\0';
		put_map(0, 10 + i, 100, 0x1000, path);
		sideband_read(&s, tell, NULL);
		snprintf(expected, sizeof(expected), "M100@%u%s ", 10 + i, path);
		assert_string_equal(told, expected);
	}
}

static void losses_are_counted_once(void **state)
{
	uint64_t later = sb_monotonic_ns() + FUTURE_NS / 2;
	struct {
		struct perf_event_header h;
		uint64_t id, lost;
		struct trailer t;
	} lost = { { PERF_RECORD_LOST, 0, sizeof(lost) }, 1, 23, { 1, 1, 15 } };

	(void)state;
	put_task(0, PERF_RECORD_FORK, 10, 100, 1, 100);
	put(0, &lost, sizeof(lost));
	put_task(0, PERF_RECORD_FORK, later, 101, 1, 101);
	sideband_read(&s, tell, NULL);
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "F100@10 ");
	assert_int_equal(sideband_lost(&s), 23);
}

/* Nobody is told a text that has no end, nor reads on behind it. */
static void texts_without_an_end_are_left_out(void **state)
{
	struct {
		struct mmap2_record r;
		char path[16];
		struct trailer t;
	} map = { { .h = { PERF_RECORD_MMAP2, 0, sizeof(map) }, .pid = 100 }, .t = { 0x41414141, 0x41414141, 20 } };
	struct {
		struct ksymbol_record r;
		char name[16];
		struct trailer t;
	} gone = { { .h = { PERF_RECORD_KSYMBOL, 0, sizeof(gone) }, .flags = PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER },
		   .t = { 0x41414141, 0x41414141, 20 } };

	(void)state;
	memset(map.path, 'A', sizeof(map.path));
	memset(gone.name, 'A', sizeof(gone.name));
	put(0, &map, sizeof(map));
	put(0, &gone, sizeof(gone));
	put_task(0, PERF_RECORD_FORK, 30, 101, 1, 101);
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "F101@30 ");
	assert_int_equal(sideband_lost(&s), 1); /* without an end it is not known where the symbol's time is */
	/* With an end in their last byte they are told. */
	map.path[15] = '\0';
	told[0] = '\0';
	put(0, &map, sizeof(map));
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "M100@20AAAAAAAAAAAAAAA ");
}

/* A record that goes beyond what there is, one of an odd length, one that is too short: all up to the ring's head is
 * lost, which is counted, and what comes then is read again. */
static void a_record_that_is_none_loses_its_round(void **state)
{
	static const uint16_t sizes[] = { 0, 8, 51, 56, 0xfff8 };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(sizes); i++) {
		struct {
			struct task_record r;
			struct trailer t;
		} bad = { { { PERF_RECORD_FORK, 0, sizes[i] }, 666, 1, 666, 1, 15 }, { 666, 666, 15 } };

		told[0] = '\0';
		put_task(0, PERF_RECORD_FORK, 10, 100, 1, 100);
		put(0, &bad, sizeof(bad));
		sideband_read(&s, tell, NULL);
		assert_string_equal(told, "F100@10 ");
		assert_int_equal(sideband_lost(&s), i + 1);
		assert_int_equal(s.ring[0].page->data_tail, s.ring[0].page->data_head);
	}
}

/* A symbol's record is longer than what was written of it: its time is behind the name, whatever stands at its end. */
static void symbols_have_their_time_behind_the_name(void **state)
{
	for (size_t len = 0; len < 24; len++) {
		struct {
			struct ksymbol_record r;
			uint8_t rest[96];
		} gone = { .r = { .h = { PERF_RECORD_KSYMBOL, 0, 0 }, .flags = PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER } };
		size_t padded = (len + 8) & ~7ul;
		struct trailer t = { 1, 1, 1000 + len };
		char want[64];

		(void)state;
		memset(gone.rest, 0xff, sizeof(gone.rest));
		memset(gone.rest, 0, padded);
		memset(gone.rest, 'a', len);
		memcpy(gone.rest + padded, &t, sizeof(t));
		gone.r.h.size = (uint16_t)(sizeof(gone.r) + padded + sizeof(t) + len % 3 * 16);
		told[0] = '\0';
		put(0, &gone, gone.r.h.size);
		sideband_read(&s, tell, NULL);
		snprintf(want, sizeof(want), "K0@%zu ", 1000 + len);
		assert_string_equal(told, want);
	}
	assert_int_equal(sideband_lost(&s), 0);
}

/* A time that is none holds up nobody. */
static void the_far_future_is_not_waited_for(void **state)
{
	(void)state;
	put_task(0, PERF_RECORD_FORK, sb_monotonic_ns() + 3600 * NSEC_PER_SEC, 666, 1, 666);
	put_task(0, PERF_RECORD_FORK, 10, 100, 1, 100);
	put_task(1, PERF_RECORD_FORK, 20, 101, 100, 101);
	sideband_read(&s, tell, NULL);
	assert_string_equal(told, "F100@10 F101@20 ");
	assert_int_equal(sideband_lost(&s), 1);
	assert_int_equal(s.ring[0].page->data_tail, s.ring[0].page->data_head);
}

static void note_symbol(const struct sideband_event *e, void *ctx)
{
	uint64_t *ts = ctx;

	if (e->type == SIDEBAND_KSYM_GONE && strstr(e->path, "sb_test_gone"))
		*ts = e->ts_ns;
}

/* The kernel's own record of a BPF program that is unloaded, with all events of the sideband open. */
static void a_program_goes_when_it_does(void **state)
{
	struct bpf_insn code[] = { { .code = 0xb7 }, { .code = 0x95 } }; /* r0 = 0; exit */
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2, .insns = (uintptr_t)code,
				.license = (uintptr_t)"GPL", .prog_name = "sb_test_gone" };
	struct sideband *real = NULL;
	uint64_t ts = 0, before;
	int fd;

	(void)state;
	if (sideband_open((uint32_t)sysconf(_SC_NPROCESSORS_CONF), &real) < 0)
		skip(); /* not root */
	fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	assert_true(fd >= 0);
	before = sb_monotonic_ns();
	close(fd);
	for (int i = 0; i < 2000 && !ts; i++) {
		usleep(5000); /* it goes after a grace period, which nobody is told of */
		sideband_read(real, note_symbol, &ts);
	}
	assert_in_range(ts, before, sb_monotonic_ns());
	sideband_close(real);
}

static const int nothing[SIDEBAND_OTHERS] = { -1, -1 };

/* Makes a record now and then, until it is killed. */
static pid_t start_forker(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		for (;;) {
			if (fork() == 0)
				_exit(0);
			usleep(20000);
		}
	}
	return pid;
}

/* A record that comes while nothing happens ends the wait. The bell is of that one process: others' would ring it
 * here, however it is made. */
static void a_record_rings(void **state)
{
	struct perf_event_mmap_page quiet = {}, *bell;
	struct pollfd fd[2 + SIDEBAND_OTHERS] = { { .fd = -1 } };
	struct cpu_ring ring = { .page = &quiet };
	struct sideband one = { .n_cpus = 1, .fd = fd, .ring = &ring, .bell = &bell };
	pid_t pid = start_forker();
	uint64_t begin;

	(void)state;
	fd[1] = (struct pollfd){ .fd = open_event(pid, -1, false, BELL_BYTES), .events = POLLIN };
	if (fd[1].fd < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		print_message("no sideband: %s\n", strerror(-fd[1].fd));
		skip();
	}
	bell = map_ring(fd[1].fd, bell_map_bytes());
	assert_non_null(bell);
	for (int i = 0; i < 100; i++) { /* more than there is room for at a time */
		one.quiet = QUIET_ROUNDS;
		begin = sb_monotonic_ns();
		sideband_wait(&one, 1, 60000, nothing);
		assert_in_range(sb_monotonic_ns() - begin, 0, 30 * NSEC_PER_SEC);
		assert_true(fd[1].revents & POLLIN);
		sideband_read(&one, tell, NULL);
		assert_int_equal(one.quiet, QUIET_ROUNDS);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(bell, bell_map_bytes());
	close(fd[1].fd);
}

/* One that came before the bells were armed is not waited behind. */
static void a_record_that_is_there_is_not_waited_for(void **state)
{
	struct perf_event_mmap_page bell[CPUS] = {}, *bells[CPUS] = { &bell[0], &bell[1], &bell[2] };
	struct pollfd fd[2 * CPUS + SIDEBAND_OTHERS];
	uint64_t begin;

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(fd); i++)
		fd[i] = (struct pollfd){ .fd = -1 };
	s.fd = fd;
	s.bell = bells;
	s.quiet = QUIET_ROUNDS;
	put_task(1, PERF_RECORD_FORK, 20, 101, 100, 101);
	begin = sb_monotonic_ns();
	sideband_wait(&s, 1, 60000, nothing);
	assert_in_range(sb_monotonic_ns() - begin, 0, 30 * NSEC_PER_SEC);
	sideband_read(&s, tell, NULL);
	assert_int_equal(s.quiet, 0);
	assert_string_equal(told, "F101@20 ");
}

static void others_end_an_idle_wait(void **state)
{
	struct perf_event_mmap_page bell[CPUS] = {}, *bells[CPUS] = { &bell[0], &bell[1], &bell[2] };
	struct pollfd fd[2 * CPUS + SIDEBAND_OTHERS];
	int p[2], others[SIDEBAND_OTHERS] = { -1, -1 };
	uint64_t begin;

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(fd); i++)
		fd[i] = (struct pollfd){ .fd = -1 };
	s.fd = fd;
	s.bell = bells;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	for (int i = 0; i < SIDEBAND_OTHERS; i++) {
		others[i] = p[0];
		s.quiet = QUIET_ROUNDS;
		begin = sb_monotonic_ns();
		sideband_wait(&s, 1, 60000, others);
		assert_in_range(sb_monotonic_ns() - begin, 0, 30 * NSEC_PER_SEC);
		others[i] = -1;
	}
	/* And nothing else does. */
	begin = sb_monotonic_ns();
	sideband_wait(&s, 1, 200, nothing);
	assert_in_range(sb_monotonic_ns() - begin, 199 * NSEC_PER_MSEC, UINT64_MAX);
	close(p[0]);
	close(p[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(events_come_in_the_order_of_their_times, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_settled_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(records_go_over_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(losses_are_counted_once, setup, teardown),
		cmocka_unit_test_setup_teardown(texts_without_an_end_are_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(a_record_that_is_none_loses_its_round, setup, teardown),
		cmocka_unit_test_setup_teardown(symbols_have_their_time_behind_the_name, setup, teardown),
		cmocka_unit_test_setup_teardown(the_far_future_is_not_waited_for, setup, teardown),
		cmocka_unit_test(a_program_goes_when_it_does),
		cmocka_unit_test_setup_teardown(a_record_that_is_there_is_not_waited_for, setup, teardown),
		cmocka_unit_test_setup_teardown(others_end_an_idle_wait, setup, teardown),
		cmocka_unit_test(a_record_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
