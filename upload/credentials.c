// SPDX-License-Identifier: BSD-2-Clause
#include "upload/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_MAX 65536

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	n = strlen(s);
	while (n && strchr(" \t\r", s[n - 1]))
		n--;
	s[n] = '\0';
	return s;
}

/* Printable ASCII without blanks: what goes into headers. */
static bool plain(const char *s)
{
	for (; *s; s++) {
		if (*s <= ' ' || *s > '~')
			return false;
	}
	return true;
}

static const char *take(struct credentials *c, const char *key, const char *value)
{
	const struct {
		const char *key;
		char *to;
		size_t size;
	} known[] = {
		{ "aws_access_key_id", c->key_id, sizeof(c->key_id) },
		{ "aws_secret_access_key", c->secret, sizeof(c->secret) },
		{ "aws_session_token", c->token, sizeof(c->token) },
	};

	for (size_t i = 0; i < SB_ARRAY_SIZE(known); i++) {
		if (strcmp(key, known[i].key))
			continue;
		if (!*value || strlen(value) >= known[i].size || !plain(value))
			return "the value is empty, too long, or holds other than printable ASCII";
		strcpy(known[i].to, value);
	}
	return NULL; /* region, output ...: other tools' settings */
}

static const char *parse(char *text, struct credentials *c, unsigned int *ret_line)
{
	bool ours = true;

	*ret_line = 0;
	for (char *line; (line = strsep(&text, "\n"));) {
		char *value;
		const char *bad;

		++*ret_line;
		line = trim(line);
		if (!*line || *line == '#' || *line == ';')
			continue;
		if (*line == '[') {
			ours = !strcmp(line, "[default]");
			continue;
		}
		value = strchr(line, '=');
		if (!value)
			return "expected KEY = VALUE or [SECTION]";
		*value++ = '\0';
		bad = ours ? take(c, trim(line), trim(value)) : NULL;
		if (bad)
			return bad;
	}
	*ret_line = 0;
	return c->key_id[0] && c->secret[0] ?
		       NULL : "aws_access_key_id or aws_secret_access_key is missing in [default]";
}

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_mode & 0007)
		return -EPERM;
	n = read(fd, buf, size);
	return n < 0 ? -errno : (size_t)n == size ? -EFBIG : n;
}

int credentials_read(const char *path, struct credentials *ret, char *ret_error, size_t len)
{
	struct credentials c = {};
	char text[FILE_MAX];
	ssize_t n = read_file(path, text, sizeof(text));
	unsigned int line;
	const char *bad;

	if (n == -EPERM)
		snprintf(ret_error, len, "%s: others may read it, expected mode 0600 or 0640: chmod o= %s", path, path);
	else if (n < 0)
		snprintf(ret_error, len, "%s: %s", path, strerror((int)-n));
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	bad = memchr(text, '\0', (size_t)n) ? "a NUL byte" : NULL;
	line = 0;
	if (!bad)
		bad = parse(text, &c, &line);
	explicit_bzero(text, sizeof(text));
	if (bad && line)
		snprintf(ret_error, len, "%s:%u: %s", path, line, bad);
	else if (bad)
		snprintf(ret_error, len, "%s: %s", path, bad);
	if (!bad)
		*ret = c;
	explicit_bzero(&c, sizeof(c));
	return bad ? -EINVAL : 0;
}
