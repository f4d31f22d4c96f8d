// SPDX-License-Identifier: BSD-2-Clause
/* What clients of the gateway write. The first byte says as what the rest is read. */
#include "gateway/request.h"
#include "gateway/webhook.h"
#include "tests/fuzz/target.h"

static void read_range(const char *text)
{
	static const uint64_t sizes[] = { 0, 1, 1000, UINT64_MAX };

	for (size_t i = 0; i < SB_ARRAY_SIZE(sizes); i++) {
		uint64_t first = 0, len = 0;

		if (request_range(text, sizes[i], &first, &len) == REQUEST_PART)
			must(len && first < sizes[i] && len <= sizes[i] - first, "a part lies inside");
	}
}

static void read_name(const char *text)
{
	char time[32], trigger[BUNDLE_FILE_MAX];

	if (bundle_is_file_name(text))
		must(!strpbrk(text, "/\\%\n ") && !strchr(".-", text[0]) && strlen(text) < BUNDLE_FILE_MAX, "a name is no path");
	request_describe(text, time, trigger);
}

static void read_host(const char *text)
{
	struct sockaddr_storage addr;
	char host[REQUEST_HOST_MAX];
	socklen_t len;

	if (request_host(text, host) == 0) {
		must(host[0] && !strpbrk(host, "/@ \t\r\n[]"), "a host is one");
		request_is_address(host);
	}
	if (request_listen(text, &addr, &len) == 0) {
		request_is_local(&addr);
		request_print(&addr, host);
	}
}

static void read_body(const char *text, size_t size)
{
	static struct webhook_seen seen;
	char reason[WEBHOOK_REASON_MAX], error[200];
	struct webhook w;

	if (webhook_parse(text, size, &w, error, sizeof(error)) == 0) {
		must(!strpbrk(w.reason, "\n\r\x1b"), "a reason is one line");
		webhook_unseen(&seen, &w);
		webhook_remember(&seen, &w);
		must(!webhook_unseen(&seen, &w), "what is remembered has been seen");
	}
	if (webhook_parse_freeze(text, size, reason, error, sizeof(error)) == 0)
		must(!strpbrk(reason, "\n\r\x1b"), "a reason is one line");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size || size > 2 * WEBHOOK_MAX_BYTES)
		return 0;
	text = text_of(data + 1, size - 1);
	switch (data[0]) {
	case 'R':
		read_range(text);
		break;
	case 'N':
		read_name(text);
		break;
	case 'H':
		read_host(text);
		break;
	case 'E':
		request_lists_etag(text, "\"abc\"");
		break;
	default:
		read_body(text, size - 1);
	}
	free(text);
	return 0;
}
