// SPDX-License-Identifier: BSD-2-Clause
/*
 * The files that triggers look at again and again, with any text. The first byte says which trigger; a NUL ends a
 * reading, and a quarter of a second goes by between two.
 */
#include <math.h>

#include "tests/fuzz/target.h"
#include "triggers/cpu_system.c"
#include "triggers/psi.c"

static const char *const specs[] = {
	"psi:memory:some:100ms/1s",
	"psi:io:full:400ms/2s:held-for=500ms",
	"psi:cpu:some:1s/10s:hysteresis=50%",
	"system:60%",
	"system:60%:pid=7:for=1s",
	"system:60%:cgroup=g:above-baseline=1s",
};

static void set_file(int fd, const char *text)
{
	size_t len = strlen(text);

	must(ftruncate(fd, 0) == 0 && pwrite(fd, text, len, 0) == (ssize_t)len, "a file in memory");
}

/* As arming does, with another file. */
static void arm(struct trigger *t, int fd, uint64_t now_ns)
{
	if (t->ops == &trigger_psi) {
		((struct psi *)t->state)->file_fd = fd;
	} else {
		struct cpu_system *s = t->state;

		s->fd[0] = fd;
		s->n_fd = 1;
		s->last_ns = now_ns;
	}
}

/* A window's stall cannot be more than what was counted since its smallest count. */
static void check_psi(const struct psi *p, double value)
{
	uint64_t last = p->n - 1, least = UINT64_MAX;

	for (uint64_t i = p->n > READINGS ? p->n - READINGS : 0; i < p->n; i++)
		least = SB_MIN(least, p->reading[i % READINGS].total_us);
	must(value <= (double)(p->reading[last % READINGS].total_us - least) / 1e3 + 1, "pressure has grown");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct trigger_env env = { .proc = "/nonexistent", .cgroup = "/nonexistent", .now_ns = sb_monotonic_ns };
	uint64_t now_ns = 1000 * NSEC_PER_SEC;
	char error[256], *text, *end;
	struct trigger *t = NULL;
	struct trigger_hit hit;
	int fd;

	if (size < 2 || size > 65536)
		return 0;
	text = text_of(data + 1, size - 1);
	end = text + size - 1;
	fd = file_of("", 0);
	must(trigger_parse(specs[data[0] % SB_ARRAY_SIZE(specs)], &t, error, sizeof(error)) == 0, "a trigger");
	arm(t, fd, now_ns);
	for (char *p = text; p < end; p += strlen(p) + 1) {
		int r;

		now_ns += 250 * NSEC_PER_MSEC;
		set_file(fd, p);
		r = t->ops->check(t, &env, now_ns, &hit);
		must(r <= 1, "a hit, none, or an error");
		if (r < 0)
			continue;
		must(isfinite(t->value) && t->value >= 0, "a value is one");
		must(!r || (isfinite(hit.value) && hit.fired_ns == now_ns), "a hit says when");
		if (t->ops == &trigger_psi)
			check_psi(t->state, t->value);
	}
	t->ops->disarm(t);
	trigger_free(t);
	free(text);
	return 0;
}
