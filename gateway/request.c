// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/request.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

/* ---- names -------------------------------------------------------------------------- */

/* isalnum() asks the locale. */
static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* "_042" at the end of n bytes: the milliseconds of a bundle that is not the only one of its second. */
static bool ends_in_ms(const char *text, size_t n)
{
	return n >= 4 && text[n - 4] == '_' && strspn(text + n - 3, "0123456789") >= 3;
}

void request_describe(const char *name, char ret_time[32], char ret_trigger[BUNDLE_FILE_MAX])
{
	const char *s = bundle_file_stamp(name), *trigger, *fraction;
	size_t n;

	ret_time[0] = ret_trigger[0] = '\0';
	if (!s)
		return;
	fraction = s + strlen("00000000T000000");
	trigger = strchr(fraction, '-') + 1;
	n = strlen(trigger) - (bundle_looks_like_file(name) ? strlen(BUNDLE_SUFFIX) : 0);
	snprintf(ret_time, 32, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2s", s, s + 4, s + 6, s + 9, s + 11, s + 13);
	if (*fraction == '.') {
		strncat(ret_time, fraction, 4);
	} else if (ends_in_ms(trigger, n)) {
		n -= 4;
		strcat(ret_time, ".");
		strncat(ret_time, trigger + n + 1, 3);
	}
	strcat(ret_time, "Z");
	snprintf(ret_trigger, BUNDLE_FILE_MAX, "%.*s", (int)SB_MIN(n, (size_t)BUNDLE_FILE_MAX - 1), trigger);
}

/* ---- ranges ------------------------------------------------------------------------- */

/* Digits alone; what does not fit is as large as can be. False: there are none. */
static bool take_number(const char **p, uint64_t *ret)
{
	const char *s = *p;
	uint64_t v = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		v = v > (UINT64_MAX - 9) / 10 ? UINT64_MAX : v * 10 + (uint64_t)(*s - '0');
	if (s == *p)
		return false;
	*ret = v;
	*p = s;
	return true;
}

static void skip_blanks(const char **p)
{
	*p += strspn(*p, " \t");
}

enum request_range request_range(const char *value, uint64_t size, uint64_t *ret_first, uint64_t *ret_len)
{
	uint64_t first = 0, last = UINT64_MAX;
	bool from, to;
	const char *p;

	if (!value || strncasecmp(value, "bytes=", 6))
		return REQUEST_WHOLE;
	p = value + 6;
	skip_blanks(&p);
	from = take_number(&p, &first);
	if (*p++ != '-')
		return REQUEST_WHOLE;
	to = take_number(&p, &last);
	skip_blanks(&p);
	if (*p || (!from && !to) || (from && to && last < first))
		return REQUEST_WHOLE;
	if (!from) { /* the last so many bytes */
		if (!last || !size)
			return REQUEST_UNSATISFIABLE;
		first = last < size ? size - last : 0;
		last = size - 1;
	}
	if (first >= size)
		return REQUEST_UNSATISFIABLE;
	last = SB_MIN(last, size - 1);
	*ret_first = first;
	*ret_len = last - first + 1;
	return REQUEST_PART;
}

bool request_lists_etag(const char *list, const char *etag)
{
	size_t n = strlen(etag);

	for (const char *p = list; p; p = strchr(p, ',')) {
		p += strspn(p, ", \t");
		if (!strncmp(p, "W/", 2))
			p += 2;
		if (!strncmp(p, etag, n) && (!p[n] || strchr(", \t", p[n])))
			return true;
		if (*p == '*' && p == list)
			return true;
	}
	return false;
}

/* ---- hosts -------------------------------------------------------------------------- */

static bool is_port(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n && n <= 5 && !s[n] && strtoul(s, NULL, 10) <= 65535;
}

/* Splits "host:port", "host", "[::1]:port"; *ret_port "" when there is none. */
static int split(const char *value, char ret[REQUEST_HOST_MAX], const char **ret_port)
{
	bool bracket = value[0] == '[';
	const char *host = value + bracket, *end = bracket ? strchr(value, ']') : strchrnul(value, ':');
	size_t n = end ? (size_t)(end - host) : 0;

	if (!end || !n || n >= REQUEST_HOST_MAX)
		return -EINVAL;
	memcpy(ret, host, n);
	ret[n] = '\0';
	end += bracket;
	if (*end && (*end != ':' || !is_port(end + 1)))
		return -EINVAL;
	*ret_port = *end ? end + 1 : end;
	return 0;
}

bool request_is_address(const char *host)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, host, &addr) == 1 || inet_pton(AF_INET6, host, &addr) == 1;
}

int request_host(const char *value, char ret[REQUEST_HOST_MAX])
{
	struct in6_addr addr;
	const char *port;
	int r = split(value, ret, &port);

	if (r < 0)
		return r;
	if (value[0] == '[')
		return inet_pton(AF_INET6, ret, &addr) == 1 ? 0 : -EINVAL;
	for (char *c = ret; *c; c++) {
		if (!is_plain(*c) && !strchr("._-", *c))
			return -EINVAL;
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
	}
	return 0;
}

int request_listen(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	char host[REQUEST_HOST_MAX];
	const char *port;
	int r = split(text, host, &port);

	if (r < 0)
		return r;
	if (!*port)
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	if (text[0] == '[') {
		v6.sin6_port = htons((uint16_t)strtoul(port, NULL, 10));
		if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
			return -EINVAL;
		memcpy(ret, &v6, sizeof(v6));
		*ret_len = sizeof(v6);
		return 0;
	}
	v4.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	if (inet_pton(AF_INET, host, &v4.sin_addr) != 1)
		return -EINVAL;
	memcpy(ret, &v4, sizeof(v4));
	*ret_len = sizeof(v4);
	return 0;
}

void request_print(const struct sockaddr_storage *addr, char ret[REQUEST_HOST_MAX])
{
	struct sockaddr_in6 v6;
	struct sockaddr_in v4;
	char text[INET6_ADDRSTRLEN] = "";

	memcpy(&v4, addr, sizeof(v4));
	memcpy(&v6, addr, sizeof(v6));
	if (addr->ss_family == AF_INET)
		snprintf(ret, REQUEST_HOST_MAX, "%s:%u", inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text)),
			 ntohs(v4.sin_port));
	else if (addr->ss_family == AF_INET6)
		snprintf(ret, REQUEST_HOST_MAX, "[%s]:%u", inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text)),
			 ntohs(v6.sin6_port));
	else
		snprintf(ret, REQUEST_HOST_MAX, "a socket of this machine");
}

bool request_is_local(const struct sockaddr_storage *addr)
{
	struct sockaddr_in6 v6;
	struct sockaddr_in v4;

	memcpy(&v4, addr, sizeof(v4));
	memcpy(&v6, addr, sizeof(v6));
	switch (addr->ss_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		return ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
	default:
		return false;
	}
}
