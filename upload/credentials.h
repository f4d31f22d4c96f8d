/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shared credentials file of the AWS tools, as every S3 client reads it:
 *
 *   [default]
 *   aws_access_key_id = ...
 *   aws_secret_access_key = ...
 *   aws_session_token = ...
 *
 * It is read again for every round of uploads, so that keys are exchanged by replacing the file.
 */
#ifndef SB_UPLOAD_CREDENTIALS_H
#define SB_UPLOAD_CREDENTIALS_H

#include "format/base.h"

struct credentials {
	char key_id[129], secret[257];
	char token[4096]; /* "": none */
};

/* The section [default], or what stands before any section. 0 or a negative errno, with what is wrong in ret_error,
 * "FILE:LINE: ...", which never holds a part of a secret. -EPERM: others than its owner and group may read it. */
int credentials_read(const char *path, struct credentials *ret, char *ret_error, size_t len);

#endif
