// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tools/wire.h"

static void is(struct wire *w, const char *bytes, size_t len)
{
	assert_false(w->failed);
	assert_int_equal(w->len, len);
	assert_memory_equal(w->data, bytes, len);
	wire_clear(w);
}

/* The examples of protobuf.dev/programming-guides/encoding. */
static void test_examples(void **state)
{
	struct wire w = {}, inner = {};

	(void)state;
	wire_number(&w, 1, 150);
	is(&w, "\x08\x96\x01", 3);
	wire_text(&w, 2, "testing");
	is(&w, "\x12\x07testing", 9);
	wire_number(&inner, 1, 150);
	wire_message(&w, 3, &inner);
	is(&w, "\x1a\x03\x08\x96\x01", 5);
	assert_int_equal(inner.len, 0);
	wire_varint(&inner, 3);
	wire_varint(&inner, 270);
	wire_varint(&inner, 86942);
	wire_message(&w, 6, &inner);
	is(&w, "\x32\x06\x03\x8e\x02\x9e\xa7\x05", 8);
	wire_done(&w);
	wire_done(&inner);
}

static void test_ends(void **state)
{
	struct wire w = {}, inner = {};

	(void)state;
	wire_varint(&w, 0);
	is(&w, "\0", 1);
	wire_varint(&w, 127);
	is(&w, "\x7f", 1);
	wire_varint(&w, 128);
	is(&w, "\x80\x01", 2);
	wire_varint(&w, UINT64_MAX);
	is(&w, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
	wire_number(&w, 203, 1); /* a field number of more than 4 bits */
	is(&w, "\xd8\x0c\x01", 3);
	wire_message(&w, 1, &inner); /* empty, and never allocated */
	is(&w, "\x0a\x00", 2);
	wire_done(&w);
}

static void test_failure_stays(void **state)
{
	struct wire w = {}, inner = { .failed = true };

	(void)state;
	wire_message(&w, 1, &inner);
	assert_true(w.failed);
	wire_number(&w, 1, 1);
	assert_int_equal(w.len, 0);
	wire_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_failure_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
