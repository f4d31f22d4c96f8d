// SPDX-License-Identifier: BSD-2-Clause
#include "tools/settings.h"

#include <stdio.h>

const struct config *settings(void)
{
	static struct config_errors e;
	static struct config c;
	static bool is_read;

	if (is_read)
		return &c;
	is_read = true;
	config_load(&c, CONFIG_FILE, false, &e);
	if (e.n) {
		fprintf(stderr, "warning: the configuration is wrong: nothing of it is used here\n"
			"hint: 'stallbox check-config' tells every error\n");
		config_defaults(&c);
	}
	return &c;
}
