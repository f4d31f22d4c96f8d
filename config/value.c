// SPDX-License-Identifier: BSD-2-Clause
/* From the text of a value to the field, and back. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "config/config.h"
#include "config/texts.h"
#include "triggers/trigger.h"

#define QUOTED 100

/* ---- units ------------------------------------------------------------------------- */

static void put_duration(uint64_t ns, char *ret, size_t len)
{
	static const struct {
		const char *unit;
		uint64_t ns, from; /* from: 60s and 90s read better than 1m and 1.5m */
	} units[] = { { "d", 86400 * NSEC_PER_SEC, 1 }, { "h", 3600 * NSEC_PER_SEC, 1 }, { "m", 60 * NSEC_PER_SEC, 2 },
		      { "s", NSEC_PER_SEC, 1 }, { "ms", NSEC_PER_MSEC, 1 }, { "us", NSEC_PER_USEC, 1 }, { "ns", 1, 0 } };
	size_t i = 0;

	while (ns && i < SB_ARRAY_SIZE(units) - 1 && (ns % units[i].ns || ns / units[i].ns < units[i].from))
		i++;
	if (ns)
		snprintf(ret, len, "%llu%s", (unsigned long long)(ns / units[i].ns), units[i].unit);
	else
		snprintf(ret, len, "0s");
}

static void put_size(uint64_t bytes, char *ret, size_t len)
{
	static const char units[] = "KMGT";
	size_t shift = 40;

	while (shift > 10 && (!bytes || bytes & ((1ULL << shift) - 1)))
		shift -= 10;
	snprintf(ret, len, "%llu%c", (unsigned long long)(bytes >> shift), units[shift / 10 - 1]);
}

/* "0.5%" as parts per million. */
static int parse_percent_ppm(const char *s, uint64_t *ret)
{
	double v;
	char *end;

	if (!isdigit((unsigned char)*s) || s[1] == 'x' || s[1] == 'X')
		return -EINVAL;
	v = strtod(s, &end);
	if (strcmp(end, "%") || v > 1e6)
		return -EINVAL;
	*ret = (uint64_t)(v * 1e4 + 0.5);
	return 0;
}

static int parse_number(const char *s, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(s, &end, 10);
	return errno || *end || !isdigit((unsigned char)*s) ? -EINVAL : 0;
}

static const struct unit_type {
	const char *what, *example;
	int (*parse)(const char *s, uint64_t *ret);
} unit_types[] = {
	[CONFIG_DURATION] = { "a time with a unit", "90s", parse_duration_ns },
	[CONFIG_SIZE] = { "a size with a unit", "64M", parse_size_bytes },
	[CONFIG_NUMBER] = { "a number", "10", parse_number },
	[CONFIG_PERCENT] = { "a percentage", "10%", parse_percent_ppm },
};

static void put_number(const struct config_key *k, uint64_t v, char *ret, size_t len)
{
	if (k->type == CONFIG_DURATION)
		put_duration(v, ret, len);
	else if (k->type == CONFIG_SIZE)
		put_size(v, ret, len);
	else if (k->type == CONFIG_PERCENT)
		snprintf(ret, len, "%.6g%%", (double)v / 1e4);
	else
		snprintf(ret, len, "%llu", (unsigned long long)v);
}

void config_range(const struct config_key *k, char *ret, size_t len)
{
	char min[32], max[32];

	*ret = '\0';
	if (!k->max)
		return;
	put_number(k, k->min, min, sizeof(min));
	put_number(k, k->max, max, sizeof(max));
	snprintf(ret, len, "%s to %s", min, max);
}

/* ---- setting ----------------------------------------------------------------------- */

static int __attribute__((format(printf, 4, 5))) wrong(const char *text, char *ret, size_t len, const char *fmt, ...)
{
	char quoted[QUOTED], expected[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(expected, sizeof(expected), fmt, ap);
	va_end(ap);
	text_quote(text, quoted, sizeof(quoted));
	snprintf(ret, len, "'%s': expected %s%s", quoted, expected,
		 strchr(text, '#') ? " (a comment stands on a line of its own)" : "");
	return -EINVAL;
}

static int set_number(uint64_t *field, const struct config_key *k, const char *text, char *ret_error, size_t len)
{
	const struct unit_type *u = &unit_types[k->type];
	const char *example = k->preset[0] ? k->preset : u->example;
	char range[72];
	uint64_t v;

	config_range(k, range, sizeof(range));
	if (u->parse(text, &v) < 0 || v < k->min || v > k->max)
		return wrong(text, ret_error, len, "%s from %s, such as %s", u->what, range, example);
	*field = v;
	return 0;
}

static int set_choice(uint32_t *field, const struct config_key *k, const char *text, char *ret_error, size_t len)
{
	const char *word = k->choices;
	size_t n = strlen(text);

	for (uint32_t i = 0; word; i++) {
		if (strcspn(word, "|") == n && !strncmp(word, text, n)) {
			*field = i;
			return 0;
		}
		word = strchr(word, '|');
		if (!word)
			break;
		word++;
	}
	return wrong(text, ret_error, len, "one of %s", k->choices);
}

static int set_text(char *field, const struct config_key *k, const char *text, size_t size, char *ret_error, size_t len)
{
	const char *expected = k->wrong ? k->wrong(text) : NULL;

	if (expected)
		return wrong(text, ret_error, len, "%s", expected);
	if (strlen(text) >= size)
		return wrong(text, ret_error, len, "at most %zu bytes, these are %zu", size - 1, strlen(text));
	memset(field, 0, size); /* structs are compared */
	strcpy(field, text);
	return 0;
}

static int set_item(struct config_list *field, const struct config_key *k, const char *text, char *ret_error, size_t len)
{
	if (field->n == CONFIG_MAX_LIST) {
		snprintf(ret_error, len, "is one too many, expected at most %d", CONFIG_MAX_LIST);
		return -EINVAL;
	}
	if (set_text(field->item[field->n], k, text, CONFIG_TEXT_MAX, ret_error, len) < 0)
		return -EINVAL;
	field->n++;
	return 0;
}

/* What a key of its own says must not stand in the condition, too. */
static int check_condition(const char *text, char *ret_error, size_t len)
{
	static const struct {
		const char *option, *key;
	} keys[] = { { ":name=", "NAME of the section" }, { ":post=", "Post=" }, { ":held-for=", "HeldFor=" },
		     { ":hysteresis=", "Hysteresis=" }, { ":cooldown=", "Cooldown=" },
		     { ":max-per-hour=", "MaxPerHour=" }, { ":max-per-day=", "MaxPerDay=" }, { ":dry-run", "DryRun=" } };
	SB_CLEANUP(trigger_freep) struct trigger *t = NULL;
	char error[256];

	for (size_t i = 0; i < SB_ARRAY_SIZE(keys); i++) {
		if (strstr(text, keys[i].option))
			return wrong(text, ret_error, len, "'%s' not here, but as %s", keys[i].option + 1, keys[i].key);
	}
	if (trigger_parse(text, &t, error, sizeof(error)) < 0) {
		text_quote(error, ret_error, len); /* it quotes the text */
		return -EINVAL;
	}
	return 0;
}

static void unset(void *field, const struct config_key *k)
{
	memset(field, 0, k->size);
}

int config_set(void *base, const struct config_key *k, const char *text, char *ret_error, size_t len)
{
	void *field = (char *)base + k->offset;

	if (!*text && k->optional) {
		unset(field, k);
		return 0;
	}
	switch (k->type) {
	case CONFIG_BOOL:
		if (strcmp(text, "yes") && strcmp(text, "no"))
			return wrong(text, ret_error, len, "yes or no");
		*(bool *)field = !strcmp(text, "yes");
		return 0;
	case CONFIG_CHOICE:
		return set_choice(field, k, text, ret_error, len);
	case CONFIG_LIST:
		return set_item(field, k, text, ret_error, len);
	case CONFIG_CONDITION:
		if (check_condition(text, ret_error, len) < 0)
			return -EINVAL;
		return set_text(field, k, text, k->size, ret_error, len);
	case CONFIG_TEXT:
	case CONFIG_PATH:
		if (!*text)
			return wrong(text, ret_error, len, "%s", k->type == CONFIG_PATH ? "a path" : "a text");
		return set_text(field, k, text, k->size, ret_error, len);
	default:
		return set_number(field, k, text, ret_error, len);
	}
}

/* ---- reading ----------------------------------------------------------------------- */

static void put_choice(const struct config_key *k, uint32_t i, char *ret, size_t len)
{
	const char *word = k->choices;

	while (i--)
		word = strchr(word, '|') + 1;
	snprintf(ret, len, "%.*s", (int)strcspn(word, "|"), word);
}

void config_get(const void *base, const struct config_key *k, char *ret, size_t len)
{
	const void *field = (const char *)base + k->offset;
	const struct config_list *list = field;
	size_t n = 0;

	*ret = '\0';
	switch (k->type) {
	case CONFIG_BOOL:
		snprintf(ret, len, "%s", *(const bool *)field ? "yes" : "no");
		break;
	case CONFIG_CHOICE:
		put_choice(k, *(const uint32_t *)field, ret, len);
		break;
	case CONFIG_LIST:
		for (size_t i = 0; i < list->n && n < len; i++)
			n += (size_t)snprintf(ret + n, len - n, "%s%s", i ? " " : "", list->item[i]);
		break;
	case CONFIG_TEXT:
	case CONFIG_PATH:
	case CONFIG_CONDITION:
		snprintf(ret, len, "%s", (const char *)field);
		break;
	default:
		if (*(const uint64_t *)field || !k->optional)
			put_number(k, *(const uint64_t *)field, ret, len);
	}
}

/* Texts are zero behind their end, see set_text(). */
bool config_same(const void *a, const void *b, const struct config_key *k)
{
	return !memcmp((const char *)a + k->offset, (const char *)b + k->offset, k->size);
}

const char *config_metavar(const struct config_key *k)
{
	static const char *const names[] = {
		[CONFIG_BOOL] = "yes|no", [CONFIG_DURATION] = "TIME", [CONFIG_SIZE] = "SIZE", [CONFIG_NUMBER] = "N",
		[CONFIG_PERCENT] = "PERCENT", [CONFIG_TEXT] = "TEXT", [CONFIG_PATH] = "PATH", [CONFIG_LIST] = "TEXT",
		[CONFIG_CONDITION] = "SPEC",
	};

	return k->type == CONFIG_CHOICE ? k->choices : names[k->type];
}
