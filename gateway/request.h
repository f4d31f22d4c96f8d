/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What clients of the gateway write: names, ranges, entity tags, hosts. Everything here is hostile; nothing
 * here touches a file or a socket, so that a fuzzer can call it (tests/fuzz/fuzz_gateway_request.c).
 * Grammar: RFC 9110 (Range, If-Range, If-None-Match), RFC 3986 (Host).
 */
#ifndef SB_GATEWAY_REQUEST_H
#define SB_GATEWAY_REQUEST_H

#include <sys/socket.h>

#include "format/file_name.h"

#define REQUEST_HOST_MAX 256

/* HOST-20261120T233350Z-TRIGGER as 2026-11-20T23:33:50Z and TRIGGER; both "" when the name has no time. Where the name
 * tells milliseconds, TRIGGER_042, so does the time. */
void request_describe(const char *name, char ret_time[32], char ret_trigger[BUNDLE_FILE_MAX]);

enum request_range { REQUEST_WHOLE, REQUEST_PART, REQUEST_UNSATISFIABLE };

/* A Range header against a file of `size` bytes; NULL: none was sent. Units other than bytes, several ranges and
 * what is no range are as if it were absent. *ret_first and *ret_len are set for REQUEST_PART. */
enum request_range request_range(const char *value, uint64_t size, uint64_t *ret_first, uint64_t *ret_len);

/* etag: with its quotes. Is it in a list of If-None-Match (weak comparison)? */
bool request_lists_etag(const char *list, const char *etag);

/* The host of a Host header in lower case, without port and brackets. 0 or -EINVAL. */
int request_host(const char *value, char ret[REQUEST_HOST_MAX]);
/* An IPv4 or IPv6 address: no name that could be made to point at us. */
bool request_is_address(const char *host);

/* "127.0.0.1:7447" or "[::1]:7447". 0 or -EINVAL. */
int request_listen(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len);
/* The same way round: what a socket listens on. */
void request_print(const struct sockaddr_storage *addr, char ret[REQUEST_HOST_MAX]);
/* Can it be reached from this machine alone? */
bool request_is_local(const struct sockaddr_storage *addr);

#endif
