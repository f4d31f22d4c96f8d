// SPDX-License-Identifier: BSD-2-Clause
/*
 * libcurl 7.88 signs with SigV4 but does not send x-amz-content-sha256, which S3 wants (curl issue 8810): given as a
 * header it is sent, signed, and taken for the hash of the payload.
 */
#include "upload/s3.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

#define SHA256_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

bool s3_bucket_ok(const char *bucket)
{
	size_t n = strlen(bucket);

	return n >= 3 && n <= 63 && strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n && bucket[0] != '.' &&
	       bucket[0] != '-' && !strstr(bucket, "..");
}

int s3_url(const struct s3 *s, const char *key, char *ret, size_t len)
{
	const char *host = strstr(s->endpoint, "://") + 3;
	size_t end = strlen(s->endpoint);
	int n;

	while (end && s->endpoint[end - 1] == '/')
		end--;
	if (s->path_style)
		n = snprintf(ret, len, "%.*s/%s/%s", (int)end, s->endpoint, s->bucket, key);
	else
		n = snprintf(ret, len, "%.*s%s.%.*s/%s", (int)(host - s->endpoint), s->endpoint, s->bucket,
			     (int)(s->endpoint + end - host), host, key);
	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

static void mdp_free(EVP_MD_CTX **m)
{
	EVP_MD_CTX_free(*m);
}

int s3_hash(int fd, uint64_t len, char ret[SHA256_TEXT])
{
	SB_CLEANUP(mdp_free) EVP_MD_CTX *m = EVP_MD_CTX_new();
	unsigned char buf[65536], hash[32];

	if (!m || EVP_DigestInit_ex(m, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	for (uint64_t at = 0; at < len;) {
		ssize_t n = sb_pread(fd, buf, (size_t)SB_MIN(len - at, (uint64_t)sizeof(buf)), at);

		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		EVP_DigestUpdate(m, buf, (size_t)n);
		at += (uint64_t)n;
	}
	if (EVP_DigestFinal_ex(m, hash, NULL) != 1)
		return -EIO;
	for (size_t i = 0; i < sizeof(hash); i++)
		snprintf(ret + 2 * i, 3, "%02x", hash[i]);
	return 0;
}

static void slist_freep(struct curl_slist **l)
{
	curl_slist_free_all(*l);
}

/* false: no memory. */
static bool add_header(struct curl_slist **list, const char *fmt, const char *value)
{
	char line[sizeof(((struct credentials *)0)->token) + 64];
	struct curl_slist *more;

	snprintf(line, sizeof(line), fmt, value);
	more = curl_slist_append(*list, line);
	if (more)
		*list = more;
	return more;
}

static enum delivery no_memory(struct http_answer *ret)
{
	*ret = (struct http_answer){ .text = "out of memory" };
	return DELIVERY_LOCAL;
}

static enum delivery signed_request(const struct s3 *s, struct http *h, const char *key, const struct http_body *body,
				    const char *sha256, struct http_answer *ret)
{
	SB_CLEANUP(slist_freep) struct curl_slist *headers = NULL;
	CURL *c = http_start(h, body ? body->len : 0);
	char url[2048], sign[96];

	if (s3_url(s, key, url, sizeof(url)) < 0) {
		*ret = (struct http_answer){ .text = "the URL would be too long" };
		return DELIVERY_LOCAL;
	}
	if (!add_header(&headers, "x-amz-content-sha256: %s", sha256 ? sha256 : SHA256_OF_NOTHING))
		return no_memory(ret);
	if (s->credentials.token[0] && !add_header(&headers, "x-amz-security-token: %s", s->credentials.token))
		return no_memory(ret);
	if (body && !(add_header(&headers, "x-amz-meta-sha256: %s", sha256) && add_header(&headers, "If-None-Match: %s", "*") &&
		      add_header(&headers, "Content-Type: %s", "application/zstd")))
		return no_memory(ret);
	snprintf(sign, sizeof(sign), "aws:amz:%s:s3", s->region);
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_AWS_SIGV4, sign);
	curl_easy_setopt(c, CURLOPT_USERNAME, s->credentials.key_id);
	curl_easy_setopt(c, CURLOPT_PASSWORD, s->credentials.secret);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	if (body) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)body->len);
	} else {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	}
	return http_perform(h, body, ret);
}

enum delivery s3_put(const struct s3 *s, struct http *h, const char *key, const struct http_body *body,
		     const char sha256[SHA256_TEXT], struct http_answer *ret)
{
	return signed_request(s, h, key, body, sha256, ret);
}

enum delivery s3_head(const struct s3 *s, struct http *h, const char *key, struct http_answer *ret)
{
	enum delivery d = signed_request(s, h, key, NULL, NULL, ret);

	return ret->status == 404 ? DELIVERY_ABSENT : d;
}
