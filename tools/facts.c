// SPDX-License-Identifier: BSD-2-Clause
#include "tools/facts.h"

#include <errno.h>
#include <stdio.h>

#include "tools/usage.h"

/* ---- the table --------------------------------------------------------------------------------- */

static struct fact *slot(struct facts *f, const char *key)
{
	for (size_t i = 0; i < f->n; i++) {
		if (!strcmp(f->list[i].key, key))
			return &f->list[i];
	}
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 128;
		void *bigger = realloc(f->list, cap * sizeof(*f->list));

		if (!bigger) {
			f->failed = true;
			return NULL;
		}
		f->list = bigger;
		f->cap = cap;
	}
	f->list[f->n] = (struct fact){ .key = key };
	return &f->list[f->n++];
}

void facts_set(struct facts *f, const char *key, enum fact_form form, double value)
{
	struct fact *x = slot(f, key);

	if (!x)
		return;
	x->form = form;
	x->value = value;
}

void facts_text(struct facts *f, const char *key, const char *text)
{
	struct fact *x = slot(f, key);

	if (!x)
		return;
	x->form = FACT_TEXT;
	free(x->text);
	x->text = strdup(text);
	x->value = *text != '\0';
	f->failed |= !x->text;
}

const struct fact *facts_get(const struct facts *f, const char *key)
{
	for (size_t i = 0; i < f->n; i++) {
		if (!strcmp(f->list[i].key, key))
			return &f->list[i];
	}
	return NULL;
}

void facts_done(struct facts *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->list[i].text);
	free(f->list);
	*f = (struct facts){};
}

static int print_bytes(char *ret, size_t len, double v)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t u = 0;

	for (; v >= 1024 && u + 1 < SB_ARRAY_SIZE(units); v /= 1024)
		u++;
	return snprintf(ret, len, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

size_t fact_print(const struct fact *x, char *ret, size_t len)
{
	double v = x->value;
	int n = 0;

	switch (x->form) {
	case FACT_COUNT:
		n = snprintf(ret, len, "%.0f", v);
		break;
	case FACT_DECIMAL:
		n = snprintf(ret, len, v < 10 ? "%.1f" : "%.0f", v);
		break;
	case FACT_PERCENT:
		n = snprintf(ret, len, v >= 10 ? "%.0f %%" : v >= 0.1 || v == 0 ? "%.1f %%" : "%.3f %%", v);
		break;
	case FACT_SECONDS:
		n = snprintf(ret, len, v >= 100 ? "%.0f s" : v >= 1 ? "%.1f s" : "%.0f ms", v >= 1 ? v : v * 1000);
		break;
	case FACT_BYTES:
		n = print_bytes(ret, len, v);
		break;
	case FACT_TEXT:
		n = snprintf(ret, len, "%s", x->text ? x->text : "");
		break;
	}
	return n < 0 ? 0 : SB_MIN((size_t)n, len ? len - 1 : 0);
}

/* ---- who used the CPUs and waited for them -------------------------------------------------------- */

static double both(const struct usage *g, enum usage_value k)
{
	return ((double)g->v[USAGE_BEFORE][k] + (double)g->v[USAGE_AFTER][k]) / 1e9;
}

/* "db 10" as "db[10]". */
static void put_process(struct facts *f, const char *key, const char *label)
{
	const char *pid = strrchr(label, ' ');
	char text[512];

	if (pid)
		snprintf(text, sizeof(text), "%.*s[%s]", (int)(pid - label), label, pid + 1);
	facts_text(f, key, pid ? text : label);
}

/* The group with the most of a value: its label, and its share of all of it. */
static void set_top(struct facts *f, const struct usages *u, enum usage_value k, const char *label_key,
		    const char *share_key)
{
	double best = 0, all = both(&u->total, k);
	uint32_t at = 0;

	for (uint32_t i = 0; i < u->n; i++) {
		double v = both(&u->of[i], k);

		if (v > best) {
			best = v;
			at = i + 1;
		}
	}
	if (!at || all <= 0)
		return;
	put_process(f, label_key, group_label(&u->groups, at));
	facts_set(f, share_key, FACT_PERCENT, 100 * best / all);
}

static int usage_facts(struct facts *f, const struct facts_input *in)
{
	struct usages u = {};
	int r = usages_count(&u, in->b, in->filter, GROUP_PROCESS);
	double cpu_s = in->seconds * in->cpus, d = both(&u.total, USAGE_D);

	if (r == 0 && in->seconds > 0) {
		facts_set(f, "cpu.user_percent", FACT_PERCENT, 100 * both(&u.total, USAGE_USR) / cpu_s);
		facts_set(f, "cpu.system_percent", FACT_PERCENT, 100 * both(&u.total, USAGE_SYS) / cpu_s);
		facts_set(f, "cpu.busy_percent", FACT_PERCENT,
			  100 * (both(&u.total, USAGE_USR) + both(&u.total, USAGE_SYS)) / cpu_s);
		facts_set(f, "runq.avg_waiting", FACT_DECIMAL, both(&u.total, USAGE_RUNQ) / in->seconds);
		facts_set(f, "runq.per_cpu", FACT_DECIMAL, both(&u.total, USAGE_RUNQ) / cpu_s);
		facts_set(f, "dstate.avg_threads", FACT_DECIMAL, d / in->seconds);
		facts_set(f, "samples.n", FACT_COUNT, both(&u.total, USAGE_SAMPLES) * 1e9);
		set_top(f, &u, USAGE_SYS, "cpu.system_top", "cpu.system_top_percent");
		set_top(f, &u, USAGE_USR, "cpu.user_top", "cpu.user_top_percent");
		set_top(f, &u, USAGE_RUNQ, "runq.top", "runq.top_percent");
		set_top(f, &u, USAGE_D, "dstate.event_top", "dstate.event_top_percent");
	}
	usages_done(&u);
	return r;
}

static void window(struct facts_input *in)
{
	const struct filter *f = in->filter;
	uint64_t first = bundle_first_ns(in->b), last = bundle_last_ns(in->b), t = f->trigger_ns;

	in->begin_ns = f->since.set ? SB_MAX(first, t + (uint64_t)f->since.ns) : first;
	in->end_ns = f->until.set ? SB_MIN(last, t + (uint64_t)f->until.ns) : last;
	if (in->end_ns < in->begin_ns)
		in->end_ns = in->begin_ns;
	in->seconds = (double)(in->end_ns - in->begin_ns) / 1e9;
}

/* For the commands of a report: what it looked at. */
static void window_options(struct facts *f, const struct filter *filter)
{
	char text[96] = "";

	if (filter->since.set)
		snprintf(text, sizeof(text), "--since %gs", (double)filter->since.ns / 1e9);
	if (filter->until.set)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s--until %gs", *text ? " " : "",
			 (double)filter->until.ns / 1e9);
	facts_text(f, "window.options", text);
}

static void host_facts(struct facts *f, struct facts_input *in)
{
	const struct bundle_header *h = bundle_header(in->b);
	uint64_t t = in->filter->trigger_ns, first = bundle_first_ns(in->b);

	in->cpus = h && h->n_cpu_online ? (double)h->n_cpu_online : 1;
	facts_set(f, "host.cpus", FACT_COUNT, in->cpus);
	facts_text(f, "host.name", h ? h->hostname : "unknown host");
	facts_text(f, "trigger.name", h ? h->trigger.name : "unknown");
	facts_text(f, "trigger.detail", h ? h->trigger.detail : "");
	window_options(f, in->filter);
	facts_set(f, "window.seconds", FACT_SECONDS, in->seconds);
	facts_set(f, "history.seconds", FACT_SECONDS, first < t ? (double)(t - first) / 1e9 : 0);
}

int facts_collect(struct facts *f, struct bundle *b, struct filter *filter)
{
	struct names names;
	struct facts_input in = { .b = b, .filter = filter, .names = &names };
	int r;

	*f = (struct facts){};
	names_init(&names, b);
	window(&in);
	host_facts(f, &in);
	r = usage_facts(f, &in);
	if (r == 0)
		r = facts_from_events(f, &in);
	if (r == 0)
		r = facts_from_stackshot(f, &in);
	if (r == 0) {
		facts_from_series(f, &in);
		facts_from_losses(f, &in);
	}
	names_done(&names);
	return r == 0 && f->failed ? -ENOMEM : r;
}
