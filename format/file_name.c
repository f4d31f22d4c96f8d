// SPDX-License-Identifier: BSD-2-Clause
#include "format/file_name.h"

bool bundle_looks_like_file(const char *name)
{
	size_t n = strlen(name), s = strlen(BUNDLE_SUFFIX);

	return n > s && name[0] != '.' && !strcmp(name + n - s, BUNDLE_SUFFIX);
}

/* isalnum() asks the locale. */
bool bundle_is_file_name(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = strspn(name, allowed);

	return n < BUNDLE_FILE_MAX && !name[n] && name[0] != '-' && bundle_looks_like_file(name);
}

/* Does text begin as the pattern says? '0' stands for a digit, anything else for itself. */
static bool begins_like(const char *text, const char *pattern)
{
	for (; *pattern; text++, pattern++) {
		if (*pattern == '0' ? *text < '0' || *text > '9' : *text != *pattern)
			return false;
	}
	return true;
}

const char *bundle_file_stamp(const char *name)
{
	for (const char *p = strchr(name, '-'); p; p = strchr(p + 1, '-')) {
		if (begins_like(p, "-00000000T000000Z-") || begins_like(p, "-00000000T000000.000Z-"))
			return p + 1;
	}
	return NULL;
}
