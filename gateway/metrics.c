// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/metrics.h"

#include "gateway/metrics_impl.h"

enum type { COUNTER, GAUGE, INFO, STATE, HISTOGRAM };
static const char *const type_names[] = { "counter", "gauge", "gauge", "gauge", "histogram" };


/*
 * One metric. path: where its values are in the answer, "*" stands for each element of an array or object.
 * labels: for each "*" a group, groups separated by ';'. A group is the name of a label whose value is the
 * element's key, or a string; or "LABEL=FIELD,..." of an element that is an object. STATE: the values that the
 * text may have are in `states`. A value below zero is one that is not known.
 */
static const struct row {
	enum agent_answer source;
	enum type type;
	const char *path, *labels, *name;
	double scale;
	const char *help, *states;
} rows[] = {
	{ AGENT_STATUS, INFO, "version", "version", "stallbox_build_info", 1, "Version of the agent.", NULL },
	{ AGENT_STATUS, STATE, "state", "state", "stallbox_state", 1, "What the agent does.",
	  "recording post-trigger freezing cooldown" },
	{ AGENT_STATUS, GAUGE, "history_s", NULL, "stallbox_history_seconds", 1,
	  "How far back the ring of the busiest CPU reaches.", NULL },
	{ AGENT_STATUS, GAUGE, "ring_bytes", NULL, "stallbox_ring_bytes", 1, "Ring memory of both banks and all CPUs.", NULL },
	{ AGENT_STATUS, GAUGE, "map_bytes", NULL, "stallbox_kernel_memory_bytes", 1, "Kernel memory of all maps.", NULL },
	{ AGENT_COUNTERS, COUNTER, "recorded.*.*", "kind;cpu", "stallbox_records_total", 1, "Records written into the ring.",
	  NULL },
	{ AGENT_COUNTERS, COUNTER, "lost.*.cpus.*", "cause=cause,kind=kind,what=what;cpu", "stallbox_losses_total", 1,
	  "What is not in the ring, or not whole, by cause.", NULL },
	{ AGENT_COUNTERS, COUNTER, "overwritten_bytes.*", "cpu", "stallbox_overwritten_bytes_total", 1,
	  "Bytes of records that newer ones have taken the place of.", NULL },
	{ AGENT_STATUS, COUNTER, "cost.agent_cpu_ns", NULL, "stallbox_agent_cpu_seconds_total", 1e-9,
	  "CPU time of the agent.", NULL },
	{ AGENT_STATUS, COUNTER, "cost.worker_cpu_ns", NULL, "stallbox_workers_cpu_seconds_total", 1e-9,
	  "CPU time of the agent's other processes.", NULL },
	{ AGENT_STATUS, COUNTER, "cost.bpf_time_ns", NULL, "stallbox_bpf_cpu_seconds_total", 1e-9,
	  "CPU time of the BPF programs, estimated between measurements.", NULL },
	{ AGENT_STATUS, GAUGE, "cost.rss_bytes", NULL, "stallbox_agent_resident_memory_bytes", 1,
	  "Resident memory of the agent.", NULL },
	{ AGENT_STATUS, GAUGE, "cost.worker_rss_bytes", NULL, "stallbox_workers_resident_memory_bytes", 1,
	  "Resident memory of the agent's other processes.", NULL },
	{ AGENT_STATUS, COUNTER, "cost.wakeups", NULL, "stallbox_agent_wakeups_total", 1, "Wakeups of the agent's loop.", NULL },
	{ AGENT_STATUS, COUNTER, "cost.bytes_written", NULL, "stallbox_written_bytes_total", 1, "Bytes written to bundles.",
	  NULL },
	{ AGENT_STATUS, GAUGE, "cost.uptime_ns", NULL, "stallbox_agent_uptime_seconds", 1e-9,
	  "Since when the agent records.", NULL },
	{ AGENT_STATUS, GAUGE, "limit.budget_ppm", NULL, "stallbox_cpu_budget_ratio", 1e-6,
	  "Share of all CPUs that the recorder may use.", NULL },
	{ AGENT_STATUS, GAUGE, "limit.cost_ppm", NULL, "stallbox_cpu_used_ratio", 1e-6,
	  "Share of all CPUs that the recorder used over the last 10 s.", NULL },
	{ AGENT_STATUS, GAUGE, "limit.step", NULL, "stallbox_limit_step", 1,
	  "Evidence left out to stay within the budget: 0 nothing, 4 the most.", NULL },
	{ AGENT_STATUS, COUNTER, "limit.detached_ms", NULL, "stallbox_limit_detached_seconds_total", 1e-3,
	  "Time during which optional programs were detached to stay within the budget.", NULL },
	{ AGENT_STATUS, GAUGE, "triggers.*.armed", "trigger=name", "stallbox_trigger_armed", 1,
	  "0: the trigger cannot look.", NULL },
	{ AGENT_STATUS, GAUGE, "triggers.*.value", "trigger=name", "stallbox_trigger_value", 1,
	  "What the trigger saw last, in its own unit.", NULL },
	{ AGENT_STATUS, GAUGE, "triggers.*.threshold", "trigger=name", "stallbox_trigger_threshold", 1,
	  "Where it fires, in its own unit.", NULL },
	{ AGENT_STATUS, COUNTER, "triggers.*.fired", "trigger=name", "stallbox_trigger_fired_total", 1,
	  "How often its condition was met.", NULL },
	{ AGENT_STATUS, INFO, "missing.*", "evidence", "stallbox_missing_evidence", 1,
	  "Evidence that this kernel cannot give.", NULL },
	{ AGENT_STATUS, COUNTER, "captures", NULL, "stallbox_captures_total", 1, "Captures begun.", NULL },
	{ AGENT_STATUS, COUNTER, "merged", NULL, "stallbox_captures_merged_total", 1,
	  "Triggers that became part of a capture under way, or fell into a cooldown.", NULL },
	{ AGENT_STATUS, COUNTER, "failures", NULL, "stallbox_capture_failures_total", 1,
	  "Captures that were lost or could not be stored.", NULL },
	{ AGENT_STATUS, COUNTER, "kept_back", NULL, "stallbox_triggers_kept_back_total", 1,
	  "Conditions that were met and froze nothing, because of a limit of their trigger.", NULL },
	{ AGENT_TRIGGERS, COUNTER, "triggers.*.outcomes.*", "trigger=name;outcome", "stallbox_trigger_outcomes_total", 1,
	  "What came of a trigger's condition being met.", NULL },
	{ AGENT_STATUS, GAUGE, "storage.held", NULL, "stallbox_storage_held_captures", 1,
	  "Bundles in memory that no directory takes.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.dropped", NULL, "stallbox_storage_lost_captures_total", 1,
	  "Bundles lost because memory held too many.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.retries", NULL, "stallbox_storage_retries_total", 1,
	  "Attempts to store a bundle again.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.deleted.*", "reason", "stallbox_storage_deleted_total", 1,
	  "Bundles deleted, by the limit that asked for it.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.deleted_bytes", NULL, "stallbox_storage_deleted_bytes_total", 1,
	  "Bytes of bundles deleted.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.quarantined", NULL, "stallbox_storage_quarantined_total", 1,
	  "Damaged bundles put aside.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.directories.*.stored", "directory=path", "stallbox_storage_stored_total", 1,
	  "Bundles stored.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.directories.*.failed", "directory=path", "stallbox_storage_failures_total", 1,
	  "Attempts to store a bundle that failed.", NULL },
	{ AGENT_STATUS, COUNTER, "storage.directories.*.timeouts", "directory=path", "stallbox_storage_timeouts_total", 1,
	  "Attempts to store a bundle that took too long.", NULL },
	{ AGENT_STATUS, GAUGE, "storage.directories.*.stuck", "directory=path", "stallbox_storage_stuck_processes", 1,
	  "Processes that hang in the directory.", NULL },
	{ AGENT_STATUS, GAUGE, "config.last_reload_successful", NULL, "stallbox_config_last_reload_successful", 1,
	  "0: the last reload failed, the configuration before it is in force.", NULL },
	{ AGENT_STATUS, COUNTER, "config.reloads", NULL, "stallbox_config_reloads_total", 1,
	  "Reloads of the configuration.", NULL },
	{ AGENT_STATUS, COUNTER, "config.reload_failures", NULL, "stallbox_config_reload_failures_total", 1,
	  "Reloads that failed.", NULL },
	{ AGENT_COUNTERS, HISTOGRAM, "seal_latency", NULL, "stallbox_freeze_seal_seconds", 1,
	  "From a trigger's condition to the sealed ring.", NULL },
	{ AGENT_COUNTERS, HISTOGRAM, "durable_latency", NULL, "stallbox_freeze_durable_seconds", 1,
	  "From a trigger's condition to a durable bundle with all that was before it.", NULL },
};

void metrics_put_head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* ---- labels ------------------------------------------------------------------------- */

struct labels metrics_label(const struct labels *before, const char *label, size_t label_len, const char *value)
{
	struct labels l = *before;
	int n = snprintf(l.text + l.n, sizeof(l.text) - l.n, "%s%.*s=\"", l.n ? "," : "", (int)label_len, label);

	if (n < 0 || l.n + (size_t)n + 4 > sizeof(l.text))
		return *before;
	l.n += (size_t)n;
	for (; *value && l.n + 4 < sizeof(l.text); value++) {
		if (strchr("\\\"\n", *value))
			l.text[l.n++] = '\\';
		l.text[l.n++] = *value == '\n' ? 'n' : *value;
	}
	/* Cut: not in the middle of a character. */
	while (((unsigned char)*value & 0xc0) == 0x80) {
		value--;
		l.n--;
	}
	l.text[l.n++] = '"';
	l.text[l.n] = '\0';
	return l;
}

static struct labels labels_of(const struct labels *before, const char *group, const char *key, const json_t *element)
{
	size_t end = strcspn(group, ";");
	struct labels l = *before;

	while (end) {
		size_t n = strcspn(group, ",;"), name = strcspn(group, "=,;");
		const char *value = key;
		char field[32];

		if (group[name] == '=') {
			snprintf(field, sizeof(field), "%.*s", (int)(n - name - 1), group + name + 1);
			value = json_string_value(json_object_get(element, field));
		} else if (json_is_string(element)) {
			value = json_string_value(element);
		}
		l = metrics_label(&l, group, name, value ? value : "");
		n += group[n] == ',';
		group += n;
		end -= n;
	}
	return l;
}

static const char *next_group(const char *labels)
{
	const char *end = labels ? strchr(labels, ';') : NULL;

	return end ? end + 1 : "";
}

/* ---- values ------------------------------------------------------------------------- */

static void put_sample(FILE *f, const char *name, const struct labels *l, const char *value)
{
	if (l->n)
		fprintf(f, "%s{%s} %s\n", name, l->text, value);
	else
		fprintf(f, "%s %s\n", name, value);
}

static void put_number(FILE *f, const struct row *row, const struct labels *l, const json_t *v)
{
	double d = json_is_true(v) ? 1 : json_number_value(v);
	char text[48];

	if (json_is_integer(v) && row->scale == 1)
		snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
	else
		snprintf(text, sizeof(text), "%.15g", d * row->scale);
	put_sample(f, row->name, l, text);
}

static void put_states(FILE *f, const struct row *row, const struct labels *l, const char *state)
{
	for (const char *s = row->states; *s; s += strcspn(s, " "), s += *s == ' ') {
		char one[32];
		struct labels with_state;

		snprintf(one, sizeof(one), "%.*s", (int)strcspn(s, " "), s);
		with_state = metrics_label(l, row->labels, strlen(row->labels), one);
		put_sample(f, row->name, &with_state, strcmp(one, state) ? "0" : "1");
	}
}

/* {"le_s": [...], "count": [...], "sum_s": N}: counts of each bucket alone, the last one is that of what is above. */
static void put_histogram(FILE *f, const struct row *row, const struct labels *l, const json_t *v)
{
	const json_t *le = json_object_get(v, "le_s"), *count = json_object_get(v, "count");
	long long sum = 0;
	json_t *n;
	size_t i;

	json_array_foreach(count, i, n) {
		const json_t *bound = json_array_get(le, i);
		char text[32] = "+Inf";
		struct labels bucket;

		if (bound)
			snprintf(text, sizeof(text), "%g", json_number_value(bound));
		bucket = metrics_label(l, "le", 2, text);
		sum += json_integer_value(n);
		fprintf(f, "%s_bucket{%s} %lld\n", row->name, bucket.text, sum);
	}
	fprintf(f, "%s_sum %.15g\n%s_count %lld\n", row->name, json_number_value(json_object_get(v, "sum_s")), row->name, sum);
}

static bool has_value(const struct row *row, const json_t *v)
{
	switch (row->type) {
	case INFO:
	case STATE:
		return json_is_string(v);
	case HISTOGRAM:
		return json_is_array(json_object_get(v, "count"));
	default:
		return json_is_boolean(v) || (json_is_number(v) && json_number_value(v) >= 0);
	}
}

static void put_value(FILE *f, const struct row *row, const char *group, const struct labels *before, const json_t *v,
		      bool *head)
{
	struct labels l = *before;

	if (!has_value(row, v))
		return;
	if (!*head)
		metrics_put_head(f, row->name, type_names[row->type], row->help);
	*head = true;
	if (row->type == STATE) {
		put_states(f, row, &l, json_string_value(v));
	} else if (row->type == HISTOGRAM) {
		put_histogram(f, row, &l, v);
	} else if (row->type == INFO) {
		if (*group)
			l = labels_of(before, group, NULL, v);
		put_sample(f, row->name, &l, "1");
	} else {
		put_number(f, row, &l, v);
	}
}

/* Two elements of one name would make the scrape as a whole invalid. */
static struct labels labels_of_element(const struct labels *before, const char *group, const json_t *array, size_t at)
{
	struct labels l = labels_of(before, group, NULL, json_array_get(array, at));
	unsigned int same = 1;
	char text[16];

	for (size_t i = 0; i < at; i++) {
		struct labels earlier = labels_of(before, group, NULL, json_array_get(array, i));

		same += !strcmp(earlier.text, l.text);
	}
	snprintf(text, sizeof(text), "%u", same);
	return same > 1 ? metrics_label(&l, "duplicate", strlen("duplicate"), text) : l;
}

/* Follows the path; what is not there gives no sample. */
static void walk(FILE *f, const struct row *row, const char *path, const char *group, const struct labels *before,
		 const json_t *v, bool *head)
{
	size_t n = strcspn(path, ".");
	const char *rest = path + n + (path[n] == '.');
	char name[64];

	if (!*path) {
		put_value(f, row, group, before, v, head);
	} else if (strcmp(path, "*") && strncmp(path, "*.", 2)) {
		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		walk(f, row, rest, group, before, json_object_get(v, name), head);
	} else if (json_is_array(v)) {
		size_t i;
		json_t *e;

		json_array_foreach(v, i, e) {
			struct labels l = labels_of_element(before, group, v, i);

			walk(f, row, rest, next_group(group), &l, e, head);
		}
	} else {
		const char *key;
		json_t *e;

		json_object_foreach((json_t *)v, key, e) {
			struct labels l = labels_of(before, group, key, e);

			walk(f, row, rest, next_group(group), &l, e, head);
		}
	}
}

void metrics_put_agent(FILE *f, json_t *const answer[AGENT_ANSWERS])
{
	static const struct labels none;

	metrics_put_head(f, "stallbox_agent_up", "gauge", "1: the agent answers.");
	fprintf(f, "stallbox_agent_up %d\n", answer[AGENT_STATUS] ? 1 : 0);
	for (size_t i = 0; i < SB_ARRAY_SIZE(rows); i++) {
		bool head = false;

		walk(f, &rows[i], rows[i].path, rows[i].labels ? rows[i].labels : "", &none,
		     answer[rows[i].source], &head);
	}
}
