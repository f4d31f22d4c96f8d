// SPDX-License-Identifier: BSD-2-Clause
#include "upload/key.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "format/file_name.h"

#define HASH_DIGITS 12 /* 48 bits among the bundles of one host and moment */

static bool plain(unsigned char c)
{
	return (c < 0x80 && isalnum(c)) || c == '.' || c == '_' || c == '-';
}

int key_parse(const char *name, struct key_parts *ret)
{
	const char *stamp = bundle_file_stamp(name);
	size_t host_len = stamp ? (size_t)(stamp - 1 - name) : 0;
	struct key_parts k = {};
	struct tm tm = {};

	if (!host_len || host_len >= sizeof(k.host) || !strptime(stamp, "%Y%m%dT%H%M%S", &tm) || tm.tm_year < 70)
		return -EINVAL;
	memcpy(k.host, name, host_len);
	strftime(k.date, sizeof(k.date), "%Y-%m-%d", &tm);
	k.when_s = (uint64_t)timegm(&tm);
	*ret = k;
	return 0;
}

static bool component_ok(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!plain((unsigned char)s[i]))
			return false;
	}
	return n && strncmp(s, ".", SB_MAX(n, 1u)) && strncmp(s, "..", SB_MAX(n, 2u));
}

bool key_prefix_ok(const char *prefix)
{
	while (*prefix) {
		size_t n = strcspn(prefix, "/");

		if (!component_ok(prefix, n))
			return false;
		prefix += n + (prefix[n] == '/');
	}
	return true;
}

int key_make(const char *prefix, const char *name, const char *sha256, char ret[KEY_MAX])
{
	char key[KEY_MAX], place[96] = "unnamed";
	size_t len = strlen(prefix), stem = strlen(name) - strlen(BUNDLE_SUFFIX);
	struct key_parts k;
	int n;

	while (len && prefix[len - 1] == '/')
		len--;
	if (key_parse(name, &k) == 0)
		snprintf(place, sizeof(place), "%s/%s", k.host, k.date);
	n = snprintf(key, sizeof(key), "%.*s%s%s/%.*s%s%.*s%s", (int)len, prefix, len ? "/" : "", place, (int)stem, name,
		     sha256 ? "." : "", sha256 ? HASH_DIGITS : 0, sha256 ? sha256 : "", name + stem);
	if (n < 0 || (size_t)n >= sizeof(key))
		return -ENAMETOOLONG;
	memcpy(ret, key, (size_t)n + 1);
	return 0;
}
