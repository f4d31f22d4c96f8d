// SPDX-License-Identifier: BSD-2-Clause
#include "upload/http.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* Slower than this, averaged over stall_s, and the transfer is given up: a capture of 10 MB would take hours. */
#define SLOW_BYTES_PER_S 1000
/* The whole request may take as long as at this speed and this many seconds more. */
#define PATIENT_BYTES_PER_S 32768
#define PATIENT_S 60
#define RETRY_AFTER_MAX_S 3600

static const struct {
	const char *name;
	bool general;
} deliveries[DELIVERIES] = {
	[DELIVERY_DONE] = { "done", false },
	[DELIVERY_EXISTS] = { "exists", false },
	[DELIVERY_ABSENT] = { "absent", false },
	[DELIVERY_UNREACHABLE] = { "unreachable", true },
	[DELIVERY_SLOW] = { "slow", true },
	[DELIVERY_BUSY] = { "busy", true },
	[DELIVERY_REFUSED] = { "refused", true },
	[DELIVERY_MISMATCH] = { "mismatch", false },
	[DELIVERY_REJECTED] = { "rejected", false },
	[DELIVERY_LOCAL] = { "local", false },
	[DELIVERY_STOPPED] = { "stopped", false },
};

const char *delivery_name(enum delivery d)
{
	return deliveries[d].name;
}

bool delivery_is_general(enum delivery d)
{
	return deliveries[d].general;
}

/* ---- URLs ----------------------------------------------------------------------------- */

bool http_url_ok(const char *url)
{
	size_t scheme = !strncmp(url, "https://", 8) ? 8 : !strncmp(url, "http://", 7) ? 7 : 0;
	const char *host = url + scheme;

	if (!scheme || !*host || strchr("/:", *host) || strlen(url) > 255 || strpbrk(host, "?#@\\\"'<>"))
		return false;
	for (; *host; host++) {
		if (*host <= ' ' || *host > '~')
			return false;
	}
	return true;
}

bool http_url_is_exposed(const char *url)
{
	static const char *const local[] = { "localhost", "[::1]" };
	const char *host = url + 7;
	size_t n;

	if (strncmp(url, "http://", 7))
		return false;
	n = *host == '[' ? strcspn(host, "]/") + 1 : strcspn(host, ":/");
	for (size_t i = 0; i < SB_ARRAY_SIZE(local); i++) {
		if (n == strlen(local[i]) && !strncmp(host, local[i], n))
			return false;
	}
	return strncmp(host, "127.", 4) || strspn(host, "0123456789.") != n; /* not a name that begins so */
}

/* ---- a request ------------------------------------------------------------------------- */

int http_init(struct http *h, const struct http_limits *limits, const volatile sig_atomic_t *stop)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	*h = (struct http){ curl_easy_init(), *limits, stop };
	return h->curl ? 0 : -ENOMEM;
}

void http_done(struct http *h)
{
	curl_easy_cleanup(h->curl);
	curl_global_cleanup();
}

static int asked_to_stop(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct http *h = ctx;

	(void)a, (void)b, (void)c, (void)d;
	return *h->stop;
}

CURL *http_start(struct http *h, uint64_t body_len)
{
	uint64_t rate = h->limits.max_bytes_per_s, worst = rate ? SB_MIN(rate, (uint64_t)PATIENT_BYTES_PER_S) : PATIENT_BYTES_PER_S;
	CURL *c = h->curl;

	curl_easy_reset(c);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "stallbox-upload/" SB_VERSION);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, h->limits.connect_s);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_S);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, h->limits.stall_s);
	curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)(h->limits.connect_s + PATIENT_S + (long)(body_len / worst)));
	curl_easy_setopt(c, CURLOPT_MAX_SEND_SPEED_LARGE, (curl_off_t)rate);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, asked_to_stop);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, h);
	if (getenv("SSL_CERT_FILE")) /* as curl and Go do; libcurl does not look there itself */
		curl_easy_setopt(c, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
	return c;
}

struct exchange {
	const struct http_body *body;
	struct http_answer *answer;
	uint64_t sent;
	size_t got;
	bool unreadable;
};

static size_t send_some(char *buf, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	size_t want = (size_t)SB_MIN((uint64_t)(size * n), x->body->len - x->sent);
	ssize_t r = pread(x->body->fd, buf, want, (off_t)x->sent);

	if (r < 0 || (r == 0 && want)) {
		x->unreadable = true;
		return CURL_READFUNC_ABORT;
	}
	x->sent += (uint64_t)r;
	return (size_t)r;
}

/* libcurl sends again on a connection that it found closed. */
static int rewind_body(void *ctx, curl_off_t offset, int origin)
{
	struct exchange *x = ctx;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->body->len)
		return CURL_SEEKFUNC_CANTSEEK;
	x->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t take_body(char *buf, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	size_t room = sizeof(x->answer->body) - 1 - x->got, take = SB_MIN(size * n, room);

	memcpy(x->answer->body + x->got, buf, take);
	x->got += take;
	return size * n;
}

static size_t take_header(char *line, size_t size, size_t n, void *ctx)
{
	static const char meta[] = "x-amz-meta-sha256:";
	struct exchange *x = ctx;
	size_t len = size * n, at = strlen(meta);

	if (len > at && !strncasecmp(line, meta, at)) {
		while (at < len && line[at] == ' ')
			at++;
		for (size_t i = 0; i < 64 && at + i < len && isxdigit((unsigned char)line[at + i]); i++)
			x->answer->meta_sha256[i] = line[at + i];
	}
	return len;
}

/* ---- what came of it --------------------------------------------------------------------- */

enum delivery http_judge(long status, const char *code)
{
	static const char *const mismatches[] = { "XAmzContentSHA256Mismatch", "BadDigest", "InvalidDigest", "IncompleteBody" };

	if (status >= 200 && status < 300)
		return DELIVERY_DONE;
	if (status >= 500 || status == 408 || status == 425 || status == 429 || status == 409 || !strcmp(code, "RequestTimeout"))
		return DELIVERY_BUSY; /* 409: another request for the same key is under way */
	if (status == 412)
		return DELIVERY_EXISTS;
	for (size_t i = 0; i < SB_ARRAY_SIZE(mismatches); i++) {
		if (!strcmp(code, mismatches[i]))
			return DELIVERY_MISMATCH;
	}
	if (status < 400 || status == 401 || status == 403 || status == 404 || status == 405 || status == 407 || status == 411 ||
	    !strcmp(code, "AuthorizationHeaderMalformed") || !strcmp(code, "ExpiredToken") || !strcmp(code, "InvalidBucketName"))
		return DELIVERY_REFUSED;
	return DELIVERY_REJECTED;
}

static enum delivery judge_failure(CURLcode r, const struct http *h, const struct exchange *x)
{
	if (x->unreadable)
		return DELIVERY_LOCAL;
	switch (r) {
	case CURLE_ABORTED_BY_CALLBACK:
		return *h->stop ? DELIVERY_STOPPED : DELIVERY_LOCAL;
	case CURLE_OPERATION_TIMEDOUT: {
		curl_off_t connected = 0;

		curl_easy_getinfo(h->curl, CURLINFO_CONNECT_TIME_T, &connected);
		return connected ? DELIVERY_SLOW : DELIVERY_UNREACHABLE;
	}
	default:
		return DELIVERY_UNREACHABLE;
	}
}

/* What stands between <tag> and the next '<' of an XML error. */
static void element(const char *body, const char *tag, char *ret, size_t len)
{
	const char *at = strstr(body, tag);
	size_t n = 0;

	for (at = at ? at + strlen(tag) : ""; n + 1 < len && at[n] && at[n] != '<'; n++)
		ret[n] = at[n];
	ret[n] = '\0';
}

static void only_printable(char *s)
{
	for (; *s; s++) {
		if (*s < ' ' || *s > '~')
			*s = '?';
	}
}

enum delivery http_perform(struct http *h, const struct http_body *body, struct http_answer *ret)
{
	struct exchange x = { .body = body, .answer = ret };
	char code[64], what[CURL_ERROR_SIZE] = "", message[160];
	enum delivery d;
	curl_off_t after = 0;
	CURLcode r;

	*ret = (struct http_answer){};
	if (body) {
		curl_easy_setopt(h->curl, CURLOPT_READFUNCTION, send_some);
		curl_easy_setopt(h->curl, CURLOPT_READDATA, &x);
		curl_easy_setopt(h->curl, CURLOPT_SEEKFUNCTION, rewind_body);
		curl_easy_setopt(h->curl, CURLOPT_SEEKDATA, &x);
	}
	curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, &x);
	curl_easy_setopt(h->curl, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, &x);
	curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, what);
	r = curl_easy_perform(h->curl);
	curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, NULL);
	if (r != CURLE_OK) {
		d = judge_failure(r, h, &x);
		snprintf(ret->text, sizeof(ret->text), "%s", x.unreadable ? "the file became shorter or unreadable" :
							     what[0] ? what : curl_easy_strerror(r));
		only_printable(ret->text);
		return d;
	}
	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &ret->status);
	curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &after);
	ret->retry_after_s = (uint64_t)SB_MIN(SB_MAX(after, (curl_off_t)0), (curl_off_t)RETRY_AFTER_MAX_S);
	element(ret->body, "<Code>", code, sizeof(code));
	element(ret->body, "<Message>", message, sizeof(message));
	snprintf(ret->text, sizeof(ret->text), "status %ld%s%s%s%s", ret->status, code[0] ? " " : "", code, message[0] ? ": " : "", message);
	only_printable(ret->text);
	return http_judge(ret->status, code);
}
