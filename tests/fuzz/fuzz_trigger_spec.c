// SPDX-License-Identifier: BSD-2-Clause
/* Anything at all as the specification of a trigger. */
#include "tests/fuzz/target.h"
#include "triggers/trigger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trigger *t = NULL;
	char spec[1024], error[256];

	if (size >= sizeof(spec))
		return 0;
	memcpy(spec, data, size);
	spec[size] = '\0';
	if (trigger_parse(spec, &t, error, sizeof(error)) == 0)
		trigger_free(t);
	return 0;
}
