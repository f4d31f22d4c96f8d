// SPDX-License-Identifier: BSD-2-Clause
/* Conditions that BPF evaluates itself and that seal the bank with no user space involved.
 * Here they are only read; the agent hands them over. */
#include <errno.h>
#include <stdio.h>

#include "triggers/parse.h"

static int parse_condition(struct trigger *t, const char *word, char *ret_error, size_t len)
{
	struct trigger_kernel_condition *k = &t->kernel;
	const char *gt = strchr(word, '>');
	size_t n = gt ? (size_t)(gt - word) : strlen(word);

	if (n == 7 && !strncmp(word, "reclaim", n))
		k->type = TRIGGER_KERNEL_RECLAIM;
	else if (n == 10 && !strncmp(word, "blocked(D)", n))
		k->type = TRIGGER_KERNEL_BLOCKED;
	else
		return spec_error(ret_error, len,
				  "unknown condition '%.*s', expected reclaim or blocked(D), for example "
				  "kernel:reclaim>500ms", (int)n, word);
	if (!gt || parse_duration_ns(gt + 1, &k->threshold_ns) < 0 || !k->threshold_ns)
		return spec_error(ret_error, len,
				  "bad threshold '%s', expected > and a time with a unit, for example "
				  "%.*s>500ms", gt ? gt + 1 : "", (int)n, word);
	return 0;
}

static int kernel_parse(struct trigger *t, const char *args, char *ret_error, size_t len)
{
	char copy[TRIGGER_SPEC_MAX], *rest = copy, *word;
	unsigned long count;
	const char *v;
	int r;

	strcpy(copy, args);
	t->kernel.count = 1;
	r = parse_condition(t, spec_next(&rest), ret_error, len);
	if (r < 0)
		return r;
	while ((word = spec_next(&rest))) {
		if ((v = spec_value(word, "comm"))) {
			if (!*v || strlen(v) >= TRIGGER_COMM_LEN)
				return spec_error(ret_error, len,
						  "bad comm '%s', expected 1 to 15 bytes", v);
			strcpy(t->kernel.comm, v);
		} else if ((v = spec_value(word, "count")) && t->kernel.type == TRIGGER_KERNEL_BLOCKED) {
			if (parse_count(v, 1, 1000, &count) < 0)
				return spec_error(ret_error, len,
						  "bad count '%s', expected 1 to 1000", v);
			t->kernel.count = (uint32_t)count;
		} else {
			return spec_error(ret_error, len, "unknown option '%s', expected count=N or "
					  "comm=NAME, for example kernel:blocked(D)>2s:count=10", word);
		}
	}
	t->unit = t->kernel.type == TRIGGER_KERNEL_BLOCKED ? "threads" : "ms";
	t->threshold = t->kernel.type == TRIGGER_KERNEL_BLOCKED ? (double)t->kernel.count :
			       (double)t->kernel.threshold_ns / 1e6;
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
	.syntax = "kernel:reclaim>TIME[:comm=NAME] | kernel:blocked(D)>TIME[:count=N][:comm=NAME]",
	.parse = kernel_parse,
	.check = kernel_check,
};
