// SPDX-License-Identifier: BSD-2-Clause
/* The configuration: values and their texts, files over files, and what every error says. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/texts.h"
#include "tests/unit/scratch.h"
#include "triggers/trigger.h"

static struct config c;
static struct config_errors e;

static void parse(const char *text)
{
	memset(&e, 0, sizeof(e));
	config_defaults(&c);
	config_parse(&c, "a.conf", text, strlen(text), &e);
	config_check(&c, &e);
}

static const char *error(size_t i)
{
	static char text[1024];

	assert_true(i < e.n);
	config_error_text(&e.error[i], text, sizeof(text));
	return text;
}

/* The text has exactly this one error. */
static void wrong(const char *text, const char *expected)
{
	parse(text);
	assert_int_equal(e.n, 1);
	assert_string_equal(error(0), expected);
}

static void test_defaults(void **state)
{
	char value[64], text[256];

	(void)state;
	config_defaults(&c);
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];
		struct config copy = c;
		struct config_trigger t = {};

		if (k->section == CONFIG_TRIGGER) {
			if (k->preset[0])
				assert_int_equal(config_set(&t, k, k->preset, text, sizeof(text)), 0);
			continue;
		}
		config_get(&c, k, value, sizeof(value));
		assert_string_equal(value, k->preset);
		assert_true(k->preset[0] || k->optional);
		assert_int_equal(config_set(&copy, k, value, text, sizeof(text)), 0);
		assert_true(config_same(&copy, &c, k));
	}
	assert_int_equal(c.recorder.threshold_ns, NSEC_PER_MSEC);
	assert_int_equal(c.storage.max_use_bytes, 1 << 30);
	assert_int_equal(c.recorder.cpu_budget_ppm, 10000);
	assert_int_equal(c.recorder.escalate, CONFIG_ESCALATE_TRIGGER);
	assert_string_equal(c.server.listen, "127.0.0.1:7447");
}

static void test_units(void **state)
{
	static const struct {
		const char *text, *shown;
	} good[] = { { "90s", "90s" }, { "120s", "2m" }, { "1.5h", "90m" }, { "0s", "0s" }, { "1500us", "1500us" },
		     { "0.5m", "30s" }, { "24h", "1d" } };
	const struct config_key *k = config_find(CONFIG_RECORDER, "Cooldown");
	char value[64], text[256];

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(good); i++) {
		assert_int_equal(config_set(&c, k, good[i].text, text, sizeof(text)), 0);
		config_get(&c, k, value, sizeof(value));
		assert_string_equal(value, good[i].shown);
	}
	parse("[Storage]\nMaxAge=30d\nKeepFree=1536M\nMaxUse=1T\n[Recorder]\nCpuBudget=0.5%\n");
	assert_int_equal(e.n, 0);
	assert_int_equal(c.storage.max_age_ns, 30 * 86400 * NSEC_PER_SEC);
	assert_int_equal(c.storage.keep_free_bytes, 1536ULL << 20);
	assert_int_equal(c.recorder.cpu_budget_ppm, 5000);
}

static void test_errors(void **state)
{
	(void)state;
	wrong("[Recorder]\nPost=15\n", "a.conf:2: [Recorder] Post: '15': expected a time with a unit from 0s to 10m, such as 15s");
	wrong("[Recorder]\nThreshold=2s", "a.conf:2: [Recorder] Threshold: '2s': expected a time with a unit from 100us to 1s, such as 1ms");
	wrong("[Recorder]\n\n Treshold = 2ms\n", "a.conf:3: [Recorder] Treshold: unknown key, did you mean Threshold?");
	wrong("[Storage]\nDirektory=/x\n", "a.conf:2: [Storage] Direktory: unknown key, did you mean Directory?");
	wrong("[Storage]\nXyz=/x\n", "a.conf:2: [Storage] Xyz: unknown key, expected Directory, Fallback, MaxUse, KeepFree, MaxAge, Group");
	wrong("[Recorder]\nMaxUse=1G\n", "a.conf:2: [Recorder] MaxUse: unknown key of this section, expected in [Storage]");
	wrong("[Recoder]\nx=1\n", "a.conf:1: [Recoder]: unknown section, did you mean [Recorder]?");
	wrong("[Recorder]\nPost=1s\nPost=2s\n", "a.conf:3: [Recorder] Post: set twice in this file, expected once; line 2 has it, too");
	wrong("Post=1s\n", "a.conf:1: Post: before the first section, expected a line such as [Recorder] above it");
	wrong("[Recorder]\nPost\n", "a.conf:2: [Recorder] Post: is no assignment, expected KEY=VALUE, [SECTION] or # and a comment");
	wrong("[Recorder\n", "a.conf:1: [Recorder]: a section without its end, expected ]");
	wrong("[Recorder]\nEscalate=trig\n", "a.conf:2: [Recorder] Escalate: 'trig': expected one of trigger|always|never");
	wrong("[Recorder]\nEscalate=trigger|always\n", "a.conf:2: [Recorder] Escalate: 'trigger|always': expected one of trigger|always|never");
	wrong("[Recorder]\nEscalate=\n", "a.conf:2: [Recorder] Escalate: '': expected one of trigger|always|never");
	wrong("[Recorder]\nPin=true\n", "a.conf:2: [Recorder] Pin: 'true': expected yes or no");
	wrong("[Recorder]\nPost=1s # one\n", "a.conf:2: [Recorder] Post: '1s # one': expected a time with a unit from 0s to 10m, such as 15s "
	      "(a comment stands on a line of its own)");
	wrong("[Recorder]\nPost=\n", "a.conf:2: [Recorder] Post: '': expected a time with a unit from 0s to 10m, such as 15s");
	wrong("[Storage]\nDirectory=captures\n", "a.conf:2: [Storage] Directory: captures: expected an absolute path");
	wrong("[Storage]\nDirectory=/a/b\nFallback=//a/b/\n", "a.conf:3: [Storage] Fallback: is Directory=, expected another directory, or "
	      "none: an empty value");
	wrong("[Storage]\nDirectory=/run/stallbox/captures/\n", "default: [Storage] Fallback: is Directory=, expected another directory, or "
	      "none: an empty value");
	wrong("[Server]\nListen=localhost:80\n", "a.conf:2: [Server] Listen: 'localhost:80': expected an address of this host and a port, "
	      "such as 127.0.0.1:7447 or [::1]:7447");
	wrong("[Server]\nListen=0.0.0.0:80\n", "a.conf:2: [Server] Listen: other hosts can reach this address, expected TlsCertificate=, "
	      "TlsKey= and TokenFile=, too");
	wrong("[Server]\nTlsKey=/k\n", "a.conf:2: [Server] TlsKey: is of no use alone, expected TlsCertificate=, too");
	wrong("[Trigger a b]\n", "a.conf:1: [Trigger a b]: not a name, expected 1 to 63 of the characters A-Z a-z 0-9 . _ -");
	wrong("\n[Trigger a]\nPost=1s\n", "a.conf:2: [Trigger a] Condition: is missing, expected for example kernel:reclaim>500ms");
	wrong("[Trigger a]\nCondition=kernel:reclaim>1s:post=2s\n", "a.conf:2: [Trigger a] Condition: 'kernel:reclaim>1s:post=2s': expected "
	      "'post=' not here, but as Post=");
}

static void test_two_directories(void **state)
{
	(void)state;
	parse("[Storage]\nDirectory=/a/b\nFallback=/a/bc\n");
	assert_int_equal(e.n, 0);
	parse("[Storage]\nDirectory=/a/b\nFallback=/a/b/c\n");
	assert_int_equal(e.n, 0);
	parse("[Storage]\nDirectory=/\nFallback=\n");
	assert_int_equal(e.n, 0);
}

static void test_no_text(void **state)
{
	static const char nul[] = "[Recorder]\nPo\0st=1s\nCooldown=\x1b[31m\nBpfFs=/\xc0\xaf\n#\xed\xa0\x80\nSocket=/\xe2\x82\n";

	(void)state;
	memset(&e, 0, sizeof(e));
	config_defaults(&c);
	config_parse(&c, "a\033.conf", nul, sizeof(nul) - 1, &e);
	assert_int_equal(e.n, 5);
	assert_string_equal(error(0), "a\\x1b.conf:2: [Recorder]: byte 0x00 at column 3, expected text in UTF-8 without control characters");
	assert_string_equal(error(1), "a\\x1b.conf:3: [Recorder]: byte 0x1b at column 10, expected text in UTF-8 without control characters");
	assert_string_equal(error(2), "a\\x1b.conf:4: [Recorder]: byte 0xc0 at column 8, expected text in UTF-8 without control characters");
	assert_string_equal(error(4), "a\\x1b.conf:6: [Recorder]: byte 0xe2 at column 9, expected text in UTF-8 without control characters");
	parse("\xef\xbb\xbf[Storage]\r\nDirectory=/gr\xc3\xbc\xc3\x9f""e\r\n");
	assert_int_equal(e.n, 0);
	assert_string_equal(c.storage.directory, "/gr\xc3\xbc\xc3\x9f""e");
}

static void test_too_much(void **state)
{
	static char text[3 * CONFIG_MAX_LINE];
	size_t n;

	(void)state;
	memset(text, 'x', CONFIG_MAX_LINE + 11);
	memcpy(text, "[Recorder]\n#", 12);
	wrong(text, "a.conf:2: [Recorder]: a line of 4096 bytes, expected at most 4095");
	text[CONFIG_MAX_LINE + 10] = '\0';
	parse(text);
	assert_int_equal(e.n, 0);
	n = (size_t)snprintf(text, sizeof(text), "[Recorder]\n");
	for (int i = 0; i < CONFIG_MAX_ERRORS + 7; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "X%d=1\n", i);
	parse(text);
	assert_int_equal(e.n, CONFIG_MAX_ERRORS);
	assert_int_equal(e.more, 7);
	n = 0;
	for (int i = 0; i < CONFIG_MAX_TRIGGERS + 1; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "[Trigger t%d]\nCondition=kernel:runq>1s\n", i);
	wrong(text, "a.conf:65: [Trigger t32]: one too many, expected at most 32 triggers");
	n = 0;
	n += (size_t)snprintf(text + n, sizeof(text) - n, "[Server]\n");
	for (int i = 0; i < CONFIG_MAX_LIST + 1; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "AllowedHosts=h%d\n", i);
	wrong(text, "a.conf:18: [Server] AllowedHosts: is one too many, expected at most 16");
}

/* What a key takes at either end of its range makes a trigger. */
static void test_trigger_ranges(void **state)
{
	char range[72], text[256];
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];
		const char *end[2] = { range };

		config_range(k, range, sizeof(range));
		if (k->section != CONFIG_TRIGGER || !range[0])
			continue;
		end[1] = strstr(range, " to ") + strlen(" to ");
		range[strcspn(range, " ")] = '\0';
		for (size_t j = 0; j < SB_ARRAY_SIZE(end); j++) {
			snprintf(text, sizeof(text), "[Trigger a]\nCondition=psi:memory:full:400ms/2s\n%s=%s\n", k->name, end[j]);
			parse(text);
			if (e.n)
				print_message("%s=%s: %s\n", k->name, end[j], error(0));
			assert_int_equal(e.n, 0);
			n++;
		}
	}
	assert_int_equal(n, 2 * 6);
}

/* ---- files --------------------------------------------------------------------------- */

static void put(const char *name, const char *text, mode_t mode)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static void load(bool required)
{
	char path[256];

	memset(&e, 0, sizeof(e));
	snprintf(path, sizeof(path), "%s/stallbox.conf", top);
	config_load(&c, path, required, &e);
}

static void test_drop_ins(void **state)
{
	const struct config_key *k = config_find(CONFIG_RECORDER, "Post");
	char path[256], text[512], expected[300];

	(void)state;
	load(false);
	assert_int_equal(e.n + c.n_files, 0);
	load(true);
	assert_int_equal(e.n, 1);
	assert_string_equal(e.error[0].what, "cannot read it: No such file or directory");
	put("stallbox.conf", "[Recorder]\nPost=1s\nCooldown=1s\n[Server]\nTokenFile=read:/1\n[Trigger a]\nCondition=kernel:runq>1s\n"
	    "[Trigger b]\nCondition=kernel:runq>2s\n", 0644);
	snprintf(path, sizeof(path), "%s/stallbox.conf.d", top);
	mkdir(path, 0755);
	put("stallbox.conf.d/20-b.conf", "[Recorder]\nPost=3s\n[Trigger b]\nPost=4s\n[Trigger c]\nCondition=kernel:runq>3s\n", 0644);
	put("stallbox.conf.d/100-a.conf", "[Recorder]\nPost=2s\n[Server]\nTokenFile=freeze:/2\n[Trigger a]\nCondition=\n", 0644);
	put("stallbox.conf.d/.hidden.conf", "nonsense", 0644);
	put("stallbox.conf.d/30.conf.bak", "nonsense", 0644);
	load(true);
	assert_int_equal(e.n, 0);
	assert_int_equal(c.n_files, 3);
	assert_int_equal(c.recorder.post_ns, 3 * NSEC_PER_SEC); /* 100 sorts before 20 */
	assert_int_equal(c.recorder.cooldown_ns, NSEC_PER_SEC);
	assert_int_equal(c.server.token_files.n, 2);
	config_source_text(&c, config_source_of(&c, NULL, k), text, sizeof(text));
	snprintf(expected, sizeof(expected), "%s/stallbox.conf.d/20-b.conf:2", top);
	assert_string_equal(text, expected);
	assert_int_equal(c.n_triggers, 2);
	assert_string_equal(c.trigger[0].name, "b");
	assert_int_equal(config_trigger_spec(&c.trigger[0], text, sizeof(text)), 0);
	assert_string_equal(text, "kernel:runq>2s:name=b:post=4s");
	assert_string_equal(c.trigger[1].name, "c");
	put("stallbox.conf.d/90-none.conf", "[Trigger b]\nCondition=\n[Trigger c]\nCondition=\n", 0644);
	load(true);
	assert_int_equal(e.n, 0);
	assert_int_equal(c.n_triggers, 0); /* the default set, then */
	put("stallbox.conf.d/90-none.conf", "", 0644);
}

static void test_bad_files(void **state)
{
	char path[256];
	FILE *f;

	(void)state;
	put("stallbox.conf.d/20-b.conf", "", 0644); /* of the test before */
	put("stallbox.conf.d/100-a.conf", "", 0644);
	put("stallbox.conf", "[Recorder]\n", 0666);
	load(true);
	assert_int_equal(e.n, 1);
	assert_string_equal(e.error[0].what, "anybody may write it, expected mode 0644 (chmod o-w)");
	put("stallbox.conf", "[Recorder]\n", 0644);
	snprintf(path, sizeof(path), "%s/stallbox.conf", top);
	f = fopen(path, "a");
	assert_non_null(f);
	for (size_t i = 0; i < CONFIG_MAX_BYTES; i++)
		fputc('\n', f);
	fclose(f);
	load(true);
	assert_int_equal(e.n, 1);
	assert_string_equal(e.error[0].what, "is larger than 1M, expected a configuration file");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0644), 0);
	load(true);
	assert_string_equal(e.error[0].what, "is neither a file nor /dev/null, expected one of them");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0755), 0);
	load(true);
	assert_string_equal(e.error[0].what, "is a directory, expected a file");
	memset(&e, 0, sizeof(e));
	config_load(&c, "/dev/null", true, &e);
	assert_int_equal(e.n, 0);
	memset(&e, 0, sizeof(e));
	config_load(&c, "/dev/zero", true, &e);
	assert_int_equal(e.n, 1);
}

/* With the files of the test before. */
static void test_rights(void **state)
{
	char path[CONFIG_TEXT_MAX], drop_ins[CONFIG_TEXT_MAX + 2];

	(void)state;
	put("stallbox.conf.d/20-b.conf", "", 0644); /* needs the file that is refused */
	load(true);
	assert_int_equal(e.n, 0);
	strcpy(path, c.file[0]);
	snprintf(drop_ins, sizeof(drop_ins), "%s.d", path);
	assert_int_equal(chmod(path, 0664), 0); /* the group is ours */
	load(true);
	assert_int_equal(e.n, 0);
	assert_int_equal(chmod(drop_ins, 01777), 0);
	load(true);
	assert_int_equal(e.n, 1);
	assert_string_equal(e.error[0].file, drop_ins);
	assert_string_equal(e.error[0].what, "anybody may write it, expected mode 0755 (chmod o-w)");
	assert_int_equal(chmod(drop_ins, 0755), 0);
	if (geteuid() != 0)
		skip(); /* files of others need root */
	assert_int_equal(chown(path, 0, 1), 0);
	load(true);
	assert_int_equal(e.n, 1);
	assert_string_equal(e.error[0].what, "another group may write it, expected mode 0644 (chmod g-w)");
	assert_int_equal(chmod(path, 0640), 0);
	load(true);
	assert_int_equal(e.n, 0);
	assert_int_equal(chown(path, 1, 0), 0);
	assert_int_equal(chown(drop_ins, 1, 0), 0);
	load(true);
	assert_int_equal(e.n, 2);
	for (size_t i = 0; i < e.n; i++)
		assert_string_equal(e.error[i].what, "belongs to another user, expected root (chown root)");
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(chown(drop_ins, 0, 0), 0);
}

static void test_meant(void **state)
{
	(void)state;
	assert_int_equal(text_distance("Cooldwon", "Cooldown"), 2);
	assert_int_equal(text_distance("cooldown", "Cooldown"), 1);
	assert_int_equal(text_distance("OffCpuThreshold", "Threshold"), 1);
	assert_int_equal(text_distance("abc", ""), 3);
	assert_int_equal(text_distance("", "abc"), 3);
	assert_true(text_distance("Frequency", "Memory") > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_units),	   cmocka_unit_test(test_errors),
		cmocka_unit_test(test_two_directories),
		cmocka_unit_test(test_no_text),	 cmocka_unit_test(test_too_much),  cmocka_unit_test(test_drop_ins),
		cmocka_unit_test(test_trigger_ranges), cmocka_unit_test(test_rights),
		cmocka_unit_test(test_bad_files), cmocka_unit_test(test_meant),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
