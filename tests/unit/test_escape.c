// SPDX-License-Identifier: BSD-2-Clause
/* Hostile names in every output form: what may come out, whatever goes in. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <wchar.h>

#include <cmocka.h>

#include "format/base.h"
#include "tools/escape.h"

static const enum escape_form forms[] = { ESCAPE_TERMINAL, ESCAPE_FOLDED, ESCAPE_XML, ESCAPE_JSON };

static const char *escaped(enum escape_form form, const char *s)
{
	static char out[65536];

	escape_copy(out, sizeof(out), form, s);
	return out;
}

/* ---- by example --------------------------------------------------------------------- */

static void test_examples(void **state)
{
	static const struct {
		const char *in, *terminal, *folded, *xml, *json;
	} cases[] = {
		{ "", "", "", "", "" },
		{ "ext4_file_read_iter", "ext4_file_read_iter", "ext4_file_read_iter", "ext4_file_read_iter",
		  "ext4_file_read_iter" },
		{ "<script>alert('1')</script>", "<script>alert('1')</script>", "<script>alert('1')</script>",
		  "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;", "<script>alert('1')</script>" },
		{ "a\"b\\c&d]]>", "a\"b\\c&d]]>", "a\"b\\c&d]]>", "a&quot;b\\c&amp;d]]&gt;", "a\\\"b\\\\c&d]]>" },
		{ "&lt;", "&lt;", "&lt:", "&amp;lt;", "&lt;" },
		{ "f;g 7\n", "f;g 7\\x0a", "f:g 7\\x0a", "f;g 7\\x0a", "f;g 7\\n" },
		{ "\t\r\b\x7f", "\\x09\\x0d\\x08\\x7f", "\\x09\\x0d\\x08\\x7f", "\\x09\\x0d\\x08\\x7f",
		  "\\\\x09\\\\x0d\\\\x08\\\\x7f" },
		/* clear the screen; an OSC title; both also as 8-bit C1 */
		{ "\033[2J", "\\x1b[2J", "\\x1b[2J", "\\x1b[2J", "\\\\x1b[2J" },
		{ "\033]0;x\a", "\\x1b]0;x\\x07", "\\x1b]0:x\\x07", "\\x1b]0;x\\x07", "\\\\x1b]0;x\\\\x07" },
		{ "\x9b" "31m", "\\x9b31m", "\\x9b31m", "\\x9b31m", "\\\\x9b31m" },
		{ "\xc2\x9b", "\\xc2\\x9b", "\\xc2\\x9b", "\\xc2\\x9b", "\\\\xc2\\\\x9b" },
		/* text that is text */
		{ "gr\xc3\xb6\xc3\x9f" "e \xe6\x97\xa5 \xf0\x9f\x94\xa5", "gr\xc3\xb6\xc3\x9f" "e \xe6\x97\xa5 \xf0\x9f\x94\xa5",
		  "gr\xc3\xb6\xc3\x9f" "e \xe6\x97\xa5 \xf0\x9f\x94\xa5", "gr\xc3\xb6\xc3\x9f" "e \xe6\x97\xa5 \xf0\x9f\x94\xa5",
		  "gr\xc3\xb6\xc3\x9f" "e \xe6\x97\xa5 \xf0\x9f\x94\xa5" },
		/* cut short, a continuation alone, overlong '/', a surrogate, above U+10FFFF */
		{ "x\xe6\x97", "x\\xe6\\x97", "x\\xe6\\x97", "x\\xe6\\x97", "x\\\\xe6\\\\x97" },
		{ "\xf0\x9f\x94", "\\xf0\\x9f\\x94", "\\xf0\\x9f\\x94", "\\xf0\\x9f\\x94", "\\\\xf0\\\\x9f\\\\x94" },
		{ "\x80", "\\x80", "\\x80", "\\x80", "\\\\x80" },
		{ "\xc0\xaf", "\\xc0\\xaf", "\\xc0\\xaf", "\\xc0\\xaf", "\\\\xc0\\\\xaf" },
		{ "\xe0\x80\xaf", "\\xe0\\x80\\xaf", "\\xe0\\x80\\xaf", "\\xe0\\x80\\xaf", "\\\\xe0\\\\x80\\\\xaf" },
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80", "\\\\xed\\\\xa0\\\\x80" },
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", "\\xf4\\x90\\x80\\x80", "\\xf4\\x90\\x80\\x80",
		  "\\\\xf4\\\\x90\\\\x80\\\\x80" },
		{ "\xff\xfe", "\\xff\\xfe", "\\xff\\xfe", "\\xff\\xfe", "\\\\xff\\\\xfe" },
		/* no characters of XML 1.0: U+FFFE, U+FFFF */
		{ "\xef\xbf\xbe\xef\xbf\xbf", "\\xef\\xbf\\xbe\\xef\\xbf\\xbf", "\\xef\\xbf\\xbe\\xef\\xbf\\xbf",
		  "\\xef\\xbf\\xbe\\xef\\xbf\\xbf", "\\\\xef\\\\xbf\\\\xbe\\\\xef\\\\xbf\\\\xbf" },
		{ "\xef\xbf\xbd", "\xef\xbf\xbd", "\xef\xbf\xbd", "\xef\xbf\xbd", "\xef\xbf\xbd" },
		/* U+202E, U+2066, U+200F, U+061C turn text around; U+2028 is a line's end to JavaScript */
		{ "\xe2\x80\xae" "x", "\\xe2\\x80\\xaex", "\\xe2\\x80\\xaex", "\\xe2\\x80\\xaex", "\\\\xe2\\\\x80\\\\xaex" },
		{ "\xe2\x81\xa6", "\\xe2\\x81\\xa6", "\\xe2\\x81\\xa6", "\\xe2\\x81\\xa6", "\\\\xe2\\\\x81\\\\xa6" },
		{ "\xe2\x80\x8f", "\\xe2\\x80\\x8f", "\\xe2\\x80\\x8f", "\\xe2\\x80\\x8f", "\\\\xe2\\\\x80\\\\x8f" },
		{ "\xd8\x9c", "\\xd8\\x9c", "\\xd8\\x9c", "\\xd8\\x9c", "\\\\xd8\\\\x9c" },
		{ "\xe2\x80\xa8", "\\xe2\\x80\\xa8", "\\xe2\\x80\\xa8", "\\xe2\\x80\\xa8", "\\\\xe2\\\\x80\\\\xa8" },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++) {
		assert_string_equal(escaped(ESCAPE_TERMINAL, cases[i].in), cases[i].terminal);
		assert_string_equal(escaped(ESCAPE_FOLDED, cases[i].in), cases[i].folded);
		assert_string_equal(escaped(ESCAPE_XML, cases[i].in), cases[i].xml);
		assert_string_equal(escaped(ESCAPE_JSON, cases[i].in), cases[i].json);
	}
}

/* ---- whatever goes in ---------------------------------------------------------------- */

static bool turns_around(wchar_t c)
{
	return c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/* "&name;" of one of the five, or "&#39;". */
static size_t entity(const char *s)
{
	static const char *const known[] = { "&lt;", "&gt;", "&amp;", "&quot;", "&#39;" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(known); i++) {
		if (!strncmp(s, known[i], strlen(known[i])))
			return strlen(known[i]);
	}
	return 0;
}

/* As the C library decodes it, and by the rules of the form. */
static void check_output(enum escape_form form, const char *out)
{
	mbstate_t st = {};

	while (*out) {
		wchar_t c;
		size_t n = mbrtowc(&c, out, MB_CUR_MAX, &st);

		if (n == 0 || n > 4)
			fail_msg("form %d: not UTF-8 at '%s'", form, out);
		if (c < 0x20 || (c >= 0x7f && c < 0xa0) || turns_around(c) || c == 0xfffe || c == 0xffff)
			fail_msg("form %d: U+%04X came through", form, (unsigned int)c);
		if (form == ESCAPE_FOLDED)
			assert_int_not_equal(c, ';');
		if (form == ESCAPE_JSON) {
			assert_int_not_equal(c, '"');
			if (c == '\\') {
				assert_true(out[1] == '"' || out[1] == '\\' || out[1] == 'n');
				n = 2;
			}
		}
		if (form == ESCAPE_XML) {
			assert_false(c == '<' || c == '>' || c == '"' || c == '\'');
			if (c == '&') {
				n = entity(out);
				assert_true(n > 0);
			}
		}
		out += n;
	}
}

static void check_all_forms(const char *in)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(forms); i++)
		check_output(forms[i], escaped(forms[i], in));
}

static void test_every_short_string(void **state)
{
	(void)state;
	for (unsigned int v = 1; v < 1u << 24; v += v < 1u << 16 ? 1 : 7) {
		char in[5] = { (char)(v & 0xff), (char)(v >> 8 & 0xff), (char)(v >> 16), 0 };

		check_all_forms(in);
	}
}

static void test_every_character(void **state)
{
	(void)state;
	for (wchar_t c = 1; c < 0x110000; c++) {
		char in[8] = "";
		mbstate_t st = {};
		size_t n = wcrtomb(in, c, &st);

		if (n == (size_t)-1) /* a surrogate */
			continue;
		in[n] = '\0';
		check_all_forms(in);
		/* What is neither a control nor turns text around is left alone. */
		if (c >= 0xa0 && !turns_around(c) && c != 0xfffe && c != 0xffff)
			assert_string_equal(escaped(ESCAPE_XML, in), in);
	}
}

static void test_random_bytes(void **state)
{
	static const char pieces[] = "\xe2\x80\xae\xef\xbf\xbe\xc2\x9b\xf0\x9f;\"<&\\\033\n";
	uint64_t r = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		char in[80];
		size_t n = 0;

		while (n < sizeof(in) - 1) {
			r = sb_mix64(r + 0x9E3779B97F4A7C15ULL);
			in[n] = r % 3 ? (char)(r >> 32) : pieces[(r >> 32) % (sizeof(pieces) - 1)];
			if (!in[n++])
				break;
		}
		in[n] = '\0';
		check_all_forms(in);
	}
}

/* A name that is cut ends with a whole character and a whole entity. */
static void test_cut(void **state)
{
	static const char in[] = "a<b>&\"'\xc3\xb6;\xff\\\n\xf0\x9f\x94\xa5z\xe2\x80\xaeq";

	(void)state;
	for (size_t f = 0; f < SB_ARRAY_SIZE(forms); f++) {
		char whole[200], cut[200];
		size_t len = escape_copy(whole, sizeof(whole), forms[f], in);

		assert_int_equal(len, strlen(whole));
		for (size_t room = 1; room <= len + 1; room++) {
			size_t n;

			memset(cut, '#', sizeof(cut));
			n = escape_copy(cut, room, forms[f], in);
			assert_true(n < room && strlen(cut) == n && cut[room] == '#');
			assert_memory_equal(cut, whole, n);
			assert_true(room <= len || n == len);
			check_output(forms[f], cut);
		}
	}
}

static void test_put_is_copy(void **state)
{
	static const char in[] = "x<&>\"'\033[2J\xff;\\\xc3\xb6";

	(void)state;
	for (size_t f = 0; f < SB_ARRAY_SIZE(forms); f++) {
		char *text = NULL;
		size_t len = 0;
		FILE *out = open_memstream(&text, &len);

		assert_non_null(out);
		escape_put(out, forms[f], in);
		fclose(out);
		assert_string_equal(text, escaped(forms[f], in));
		free(text);
	}
}

static int set_up(void **state)
{
	(void)state;
	return setlocale(LC_CTYPE, "C.UTF-8") ? 0 : -1;
}

/* JSON that may stand in a script element: what JSON gives, and nothing that ends the element. */
static void test_script(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = { { "plain", "plain" },
		      { "</script><b>&amp;", "\\u003c/script\\u003e\\u003cb\\u003e\\u0026amp;" },
		      { "]]>", "]]\\u003e" },
		      { "<!--", "\\u003c!--" },
		      { "a\"\\\n", "a\\\"\\\\\\n" } };

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(cases); i++)
		assert_string_equal(escaped(ESCAPE_SCRIPT, cases[i].in), cases[i].out);
	for (int c = 1; c < 256; c++) {
		char in[3] = { (char)c, 'x', '\0' };

		assert_null(strpbrk(escaped(ESCAPE_SCRIPT, in), "<>&\n\r\033"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_script),
		cmocka_unit_test(test_every_short_string),
		cmocka_unit_test(test_every_character),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_put_is_copy),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
