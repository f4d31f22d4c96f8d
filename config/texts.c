// SPDX-License-Identifier: BSD-2-Clause
#include "config/texts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#define LISTEN_EXPECTED "an address of this host and a port, such as 127.0.0.1:7447 or [::1]:7447"

/* ADDRESS:PORT or [ADDRESS]:PORT. */
static bool split_listen(const char *text, char address[64], unsigned long *ret_port)
{
	const char *colon = strrchr(text, ':'), *from = text, *to = colon;
	char *end;

	if (!colon || !isdigit((unsigned char)colon[1]))
		return false;
	*ret_port = strtoul(colon + 1, &end, 10);
	if (*end)
		return false;
	if (*text == '[') {
		from++;
		if (to[-1] != ']')
			return false;
		to--;
	}
	if (to <= from || to - from > 63)
		return false;
	snprintf(address, 64, "%.*s", (int)(to - from), from);
	return true;
}

const char *text_wrong_listen(const char *text)
{
	unsigned char binary[16];
	char address[64];
	unsigned long port;

	if (!split_listen(text, address, &port) || port < 1 || port > 65535)
		return LISTEN_EXPECTED;
	return inet_pton(*text == '[' ? AF_INET6 : AF_INET, address, binary) == 1 ? NULL : LISTEN_EXPECTED;
}

bool text_is_loopback(const char *listen)
{
	unsigned char binary[16];
	char address[64];
	unsigned long port;

	if (!split_listen(listen, address, &port))
		return false;
	if (inet_pton(AF_INET, address, binary) == 1)
		return binary[0] == 127;
	return inet_pton(AF_INET6, address, binary) == 1 && !memcmp(binary, &in6addr_loopback, 16);
}

const char *text_wrong_token(const char *text)
{
	if (!strncmp(text, "read:/", 6) || !strncmp(text, "freeze:/", 8))
		return NULL;
	return "read:PATH or freeze:PATH with an absolute path, such as read:/etc/stallbox/read.token";
}

const char *text_wrong_host(const char *text)
{
	if (text[0] && text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]_")] == '\0')
		return NULL;
	return "the name of a host, with :PORT where it has one, such as db17.example.com";
}

const char *text_wrong_url(const char *text)
{
	const char *host = !strncmp(text, "https://", 8) ? text + 8 : !strncmp(text, "http://", 7) ? text + 7 : "";

	if (*host && *host != '/' && !strpbrk(host, " \t\"<>\\^`{|}"))
		return NULL;
	return "a URL, such as https://objects.example.com";
}

const char *text_wrong_name(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n && n < 64 && !text[n] ? NULL : "1 to 63 of the characters A-Z a-z 0-9 . _ -";
}

void text_quote(const char *text, char *ret, size_t len)
{
	size_t n = 0;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (n + 8 > len) {
			strcpy(ret + n, "...");
			return;
		}
		if (c >= 0x20 && c < 0x7f)
			ret[n++] = (char)c;
		else
			n += (size_t)snprintf(ret + n, len - n, "\\x%02x", c);
	}
	ret[n] = '\0';
}

static bool is_piece(const char *piece, const char *whole)
{
	return strlen(piece) >= 4 && strcasestr(whole, piece);
}

size_t text_distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b), diagonal, above;

	if (n >= SB_ARRAY_SIZE(row) || strlen(a) >= SB_ARRAY_SIZE(row))
		return SIZE_MAX;
	if (is_piece(a, b) || is_piece(b, a))
		return 1;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		diagonal = row[0];
		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			size_t change = diagonal + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[j]));

			above = row[j + 1];
			diagonal = above;
			row[j + 1] = SB_MIN(change, SB_MIN(above, row[j]) + 1);
		}
	}
	return row[n];
}
