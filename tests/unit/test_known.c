// SPDX-License-Identifier: BSD-2-Clause
/* recorder/images.c against a list that forgets nothing, and recorder/known.c from one side to the
 * other. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "recorder/images.h"
#include "recorder/known.h"

/* ---- images ------------------------------------------------------------------------------ */

#define RING 4096u

static uint32_t first, next; /* of the pids that must be there, in order */

static uint32_t vmas_of(uint32_t pid)
{
	return (uint32_t)(sb_mix64(pid) % 9);
}

static void expect_next(const struct image *i, const struct mapped_vma *vma, void *ctx)
{
	(void)ctx;
	assert_int_equal(i->pid, next++);
	assert_int_equal(i->n, vmas_of(i->pid));
	assert_int_equal(i->since_ns, i->pid * 10ULL);
	for (uint32_t v = 0; v < i->n; v++) {
		assert_int_equal(vma[v].start, i->pid * 1000ULL + v);
		assert_int_equal(vma[v].file, v);
	}
}

static void test_images(void **state)
{
	struct images *im;
	uint64_t bytes = 0;

	(void)state;
	assert_int_equal(images_new(RING, &im), 0);
	first = 1;
	for (uint32_t pid = 1; pid < 20000; pid++) {
		struct image i = { pid, vmas_of(pid), pid * 10ULL, pid * 10ULL + 5 };
		struct mapped_vma vma[9] = {};

		for (uint32_t v = 0; v < i.n; v++)
			vma[v] = (struct mapped_vma){ pid * 1000ULL + v, pid * 1000ULL + v + 1, 0, v };
		images_keep(im, &i, vma);
		/* The newest ones, without a hole, and none that was said to be gone. */
		next = first = (uint32_t)images_evicted(im) + 1;
		images_each(im, expect_next, NULL);
		assert_int_equal(next, pid + 1);
		assert_int_equal(images_count(im), pid - images_evicted(im));
		bytes = 0;
		for (uint32_t p = first; p <= pid; p++)
			bytes += sizeof(i) + vmas_of(p) * sizeof(*vma);
		assert_true(bytes <= RING);
		/* What went had to go: room is not wasted but for a gap and one that was in the way. */
		assert_true(first == 1 || bytes + 2 * (sizeof(i) + 9 * sizeof(*vma)) > RING);
	}
	assert_true(images_evicted(im) > 10000);
	images_free(im);
}

static void test_too_large(void **state)
{
	struct image i = { 1, 1000, 1, 2 };
	struct mapped_vma *vma = calloc(1000, sizeof(*vma));
	struct images *im;

	(void)state;
	assert_int_equal(images_new(RING, &im), 0);
	images_keep(im, &i, vma);
	free(vma);
	assert_int_equal(images_count(im), 0);
	assert_int_equal(images_evicted(im), 1);
	images_free(im);
}

/* ---- asking -------------------------------------------------------------------------------- */

static const struct {
	struct image image;
	struct mapped_vma vma[2];
} told[] = {
	{ { 7, 1, 100, 200 }, { { 0x1000, 0x2000, 0, 0 } } },		   /* a shell */
	{ { 7, 2, 200, 300 }, { { 0x1000, 0x2000, 0, 1 }, { 0x3000, 0x4000, 0x10, 2 } } }, /* that became this */
	{ { 7, 1, 400, 0 }, { { 0x5000, 0x6000, 0, 0 } } },		   /* another process, later */
	{ { 8, 1, 0, 0 }, { { 0x1000, 0x2000, 0, 2 } } },
	{ { 9, 1, 50, 250 }, { { 0x1000, 0x2000, 0, 2 } } },
};

static void each_told(const void *of, image_fn fn, void *ctx)
{
	(void)of;
	for (size_t i = 0; i < SB_ARRAY_SIZE(told); i++)
		fn(&told[i].image, told[i].vma, ctx);
}

static bool file_told(const void *of, uint32_t i, struct known_file *ret, const char **ret_path)
{
	static const char *const path[] = { "/bin/sh", "/bin/\033[2Jevil", "/lib/libc.so.6" };

	(void)of;
	*ret = (struct known_file){ .id_len = 2, .id = { (uint8_t)i, 0xaa } };
	*ret_path = path[i];
	return true;
}

static void answer_once(int socket)
{
	static const struct known_ksym ksym[] = {
		{ 0xffffffffc0001000, 0x100, 500, "bpf_prog_1_old" },
		{ 0xffffffffc0001080, 0x100, 600, "bpf_prog_2_new" },
	};
	struct known_source source = { each_told, NULL, 3, file_told, ksym, 2 };

	for (int i = 0; i < 100000; i++) {
		known_serve(socket, &source);
		usleep(100);
	}
}

static void expect_image(const struct known *k, uint32_t pid, uint64_t at, uint64_t until, uint64_t since)
{
	struct known_image i = {};

	if (!since) {
		assert_false(known_find(k, pid, at, until, &i));
		return;
	}
	assert_true(known_find(k, pid, at, until, &i));
	assert_int_equal(i.since_ns, since);
}

static void test_ask(void **state)
{
	struct known_image image;
	struct known *k = NULL;
	uint32_t iter = 0;
	int fd[2];
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		answer_once(fd[1]);
		_exit(0);
	}
	/* More than one asks. */
	for (int i = 0; i < 3; i++) {
		known_free(k);
		assert_int_equal(known_ask(fd[0], 60000, &k), 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);

	expect_image(k, 7, 1000, 0, 400);   /* what it is */
	expect_image(k, 7, 350, 0, 200);    /* what it was then, over or not */
	expect_image(k, 7, 199, 0, 100);
	expect_image(k, 7, 99, 0, 0);
	expect_image(k, 7, 1000, 200, 100); /* before it became another one */
	expect_image(k, 7, 1000, 399, 200); /* before another one had the pid */
	expect_image(k, 7, 1000, 150, 0);
	expect_image(k, 10, 1000, 0, 0);
	assert_true(known_find(k, 7, 250, 0, &image));
	assert_int_equal(image.n, 2);
	assert_int_equal(image.vma[1].offset, 0x10);
	assert_string_equal(known_path(k, known_file(k, image.vma[0].file)), "/bin/\033[2Jevil");
	assert_int_equal(known_file(k, 2)->id[0], 2);
	assert_null(known_file(k, 3));
	/* Who has libc and is there: 8 alone. */
	assert_int_equal(known_mapper(k, 2, &iter), 8);
	assert_int_equal(known_mapper(k, 2, &iter), 0);
	assert_string_equal(known_ksym(k, 0xffffffffc00010ff)->name, "bpf_prog_2_new");
	assert_string_equal(known_ksym(k, 0xffffffffc0001000)->name, "bpf_prog_1_old");
	assert_null(known_ksym(k, 0xffffffffc0001180));
	known_free(k);

	/* Nobody there. */
	assert_int_equal(known_ask(fd[0], 50, &k), -ETIMEDOUT);
	close(fd[1]);
	assert_true(known_ask(fd[0], 50, &k) < 0);
	assert_int_equal(known_ask(-1, 50, &k), -ENOENT);
	close(fd[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_images),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_ask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
