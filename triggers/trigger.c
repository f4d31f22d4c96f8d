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
		      { "m", 60e9 }, { "min", 60e9 }, { "h", 3600e9 } };
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

/* name= and post= may stand anywhere; the kind sees the rest. */
static int take_common(struct trigger *t, char *args, char *ret_error, size_t len)
{
	static const char *const keys[] = { "name", "post" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(keys); i++) {
		char pattern[16], *at, *end, *value;

		snprintf(pattern, sizeof(pattern), ":%s=", keys[i]);
		at = strstr(args, pattern);
		if (!at)
			continue;
		value = at + strlen(pattern);
		end = value + strcspn(value, ":");
		if (i == 0)
			snprintf(t->name, sizeof(t->name), "%.*s", (int)(end - value), value);
		if (i == 1) {
			char text[32];

			snprintf(text, sizeof(text), "%.*s", (int)(end - value), value);
			if (parse_duration_ns(text, &t->post_ns) < 0)
				return spec_error(ret_error, len,
						  "bad time '%s' for post, expected for example post=10s",
						  text);
		}
		memmove(at, end, strlen(end) + 1);
	}
	return 0;
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
	free(t->state);
	free(t);
}

/* CapEff of /proc/self/status, bit 24 (capabilities(7)). */
static bool have_cap_sys_resource(void)
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
	return caps >> 24 & 1;
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
	e.have_sys_resource = have_cap_sys_resource();
	return e;
}
