// SPDX-License-Identifier: BSD-2-Clause
/* What clients of the gateway write: names, ranges, entity tags, hosts, and bodies of requests to freeze. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gateway/request.h"
#include "gateway/tokens.h"
#include "gateway/webhook.h"

static void expect_described(const char *name, const char *want_time, const char *want_trigger)
{
	char time[32], trigger[BUNDLE_FILE_MAX];

	request_describe(name, time, trigger);
	assert_string_equal(time, want_time);
	assert_string_equal(trigger, want_trigger);
}

static void test_describe(void **state)
{
	(void)state;
	expect_described("db-17-20261120T233350Z-reclaim-age.stall.pb.zst", "2026-11-20T23:33:50Z", "reclaim-age");
	/* Not the only one of its second. */
	expect_described("db-17-20261120T233350Z-reclaim-age_042.stall.pb.zst", "2026-11-20T23:33:50.042Z", "reclaim-age");
	expect_described("db-17-20261120T233350.042Z-reclaim-age.stall.pb.zst", "2026-11-20T23:33:50.042Z", "reclaim-age");
	expect_described("db-17-20261120T233350Z-a_12.stall.pb.zst", "2026-11-20T23:33:50Z", "a_12");
	expect_described("x-20261120T233350Z-.stall.pb.zst", "2026-11-20T23:33:50Z", "");
	/* A trigger called like a time: the first one counts. */
	expect_described("x-20261120T233350Z-t-20200101T000000Z-u.stall.pb.zst", "2026-11-20T23:33:50Z", "t-20200101T000000Z-u");
	expect_described("renamed.stall.pb.zst", "", "");
}

static void test_ranges(void **state)
{
	static const struct {
		const char *value;
		uint64_t size;
		enum request_range kind;
		uint64_t first, len;
	} cases[] = {
		{ NULL, 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=0-0", 100, REQUEST_PART, 0, 1 },
		{ "bytes=0-99", 100, REQUEST_PART, 0, 100 },
		{ "bytes=10-19", 100, REQUEST_PART, 10, 10 },
		{ "bytes=90-1000", 100, REQUEST_PART, 90, 10 },
		{ "bytes=99-", 100, REQUEST_PART, 99, 1 },
		{ "bytes=0-", 100, REQUEST_PART, 0, 100 },
		{ "bytes=-1", 100, REQUEST_PART, 99, 1 },
		{ "bytes=-100", 100, REQUEST_PART, 0, 100 },
		{ "bytes=-1000", 100, REQUEST_PART, 0, 100 },
		{ "Bytes=5-6", 100, REQUEST_PART, 5, 2 },
		{ "bytes= 5-6 ", 100, REQUEST_PART, 5, 2 },
		{ "bytes=0-18446744073709551615", 100, REQUEST_PART, 0, 100 },
		{ "bytes=0-99999999999999999999999", 100, REQUEST_PART, 0, 100 },
		{ "bytes=100-", 100, REQUEST_UNSATISFIABLE, 0, 0 },
		{ "bytes=100-200", 100, REQUEST_UNSATISFIABLE, 0, 0 },
		{ "bytes=99999999999999999999999-", 100, REQUEST_UNSATISFIABLE, 0, 0 },
		{ "bytes=-0", 100, REQUEST_UNSATISFIABLE, 0, 0 },
		{ "bytes=0-0", 0, REQUEST_UNSATISFIABLE, 0, 0 },
		{ "bytes=-5", 0, REQUEST_UNSATISFIABLE, 0, 0 },
		/* No range that we serve: all of it. */
		{ "bytes=6-5", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=0-1,5-6", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=-", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=--5", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=+1-2", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=0x1-2", 100, REQUEST_WHOLE, 0, 0 },
		{ "bytes=1-2x", 100, REQUEST_WHOLE, 0, 0 },
		{ "lines=1-2", 100, REQUEST_WHOLE, 0, 0 },
		{ "1-2", 100, REQUEST_WHOLE, 0, 0 },
		{ "", 100, REQUEST_WHOLE, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		uint64_t first = 4711, len = 4712;

		assert_int_equal(request_range(cases[i].value, cases[i].size, &first, &len), cases[i].kind);
		assert_int_equal(first, cases[i].kind == REQUEST_PART ? cases[i].first : 4711);
		assert_int_equal(len, cases[i].kind == REQUEST_PART ? cases[i].len : 4712);
	}
}

static void test_etags(void **state)
{
	(void)state;
	assert_true(request_lists_etag("\"abc\"", "\"abc\""));
	assert_true(request_lists_etag("W/\"abc\"", "\"abc\""));
	assert_true(request_lists_etag("\"x\", \"abc\"", "\"abc\""));
	assert_true(request_lists_etag("*", "\"abc\""));
	assert_false(request_lists_etag("\"ab\"", "\"abc\""));
	assert_false(request_lists_etag("\"abcd\"", "\"abc\""));
	assert_false(request_lists_etag("\"abc\"d", "\"abc\""));
	assert_false(request_lists_etag("abc", "\"abc\""));
	assert_false(request_lists_etag("", "\"abc\""));
	assert_false(request_lists_etag("\"x\", *", "\"abc\""));
}

static void test_hosts(void **state)
{
	static const struct {
		const char *value, *host;
	} good[] = {
		{ "localhost", "localhost" }, { "LocalHost:7447", "localhost" }, { "127.0.0.1:80", "127.0.0.1" },
		{ "[::1]:7447", "::1" }, { "[fe80::1]", "fe80::1" }, { "db-17.example.com", "db-17.example.com" },
	};
	static const char *const bad[] = { "", ":80", "a:", "a:b", "a:1:2", "a:65536", "a:123456", "a b", "a/b", "user@a",
					   "[::1", "[]", "[a]", "::1", "a\tb", "[::1]x", "a,b", "\xc3\xa4" };
	char host[REQUEST_HOST_MAX], longest[REQUEST_HOST_MAX + 2];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(good); i++) {
		assert_int_equal(request_host(good[i].value, host), 0);
		assert_string_equal(host, good[i].host);
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(bad); i++)
		assert_int_equal(request_host(bad[i], host), -EINVAL);
	memset(longest, 'a', sizeof(longest));
	longest[REQUEST_HOST_MAX] = '\0';
	assert_int_equal(request_host(longest, host), -EINVAL);
	longest[REQUEST_HOST_MAX - 1] = '\0';
	assert_int_equal(request_host(longest, host), 0);
	assert_true(request_is_address("10.0.0.1"));
	assert_true(request_is_address("fe80::1"));
	assert_false(request_is_address("10.0.0"));
	assert_false(request_is_address("1.example.com"));
}

static void test_listen(void **state)
{
	struct sockaddr_storage addr;
	char text[REQUEST_HOST_MAX];
	socklen_t len;

	(void)state;
	assert_int_equal(request_listen("127.0.0.1:7447", &addr, &len), 0);
	assert_true(request_is_local(&addr));
	request_print(&addr, text);
	assert_string_equal(text, "127.0.0.1:7447");
	assert_int_equal(request_listen("127.99.0.1:1", &addr, &len), 0);
	assert_true(request_is_local(&addr));
	assert_int_equal(request_listen("[::1]:7447", &addr, &len), 0);
	assert_true(request_is_local(&addr));
	request_print(&addr, text);
	assert_string_equal(text, "[::1]:7447");
	assert_int_equal(request_listen("0.0.0.0:7447", &addr, &len), 0);
	assert_false(request_is_local(&addr));
	assert_int_equal(request_listen("[::]:7447", &addr, &len), 0);
	assert_false(request_is_local(&addr));
	/* IPv4 addresses that are mapped into IPv6 are not taken for what they are. */
	assert_int_equal(request_listen("[::ffff:127.0.0.1]:7447", &addr, &len), 0);
	assert_false(request_is_local(&addr));
	assert_int_equal(request_listen("localhost:7447", &addr, &len), -EINVAL);
	assert_int_equal(request_listen("127.0.0.1", &addr, &len), -EINVAL);
	assert_int_equal(request_listen("::1:7447", &addr, &len), -EINVAL);
	assert_int_equal(request_listen("7447", &addr, &len), -EINVAL);
}

/* ---- bodies --------------------------------------------------------------------------- */

#define ALERT(status, fingerprint) \
	"{\"status\":\"" status "\",\"labels\":{\"alertname\":\"OneOf\",\"instance\":\"db17:9100\"}," \
	"\"annotations\":{\"summary\":\"it stalls\"},\"startsAt\":\"2026-11-20T23:33:50Z\",\"fingerprint\":\"" fingerprint "\"}"
#define BODY(alerts) "{\"version\":\"4\",\"groupKey\":\"{}:{}\",\"alerts\":[" alerts "]}"

static struct webhook parse(const char *body)
{
	char error[200] = "";
	struct webhook w;

	if (webhook_parse(body, strlen(body), &w, error, sizeof(error)) < 0)
		fail_msg("%s", error);
	return w;
}

static void test_webhook(void **state)
{
	struct webhook w = parse(BODY(ALERT("firing", "a1") "," ALERT("resolved", "b2") "," ALERT("firing", "c3")));

	(void)state;
	assert_int_equal(w.firing, 2);
	assert_int_equal(w.resolved, 1);
	assert_string_equal(w.reason, "alert OneOf of db17:9100: it stalls");
	w = parse("{\"version\":\"4\",\"alerts\":[" ALERT("firing", "a1") "],\"commonLabels\":{\"alertname\":\"A\\nB\"},"
		  "\"commonAnnotations\":{\"summary\":\"\\u001b[31m\"}}");
	assert_string_equal(w.reason, "alert A B:  [31m"); /* one line, nothing for a terminal */
	w = parse(BODY(""));
	assert_int_equal(w.firing, 0);
}

static void test_seen(void **state)
{
	static struct webhook_seen seen;
	struct webhook a = parse(BODY(ALERT("firing", "a1"))), both = parse(BODY(ALERT("firing", "a1") "," ALERT("firing", "b2")));

	(void)state;
	assert_int_equal(webhook_unseen(&seen, &a), 1);
	webhook_remember(&seen, &a);
	assert_int_equal(webhook_unseen(&seen, &a), 0);
	assert_int_equal(webhook_unseen(&seen, &both), 1);
	for (int i = 0; i < WEBHOOK_SEEN - 1; i++) {
		struct webhook w = { .id = { 1000 + (uint64_t)i }, .firing = 1 };

		webhook_remember(&seen, &w);
	}
	assert_int_equal(webhook_unseen(&seen, &a), 0);
	webhook_remember(&seen, &both); /* one more pushes out the oldest */
	assert_int_equal(webhook_unseen(&seen, &a), 1);
}

/* As many as a body can hold: none of them is looked past. */
static void test_many_alerts(void **state)
{
	static char body[WEBHOOK_MAX_BYTES];
	static struct webhook_seen seen;
	static struct webhook w;
	char error[200];
	size_t n = 0, len = (size_t)sprintf(body, "{\"version\":\"4\",\"alerts\":[");

	(void)state;
	while (len + 80 < sizeof(body)) {
		len += (size_t)sprintf(body + len, "%s{\"status\":\"firing\",\"fingerprint\":\"%zx\"}", n ? "," : "", n);
		n++;
	}
	len += (size_t)sprintf(body + len, "]}");
	assert_true(n > 1000);
	assert_int_equal(webhook_parse(body, len, &w, error, sizeof(error)), 0);
	assert_int_equal(w.firing, n);
	webhook_remember(&seen, &w);
	assert_int_equal(webhook_unseen(&seen, &w), 0);
	/* The last one is another alert now. */
	*strrchr(body, ':') = ' ';
	memcpy(strrchr(body, ' ') - strlen("\"fingerprint\""), "\"startsAt\"   :", strlen("\"fingerprint\":"));
	assert_int_equal(webhook_parse(body, len, &w, error, sizeof(error)), 0);
	assert_int_equal(webhook_unseen(&seen, &w), 1);
	/* The smallest there are. */
	n = 0;
	len = (size_t)sprintf(body, "{\"version\":\"4\",\"alerts\":[");
	while (len + 30 < sizeof(body)) {
		len += (size_t)sprintf(body + len, "%s{\"status\":\"firing\"}", n ? "," : "");
		n++;
	}
	len += (size_t)sprintf(body + len, "]}");
	assert_int_equal(webhook_parse(body, len, &w, error, sizeof(error)), 0);
	assert_int_equal(w.firing, n);
}

static void test_bad_bodies(void **state)
{
	static const char *const bad[] = { "", "x", "[]", "{}", "{\"version\":\"3\",\"alerts\":[]}",
					   "{\"version\":\"4\",\"alerts\":{}}", "{\"version\":\"4\"}",
					   "{\"version\":\"4\",\"version\":\"4\",\"alerts\":[]}", "{\"version\":\"4\",\"alerts\":[]}x",
					   "{\"version\":\"4\",\"alerts\":[\"\xff\"]}" };
	static char deep[WEBHOOK_MAX_BYTES], big[WEBHOOK_MAX_BYTES + 8];
	char error[200], reason[WEBHOOK_REASON_MAX];
	struct webhook w;

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(bad); i++) {
		error[0] = '\0';
		assert_int_equal(webhook_parse(bad[i], strlen(bad[i]), &w, error, sizeof(error)), -EBADMSG);
		assert_string_not_equal(error, "");
	}
	memset(deep, '[', sizeof(deep));
	assert_int_equal(webhook_parse(deep, sizeof(deep), &w, error, sizeof(error)), -EBADMSG);
	assert_non_null(strstr(error, "levels"));
	memset(big, ' ', sizeof(big));
	assert_int_equal(webhook_parse_freeze(big, sizeof(big), reason, error, sizeof(error)), -EBADMSG);
	assert_non_null(strstr(error, "65536"));
}

static void test_freeze_body(void **state)
{
	char reason[WEBHOOK_REASON_MAX], error[200], body[1400];

	(void)state;
	assert_int_equal(webhook_parse_freeze("", 0, reason, error, sizeof(error)), 0);
	assert_string_equal(reason, "");
	assert_int_equal(webhook_parse_freeze("{\"reason\":\"slow\\u0000x\"}", 24, reason, error, sizeof(error)), -EBADMSG);
	assert_int_equal(webhook_parse_freeze("{\"reason\":1}", 12, reason, error, sizeof(error)), -EBADMSG);
	assert_int_equal(webhook_parse_freeze("{\"reason\":\"a\\nb\"}", 17, reason, error, sizeof(error)), 0);
	assert_string_equal(reason, "a b");
	/* Cut between characters, whatever the offset. */
	for (size_t lead = 0; lead < 4; lead++) {
		size_t n = (size_t)snprintf(body, sizeof(body), "{\"reason\":\"%.*s", (int)lead, "xxx");

		for (int i = 0; i < 200; i++)
			n += (size_t)snprintf(body + n, sizeof(body) - n, "\xe2\x82\xac");
		n += (size_t)snprintf(body + n, sizeof(body) - n, "\"}");
		assert_int_equal(webhook_parse_freeze(body, n, reason, error, sizeof(error)), 0);
		assert_int_equal((strlen(reason) - lead) % 3, 0);
		assert_true(strlen(reason) >= WEBHOOK_REASON_MAX - 3);
	}
}

/* ---- tokens ---------------------------------------------------------------------------- */

static const char *write_token(const char *text, mode_t mode)
{
	static char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/stallbox-test-token.%d", getpid());
	unlink(path);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static int load(struct tokens *t, const char *scope, const char *text, mode_t mode)
{
	struct config_list files = { .n = 1 };
	char error[1024] = "";
	int r;

	snprintf(files.item[0], sizeof(files.item[0]), "%s:%s", scope, write_token(text, mode));
	r = tokens_load(t, &files, error, sizeof(error));
	assert_int_equal(error[0] != '\0', r < 0);
	return r;
}

static void test_tokens(void **state)
{
	struct tokens t;

	(void)state;
	assert_int_equal(load(&t, "read", "0123456789abcdef\n", 0600), 0);
	assert_int_equal(t.scopes, TOKENS_READ);
	assert_int_equal(tokens_scopes(&t, "0123456789abcdef"), TOKENS_READ);
	assert_int_equal(tokens_scopes(&t, "0123456789abcdeg"), 0);
	assert_int_equal(tokens_scopes(&t, "0123456789abcdef\n"), 0);
	assert_int_equal(tokens_scopes(&t, ""), 0);
	assert_int_equal(load(&t, "freeze", "0123456789abcdef", 0400), 0);
	assert_int_equal(tokens_scopes(&t, "0123456789abcdef"), TOKENS_FREEZE);
	assert_int_equal(load(&t, "read", "0123456789abcdef\n", 0640), -EPERM);
	assert_int_equal(load(&t, "read", "0123456789abcdef\n", 0604), -EPERM);
	assert_int_equal(load(&t, "read", "0123456789abcde\n", 0600), -EINVAL);
	assert_int_equal(load(&t, "read", "", 0600), -EINVAL);
	assert_int_equal(load(&t, "read", "0123456789 abcdef\n", 0600), -EINVAL);
	assert_int_equal(load(&t, "read", "0123456789abcdef\nsecond line\n", 0600), -EINVAL);
	assert_int_equal(load(&t, "write", "0123456789abcdef\n", 0600), -EINVAL);
	unlink(write_token("", 0600));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_describe), cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_etags),	    cmocka_unit_test(test_hosts),    cmocka_unit_test(test_listen),
		cmocka_unit_test(test_webhook),	    cmocka_unit_test(test_seen),     cmocka_unit_test(test_bad_bodies),
		cmocka_unit_test(test_freeze_body), cmocka_unit_test(test_tokens),   cmocka_unit_test(test_many_alerts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
