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

/* "20%" as a share below 1. -EINVAL, -ERANGE. */
int parse_share(const char *s, double *ret);
/* A kind that has no such thing: fills ret_error and returns -EINVAL where one was asked for. */
int refuse_held_for(const struct trigger *t, const char *instead, char *ret_error, size_t len);
int refuse_hysteresis(const struct trigger *t, const char *instead, char *ret_error, size_t len);
/* The limit below which a condition with hysteresis that fires above `limit` has ended. */
double calm_below(const struct trigger *t, double limit);
/* The decision of a kind that looks at a level again and again: is this a hit? since_ns: since when it is met if
 * it was not at the last look. calm: below calm_below(). Fills ret->goes_on. */
bool level_fires(struct trigger *t, bool met, bool calm, uint64_t since_ns, uint64_t now_ns,
		 struct trigger_hit *ret);

extern const struct trigger_ops trigger_psi, trigger_system, trigger_probe, trigger_kernel,
	trigger_manual;

#endif
