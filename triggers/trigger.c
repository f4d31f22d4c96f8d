// SPDX-License-Identifier: BSD-2-Clause
#include "triggers/trigger.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "triggers/parse.h"

const struct trigger_ops *const trigger_kinds[] = { &trigger_psi, &trigger_system, &trigger_probe,
						    &trigger_kernel, NULL };

/* Measured incidents decide: PSI alone misses most of them, so age of reclaim comes first.
 * Ten threads in D state for 5 s is no slow disk any more. Windows are multiples of 2 s: all
 * that is allowed without CAP_SYS_RESOURCE. */
const char *const trigger_defaults[] = {
	"kernel:reclaim>500ms:name=reclaim-age",
	"kernel:mmap-lock-wait>1s:name=mmap-lock-wait",
	"kernel:blocked(D)>5s:count=10:name=blocked",
	"kernel:softirq-held>50ms:name=softirq-held",
	"system:60%:for=3s:name=system",
	"psi:memory:full:400ms/2s:name=memory-pressure",
	NULL,
};

int spec_error(char *ret_error, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ret_error, len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

char *spec_next(char **rest)
{
	char *word = *rest, *colon;

	if (!word)
		return NULL;
	colon = strchr(word, ':');
	if (colon)
		*colon++ = '\0';
	*rest = colon;
	return word;
}

const char *spec_value(const char *word, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(word, key, n) && word[n] == '=' ? word + n + 1 : NULL;
}

int parse_duration_ns(const char *s, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 },
		      { "m", 60e9 }, { "min", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 } };
	char *end;
	double v;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	v = strtod(s, &end);
	for (size_t i = 0; i < SB_ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit))
			continue;
		if (!(v * units[i].ns < 1e18))
			return -ERANGE;
		*ret_ns = (uint64_t)(v * units[i].ns + 0.5);
		return 0;
	}
	return -EINVAL;
}

int parse_size_bytes(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	unsigned int shift = 0;
	const char *unit;
	uint64_t v;
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || !*end)
		return -EINVAL; /* a bare number could be anything */
	unit = strchr(units, toupper((unsigned char)*end));
	if (!unit || (end[1] && strcmp(end + 1, "iB") && strcmp(end + 1, "B")))
		return -EINVAL;
	shift = 10 * (unsigned int)(unit - units + 1);
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = v << shift;
	return 0;
}

int parse_percent(const char *s, double max, double *ret)
{
	char *end;
	double v;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	v = strtod(s, &end);
	if (strcmp(end, "%"))
		return -EINVAL;
	if (!(v > 0 && v <= max))
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_count(const char *s, unsigned long min, unsigned long max, unsigned long *ret)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	*ret = strtoul(s, &end, 10);
	if (errno || *end)
		return -EINVAL;
	return *ret < min || *ret > max ? -ERANGE : 0;
}

int read_again(int fd, char *ret, size_t len)
{
	ssize_t n = pread(fd, ret, len - 1, 0);

	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return (int)n;
}

int parse_share(const char *s, double *ret)
{
	double v;
	int r = parse_percent(s, 99, &v);

	if (r == 0)
		*ret = v / 100;
	return r;
}

/* ---- what every kind takes ------------------------------------------------------------ */

static int set_name(struct trigger *t, const char *v)
{
	snprintf(t->name, sizeof(t->name), "%s", v);
	return *v && strlen(v) < sizeof(t->name) ? 0 : -EINVAL;
}

static int set_post(struct trigger *t, const char *v)
{
	return parse_duration_ns(v, &t->post_ns) < 0 || !t->post_ns || t->post_ns > 600 * NSEC_PER_SEC ? -EINVAL : 0;
}

static int set_held_for(struct trigger *t, const char *v)
{
	return parse_duration_ns(v, &t->held_ns) < 0 || !t->held_ns || t->held_ns > 3600 * NSEC_PER_SEC ? -EINVAL : 0;
}

static int set_hysteresis(struct trigger *t, const char *v)
{
	return parse_share(v, &t->hysteresis);
}

static int set_cooldown(struct trigger *t, const char *v)
{
	return parse_duration_ns(v, &t->limits.cooldown_ns) < 0 || t->limits.cooldown_ns > TRIGGER_DAY_NS ? -EINVAL : 0;
}

static int set_max_per_hour(struct trigger *t, const char *v)
{
	return parse_count(v, 1, TRIGGER_MAX_PER, &t->limits.max_per_hour);
}

static int set_max_per_day(struct trigger *t, const char *v)
{
	return parse_count(v, 1, TRIGGER_MAX_PER, &t->limits.max_per_day);
}

static int set_dry_run(struct trigger *t, const char *v)
{
	t->limits.dry_run = true;
	return *v ? -EINVAL : 0;
}

static const struct common {
	const char *key; /* with the = that it needs */
	int (*set)(struct trigger *t, const char *value);
	const char *expected;
} commons[] = {
	{ "name=", set_name, "1 to 63 bytes, for example name=checkout" },
	{ "post=", set_post, "more than 0 and at most 600s, for example post=10s" },
	{ "held-for=", set_held_for, "more than 0 and at most 1h, for example held-for=3s" },
	{ "hysteresis=", set_hysteresis, "more than 0% and at most 99%, for example hysteresis=20%" },
	{ "cooldown=", set_cooldown, "0s to 24h, for example cooldown=10m" },
	{ "max-per-hour=", set_max_per_hour, "1 to 1000, for example max-per-hour=3" },
	{ "max-per-day=", set_max_per_day, "1 to 1000, for example max-per-day=20" },
	{ "dry-run", set_dry_run, "no value" },
};

/* ":KEY", or NULL. One without a value ends where the word does. */
static char *find_common(char *args, const struct common *c)
{
	size_t n = strlen(c->key);

	for (char *at = args; (at = strchr(at, ':')); at++) {
		if (!strncmp(at + 1, c->key, n) && (c->key[n - 1] == '=' || strchr(":=", at[1 + n])))
			return at;
	}
	return NULL;
}

/* They may stand anywhere; the kind sees the rest. */
static int take_common(struct trigger *t, char *args, char *ret_error, size_t len)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(commons); i++) {
		char *at = find_common(args, &commons[i]), *value, *end;
		char text[TRIGGER_SPEC_MAX];

		if (!at)
			continue;
		value = at + 1 + strlen(commons[i].key);
		end = value + strcspn(value, ":");
		snprintf(text, sizeof(text), "%.*s", (int)(end - value), value);
		if (commons[i].set(t, text) < 0)
			return spec_error(ret_error, len, "bad value '%.60s' for %.*s, expected %s", text,
					  (int)strcspn(commons[i].key, "="), commons[i].key, commons[i].expected);
		memmove(at, end, strlen(end) + 1);
	}
	return 0;
}

int refuse_held_for(const struct trigger *t, const char *instead, char *ret_error, size_t len)
{
	return t->held_ns ? spec_error(ret_error, len, "held-for does not fit this condition, expected %s", instead) : 0;
}

int refuse_hysteresis(const struct trigger *t, const char *instead, char *ret_error, size_t len)
{
	return t->hysteresis > 0 ? spec_error(ret_error, len, "hysteresis does not fit this condition, expected %s", instead) : 0;
}

double calm_below(const struct trigger *t, double limit)
{
	return limit * (1 - t->hysteresis);
}

bool level_fires(struct trigger *t, bool met, bool calm, uint64_t since_ns, uint64_t now_ns,
		 struct trigger_hit *ret)
{
	t->met = met;
	if (!met) {
		t->met_since_ns = 0;
		t->told = false;
	}
	if (t->waits_for_calm && !calm)
		return false;
	t->waits_for_calm = false;
	if (!met)
		return false;
	if (!t->met_since_ns)
		t->met_since_ns = since_ns;
	/* Two looks a period apart are never exactly so: a hair less than that is not another period to wait for. */
	if (now_ns - t->met_since_ns + t->period_ns / 20 < t->held_ns)
		return false;
	ret->goes_on = t->told;
	t->told = true;
	t->met_since_ns = 0;
	t->waits_for_calm = t->hysteresis > 0;
	return true;
}

static int unknown_kind(const char *kind, char *ret_error, size_t len)
{
	int n = snprintf(ret_error, len, "unknown trigger kind '%.40s', expected", kind);

	for (size_t i = 0; trigger_kinds[i] && n > 0 && (size_t)n < len; i++)
		n += snprintf(ret_error + n, len - (size_t)n, "%s %s", i ? "," : "",
			      trigger_kinds[i]->kind);
	if (n > 0 && (size_t)n < len)
		snprintf(ret_error + n, len - (size_t)n, ", for example psi:memory:full:150ms/2s");
	return -EINVAL;
}

int trigger_parse(const char *spec, struct trigger **ret, char *ret_error, size_t error_len)
{
	SB_CLEANUP(trigger_freep) struct trigger *t = calloc(1, sizeof(*t));
	char args[TRIGGER_SPEC_MAX], kind[32];
	const char *colon = strchr(spec, ':');
	size_t i;
	int r;

	if (!t)
		return -ENOMEM;
	t->fd = -1;
	if (strlen(spec) >= sizeof(t->spec))
		return spec_error(ret_error, error_len, "longer than %zu bytes", sizeof(t->spec) - 1);
	snprintf(kind, sizeof(kind), "%.*s", (int)(colon ? colon - spec : 31), spec);
	for (i = 0; trigger_kinds[i] && strcmp(trigger_kinds[i]->kind, kind); i++)
		;
	if (!trigger_kinds[i])
		return unknown_kind(kind, ret_error, error_len);
	if (!colon || !colon[1])
		return spec_error(ret_error, error_len, "nothing after '%s', expected %s", kind,
				  trigger_kinds[i]->syntax);
	strcpy(t->spec, spec);
	snprintf(t->name, sizeof(t->name), "%.63s", spec);
	strcpy(args, colon + 1);
	r = take_common(t, args, ret_error, error_len);
	if (r < 0)
		return r;
	t->ops = trigger_kinds[i];
	r = t->ops->parse(t, args, ret_error, error_len);
	if (r == 0)
		r = limits_init(&t->limits, &t->history);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void trigger_free(struct trigger *t)
{
	if (!t)
		return;
	if (t->ops && t->ops->free)
		t->ops->free(t);
	limits_done(&t->history);
	free(t->state);
	free(t);
}

unsigned long long capabilities_effective(void)
{
	unsigned long long caps = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	}
	if (f)
		fclose(f);
	return caps;
}

struct trigger_env trigger_env_host(void)
{
	static const char *const v2[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	struct trigger_env e = { .proc = "/proc", .now_ns = sb_monotonic_ns };
	char path[128];
	struct stat st;

	for (size_t i = 0; i < SB_ARRAY_SIZE(v2); i++) {
		snprintf(path, sizeof(path), "%s/cgroup.controllers", v2[i]);
		if (!e.cgroup && stat(path, &st) == 0)
			e.cgroup = v2[i];
	}
	if (stat("/sys/fs/cgroup/cpuacct/cpuacct.stat", &st) == 0)
		e.cgroup_cpu = "/sys/fs/cgroup/cpuacct";
	e.have_sys_resource = capabilities_effective() >> 24 & 1; /* CAP_SYS_RESOURCE */
	return e;
}
