/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages to people, on standard error: lower case, no closing punctuation; a hint stands
 * on a line of its own. Only programs' top level logs; libraries return errors. */
#ifndef SB_FORMAT_LOG_H
#define SB_FORMAT_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
/* Does standard error lead to the journal? Lines then carry a priority. */
bool log_is_journal(void);
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds ": strerror(-r)" when r < 0 and returns r. */
int log_errno(int r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_msg(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__)
void log_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* An error, and behind a newline what to do. */
void log_err_and_hint(const char *text);

#endif
