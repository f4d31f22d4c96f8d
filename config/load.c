// SPDX-License-Identifier: BSD-2-Clause
/* The file and its drop-ins from the disk, and what no single line can tell. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "config/impl.h"
#include "config/texts.h"
#include "triggers/trigger.h"

/* ---- errors ------------------------------------------------------------------------ */

void config_add_error(struct config_errors *e, const char *file, uint32_t line, const char *section, const char *key,
		      const char *what)
{
	struct config_error *error = &e->error[e->n];

	if (e->n == CONFIG_MAX_ERRORS) {
		e->more++;
		return;
	}
	e->n++;
	error->line = line;
	text_quote(file, error->file, sizeof(error->file));
	snprintf(error->section, sizeof(error->section), "%s", section);
	snprintf(error->key, sizeof(error->key), "%s", key);
	snprintf(error->what, sizeof(error->what), "%s", what);
}

void config_error_text(const struct config_error *e, char *ret, size_t len)
{
	char line[16] = "";

	if (e->line)
		snprintf(line, sizeof(line), ":%u", e->line);
	snprintf(ret, len, "%s%s:%s%s%s%s%s%s %s", e->file, line, e->section[0] ? " [" : "", e->section,
		 e->section[0] ? "]" : "", e->key[0] ? " " : "", e->key, e->section[0] || e->key[0] ? ":" : "", e->what);
}

/* ---- reading ----------------------------------------------------------------------- */

/* Up to one byte more than is allowed. The length, or a negative errno. */
static ssize_t read_up_to(int fd, char *ret, size_t max)
{
	size_t len = 0;

	while (len < max) {
		ssize_t n = read(fd, ret + len, max - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

/* What is read with the rights of root may start commands (probe:exec): nobody else may write it, or put it there. */
static const char *unsafe_rights(const struct stat *st)
{
	bool dir = S_ISDIR(st->st_mode);

	if (st->st_uid && st->st_uid != geteuid())
		return "belongs to another user, expected root (chown root)";
	if (st->st_mode & S_IWOTH)
		return dir ? "anybody may write it, expected mode 0755 (chmod o-w)" :
			     "anybody may write it, expected mode 0644 (chmod o-w)";
	if (st->st_mode & S_IWGRP && st->st_gid && st->st_gid != getegid())
		return dir ? "another group may write it, expected mode 0755 (chmod g-w)" :
			     "another group may write it, expected mode 0644 (chmod g-w)";
	return NULL;
}

static const char *unsafe(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return "is a directory, expected a file";
	if (!S_ISREG(st->st_mode) && !S_ISCHR(st->st_mode)) /* /dev/null: no settings at all */
		return "is neither a file nor /dev/null, expected one of them";
	return S_ISREG(st->st_mode) ? unsafe_rights(st) : NULL;
}

static void load_one(struct config *c, const char *path, bool required, struct config_errors *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *text = malloc(CONFIG_MAX_BYTES + 1);
	const char *what = NULL;
	struct stat st;
	char reason[128];
	ssize_t n = -ENOMEM;

	if (fd < 0 && errno == ENOENT && !required)
		return;
	if (fd < 0 || fstat(fd, &st) < 0)
		n = -errno;
	else if (!(what = unsafe(&st)) && text)
		n = read_up_to(fd, text, CONFIG_MAX_BYTES + 1);
	if (n > (ssize_t)CONFIG_MAX_BYTES)
		what = "is larger than 1M, expected a configuration file";
	if (!what && n < 0) {
		snprintf(reason, sizeof(reason), "cannot read it: %s", strerror((int)-n));
		what = reason;
	}
	if (what)
		config_add_error(e, path, 0, "", "", what);
	else
		config_parse(c, path, text, (size_t)n, e);
}

static int is_drop_in(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && !strcmp(d->d_name + n - 5, ".conf");
}

/* As strcmp() has it, in every locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_drop_ins(struct config *c, const char *path, struct config_errors *e)
{
	struct dirent **entry = NULL;
	char dir[CONFIG_TEXT_MAX], file[2 * CONFIG_TEXT_MAX], what[128];
	const char *rights;
	struct stat st;
	int n;

	snprintf(dir, sizeof(dir), "%s.d", path);
	rights = stat(dir, &st) == 0 && S_ISDIR(st.st_mode) ? unsafe_rights(&st) : NULL;
	if (rights)
		config_add_error(e, dir, 0, "", "", rights);
	n = scandir(dir, &entry, is_drop_in, by_name);
	if (n < 0 && errno != ENOENT && errno != ENOTDIR) {
		snprintf(what, sizeof(what), "cannot list it: %s", strerror(errno));
		config_add_error(e, dir, 0, "", "", what);
	}
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%s/%s", dir, entry[i]->d_name);
		load_one(c, file, true, e);
		free(entry[i]);
	}
	free(entry);
}

void config_load(struct config *c, const char *path, bool required, struct config_errors *e)
{
	config_defaults(c);
	if (strlen(path) + sizeof(".d") > CONFIG_TEXT_MAX) {
		config_add_error(e, path, 0, "", "", "a path longer than 253 bytes, expected a shorter one");
		return;
	}
	load_one(c, path, required, e);
	load_drop_ins(c, path, e);
	config_check(c, e);
}

/* ---- what needs each other ----------------------------------------------------------- */

static void add_at(struct config_errors *e, const struct config *c, const struct config_source *at, const char *section,
		   const char *key, const char *what)
{
	const char *file = at->command_line ? "command line" : at->line ? c->file[at->file] : "default";

	config_add_error(e, file, at->line, section, key, what);
}

/* The key `name` of a section is set: so has `needed` to be. */
static void needs(const struct config *c, enum config_section section, const char *name, const char *needed,
		  struct config_errors *e)
{
	const struct config_key *k = config_find(section, name), *other = config_find(section, needed);
	char value[CONFIG_TEXT_MAX], what[128];

	config_get(c, k, value, sizeof(value));
	if (!value[0])
		return;
	config_get(c, other, value, sizeof(value));
	if (value[0])
		return;
	snprintf(what, sizeof(what), "is of no use alone, expected %s=, too", needed);
	add_at(e, c, config_source_of(c, NULL, k), config_section_name[section], name, what);
}

/* Absolute ones, as text: what links lead to is not for who only reads the configuration. */
static bool same_path(const char *a, const char *b)
{
	size_t n;

	for (;;) {
		a += strspn(a, "/"); /* any number of slashes is one, at the end none */
		b += strspn(b, "/");
		n = strcspn(a, "/");
		if (strcspn(b, "/") != n || strncmp(a, b, n))
			return false;
		if (!n)
			return true;
		a += n;
		b += n;
	}
}

static void check_storage(const struct config *c, struct config_errors *e)
{
	const struct config_key *k = config_find(CONFIG_STORAGE, "Fallback");

	if (c->storage.fallback[0] && same_path(c->storage.directory, c->storage.fallback))
		add_at(e, c, config_source_of(c, NULL, k), "Storage", k->name,
		       "is Directory=, expected another directory, or none: an empty value");
}

static void check_server(const struct config *c, struct config_errors *e)
{
	const struct config_key *k = config_find(CONFIG_SERVER, "Listen");

	needs(c, CONFIG_SERVER, "TlsCertificate", "TlsKey", e);
	needs(c, CONFIG_SERVER, "TlsKey", "TlsCertificate", e);
	if (text_is_loopback(c->server.listen) || (c->server.tls_key[0] && c->server.token_files.n))
		return;
	add_at(e, c, config_source_of(c, NULL, k), "Server", k->name,
	       "other hosts can reach this address, expected TlsCertificate=, TlsKey= and TokenFile=, too");
}

static void check_trigger(const struct config *c, const struct config_trigger *t, struct config_errors *e)
{
	SB_CLEANUP(trigger_freep) struct trigger *parsed = NULL;
	char section[96], spec[TRIGGER_SPEC_MAX], error[256], quoted[320];

	snprintf(section, sizeof(section), "Trigger %s", t->name);
	if (!t->condition[0]) {
		/* One that was wrong has been told. */
		if (!config_source_of(c, t, config_find(CONFIG_TRIGGER, "Condition"))->line)
			add_at(e, c, &t->begun, section, "Condition", "is missing, expected for example kernel:reclaim>500ms");
		return;
	}
	if (config_trigger_spec(t, spec, sizeof(spec)) < 0) {
		add_at(e, c, &t->begun, section, "", "longer than 511 bytes in all, expected less");
	} else if (trigger_parse(spec, &parsed, error, sizeof(error)) < 0) {
		text_quote(error, quoted, sizeof(quoted));
		add_at(e, c, &t->begun, section, "", quoted);
	}
}

/* An empty Condition= of a later file takes a trigger away. Where none is left, the default set is armed. */
static void drop_empty(struct config *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->n_triggers; i++) {
		if (c->trigger[i].condition[0])
			c->trigger[kept++] = c->trigger[i];
	}
	memset(&c->trigger[kept], 0, (c->n_triggers - kept) * sizeof(c->trigger[0]));
	c->n_triggers = kept;
}

void config_check(struct config *c, struct config_errors *e)
{
	check_storage(c, e);
	check_server(c, e);
	needs(c, CONFIG_UPLOAD, "Endpoint", "Bucket", e);
	needs(c, CONFIG_UPLOAD, "Endpoint", "CredentialsFile", e);
	needs(c, CONFIG_UPLOAD, "Bucket", "Endpoint", e);
	for (size_t i = 0; i < c->n_triggers; i++)
		check_trigger(c, &c->trigger[i], e);
	drop_empty(c);
}

void config_source_text(const struct config *c, const struct config_source *at, char *ret, size_t len)
{
	if (at->line)
		snprintf(ret, len, "%s:%u", c->file[at->file], at->line);
	else
		snprintf(ret, len, "%s", at->command_line ? "command line" : "default");
}

bool config_default_trigger(size_t i, struct config_trigger *ret)
{
	const char *spec = trigger_defaults[i], *name = spec ? strstr(spec, ":name=") : NULL;

	if (!name)
		return false;
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->condition, sizeof(ret->condition), "%.*s", (int)(name - spec), spec);
	snprintf(ret->name, sizeof(ret->name), "%s", name + strlen(":name="));
	return true;
}

/* The other keys as options of the specification, which have their names in small letters. */
int config_trigger_spec(const struct config_trigger *t, char *ret, size_t len)
{
	size_t n = (size_t)snprintf(ret, len, "%s:name=%s", t->condition, t->name);

	for (size_t i = 0; i < config_n_keys && n < len; i++) {
		const struct config_key *k = &config_keys[i];
		char value[64], option[32];
		size_t at = 0;

		if (k->section != CONFIG_TRIGGER || k->type == CONFIG_CONDITION)
			continue;
		config_get(t, k, value, sizeof(value));
		if (!value[0] || !strcmp(value, "no"))
			continue;
		for (const char *p = k->name; *p && at + 2 < sizeof(option); p++) {
			if (p != k->name && *p >= 'A' && *p <= 'Z')
				option[at++] = '-';
			option[at++] = (char)(*p | 0x20);
		}
		option[at] = '\0';
		if (k->type == CONFIG_BOOL)
			n += (size_t)snprintf(ret + n, len - n, ":%s", option);
		else
			n += (size_t)snprintf(ret + n, len - n, ":%s=%s", option, value);
	}
	return n < len ? 0 : -ENAMETOOLONG;
}
