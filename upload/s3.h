/* SPDX-License-Identifier: BSD-2-Clause */
/* Objects of an S3-compatible store. Requests are signed with SigV4, the hash of what is sent among what is signed. */
#ifndef SB_UPLOAD_S3_H
#define SB_UPLOAD_S3_H

#include "upload/credentials.h"
#include "upload/http.h"

#define SHA256_TEXT 65 /* hex digits and their end */

struct s3 {
	const char *endpoint; /* http_url_ok() */
	const char *bucket, *region;
	bool path_style; /* ENDPOINT/BUCKET/KEY; else BUCKET. in front of the host */
	struct credentials credentials;
};

/* [a-z0-9.-], 3 to 63 of them. */
bool s3_bucket_ok(const char *bucket);

/* The URL of a key; ret must hold it, or -ENAMETOOLONG. */
int s3_url(const struct s3 *s, const char *key, char *ret, size_t len);

/* Of len bytes from the file's start. -ENODATA: it is shorter. */
int s3_hash(int fd, uint64_t len, char ret[SHA256_TEXT]);

/*
 * Stores the body as key unless there is an object of this key. DELIVERY_DONE; DELIVERY_EXISTS: there is one, of whatever
 * content. The hash becomes x-amz-meta-sha256 and is checked by the server against what arrives.
 */
enum delivery s3_put(const struct s3 *s, struct http *h, const char *key, const struct http_body *body,
		     const char sha256[SHA256_TEXT], struct http_answer *ret);
/* DELIVERY_DONE: it is there, ret->meta_sha256 is what it was stored with. DELIVERY_ABSENT. */
enum delivery s3_head(const struct s3 *s, struct http *h, const char *key, struct http_answer *ret);

#endif
