/* SPDX-License-Identifier: BSD-2-Clause */
/* What the sources of config/ call of each other. */
#ifndef SB_CONFIG_IMPL_H
#define SB_CONFIG_IMPL_H

#include "config/config.h"

/* Texts are cut to fit; names of files are made printable. */
void config_add_error(struct config_errors *e, const char *file, uint32_t line, const char *section, const char *key,
		      const char *what);
/* Without blanks around it, in place. */
char *config_strip(char *s);

#endif
