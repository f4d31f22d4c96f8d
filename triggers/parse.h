/* SPDX-License-Identifier: BSD-2-Clause */
/* Parts of specifications that several kinds share. Internal to triggers/. */
#ifndef SB_TRIGGERS_PARSE_H
#define SB_TRIGGERS_PARSE_H

#include "triggers/trigger.h"

/* Fills ret_error and returns -EINVAL, for `return spec_error(...)`. */
int spec_error(char *ret_error, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Cuts the next ":"-separated word off *rest; NULL at the end. */
char *spec_next(char **rest);
/* "key=value": returns value if word is that key, else NULL. */
const char *spec_value(const char *word, const char *key);
/* "60%" to 60. -EINVAL, -ERANGE above max. */
int parse_percent(const char *s, double max, double *ret);
int parse_count(const char *s, unsigned long min, unsigned long max, unsigned long *ret);
/* Reads a whole small file by an open descriptor, from its start. Length or -errno. */
int read_again(int fd, char *ret, size_t len);

extern const struct trigger_ops trigger_psi, trigger_system, trigger_probe, trigger_kernel,
	trigger_manual;

#endif
