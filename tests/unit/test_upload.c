// SPDX-License-Identifier: BSD-2-Clause
/* The parts of stallbox-upload that need no server: keys, credentials, what an answer means, when to try again. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "format/uploaded.h"
#include "tests/unit/scratch.h"
#include "upload/backoff.h"
#include "upload/credentials.h"
#include "upload/http.h"
#include "upload/key.h"
#include "upload/queue.h"
#include "upload/s3.h"
#include "upload/status.h"
#include "upload/upload.h"


/* ---- keys ------------------------------------------------------------------------------ */

static void test_key(void **state)
{
	static const char hash[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	char key[KEY_MAX], deep[KEY_MAX];

	(void)state;
	assert_int_equal(key_make("prod/", "web-1-20261120T233350.042Z-psi.stall.pb.zst", NULL, key), 0);
	assert_string_equal(key, "prod/web-1/2026-11-20/web-1-20261120T233350.042Z-psi.stall.pb.zst");
	assert_int_equal(key_make("", "web-20261120T233350Z-psi-20270101T000000Z.stall.pb.zst", hash, key), 0);
	assert_string_equal(key, "web/2026-11-20/web-20261120T233350Z-psi-20270101T000000Z.0123456789ab.stall.pb.zst");
	assert_int_equal(key_make("a/b", "no-time.stall.pb.zst", NULL, key), 0);
	assert_string_equal(key, "a/b/unnamed/no-time.stall.pb.zst");
	/* 32 February is no date */
	assert_int_equal(key_make("", "web-20260232T000000Z-x.stall.pb.zst", NULL, key), 0);
	assert_string_equal(key, "unnamed/web-20260232T000000Z-x.stall.pb.zst");
	/* Nor is a day of which no time since 1970 can be told. */
	assert_int_equal(key_make("", "web-00261120T233350Z-x.stall.pb.zst", NULL, key), 0);
	assert_string_equal(key, "unnamed/web-00261120T233350Z-x.stall.pb.zst");
	memset(deep, 'p', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	assert_int_equal(key_make(deep, "x.stall.pb.zst", NULL, key), -ENAMETOOLONG);
}

static void test_prefix(void **state)
{
	static const char *const good[] = { "", "a", "a/", "a/b-c_d.e", "..." };
	static const char *const bad[] = { "/a", "a//b", "a/../b", "..", ".", "./a", "a b", "a%2f", "/" };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(good); i++)
		assert_true(key_prefix_ok(good[i]));
	for (size_t i = 0; i < SB_ARRAY_SIZE(bad); i++)
		assert_false(key_prefix_ok(bad[i]));
}

/* ---- credentials ----------------------------------------------------------------------- */

static int read_text(const char *text, size_t len, mode_t mode, struct credentials *ret, char error[512])
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/credentials", top);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, text, len), len);
	fchmod(fd, mode);
	close(fd);
	return credentials_read(path, ret, error, 512);
}

static void test_credentials(void **state)
{
	static const char good[] = "# ours\n[other]\naws_access_key_id=NO\nbroken = x\n[default]\r\naws_access_key_id = ID\n"
				   "region = x\naws_secret_access_key=a=b/c+d\n";
	struct credentials c = {};
	char error[512] = "";

	(void)state;
	assert_int_equal(read_text(good, strlen(good), 0640, &c, error), 0);
	assert_string_equal(c.key_id, "ID");
	assert_string_equal(c.secret, "a=b/c+d");
	assert_string_equal(c.token, "");
	assert_int_equal(read_text(good, strlen(good), 0644, &c, error), -EPERM);
	assert_non_null(strstr(error, "chmod o="));
	assert_int_equal(read_text("[default]\naws_access_key_id=ID\n", 31, 0600, &c, error), -EINVAL);
	assert_non_null(strstr(error, "aws_secret_access_key"));
	assert_int_equal(read_text("[default]\nhunter2\n", 18, 0600, &c, error), -EINVAL);
	assert_non_null(strstr(error, "credentials:2: expected KEY = VALUE"));
	assert_null(strstr(error, "hunter2"));
	assert_int_equal(read_text("aws_access_key_id=a\0b\n", 22, 0600, &c, error), -EINVAL);
	assert_int_equal(credentials_read("/nonexistent/x", &c, error, sizeof(error)), -ENOENT);
	assert_int_equal(credentials_read(top, &c, error, sizeof(error)), -EINVAL);
}

/* ---- requests and answers ------------------------------------------------------------------ */

static void test_urls(void **state)
{
	struct s3 s = { .endpoint = "https://s3.example.com:8443/", .bucket = "caps", .region = "x", .path_style = true };
	char url[64];

	(void)state;
	assert_int_equal(s3_url(&s, "a/b", url, sizeof(url)), 0);
	assert_string_equal(url, "https://s3.example.com:8443/caps/a/b");
	s.path_style = false;
	assert_int_equal(s3_url(&s, "a/b", url, sizeof(url)), 0);
	assert_string_equal(url, "https://caps.s3.example.com:8443/a/b");
	assert_int_equal(s3_url(&s, "a-key-that-makes-the-url-longer-than-there-is-room-for-it", url, sizeof(url)), -ENAMETOOLONG);
	assert_true(http_url_ok("http://[::1]:9000"));
	assert_false(http_url_ok("https://user:pw@host"));
	assert_false(http_url_ok("ftp://host"));
	assert_false(http_url_ok("https://"));
	assert_false(http_url_ok("https://host/?x=1"));
	assert_false(http_url_ok("https://ho st"));
	assert_true(http_url_is_exposed("http://s3.example.com"));
	assert_false(http_url_is_exposed("http://127.0.0.1:7480"));
	assert_false(http_url_is_exposed("http://127.1.2.3/base"));
	assert_false(http_url_is_exposed("http://localhost/base"));
	assert_false(http_url_is_exposed("http://[::1]:7480"));
	assert_true(http_url_is_exposed("http://localhost.example.com"));
	assert_true(http_url_is_exposed("http://127.example.com:7480"));
	assert_true(http_url_is_exposed("http://[::1:2]:7480"));
	assert_false(http_url_is_exposed("https://s3.example.com"));
	assert_true(s3_bucket_ok("my-bucket.1"));
	assert_false(s3_bucket_ok("My"));
	assert_false(s3_bucket_ok("a/b"));
	assert_false(s3_bucket_ok("a..b"));
}

static void test_judgement(void **state)
{
	static const struct {
		long status;
		const char *code;
		enum delivery expected;
	} cases[] = {
		{ 200, "", DELIVERY_DONE },
		{ 204, "", DELIVERY_DONE },
		{ 301, "PermanentRedirect", DELIVERY_REFUSED },
		{ 400, "XAmzContentSHA256Mismatch", DELIVERY_MISMATCH },
		{ 400, "BadDigest", DELIVERY_MISMATCH },
		{ 400, "RequestTimeout", DELIVERY_BUSY },
		{ 400, "EntityTooLarge", DELIVERY_REJECTED },
		{ 400, "AuthorizationHeaderMalformed", DELIVERY_REFUSED },
		{ 403, "SignatureDoesNotMatch", DELIVERY_REFUSED },
		{ 404, "NoSuchBucket", DELIVERY_REFUSED },
		{ 409, "ConditionalRequestConflict", DELIVERY_BUSY },
		{ 412, "PreconditionFailed", DELIVERY_EXISTS },
		{ 413, "", DELIVERY_REJECTED },
		{ 422, "", DELIVERY_REJECTED },
		{ 429, "", DELIVERY_BUSY },
		{ 500, "InternalError", DELIVERY_BUSY },
		{ 503, "SlowDown", DELIVERY_BUSY },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++)
		assert_int_equal(http_judge(cases[i].status, cases[i].code), cases[i].expected);
}

static void test_hash(void **state)
{
	char path[128], hash[SHA256_TEXT];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/abc", top);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_int_equal(write(fd, "abcd", 4), 4);
	assert_int_equal(s3_hash(fd, 3, hash), 0); /* FIPS 180-2, B.1 */
	assert_string_equal(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(s3_hash(fd, 5, hash), -ENODATA);
	close(fd);
}

static void test_backoff(void **state)
{
	const uint64_t max = 60 * NSEC_PER_SEC;
	struct backoff b = {};
	uint64_t full = NSEC_PER_SEC;

	(void)state;
	for (int i = 0; i < 100; i++) {
		uint64_t wait;

		backoff_failed(&b, 5, max, 0, sb_mix64((uint64_t)i));
		wait = b.due_ns - 5;
		assert_in_range(wait, full / 2, full);
		full = SB_MIN(full * 2, max);
	}
	backoff_failed(&b, 5, max, 600 * NSEC_PER_SEC, 0);
	assert_int_equal(b.due_ns, 5 + 600 * NSEC_PER_SEC); /* what the server asks for */
	b = (struct backoff){};
	backoff_failed(&b, 0, 0, 0, 0);
	assert_true(b.due_ns >= NSEC_PER_SEC / 2); /* never a busy loop */
}

/* ---- the queue ------------------------------------------------------------------------------ */

static void put_file(const char *dir, const char *name, const char *text, time_t mtime)
{
	struct timespec times[2] = { { mtime, 0 }, { mtime, 0 } };
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0640);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

/* None of these has a footer: they are delivered once they have settled. */
static void test_queue(void **state)
{
	const time_t t = 1000000;
	const uint64_t old = (uint64_t)(t + 3600) * NSEC_PER_SEC, young = (uint64_t)(t + 30) * NSEC_PER_SEC;
	struct queue_gates open_gates = {}, store_waits = { 500, 700 };
	struct queue_item *item;
	struct queue q;
	struct stat st;
	uint64_t due;
	char dir[64];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/captures", top);
	assert_int_equal(mkdir(dir, 0750), 0);
	queue_init(&q, dir, "/nonexistent/fallback");
	assert_int_equal(queue_scan(&q), 0);
	assert_int_equal(q.n, 0);
	assert_int_equal(q.error[1], -ENOENT);
	put_file(dir, "b.stall.pb.zst", "second", t + 1);
	put_file(dir, "c.stall.pb.zst", "first", t);
	put_file(dir, "ignored.txt", "x", t);
	put_file(dir, "not ours.stall.pb.zst", "x", t);
	assert_int_equal(queue_scan(&q), 0);
	assert_int_equal(q.n, 2);
	assert_int_equal(q.pending_bytes, 11);
	assert_int_equal(q.foreign, 1);
	item = queue_next(&q, &open_gates, 100, old, &due);
	assert_string_equal(item->name, "c.stall.pb.zst");
	/* one that failed lets the next one pass */
	item->retry.due_ns = 900;
	assert_string_equal(queue_next(&q, &open_gates, 100, old, &due)->name, "b.stall.pb.zst");
	/* which goes last for as long as it fails more often than the others: one that a store cannot take starves nobody */
	item->retry.due_ns = 0;
	item->retry.tries = 1;
	assert_string_equal(queue_next(&q, &open_gates, 100, old, &due)->name, "b.stall.pb.zst");
	q.item[1].retry.tries = 1;
	assert_string_equal(queue_next(&q, &open_gates, 100, old, &due)->name, "c.stall.pb.zst");
	q.item[0].retry = (struct backoff){ .due_ns = 900 };
	q.item[1].retry = (struct backoff){};
	/* a destination that waits holds all back that lack it, until then */
	assert_null(queue_next(&q, &store_waits, 100, old, &due));
	assert_int_equal(due, 500);
	q.item[1].pushed = true; /* so that it lacks the store alone */
	q.item[0].pushed = q.item[0].stored = true;
	assert_string_equal(queue_next(&q, &store_waits, 600, old, &due)->name, "b.stall.pb.zst");
	/* what has not settled waits: here until 120 s after the older one was written, 30 s after that */
	q.item[0].retry.due_ns = 0;
	q.item[0].pushed = q.item[0].stored = false;
	assert_null(queue_next(&q, &open_gates, 100, young, &due));
	assert_int_equal(due, 100 + (QUEUE_SETTLED_S - 30) * NSEC_PER_SEC);
	/* marked: gone. Changed: as if it were new. Deleted: gone */
	assert_int_equal(fstatat(q.fd[0], "c.stall.pb.zst", &st, 0), 0);
	assert_int_equal(uploaded_mark(q.fd[0], "c.stall.pb.zst", &st), 0);
	put_file(dir, "b.stall.pb.zst", "second, longer", t + 2);
	assert_int_equal(queue_scan(&q), 0);
	assert_int_equal(q.n, 1);
	assert_false(q.item[0].stored);
	unlinkat(q.fd[0], "b.stall.pb.zst", 0);
	assert_int_equal(queue_scan(&q), 0);
	assert_int_equal(q.n, 0);
	queue_done(&q);
}

/* ---- delivering ----------------------------------------------------------------------------- */

/* What was stored and then changed is stored again, before it may count as uploaded. */
static void test_changed_meanwhile(void **state)
{
	static const struct config_upload config = { .endpoint = "http://127.0.0.1:9", .credentials_file = "/nonexistent/credentials",
						     .retry_ns = NSEC_PER_SEC };
	static const volatile sig_atomic_t stop;
	static struct upload u;
	struct stat st;
	char dir[64];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/changing", top);
	assert_int_equal(mkdir(dir, 0750), 0);
	put_file(dir, "a.stall.pb.zst", "half", 1000000);
	u.config = &config;
	u.http.stop = &stop;
	queue_init(&u.queue, dir, "");
	assert_int_equal(queue_scan(&u.queue), 0);
	assert_int_equal(u.queue.n, 1);
	u.queue.item[0].stored = true; /* and Pyroscope was busy */
	put_file(dir, "a.stall.pb.zst", "all of it", 1000001);
	assert_false(upload_deliver(&u, &u.queue.item[0]));
	assert_int_equal(u.queue.n, 1);
	assert_false(u.queue.item[0].stored);
	assert_int_equal(u.counts.failed[DELIVERY_REFUSED], 1); /* it was tried: there are no credentials */
	assert_true(u.queue.item[0].retry.tries == 1 && u.store.tries == 1); /* both wait: it may be this one's fault */
	assert_int_equal(fstatat(u.queue.fd[0], "a.stall.pb.zst", &st, 0), 0);
	assert_false(uploaded_is(u.queue.fd[0], "a.stall.pb.zst", &st));
	/* As it was left, it is marked: other users can read that, whatever our mask. */
	u.queue.item[0].stored = true;
	umask(077);
	assert_true(upload_deliver(&u, &u.queue.item[0]));
	assert_true(uploaded_is(u.queue.fd[0], "a.stall.pb.zst", &st));
	assert_int_equal(fstatat(u.queue.fd[0], UPLOADED_DIR "/a.stall.pb.zst", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	queue_done(&u.queue);
}

/* Read by other users, whatever our mask. */
static void test_status(void **state)
{
	static struct upload u;
	char path[128], text[8192] = "";
	struct stat st;
	FILE *f;

	(void)state;
	queue_init(&u.queue, "/nonexistent/captures", "/nonexistent/fallback");
	assert_int_equal(queue_scan(&u.queue), 0);
	snprintf(path, sizeof(path), "%s/status.prom", top);
	umask(077);
	assert_int_equal(status_write(&u, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	/* A fallback that was never needed is not there; the directory itself has to be. */
	assert_non_null(strstr(text, "\nstallbox_upload_unreadable_directories 1\n"));
	queue_done(&u.queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),	  cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_credentials), cmocka_unit_test(test_urls), cmocka_unit_test(test_judgement),
		cmocka_unit_test(test_hash),	cmocka_unit_test(test_backoff), cmocka_unit_test(test_queue),
		cmocka_unit_test(test_changed_meanwhile), cmocka_unit_test(test_status),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
