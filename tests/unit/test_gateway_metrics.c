// SPDX-License-Identifier: BSD-2-Clause
/* Labels and what is taken over from another program's metrics; the rest is in tests/gateway/requests.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gateway/metrics.h"
#include "gateway/metrics_impl.h"

static void test_labels(void **state)
{
	static const struct labels none;
	struct labels l = metrics_label(&none, "trigger=x", 7, "a\\b\"c\nd");
	char longest[2000] = "";

	(void)state;
	assert_string_equal(l.text, "trigger=\"a\\\\b\\\"c\\nd\"");
	l = metrics_label(&l, "cpu", 3, "1");
	assert_string_equal(l.text, "trigger=\"a\\\\b\\\"c\\nd\",cpu=\"1\"");
	/* Cut between characters, and still closed. */
	for (size_t lead = 0; lead < 3; lead++) {
		memset(longest, 'x', lead);
		longest[lead] = '\0';
		for (int i = 0; i < 300; i++)
			strcat(longest, "\xe2\x82\xac");
		l = metrics_label(&none, "a", 1, longest);
		assert_true(l.n < sizeof(l.text) && l.n > sizeof(l.text) - 8);
		assert_int_equal(l.text[l.n - 1], '"');
		assert_int_equal((l.n - strlen("a=\"\"") - lead) % 3, 0);
		/* No room for another one: as it was. */
		assert_string_equal(metrics_label(&l, "much_longer_name", 16, "1").text, l.text);
	}
}

static void taken(const char *given, const char *want)
{
	char path[64], *got = NULL;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/stallbox-test-metrics.%d", getpid());
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(given, f);
	fclose(f);
	f = open_memstream(&got, &len);
	metrics_put_upload(f, path);
	fclose(f);
	unlink(path);
	assert_string_equal(got, want);
	free(got);
}

static void test_upload(void **state)
{
	char *got = NULL;
	size_t len;
	FILE *f;

	(void)state;
	taken("# HELP stallbox_upload_pending x\n# TYPE stallbox_upload_pending gauge\nstallbox_upload_pending 3\n",
	      "# HELP stallbox_upload_pending x\n# TYPE stallbox_upload_pending gauge\nstallbox_upload_pending 3\n");
	taken("stallbox_agent_up 1\n\n# nothing\nstallbox_pyroscope_pushed_total 1\nup 1\n", "stallbox_pyroscope_pushed_total 1\n");
	taken("stallbox_upload_pending 3\nstallbox_upload_pen", "stallbox_upload_pending 3\n");
	taken("", "");
	f = open_memstream(&got, &len);
	metrics_put_upload(f, "/nonexistent");
	metrics_put_upload(f, "/tmp");
	fclose(f);
	assert_int_equal(len, 0);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_upload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
