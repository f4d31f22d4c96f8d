// SPDX-License-Identifier: BSD-2-Clause
/* Specifications, and the decisions of psi and system on made-up files and a made-up clock. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "triggers/trigger.h"

static uint64_t clock_ns = 1000 * NSEC_PER_SEC;

static uint64_t now(void)
{
	return clock_ns;
}

static struct trigger *parse(const char *spec)
{
	struct trigger *t = NULL;
	char error[256] = "";

	if (trigger_parse(spec, &t, error, sizeof(error)) < 0)
		fail_msg("%s: %s", spec, error);
	return t;
}

static void test_good(void **state)
{
	static const char *const specs[] = {
		"psi:memory:full:150ms/2s", "psi:cpu:some:1s/2s:cgroup=/a/b", "psi:io:full:10ms/10s:name=x",
		"system:60%:for=3s", "system:150%:pid=1", "system:5%:comm=postgres:above-baseline=60s",
		"probe:http://127.0.0.1:8123/ping:timeout=1s:fails=2", "probe:http://[::1]:80/:status=503",
		"probe:tcp://127.0.0.1:5432:every=5s", "probe:unix:/run/x.sock", "probe:exec:true:post=5s",
		"probe:cmdline:comm=postgres:timeout=500ms", "kernel:reclaim>500ms",
		"kernel:blocked(D)>2s:count=10", "kernel:reclaim>1s:comm=clickhouse",
		"kernel:blocked(D)>2s:hysteresis=50%:held-for=1s", "probe:exec:true:held-for=10s:max-per-day=1000",
		"psi:io:full:10ms/10s:dry-run", "kernel:reclaim-yield<5%:hysteresis=99%",
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(specs); i++)
		trigger_free(parse(specs[i]));
	for (size_t i = 0; trigger_defaults[i]; i++)
		trigger_free(parse(trigger_defaults[i]));
}

static void test_values(void **state)
{
	struct trigger *t = parse("kernel:blocked(D)>2s:count=10:name=stuck:post=7s");

	(void)state;
	assert_string_equal(t->name, "stuck");
	assert_int_equal(t->post_ns, 7 * NSEC_PER_SEC);
	assert_int_equal(t->kernel.threshold_ns, 2 * NSEC_PER_SEC);
	assert_int_equal(t->kernel.count, 10);
	trigger_free(t);
}

/* Each error names the word that is wrong. */
static void test_bad(void **state)
{
	static const char *const bad[][2] = {
		{ "", "kind" }, { "psy:memory", "psy" }, { "psi", "psi" }, { "psi:", "psi" },
		{ "psi:disk:full:1ms/1s", "disk" }, { "psi:memory:ful:150ms/2s", "ful" },
		{ "psi:memory:full:150/2s", "150" }, { "psi:memory:full:150ms", "150ms" },
		{ "psi:memory:full:3s/2s", "3s" }, { "psi:memory:full:0ms/2s", "0ms" },
		{ "psi:memory:full:1ms/100ms", "100ms" }, { "psi:memory:full:1s/20s", "20s" },
		{ "psi:memory:full:1s/2s:what=1", "what" }, { "system:60", "60" }, { "system:0%", "0%" },
		{ "system:101%", "101%" }, { "system:60%:for=3", "3" }, { "system:60%:comm=", "comm" },
		{ "system:60%:pid=1:comm=x", "one" }, { "system:60%:foo", "foo" },
		{ "probe:ftp://x", "ftp" }, { "probe:http://127.0.0.1/", "port" },
		{ "probe:tcp://127.0.0.1:99999", "99999" }, { "probe:tcp://127.0.0.1:1:timeout=90s", "90s" },
		{ "probe:tcp://127.0.0.1:1:fails=0", "0" }, { "probe:tcp://127.0.0.1:1:status=200", "status" },
		{ "probe:http://127.0.0.1:1/:status=99", "99" }, { "probe:unix", "nothing" },
		{ "probe:cmdline", "comm=" }, { "probe:cmdline:comm=waytoolongforacomm", "waytoo" },
		{ "kernel:reclaim", "threshold" }, { "kernel:reclaim>500", "500" },
		{ "kernel:reclaim>0s", "0s" }, { "kernel:sleep>1s", "sleep" },
		{ "kernel:reclaim>1s:count=3", "count" }, { "kernel:blocked(D)>1s:count=x", "x" },
		{ "kernel:reclaim>1s:post=5", "post" }, { "kernel:reclaim>1s:post=0s", "post" },
		{ "system:60%:name=", "name" }, { "system:60%:cooldown=1", "cooldown" }, { "system:60%:cooldown=25h", "cooldown" },
		{ "system:60%:max-per-hour=0", "max-per-hour" }, { "system:60%:max-per-hour=1001", "1001" },
		{ "system:60%:max-per-day=x", "max-per-day" }, { "system:60%:hysteresis=100%", "hysteresis" },
		{ "system:60%:hysteresis=20", "hysteresis" }, { "system:60%:held-for=0s", "held-for" },
		{ "system:60%:for=1s:held-for=1s", "both" }, { "system:60%:dry-run=yes", "dry-run" },
		{ "system:60%:dry-runs", "dry-runs" }, { "system:60%:cooldown=1s:cooldown=2s", "cooldown" },
		{ "kernel:reclaim>1s:held-for=1s", "held-for" }, { "kernel:runq>1s:hysteresis=10%", "hysteresis" },
		{ "probe:exec:true:hysteresis=10%", "hysteresis" }, { "kernel:system>50%:held-for=1ms", "held-for" },
	};

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(bad); i++) {
		struct trigger *t = NULL;
		char error[256] = "";

		if (trigger_parse(bad[i][0], &t, error, sizeof(error)) != -EINVAL)
			fail_msg("'%s' was taken", bad[i][0]);
		if (!strstr(error, bad[i][1]))
			fail_msg("'%s': '%s' does not name '%s'", bad[i][0], error, bad[i][1]);
		assert_null(t);
	}
}

static void test_limits_of_a_spec(void **state)
{
	struct trigger *t = parse("system:60%:cooldown=10m:max-per-hour=3:dry-run:max-per-day=20:held-for=4s:hysteresis=25%:name=x");

	(void)state;
	assert_string_equal(t->name, "x");
	assert_int_equal(t->limits.cooldown_ns, 600 * NSEC_PER_SEC);
	assert_int_equal(t->limits.max_per_hour, 3);
	assert_int_equal(t->limits.max_per_day, 20);
	assert_true(t->limits.dry_run);
	assert_int_equal(t->held_ns, 4 * NSEC_PER_SEC);
	assert_true(t->hysteresis == 0.25);
	trigger_free(t);
	t = parse("kernel:system>50%:held-for=2s:hysteresis=10%");
	assert_int_equal(t->kernel.threshold_ns, 2 * NSEC_PER_SEC);
	trigger_free(t);
	t = parse("kernel:blocked(D)>1s:count=5:held-for=2s");
	assert_int_equal(t->kernel.held_ns, 2 * NSEC_PER_SEC);
	assert_false(t->limits.dry_run);
	trigger_free(t);
}

static void put(const char *file, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *file, const char *fmt, ...)
{
	char path[256];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", top, file);
	f = fopen(path, "r+"); /* in place: the triggers keep it open */
	if (!f)
		f = fopen(path, "w");
	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

static struct trigger_env env(void)
{
	return (struct trigger_env){ .proc = top, .now_ns = now };
}

static void put_memory(uint64_t total_us)
{
	put("pressure/memory", "some avg10=0.00 total=5\nfull avg10=0.00 total=%012llu\n", (unsigned long long)total_us);
}

static void test_psi(void **state)
{
	struct trigger_env e = env();
	struct trigger *t = parse("psi:memory:full:150ms/2s");
	struct trigger_hit hit;
	uint64_t total = 1000000;
	int hits = 0;

	(void)state;
	put_memory(total);
	assert_int_equal(t->ops->arm(t, &e), 0);
	assert_int_equal(t->period_ns, 250 * NSEC_PER_MSEC);
	/* 18 ms in every 250 ms are 144 to 149 ms in any 2 s: just below. */
	for (int i = 0; i < 40; i++) {
		total += 18000;
		clock_ns += t->period_ns;
		put_memory(total);
		assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 0);
	}
	/* 19 ms are 152 ms: fires, and once per window. */
	for (int i = 0; i < 16; i++) {
		total += 19000;
		clock_ns += t->period_ns;
		put_memory(total);
		hits += t->ops->check(t, &e, clock_ns, &hit);
	}
	assert_int_equal(hits, 2);
	assert_true(hit.value >= 150 && hit.value < 160);
	/* Nothing stalls: one reading a second; again all of them once it does. */
	clock_ns += t->period_ns;
	t->ops->check(t, &e, clock_ns, &hit);
	assert_int_equal(t->period_ns, NSEC_PER_SEC);
	assert_int_equal(t->quiet, 0); /* 150 ms of the last 2 s: a moment more of it counts */
	total += 19000;
	clock_ns += t->period_ns;
	put_memory(total);
	t->ops->check(t, &e, clock_ns, &hit);
	assert_int_equal(t->period_ns, 250 * NSEC_PER_MSEC);
	t->ops->disarm(t);
	trigger_free(t);
}

/* Two seconds apart while nothing stalls; the look for which it has begun finds what a look each second would have. */
static void test_psi_quiet(void **state)
{
	struct trigger_env e = env();
	struct trigger *t = parse("psi:memory:full:150ms/2s");
	struct trigger_hit hit;
	uint64_t total = 1000000;

	(void)state;
	put_memory(total);
	assert_int_equal(t->ops->arm(t, &e), 0);
	assert_int_equal(t->quiet, 0);
	for (int i = 0; i < 3; i++) {
		clock_ns += TRIGGER_QUIET_NS + 5 * NSEC_PER_MSEC; /* a little late */
		assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 0);
		assert_int_equal(t->quiet, HOST_STALLS(HOST_MEMORY));
	}
	/* 10 ms of one second: a look each second would be followed by one 250 ms later. */
	clock_ns += TRIGGER_QUIET_NS;
	total += 10000;
	put_memory(total);
	assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 0);
	assert_int_equal(t->quiet, 0);
	assert_int_equal(t->period_ns, 250 * NSEC_PER_MSEC);
	/* Quiet again, then all of it at once, within the last second. */
	for (int i = 0; i < 3; i++) {
		clock_ns += TRIGGER_QUIET_NS;
		assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 0);
	}
	assert_int_equal(t->quiet, HOST_STALLS(HOST_MEMORY));
	clock_ns += TRIGGER_QUIET_NS + 5 * NSEC_PER_MSEC;
	put_memory(total + 150000);
	assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 1);
	assert_int_equal(t->quiet, 0);
	t->ops->disarm(t);
	trigger_free(t);
}

/* What may reach its threshold while the host seems quiet never says that it is. */
static void test_psi_never_quiet(void **state)
{
	static const char *const specs[] = {
		"psi:memory:full:150ms/1s",		  /* a window that two looks would miss */
		"psi:memory:full:20ms/2s",		  /* 1 % of two seconds */
		"psi:memory:full:150ms/2s:cgroup=a",	  /* a small part of the host */
	};
	struct trigger_env e = env();
	struct trigger_hit hit;

	(void)state;
	e.cgroup = top;
	assert_int_equal(mkdir(at("a"), 0755), 0);
	put("a/memory.pressure", "some avg10=0.00 total=5\nfull avg10=0.00 total=%012u\n", 1u);
	put_memory(1000000);
	for (size_t i = 0; i < SB_ARRAY_SIZE(specs); i++) {
		struct trigger *t = parse(specs[i]);

		assert_int_equal(t->ops->arm(t, &e), 0);
		for (int k = 0; k < 4; k++) {
			clock_ns += t->period_ns;
			assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 0);
			assert_int_equal(t->quiet, 0);
		}
		t->ops->disarm(t);
		trigger_free(t);
	}
}

/* A cgroup made again under its name counts from 0: that is no pressure, and what comes then is looked at afresh. */
static void test_psi_counted_anew(void **state)
{
	struct trigger_env e = env();
	struct trigger *t = parse("psi:memory:full:150ms/2s");
	struct trigger_hit hit;
	uint64_t total = 0;

	(void)state;
	put_memory(5000000);
	assert_int_equal(t->ops->arm(t, &e), 0);
	for (int i = 0; i < 20; i++) {
		total += 18000;
		clock_ns += t->period_ns;
		put_memory(total);
		assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 0);
		assert_int_equal(t->period_ns, 250 * NSEC_PER_MSEC);
		assert_true(t->value < 150);
	}
	clock_ns += t->period_ns;
	put_memory(total + 150000);
	assert_int_equal(t->ops->check(t, &e, clock_ns, &hit), 1);
	t->ops->disarm(t);
	trigger_free(t);
}

static uint64_t ticks[2]; /* system, idle */

static void put_stat(void)
{
	put("stat", "cpu  0 0 %020llu %020llu 0 0 0 0 0 0\n", (unsigned long long)ticks[0],
	    (unsigned long long)ticks[1]);
}

static int step(struct trigger *t, struct trigger_env *e, unsigned int percent, struct trigger_hit *hit)
{
	ticks[0] += percent;
	ticks[1] += 100 - percent;
	clock_ns += t->period_ns;
	put_stat();
	return t->ops->check(t, e, clock_ns, hit);
}

static void test_system(void **state)
{
	struct trigger_env e = env();
	struct trigger *t = parse("system:60%:for=3s");
	struct trigger_hit hit;

	(void)state;
	put_stat();
	assert_int_equal(t->ops->arm(t, &e), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(step(t, &e, 59, &hit), 0);
	/* Two seconds above are not three. */
	assert_int_equal(step(t, &e, 90, &hit), 0);
	assert_int_equal(step(t, &e, 90, &hit), 0);
	assert_int_equal(step(t, &e, 10, &hit), 0);
	assert_int_equal(step(t, &e, 60, &hit), 0);
	assert_int_equal(step(t, &e, 60, &hit), 0);
	assert_int_equal(step(t, &e, 60, &hit), 1);
	assert_true(hit.value == 60);
	/* The look before it was a little late, and the third one is not. */
	assert_int_equal(step(t, &e, 10, &hit), 0);
	clock_ns += 40 * NSEC_PER_MSEC;
	assert_int_equal(step(t, &e, 10, &hit), 0);
	clock_ns -= 40 * NSEC_PER_MSEC;
	assert_int_equal(step(t, &e, 60, &hit), 0);
	assert_int_equal(step(t, &e, 60, &hit), 0);
	assert_int_equal(step(t, &e, 60, &hit), 1);
	t->ops->disarm(t);
	trigger_free(t);
}

/* As another one has read it, a second before the look that comes. */
static struct {
	struct cpu_times cpu;
	uint64_t ns;
} other;

static bool other_before(const void *reader, uint64_t until_ns, struct cpu_times *ret, uint64_t *ret_ns)
{
	(void)reader;
	if (!other.ns || other.ns > until_ns)
		return false;
	*ret = other.cpu;
	*ret_ns = other.ns;
	return true;
}

/* A second of 8 %, at whose end the other one reads, and one of `percent`. */
static int two_seconds(struct trigger *t, struct trigger_env *e, unsigned int percent, bool other_reads,
		       struct trigger_hit *hit)
{
	ticks[0] += 8;
	ticks[1] += 92;
	other.cpu = (struct cpu_times){ ticks[0], ticks[0] + ticks[1] };
	other.ns = other_reads ? clock_ns + NSEC_PER_SEC : 0;
	ticks[0] += percent;
	ticks[1] += 100 - percent;
	clock_ns += TRIGGER_QUIET_NS;
	put_stat();
	return t->ops->check(t, e, clock_ns, hit);
}

static void test_system_quiet(void **state)
{
	struct trigger *t = parse("system:60%:for=3s");
	struct trigger_env e = env();
	struct trigger_hit hit;

	(void)state;
	e.cpu_before = other_before;
	put_stat();
	assert_int_equal(t->ops->arm(t, &e), 0);
	assert_int_equal(t->quiet, 0);
	assert_int_equal(step(t, &e, 10, &hit), 0);
	assert_int_equal(t->quiet, 0); /* as much as begins: a look each second */
	assert_int_equal(step(t, &e, 9, &hit), 0);
	assert_int_equal(t->quiet, HOST_SYSTEM);
	assert_int_equal(two_seconds(t, &e, 7, true, &hit), 0);
	assert_true(t->value == 7);
	assert_int_equal(t->quiet, HOST_SYSTEM);
	/* It has lasted for a second then, and fires two later: as with a look each second. */
	assert_int_equal(two_seconds(t, &e, 60, true, &hit), 0);
	assert_true(t->value == 60);
	assert_int_equal(t->quiet, 0);
	assert_int_equal(t->met_since_ns, clock_ns - NSEC_PER_SEC);
	assert_int_equal(step(t, &e, 60, &hit), 0);
	assert_int_equal(step(t, &e, 60, &hit), 1);
	/* Nobody else reads any more: it is the average of both seconds. */
	assert_int_equal(step(t, &e, 8, &hit), 0);
	assert_int_equal(t->quiet, HOST_SYSTEM);
	assert_int_equal(two_seconds(t, &e, 60, false, &hit), 0);
	assert_true(t->value == 34);
	assert_int_equal(t->quiet, 0);
	t->ops->disarm(t);
	trigger_free(t);
}

/* Where two seconds could be too long. */
static void test_system_never_quiet(void **state)
{
	static const char *const specs[] = {
		"system:60%:for=1s",		   /* looked at four times a second */
		"system:19%:for=3s",		   /* near what is said to have begun */
		"system:60%:above-baseline=10s",
	};
	struct trigger_env e = env();
	struct trigger *t;
	struct trigger_hit hit;

	(void)state;
	for (size_t i = 0; i < SB_ARRAY_SIZE(specs); i++) {
		t = parse(specs[i]);
		put_stat();
		assert_int_equal(t->ops->arm(t, &e), 0);
		for (int k = 0; k < 3; k++) {
			assert_int_equal(step(t, &e, 0, &hit), 0);
			assert_int_equal(t->quiet, 0);
		}
		t->ops->disarm(t);
		trigger_free(t);
	}
	/* After a hit until it was calm: that may be a short time. */
	t = parse("system:60%:hysteresis=99%");
	put_stat();
	assert_int_equal(t->ops->arm(t, &e), 0);
	assert_int_equal(step(t, &e, 60, &hit), 1);
	assert_int_equal(step(t, &e, 1, &hit), 0);
	assert_int_equal(t->quiet, 0);
	assert_int_equal(step(t, &e, 0, &hit), 0);
	assert_int_equal(t->quiet, HOST_SYSTEM);
	t->ops->disarm(t);
	trigger_free(t);
}

static void test_baseline(void **state)
{
	struct trigger_env e = env();
	struct trigger *t = parse("system:20%:above-baseline=10s");
	struct trigger_hit hit;

	(void)state;
	put_stat();
	assert_int_equal(t->ops->arm(t, &e), 0);
	for (int i = 0; i < 30; i++)
		assert_int_equal(step(t, &e, 40, &hit), 0);
	assert_int_equal(step(t, &e, 59, &hit), 0);
	assert_int_equal(step(t, &e, 70, &hit), 1);
	t->ops->disarm(t);
	trigger_free(t);
}

/* Once per time above, and again only after it was 20 % below. */
static void test_hysteresis(void **state)
{
	static const struct {
		unsigned int percent;
		int fires;
	} steps[] = { { 60, 1 }, { 90, 0 }, { 59, 0 }, { 60, 0 }, { 48, 0 }, { 60, 0 }, { 47, 0 }, { 60, 1 }, { 60, 0 } };
	struct trigger *t = parse("system:60%:hysteresis=20%");
	struct trigger_env e = env();
	struct trigger_hit hit;

	(void)state;
	put_stat();
	assert_int_equal(t->ops->arm(t, &e), 0);
	for (size_t i = 0; i < SB_ARRAY_SIZE(steps); i++) {
		if (step(t, &e, steps[i].percent, &hit) != steps[i].fires)
			fail_msg("step %zu", i);
	}
	t->ops->disarm(t);
	trigger_free(t);
}

/* The same incident is said to be: it was not calm in between. */
static void test_goes_on(void **state)
{
	struct trigger *t = parse("system:60%:for=2s");
	struct trigger_env e = env();
	struct trigger_hit hit = {};
	int hits = 0, going_on = 0;

	(void)state;
	put_stat();
	assert_int_equal(t->ops->arm(t, &e), 0);
	for (int i = 0; i < 14; i++) {
		if (step(t, &e, i == 8 ? 10 : 90, &hit)) {
			hits++;
			going_on += hit.goes_on;
		}
	}
	/* 8 s of it, then 5 s of another one. */
	assert_int_equal(hits, 4 + 2);
	assert_int_equal(going_on, 3 + 1);
	t->ops->disarm(t);
	trigger_free(t);
}

/* Pressure that has to last is read, whatever the kernel could do. */
static void test_psi_held_for(void **state)
{
	struct trigger_env e = env();
	struct trigger *t = parse("psi:memory:full:150ms/2s:held-for=5s");
	struct trigger_hit hit;
	uint64_t total = 1000000, met_ns = 0;
	int fired = 0;

	(void)state;
	e.have_sys_resource = true;
	put_memory(total);
	assert_int_equal(t->ops->arm(t, &e), 0);
	assert_int_equal(t->fd, -1);
	while (!fired) {
		total += 100000;
		clock_ns += t->period_ns;
		put_memory(total);
		fired = t->ops->check(t, &e, clock_ns, &hit);
		if (!met_ns && t->value >= 150)
			met_ns = clock_ns;
		assert_true(clock_ns < met_ns + 10 * NSEC_PER_SEC || !met_ns);
	}
	assert_true(clock_ns - met_ns >= 5 * NSEC_PER_SEC && clock_ns - met_ns < 6 * NSEC_PER_SEC);
	t->ops->disarm(t);
	trigger_free(t);
}

static void test_units(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(parse_duration_ns("1500us", &v), 0);
	assert_int_equal(v, 1500000);
	assert_int_equal(parse_duration_ns("3m", &v), 0);
	assert_int_equal(v, 180 * NSEC_PER_SEC);
	assert_int_equal(parse_duration_ns("15", &v), -EINVAL);
	assert_int_equal(parse_duration_ns("-1s", &v), -EINVAL);
	assert_int_equal(parse_duration_ns("1e30s", &v), -ERANGE);
	assert_int_equal(parse_size_bytes("64M", &v), 0);
	assert_int_equal(v, 64 << 20);
	assert_int_equal(parse_size_bytes("64", &v), -EINVAL);
	assert_int_equal(parse_size_bytes("99999999999999T", &v), -ERANGE);
}

static int begin(void **state)
{
	return set_up(state) ? -1 : mkdir(at("pressure"), 0755);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	 cmocka_unit_test(test_values),
		cmocka_unit_test(test_bad),	 cmocka_unit_test(test_units),
		cmocka_unit_test(test_psi),	 cmocka_unit_test(test_system),
		cmocka_unit_test(test_baseline), cmocka_unit_test(test_limits_of_a_spec),
		cmocka_unit_test(test_hysteresis), cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_psi_held_for), cmocka_unit_test(test_psi_counted_anew),
		cmocka_unit_test(test_psi_quiet), cmocka_unit_test(test_psi_never_quiet),
		cmocka_unit_test(test_system_quiet), cmocka_unit_test(test_system_never_quiet),
	};

	return cmocka_run_group_tests(tests, begin, tear_down);
}
