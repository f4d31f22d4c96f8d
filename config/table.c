// SPDX-License-Identifier: BSD-2-Clause
#include "config/config.h"
#include "config/texts.h"
#include "triggers/limits.h"

#define KEY(s, n) .section = (s), .name = (n)
#define IN(field) .offset = offsetof(struct config, field), .size = sizeof(((struct config *)0)->field)
#define OF(field) \
	.offset = offsetof(struct config_trigger, field), .size = sizeof(((struct config_trigger *)0)->field)

#define SECONDS(n) ((n) * NSEC_PER_SEC)
#define DAYS(n) ((n) * 86400 * NSEC_PER_SEC)
#define MIB(n) ((uint64_t)(n) << 20)

const char *const config_section_name[CONFIG_SECTIONS] = { "Recorder", "Storage", "Server", "Upload", "Trigger" };

const struct config_key config_keys[] = {
	{ KEY(CONFIG_RECORDER, "Memory"), .flag = "memory", .type = CONFIG_SIZE, IN(recorder.memory_bytes), .preset = "",
	  .min = MIB(2), .max = MIB(65536), .optional = true,
	  .help = "ring memory of both banks, all CPUs; not set: 16M per CPU, at most 256M or 2% of RAM; never below 2M per possible CPU" },
	{ KEY(CONFIG_RECORDER, "Threshold"), .flag = "threshold", .type = CONFIG_DURATION, IN(recorder.threshold_ns),
	  .preset = "1ms", .min = 100 * NSEC_PER_USEC, .max = SECONDS(1),
	  .help = "shorter off-CPU blocks are not recorded" },
	{ KEY(CONFIG_RECORDER, "IrqThreshold"), .flag = "irq-threshold", .type = CONFIG_DURATION,
	  IN(recorder.irq_threshold_ns), .preset = "5ms", .min = 1, .max = SECONDS(1),
	  .help = "escalated: shorter softirq delays, softirqs and hardirqs are not recorded" },
	{ KEY(CONFIG_RECORDER, "SyscallThreshold"), .flag = "syscall-threshold", .type = CONFIG_DURATION,
	  IN(recorder.syscall_threshold_ns), .preset = "100ms", .min = NSEC_PER_MSEC, .max = SECONDS(60),
	  .help = "shorter system calls are not recorded" },
	{ KEY(CONFIG_RECORDER, "Frequency"), .flag = "frequency", .type = CONFIG_NUMBER, IN(recorder.frequency_hz),
	  .preset = "99", .min = 1, .max = 999, .help = "on-CPU samples per second and CPU; up to the rate of ticks (CONFIG_HZ) without timers of its own" },
	{ KEY(CONFIG_RECORDER, "CpuBudget"), .flag = "cpu-budget", .type = CONFIG_PERCENT, IN(recorder.cpu_budget_ppm),
	  .preset = "1%", .min = 1, .max = 1000000, .at_run_time = true,
	  .help = "of all CPUs together, over 10 s; above it less is recorded, step by step" },
	/* Long enough to see a stall end; the events after it are seldom the cause. */
	{ KEY(CONFIG_RECORDER, "Post"), .flag = "post", .type = CONFIG_DURATION, IN(recorder.post_ns), .preset = "15s",
	  .min = 0, .max = SECONDS(600), .at_run_time = true, .help = "recorded after the trigger" },
	/* A stall that lasts is one incident: one bundle a minute says what there is to say. */
	{ KEY(CONFIG_RECORDER, "Cooldown"), .flag = "cooldown", .type = CONFIG_DURATION, IN(recorder.cooldown_ns),
	  .preset = "60s", .min = 0, .max = DAYS(1), .at_run_time = true,
	  .help = "from a trigger to the next bundle at the earliest" },
	{ KEY(CONFIG_RECORDER, "Escalate"), .flag = "escalate", .type = CONFIG_CHOICE, IN(recorder.escalate),
	  .preset = "trigger", .choices = "trigger|always|never", .at_run_time = true,
	  .help = "when to record holds of mmap_lock, system calls and softirqs exactly; trigger: from a trigger to the "
		  "end of the post window" },
	{ KEY(CONFIG_RECORDER, "UserUnwind"), .flag = "user-unwind", .type = CONFIG_CHOICE, IN(recorder.user_unwind),
	  .preset = "eh_frame", .choices = "eh_frame|frame-pointer|off", .help = "how callers are found in user stacks" },
	{ KEY(CONFIG_RECORDER, "CommandLine"), .flag = "command-line", .type = CONFIG_BOOL, IN(recorder.command_line),
	  .preset = "yes", .help = "keep the first bytes of the arguments of programs that begin" },
	{ KEY(CONFIG_RECORDER, "UnwindMemory"), .flag = "unwind-memory", .type = CONFIG_SIZE, IN(recorder.unwind_bytes),
	  .preset = "", .min = MIB(1), .max = MIB(32), .optional = true,
	  .help = "tables for user stacks by eh_frame; not set: 32M, at most 2% of RAM; what was used longest ago goes first" },
	{ KEY(CONFIG_RECORDER, "Realtime"), .flag = "no-realtime", .type = CONFIG_BOOL, IN(recorder.realtime),
	  .preset = "yes", .help = "use SCHED_FIFO and mlockall, to be in time on an overloaded host" },
	{ KEY(CONFIG_RECORDER, "Pin"), .flag = "no-pin", .type = CONFIG_BOOL, IN(recorder.pin), .preset = "yes",
	  .help = "keep recording in the kernel when the agent ends, for the next one" },
	{ KEY(CONFIG_RECORDER, "BpfFs"), .flag = "bpffs", .type = CONFIG_PATH, IN(recorder.bpffs),
	  .preset = "/sys/fs/bpf", .help = "where bpffs is mounted" },
	{ KEY(CONFIG_RECORDER, "Socket"), .flag = "socket", .type = CONFIG_PATH, IN(recorder.socket),
	  .preset = "/run/stallbox/control.sock", .help = "control socket" },

	{ KEY(CONFIG_STORAGE, "Directory"), .flag = "spool", .type = CONFIG_PATH, IN(storage.directory),
	  .preset = "/var/lib/stallbox/captures", .help = "bundles" },
	{ KEY(CONFIG_STORAGE, "Fallback"), .flag = "fallback", .type = CONFIG_PATH, IN(storage.fallback),
	  .preset = "/run/stallbox/captures", .optional = true, .help = "used when that fails" },
	{ KEY(CONFIG_STORAGE, "MaxUse"), .flag = "max-use", .type = CONFIG_SIZE, IN(storage.max_use_bytes), .preset = "1G",
	  .min = MIB(1), .max = 1ULL << 50, .at_run_time = true,
	  .help = "size of all bundles together; the oldest go first" },
	{ KEY(CONFIG_STORAGE, "KeepFree"), .flag = "keep-free", .type = CONFIG_SIZE, IN(storage.keep_free_bytes),
	  .preset = "256M", .max = 1ULL << 50, .at_run_time = true,
	  .help = "space that bundles leave free on the file systems of both, at most half of each; 0M: no matter" },
	{ KEY(CONFIG_STORAGE, "MaxAge"), .flag = "max-age", .type = CONFIG_DURATION, IN(storage.max_age_ns), .preset = "",
	  .min = SECONDS(60), .max = DAYS(3650), .optional = true, .at_run_time = true,
	  .help = "older bundles are deleted; not set: at no age" },
	{ KEY(CONFIG_STORAGE, "Group"), .flag = "group", .type = CONFIG_TEXT, IN(storage.group), .preset = "stallbox", .optional = true,
	  .help = "group that may read bundles, where there is such a group" },

	{ KEY(CONFIG_SERVER, "Listen"), .type = CONFIG_TEXT, IN(server.listen), .preset = "127.0.0.1:7447",
	  .wrong = text_wrong_listen,
	  .help = "address and port of the HTTP gateway; other than this host's own needs TLS and a token" },
	{ KEY(CONFIG_SERVER, "TlsCertificate"), .type = CONFIG_PATH, IN(server.tls_certificate), .preset = "",
	  .optional = true, .help = "certificate chain, PEM" },
	{ KEY(CONFIG_SERVER, "TlsKey"), .type = CONFIG_PATH, IN(server.tls_key), .preset = "", .optional = true,
	  .help = "its private key, PEM" },
	{ KEY(CONFIG_SERVER, "TokenFile"), .type = CONFIG_LIST, IN(server.token_files), .preset = "", .optional = true,
	  .wrong = text_wrong_token, .help = "SCOPE:PATH of a bearer token, SCOPE read or freeze; once for each" },
	{ KEY(CONFIG_SERVER, "Anonymous"), .type = CONFIG_CHOICE, IN(server.anonymous), .preset = "none", .choices = "none|read",
	  .help = "what needs no token on an address of this host alone, besides /metrics; read: every local user, and what "
		  "can be made to ask from here, reads command lines and kernel addresses of all" },
	{ KEY(CONFIG_SERVER, "MaxConnections"), .type = CONFIG_NUMBER, IN(server.max_connections), .preset = "64",
	  .min = 1, .max = 10000, .help = "connections at a time" },
	{ KEY(CONFIG_SERVER, "ConnectionTimeout"), .type = CONFIG_DURATION, IN(server.connection_timeout_ns),
	  .preset = "30s", .min = SECONDS(1), .max = SECONDS(3600),
	  .help = "a connection without progress for so long is closed" },
	{ KEY(CONFIG_SERVER, "AllowedHosts"), .type = CONFIG_LIST, IN(server.allowed_hosts), .preset = "",
	  .optional = true, .wrong = text_wrong_host,
	  .help = "name that a request may have in Host, besides the address listened on; once for each" },

	{ KEY(CONFIG_UPLOAD, "Endpoint"), .type = CONFIG_TEXT, IN(upload.endpoint), .preset = "", .optional = true,
	  .wrong = text_wrong_url, .help = "URL of an S3-compatible object store; not set: nothing is uploaded" },
	{ KEY(CONFIG_UPLOAD, "Bucket"), .type = CONFIG_TEXT, IN(upload.bucket), .preset = "", .optional = true,
	  .help = "where bundles go there" },
	{ KEY(CONFIG_UPLOAD, "Region"), .type = CONFIG_TEXT, IN(upload.region), .preset = "us-east-1",
	  .help = "of the signature" },
	{ KEY(CONFIG_UPLOAD, "Prefix"), .type = CONFIG_TEXT, IN(upload.prefix), .preset = "", .optional = true,
	  .help = "before HOST/DATE/NAME in the key" },
	{ KEY(CONFIG_UPLOAD, "CredentialsFile"), .type = CONFIG_PATH, IN(upload.credentials_file), .preset = "",
	  .optional = true, .help = "access key and secret, mode 0600" },
	{ KEY(CONFIG_UPLOAD, "PathStyle"), .type = CONFIG_BOOL, IN(upload.path_style), .preset = "yes",
	  .help = "the bucket stands in the path, not in the host name" },
	{ KEY(CONFIG_UPLOAD, "Retry"), .type = CONFIG_DURATION, IN(upload.retry_ns), .preset = "5m", .min = SECONDS(1),
	  .max = DAYS(1), .help = "longest time between two tries" },
	{ KEY(CONFIG_UPLOAD, "DeleteAfter"), .type = CONFIG_DURATION, IN(upload.delete_after_ns), .preset = "",
	  .min = SECONDS(1), .max = DAYS(3650), .optional = true, .at_run_time = true,
	  .help = "a bundle that was uploaded so long ago is deleted here; not set: [Storage] alone decides" },
	{ KEY(CONFIG_UPLOAD, "PyroscopeUrl"), .type = CONFIG_TEXT, IN(upload.pyroscope_url), .preset = "",
	  .optional = true, .wrong = text_wrong_url, .help = "profiles are pushed there; not set: none are" },

	{ KEY(CONFIG_TRIGGER, "Condition"), .type = CONFIG_CONDITION, OF(condition), .preset = "", .optional = true,
	  .at_run_time = true, .help = "when to freeze, as in TRIGGERS of stallboxd(8)" },
	/* The ranges are those of trigger_parse(). */
	{ KEY(CONFIG_TRIGGER, "HeldFor"), .type = CONFIG_DURATION, OF(held_for_ns), .preset = "", .min = 1,
	  .max = SECONDS(3600), .optional = true, .at_run_time = true,
	  .help = "it has to hold for so long without a break; not set: one look is enough" },
	{ KEY(CONFIG_TRIGGER, "Hysteresis"), .type = CONFIG_PERCENT, OF(hysteresis_ppm), .preset = "", .min = 1,
	  .max = 990000, .optional = true, .at_run_time = true,
	  .help = "it fires again only after a value so far below the threshold, in percent of it; not set: any value" },
	{ KEY(CONFIG_TRIGGER, "Cooldown"), .type = CONFIG_DURATION, OF(cooldown_ns), .preset = "",
	  .max = TRIGGER_DAY_NS, .optional = true, .at_run_time = true,
	  .help = "from one bundle of this trigger to its next; not set: Cooldown= of [Recorder] alone" },
	{ KEY(CONFIG_TRIGGER, "MaxPerHour"), .type = CONFIG_NUMBER, OF(max_per_hour), .preset = "", .min = 1,
	  .max = TRIGGER_MAX_PER, .optional = true, .at_run_time = true, .help = "bundles of this trigger in an hour; not set: any number" },
	{ KEY(CONFIG_TRIGGER, "MaxPerDay"), .type = CONFIG_NUMBER, OF(max_per_day), .preset = "", .min = 1,
	  .max = TRIGGER_MAX_PER, .optional = true, .at_run_time = true, .help = "bundles of this trigger in a day; not set: any number" },
	{ KEY(CONFIG_TRIGGER, "Post"), .type = CONFIG_DURATION, OF(post_ns), .preset = "", .min = NSEC_PER_MSEC,
	  .max = SECONDS(600), .optional = true, .at_run_time = true,
	  .help = "recorded after this trigger; not set: Post= of [Recorder]" },
	{ KEY(CONFIG_TRIGGER, "DryRun"), .type = CONFIG_BOOL, OF(dry_run), .preset = "no", .at_run_time = true,
	  .help = "count what it would have done, and do nothing" },
};

const size_t config_n_keys = SB_ARRAY_SIZE(config_keys);

/* Those of triggers are the last ones. */
static size_t first_of_triggers(void)
{
	size_t i = 0;

	while (config_keys[i].section != CONFIG_TRIGGER)
		i++;
	return i;
}

_Static_assert(SB_ARRAY_SIZE(config_keys) <= CONFIG_MAX_KEYS, "struct config has a source for each key");

const struct config_source *config_source_of(const struct config *c, const struct config_trigger *t,
					     const struct config_key *k)
{
	size_t i = (size_t)(k - config_keys);

	return k->section == CONFIG_TRIGGER ? &t->source[i - first_of_triggers()] : &c->source[i];
}

const void *config_base_of(const struct config *c, const struct config_trigger *t, const struct config_key *k)
{
	return k->section == CONFIG_TRIGGER ? (const void *)t : (const void *)c;
}

const struct config_key *config_find(enum config_section section, const char *name)
{
	for (size_t i = 0; i < config_n_keys; i++) {
		if (config_keys[i].section == section && !strcmp(config_keys[i].name, name))
			return &config_keys[i];
	}
	return NULL;
}


void config_defaults(struct config *c)
{
	char error[16];

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < config_n_keys; i++) {
		if (config_keys[i].section != CONFIG_TRIGGER)
			(void)config_set(c, &config_keys[i], config_keys[i].preset, error, sizeof(error));
	}
}
