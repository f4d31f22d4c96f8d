/* SPDX-License-Identifier: BSD-2-Clause */
/* Texts of the configuration: what a value has to look like, what a message may quote, which name was meant. */
#ifndef SB_CONFIG_TEXTS_H
#define SB_CONFIG_TEXTS_H

#include "format/base.h"

/* NULL, or what is expected instead. */
const char *text_wrong_listen(const char *text);
const char *text_wrong_token(const char *text);
const char *text_wrong_host(const char *text);
const char *text_wrong_url(const char *text);
const char *text_wrong_name(const char *text); /* of a trigger */

/* Is ADDRESS:PORT, as text_wrong_listen() wants it, reachable from this host alone? */
bool text_is_loopback(const char *listen);

/* Printable ASCII: anything else as \xNN, "..." at the end of what is too long. */
void text_quote(const char *text, char *ret, size_t len);

/* How many single letters have to change to make b of a, case apart; a piece that is whole in the other counts as near. */
size_t text_distance(const char *a, const char *b);

#endif
