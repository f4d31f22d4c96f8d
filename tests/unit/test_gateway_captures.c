// SPDX-License-Identifier: BSD-2-Clause
/* The directories of bundles as the gateway sees them: what is listed and opened, and hashes that are of these bytes. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gateway/captures.h"
#include "tests/unit/scratch.h"

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* FIPS 180-2, B.1 */
#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct config_storage storage;
static struct captures captures;
static int fail_after = -1; /* so many entries readdir() fails; -1: never */

struct dirent *readdir(DIR *d)
{
	static struct dirent *(*real)(DIR *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "readdir");
	if (fail_after < 0 || fail_after--)
		return real(d);
	fail_after = -1;
	errno = EIO;
	return NULL;
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/%s", top, dir, name);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void assert_hash(const char *name, const char *want)
{
	struct capture_file f;
	char hex[CAPTURES_HEX];

	assert_int_equal(captures_open(&captures, name, &f), 0);
	assert_int_equal(captures_sha256(&captures, &f, hex), 0);
	close(f.fd);
	assert_string_equal(hex, want);
}

static void test_hash(void **state)
{
	struct capture_file f;
	char hex[CAPTURES_HEX];

	(void)state;
	put("first", "abc.stall.pb.zst", "abc");
	put("second", "empty.stall.pb.zst", "");
	assert_hash("abc.stall.pb.zst", ABC);
	assert_hash("empty.stall.pb.zst", NOTHING);
	/* It grows while it is open: still what was there. */
	put("first", "grows.stall.pb.zst", "abc");
	assert_int_equal(captures_open(&captures, "grows.stall.pb.zst", &f), 0);
	put("first", "grows.stall.pb.zst", "d");
	assert_int_equal(captures_sha256(&captures, &f, hex), 0);
	assert_string_equal(hex, ABC);
	close(f.fd);
	assert_hash("grows.stall.pb.zst", "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589");
	/* It shrinks: nothing that could be sent. */
	put("first", "shrinks.stall.pb.zst", "abcd");
	assert_int_equal(captures_open(&captures, "shrinks.stall.pb.zst", &f), 0);
	assert_int_equal(truncate(strcat(strcpy(hex, top), "/first/shrinks.stall.pb.zst"), 1), 0);
	assert_int_equal(captures_sha256(&captures, &f, hex), -ESTALE);
	close(f.fd);
}

/* A hash that is known is not read again, and gives way only to a thousand others. */
static void test_memory(void **state)
{
	char name[64], hex[CAPTURES_HEX];
	struct capture_file f;

	(void)state;
	put("first", "known.stall.pb.zst", "abc");
	assert_hash("known.stall.pb.zst", ABC);
	assert_int_equal(captures_open(&captures, "known.stall.pb.zst", &f), 0);
	close(f.fd);
	f.fd = -1; /* nothing to read from */
	assert_int_equal(captures_sha256(&captures, &f, hex), 0);
	assert_string_equal(hex, ABC);
	f.st.st_mtim.tv_nsec ^= 1;
	assert_int_equal(captures_sha256(&captures, &f, hex), -EBADF);
	f.st.st_mtim.tv_nsec ^= 1;
	for (unsigned int i = 0; i < CAPTURES_HASHES; i++) {
		snprintf(name, sizeof(name), "many-%u.stall.pb.zst", i);
		put("second", name, name);
		assert_int_equal(captures_open(&captures, name, &f), 0);
		assert_int_equal(captures_sha256(&captures, &f, hex), 0);
		close(f.fd);
	}
	assert_int_equal(captures_open(&captures, "known.stall.pb.zst", &f), 0);
	close(f.fd);
	f.fd = -1;
	assert_int_equal(captures_sha256(&captures, &f, hex), -EBADF);
}

/* The name of the k-th second, of two hosts; half of them as bundles were named once. */
static const char *name_of(unsigned int k)
{
	static char name[96];

	snprintf(name, sizeof(name), "%s-20261120T%02u%02u%02u%sZ-t.stall.pb.zst", k % 2 ? "a" : "z", k / 3600, k / 60 % 60, k % 60,
		 k / 2 % 2 ? "" : ".000");
	return name;
}

/* More than are shown: the newest ones are, and the rest is counted. */
static void test_list(void **state)
{
	unsigned int n = 3 * CAPTURES_LISTED;
	struct capture_list list;

	(void)state;
	assert_int_equal(captures_list(&captures, &list), 0);
	assert_int_equal(list.total, 4 + 1 + CAPTURES_HASHES);
	captures_list_done(&list);
	/* In an order that is none. */
	for (unsigned int i = 0; i < n; i++)
		put(i % 3 ? "first" : "second", name_of(i * 7919 % n), "x");
	put("first", ".hidden.stall.pb.zst", "x");
	put("first", "odd name.stall.pb.zst", "x");
	put("first", "notes.txt", "x");
	assert_int_equal(captures_list(&captures, &list), 0);
	assert_int_equal(list.total, 4 + 1 + CAPTURES_HASHES + n);
	assert_int_equal(list.odd, 1);
	assert_int_equal(list.error, 0);
	assert_int_equal(list.n, CAPTURES_LISTED);
	for (unsigned int i = 0; i < CAPTURES_LISTED; i++)
		assert_string_equal(list.item[i].name, name_of(n - 1 - i));
	captures_list_done(&list);
}

/* Of one second: by the last change, whatever the triggers are called. */
static void test_one_second(void **state)
{
	static const char *const names[] = { "h-20261121T000000Z-b.stall.pb.zst", "h-20261121T000000Z-a_042.stall.pb.zst",
					     "h-20261121T000000Z-c_500.stall.pb.zst" };
	struct capture_list list;
	char path[512];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		struct timespec times[2] = { { 1000, 0 }, { 1000, (long)i } };

		put("first", names[i], "x");
		snprintf(path, sizeof(path), "%s/first/%s", top, names[i]);
		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	}
	assert_int_equal(captures_list(&captures, &list), 0);
	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++)
		assert_string_equal(list.item[i].name, names[SB_ARRAY_SIZE(names) - 1 - i]);
	captures_list_done(&list);
}

/* A directory that breaks off is none that ends there. */
static void test_broken(void **state)
{
	struct capture_list list;

	(void)state;
	fail_after = 5;
	assert_int_equal(captures_list(&captures, &list), 0);
	assert_int_equal(list.error, -EIO);
	captures_list_done(&list);
}

static void test_not_there(void **state)
{
	struct config_storage none = { .directory = "/nonexistent" };
	static struct captures c;
	struct capture_list list;
	struct capture_file f;

	(void)state;
	captures_init(&c, &none);
	assert_int_equal(captures_open(&c, "abc.stall.pb.zst", &f), -ENOENT);
	assert_int_equal(captures_list(&c, &list), 0);
	assert_int_equal(list.error, -ENOENT);
	assert_int_equal(list.total, 0);
	captures_list_done(&list);
}

static int begin(void **state)
{
	if (set_up(state))
		return -1;
	strcpy(storage.directory, new_dir("first"));
	strcpy(storage.fallback, new_dir("second"));
	captures_init(&captures, &storage);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_one_second),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_not_there),
	};

	return cmocka_run_group_tests(tests, begin, tear_down);
}
