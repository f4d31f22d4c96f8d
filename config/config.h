/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration of every program: /etc/stallbox/stallbox.conf and the drop-ins of
 * stallbox.conf.d/ (*.conf in the order of their names, a later one wins), as plain structs.
 *
 * One table (config_keys) says what there is. It drives the parser, `stallbox check-config` and
 * `show-config`, the options of stallboxd, the shipped file and stallbox.conf(5).
 *
 * struct config holds no pointers: it may be copied, compared, and handed over in shared memory.
 * Times are ns, sizes bytes, percentages millionths (ppm). Nothing here logs.
 */
#ifndef SB_CONFIG_CONFIG_H
#define SB_CONFIG_CONFIG_H

#include "format/base.h"

#define CONFIG_FILE "/etc/stallbox/stallbox.conf"

#define CONFIG_TEXT_MAX 256 /* of a path and of most texts, with its end */
#define CONFIG_CONDITION_MAX 400 /* leaves room in TRIGGER_SPEC_MAX for the other keys */
#define CONFIG_NAME_MAX 64 /* of a trigger, with its end */
#define CONFIG_MAX_TRIGGERS 32
#define CONFIG_MAX_FILES 64
#define CONFIG_MAX_LIST 16
#define CONFIG_MAX_KEYS 64 /* of all sections but [Trigger NAME] */
#define CONFIG_MAX_TRIGGER_KEYS 10
#define CONFIG_MAX_ERRORS 64 /* more are counted */
#define CONFIG_MAX_LINE 4096 /* bytes, with its end */
#define CONFIG_MAX_BYTES (1u << 20) /* of a file */

/* ---- values ------------------------------------------------------------------------ */

enum config_user_unwind { CONFIG_UNWIND_EH_FRAME, CONFIG_UNWIND_FRAME_POINTER, CONFIG_UNWIND_OFF };
enum config_anonymous { CONFIG_ANONYMOUS_NONE, CONFIG_ANONYMOUS_READ };
enum config_escalate { CONFIG_ESCALATE_TRIGGER, CONFIG_ESCALATE_ALWAYS, CONFIG_ESCALATE_NEVER };

struct config_recorder {
	uint64_t memory_bytes; /* 0: as much as fits the host */
	uint64_t threshold_ns, irq_threshold_ns, syscall_threshold_ns;
	uint64_t frequency_hz, cpu_budget_ppm;
	uint64_t post_ns, cooldown_ns;
	uint32_t escalate;     /* enum config_escalate */
	uint32_t user_unwind;  /* enum config_user_unwind */
	uint64_t unwind_bytes; /* 0: as much as fits the host */
	bool command_line, realtime, pin;
	char bpffs[CONFIG_TEXT_MAX];
	char socket[108]; /* sun_path */
};

struct config_storage {
	char directory[CONFIG_TEXT_MAX];
	char fallback[CONFIG_TEXT_MAX]; /* "": none */
	uint64_t max_use_bytes;
	uint64_t keep_free_bytes; /* 0: does not matter */
	uint64_t max_age_ns;	  /* 0: for ever */
	char group[33];		  /* of the files; "": that of the agent */
};

struct config_list {
	size_t n;
	char item[CONFIG_MAX_LIST][CONFIG_TEXT_MAX];
};

struct config_server {
	char listen[CONFIG_TEXT_MAX]; /* ADDRESS:PORT, [ADDRESS]:PORT */
	char tls_certificate[CONFIG_TEXT_MAX], tls_key[CONFIG_TEXT_MAX]; /* "": no TLS */
	struct config_list token_files; /* SCOPE:PATH, SCOPE read or freeze */
	struct config_list allowed_hosts; /* of the Host header, besides those of Listen= */
	uint32_t anonymous; /* enum config_anonymous */
	uint64_t max_connections, connection_timeout_ns;
};

struct config_upload {
	char endpoint[CONFIG_TEXT_MAX]; /* "": nothing is uploaded */
	char bucket[64], region[64], prefix[CONFIG_TEXT_MAX];
	char credentials_file[CONFIG_TEXT_MAX];
	bool path_style;
	uint64_t retry_ns;	  /* the longest time between two tries */
	uint64_t delete_after_ns; /* of what is uploaded; 0: never by this rule */
	char pyroscope_url[CONFIG_TEXT_MAX]; /* "": none */
};

/* Where a value was set. */
struct config_source {
	uint32_t line; /* from 1; 0: not by a file */
	uint16_t file; /* index of config.file */
	bool command_line;
};

struct config_trigger {
	char name[CONFIG_NAME_MAX];
	char condition[CONFIG_CONDITION_MAX];
	uint64_t held_for_ns, cooldown_ns, post_ns;
	uint64_t hysteresis_ppm;
	uint64_t max_per_hour, max_per_day;
	bool dry_run;
	struct config_source begun; /* its section, where it is met first */
	struct config_source source[CONFIG_MAX_TRIGGER_KEYS];
};

struct config {
	struct config_recorder recorder;
	struct config_storage storage;
	struct config_server server;
	struct config_upload upload;
	struct config_trigger trigger[CONFIG_MAX_TRIGGERS];
	size_t n_triggers; /* that are left; 0: the default set */
	/* Where it comes from. */
	char file[CONFIG_MAX_FILES][CONFIG_TEXT_MAX]; /* that were read, in this order */
	size_t n_files;
	struct config_source source[CONFIG_MAX_KEYS]; /* of config_keys[i] */
};

/* ---- reading ----------------------------------------------------------------------- */

struct config_error {
	uint32_t line; /* 0: the file as a whole */
	char file[CONFIG_TEXT_MAX], section[96], key[64]; /* "": none */
	char what[320]; /* what is wrong, what is expected; printable ASCII, as all of it */
};

struct config_errors {
	size_t n, more; /* more: that there was no room for */
	struct config_error error[CONFIG_MAX_ERRORS];
};

/* Every default. */
void config_defaults(struct config *c);
/* The file and its drop-ins (PATH.d/), over the defaults. A file that is not there is none when it is not required.
 * What is wrong is added to e, which the caller has set to zero; then c is not to be used. */
void config_load(struct config *c, const char *path, bool required, struct config_errors *e);
/* One file's text, as config_load() does it: for tests and for whoever has the text in memory. */
void config_parse(struct config *c, const char *name, const char *text, size_t len, struct config_errors *e);
/* What no single line can tell: keys that need each other, triggers without a condition. After config_parse(). */
void config_check(struct config *c, struct config_errors *e);
/* "FILE:LINE", "command line" or "default". */
void config_source_text(const struct config *c, const struct config_source *at, char *ret, size_t len);
/* "FILE:LINE: [SECTION] KEY: WHAT", without what there is none of. */
void config_error_text(const struct config_error *e, char *ret, size_t len);

/* The default set, one by one from 0. false: there are no more. */
bool config_default_trigger(size_t i, struct config_trigger *ret);
/* The specification that trigger_parse() takes; ret: TRIGGER_SPEC_MAX bytes. 0, or -ENAMETOOLONG. */
int config_trigger_spec(const struct config_trigger *t, char *ret, size_t len);

/* ---- the table --------------------------------------------------------------------- */

enum config_section { CONFIG_RECORDER, CONFIG_STORAGE, CONFIG_SERVER, CONFIG_UPLOAD, CONFIG_TRIGGER, CONFIG_SECTIONS };

enum config_type {
	CONFIG_BOOL,	  /* bool */
	CONFIG_DURATION,  /* uint64_t, ns */
	CONFIG_SIZE,	  /* uint64_t, bytes */
	CONFIG_NUMBER,	  /* uint64_t */
	CONFIG_PERCENT,	  /* uint64_t, ppm */
	CONFIG_CHOICE,	  /* uint32_t, index into choices */
	CONFIG_TEXT,	  /* char[] */
	CONFIG_PATH,	  /* char[] */
	CONFIG_LIST,	  /* struct config_list: one item a line, those of later files are added */
	CONFIG_CONDITION, /* char[], what trigger_parse() takes */
};

struct config_key {
	enum config_section section;
	const char *name;
	const char *flag; /* long option of stallboxd, NULL: none. "no-..." takes no value and sets no */
	enum config_type type;
	size_t offset, size; /* in struct config; of CONFIG_TRIGGER in struct config_trigger */
	const char *preset;  /* the default as one would write it; "": not set, an empty value is allowed */
	uint64_t min, max;
	const char *choices; /* "a|b|c" */
	bool optional;	     /* an empty value is allowed, and means none */
	bool at_run_time;    /* SIGHUP changes it; else a restart */
	const char *(*wrong)(const char *text); /* of a text: NULL, or what is expected instead. NULL: any */
	const char *help;    /* one line */
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;
/* "Recorder" ... */
extern const char *const config_section_name[CONFIG_SECTIONS];

/* NULL: there is none. */
const struct config_key *config_find(enum config_section section, const char *name);
/* t: of the keys of triggers. */
const struct config_source *config_source_of(const struct config *c, const struct config_trigger *t,
					     const struct config_key *k);
/* What config_set(), config_get() and config_same() take. */
const void *config_base_of(const struct config *c, const struct config_trigger *t, const struct config_key *k);

/* What stands for a value in help texts: "SIZE", "trigger|always|never". */
const char *config_metavar(const struct config_key *k);
/* "100us to 1s"; "" where there is no range. */
void config_range(const struct config_key *k, char *ret, size_t len);
/* Sets one key from its text. base: struct config, for CONFIG_TRIGGER a struct config_trigger. On -EINVAL *ret_error
 * says what was wrong and what is expected, in printable ASCII. */
int config_set(void *base, const struct config_key *k, const char *text, char *ret_error, size_t len);
/* The value as it would be written; of a list item after item with blanks between. */
void config_get(const void *base, const struct config_key *k, char *ret, size_t len);
/* Do the two have the same value? */
bool config_same(const void *a, const void *b, const struct config_key *k);

#endif
