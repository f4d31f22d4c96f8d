/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One HTTP request, bounded in time and rate, and what its outcome means for whoever wants something delivered.
 * No redirects, no other protocol than http and https, certificates are verified.
 */
#ifndef SB_UPLOAD_HTTP_H
#define SB_UPLOAD_HTTP_H

#include <curl/curl.h>
#include <signal.h>

#include "format/base.h"

enum delivery {
	DELIVERY_DONE,
	DELIVERY_EXISTS,      /* another object has this key */
	DELIVERY_ABSENT,      /* nothing has this key */
	/* Later, to whatever is delivered next: */
	DELIVERY_UNREACHABLE, /* no name, route, connection or TLS */
	DELIVERY_SLOW,	      /* began and did not end in time */
	DELIVERY_BUSY,	      /* the server says so: 408, 425, 429, 5xx */
	DELIVERY_REFUSED,     /* credentials, clock, bucket, rights: a person has to act */
	/* Later, this one alone: */
	DELIVERY_MISMATCH,    /* what arrived is not what was hashed */
	DELIVERY_REJECTED,    /* 4xx that speak of this object: too large, not understood */
	DELIVERY_LOCAL,	      /* cannot be read here */
	DELIVERY_STOPPED,     /* we are asked to end: no failure */
	DELIVERIES
};

/* "done", "unreachable" ...: for messages and metrics. */
const char *delivery_name(enum delivery d);
/* Says something about the destination, not about what was delivered. */
bool delivery_is_general(enum delivery d);

struct http_limits {
	long connect_s;		  /* until the connection, with TLS, stands */
	long stall_s;		  /* as long with hardly any progress (1 kB/s): too slow */
	uint64_t max_bytes_per_s; /* 0: as fast as it goes */
};

struct http {
	CURL *curl;
	struct http_limits limits;
	const volatile sig_atomic_t *stop; /* not 0: end soon */
};

/* Once per process: curl_global_init() and a handle. 0 or -ENOMEM. */
int http_init(struct http *h, const struct http_limits *limits, const volatile sig_atomic_t *stop);
void http_done(struct http *h);

/* "http://" or "https://", a host, perhaps a port and a path; no user, query or fragment, at most 255 bytes. */
bool http_url_ok(const char *url);
/* Neither encrypted nor to this host. */
bool http_url_is_exposed(const char *url);

struct http_body { /* of the request, from a file; len bytes from its start */
	int fd;
	uint64_t len;
};

struct http_answer {
	long status;		   /* 0: none */
	uint64_t retry_after_s;	   /* 0: not said */
	char meta_sha256[65];	   /* x-amz-meta-sha256; "": none */
	char body[2048];	   /* its beginning */
	char text[256];		   /* what happened, in one line of printable ASCII */
};

/* The handle as http_start() leaves it has every bound set; the caller adds URL, headers and signature. */
CURL *http_start(struct http *h, uint64_t body_len);
/* body: NULL sends none. Everything but DELIVERY_DONE has ret->text set. */
enum delivery http_perform(struct http *h, const struct http_body *body, struct http_answer *ret);

/* What a status means; code: <Code> of an S3 error, or "". */
enum delivery http_judge(long status, const char *code);

#endif
