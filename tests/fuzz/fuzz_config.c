// SPDX-License-Identifier: BSD-2-Clause
/* Anything at all as a configuration file, and once more as a drop-in behind itself: what is accepted is what its
 * own text says again. */
#include <assert.h>

#include "config/config.h"
#include "tests/fuzz/target.h"
#include "triggers/trigger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config c, again;
	static struct config_errors e;
	char text[1024], value[CONFIG_MAX_LIST * CONFIG_TEXT_MAX];

	memset(&e, 0, sizeof(e));
	config_defaults(&c);
	config_parse(&c, "fuzz.conf", (const char *)data, size, &e);
	config_parse(&c, "fuzz.conf.d/\x1b.conf", (const char *)data, size, &e);
	config_check(&c, &e);
	for (size_t i = 0; i < e.n; i++) {
		config_error_text(&e.error[i], text, sizeof(text));
		for (const char *p = text; *p; p++)
			assert(*p >= 0x20 && *p < 0x7f);
	}
	if (e.n)
		return 0;
	for (size_t i = 0; i < c.n_triggers; i++)
		assert(config_trigger_spec(&c.trigger[i], text, TRIGGER_SPEC_MAX) == 0);
	again = c;
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];

		if (k->section == CONFIG_TRIGGER || k->type == CONFIG_LIST)
			continue;
		config_get(&c, k, value, sizeof(value));
		assert(config_set(&again, k, value, text, sizeof(text)) == 0);
		assert(k->type == CONFIG_PERCENT || k->type == CONFIG_SIZE || config_same(&c, &again, k));
	}
	return 0;
}
