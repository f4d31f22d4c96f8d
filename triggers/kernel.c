// SPDX-License-Identifier: BSD-2-Clause
/* Conditions that BPF evaluates itself and that seal the bank with no user space involved.
 * Here they are only read; the agent hands them over. */
#include <errno.h>
#include <stdio.h>

#include "triggers/parse.h"

#define DEFAULT_FOR_NS (1 * NSEC_PER_SEC)

static const struct condition {
	const char *name;
	enum trigger_kernel_type type;
	char relation; /* between the name and the threshold */
	bool percent;
	bool who; /* takes comm= and cgroup= */
} conditions[] = {
	{ "reclaim", TRIGGER_KERNEL_RECLAIM, '>', false, true },
	{ "blocked(D)", TRIGGER_KERNEL_BLOCKED, '>', false, true },
	{ "mmap-lock-wait", TRIGGER_KERNEL_MMAP_LOCK_WAIT, '>', false, true },
	{ "mmap-lock-hold", TRIGGER_KERNEL_MMAP_LOCK_HOLD, '>', false, true },
	{ "runq", TRIGGER_KERNEL_RUNQ, '>', false, true },
	{ "softirq-delay", TRIGGER_KERNEL_SOFTIRQ_DELAY, '>', false, false },
	{ "softirq-held", TRIGGER_KERNEL_SOFTIRQ_HELD, '>', false, true },
	{ "syscall", TRIGGER_KERNEL_SYSCALL, '>', false, true },
	{ "reclaim-yield", TRIGGER_KERNEL_RECLAIM_YIELD, '<', true, false },
	{ "system", TRIGGER_KERNEL_SYSTEM, '>', true, false },
};

static const struct condition *find_condition(const char *word, size_t n)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(conditions); i++) {
		if (strlen(conditions[i].name) == n && !strncmp(conditions[i].name, word, n))
			return &conditions[i];
	}
	return NULL;
}

static int parse_percent_value(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (end == s || strcmp(end, "%") || !v || v > 100)
		return -EINVAL;
	*ret = (uint32_t)v;
	return 0;
}

static int parse_condition(struct trigger *t, const char *word, const struct condition **ret,
			   char *ret_error, size_t len)
{
	struct trigger_kernel_condition *k = &t->kernel;
	size_t n = strcspn(word, "<>");
	const struct condition *c = *ret = find_condition(word, n);

	if (!c)
		return spec_error(ret_error, len,
				  "unknown condition '%.*s', expected reclaim, blocked(D), mmap-lock-wait, "
				  "mmap-lock-hold, runq, softirq-delay, softirq-held, syscall, reclaim-yield or system, for "
				  "example kernel:reclaim>500ms", (int)n, word);
	k->type = c->type;
	if (c->percent) {
		k->threshold_ns = DEFAULT_FOR_NS;
		if (word[n] != c->relation || parse_percent_value(word + n + 1, &k->percent) < 0)
			return spec_error(ret_error, len, "bad threshold '%s', expected %c and 1%% to 100%%, for "
					  "example %s%c10%%", word + n, c->relation, c->name, c->relation);
	} else if (word[n] != c->relation || parse_duration_ns(word + n + 1, &k->threshold_ns) < 0 ||
		   !k->threshold_ns) {
		return spec_error(ret_error, len,
				  "bad threshold '%s', expected > and a time with a unit, for example "
				  "%s>500ms", word[n] ? word + n + 1 : "", c->name);
	}
	return 0;
}

static int parse_option(struct trigger *t, const struct condition *c, const char *word, char *ret_error,
			size_t len)
{
	unsigned long count;
	const char *v;

	if ((v = spec_value(word, "comm")) && c->who) {
		if (!*v || strlen(v) >= TRIGGER_COMM_LEN)
			return spec_error(ret_error, len, "bad comm '%s', expected 1 to 15 bytes", v);
		strcpy(t->kernel.comm, v);
	} else if ((v = spec_value(word, "cgroup")) && c->who) {
		if (!*v || strlen(v) >= sizeof(t->kernel.cgroup))
			return spec_error(ret_error, len, "bad cgroup '%s', expected a path of at most %zu bytes", v,
					  sizeof(t->kernel.cgroup) - 1);
		strcpy(t->kernel.cgroup, v);
	} else if ((v = spec_value(word, "count")) && c->type == TRIGGER_KERNEL_BLOCKED) {
		if (parse_count(v, 1, 1000, &count) < 0)
			return spec_error(ret_error, len, "bad count '%s', expected 1 to 1000", v);
		t->kernel.count = (uint32_t)count;
	} else if ((v = spec_value(word, "for")) && c->percent) {
		if (t->held_ns)
			return spec_error(ret_error, len, "both for and held-for, expected one: they are the same");
		if (parse_duration_ns(v, &t->kernel.threshold_ns) < 0 || t->kernel.threshold_ns < 250000000)
			return spec_error(ret_error, len, "bad for '%s', expected 250ms or more", v);
	} else {
		return spec_error(ret_error, len, "unknown option '%s', expected %s", word,
				  c->type == TRIGGER_KERNEL_BLOCKED ?
					  "count=N, comm=NAME or cgroup=PATH, for example "
					  "kernel:blocked(D)>2s:count=10" :
				  c->who ? "comm=NAME or cgroup=PATH" :
				  c->percent ? "for=TIME" : "none");
	}
	return 0;
}

/* Shares and numbers of threads have a level; a span or a wait is a cause of its own. */
static int take_level(struct trigger *t, const struct condition *c, char *ret_error, size_t len)
{
	int r = 0;

	if (c->percent && t->held_ns && t->held_ns < 250 * NSEC_PER_MSEC)
		return spec_error(ret_error, len, "bad held-for, expected 250ms or more");
	if (c->percent && t->held_ns) {
		t->kernel.threshold_ns = t->held_ns;
	} else if (c->type == TRIGGER_KERNEL_BLOCKED) {
		t->kernel.held_ns = t->held_ns;
	} else if (!c->percent) {
		r = refuse_held_for(t, "a longer TIME behind the >", ret_error, len);
		return r < 0 ? r : refuse_hysteresis(t, "none: each one is a cause of its own", ret_error, len);
	}
	t->kernel.hysteresis = t->hysteresis;
	return 0;
}

static int kernel_parse(struct trigger *t, const char *args, char *ret_error, size_t len)
{
	char copy[TRIGGER_SPEC_MAX], *rest = copy, *word;
	const struct condition *c;
	int r;

	strcpy(copy, args);
	t->kernel.count = 1;
	r = parse_condition(t, spec_next(&rest), &c, ret_error, len);
	while (r == 0 && (word = spec_next(&rest)))
		r = parse_option(t, c, word, ret_error, len);
	if (r == 0)
		r = take_level(t, c, ret_error, len);
	if (r < 0)
		return r;
	if (c->percent) {
		t->unit = "%";
		t->threshold = t->kernel.percent;
	} else if (c->type == TRIGGER_KERNEL_BLOCKED) {
		t->unit = "threads";
		t->threshold = t->kernel.count;
	} else {
		t->unit = "ms";
		t->threshold = (double)t->kernel.threshold_ns / 1e6;
	}
	return 0;
}

static int kernel_check(struct trigger *t, const struct trigger_env *env, uint64_t now_ns,
			struct trigger_hit *ret)
{
	(void)t;
	(void)env;
	(void)now_ns;
	(void)ret;
	return 0; /* BPF tells */
}

const struct trigger_ops trigger_kernel = {
	.kind = "kernel",
	.syntax = "kernel:reclaim|mmap-lock-wait|mmap-lock-hold|runq|softirq-delay|softirq-held|\n"
		  "         syscall>TIME |\n"
		  "         blocked(D)>TIME[:count=N] | reclaim-yield<PERCENT%[:for=TIME] |\n"
		  "         system>PERCENT%[:for=TIME]   [:comm=NAME][:cgroup=PATH]",
	.parse = kernel_parse,
	.check = kernel_check,
};
